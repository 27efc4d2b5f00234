from rlsd_lightning.verifiers.verdicts import not_judged, quoted, right_or_wrong


def test_the_reason_is_one_ascii_line_whatever_the_model_wrote():
    for got in ("a\nb\0", "\u202e\ud800", "x" * 10_000):
        reason = right_or_wrong(False, got, "5").reason
        assert reason.isascii()
        assert "\n" not in reason
        assert len(reason) < 200


def test_an_empty_answer_is_told_from_none():
    assert "no answer found" in right_or_wrong(False, None, "5").reason
    assert "got ''" in right_or_wrong(False, "", "5").reason


def test_not_judged_is_neither_right_nor_a_judged_zero():
    verdict = not_judged("no gold answer")
    assert (verdict.reward, verdict.correct, verdict.valid) == (0.0, False, False)


def test_quoted_says_how_much_it_leaves_out():
    assert quoted("abc") == "'abc'"
    assert quoted("abc", limit=2) == "'ab' and 1 more"
