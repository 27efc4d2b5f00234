import time

import pytest

from rlsd_lightning.verifiers.patterns import matches_somewhere, matches_whole, pattern_fault

CATASTROPHES = [("(a|aa)+b", "a" * 60), ("((a{1,40}){1,40}){1,40}b", "a" * 60)]


@pytest.mark.parametrize("match", [matches_somewhere, matches_whole])
@pytest.mark.parametrize(("pattern", "text"), CATASTROPHES)
def test_a_pattern_without_an_end_is_ended(match, pattern, text):
    start = time.process_time()
    with pytest.raises(TimeoutError, match=r"took longer than 0\.2 s"):
        match(pattern, text, 0.2)
    assert time.process_time() - start < 1


def test_the_whole_is_more_than_a_part():
    assert matches_somewhere("b", "abc")
    assert not matches_whole("b", "abc")
    assert matches_whole("a|abc", "abc")  # the longer alternative, though the shorter comes first
    assert not matches_whole("abc$", "abc\n")


def test_faults_are_told():
    assert pattern_fault(r"\d{4}") == ""
    assert pattern_fault("[a") != ""
    assert pattern_fault("*") != ""
