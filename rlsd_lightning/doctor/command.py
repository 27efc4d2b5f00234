"""The command: one line per check on the first rank, what is not well on the others, and an exit status."""

from __future__ import annotations

import os
import socket
import time

from omegaconf import DictConfig

from rlsd_lightning.doctor.examine import examine
from rlsd_lightning.exp_manager import is_rank_zero

STATUS_FAULT = 1


def doctor(cfg: DictConfig) -> dict[str, float]:
    """Print what every check finds.

    Args:
        cfg: a validated configuration.

    Raises:
        SystemExit: with status 1, if there is a fault.
    """
    started, counts = time.perf_counter(), {"ok": 0, "fault": 0, "warning": 0}
    for finding in examine(cfg):
        counts[finding.level] += 1
        if is_rank_zero():
            print(finding.line, flush=True)
        elif finding.level != "ok" and _speaks_for_its_host():
            print(f"{finding.line} (on {socket.gethostname()})", flush=True)
    if is_rank_zero():
        seconds = time.perf_counter() - started
        told = ", ".join(
            f"{n} {level}{'' if n == 1 else 's'}" for level, n in counts.items() if level != "ok"
        )
        print(f"{sum(counts.values())} checks in {seconds:.0f} s: {told}.")
    if counts["fault"]:
        raise SystemExit(STATUS_FAULT)
    return {}


def _speaks_for_its_host() -> bool:
    """Whether this is the first rank of its host, so that every host says a thing once."""
    return os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")) == "0"
