"""What a check says, also where it breaks down."""

from rlsd_lightning.doctor.finding import Finding, attempt, left_out
from rlsd_lightning.types import Sampling


def test_a_finding_is_one_line():
    finding = Finding(
        check="data", level="fault", seen="two\nbad   rows:\n  1", advice="Mend them."
    )
    assert finding.line == "fault    data          two bad rows: 1 Mend them."


def test_a_long_finding_is_cut():
    assert len(Finding(check="data", level="fault", seen="x" * 5000).line) < 700


def test_a_fault_that_a_user_can_mend_is_said_in_its_own_words():
    found = attempt("data", lambda: Sampling(max_completion_tokens=0))
    assert (found.level, found.check) == ("fault", "data")
    assert found.seen == "sampling: max_completion_tokens is 0, needs 1 or more."


def test_a_check_that_breaks_down_is_a_fault_of_its_own():
    found = attempt("data", lambda: {}["split"])
    assert found.level == "fault"
    assert found.seen == "KeyError: 'split'."
    assert "broke down" in found.advice


def test_what_could_not_be_looked_at_is_no_fault():
    assert left_out("prompts", "there is no usable row").line == (
        "warning  prompts       not looked at, as there is no usable row."
    )
