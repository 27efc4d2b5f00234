"""What the model is shown: true, sloppy and citing chains, and where their readings stand."""

import random
import re
from itertools import islice

import pytest

from rlsd_lightning.quickstart.demonstrations import Encoder, citing, clean, sloppy
from rlsd_lightning.quickstart.digits import Digit, DigitPuzzle, Placed
from rlsd_lightning.quickstart.shapes import Shape, ShapePuzzle, Shapes, draw_puzzles

GREEN, RED = (Shape(colour, "circle", (0, 0, 0), (2, 2, 10, 10)) for colour in ("green", "red"))
PUZZLE = ShapePuzzle((GREEN, GREEN, RED, *[None] * 6), ("green", "blue", "red"))  # 2, 0, 1
PUZZLES = list(islice(draw_puzzles("tests", Shapes(6, 5)), 200))


def counts_of(text):
    return [int(number) for number in re.findall(r"[a-z](\d+)", text)]


def test_clean_and_citing_by_hand():
    assert clean(PUZZLE) == "<thought>green2 blue0 red1 2+0=2 2+1=3</thought><answer>3</answer>"
    assert citing(PUZZLE) == "<thought>reference</thought><answer>3</answer>"


def test_without_slips_sloppy_is_clean():
    rng = random.Random(0)
    assert all(sloppy(puzzle, 0.0, rng) == clean(puzzle) for puzzle in PUZZLES)


def test_slips_are_off_by_one_and_never_below_zero():
    rng = random.Random(0)
    for puzzle in PUZZLES:
        counts = counts_of(sloppy(puzzle, 1.0, rng))
        assert all(abs(a - b) == 1 for a, b in zip(counts, puzzle.readings, strict=True))
        assert min(counts) >= 0


def test_slips_mostly_go_downwards_where_they_can():
    rng = random.Random(0)
    steps = [
        said - true
        for puzzle in PUZZLES
        for said, true in zip(counts_of(sloppy(puzzle, 1.0, rng)), puzzle.readings, strict=True)
        if true > 0
    ]
    # About 700 draws: one standard deviation is 0.014.
    assert sum(step == -1 for step in steps) / len(steps) == pytest.approx(0.85, abs=0.05)


def test_slips_are_as_frequent_as_asked():
    rng = random.Random(0)
    slips = [
        said != true
        for puzzle in PUZZLES
        for said, true in zip(counts_of(sloppy(puzzle, 0.45, rng)), puzzle.readings, strict=True)
    ]
    assert sum(slips) / len(slips) == pytest.approx(0.45, abs=0.05)  # 1,000 draws


def test_the_arithmetic_of_sloppy_chains_is_right():
    rng = random.Random(0)
    for puzzle in PUZZLES:
        text = sloppy(puzzle, 0.5, rng)
        sums = re.findall(r"(\d+)\+(\d+)=(\d+)", text)
        assert all(int(a) + int(b) == int(total) for a, b, total in sums)
        assert text.endswith(f"<answer>{sum(counts_of(text))}</answer>")


def test_readings_are_found_among_the_tokens(tokenizer):
    batch = Encoder(tokenizer, num_readings=3).encode([clean(PUZZLE), citing(PUZZLE)])
    assert tokenizer.convert_ids_to_tokens(batch.token_ids[batch.reading_mask]) == ["2", "0", "1"]
    assert not batch.reading_mask[1].any()


def test_readings_of_digits_are_those_named_before_the_sums(tokenizer):
    row = tuple(Placed(Digit(value, bytes(64)), 0, 0) for value in (3, 7, 5))
    batch = Encoder(tokenizer, num_readings=3).encode([clean(DigitPuzzle(row))])
    # <thought> 3 " " 7 " " 5 " " 3 + 7 ...
    assert batch.reading_mask[0].nonzero().flatten().tolist() == [1, 3, 5]


def test_facts_are_colours_and_digits_but_for_the_first_word(tokenizer):
    batch = Encoder(tokenizer, num_readings=3).encode([clean(PUZZLE), citing(PUZZLE)])
    chain, cited = (
        "".join(tokenizer.convert_ids_to_tokens(row[mask]))
        for row, mask in zip(batch.token_ids, batch.fact_mask, strict=True)
    )
    # <thought>green2 blue0 red1 2+0=2 2+1=3</thought><answer>3</answer>, without its first "green"
    assert chain == "2blue0red12022133"
    assert cited == "3"


def test_padding_is_masked_and_the_end_token_is_not(tokenizer):
    batch = Encoder(tokenizer, num_readings=3).encode([clean(PUZZLE), citing(PUZZLE)])
    # citing: <thought> reference </thought> <answer> 3 </answer> <|im_end|>
    assert batch.mask.sum(1).tolist() == [26, 7]
    ends = [row[mask][-1].item() for row, mask in zip(batch.token_ids, batch.mask, strict=True)]
    assert ends == [tokenizer.eos_token_id] * 2
