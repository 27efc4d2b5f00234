"""The command as a user types it, on a workplace where much is wrong, and by torchrun."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.workplace import SMALL


def levels(stdout: str) -> dict[str, str]:
    """The level of each check, by its name."""
    lines = [
        re.match(r"(ok|warning|fault) +(\S+(?: \S+)?)  ", line) for line in stdout.splitlines()
    ]
    return {line[2]: line[1] for line in lines if line}


@pytest.fixture
def broken(workplace: Path) -> Path:
    """A data set with a cut image and a row without problem, whose other answers the verifier refuses."""
    folder = workplace / "data" / "broken"
    folder.mkdir(exist_ok=True)
    rows = (workplace / "data" / "quickstart" / "data" / "train.jsonl").read_text().splitlines()[:6]
    written = []
    for number, row in enumerate(map(json.loads, rows)):
        image = workplace / "data" / "quickstart" / "data" / row["images"][0]
        (folder / f"{number}.png").write_bytes(image.read_bytes()[: 100 if number == 1 else None])
        written.append(row | {"images": [f"{number}.png"], "answer": "many"})
    del written[3]["problem"]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in written))
    return folder / "train.jsonl"


def test_every_fault_is_told_and_none_keeps_the_others_from_being_looked_at(rlsd, broken):
    words = [word for word in SMALL if not word.startswith(("verifier=", "--config-dir"))]
    done = rlsd(
        "doctor",
        *words,
        f"data.train.path={broken}",
        "paths.runs=/proc/runs",
        f"model.path={broken.parent}/nothing",
        "trainer.accelerator=auto",
    )
    assert done.returncode == 1, done.stderr
    assert levels(done.stdout) == {
        "packages": "ok",
        "GPUs": "warning",
        "ranks": "ok",
        "settings": "ok",
        "disk": "fault",
        "data": "fault",
        "gold answers": "fault",
        "model": "fault",
        "prompts": "warning",
        "spans": "warning",
        "log-probs": "warning",
    }
    said = " ".join(done.stdout.split())
    assert "2 of the first 6 rows cannot be used" in said
    assert "refuses 0 of 4 gold answers, cannot judge 4" in said
    assert "neither a folder with a config.json nor a model" in said
    assert done.stdout.splitlines()[-1].endswith("4 faults, 4 warnings.")
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [("1", "1"), ("1", "2")], ids=["same", "different"])
def test_ranks_of_torchrun_are_compared(workplace, tmp_path, seeds):
    """A shell between torchrun and doctor gives each rank its own seed."""
    script = tmp_path / "rank.sh"
    ddp = "trainer=ddp trainer.accelerator=cpu trainer.devices=2 trainer.precision=32-true"
    script.write_text(
        f"#!/bin/bash\nseeds=({' '.join(seeds)})\n"
        f'exec {sys.executable} -m rlsd_lightning doctor "$@" {ddp} seed=${{seeds[$RANK]}}\n'
    )
    script.chmod(0o755)
    words = [w for w in SMALL if not w.startswith("verifier=")]
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "torch.distributed.run",
                "--standalone",
                "--nproc-per-node",
                "2",
            ),
            *("--no-python", str(script), *words),
        ],
        cwd=workplace,
        env=os.environ | {"PYTHONPATH": str(workplace), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = levels(done.stdout)
    assert found["ranks"] == "ok", done.stderr
    assert "gloo over 2 ranks on 1 host adds 16 MiB up right" in done.stdout
    assert found["settings"] == ("ok" if len(set(seeds)) == 1 else "fault")
    assert (done.returncode == 0) is (len(set(seeds)) == 1)
    if len(set(seeds)) == 2:
        assert "seed is 1 on rank 0" in done.stdout
