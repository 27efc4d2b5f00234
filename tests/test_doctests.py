"""Runs the examples in the docstrings of every module, plugins included, by their installed names."""

import doctest
import importlib
import pkgutil

import pytest

import rlsd_lightning

PLUGIN_ROOMS = ("rlsd_lightning.callbacks", "rlsd_lightning.verifiers", "rlsd_lightning.evaluators")


def module_names():
    """List every module: the core's folder, and the plugin rooms, which lie elsewhere until they are installed."""
    packages = [rlsd_lightning, *map(importlib.import_module, PLUGIN_ROOMS)]
    found = {package.__name__ for package in packages}
    for package in packages:
        walked = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        found |= {module.name for module in walked}
    return sorted(found)


@pytest.mark.parametrize("name", module_names())
def test_the_examples_of_every_module_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_examples_are_found():
    assert doctest.testmod(importlib.import_module("rlsd_lightning.packing")).attempted > 0


def test_the_walk_finds_core_rooms_and_plugins():
    assert {
        "rlsd_lightning.packing",
        "rlsd_lightning.data.collate",
        "rlsd_lightning.callbacks.lambda_decay",
        "rlsd_lightning.verifiers.numeric",
    } <= set(module_names())
