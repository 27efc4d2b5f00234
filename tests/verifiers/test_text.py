import pytest

from rlsd_lightning.types import Problem
from rlsd_lightning.verifiers.text import Text, squad_words, word_f1


def judge(verifier, gold, answer, **extra):
    problem = Problem(id="q7", prompt="", answer=gold, extra=extra, location="train.jsonl:7")
    return verifier.verify(problem, f"<answer>{answer}</answer>")


@pytest.mark.parametrize(
    ("rule", "gold", "answer", "correct"),
    [
        ("exact", "Paris", " Paris\n", True),
        ("exact", "Paris", "paris", False),
        ("exact", "Paris", "Paris.", False),
        ("alphanumeric", "New York", "new-york!", True),
        ("alphanumeric", "cafe", "caf\u00e9", False),
        ("alphanumeric", "caf\u00e9", "cafe\u0301", True),  # one letter, composed and not
        ("alphanumeric", "fine", "\ufb01ne", False),
        ("alphanumeric", "apple", "an apple", False),
        ("alphanumeric", "Paris", r"\text{Paris}", True),
        ("squad_em", "apple", "An apple.", True),
        ("squad_em", "Paris", "the city of Paris", False),
        ("squad_em", "the", "the", False),  # nothing is left
        ("squad_f1", "Paris", "paris.", True),
    ],
)
def test_rules(rule, gold, answer, correct):
    assert judge(Text(rule=rule), gold, answer).correct is correct


def test_f1_by_hand():
    # shared: red, cat. precision 2/4, recall 2/3, F1 = 2 * (1/2 * 2/3) / (1/2 + 2/3) = 4/7
    verdict = judge(Text(rule="squad_f1"), "a red fat cat", "the red dog saw a cat")
    assert verdict.reward == pytest.approx(4 / 7, abs=1e-12)
    assert not verdict.correct


def test_f1_counts_a_repeated_word_as_often_as_both_have_it():
    assert word_f1(["a1", "a1"], ["a1"]) == pytest.approx(2 / 3, abs=1e-12)
    assert word_f1([], ["a1"]) == 0
    assert squad_words("an A the") == []


@pytest.mark.parametrize(
    ("rule", "reward"),
    [
        # gold: the red fat cat jump; answer: cat jump the red dog. Five words each, four of them shared; pairs: "the
        # red" and "cat jump" of four each; longest run with gaps: "the red" or "cat jump".
        ("rouge_1", 4 / 5),
        ("rouge_2", 2 / 4),
        ("rouge_l", 2 / 5),
        ("rlsd_open_ended", (4 / 5 + 2 / 4 + 2 / 5) / 3),
    ],
)
def test_rouge_by_hand(rule, reward):
    verdict = judge(Text(rule=rule), "The red, fat cat jumps", "cats jumping the red dog")
    assert verdict.reward == pytest.approx(reward, abs=1e-12)
    assert not verdict.correct
    verdict = judge(Text(rule=rule), "The red, fat cat jumps", "The red, fat cat jumps")
    assert (verdict.reward, verdict.correct) == (1, True)


def test_open_ended_answers_are_exact_up_to_ten_characters():
    rule = Text(rule="rlsd_open_ended")
    assert judge(rule, "a red cats", "a red cat").reward == 0
    assert (
        judge(rule, "a red cats!", "a red cat").reward == 1
    )  # eleven characters; the words are the same
    assert judge(rule, "dog", "Dog").reward == 0


def test_a_gold_answer_without_words_is_not_judged_by_rouge():
    assert not judge(Text(rule="rouge_1"), "\u65e5\u672c", "\u65e5\u672c").valid


def test_several_accepted_answers():
    for answer in ("NYC", "New York City", "The Big Apple"):
        assert judge(Text(), "NYC", answer, references=["New York City", "the big apple"]).correct
    assert not judge(Text(), "NYC", "Boston", references=["New York City"]).correct
    verdict = judge(Text(rule="squad_f1"), "x", "new york", references=["new york city", "york"])
    assert verdict.reward == pytest.approx(4 / 5, abs=1e-12)  # the better of 4/5 and 2/3


def test_a_problems_own_rule_comes_first():
    assert not judge(Text(), "Paris", "paris", rule="exact").correct


def test_a_long_answer_is_wrong_unread():
    assert not judge(Text(), "a" * 30_000, "a" * 30_000).correct


@pytest.mark.parametrize("extra", [{"rule": "fuzzy"}, {"references": "NYC"}, {"references": [1]}])
def test_a_fault_in_the_problem_names_problem_and_place(extra):
    with pytest.raises(ValueError, match=r"problem 'q7' \(train.jsonl:7\): extra\."):
        judge(Text(), "42", "42", **extra)


def test_the_rule_is_checked():
    with pytest.raises(ValueError, match="rule is 'fuzzy', but it must be one of exact"):
        Text(rule="fuzzy")
