"""A text recipe's folder: loadable as a downloaded model is, its rows in the form of a user's own."""

import json
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlsd_lightning.data import ProblemDataset
from rlsd_lightning.quickstart import Questions, Recipe, Records, prepare_text
from rlsd_lightning.quickstart.text_prepare import draw_parts
from rlsd_lightning.verification import check_gold
from rlsd_lightning.verifiers.json_record import JsonRecord
from rlsd_lightning.verifiers.json_schema import JsonSchema
from rlsd_lightning.verifiers.sql import Sql

TINY = Recipe(
    num_easy=0,
    num_full=8,
    num_held_out=4,
    student_batch=4,
    teacher_batch=2,
    easy_steps=0,
    max_clean_steps=2,
    sloppy_steps=1,
    student_citing_fraction=0.0,
    teacher_citing_fraction=0.0,
)
SMALL = {"num_train": 12, "num_test": 5, "seed": 3, "recipe": TINY}


@pytest.fixture(scope="module", params=[Records(), Questions()], ids=["records", "queries"])
def task(request):
    return request.param


@pytest.fixture(scope="module")
def folder(task, tmp_path_factory):
    return prepare_text(tmp_path_factory.mktemp("recipe") / "made", **SMALL, task=task)


def problems(folder, split):
    return list(ProblemDataset(path=str(folder / "data" / f"{split}.jsonl")))


def test_the_folder_loads_as_a_downloaded_model(folder):
    model = AutoModelForCausalLM.from_pretrained(folder / "warm")
    tokenizer = AutoTokenizer.from_pretrained(folder / "warm")
    assert type(model).__name__ == "Qwen3ForCausalLM"
    assert model.lm_head.weight is model.get_input_embeddings().weight
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "names of staff"}], add_generation_prompt=True, return_tensors="pt"
    )  # fmt: skip
    assert tokenizer.decode(prompt["input_ids"][0]) == (
        "<|im_start|>user\nnames of staff<|im_end|>\n<|im_start|>assistant\n"
    )
    assert model.generate(**prompt, max_new_tokens=3, do_sample=False).shape[1] > 3


def test_gold_answers_of_the_rows_get_full_marks(folder, task):
    rows = problems(folder, "train") + problems(folder, "test")
    assert len(rows) == 12 + 5
    if isinstance(task, Questions):
        verifiers = [Sql(dsn=str(folder / "data" / "company.sqlite"))]
    else:
        verifiers = [JsonSchema(), JsonRecord()]
    for verifier in verifiers:
        verifier.check(rows)
        check_gold(verifier, rows, limit=len(rows))


def test_train_and_test_are_disjoint(folder):
    train, test = problems(folder, "train"), problems(folder, "test")
    assert len({problem.prompt for problem in train + test}) == 17
    assert len({problem.id for problem in train + test}) == 17


def test_parts_share_nothing_and_are_alike(task):
    parts = draw_parts(task, 0, {"train": 100, "test": 50})
    assert [len(part) for part in parts.values()] == [100, 50]
    assert not set(parts["train"]) & set(parts["test"])
    assert parts == draw_parts(task, 0, {"train": 100, "test": 50})
    drawn = list(zip(parts["train"], task.draw(0), strict=False))
    assert sum(one == other for one, other in drawn) < 10  # shuffled


def test_the_record_says_how_it_was_made_and_what_was_measured(folder, task):
    record = json.loads((folder / "warm" / "quickstart.json").read_text())
    assert record["settings"]["task"] == {"name": type(task).__name__}
    assert record["settings"]["recipe"]["sloppy_steps"] == 1
    assert {"clean_steps", "student_sampled_accuracy", "teacher_sampled_accuracy"} <= set(
        record["measured"]
    )


def test_equal_settings_give_equal_bytes_and_leave_the_random_state_alone(folder, task, tmp_path):
    before = torch.random.get_rng_state()
    again = prepare_text(tmp_path / "again", **SMALL, task=task)
    assert torch.equal(torch.random.get_rng_state(), before)
    for path in sorted(folder.rglob("*.*")):
        if path.name != "quickstart.json":  # which holds seconds
            assert path.read_bytes() == (again / path.relative_to(folder)).read_bytes(), path


@pytest.mark.parametrize("name", ["num_easy", "easy_steps", "student_citing_fraction"])
def test_settings_that_have_no_effect_on_text_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"prepare.recipe has {name}=1, but"):
        prepare_text(
            tmp_path / "new", **{**SMALL, "recipe": replace(TINY, **{name: 1})}, task=Records()
        )


def test_other_settings_and_empty_data_sets_are_refused(folder, task):
    with pytest.raises(ValueError, match="made with another seed"):
        prepare_text(folder, **{**SMALL, "seed": 4}, task=task)
    with pytest.raises(ValueError, match="num_test is 0"):
        prepare_text(folder, **{**SMALL, "num_test": 0}, task=task)
