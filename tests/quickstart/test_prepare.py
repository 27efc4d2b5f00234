"""The folder: complete or not there, made once however many ask for it, loadable as a downloaded model is."""

import json
import multiprocessing
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from rlsd_lightning.quickstart import Digits, Recipe, Shapes, prepare

TINY = Recipe(
    num_easy=8,
    num_full=8,
    num_held_out=4,
    student_batch=4,
    teacher_batch=2,
    easy_steps=1,
    max_clean_steps=2,
    sloppy_steps=1,
)
SMALL = {"num_train": 12, "num_test": 5, "seed": 3, "recipe": TINY}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("quickstart") / "deep" / "quickstart", **SMALL)


def rows(folder, split):
    return [
        json.loads(line) for line in (folder / "data" / f"{split}.jsonl").read_text().splitlines()
    ]


def contents(folder):
    """Every file's bytes, but for the record, which holds seconds."""
    files = (
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "quickstart.json"
    )
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_folder_loads_as_a_downloaded_model(folder):
    model = AutoModelForImageTextToText.from_pretrained(folder / "warm")
    processor = AutoProcessor.from_pretrained(folder / "warm")
    assert type(model).__name__ == "Qwen3VLForConditionalGeneration"
    row = rows(folder, "train")[0]
    content = [{"type": "image"}, {"type": "text", "text": row["problem"]}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    image = Image.open(folder / "data" / row["images"][0])
    inputs = processor(text=[text], images=[image], return_tensors="pt")
    written = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert written.shape[1] > inputs["input_ids"].shape[1]


def test_train_and_test_are_disjoint(folder):
    train, test = rows(folder, "train"), rows(folder, "test")
    assert (len(train), len(test)) == (12, 5)

    def drawn(split):
        return {(folder / "data" / row["images"][0]).read_bytes() for row in split}

    assert len(drawn(train) | drawn(test)) == 17


def test_a_folder_of_digits_has_the_same_form(folder, tmp_path):
    digits = prepare(tmp_path / "digits", **SMALL, task=Digits())
    assert contents(digits).keys() == contents(folder).keys()
    assert {row["problem"] for row in rows(digits, "train")} == {"sum mod 10"}
    record = json.loads((digits / "warm" / "quickstart.json").read_text())
    assert record["settings"]["task"] == {"name": "Digits", "num_digits": 3}


def test_the_record_says_how_it_was_made_and_what_was_measured(folder):
    record = json.loads((folder / "warm" / "quickstart.json").read_text())
    assert record["settings"]["seed"] == 3
    assert record["settings"]["task"] == {"name": "Shapes", "num_colours": 4, "num_counted": 3}
    assert record["settings"]["recipe"]["sloppy_steps"] == 1
    assert {"clean_steps", "train_s", "reading_accuracy", "student_sampled_accuracy"} <= set(
        record["measured"]
    )


def test_a_second_call_changes_nothing(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert prepare(folder, **SMALL) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_equal_settings_give_equal_bytes(folder, tmp_path):
    assert contents(prepare(tmp_path / "again", **SMALL)) == contents(folder)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"seed": 4}, "seed"),
        ({"num_train": 13}, "num_train"),
        ({"recipe": Recipe()}, "recipe"),
        ({"task": Shapes(num_colours=6)}, "task"),
        ({"task": Digits()}, "task"),
    ],
)
def test_other_settings_are_refused(folder, change, name):
    with pytest.raises(ValueError, match=f"made with another {name}"):
        prepare(folder, **{**SMALL, **change})


def test_an_empty_folder_is_filled(tmp_path):
    assert (prepare(tmp_path, **SMALL) / "warm" / "quickstart.json").is_file()


def test_foreign_files_are_refused_and_kept(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text("mine")
    with pytest.raises(ValueError, match="is not empty, but lacks data"):
        prepare(tmp_path, **SMALL)
    assert (tmp_path / "data" / "train.jsonl").read_text() == "mine"


@pytest.mark.parametrize("name", ["num_train", "num_test"])
def test_data_sets_without_problems_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"{name} is 0"):
        prepare(tmp_path / "q", **{**SMALL, name: 0})


def wait_for(path: Path, process: multiprocessing.Process) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_call_leaves_nothing_and_of_two_at_once_one_works(tmp_path):
    folder, partial = tmp_path / "q", tmp_path / ".q.partial"
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["rlsd_lightning.quickstart"])
    endless = replace(TINY, easy_steps=1_000_000)
    killed = processes.Process(target=prepare, args=(folder,), kwargs={**SMALL, "recipe": endless})
    killed.start()
    wait_for(partial / "data" / "test.jsonl", killed)
    killed.kill()
    killed.join()
    assert not folder.exists()
    (partial / "data" / "left_over").touch()

    both = [processes.Process(target=prepare, args=(folder,), kwargs=SMALL) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(timeout=120)
    # A second one that worked would end with an error: a folder cannot be renamed onto a full one.
    assert [process.exitcode for process in both] == [0, 0]
    assert sorted(path.name for path in folder.iterdir()) == ["data", "warm"]
    assert not (folder / "data" / "left_over").exists()
    assert not partial.exists()
