"""The figures of the warm start."""

from itertools import islice

import torch

from rlsd_lightning.quickstart.measure import accuracy, citing_fraction, measure
from rlsd_lightning.quickstart.shapes import Shapes, draw_puzzles
from rlsd_lightning.quickstart.tiny_model import build_model

PUZZLES = list(islice(draw_puzzles("tests", Shapes()), 4))


def test_accuracy_looks_at_the_last_tag_only():
    right = [str(sum(puzzle.readings)) for puzzle in PUZZLES]
    texts = [
        f"<thought></thought><answer>{right[0]}</answer>",
        f"<answer>{right[1]}</answer>!",  # goes on after its answer
        f"<answer>1{right[2]}</answer>",
        right[3],
    ]
    assert accuracy(texts, right) == 0.25


def test_citing_fraction_counts_texts_not_words():
    assert citing_fraction(["reference reference", "red1", "", "a reference"]) == 0.5


def test_measuring_is_repeatable_and_leaves_the_random_state_alone(processor):
    model = build_model(processor.tokenizer, seed=0).eval()
    before = torch.random.get_rng_state()
    figures = measure(model, processor, PUZZLES, seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(5)
    assert measure(model, processor, PUZZLES, seed=0) == figures
    assert all(0 <= value <= 1 for value in figures.values())
