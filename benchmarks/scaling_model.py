"""What the formulas of `plan` say of growth: ranks, model size, completion length, group size, up to 64 nodes.

    python benchmarks/scaling_model.py            print the tables
    python benchmarks/scaling_model.py --write    put them into docs/scaling.md

Nothing is measured here. All rows are the paper's run (experiment=rlsd_qwen3_vl_8b) with expected lengths, and one
thing changed.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_module

from rlsd_lightning.planning.architecture import read_architecture
from rlsd_lightning.planning.flops import plan_step
from rlsd_lightning.planning.hardware import GIB
from rlsd_lightning.planning.memory import plan_memory
from rlsd_lightning.planning.setup import Setup, num_trainable, read_setup

PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"
LENGTHS = ("plan.prompt_tokens=1400", "plan.reference_tokens=50", "plan.completion_tokens=1500")
NODES = (1, 2, 4, 8, 16, 32, 64)
MODELS = (
    "Qwen/Qwen3-VL-2B-Instruct",
    "Qwen/Qwen3-VL-4B-Instruct",
    "Qwen/Qwen3-VL-8B-Instruct",
    "Qwen/Qwen3-VL-32B-Instruct",
    "Qwen/Qwen3-VL-30B-A3B-Instruct",
)
HEADER = ("memory", "rollout", "teacher", "update", "sync", "step", "tokens/s")
"""GiB of a GPU at its peak, seconds by phase, completion tokens of all ranks a second."""


def base() -> Setup:
    """Return the paper's run with expected lengths."""
    with initialize_config_module("rlsd_lightning.conf", version_base="1.3"):
        return read_setup(compose("config", ["experiment=rlsd_qwen3_vl_8b", *LENGTHS]))


def with_nodes(setup: Setup, num_nodes: int, num_problems: int) -> Setup:
    """Return the run on so many nodes, each rank with so many problems and no more micro-batches than problems."""
    return dataclasses.replace(
        with_work(setup, num_problems=num_problems, num_micro_batches=min(8, num_problems)),
        parallel=dataclasses.replace(setup.parallel, num_nodes=num_nodes),
    )


def with_work(setup: Setup, **changes: int) -> Setup:
    """Return the run with another workload."""
    return dataclasses.replace(setup, workload=dataclasses.replace(setup.workload, **changes))


def with_model(setup: Setup, path: str) -> Setup:
    """Return the run of another model, its teacher being a copy of it."""
    architecture = read_architecture(path)
    return dataclasses.replace(
        setup,
        architecture=architecture,
        teacher_architecture=architecture,
        num_teacher_params=architecture.num_params,
        num_trainable=num_trainable(architecture, freeze_vision=False),
    )


def tables() -> dict[str, str]:
    """Return every table of the page, as Markdown, by its name."""
    run = base()
    gpus = run.parallel.gpus_per_node
    strong = [n for n in NODES if n * gpus <= 256]
    return {
        "same work": _table(
            "nodes",
            {f"{n}": with_nodes(run, n, 256 // (n * gpus)) for n in strong},
        ),
        "more work": _table("nodes", {f"{n}": with_nodes(run, n, 8) for n in NODES}),
        "model": _table("model", {path.split("/")[1]: with_model(run, path) for path in MODELS}),
        "tokens": _table(
            "average (limit)",
            {
                f"{tokens} ({2 * tokens})": with_work(
                    run, completion_tokens=tokens, longest_completion_tokens=2 * tokens
                )
                for tokens in (500, 1000, 2000, 4000, 8000)
            },
        ),
        "group": _table("G", {f"{g}": with_work(run, group_size=g) for g in (2, 4, 8, 16, 32)}),
    }


def _table(name: str, runs: dict[str, Setup]) -> str:
    rows = [[label, *_cells(run)] for label, run in runs.items()]
    return "\n".join(map(_line, [[name, *HEADER], ["---", *["---:"] * len(HEADER)], *rows]))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(run: Setup) -> list[str]:
    memory, step = plan_memory(run), plan_step(run)
    mark = "" if memory.peak <= run.usable_bytes else " (too much)"
    seconds = [step.phases[phase].seconds for phase in ("rollout", "teacher", "update", "sync")]
    return [
        f"{memory.peak / GIB:.0f}{mark}",
        *(f"{value:.1f}" for value in [*seconds, step.seconds]),
        f"{step.completion_tokens / step.seconds:,.0f}",
    ]


def filled(page: str) -> str:
    """Return the page with every table between its two marks renewed."""
    for name, table in tables().items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        pattern = f"{re.escape(begin)}.*?{re.escape(end)}"
        page, count = re.subn(pattern, f"{begin}\n{table}\n{end}", page, flags=re.DOTALL)
        if count != 1:
            raise ValueError(
                f"{PAGE.name} has {count} places for the table {name!r}; it needs one."
            )
    return page


def main() -> None:
    """Print or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="renew docs/scaling.md")
    if parser.parse_args().write:
        PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
        return
    for name, table in tables().items():
        print(f"{name}\n\n{table}\n")


if __name__ == "__main__":
    main()
