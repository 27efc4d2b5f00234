"""ZeroBench (arXiv:2502.09696) by the fields of jonathan-roberts1/zerobench on the hub: 100 questions, 334 subquestions.

The data set is gated, and carries a canary string: keep it out of training data.
"""

from __future__ import annotations

from typing import Any

from rlsd_lightning.data.benchmarks.dataset import BenchmarkDataset
from rlsd_lightning.data.benchmarks.fields import FieldError, Row, present, text_field, without
from rlsd_lightning.data.benchmarks.opening import open_published
from rlsd_lightning.data.sources import Source, kind_of


class ZeroBench(BenchmarkDataset):
    """ZeroBench's questions ("17") and subquestions ("17_2"), each with one image or several; `extra` has main_question_id.

    Args:
        path: the hub's name, or a local copy.
        split: "zerobench" or "zerobench_subquestions"; None for both.
        revision: branch, tag or commit on the hub.
        limit: use the first so many rows only.

    Raises:
        ValueError: as BenchmarkDataset; the hub refuses the data set, whose terms must be accepted.
    """

    def __init__(
        self,
        path: str = "jonathan-roberts1/zerobench",
        *,
        split: str | None = None,
        revision: str | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(path, _open(path, split, revision), zerobench_columns, limit)


def zerobench_columns(row: Row) -> dict[str, Any]:
    """Return a Problem's columns of a published row.

    Example:
        >>> columns = zerobench_columns({
        ...     "question_id": "17_2", "question_text": "How many?", "question_answer": "3",
        ...     "question_images_decoded": [{"bytes": b"...", "path": None}] * 2,
        ... })
        >>> columns["main_question_id"], len(columns["images"])
        ('17', 2)
    """
    id_ = text_field(row, "question_id")
    images = present(row, "question_images_decoded") or present(row, "question_images")
    if not images:
        raise FieldError("has no image in the published field 'question_images_decoded'")
    used = ["question_id", "question_text", "question_answer"]
    return {
        **without(row, [*used, "question_images", "question_images_decoded"]),
        "main_question_id": id_.partition("_")[0],
        "id": id_,
        "problem": text_field(row, "question_text"),
        "images": images,
        "answer": text_field(row, "question_answer"),
        "kind": "text",
    }


def _open(path: str, split: str | None, revision: str | None) -> Source:
    try:
        return open_published(
            path, split, ["zerobench", "zerobench_subquestions"], revision=revision
        )
    except ValueError as error:
        if kind_of(path) != "hub":
            raise
        raise ValueError(
            f"{error}\nZeroBench is gated: only those who accepted its terms can load it. Needed: your acceptance, given at "
            f"https://huggingface.co/datasets/{path}, and a token of yours. Set the environment variable HF_TOKEN to it, or "
            f"point path at a local copy."
        ) from error
