"""The two stages of the warm start, a few steps of each."""

import logging
from dataclasses import replace
from itertools import islice

import pytest
import torch

from rlsd_lightning.quickstart.recipe import Recipe
from rlsd_lightning.quickstart.shapes import Shapes, draw_puzzles
from rlsd_lightning.quickstart.tiny_model import build_model
from rlsd_lightning.quickstart.warmup import warm_up

FEW = Recipe(student_batch=8, teacher_batch=4, easy_steps=2, max_clean_steps=4, sloppy_steps=2)
PUZZLES = list(islice(draw_puzzles("tests", Shapes()), 40))


@pytest.fixture
def train(processor):
    def run(recipe, seed=0):
        model = build_model(processor.tokenizer, seed=0)
        figures = warm_up(model, processor, PUZZLES, PUZZLES, PUZZLES[:8], recipe, seed)
        return model, figures

    return run


def test_the_seed_fixes_the_weights(train):
    first, same, other = (train(FEW, seed)[0].lm_head.weight for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_the_number_of_threads_changes_nothing_and_is_left_alone(train):
    alone = train(FEW)[0].lm_head.weight
    torch.set_num_threads(2)
    try:
        together = train(FEW)[0].lm_head.weight
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert torch.equal(alone, together)


def test_the_model_is_left_ready_to_sample(train):
    model, figures = train(FEW)
    assert not model.training
    assert (figures["clean_steps"], figures["sloppy_steps"]) == (4, 2)


def test_a_clean_stage_that_did_not_get_there_is_said(train, caplog):
    with caplog.at_level(logging.WARNING):
        train(FEW)
    assert "after max_clean_steps=4 it has" in caplog.text
    assert "needed are 0.95 and 0.990" in caplog.text


def test_the_clean_stage_judges_ten_steps_on_full_puzzles(train, caplog):
    easy = replace(FEW, reading_accuracy=0.0, copy_accuracy=0.0, max_clean_steps=100)
    _, figures = train(easy)
    assert figures["clean_steps"] == 2 + 10 + 1
    assert "max_clean_steps" not in caplog.text


@pytest.mark.parametrize("needed", ["reading_accuracy", "copy_accuracy"])
def test_both_views_must_be_good_enough(train, needed):
    recipe = replace(
        FEW, **{"reading_accuracy": 0.0, "copy_accuracy": 0.0, needed: 1.0}, max_clean_steps=15
    )
    _, figures = train(recipe)
    assert figures["clean_steps"] == 15


def test_each_view_learns_its_own_demonstrations(train):
    recipe = replace(
        FEW,
        student_batch=8,
        teacher_batch=8,
        easy_steps=40,
        max_clean_steps=40,
        teacher_citing_fraction=1.0,
    )
    _, figures = train(recipe)
    assert figures["student_citing_fraction"] < 0.3
    assert figures["teacher_citing_fraction"] > 0.7
