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
        "code",
        "grounding",
        "json_schema",
        "math",
        "markup",
        "multiple_choice",
        "numeric",
        "ocr",
        "preference",
        "quickstart",
        "regex",
        "rlsd_official",
        "sql",
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


@pytest.mark.parametrize(
    ("kind", "gold", "answer", "reward"),
    [
        ("math", "0.5", r"\frac{1}{2}", 1.0),  # 0.9 for the answer, 0.1 for the form
        ("Mathematics", "4", "5", 0.1),
        ("multiple choice", "B", "(b)", 1.0),
        ("numerical", "3.14159", "3.14", 1.0),
        ("number", "50", "50%", 0.0),
        ("regression", "1,000", "1000", 1.0),
        ("boolean", "Yes", "1", 1.0),
        ("binary classification", "no", "yes", 0.0),
        ("OCR", "Exit to the left", "exit to left", 3 / 4),
        ("open-ended", "Dog", "dog", 0.0),
        ("free-form", "a red cat sits", "red cats sat", (4 / 7 + 2 / 5 + 4 / 7) / 3),
        ("video description", "a red cat sits", "a red cat sits", 1.0),
        ("spatial grounding", '{"boxes": [0, 0, 2, 2]}', '{"boxes": [0, 0, 2, 1]}', 0.5),
        ("temporal grounding", '{"time": [0, 4]}', '{"time": [2, 4]}', 0.5),
        ("llava", "Response 2", "b", 1.0),
        ("critic", "tie", "Response 1", 0.0),
        ("svg-code", "<svg><g/></svg>", "<svg><g/></svg>", 1.0),
        ("html-code", "<p>a</p>", "<b>a</b>", 0.3),
        (
            "spatial-temporal grounding",
            '{"time": [0, 4], "boxes": {"1": [0, 0, 2, 2], "2": [0, 0, 2, 2]}}',
            '{"time": [2, 4], "boxes": {"1": [0, 0, 2, 2]}}',
            0.75,  # half of the time, and all of the one frame that both name
        ),
    ],
)
def test_the_papers_rewards(kind, gold, answer, reward):
    problem = Problem(id="1", prompt="", answer=gold, kind=kind)
    first = f"<thought></thought><answer>{answer}</answer>"
    verifier = build("rlsd_official")
    assert verifier.verify(problem, first).reward == pytest.approx(reward, abs=1e-12)
    assert verifier.verify(problem, f"{first}<answer>7</answer>").reward == pytest.approx(reward)


def test_only_mathematics_pays_for_the_form_and_needs_a_mark():
    verifier = build("rlsd_official")
    for kind, reward in (("math", 0.0), ("number", 1.0)):
        problem = Problem(id="1", prompt="", answer="4", kind=kind)
        assert verifier.verify(problem, "4").reward == reward
    problem = Problem(id="1", prompt="", answer="4", kind="math")
    assert verifier.verify(problem, r"So \boxed{4}").reward == 0.9


@pytest.mark.parametrize("kind", ["", "code", "riddle"])
def test_an_unknown_problem_type_is_no_open_ended_question(kind):
    with pytest.raises(ValueError, match="no verifier for the kind"):
        build("rlsd_official").verify(Problem(id="1", prompt="", answer="4", kind=kind), "4")
