"""Ranks with different settings are refused, with the first one that differs."""

import os
from types import SimpleNamespace

from rlsd_lightning.same_settings import SameSettings, difference
from tests.helpers.ranks import run_ranks

SETTINGS = {"optim.lr": 1e-6, "optim.betas": [0.9, 0.99], "seed": 1}


def refusals(*settings):
    """What each of as many ranks says; nothing if it goes on."""

    def work(rank):
        trainer = SimpleNamespace(world_size=len(settings))
        try:
            SameSettings(settings[rank]).setup(trainer, None, "fit")
        except ValueError as error:
            return str(error)
        return ""

    return run_ranks(work, len(settings))


def test_ranks_with_the_same_settings_go_on():
    assert refusals(SETTINGS, dict(reversed(SETTINGS.items()))) == ["", ""]


def test_every_rank_says_in_which_setting_they_differ_first():
    host = os.uname().nodename
    said = refusals(SETTINGS, SETTINGS, SETTINGS | {"seed": 2, "optim.betas": [0.9, 0.95]})
    assert len(set(said)) == 1
    assert said[0].startswith(
        f"Ranks were started with different settings: optim.betas is [0.9, 0.99] on rank 0 ({host}) and [0.9, 0.95] "
        f"on rank 2 ({host}) (and 1 more differ). Needed: the same on every rank. Start all"
    )


def test_a_setting_that_one_rank_does_not_have_differs():
    assert "seed is 1 on rank 0 (a) and None on rank 1 (b)" in difference(
        ["a", "b"], [{"seed": 1}, {}]
    )


def test_versions_of_packages_are_settings_too():
    """Rank 1 claims another version than is installed."""
    said = refusals(SETTINGS, SETTINGS | {"version of torch": "1.0"})
    assert "version of torch is '" in said[0]
    assert "and '1.0' on rank 1" in said[0]


def test_one_process_has_nobody_to_ask():
    SameSettings(SETTINGS).setup(SimpleNamespace(world_size=1), None, "fit")
