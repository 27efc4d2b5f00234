"""The task of handwritten digits: what is asked, what is shown, what is written, and that no digit is in both parts."""

import importlib.util
import random
from collections import Counter
from itertools import islice

import pytest

from rlsd_lightning.quickstart.demonstrations import clean
from rlsd_lightning.quickstart.digits import (
    CELL_PIXELS,
    Digit,
    DigitPuzzle,
    Digits,
    Placed,
    draw_puzzles,
    handwritten_digits,
    split,
)
from rlsd_lightning.quickstart.task import Solution, reference

DIGITS = handwritten_digits()


def puzzle_of(*values: int) -> DigitPuzzle:
    return DigitPuzzle(tuple(Placed(Digit(value, bytes([200] * 64)), 0, 0) for value in values))


def take(stream, number: int = 300) -> list[DigitPuzzle]:
    return list(islice(stream, number))


def digits_in(puzzles) -> set[Digit]:
    return {placed.digit for puzzle in puzzles for placed in puzzle.row}


def test_chain_names_the_digits_and_then_the_running_sums_modulo_ten():
    puzzle = puzzle_of(3, 7, 5)
    assert puzzle.question == "sum mod 10"
    assert reference(puzzle) == "3 7 5 3+7=0 0+5=5 -> 5"
    assert clean(puzzle) == "<thought>3 7 5 3+7=0 0+5=5</thought><answer>5</answer>"


def test_the_long_chain_by_hand():
    # 9+8 = 17, 7+7 = 14, 4+6 = 10, 0+5 = 5
    assert reference(puzzle_of(9, 8, 7, 6, 5)) == "9 8 7 6 5 9+8=7 7+7=4 4+6=0 0+5=5 -> 5"


def test_misread_digits_are_added_up_right():
    assert puzzle_of(3, 7, 5).solve([8, 7, 6]) == Solution("8 7 6 8+7=5 5+6=1", "1")


def test_a_slip_takes_a_digit_for_one_other_and_that_one_for_it():
    rng = random.Random(0)
    for digit in range(10):
        lookalike = puzzle_of(digit).slip(digit, rng)
        assert lookalike != digit
        assert {puzzle_of(lookalike).slip(lookalike, rng) for _ in range(50)} == {digit}


def test_the_digits_are_those_of_scikit_learn():
    assert len(DIGITS) == len(set(DIGITS)) == 1797
    assert [digit.value for digit in DIGITS[:10]] == list(range(10))
    # Its description counts 178 zeros and 180 nines.
    counts = Counter(digit.value for digit in DIGITS)
    assert (counts[0], counts[9]) == (178, 180)


def test_ink_is_dark_on_white():
    # The first row of the first image, a zero, is [0, 0, 5, 13, 9, 1, 0, 0] of 16; 255 - 13 * 255 / 16 = 47.8
    assert list(DIGITS[0].pixels[:8]) == [255, 255, 176, 48, 112, 240, 255, 255]


def test_train_and_held_out_puzzles_are_made_of_different_digits():
    streams = Digits(num_digits=5).draw(seed=0)
    train, held_out, easy = (
        digits_in(take(stream, 2000)) for stream in (streams.train, streams.held_out, streams.easy)
    )
    assert not train & held_out
    assert not easy & held_out
    # 10,000 draws reach every digit of either part.
    assert len(train | held_out) == 1797


def test_the_split_keeps_every_digit_once_and_depends_on_the_seed():
    train, held_out = split(DIGITS, seed=0)
    assert (len(train), len(held_out)) == (1347, 450)
    assert set(train) | set(held_out) == set(DIGITS)
    assert split(DIGITS, seed=0) == (train, held_out)
    assert split(DIGITS, seed=1) != (train, held_out)
    assert {digit.value for digit in held_out} == set(range(10))


def test_easy_puzzles_have_small_digits_and_the_others_all():
    streams = Digits().draw(seed=0)
    assert {n for puzzle in take(streams.easy) for n in puzzle.readings} == {0, 1, 2, 3, 4}
    assert {n for puzzle in take(streams.train) for n in puzzle.readings} == set(range(10))


def test_the_seed_fixes_the_puzzles():
    first, same, other = (Digits().draw(seed) for seed in (0, 0, 1))
    assert take(first.train) == take(same.train)
    assert take(first.held_out) == take(same.held_out)
    assert take(other.train) != take(same.train)


def test_no_puzzle_comes_twice():
    # One digit at one of nine places: the stream would repeat itself at once.
    puzzles = take(draw_puzzles("tests", Digits(num_digits=1), DIGITS[:20]), 180)
    assert len(set(puzzles)) == 180


@pytest.mark.parametrize("num_digits", [3, 5])
def test_digits_stand_in_their_cells_twice_as_large(num_digits):
    black = Digit(1, bytes(64))  # ink everywhere: its edges show where it stands
    for right, down in [(0, 0), (1, -1), (-1, 1)]:
        blank = Placed(Digit(0, bytes([255] * 64)), 0, 0)
        row = (blank, Placed(black, right, down), *[blank] * (num_digits - 2))
        image = DigitPuzzle(row).render()
        assert image.mode == "RGB"
        assert image.size == (16 * num_digits, 16)
        ink = {
            (x, y)
            for x in range(image.width)
            for y in range(image.height)
            if image.getpixel((x, y)) == (0, 0, 0)
        }
        cell = range(CELL_PIXELS)
        assert ink == {
            (CELL_PIXELS + x, y)
            for x in cell
            for y in cell
            if x - right in cell and y - down in cell
        }


def test_an_image_is_one_token_per_digit(processor):
    for num_digits in (3, 5):
        puzzle = next(Digits(num_digits).draw(seed=0).train)
        assert processor.image_processor([puzzle.render()])["image_grid_thw"].tolist() == [
            [1, 2, 2 * num_digits]
        ]


@pytest.mark.parametrize("num_digits", [0, 10])
def test_impossible_rows_are_refused(num_digits):
    with pytest.raises(ValueError, match=rf"num_digits is {num_digits}\. Needed is 1 to 9"):
        Digits(num_digits)


def test_a_missing_scikit_learn_is_said(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "sklearn" else find_spec(name, *rest),
    )
    with pytest.raises(
        ValueError, match=r"scikit-learn is not installed.*rlsd-lightning\[claims\]"
    ):
        Digits().draw(seed=0)
