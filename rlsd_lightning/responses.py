"""Files of responses: what a test leaves behind as it goes, and what scoring reads without any model.

One JSON object a line: {"id": the problem's, "sample": which of its responses, from 0, "response": text}. `sample` may be
left out where a problem has one response; what else stands in a row is for people.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlsd_lightning.rank_files import of_rank

log = logging.getLogger(__name__)

MAX_LISTED = 5
"""Faults that a message shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One response to one problem."""

    id: str
    """The problem's."""
    sample: int
    """Which of the problem's responses, from 0."""
    text: str
    seconds: float = 0.0
    """What it took to sample: its share of its batch's time."""


def read_responses(path: Path) -> list[Response]:
    """Read a file of responses.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a row that is no response, or two rows for the same sample; with line numbers.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"responses: {path} is not a file. Needed: one JSON object a line with id and response, as `test` writes it. "
            "Correct the path."
        )
    found: dict[tuple[str, int], Response] = {}
    faults = []
    for number, line in _lines(path):
        try:
            response = _response(json.loads(line))
        except ValueError as error:
            faults.append(f"line {number} {error}")
            continue
        key = (response.id, response.sample)
        if key in found:
            faults.append(f"line {number} repeats sample {response.sample} of {response.id!r}")
        found.setdefault(key, response)
    if faults:
        more = f" and {len(faults) - MAX_LISTED} more" if len(faults) > MAX_LISTED else ""
        raise ValueError(
            f"responses: {path}: {'; '.join(faults[:MAX_LISTED])}{more}. Needed: one JSON object a line with id and "
            "response, and with sample (0, 1, ...) where a problem has several. Correct the file."
        )
    return list(found.values())


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield lines that are not blank with their numbers; JSON holds no line feed within a row."""
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line


def _response(row: Any) -> Response:
    if not isinstance(row, dict):
        raise ValueError("is no JSON object")
    identity, text, sample = row.get("id"), row.get("response"), row.get("sample", 0)
    if isinstance(identity, bool) or not isinstance(identity, str | int):
        raise ValueError(f"has the id {identity!r}, which is neither text nor an integer")
    if not isinstance(text, str):
        raise ValueError(f"has the response {text!r}, which is no text")
    if isinstance(sample, bool) or not isinstance(sample, int) or sample < 0:
        raise ValueError(f"has the sample {sample!r}, which is no whole number from 0")
    return Response(
        id=str(identity), sample=sample, text=text, seconds=float(row.get("seconds", 0.0))
    )


class ResponseFolder:
    """The responses of one test, so that an interrupted one goes on without sampling anything twice.

    Each evaluation has <name>.jsonl (further ranks write <name>.rank1.jsonl, ...) and <name>.made_with.json, which
    says what its responses depend on.

    Args:
        folder: where they lie; made when the first is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check(self, name: str, made_with: Mapping[str, Any], *, is_writer: bool) -> None:
        """Make sure that responses of this evaluation, if there are any, were made with the same settings.

        Args:
            name: of the evaluation.
            made_with: what responses depend on, as JSON can hold it.
            is_writer: whether this process notes it; of several ranks only one may.

        Raises:
            ValueError: they were made with other settings; says with which.
        """
        path = self.folder / f"{name}.made_with.json"
        if path.exists():
            noted = json.loads(path.read_text(encoding="utf-8"))
            differing = [
                f"{key} was {noted.get(key)!r} and is {made_with.get(key)!r}"
                for key in sorted({*noted, *made_with})
                if noted.get(key) != made_with.get(key)
            ]
            if differing:
                raise ValueError(
                    f"{self.folder} holds responses of {name} that were made with other settings: {'; '.join(differing)}. "
                    f"Set paths.output to another folder, or remove {name}.* from this one."
                )
        elif is_writer:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".tmp")
            temporary.write_text(json.dumps(made_with, indent=2), encoding="utf-8")
            os.replace(temporary, path)

    def load(self, name: str, samples_per_problem: int) -> dict[str, list[Response]]:
        """Return the responses by problem id, in the order of their samples; problems that have all of theirs only.

        A row that was cut off when the test was stopped counts as not written.
        """
        by_id: dict[str, dict[int, Response]] = {}
        for path in self._files(name):
            for _, line in _lines(path):
                try:
                    response = _response(json.loads(line))
                except ValueError:
                    log.warning("test: a row of %s was cut off in writing.", path)
                    continue
                by_id.setdefault(response.id, {}).setdefault(response.sample, response)
        wanted = range(samples_per_problem)
        return {
            identity: [group[sample] for sample in wanted]
            for identity, group in by_id.items()
            if all(sample in group for sample in wanted)
        }

    def append(self, name: str, responses: Iterable[Response], rank: int) -> None:
        """Add responses; they are on disk when this returns."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.path(name, rank)
        was_cut = path.exists() and path.stat().st_size and not _ends_with_line_feed(path)
        with path.open("a", encoding="utf-8") as file:
            file.write("\n" if was_cut else "")
            _write(file, responses)

    def finish(self, name: str, samples_per_problem: int) -> None:
        """Join what all ranks and all starts have written into <name>.jsonl, every sample once."""
        whole = self.load(name, samples_per_problem)
        main = self.path(name, rank=0)
        temporary = main.with_suffix(".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            _write(file, [response for group in whole.values() for response in group])
        os.replace(temporary, main)
        for path in self._files(name):
            if path != main:
                path.unlink()

    def path(self, name: str, rank: int) -> Path:
        """Return the file that a rank writes."""
        return of_rank(self.folder / f"{name}.jsonl", rank)

    def _files(self, name: str) -> list[Path]:
        main = self.path(name, rank=0)
        return [p for p in (main, *sorted(self.folder.glob(f"{name}.rank*.jsonl"))) if p.exists()]


def _ends_with_line_feed(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _write(file: Any, responses: Iterable[Response]) -> None:
    for response in responses:
        row = {"id": response.id, "sample": response.sample, "response": response.text}
        file.write(json.dumps(row | {"seconds": round(response.seconds, 4)}) + "\n")
