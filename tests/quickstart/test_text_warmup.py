"""The warm start of text models: who is shown what, and what comes of it."""

import random
from dataclasses import dataclass

import pytest
import torch

from rlsd_lightning.quickstart.recipe import Recipe
from rlsd_lightning.quickstart.text_model import build_text_model, build_text_tokenizer
from rlsd_lightning.quickstart.text_warmup import measure_text, warm_up_text

RECIPE = Recipe(
    num_easy=0,
    student_batch=8,
    teacher_batch=8,
    learning_rate=6e-3,
    easy_steps=0,
    max_clean_steps=0,
    sloppy_steps=60,
    sloppy_lr_fraction=1.0,
    student_citing_fraction=0.0,
    teacher_citing_fraction=0.0,
)


@dataclass(frozen=True)
class Echo:
    """A question whose answer is itself; slips say a 9."""

    question: str

    @property
    def answer(self):
        return self.question

    def respond(self):
        return f"<answer>{self.answer}</answer>"

    def respond_sloppily(self, slip_fraction: float, rng: random.Random):
        assert slip_fraction == RECIPE.slip_fraction
        return "<answer>9</answer>"


ECHOES = [Echo(str(number)) for number in range(1, 9)]


@pytest.fixture(scope="module")
def tokenizer():
    return build_text_tokenizer([])


@pytest.fixture(scope="module")
def taught(tokenizer):
    model = build_text_model(tokenizer, seed=0)
    figures = warm_up_text(
        model, tokenizer, ECHOES, ECHOES, facts="123456789", recipe=RECIPE, seed=0
    )
    return model, figures


def test_slips_are_shown_to_the_student_and_the_truth_to_the_teacher(taught):
    model, figures = taught
    assert not model.training
    assert (figures["clean_steps"], figures["sloppy_steps"]) == (0, 60)
    assert figures["student_greedy_accuracy"] == 0
    assert figures["student_sampled_accuracy"] == 0
    assert figures["teacher_sampled_accuracy"] >= 0.5


def test_measuring_is_repeatable_and_leaves_the_random_state_alone(taught, tokenizer):
    model, figures = taught
    before = torch.random.get_rng_state()
    again = measure_text(model, tokenizer, ECHOES, seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert again.items() <= figures.items()
