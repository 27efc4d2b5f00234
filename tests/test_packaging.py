"""The wheel holds everything, under one name, and runs from any folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

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
