import random
import time

import pytest

from rlsd_lightning.answers.edits import common_length, edit_distance


def table_distance(one, other):
    """Fill the whole table of edit distances."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        following = [i]
        for j, b in enumerate(other, 1):
            following.append(min(row[j] + 1, following[-1] + 1, row[j - 1] + (a != b)))
        row = following
    return row[-1]


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        *(("", "", 0), ("a", "", 1), ("", "abc", 3), ("a", "b", 1), ("ab", "ba", 2)),
        *(("kitten", "sitting", 3), ("saturday", "sunday", 3), ("a" * 70, "a" * 70 + "b", 1)),
    ],
)
def test_distances_by_hand(one, other, distance):
    assert edit_distance(one, other) == distance
    assert edit_distance(other, one) == distance


def test_random_texts_agree_with_the_whole_table():
    draw = random.Random(0)
    for _ in range(400):
        one, other = ("".join(draw.choices("abc", k=draw.randint(0, 14))) for _ in range(2))
        assert edit_distance(one, other) == table_distance(one, other), (one, other)


def test_words_are_items_too():
    assert edit_distance(["New", "York"], ["New", "Delhi"]) == 1


def test_twenty_thousand_characters_take_a_fraction_of_a_second():
    draw = random.Random(0)
    one, other = ("".join(draw.choices("abcdefgh", k=20_000)) for _ in range(2))
    start = time.process_time()
    assert edit_distance(one, other) <= 20_000
    assert time.process_time() - start < 2


def table_common_length(one, other):
    """Fill the whole table of common lengths."""
    row = [0] * (len(other) + 1)
    for a in one:
        following = [0]
        for j, b in enumerate(other, 1):
            following.append(row[j - 1] + 1 if a == b else max(row[j], following[-1]))
        row = following
    return row[-1]


def test_common_lengths_agree_with_the_whole_table():
    draw = random.Random(0)
    for _ in range(400):
        one, other = ("".join(draw.choices("abc", k=draw.randint(0, 14))) for _ in range(2))
        assert common_length(one, other) == table_common_length(one, other), (one, other)
