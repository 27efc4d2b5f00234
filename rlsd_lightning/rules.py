"""What must hold between the groups of a configuration for a command: one small function per rule.

A rule yields a line per fault and says nothing about values that are missing or of the wrong type: other checks do.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

Tree = dict[str, Any]


def enough_completions(tree: Tree) -> Iterator[str]:
    """A group needs two completions, a step one problem."""
    group_size = _number(tree, "rollout.group_size")
    if group_size is not None and group_size < 2:
        yield (
            f"rollout.group_size is {group_size}, so every advantage would be 0. "
            "Set it to 2 or more (RLSD's launch script: 8)."
        )
    problems = _number(tree, "rollout.problems_per_step")
    if problems is not None and problems < 1:
        yield f"rollout.problems_per_step is {problems}. Set it to 1 or more (RLSD's launch script: 256)."


def run_has_an_end(tree: Tree) -> Iterator[str]:
    """The train loader is sized by max_steps, so epochs mean nothing here."""
    max_steps = _value(tree, "trainer.max_steps")
    if max_steps is None or (isinstance(max_steps, int) and max_steps < 1):
        yield (
            f"trainer.max_steps is {max_steps}, but the run's length is counted in optimizer steps. "
            "Set it to 1 or more (RLSD: 200)."
        )
    max_epochs = _value(tree, "trainer.max_epochs")
    if max_epochs not in (-1, None):
        yield (
            f"trainer.max_epochs is {max_epochs}, which would have no effect: a run is trainer.max_steps steps, "
            "however often they go through the problems. Leave it at -1 and set trainer.max_steps."
        )


def problems_are_shared_out(tree: Tree) -> Iterator[str]:
    """Every process takes the same number of problems."""
    problems, processes = _number(tree, "rollout.problems_per_step"), _processes(tree)
    if problems is not None and problems % processes:
        yield (
            f"rollout.problems_per_step is {problems}, which {processes} processes (trainer.devices x num_nodes) "
            f"cannot share evenly. Set it to a multiple of {processes}."
        )


def micro_batches_are_filled(tree: Tree) -> Iterator[str]:
    """Every micro-batch of a step gets at least one completion on every process."""
    num_micro_batches = _number(tree, "trainer.accumulate_grad_batches")
    problems, group_size = (
        _number(tree, "rollout.problems_per_step"),
        _number(tree, "rollout.group_size"),
    )
    if num_micro_batches is None or problems is None or group_size is None:
        return
    completions = problems * group_size // _processes(tree)
    if not 1 <= num_micro_batches <= completions:
        yield (
            f"trainer.accumulate_grad_batches is {num_micro_batches}, but a step has {completions} completions on each "
            f"process to cut into micro-batches. Set it between 1 and {completions}."
        )


def loggers_are_installed(tree: Tree) -> Iterator[str]:
    """A logger is made when the weights are there already; that its package is missing can be known now."""
    for package in ("wandb", "tensorboard"):
        wanted = _value(tree, f"exp_manager.create_{package}_logger")
        if wanted and importlib.util.find_spec(package) is None:
            yield (
                f"exp_manager.create_{package}_logger is true, but the package {package} is not installed. "
                f"Install it (pip install {package}), or choose logger=csv."
            )


def responses_are_named(tree: Tree) -> Iterator[str]:
    """Scoring needs something to score."""
    if _value(tree, "responses") is None:
        yield (
            "responses is null, so there is nothing to score. Set it to a file of responses, such as "
            "responses=mathvision.jsonl, or to a folder with <evaluator>.jsonl."
        )


RULES: dict[str, tuple[Callable[[Tree], Iterator[str]], ...]] = {
    "fit": (
        enough_completions,
        run_has_an_end,
        problems_are_shared_out,
        micro_batches_are_filled,
        loggers_are_installed,
    ),
    "score": (responses_are_named,),
}
"""Those of each command, in the order in which faults are told."""


def _value(tree: Tree, path: str) -> Any:
    """Return what stands at a path; None where there is nothing."""
    for key in path.split("."):
        tree = tree.get(key) if isinstance(tree, dict) else None  # type: ignore[assignment]
    return tree


def _number(tree: Tree, path: str) -> int | None:
    """Return the whole number at a path; None where there is none."""
    value = _value(tree, path)
    return value if isinstance(value, int) else None


def _processes(tree: Tree) -> int:
    """Return how many processes there will be, as far as the configuration says; devices may be "auto"."""
    devices, num_nodes = _number(tree, "trainer.devices"), _number(tree, "trainer.num_nodes")
    return max(devices or 1, 1) * max(num_nodes or 1, 1)
