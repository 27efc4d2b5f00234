"""A stand-in for SLURM on this machine: `srun` that starts the tasks of a job here, `scontrol` that notes what it is told."""

import os
import subprocess
import sys
from pathlib import Path

SRUN = f"""#!{sys.executable}
import os, signal, subprocess, sys

words = sys.argv[1:]
while words[0].startswith("-"):
    words.pop(0)
tasks = []
for rank in range(int(os.environ["SLURM_NTASKS"])):
    node, place = divmod(rank, int(os.environ["SLURM_NTASKS_PER_NODE"]))
    ids = {{"SLURM_PROCID": str(rank), "SLURM_NODEID": str(node), "SLURM_LOCALID": str(place)}}
    tasks.append(subprocess.Popen(words, env=os.environ | ids))
codes = [task.wait() for task in tasks]
sys.exit(max(128 - code if code < 0 else code for code in codes))
"""
SCONTROL = """#!/bin/bash
echo "$@" >> "$SCONTROL_LOG"
"""
SCRIPT = Path(__file__).parents[2] / "scripts" / "slurm" / "fit.sbatch"


class Slurm:
    """Runs the job script as SLURM would, on two nodes with one task each.

    Args:
        folder: for the stand-ins.
        workdir: where the job runs.
        python: what the script calls python.
    """

    def __init__(self, folder: Path, workdir: Path, python: str = sys.executable) -> None:
        self.workdir = workdir
        self.log = folder / "scontrol.log"
        for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        self.environment = os.environ | {
            "PATH": f"{folder}:{os.environ['PATH']}",
            "PYTHON": python,
            "PYTHONPATH": str(workdir),
            "OMP_NUM_THREADS": "1",
            "SCONTROL_LOG": str(self.log),
            "SLURM_JOB_ID": "4711",
            "SLURM_JOB_NAME": "rlsd",
            "SLURM_NNODES": "2",
            "SLURM_NTASKS": "2",
            "SLURM_NTASKS_PER_NODE": "1",
            "SLURM_NODELIST": "127.0.0.1",
        }

    def start(self, *words: str) -> subprocess.Popen:
        """Start the script."""
        return subprocess.Popen(
            ["bash", str(SCRIPT), *words],
            cwd=self.workdir,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *words: str) -> tuple[int, str]:
        """Run the script to its end; return its exit status and what it said."""
        job = self.start(*words)
        said, _ = job.communicate(timeout=300)
        return job.returncode, said

    def requeues(self) -> list[str]:
        """What scontrol was told, once each."""
        return self.log.read_text().splitlines() if self.log.exists() else []
