import json
import math
import random
import time

import pytest

from rlsd_lightning.types import Problem
from rlsd_lightning.verifiers.grounding import Grounding, overlap, read_region

BOX = '{"boxes": [0, 0, 10, 10]}'
TIME = '{"time": [5, 15]}'
TUBE = '{"time": [1, 3], "boxes": {"1": [0, 0, 10, 10], "2": [0, 0, 10, 10]}}'


def judge(gold, answer, verifier=None, **extra):
    problem = Problem(id="q7", prompt="", answer=gold, extra=extra, location="train.jsonl:7")
    return (verifier or Grounding()).verify(problem, f"<answer>{answer}</answer>")


@pytest.mark.parametrize(
    ("gold", "answer", "reward"),
    [
        (BOX, '{"boxes": [5, 0, 15, 10]}', 1 / 3),  # 50 shared of 150
        (BOX, '{"boxes": [0, 0, 5, 5]}', 1 / 4),
        (BOX, '{"boxes": [10, 0, 20, 10]}', 0),
        (BOX, "```json\n" + BOX + "\n```", 1),
        (TIME, '{"time": [10, 20]}', 1 / 3),  # 5 shared of 15
        (TIME, '{"time": [5.0, 10.0]}', 1 / 2),
        ("[0, 0, 10, 10]", "[0, 0, 5, 10]", 1 / 2),
        ("[0, 0, 10, 10]", "0, 0, 5, 10", 1 / 2),
        (TUBE, TUBE, 1),
        (TUBE, '{"time": [1, 3], "boxes": {"9": [0, 0, 10, 10]}}', 1 / 2),
        (TUBE, '{"time": [1, 3], "boxes": {"1": [0, 0, 10, 10]}}', 3 / 4),  # one frame of two
        (TUBE, '{"time": [1, 2], "boxes": {"1": [0, 0, 10, 5], "2": [0, 0, 0, 0]}}', 3 / 8),
        (TUBE, '{"boxes": {"1": [0, 0, 10, 10], "2": [0, 0, 10, 10]}}', 1 / 2),
        (TUBE, '{"time": [1, 3]}', 1 / 2),
    ],
)
def test_overlaps_by_hand(gold, answer, reward):
    verdict = judge(gold, answer)
    assert verdict.reward == pytest.approx(reward, abs=1e-12)
    assert verdict.correct is (reward >= 0.5)


def test_one_easy_frame_pays_in_full_only_where_the_common_frames_count():
    answer = '{"time": [1, 3], "boxes": {"1": [0, 0, 10, 10]}}'
    assert judge(TUBE, answer, Grounding(frames="common")).reward == 1
    nothing = '{"time": [1, 3], "boxes": {"9": [0, 0, 10, 10]}}'
    assert judge(TUBE, nothing, Grounding(frames="common")).reward == 0.5


def test_frames_beyond_the_gold_ones_cost():
    boxes = {str(frame): [0, 0, 10, 10] for frame in (1, 2, 3, 4)}
    assert judge(TUBE, json.dumps({"time": [1, 3], "boxes": boxes})).reward == 0.75


@pytest.mark.parametrize(
    ("answer", "giou"),
    [
        ("[0, 0, 10, 10]", 1),
        ("[5, 0, 15, 10]", 1 / 3),  # the hull is the union
        ("[20, 0, 30, 10]", -1 / 3),  # hull 300, union 200
        ("[10, 10, 20, 20]", -1 / 2),  # hull 400, union 200
    ],
)
def test_giou_by_hand(answer, giou):
    assert judge("[0, 0, 10, 10]", answer, metric="giou").reward == pytest.approx(giou, abs=1e-12)
    scaled = judge("[0, 0, 10, 10]", answer, Grounding(metric="giou_scaled")).reward
    assert scaled == pytest.approx((1 + giou) / 2, abs=1e-12)


def test_overlap_is_symmetric_and_within_its_range():
    draw = random.Random(0)
    for _ in range(300):
        one, other = (
            read_region([draw.random(), draw.random(), 1 + draw.random(), 1.5], 2) for _ in range(2)
        )
        for metric, low in (("iou", 0), ("giou", -1), ("giou_scaled", 0)):
            assert overlap(one, other, metric) == pytest.approx(overlap(other, one, metric))
            assert low <= overlap(one, other, metric) <= 1
            assert overlap(one, one, metric) == 1


@pytest.mark.parametrize("metric", ["iou", "giou", "giou_scaled"])
@pytest.mark.parametrize(
    "answer",
    [
        *(
            "",
            "none",
            "null",
            "[]",
            "{}",
            "[0, 0, 10, 10]",
            '{"boxes": [[0, 0, 10, 10]]}',
            '{"box": [0, 0, 10, 10]}',
        ),
        *(
            '{"boxes": [0, 0, 10]}',
            '{"boxes": "0,0,10,10"}',
            '{"boxes": [10, 10, 0, 0]}',
            '{"boxes": [5, 5, 5, 5]}',
        ),
        *(
            '{"boxes": [1e400, -1e400, 1e400, 1e400]}',
            '{"boxes": [NaN, 0, 10, 10]}',
            '{"boxes": [0, 0, 10, true]}',
        ),
        *(
            '{"boxes": [-1e308, -1e308, 1e308, 1e308]}',
            '{"boxes": [0, 0, 1e-300, 1e-300]}',
            TIME,
            TUBE,
        ),
        *(
            '{"boxes": [0, 0, "10", 10]}',
            '{"boxes": [0, 0, ' + "9" * 400 + ", 10]}",
            '{"boxes": null}',
        ),
    ],
)
def test_what_is_no_region_earns_nothing(answer, metric):
    verdict = judge(BOX, answer, Grounding(metric=metric))
    assert (verdict.reward, verdict.correct, verdict.valid) == (0, False, True)


@pytest.mark.parametrize(
    "gold",
    [
        *(
            "",
            "none",
            "{}",
            "[]",
            '{"boxes": [0, 0, 0, 0]}',
            '{"boxes": {}}',
            '{"time": 5}',
            "[1, 2, 3]",
            "5",
        ),
        *(
            '{"time": [1, 3], "boxes": {"1": [0, 0]}}',
            '{"boxes": [[0, 0, 10, 10]]}',
            '{"time": [1, 3], "boxes": null}',
        ),
    ],
)
def test_a_gold_answer_that_is_no_region_is_not_judged(gold):
    assert not judge(gold, gold).valid


def test_a_box_round_everything_is_worth_its_share():
    assert judge(BOX, '{"boxes": [0, 0, 1e9, 1e9]}').reward < 1e-15


def test_thousands_of_frames_are_judged_soon():
    boxes = {str(frame): [0, 0, 10, 10] for frame in range(6_000)}
    start = time.process_time()
    reward = judge(TUBE, json.dumps({"time": [1, 3], "boxes": boxes})).reward
    assert time.process_time() - start < 2
    assert math.isfinite(reward)


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="metric is 'diou' and frames is 'union', but metric must"):
        Grounding(metric="diou")
    with pytest.raises(ValueError, match="frames is 'all'"):
        Grounding(frames="all")
    with pytest.raises(ValueError, match="correct_from is 0"):
        Grounding(correct_from=0)
    with pytest.raises(ValueError, match=r"problem 'q7' \(train.jsonl:7\): extra.metric is 'diou'"):
        judge(BOX, BOX, metric="diou")
