"""The command `plan`: what a run would cost, without weights, data or GPUs."""

from __future__ import annotations

from omegaconf import DictConfig

from rlsd_lightning.planning.advice import advise, excess
from rlsd_lightning.planning.flops import plan_step
from rlsd_lightning.planning.hardware import GIB
from rlsd_lightning.planning.memory import plan_memory
from rlsd_lightning.planning.page import page
from rlsd_lightning.planning.setup import read_setup


def plan(cfg: DictConfig) -> dict[str, float]:
    """Print what a run would need, whether it fits, and what to change if not."""
    setup = read_setup(cfg)
    memory, step = plan_memory(setup), plan_step(setup)
    fits = excess(setup) == 0
    print(page(cfg.model.path, setup, memory, step, [] if fits else advise(setup)))
    return {
        "plan/peak_gib": memory.peak / GIB,
        "plan/fits": float(fits),
        "plan/seconds_per_step": step.seconds,
    }
