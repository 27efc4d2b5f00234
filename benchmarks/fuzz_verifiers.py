r"""Looks for texts that break a verifier, guided by which lines they reach.

    pip install atheris
    python benchmarks/fuzz_verifiers.py --seconds 600                 all verifiers that judge in this process
    python benchmarks/fuzz_verifiers.py --seconds 60 --only math

Atheris (libFuzzer for Python) changes texts byte by byte and keeps those that reach lines which none before has. A text that a
verifier raises on, or that earns what is no number from 0 to 1, ends the search: it is printed and stays in a file. The
tests (tests/verifiers/test_fuzz.py) draw texts from what is known to break parsers; this finds what nobody thought of.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile

import atheris

with atheris.instrument_imports(include=["rlsd_lightning"]):
    from rlsd_lightning.types import Problem
    from rlsd_lightning.verifiers.answer_format import AnswerFormat
    from rlsd_lightning.verifiers.boolean import Boolean
    from rlsd_lightning.verifiers.grounding import Grounding
    from rlsd_lightning.verifiers.json_record import JsonRecord
    from rlsd_lightning.verifiers.json_schema import JsonSchema
    from rlsd_lightning.verifiers.math import Math
    from rlsd_lightning.verifiers.multiple_choice import MultipleChoice
    from rlsd_lightning.verifiers.numeric import Numeric
    from rlsd_lightning.verifiers.ocr import Ocr
    from rlsd_lightning.verifiers.regex import Regex
    from rlsd_lightning.verifiers.text import Text

VERIFIERS = {
    "answer_format": (AnswerFormat(once=True), Problem(id="1", prompt="")),
    "boolean": (Boolean(), Problem(id="1", prompt="", answer="yes")),
    "grounding": (Grounding(), Problem(id="1", prompt="", answer='{"time": [1, 2]}')),
    "json_record": (JsonRecord(), Problem(id="1", prompt="", answer='{"a": [1, null]}')),
    "json_schema": (
        JsonSchema(),
        Problem(id="1", prompt="", extra={"schema": {"type": "object", "required": ["a"]}}),
    ),
    "math": (Math(time_limit_s=1.0), Problem(id="1", prompt="", answer="\\frac{1}{2}")),
    "multiple_choice": (
        MultipleChoice(),
        Problem(id="1", prompt="", answer="B", extra={"options": ["cat", "dog"]}),
    ),
    "numeric": (Numeric(units=["cm"]), Problem(id="1", prompt="", answer="28%")),
    "ocr": (Ocr(), Problem(id="1", prompt="", answer="New York")),
    "regex": (Regex(), Problem(id="1", prompt="", extra={"pattern": "(a|b)+c"})),
    "text": (Text(rule="squad_f1"), Problem(id="1", prompt="", answer="New York")),
}


def judge(data: bytes, names: list[str]) -> None:
    """Judge the text that some bytes stand for.

    Args:
        data: how the text is made; atheris changes it.
        names: of the verifiers.
    """
    source = atheris.FuzzedDataProvider(data)
    tagged = source.ConsumeBool()
    text = source.ConsumeUnicode(2_000)
    for name in names:
        verifier, problem = VERIFIERS[name]
        verdict = verifier.verify(problem, f"<answer>{text}</answer>" if tagged else text)
        if not (math.isfinite(verdict.reward) and 0 <= verdict.reward <= 1):
            raise ArithmeticError(f"{name}: the reward of {text!r} is {verdict.reward}")


def main() -> None:
    """Search for so many seconds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--only", nargs="+", choices=VERIFIERS, default=list(VERIFIERS))
    given = parser.parse_args()
    flags = [f"-max_total_time={given.seconds}", f"-artifact_prefix={tempfile.gettempdir()}/"]
    atheris.Setup([sys.argv[0], *flags], lambda data: judge(data, given.only))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
