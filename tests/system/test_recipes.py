"""The text recipes as a user runs them, and the way from docs/recipes.md to a run on data of one's own."""

import json
import re
import resource
import shlex
from itertools import islice
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from rlsd_lightning.quickstart import Questions, Records
from rlsd_lightning.quickstart.company import SCHEMA as TABLES
from rlsd_lightning.quickstart.text_model import build_text_model, build_text_tokenizer
from rlsd_lightning.quickstart.text_prepare import write_rows
from rlsd_lightning.types import Problem

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [line for language, block in BLOCKS if language == "bash" for line in block.splitlines()]
RECIPES = ("sql_quickstart", "json_quickstart")
SMALL = ("trainer=cpu", "rollout.problems_per_step=2", "rollout.group_size=2", "trainer.max_steps=2",
         "rollout.sampling.max_completion_tokens=8", "trainer.accumulate_grad_batches=1",
         "teacher=live", "model.gradient_checkpointing=false")  # fmt: skip


def test_the_page_has_the_commands_of_both_recipes_and_of_both_own_tasks():
    assert COMMANDS[:2] == [f"python -m rlsd_lightning fit experiment={name}" for name in RECIPES]
    assert [command.rpartition("=")[2] for command in COMMANDS[2:]] == ["my_sql", "my_records"]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_lifts_its_held_out_accuracy_within_minutes(rlsd_afresh, tmp_path, recipe):
    before_s = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = rlsd_afresh(
        "fit", f"experiment={recipe}", f"paths.data={tmp_path}/data", f"paths.runs={tmp_path}/runs"
    )
    assert done.returncode == 0, done.stderr
    learnt, where, look = done.stdout.strip().splitlines()[-3:]
    assert learnt.startswith("Learnt in ")
    assert "held_out accuracy" in learnt
    assert (Path(look.split()[1]), where.split()[-1]) == (
        tmp_path / "runs" / recipe / "version_0" / "report.html",
        f"{tmp_path}/runs/{recipe}/version_0.",
    )
    summary = json.loads((tmp_path / "runs" / recipe / "version_0" / "summary.json").read_text())
    before = summary["warm_start"]["val/held_out/accuracy"]
    after = summary["final"]["val/held_out/accuracy"]
    assert 0.2 <= before <= 0.55
    assert after >= max(0.75, before + 0.3)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before_s < 200


def write_prompts(folder: Path) -> None:
    """Write the page's yaml files where it says that they are."""
    for language, block in BLOCKS:
        if language == "yaml":
            place = folder / block.splitlines()[0].removeprefix("# ")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(block)


@pytest.mark.parametrize(
    ("name", "extra", "shown"),
    [
        ("sql", {"tables": TABLES}, "CREATE TABLE staff (name TEXT"),
        ("record", {"schema": {"required": ["city"]}}, '{"required": ["city"]}'),
    ],
)
def test_the_pages_prompts_show_what_an_answer_needs_and_the_gold_one_to_the_teacher_alone(
    tmp_path, name, extra, shown
):
    write_prompts(tmp_path)
    with initialize_config_module("rlsd_lightning.conf", version_base="1.3"):
        places = f"hydra.searchpath=[file://{tmp_path}/my_conf]"
        template = instantiate(compose("config", [f"prompt={name}", places]).prompt)
    problem = Problem(id="1", prompt="How many?", answer="the gold one", extra=extra)
    student = template.student_text(problem)
    teacher = template.teacher_text(problem, template.reference_of(problem).text)
    assert "How many?" in student
    assert shown in student
    assert "gold" not in student
    assert teacher.startswith(student)
    assert "the gold one" in teacher


def write_own_task(folder: Path, task, name: str) -> None:
    """Write what the page asks a user to have: files, prompts, and a model of some kind."""
    exercises = task.draw(0)
    task.write_files(folder, seed=0)
    for split, number in {"train": 12, "test": 4}.items():
        write_rows(folder, split, list(islice(exercises, number)))
    if name == "my_sql":
        (folder / "company.sqlite").rename(folder / "warehouse.sqlite")
        for path in folder.glob("*.jsonl"):
            rows = [json.loads(line) | {"tables": TABLES} for line in path.read_text().splitlines()]
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_prompts(folder)
    tokenizer = build_text_tokenizer(task.words)
    build_text_model(tokenizer, seed=0).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "task"), list(zip(COMMANDS[2:], [Questions(), Records()], strict=True))
)
def test_the_pages_command_runs_on_data_of_ones_own(rlsd, tmp_path, command, task):
    name = command.rpartition("=")[2]
    write_own_task(tmp_path, task, name)
    here = {"model.path": "model", "data.train.path": "train.jsonl", "verifier.dsn": "warehouse.sqlite",
            "evaluators.held_out.problems.path": "test.jsonl"}  # fmt: skip
    words = [
        f"{word.split('=')[0]}={tmp_path / here[word.split('=')[0]]}"
        if word.split("=")[0] in here
        else word.replace("my_conf", str(tmp_path / "my_conf"))
        for word in shlex.split(command)[3:]
    ]
    done = rlsd(*words, *SMALL, f"paths.runs={tmp_path}/runs")
    assert done.returncode == 0, done.stderr
    assert "Learnt in 2 steps" in done.stdout
