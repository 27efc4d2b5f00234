"""MATH-Vision (arXiv:2402.14804) by the fields of MathLLMs/MathVision on the hub: 3,040 problems in test, 304 in testmini."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlsd_lightning.data.benchmarks.dataset import BenchmarkDataset
from rlsd_lightning.data.benchmarks.fields import FieldError, Row, present, text_field, without
from rlsd_lightning.data.benchmarks.marks import place_images
from rlsd_lightning.data.benchmarks.opening import check_subjects, open_published, select

SUBJECTS = (
    "algebra",
    "analytic geometry",
    "arithmetic",
    "combinatorial geometry",
    "combinatorics",
    "counting",
    "descriptive geometry",
    "graph theory",
    "logic",
    "metric geometry - angle",
    "metric geometry - area",
    "metric geometry - length",
    "solid geometry",
    "statistics",
    "topology",
    "transformation geometry",
)


class MathVision(BenchmarkDataset):
    """MATH-Vision's problems; `extra` has options (a list, empty for free answers), level, subject, question.

    Args:
        path: the hub's name, or a local copy.
        split: "test" or "testmini"; None for test.
        subjects: some of SUBJECTS; None for all.
        revision: branch, tag or commit on the hub.
        limit: use the first so many rows only.

    Raises:
        ValueError: as BenchmarkDataset; a subject that does not exist.
    """

    def __init__(
        self,
        path: str = "MathLLMs/MathVision",
        *,
        split: str | None = None,
        subjects: Sequence[str] | None = None,
        revision: str | None = None,
        limit: int | None = None,
    ) -> None:
        chosen = check_subjects("MathVision", subjects, SUBJECTS)
        source = open_published(path, split, ["test"], revision=revision)
        if subjects is not None:
            source = select(path, source, lambda row: str(row.get("subject")), chosen)
        super().__init__(path, source, mathvision_columns, limit)


def mathvision_columns(row: Row) -> dict[str, Any]:
    """Return a Problem's columns of a published row.

    Example:
        >>> columns = mathvision_columns({
        ...     "id": "4", "question": "Which is next? <image1>", "options": ["A", "B", "C", "D", "E"], "image": "images/4.jpg",
        ...     "decoded_image": {"bytes": b"...", "path": None}, "answer": "D", "solution": None, "level": 1, "subject": "logic",
        ... })
        >>> columns["problem"], columns["kind"], columns["level"]
        ('Which is next? <image>', 'multiple_choice', 1)
    """
    image, level = present(row, "decoded_image") or present(row, "image"), present(row, "level")
    if image is None:
        raise FieldError("has no image in the published field 'decoded_image'")
    if isinstance(level, bool) or not str(level).isdigit():
        raise FieldError(f"needs a whole number in the published field 'level', which is {level!r}")
    options = present(row, "options") or []
    problem, images = place_images(text_field(row, "question"), {1: image}, options)
    return {
        **without(row, ["id", "answer", "image", "decoded_image", "options", "level", "solution"]),
        "options": options,
        "level": int(level),
        "subject": text_field(row, "subject"),
        "id": text_field(row, "id"),
        "problem": problem,
        "images": images,
        "answer": text_field(row, "answer"),
        "kind": "multiple_choice" if options else "math",
        "reference": present(row, "solution"),
    }
