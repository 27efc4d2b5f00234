"""Rows, images, gold answers, prompts and spans: what is well, and each fault."""

import json
from functools import partial

import pytest
from PIL import Image

from rlsd_lightning.credit.grpo import GRPOCredit
from rlsd_lightning.credit.rlsd import RLSDCredit
from rlsd_lightning.data import ProblemDataset
from rlsd_lightning.doctor.inputs import (
    check_data,
    check_gold_answers,
    check_prompts,
    check_spans,
)
from rlsd_lightning.models import family_of
from rlsd_lightning.prompts import PromptEncoder, PromptTemplate
from rlsd_lightning.quickstart.tiny_model import build_model
from rlsd_lightning.types import Problem
from rlsd_lightning.verifiers.math import Math
from tests.helpers.fakes import ScriptedVerifier

PROBLEMS = [
    Problem(
        f"p{i}", "2+2?", answer="4", reference="Two and two.", kind="math", location=f"a.jsonl:{i}"
    )
    for i in range(5)
]
ASKS = "{{ problem.prompt }} Think in <thought></thought>, answer in <answer></answer>."


@pytest.fixture
def rows(tmp_path):
    """Returns a function that writes rows with an image each, and makes their data set."""

    def make(num_rows, **changes):
        for i in range(num_rows):
            Image.new("RGB", (40 + i, 30)).save(tmp_path / f"{i}.png")
        rows = [
            {"id": str(i), "problem": "?", "answer": "4", "images": [f"{i}.png"]}
            | changes.get(f"row{i}", {})
            for i in range(num_rows)
        ]
        path = tmp_path / "train.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return partial(ProblemDataset, str(path))

    return make


def encoder_of(processor, student=ASKS, teacher="{{ student }} {{ reference }}", **limits):
    template = PromptTemplate(student=student, teacher=teacher, reference="solution")
    family = family_of(build_model(processor.tokenizer, seed=0).config)
    return PromptEncoder(processor, template, family, **limits)


def test_the_first_rows_are_read_and_their_images_decoded(rows):
    found = check_data(rows(5), num_rows=3, on_bad_row="error")
    assert found.level == "ok"
    assert found.seen == (
        "first 3 usable rows: no kind 3; 0 with a reference; 3 images decoded, (40, 30) to (42, 30) pixels."
    )
    assert [problem.id for problem in found.result] == ["0", "1", "2"]


@pytest.mark.parametrize(("on_bad_row", "level"), [("error", "fault"), ("skip", "warning")])
def test_bad_rows_are_told_and_the_others_go_on(rows, on_bad_row, level):
    make = rows(4, row1={"answer": None}, row3={"images": ["none.png"]})
    found = check_data(make, num_rows=64, on_bad_row=on_bad_row)
    assert found.level == level
    assert "2 of the first 4 rows cannot be used: train.jsonl:2: has no answer" in found.seen
    assert "train.jsonl:4" in found.seen
    assert [problem.id for problem in found.result] == ["0", "2"]


