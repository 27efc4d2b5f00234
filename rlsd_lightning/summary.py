"""summary.json: what a run was and what came of it, in one small file beside its checkpoints."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class Summary:
    """The summary of one run; later values replace earlier ones, a resumed run goes on with what it finds.

    Args:
        path: the file.
        is_writer: whether this process writes it; of several ranks only one may.
    """

    def __init__(self, path: Path, is_writer: bool = True) -> None:
        self._path = path
        self._is_writer = is_writer
        self.values: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def write(self, **values: Any) -> None:
        """Set values and write the file whole: a temporary name, then a rename."""
        self.values |= values
        if not self._is_writer:
            return
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.values, indent=2, ensure_ascii=False))
        os.replace(temporary, self._path)


def closing_words(summary: dict[str, Any], run_dir: Path, report: Path) -> str:
    """Say in three lines what was learnt, where the run's folder is, and what to look at.

    Args:
        summary: with the evaluations `warm_start` and `final`, empty where there were none.
        run_dir: the run's folder.
        report: the page.
    """
    changes = [
        f"{name.split('/')[1]} accuracy {summary['warm_start'][name]:.1%} -> {value:.1%}"
        for name, value in summary.get("final", {}).items()
        if name.endswith("/accuracy") and name in summary.get("warm_start", {})
    ]
    learnt = "; ".join(changes) or "no evaluation was asked for (evaluators=none)"
    return (
        f"Learnt in {summary['max_steps']} steps, {summary['seconds']:.0f} s: {learnt}.\n"
        f"Everything of this run is in {run_dir}.\n"
        f"Open {report} in a browser: curves, settings, and samples with their tokens coloured by credit."
    )
