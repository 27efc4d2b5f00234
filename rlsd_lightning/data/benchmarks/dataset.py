"""What the benchmarks' data sets are: problems by index, every row of which was checked before the run."""

from __future__ import annotations

from collections.abc import Callable

from torch.utils.data import Dataset

from rlsd_lightning.data.benchmarks.fields import FieldError, Row
from rlsd_lightning.data.columns import Columns, row_to_problem
from rlsd_lightning.data.images import ImageError, check_image
from rlsd_lightning.data.row_checks import bad_rows_message, check_rows, check_settings
from rlsd_lightning.data.sources import BadRowError, Source
from rlsd_lightning.types import Problem

_ADVICE = "Mend the copy, or download the published data set anew: scores over a part of it compare with nothing."


class BenchmarkDataset(Dataset[Problem]):
    """Problems by index, in the order of the published rows; one bad row refuses the data set.

    Args:
        path: names the data set in messages.
        source: its rows.
        columns: from a row to the columns of a Problem (id, problem, answer, images, kind, reference); what else it
            returns goes to `extra`.
        limit: use the first so many rows only; None for all.

    Raises:
        ValueError: rows that cannot be used, all of them in one message, or no row at all.
    """

    def __init__(
        self, path: str, source: Source, columns: Callable[[Row], Row], limit: int | None
    ) -> None:
        check_settings("error", limit)
        self._source, self._columns = source, columns
        self._num_rows = len(source) if limit is None else min(limit, len(source))
        checked = check_rows(source, self._checked, self._num_rows)
        if checked.bad:
            raise ValueError(bad_rows_message(path, checked.bad, self._num_rows, _ADVICE))
        if not self._num_rows:
            raise ValueError(
                f"data set {path} has no rows. Needed: the published ones. Correct the path or download it anew."
            )

    def __len__(self) -> int:
        return self._num_rows

    def __getitem__(self, index: int) -> Problem:
        row = range(self._num_rows)[index]
        return self._problem(self._source[row], self._source.location(row))

    def _problem(self, row: Row, location: str) -> Problem:
        try:
            columns = self._columns(row)
        except FieldError as error:
            raise BadRowError(location, str(error)) from error
        return row_to_problem(columns, Columns(), location, self._source.root)

    def _checked(self, row: Row, location: str) -> Problem:
        problem = self._problem(row, location)
        for image in problem.images:
            try:
                check_image(image)
            except ImageError as error:
                raise BadRowError(location, str(error)) from error
        return problem
