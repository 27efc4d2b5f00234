"""Writes docs/claims.md and its figures from docs/claims/results.csv and about.json, and from nothing else.

    python -m benchmarks.claims.page

The words are in claims.md.j2. Every number, and every sentence that judges one, is made from the files, so the page of
another collection tells what that one found.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from benchmarks.claims import tables, verdicts
from benchmarks.claims.arms import DOCS, Arm, find, of_study, read_arms
from benchmarks.claims.statistics import FRACTIONS
from rlsd_lightning.report.settings import Settings, value_words

_TEMPLATE = "claims.md.j2"
_EMPTY_LINES = re.compile(r"\n{3,}")


def main(words: Sequence[str]) -> int:
    """Write the page and its figures.

    Args:
        words: the command line.

    Returns:
        The exit status, 0.
    """
    from benchmarks.claims.figures import write_figure  # only here: the text needs no matplotlib

    parser = argparse.ArgumentParser(prog="python -m benchmarks.claims.page")
    parser.add_argument("--docs", type=Path, default=DOCS, help="where claims/results.csv lies")
    docs = parser.parse_args(words).docs
    arms = read_arms(docs / "claims" / "results.csv")
    about = json.loads((docs / "claims" / "about.json").read_text(encoding="utf-8"))
    for study in ("main", "long"):
        for task, members in of_study(arms, study).items():
            write_figure(members, docs / figure_path(study, task))
    (docs / "claims.md").write_text(build_page(arms, about), encoding="utf-8")
    print(f"Wrote {docs / 'claims.md'}.")
    return 0


def figure_path(study: str, task: str) -> str:
    """Where a figure lies, from the page's folder."""
    return f"claims/{study}_{task}.svg"


def build_page(arms: Sequence[Arm], about: Mapping[str, Any]) -> str:
    """The page's text.

    Args:
        arms: of results.csv.
        about: about.json.
    """
    main_tasks, long_tasks = of_study(arms, "main"), of_study(arms, "long")
    text = (
        _environment()
        .get_template(_TEMPLATE)
        .render(
            about=about,
            arms=arms,
            studies=study_rows(arms),
            main_tasks=main_tasks,
            long_tasks=long_tasks,
            rate_tasks=of_study(arms, "lr"),
            ablation_tasks=of_study(arms, "ablation"),
            fractions=", ".join(f"{100 * fraction:.0f} %" for fraction in FRACTIONS),
            overtaking=verdicts.overtaking_verdicts(long_tasks, "rlsd"),
            collapse=verdicts.collapse_verdicts(main_tasks),
            base_rate=verdicts.base_rate_verdicts(main_tasks | long_tasks),
            advance=verdicts.advance_verdicts(long_tasks),
            not_won=verdicts.not_won(main_tasks) + verdicts.not_won(long_tasks),
            plus_settings=plus_settings(long_tasks, about["settings"]["by_arm"]),
            shared_settings=setting_rows(about["settings"]["shared"]),
            sampling_error=sampling_error(arms),
        )
    )
    return _EMPTY_LINES.sub("\n\n", text)


def study_rows(arms: Sequence[Arm]) -> str:
    """What was run, one line per study and task."""
    rows = []
    for study in dict.fromkeys(arm.study for arm in arms):
        for task, members in of_study(arms, study).items():
            seeds = sorted({seed for arm in members for seed in arm.seeds})
            steps = sorted({arm.steps[-1] for arm in members})
            labels = ", ".join(f"`{arm.label}`" for arm in members)
            rows.append(
                [
                    f"`{study}`",
                    f"`{task}`",
                    labels,
                    ", ".join(map(str, seeds)),
                    ", ".join(map(str, steps)),
                ]
            )
    return tables.markdown_table(["study", "task", "labels", "seeds", "steps"], rows)


def plus_settings(tasks: Mapping[str, Sequence[Arm]], settings: Mapping[str, Settings]) -> str:
    """How rlsd_plus differs from rlsd, on the first long task that has both; empty if none has."""
    for arms in tasks.values():
        rlsd, plus = find(arms, "rlsd"), find(arms, "rlsd_plus")
        if rlsd is not None and plus is not None:
            return tables.changes(settings[tables.key_of(rlsd)], settings[tables.key_of(plus)])
    return ""


def setting_rows(settings: Settings) -> str:
    """Settings and their values as a table."""
    rows = [[f"`{key}`", f"`{value_words(value)}`"] for key, value in sorted(settings.items())]
    return tables.markdown_table(["setting", "value"], rows)


def sampling_error(arms: Sequence[Arm]) -> str:
    """The standard error of one evaluation of one run at an accuracy of a half, in points, at its largest."""
    return tables.percent(math.sqrt(0.25 / min(arm.num_responses for arm in arms)))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # Markdown of our own numbers
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {
        "tables": tables,
        "verdicts": verdicts,
        "find": find,
        "figure_path": figure_path,
    }
    return environment


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
