import time

import pytest

from rlsd_lightning.types import Problem
from rlsd_lightning.verifiers.regex import MAX_CHARS, Regex


def problem(pattern):
    return Problem(id="q7", prompt="", extra={"pattern": pattern}, location="train.jsonl:7")


def judge(pattern, answer, **options):
    return Regex(**options).verify(problem(pattern), f"<answer>{answer}</answer>")


@pytest.mark.parametrize(
    ("pattern", "answer", "correct"),
    [
        (r"\d{4}-\d{2}-\d{2}", "2024-01-31", True),
        (r"\d{4}-\d{2}-\d{2}", "2024-1-31", False),
        (r"\d+", "42.", False),
        (r"\d+", "a42", False),
        (r"a|ab", "ab", True),
        (r"\d+", " 42\n", True),
        (r"(?i)yes", "YES", True),
        (r".*", "a\nb", False),
        (r"(?s).*", "a\nb", True),
        (r".*", "", False),  # nothing is never right
        (r"a*", "a" * MAX_CHARS, True),
        (r"a*", "a" * (MAX_CHARS + 1), False),
    ],
)
def test_the_pattern_matches_the_whole_answer_or_not(pattern, answer, correct):
    verdict = judge(pattern, answer)
    assert verdict.correct is correct
    assert verdict.reward == correct
    assert verdict.valid


@pytest.mark.parametrize("pattern", ["(a|aa)+b", "((a{1,40}){1,40}){1,40}b"])
def test_a_pattern_without_an_end_is_not_judged(pattern):
    start = time.process_time()
    verdict = judge(pattern, "a" * 60, time_limit_s=0.3)
    assert time.process_time() - start < 1
    assert not verdict.valid
    assert verdict.reward == 0


def test_nested_repetition_earns_nothing_and_ends():
    start = time.process_time()
    assert judge("(a+)+b", "a" * 40 + "!").reward == 0
    assert time.process_time() - start < 2


@pytest.mark.parametrize("pattern", [None, 3, "(a", "[", "*"])
def test_a_fault_in_the_problem_names_problem_and_place(pattern):
    message = r"problem 'q7' \(train.jsonl:7\): extra.pattern is .* no regular expression"
    with pytest.raises(ValueError, match=message):
        judge(pattern, "a")
    with pytest.raises(ValueError, match=message):
        Regex().check([problem("a"), problem(pattern)])


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="time_limit_s is 0"):
        Regex(time_limit_s=0)
