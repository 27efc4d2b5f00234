"""The drawn task: what is asked, what is drawn, what is written."""

from itertools import islice

import pytest
from PIL import Image

from rlsd_lightning.quickstart.shapes import (
    CELL_PIXELS,
    CELLS_PER_SIDE,
    COLOURS,
    Shape,
    ShapePuzzle,
    Shapes,
    draw_puzzles,
)
from rlsd_lightning.quickstart.task import Solution, reference

SHORT, LONG = Shapes(), Shapes(num_colours=6, num_counted=5)


def draw(number: int, task: Shapes = SHORT, seed: str = "tests") -> list[ShapePuzzle]:
    return list(islice(draw_puzzles(seed, task), number))


def nearest_colour(pixel) -> str:
    def distance(name):
        return sum((a - b) ** 2 for a, b in zip(pixel, COLOURS[name], strict=True))

    return min(COLOURS, key=distance)


def count_in_image(image: Image.Image, colour: str) -> int:
    """Count the cells whose most frequent colour besides the background is `colour`, from pixels alone."""
    count = 0
    for place in range(CELLS_PER_SIDE**2):
        row, column = divmod(place, CELLS_PER_SIDE)
        left, top = column * CELL_PIXELS, row * CELL_PIXELS
        cell = image.crop((left, top, left + CELL_PIXELS, top + CELL_PIXELS))
        drawn = [(n, pixel) for n, pixel in cell.getcolors() if min(pixel) < 240]
        count += bool(drawn) and nearest_colour(max(drawn)[1]) == colour
    return count


def test_chain_names_the_counts_and_then_the_running_sums():
    cell = {name: Shape(name, "square", COLOURS[name], (2, 2, 10, 10)) for name in COLOURS}
    cells = (
        cell["green"],
        cell["green"],
        cell["yellow"],
        None,
        cell["yellow"],
        *[cell["blue"]] * 4,
    )
    puzzle = ShapePuzzle(cells, ("green", "yellow", "red"))
    assert puzzle.question == "green+yellow+red"
    assert reference(puzzle) == "green2 yellow2 red0 2+2=4 4+0=4 -> 4"


def test_a_question_of_one_colour_needs_no_sum():
    assert ShapePuzzle((None,) * 9, ("red",)).solve([7]) == Solution("red7", "7")


@pytest.mark.parametrize("task", [SHORT, LONG])
def test_counts_are_those_of_the_pixels(task):
    for puzzle in draw(60, task):
        image = puzzle.render()
        assert image.size == (48, 48)
        assert [count_in_image(image, colour) for colour in puzzle.asked] == puzzle.readings


def test_shapes_stay_inside_their_cells():
    for puzzle in draw(200):
        for place, shape in enumerate(puzzle.cells):
            if shape is not None:
                row, column = divmod(place, CELLS_PER_SIDE)
                left, top, right, bottom = shape.box
                assert {left // CELL_PIXELS, right // CELL_PIXELS} == {column}
                assert {top // CELL_PIXELS, bottom // CELL_PIXELS} == {row}


def test_every_form_can_be_told_apart():
    boxes = {
        form: Shape("red", form, (200, 0, 0), (2, 2, 12, 12))
        for form in ("circle", "square", "triangle")
    }
    drawn = {
        form: ShapePuzzle((shape,) + (None,) * 8, ("red",)).render().tobytes()
        for form, shape in boxes.items()
    }
    assert len(set(drawn.values())) == 3


def test_the_seed_fixes_the_puzzles():
    assert draw(50) == draw(50)
    assert draw(50) != draw(50, seed="other")


def test_no_puzzle_comes_twice():
    # A single colour in almost empty grids: the stream would repeat the empty grid at once.
    puzzles = list(islice(draw_puzzles("tests", Shapes(1, 1), filled_fraction=0.05), 300))
    assert len(set(puzzles)) == 300


def test_questions_ask_for_different_colours_of_the_palette():
    puzzles = draw(300, LONG)
    assert all(len(set(puzzle.asked)) == 5 for puzzle in puzzles)
    assert {colour for puzzle in puzzles for colour in puzzle.asked} == set(COLOURS)
    shown = {shape.colour for puzzle in draw(300) for shape in puzzle.cells if shape}
    assert shown == set(list(COLOURS)[:4])


def test_filled_fraction_is_the_share_of_cells_with_a_shape():
    def share(**options):
        puzzles = list(islice(draw_puzzles("tests", SHORT, **options), 400))
        return sum(shape is not None for puzzle in puzzles for shape in puzzle.cells) / (400 * 9)

    # One standard deviation of 3,600 draws is 0.007 (at 0.8) and 0.008 (at 0.4).
    assert share() == pytest.approx(0.8, abs=0.025)
    assert share(filled_fraction=0.4) == pytest.approx(0.4, abs=0.025)


@pytest.mark.parametrize(("num_colours", "num_counted"), [(4, 5), (7, 3), (4, 0)])
def test_impossible_questions_are_refused(num_colours, num_counted):
    with pytest.raises(
        ValueError, match=f"num_counted is {num_counted} and num_colours is {num_colours}"
    ):
        Shapes(num_colours, num_counted)


def test_train_and_held_out_puzzles_come_from_one_stream_and_easy_ones_are_sparse():
    streams = LONG.draw(seed=0)
    turns = [next(stream) for _ in range(100) for stream in (streams.train, streams.held_out)]
    assert turns == list(islice(LONG.draw(seed=0).train, 200))
    easy = list(islice(streams.easy, 400))
    share = sum(shape is not None for puzzle in easy for shape in puzzle.cells) / (400 * 9)
    assert share == pytest.approx(0.4, abs=0.025)
    assert {len(puzzle.asked) for puzzle in easy} == {5}


def test_the_first_puzzles_of_the_quickstart():
    # Written down once: data that is drawn otherwise needs another _VERSION in prepare.py.
    assert [reference(puzzle) for puzzle in islice(SHORT.draw(seed=0).held_out, 3)] == [
        "yellow3 red1 green3 3+1=4 4+3=7 -> 7",
        "green1 blue2 yellow2 1+2=3 3+2=5 -> 5",
        "red1 yellow1 blue4 1+1=2 2+4=6 -> 6",
    ]
