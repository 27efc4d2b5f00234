"""The yaml files of conf/verifier build what they say."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

import rlsd_lightning.conf
from rlsd_lightning.interfaces import Verifier
from rlsd_lightning.types import Problem

FOLDER = Path(rlsd_lightning.conf.__file__).parent / "verifier"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def build(name):
    with initialize_config_module("rlsd_lightning.conf", version_base=None):
        node = compose(config_name=f"verifier/{name}").verifier
    return instantiate(node, _convert_="all")


@pytest.mark.parametrize("name", NAMES)
def test_every_file_says_what_it_is_and_builds_a_verifier(name):
    assert (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").startswith("# ")
    assert isinstance(build(name), Verifier)


def test_all_that_are_promised_are_there():
    promised = {
        "answer_format",
        "boolean",
        "by_kind",
        "grounding",
        "json_schema",
        "math",
        "multiple_choice",
        "numeric",
        "ocr",
        "quickstart",
        "regex",
        "text",
        "weighted_sum",
    }
    assert promised <= set(NAMES)


@pytest.mark.parametrize(
    ("kind", "gold", "answer"),
    [
        ("math", r"\frac{1}{2}", "0.5"),
        ("Mathematics", "x+1", "1+x"),
        ("multiple choice", "B", "(b)"),
        ("numerical", "1000", "1,000"),
        ("regression", "1000000", "1000000.1"),
        ("boolean", "Yes", "True."),
        ("binary classification", "no", "No"),
        ("OCR", "Exit 12", "EXIT 12"),
        ("spatial-temporal grounding", '{"time": [1, 2]}', '{"time": [1, 2.0]}'),
        ("open-ended", "a red cat", "Red cat!"),
        ("free-form", "a red cat", "Red cat!"),
    ],
)
def test_the_papers_problem_types_have_verifiers(kind, gold, answer):
    problem = Problem(id="1", prompt="", answer=gold, kind=kind)
    response = f"<thought></thought><answer>{answer}</answer>"
    for name in ("by_kind", "weighted_sum"):
        verdict = build(name).verify(problem, response)
        assert verdict.correct
        assert verdict.reward == pytest.approx(1.0, abs=1e-12)


def test_free_text_is_paid_by_the_words_shared():
    problem = Problem(id="1", prompt="", answer="red cat", kind="open-ended")
    assert build("by_kind").verify(problem, "<answer>red dog</answer>").reward == 0.5


def test_the_quickstart_pays_the_last_answer_tag_and_nothing_else():
    verifier = build("quickstart")
    problem = Problem(id="1", prompt="", answer="4")
    assert verifier.verify(problem, "<answer>3</answer><answer>4</answer>").reward == 1
    assert verifier.verify(problem, "<answer>4</answer><answer>3</answer>").reward == 0
    assert verifier.verify(problem, "4").reward == 0
    assert verifier.verify(problem, r"\boxed{4}").reward == 0
