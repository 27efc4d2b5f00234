"""The shim beside real and pretended torchvisions; in fresh processes, as it has to come before torchvision."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

MODULE = Path(importlib.util.find_spec("rlsd_lightning.torchvision_ops").origin)
REPORT = """
import importlib.util, json, logging, sys
logging.basicConfig(level="INFO", stream=sys.stderr)
spec = importlib.util.spec_from_file_location("shim", sys.argv[1])
shim = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shim)
{before}
calls = [shim.ensure_torchvision_ops() for _ in range(2)]
import torch
declared = hasattr(torch.ops.torchvision, "nms"), hasattr(torch.ops.torchvision, "qnms")
print(json.dumps([calls, declared]))
"""


@pytest.fixture
def pretend(tmp_path):
    """Make a torchvision with given files beside its __init__.py, which stops whoever imports it."""

    def make(**files):
        package = tmp_path / "torchvision"
        package.mkdir()
        (package / "__init__.py").write_text("raise RuntimeError('torchvision was imported')")
        for name, content in files.items():
            path = package / f"{name}.so"
            path.symlink_to(content) if isinstance(content, Path) else path.write_bytes(content)
        return tmp_path

    return make


def run(folder: Path | None, before: str = "") -> tuple[list, str]:
    env = os.environ | ({"PYTHONPATH": str(folder)} if folder else {})
    done = subprocess.run(
        [sys.executable, "-c", REPORT.format(before=before), str(MODULE)],
        env=env,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return json.loads(done.stdout), done.stderr


def test_operators_that_do_not_load_are_declared_once_and_said(pretend):
    (calls, declared), log = run(pretend(_C=b"built for another torch"))
    assert calls == [True, False]
    assert declared == [True, True]
    assert log.count("declared them without kernels") == 1


def test_operators_that_load_are_left_alone(pretend):
    # Any library that this process can load stands in for operators that fit.
    (calls, declared), log = run(pretend(_C=Path(torch._C.__file__)))
    assert calls == [False, False]
    assert declared == [False, False]
    assert "declared" not in log


def test_without_torchvision_nothing_happens():
    away = (
        "from pathlib import Path\n"
        "sys.path[:] = [place for place in sys.path if not (Path(place) / 'torchvision').exists()]"
    )
    (calls, declared), _ = run(None, before=away)
    assert calls == [False, False]
    assert declared == [False, False]


def test_the_package_makes_the_installed_torchvision_importable():
    code = "import rlsd_lightning, torchvision.transforms.v2, torchvision.ops"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
