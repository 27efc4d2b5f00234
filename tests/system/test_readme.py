"""Every command and every piece of code of the README is run."""

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.helpers.workplace import SMALL, write_wemath
from tests.vllm.conftest import why_skipped

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    """Every line of every bash block, comments taken off."""
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    return [line.split("  #")[0].strip() for line in lines if line.strip()]


ELSEWHERE = {
    "make quickstart": "test_train.py runs what it runs: fit, as it is",
    "make test": "is what runs this",
    "make claims": "test_claims_run.py runs what it runs, on little work",
    "pip install -c constraints.txt -e .": "the Makefile's own step; test_packaging.py installs a wheel",
    "python scripts/install_vllm.py": "the Makefile's own step; test_packaging.py holds it to its word",
    "python -m rlsd_lightning fit experiment=rlsd_qwen3_vl_8b": "test_train.py takes a small step of it",
}
SETTINGS = {
    "evaluators=wemath": [
        "evaluators.wemath.problems.path=wemath/testmini.jsonl",
        "benchmark_sampling.max_completion_tokens=8",
    ],
    "experiment=none": [
        "model.path=data/quickstart/warm",
        "data.train.path=data/quickstart/data/train.jsonl",
        "prompt=quickstart",
        "trainer=cpu",
        "exp_manager.name=own",
        "trainer.max_steps=2",
    ],
    "--multirun": ["trainer.max_steps=1"],
    "doctor": ["verifier=quickstart"],
    "my_conf": ["trainer.max_steps=1", "exp_manager.name=own_plugin"],
    "engine=vllm": ["exp_manager.name=sampled_by_vllm"],
    "credit_heatmap": ["trainer.max_steps=2", "exp_manager.name=seen"],
}
"""What a command needs to be small and to find its files here, by what stands in it."""


def test_every_command_is_run_somewhere():
    known = [c for c in commands() if c in ELSEWHERE or c.startswith("python -m rlsd_lightning ")]
    assert known == commands()
    makefile = (ROOT / "Makefile").read_text()
    assert "quickstart:" in makefile
    assert "\t$(RUN) -m rlsd_lightning fit engine=$(ENGINE)\n" in makefile
    assert "ENGINE ?= transformers\n" in makefile


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(c, marks=pytest.mark.slow) if "engine=vllm" in c else c
        for c in commands()
        if c.startswith("python") and c not in ELSEWHERE
    ],
)
def test_the_command_does_what_the_readme_says(command, workplace, rlsd, straight):
    if "engine=vllm" in command and why_skipped():
        pytest.skip(why_skipped())
    write_the_readmes_plugin(workplace)
    write_wemath(workplace / "wemath")
    words = shlex.split(command)[3:]
    if words[0] == "compare":  # takes run folders and no settings
        done = rlsd(*words)
        assert done.returncode == 0, done.stderr
        assert (workplace / "compare.html").is_file()
        return
    if words[0] == "plan":  # computes as it is
        done = rlsd(*words)
        assert done.returncode == 0, done.stderr
        assert "Fits: NVIDIA H200" in done.stdout
        return
    extra = [s for key, settings in SETTINGS.items() if key in command for s in settings]
    given = {word.split("=")[0] for word in extra}
    words = [word for word in words if word.split("=")[0] not in given]
    small = [s for s in SMALL if s.split("=")[0] not in {w.split("=")[0] for w in [*words, *extra]}]
    small = [s for s in small if not (s.startswith("--config-dir") and "--config-dir" in words)]
    done = rlsd(*words, *small, *extra)
    assert done.returncode == 0, done.stderr
    check = CHECKS.get(words[0])
    if check and "--help" not in words and "--cfg" not in words:
        check(done.stdout, workplace)


def write_the_readmes_plugin(workplace: Path) -> None:
    verifier, credit = blocks("python")
    (workplace / "my_task.py").write_text(verifier)
    (workplace / "my_credit.py").write_text(credit)
    for block in blocks("yaml"):
        place = workplace / block.splitlines()[0].removeprefix("# ")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(block)


def predictions_are_there(stdout: str, workplace: Path) -> None:
    rows = [
        json.loads(line)
        for line in (workplace / "predictions" / "held_out.jsonl").read_text().splitlines()
    ]
    assert len(rows) == 4 * 4
    assert {"problem_id", "response", "reward", "correct", "valid", "reason"} <= rows[0].keys()


def export_loads(stdout: str, workplace: Path) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from tests.helpers.workplace import checkpoint

    AutoProcessor.from_pretrained(workplace / "exported")
    model = AutoModelForImageTextToText.from_pretrained(workplace / "exported")
    trained = checkpoint(workplace, "runs")["state_dict"]
    for name, weight in model.named_parameters():
        assert weight.equal(trained[f"policy.model.{name}"]), name


def a_table_is_printed(stdout: str, workplace: Path) -> None:
    assert re.search(r"benchmark +n +number +score, %", stdout)
    assert re.search(r"^(held_out +16 +accuracy|wemath +3 +score_strict) +\d", stdout, re.MULTILINE)


def numbers_are_printed(stdout: str, workplace: Path) -> None:
    assert re.search(r"val/held_out/accuracy\s+\d", stdout)


def gold_and_attacks_are_told(stdout: str, workplace: Path) -> None:
    assert re.search(r"^Gold answers judged correct: \d+ of \d+\.", stdout, re.MULTILINE)
    assert re.search(
        r"^all numbers +All numbers from 0 to 100 +several +\d+ ", stdout, re.MULTILINE
    )


def nothing_is_wrong(stdout: str, workplace: Path) -> None:
    assert re.search(r"^11 checks in \d+ s: 0 faults, 0 warnings\.$", stdout, re.MULTILINE), stdout


CHECKS = {
    "audit": gold_and_attacks_are_told,
    "doctor": nothing_is_wrong,
    "predict": predictions_are_there,
    "export": export_loads,
    "validate": numbers_are_printed,
    "test": a_table_is_printed,
    "score": a_table_is_printed,
}


def test_a_verifier_of_ones_own_takes_fifteen_lines():
    assert len((blocks("python")[0] + blocks("yaml")[0]).splitlines()) <= 15


def test_the_readmes_verifier_accepts_what_it_says_and_nothing_else():
    from rlsd_lightning.types import Problem

    names: dict = {}
    exec(blocks("python")[0], names)
    verifier = names["WithinOne"]()
    problem = Problem(id="1", prompt="?", answer="3")
    assert verifier.verify(problem, "about 4 I think").correct
    assert not verifier.verify(problem, "about 5 I think").correct
    assert not verifier.verify(problem, "many").correct


def test_the_file_tree_names_only_what_exists():
    tree = next(block for block in blocks("text") if "rlsd_lightning/  " in block)
    for name in re.findall(r"(?<![\w/])([\w_]+(?:\.py|/))(?=\s)", tree):
        folders = (ROOT, ROOT / "rlsd_lightning", ROOT / "benchmarks")
        assert any((folder / name).exists() for folder in folders), name
