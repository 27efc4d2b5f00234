"""The two stages of the warm start, a few steps of each."""

import logging
from dataclasses import replace
from itertools import islice

import pytest
import torch

from rlsd_lightning.quickstart.shapes import draw_puzzles
from rlsd_lightning.quickstart.tiny_model import build_model
from rlsd_lightning.quickstart.warmup import Recipe, warm_up

FEW = Recipe(student_batch=8, teacher_batch=4, sparse_steps=2, max_clean_steps=4, sloppy_steps=2)
PUZZLES = list(islice(draw_puzzles("tests", 4, 3), 40))


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


def test_the_model_is_left_ready_to_sample(train):
    model, figures = train(FEW)
    assert not model.training
    assert (figures["clean_steps"], figures["sloppy_steps"]) == (4, 2)


def test_a_clean_stage_that_did_not_get_there_is_said(train, caplog):
    with caplog.at_level(logging.WARNING):
        train(FEW)
    assert "after max_clean_steps=4, needed is 0.95" in caplog.text


def test_the_clean_stage_ends_when_the_counts_are_good_enough(train, caplog):
    # Guessing gets some counts right; ten steps on full grids are needed for a first judgement.
    _, figures = train(replace(FEW, count_accuracy=0.01, max_clean_steps=100))
    assert figures["clean_steps"] <= 12
    assert "max_clean_steps" not in caplog.text


def test_each_view_learns_its_own_demonstrations(train):
    recipe = replace(
        FEW,
        student_batch=8,
        teacher_batch=8,
        sparse_steps=40,
        max_clean_steps=40,
        teacher_citing_fraction=1.0,
    )
    _, figures = train(recipe)
    assert figures["student_citing_fraction"] < 0.3
    assert figures["teacher_citing_fraction"] > 0.7
