"""Training with processes of their own that judge: same weights, and none of them left behind."""

import csv
from pathlib import Path

import torch

from tests.helpers.workplace import SMALL, checkpoint


def test_judging_in_other_processes_changes_no_weight(workplace, rlsd, straight):
    done = rlsd(
        "fit", *SMALL, "teacher.every_n_steps=2", "verification.workers=2", "paths.runs=pooled"
    )
    assert done.returncode == 0, done.stderr
    wanted, found = (checkpoint(workplace, runs)["state_dict"] for runs in ("runs", "pooled"))
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    [metrics] = (workplace / "pooled").rglob("metrics.csv")
    with metrics.open() as file:
        timeouts = {row["verify/timeouts"] for row in csv.DictReader(file)} - {""}
    assert {float(count) for count in timeouts} == {0.0}
    assert not servers(workplace)


def servers(workplace):
    """Command lines of running servers that know this workplace."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"verifier_server" in line and str(workplace).encode() in line:
            found.append(line)
    return found
