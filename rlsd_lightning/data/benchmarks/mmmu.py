"""MMMU (arXiv:2311.16502) by the fields of MMMU/MMMU on the hub: 30 subjects, a configuration each, 30 problems in validation.

Options are published as the repr of a list, and so are answers where several are accepted (3 of 900): the official
answer_dict_val.json has real lists, without which these could never be right.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from rlsd_lightning.data.benchmarks.dataset import BenchmarkDataset
from rlsd_lightning.data.benchmarks.fields import FieldError, Row, present, text_field, without
from rlsd_lightning.data.benchmarks.marks import place_images
from rlsd_lightning.data.benchmarks.opening import check_subjects, open_published, select

SUBJECTS = (
    "Accounting",
    "Agriculture",
    "Architecture_and_Engineering",
    "Art",
    "Art_Theory",
    "Basic_Medical_Science",
    "Biology",
    "Chemistry",
    "Clinical_Medicine",
    "Computer_Science",
    "Design",
    "Diagnostics_and_Laboratory_Medicine",
    "Economics",
    "Electronics",
    "Energy_and_Power",
    "Finance",
    "Geography",
    "History",
    "Literature",
    "Manage",
    "Marketing",
    "Materials",
    "Math",
    "Mechanical_Engineering",
    "Music",
    "Pharmacy",
    "Physics",
    "Psychology",
    "Public_Health",
    "Sociology",
)
"""The configurations on the hub."""
_IMAGES = {f"image_{number}": number for number in range(1, 8)}


class MMMU(BenchmarkDataset):
    """MMMU's problems; `extra` has options (a list; absent for open questions), answers (where several are accepted), question, ...

    Args:
        path: the hub's name, or a local copy: a folder with a folder for each subject, or all rows together.
        split: "dev", "validation" or "test" (without answers); None for validation.
        subjects: some of SUBJECTS; None for all.
        revision: branch, tag or commit on the hub.
        limit: use the first so many rows only.

    Raises:
        ValueError: as BenchmarkDataset; a subject that does not exist.
    """

    def __init__(
        self,
        path: str = "MMMU/MMMU",
        *,
        split: str | None = None,
        subjects: Sequence[str] | None = None,
        revision: str | None = None,
        limit: int | None = None,
    ) -> None:
        chosen = check_subjects("MMMU", subjects, SUBJECTS)
        source = open_published(path, split, ["validation"], revision=revision, names=chosen)
        if subjects is not None:
            source = select(path, source, lambda row: subject_of(str(row.get("id"))), chosen)
        super().__init__(path, source, mmmu_columns, limit)


def subject_of(id_: str) -> str:
    """Return the subject that a problem's id names: what is between its first and its last "_".

    Example:
        >>> subject_of("validation_Art_Theory_12")
        'Art_Theory'
    """
    return id_.partition("_")[2].rpartition("_")[0]


def mmmu_columns(row: Row) -> dict[str, Any]:
    """Return a Problem's columns of a published row.

    Example:
        >>> columns = mmmu_columns({
        ...     "id": "validation_Art_1", "question": "Who painted <image 1>?", "options": "['Monet', 'Manet']",
        ...     "image_1": {"bytes": b"...", "path": "1.png"}, "image_2": None, "answer": "A",
        ...     "question_type": "multiple-choice",
        ... })
        >>> columns["problem"], columns["options"], columns["kind"]
        ('Who painted <image>?', ['Monet', 'Manet'], 'multiple_choice')
    """
    question, options = text_field(row, "question"), _options(row)
    images = {
        number: row[name] for name, number in _IMAGES.items() if present(row, name) is not None
    }
    problem, ordered = place_images(question, images, options)
    is_choice = text_field(row, "question_type") == "multiple-choice"
    if is_choice and not options:
        raise FieldError("is a multiple-choice question without options")
    published = present(row, "answer")
    answer = str(published) if isinstance(published, list) else text_field(row, "answer")
    accepted = [] if is_choice else _list_of_texts(answer)
    return {
        **without(row, ["id", "answer", "options", "explanation", *_IMAGES]),
        **({"options": options} if options else {}),
        **({"answers": accepted} if accepted else {}),
        "id": text_field(row, "id"),
        "problem": problem,
        "images": ordered,
        "answer": answer,
        "kind": "multiple_choice" if is_choice else "text",
        "reference": present(row, "explanation"),
    }


def _options(row: Row) -> list[str]:
    published = present(row, "options")
    if isinstance(published, list) and all(isinstance(option, str) for option in published):
        return published
    if published is None or published == "[]":
        return []
    options = _list_of_texts(published) if isinstance(published, str) else []
    if not options:
        raise FieldError(
            f"has the options {published!r}; needed: a list of texts, or its repr as published"
        )
    return options


def _list_of_texts(published: str) -> list[str]:
    """Return the list that a published text spells; none where it spells something else, as "[0, 1)" does."""
    if not published.strip().startswith("["):
        return []
    try:
        found = ast.literal_eval(published.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    return found if isinstance(found, list) and all(isinstance(text, str) for text in found) else []
