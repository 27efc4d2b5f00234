"""Who may import whom: data goes one way, the core knows no plugin, plugin kinds do not know each other."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLUGIN_ROOMS = ("callbacks", "evaluators", "verifiers")
SHORT_NAMES = (*PLUGIN_ROOMS, "conf")

STATIONS = (
    ("__init__", "torchvision_ops"),
    (
        "types",
        "metrics",
        "interfaces",
        "rank_files",
        "records",
        "stopwatch",
        "step_boundary",
        "spelling",
        "console",
        "peer_watch",
        "phase_watch",
        "torchrun",
    ),
    (
        "data",
        "data.benchmarks",
        "data.problems",
        "data.columns",
        "data.images",
        "data.row_checks",
        "data.sources",
        "data.tables",
    ),
    ("answers", "sandbox"),
    ("scoring",),
    (
        "models",
        "placement",
        "packing",
        "logit_blocks",
        "logprobs",
        "divergence",
        "rescoring",
        "layer_trace",
        "weights",
        "shards",
        "checkpoints",
        "sharded_checkpoints",
    ),
    ("prompts",),
    ("engines",),
    (
        "attacks",
        "verification",
        "verifier_server",
        "verifier_processes",
        "verifier_batch",
        "verifier_pool",
    ),
    ("credit",),
    (
        "data.supply",
        "data.overlength",
        "data.teacher_views",
        "data.refill",
        "data.ahead",
        "data.rollouts",
        "data.collate",
        "data.loader",
        "data.datamodule",
    ),
    ("loss", "teacher", "evidence", "weight_check"),
    ("module",),
    ("strategies",),
    (
        "same_settings",
        "time_limit",
        "last_checkpoint",
        "export",
        "leakage",
        "quickstart",
        "report",
        "responses",
        "run_folder",
        "scoreboard",
        "summary",
    ),
    ("config", "known_keys", "overrides", "rules", "targets", "command_line", "user_errors"),
    ("exp_manager",),
    ("build", "audit", "planning", "serve"),
    ("doctor",),
    ("train",),
    ("__main__",),
)
"""The data's way, in order. A module imports from its own station and from earlier ones. Rooms stand for all of
their files, except for files that have a place of their own."""

NOT_FOR_PLUGINS = ("config", "exp_manager", "build", "train", "__main__")


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@functools.cache
def imports(path: Path) -> tuple[str, ...]:
    """Every module that a file imports, wherever in the file, by its full name."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(names)


def place(name: str) -> tuple[int, str]:
    """The station of a module, or of a name in it, and the entry that it belongs to."""
    inside = name.removeprefix("rlsd_lightning").removeprefix(".") or "__init__"
    entries = [
        (len(entry), number, entry)
        for number, station in enumerate(STATIONS)
        for entry in station
        if inside == entry or inside.startswith(f"{entry}.")
    ]
    assert entries, f"{name} has no place in STATIONS yet: give it one"
    _, number, entry = max(entries)
    return number, entry


def own_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


def ours(path: Path) -> list[str]:
    return [name for name in imports(path) if name.split(".")[0] == "rlsd_lightning"]


@pytest.mark.parametrize("path", python_files("rlsd_lightning"), ids=own_name)
def test_a_station_imports_only_from_earlier_ones(path):
    here, _ = place(own_name(path))
    for name in ours(path):
        if name == "rlsd_lightning.__version__":
            continue
        there, entry = place(name)
        assert there <= here, f"{own_name(path)} comes before {entry}, so it cannot import {name}"


@pytest.mark.parametrize("path", python_files("rlsd_lightning"), ids=own_name)
def test_the_core_knows_no_plugin(path):
    plugins = [
        name for name in ours(path) if name.split(".")[1:2] and name.split(".")[1] in SHORT_NAMES
    ]
    assert plugins == []


@pytest.mark.parametrize("path", python_files(*PLUGIN_ROOMS), ids=own_name)
def test_a_plugin_knows_neither_another_kind_nor_how_runs_are_built(path):
    room = path.relative_to(ROOT).parts[0]
    forbidden = {*PLUGIN_ROOMS, *NOT_FOR_PLUGINS} - {room}
    assert [name for name in ours(path) if name.split(".")[1] in forbidden] == []


@pytest.mark.parametrize(
    "path", python_files("rlsd_lightning", "tests", "benchmarks", *PLUGIN_ROOMS), ids=own_name
)
def test_plugins_are_never_imported_by_their_short_name(path):
    assert [name for name in imports(path) if name.split(".")[0] in SHORT_NAMES] == []


@pytest.mark.parametrize(
    "path", sorted((ROOT / "conf").rglob("*.yaml")), ids=lambda path: path.stem
)
def test_no_yaml_names_a_plugin_by_its_short_name(path):
    assert (
        re.findall(
            rf"_target_:\s*(?:{'|'.join(SHORT_NAMES)})\.\S*", path.read_text(encoding="utf-8")
        )
        == []
    )


PLUGIN_METHODS = {"callbacks": r"on_\w+", "evaluators": "compute|aggregate", "verifiers": "verify"}
"""A file of a plugin room holds a plugin if a public class of it has such a method; the others are helpers."""


def is_plugin(path: Path) -> bool:
    method = re.compile(PLUGIN_METHODS[path.parent.name])
    classes = [
        node
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    ]
    return any(
        isinstance(member, ast.FunctionDef) and method.fullmatch(member.name)
        for node in classes
        if not node.name.startswith("_")
        for member in node.body
    )


PLUGINS = [path for path in python_files(*PLUGIN_ROOMS) if is_plugin(path)]


def test_plugins_are_found():
    names = {own_name(path) for path in PLUGINS}
    assert {"callbacks.lambda_decay", "evaluators.accuracy", "verifiers.math"} <= names
    assert "verifiers.numerals" not in names


@pytest.mark.parametrize("path", PLUGINS, ids=own_name)
def test_every_plugin_can_be_chosen_in_a_yaml(path):
    target = f"_target_: rlsd_lightning.{own_name(path)}."
    assert any(
        target in yaml.read_text(encoding="utf-8") for yaml in (ROOT / "conf").rglob("*.yaml")
    ), f"no yaml in conf/ has {target}"


@pytest.mark.parametrize("path", PLUGINS, ids=own_name)
def test_every_plugin_has_a_test_file(path):
    assert (ROOT / "tests" / path.parent.name / f"test_{path.name}").exists()
