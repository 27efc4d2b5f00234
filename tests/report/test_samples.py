"""Which completions the page shows, and in which colours."""

import json

import pytest

from rlsd_lightning.report.samples import HEAD_TOKENS, TAIL_TOKENS, choose, distinct
from rlsd_lightning.report.tokens import LEVELS, measure, token


def row(
    problem_id="p",
    response="a",
    correct=True,
    valid=True,
    weights=(1.0,),
    advantage=1.0,
    gain=0.0,
    images=(),
):
    return {
        "problem_id": problem_id,
        "response": response,
        "correct": correct,
        "valid": valid,
        "advantage": advantage,
        "lambda": 0.5,
        "images": list(images),
        "tokens": ["t"] * len(weights),
        "policy_logprobs": [-1.0] * len(weights),
        "teacher_logprobs": [-1.0] * len(weights),
        "gain": [gain] * len(weights),
        "weight": list(weights),
        "credit": [None if weight is None else advantage * weight for weight in weights],
        "clipped": [False] * len(weights),
    }


def test_problems_with_right_and_wrong_answers_come_first_then_those_with_moved_credit(tmp_path):
    rows = [
        row("all right, moved most", weights=[1.5]),
        row("mixed, unmoved"),
        row("mixed, unmoved", response="b", correct=False),
        row("mixed, moved", weights=[1.1]),
        row("mixed, moved", response="b", correct=False),
        row("all right, unmoved"),
    ]
    samples, _ = choose([(1, rows)], tmp_path)
    assert [card.row["problem_id"] for card in samples[0].cards] == [
        "mixed, moved",
        "mixed, unmoved",
        "all right, moved most",
    ]


def test_right_and_wrong_completions_share_the_room_and_each_text_is_shown_once():
    right = [row(response=f"r{i}", weights=[1 + i / 10]) for i in range(6)]
    wrong = [row(response="w", correct=False), row(response="w", correct=False)]
    unjudged = [row(response="u", valid=False, correct=False)]
    shown = [(one["response"], times) for one, times in distinct([*right, *wrong, *unjudged])]
    assert shown == [("r5", 1), ("r4", 1), ("w", 2), ("u", 1)]


def test_the_deepest_colour_is_the_largest_value_of_the_page(tmp_path):
    rows = [row(weights=[1.1, 0.95, 1.0, None], gain=None)]
    samples, scales = choose([(1, rows)], tmp_path)
    tokens = samples[0].cards[0].shown[0].tokens
    assert scales.weight == pytest.approx(0.1)
    assert f"wp{LEVELS}" in tokens[0].classes
    assert f"wn{LEVELS // 2}" in tokens[1].classes
    assert " w" not in tokens[2].classes
    assert tokens[3].classes == ""


def test_the_sign_of_the_credit_is_the_sign_of_the_advantage(tmp_path):
    rows = [row(response="a", advantage=1.0), row(response="b", advantage=-1.0, correct=False)]
    samples, _ = choose([(1, rows)], tmp_path)
    classes = [shown.tokens[0].classes.split()[0] for shown in samples[0].cards[0].shown]
    assert classes == [f"cp{LEVELS}", f"cn{LEVELS}"]


def test_one_outlier_does_not_bleach_the_other_gains():
    rows = [row(weights=[1.0] * 99, gain=0.5), row(weights=[1.0], gain=80.0)]
    assert measure(rows).gain == 0.5


def test_a_token_is_marked_where_the_clip_held_it_back():
    one = row(weights=[1.0, 1.2]) | {"clipped": [False, True]}
    marks = ["clip" in token(one, index, measure([one])).classes.split() for index in range(2)]
    assert marks == [False, True]


def test_a_long_completion_loses_its_middle_and_numbers_stay_with_their_tokens(tmp_path):
    count = HEAD_TOKENS + TAIL_TOKENS + 7
    one = row(weights=[1.0] * count) | {"tokens": [f"t{i}" for i in range(count)]}
    one["policy_logprobs"] = [float(i) for i in range(count)]
    shown = choose([(1, [one])], tmp_path)[0][0].cards[0].shown[0]
    assert shown.left_out == 7
    assert shown.tokens[HEAD_TOKENS] is None
    kept = [token.text for token in shown.tokens if token]
    numbers = json.loads(shown.numbers)[0]
    assert [f"t{number:.0f}" for number in numbers] == kept
    assert (kept[0], kept[-1], len(kept)) == ("t0", f"t{count - 1}", count - 7)


def test_a_picture_that_is_gone_is_named(tmp_path):
    samples, _ = choose([(1, [row(images=["images/gone.png"])])], tmp_path)
    picture = samples[0].cards[0].pictures[0]
    assert (picture.name, picture.uri) == ("images/gone.png", "")
