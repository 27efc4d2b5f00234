import pytest

from rlsd_lightning.types import Problem
from rlsd_lightning.verifiers.by_kind import ByKind
from rlsd_lightning.verifiers.numeric import Numeric
from rlsd_lightning.verifiers.regex import Regex
from rlsd_lightning.verifiers.text import Text

VERIFIER = ByKind(
    verifiers={"numeric": Numeric(abs_tol=1), "text": Text()},
    kinds={"numerical": "numeric", "binary classification": "text"},
)


def problem(kind, number=7):
    return Problem(
        id=f"q{number}", prompt="", answer="4", kind=kind, location=f"train.jsonl:{number}"
    )


@pytest.mark.parametrize(
    ("kind", "correct"),
    [
        ("numerical", True),
        (" Numerical ", True),
        ("binary classification", False),
        ("Binary-Classification", False),
        ("binary_classification", False),
    ],
)
def test_the_kind_decides_however_it_is_spelt(kind, correct):
    assert VERIFIER.verify(problem(kind), "<answer>5</answer>").correct is correct


@pytest.mark.parametrize("kind", ["", "ocr", "math"])
def test_an_unknown_kind_names_the_problem_its_place_and_the_known_kinds(kind):
    with pytest.raises(ValueError, match=r"problem 'q7' \(train.jsonl:7\)") as error:
        VERIFIER.verify(problem(kind), "<answer>4</answer>")
    assert f"no verifier for the kind {kind!r}" in str(error.value)
    assert "numerical, binary_classification" in str(error.value)


def test_a_whole_data_set_is_checked_in_one_message():
    problems = [problem("numerical", 0), *(problem("ocr", number) for number in range(1, 9))]
    with pytest.raises(ValueError, match="8 problems: no verifier for the kind 'ocr'") as error:
        VERIFIER.check(iter(problems))
    assert "problem 'q5' (train.jsonl:5): kind 'ocr'" in str(error.value)
    assert "q6" not in str(error.value)
    VERIFIER.check(problems[:1])


def test_the_verifiers_check_their_own_problems():
    verifier = ByKind(verifiers={"regex": Regex()}, kinds={"regex": "regex"})
    sound = Problem(id="1", prompt="", kind="regex", extra={"pattern": "a"})
    verifier.check([sound])
    with pytest.raises(ValueError, match=r"problem '2': extra\.pattern is None"):
        verifier.check([sound, Problem(id="2", prompt="", kind="regex")])


def test_routes_are_checked():
    with pytest.raises(
        ValueError, match=r"numerical.*to verifiers that are not there; there are text"
    ):
        ByKind(verifiers={"text": Text()}, kinds={"numerical": "numeric"})
    with pytest.raises(ValueError, match="kinds sends nothing"):
        ByKind(verifiers={"text": Text()}, kinds={})
