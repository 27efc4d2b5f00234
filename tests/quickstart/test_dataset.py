"""Puzzles as files: the form of a user's own data, whatever the task."""

import json
from itertools import islice

import pytest
from PIL import Image

from rlsd_lightning.quickstart import Digits, Shapes
from rlsd_lightning.quickstart.dataset import write_dataset
from rlsd_lightning.quickstart.task import reference


@pytest.fixture(params=[Shapes(), Digits()], ids=["shapes", "digits"])
def puzzles(request):
    return list(islice(request.param.draw(seed=0).train, 30))


@pytest.fixture
def dataset(puzzles, tmp_path):
    write_dataset(tmp_path / "data", {"train": puzzles[:20], "test": puzzles[20:]})
    return tmp_path / "data"


def rows(folder, split):
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]


def test_rows_have_the_form_of_a_users_data(dataset):
    assert [len(rows(dataset, split)) for split in ("train", "test")] == [20, 10]
    for row in rows(dataset, "train"):
        assert list(row) == ["id", "problem", "answer", "images", "reference", "kind"]
        assert row["kind"] == "numerical"
        assert isinstance(row["answer"], str)
    assert rows(dataset, "test")[0]["images"] == ["images/000021.png"]


def test_ids_and_images_belong_to_one_row_each(dataset):
    both = rows(dataset, "train") + rows(dataset, "test")
    assert len({row["id"] for row in both}) == 30
    assert len({row["images"][0] for row in both}) == 30
    assert len(list((dataset / "images").iterdir())) == 30


def test_each_row_is_its_puzzle(dataset, puzzles):
    both = rows(dataset, "train") + rows(dataset, "test")
    for row, puzzle in zip(both, puzzles, strict=True):
        with Image.open(dataset / row["images"][0]) as image:
            assert image.tobytes() == puzzle.render().tobytes()
        assert row["problem"] == puzzle.question
        assert row["reference"] == reference(puzzle)


def test_answers_are_the_chains_end(dataset):
    for row in rows(dataset, "train") + rows(dataset, "test"):
        steps, end = row["reference"].split(" -> ")
        assert end == row["answer"]
        assert steps.endswith(f"={row['answer']}")


def test_the_same_puzzles_give_the_same_bytes(dataset, puzzles, tmp_path):
    write_dataset(tmp_path / "again", {"train": puzzles[:20], "test": puzzles[20:]})
    for path in sorted(dataset.rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(dataset)).read_bytes()