def test_an_image_that_is_cut_off_is_found_though_its_header_is_whole(rows, tmp_path):
    make = rows(2)
    Image.effect_noise((200, 200), 80).convert("RGB").save(tmp_path / "1.png", format="JPEG")
    whole = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(whole[: len(whole) // 2])
    found = check_data(make, num_rows=64, on_bad_row="error")
    assert found.level == "fault"
    assert "1 of the first 2 rows cannot be used: problem '1' (train.jsonl:2): image" in found.seen
    assert "cannot be read" in found.seen
    assert [problem.id for problem in found.result] == ["0"]


def test_gold_answers_get_full_reward():
    found = check_gold_answers(Math(), PROBLEMS)
    assert (found.level, found.seen) == (
        "ok",
        "Math refuses 0 of 5 gold answers, cannot judge 0: all get full reward.",
    )


@pytest.mark.parametrize(
    ("rewards", "level", "said"),
    [
        (
            {"p1": 0.0},
            "fault",
            "refuses 1 of 5 gold answers, cannot judge 0: problem 'p1' (a.jsonl:1): scripted.",
        ),
        (
            {"p1": None, "p2": 0.0},
            "fault",
            "refuses 1 of 5 gold answers, cannot judge 1: problem 'p2' (a.jsonl:2)",
        ),
        (
            {"p1": "raise"},
            "fault",
            "cannot judge 1: problem 'p1' (a.jsonl:1): no options",
        ),
    ],
)
def test_gold_answers_that_get_less_are_told(rewards, level, said):
    def judge(problem, response):
        assert response.endswith("<answer>4</answer>")
        reward = rewards.get(problem.id, 1.0)
        if reward == "raise":
            raise ValueError("no options")
        return reward

    found = check_gold_answers(ScriptedVerifier(judge), PROBLEMS)
    assert found.level == level
    assert said in found.seen


def test_a_right_answer_with_less_than_full_reward_is_a_fault():
    class Half:
        def verify(self, problem, response):
            verdict = Math().verify(problem, response)
            return type(verdict)(reward=0.5, correct=verdict.correct)

    found = check_gold_answers(Half(), PROBLEMS)
    assert found.level == "fault"
    assert "refuses 5 of 5 gold answers" in found.seen
    assert "problem 'p0' (a.jsonl:0): right, but paid 0.5" in found.seen
    assert found.seen.endswith("and 2 more.")


def test_both_prompts_are_rendered(processor):
    found = check_prompts(encoder_of(processor), RLSDCredit(0.2), PROBLEMS, "filter")
    assert found.level == "ok"
    # The tokenizer's tokens are bytes: a blank and "Two and two.".
    assert found.seen.endswith("the teacher's, with the reference, are 13 to 13 longer.")
    assert (
        "teacher" not in check_prompts(encoder_of(processor), GRPOCredit(), PROBLEMS, "filter").seen
    )


def test_a_teacher_that_does_not_see_the_reference_as_it_is_is_a_fault(processor):
    encoder = encoder_of(processor, teacher="{{ student }} {{ reference | upper }}")
    found = check_prompts(encoder, RLSDCredit(0.2), PROBLEMS, "filter")
    assert found.level == "fault"
    assert (
        "does not show the reference of 5 problems: problem 'p0' (a.jsonl:0); problem 'p1' (a.jsonl:1)"
        in found.seen
    )


@pytest.mark.parametrize(("on_overlong", "level"), [("error", "fault"), ("filter", "warning")])
def test_prompts_that_are_too_long_are_told(processor, on_overlong, level):
    encoder = encoder_of(processor, max_prompt_tokens=10)
    found = check_prompts(encoder, RLSDCredit(0.2), PROBLEMS, on_overlong)
    assert found.level == level
    assert (
        "5 of 5 prompts are too long. problem 'p0' (a.jsonl:0): the student's prompt has"
        in found.seen
    )


def test_spans_are_found_through_the_tokenizer(processor):
    found = check_spans(encoder_of(processor), RLSDCredit(0.2, thought_only=True), PROBLEMS[0])
    assert (found.level, found.advice) == ("ok", "")
    assert "the prompt asks for <thought>" in found.seen


@pytest.mark.parametrize(("thought_only", "level"), [(True, "warning"), (False, "ok")])
def test_a_prompt_that_does_not_ask_for_thoughts_matters_to_a_method_that_weighs_them(
    processor, thought_only, level
):
    encoder = encoder_of(processor, student="{{ problem.prompt }}")
    found = check_spans(encoder, RLSDCredit(0.2, thought_only=thought_only), PROBLEMS[0])
    assert found.level == level
    assert "does not ask for <thought>" in found.seen


class Lossy:
    """A tokenizer of characters that loses some of them."""

    def __init__(self, lost):
        self.lost = lost

    def encode(self, text, add_special_tokens):
        return [ord(letter) for letter in text if letter not in self.lost]

    def decode(self, token_ids, **_):
        return "".join(map(chr, token_ids))


@pytest.mark.parametrize(
    ("lost", "said"), [("<", "the thought '"), ("4", "the answer '4' was found as ''")]
)
def test_a_tokenizer_that_loses_text_is_a_fault(processor, lost, said):
    encoder = encoder_of(processor)
    encoder.tokenizer = Lossy(lost)
    found = check_spans(encoder, GRPOCredit(), PROBLEMS[0])
    assert found.level == "fault"
    assert found.seen.startswith(said)
