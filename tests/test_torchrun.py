"""What ranks of torchrun tell each other before they form a group."""

import os
import time

from rlsd_lightning import torchrun
from tests.helpers.ranks import run_under_torchrun


def test_every_rank_gets_what_rank_zero_decides_question_by_question():
    def work(rank):
        time.sleep(0.2 * (rank == 0))
        return [torchrun.agreed(lambda place=place: [rank, place]) for place in range(3)]

    assert run_under_torchrun(work, 3) == [[[0, 0], [0, 1], [0, 2]]] * 3


def test_a_start_after_a_fault_asks_anew():
    """torchrun starts all processes again, and its store still has the old answers."""

    def work(rank):
        first = torchrun.agreed(lambda: "old")
        torchrun._number_of_question = iter(range(10))  # as in a new process
        os.environ["TORCHELASTIC_RESTART_COUNT"] = "1"
        return first, torchrun.agreed(lambda: "new")

    assert run_under_torchrun(work) == [("old", "new")] * 2


def test_ranks_wait_for_one_another():
    def work(rank):
        time.sleep(0.5 * rank)
        torchrun.meet()
        return time.monotonic()

    first, second = run_under_torchrun(work)
    assert abs(first - second) < 0.4


def test_a_rank_that_fails_on_its_way_is_named_by_those_that_wait():
    """Those that end because of it are not."""

    def work(rank):
        try:
            if rank == 1:
                raise FileNotFoundError("train.jsonl is not here\nand more")
            time.sleep(0.3 * rank)
            torchrun.meet()
        except Exception as error:
            torchrun.tell_failure(error)
            return str(error)
        return "went on"

    first, _, third = run_under_torchrun(work, 3)
    host = os.uname().nodename
    assert (
        first
        == third
        == (
            f"Rank 1 on {host} failed before training began: FileNotFoundError: train.jsonl is not here. So this rank ends, too."
        )
    )


def test_a_process_that_was_started_alone_has_nobody_to_meet(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    torchrun.meet()
    torchrun.tell_failure(ValueError())


def test_a_store_that_is_gone_does_not_hide_the_error(monkeypatch):
    for name, value in {
        "TORCHELASTIC_RUN_ID": "none",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "1",
        "RANK": "0",
    }.items():
        monkeypatch.setenv(name, value)
    torchrun.tell_failure(ValueError())
