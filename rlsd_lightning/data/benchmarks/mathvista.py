"""MathVista (arXiv:2310.02255) by the fields of AI4Math/MathVista on the hub: 1,000 problems in testmini."""

from __future__ import annotations

from typing import Any

from rlsd_lightning.data.benchmarks.dataset import BenchmarkDataset
from rlsd_lightning.data.benchmarks.fields import FieldError, Row, present, text_field, without
from rlsd_lightning.data.benchmarks.opening import open_published


class MathVista(BenchmarkDataset):
    """MathVista's problems; `extra` has choices, unit, precision (a float), question_type, answer_type, query, and metadata's fields.

    Args:
        path: the hub's name, or a local copy.
        split: "testmini" or "test" (without answers); None for testmini.
        revision: branch, tag or commit on the hub.
        limit: use the first so many rows only.

    Raises:
        ValueError: as BenchmarkDataset.
    """

    def __init__(
        self,
        path: str = "AI4Math/MathVista",
        *,
        split: str | None = None,
        revision: str | None = None,
        limit: int | None = None,
    ) -> None:
        source = open_published(path, split, ["testmini"], revision=revision)
        super().__init__(path, source, mathvista_columns, limit)


def mathvista_columns(row: Row) -> dict[str, Any]:
    """Return a Problem's columns of a published row.

    Example:
        >>> columns = mathvista_columns({
        ...     "pid": "8", "question": "How heavy is it?", "decoded_image": {"bytes": b"...", "path": "8.jpg"},
        ...     "choices": None, "precision": 1.0, "answer": "1.2", "question_type": "free_form", "answer_type": "float",
        ...     "metadata": {"grade": "high school", "skills": ["arithmetic reasoning"]},
        ... })
        >>> columns["kind"], columns["precision"], columns["skills"]
        ('numeric', 1.0, ['arithmetic reasoning'])
    """
    precision, metadata = present(row, "precision"), present(row, "metadata") or {}
    image = present(row, "decoded_image") or present(row, "image")
    if image is None:
        raise FieldError("has no image in the published field 'decoded_image'")
    is_choice = text_field(row, "question_type") == "multi_choice"
    if is_choice and not present(row, "choices"):
        raise FieldError("is a multi_choice question without choices")
    is_number = text_field(row, "answer_type") in ("integer", "float")
    return {
        **without(metadata, []),
        **without(row, ["pid", "answer", "image", "decoded_image", "metadata", "precision"]),
        **({} if precision is None else {"precision": float(precision)}),
        "id": text_field(row, "pid"),
        "problem": text_field(row, "question"),
        "images": [image],
        "answer": text_field(row, "answer"),
        "kind": "multiple_choice" if is_choice else "numeric" if is_number else "text",
    }
