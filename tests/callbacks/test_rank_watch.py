"""Ranks in processes of their own, of which one dies or fails: the others end, and say which it was."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import torch

from rlsd_lightning.callbacks.rank_watch import RankWatch
from rlsd_lightning.checkpoints import WholeFileCheckpointIO
from tests.helpers.ranks import without_garbage


class GlooStrategy:
    """What a strategy of Lightning's offers here, over gloo."""

    cluster_environment = SimpleNamespace(main_address="127.0.0.1")

    def broadcast(self, value):
        values = [value]
        torch.distributed.broadcast_object_list(values)
        return values[0]


def trainer_of(rank, world_size):
    return SimpleNamespace(
        world_size=world_size, global_rank=rank, strategy=GlooStrategy(), interrupted=False
    )


def ends(folder, *works, missing_after_s=30):
    """Call works[rank](trainer, watch) on each rank, as a trainer would; return (exit status, what it said) by rank."""
    context = multiprocessing.get_context("fork")
    arguments = [(folder, works, rank, missing_after_s) for rank in range(len(works))]
    processes = [context.Process(target=_run, args=given) for given in arguments]
    with without_garbage():
        for process in processes:
            process.start()
    for process in processes:
        process.join(30)
    return [(p.exitcode, (folder / f"rank{r}.log").read_text()) for r, p in enumerate(processes)]


def _run(folder, works, rank, missing_after_s):
    torch.set_num_threads(1)
    os.dup2(os.open(folder / f"rank{rank}.log", os.O_WRONLY | os.O_CREAT), 2)
    logging.basicConfig(stream=os.fdopen(2, "w"), force=True)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=len(works)
    )
    trainer = trainer_of(rank, len(works))
    watch = RankWatch(str(folder / "checkpoints"), missing_after_s)
    watch.setup(trainer, None, "fit")
    try:
        works[rank](trainer, watch)
    except BaseException as error:
        trainer.interrupted = True
        watch.on_exception(trainer, None, error)
        raise
    watch.teardown(trainer, None, "fit")
    sys.stderr.flush()


def step(trainer, watch):
    """A collective operation that needs every rank."""
    torch.distributed.barrier()


def hang(trainer, watch):
    """A collective operation that no exception ends, as NCCL's."""
    time.sleep(25)


def die(trainer, watch):
    os.kill(os.getpid(), signal.SIGKILL)


def fail(trainer, watch):
    raise ValueError("train.jsonl:17 is bad\nand more")


def test_a_dead_rank_is_named_where_the_connection_breaks_and_where_nothing_moves(tmp_path):
    newest = tmp_path / "checkpoints" / "step_00000004.ckpt"
    WholeFileCheckpointIO().save_checkpoint({"step": 4}, newest)
    broken, dead, hanging = ends(tmp_path, step, die, hang)
    assert dead[0] == -signal.SIGKILL
    for status, said in (broken, hanging):
        assert status == 75
        assert "Rank 1 on " in said
        assert "is missing: its process has ended. A step needs all 3 ranks" in said
        assert f"The newest checkpoint is {newest}: the same command, on all hosts, goes on" in said
    assert "Traceback" not in hanging[1]


def test_a_dead_rank_zero_is_named_too(tmp_path):
    _, broken, hanging = ends(tmp_path, die, step, hang)
    for status, said in (broken, hanging):
        assert status == 75
        assert "Rank 0 on " in said
        assert "There is no checkpoint yet" in said


def test_a_rank_that_fails_tells_why_and_the_others_end_as_failed(tmp_path):
    hanging, (_, own_words) = ends(tmp_path, hang, fail)
    assert hanging[0] == 1
    assert "Rank 1 on " in hanging[1]
    assert "failed: ValueError: train.jsonl:17 is bad. A step needs" in hanging[1]
    assert "and more" not in hanging[1]
    assert "Rank 0" not in own_words


def test_ranks_that_all_fail_blame_nobody(tmp_path):
    for _, said in ends(tmp_path, fail, fail):
        assert "Rank " not in said


def test_a_rank_that_is_about_to_tell_an_error_of_its_own_is_given_the_time(tmp_path):
    """Other callbacks may take seconds, as for a report, before this one hears of the error."""

    def fail_slowly(trainer, watch):
        trainer.interrupted = True
        time.sleep(3.5)
        raise ValueError("own words")

    (status, said), _ = ends(tmp_path, fail_slowly, fail)
    assert status == 1
    assert "Rank " not in said


def test_ranks_that_all_end_say_nothing(tmp_path):
    assert ends(tmp_path, step, step) == [(0, ""), (0, "")]


def test_one_process_has_nobody_to_watch():
    before = threading.active_count()
    watch, trainer = RankWatch("checkpoints"), trainer_of(rank=0, world_size=1)
    watch.setup(trainer, None, "fit")
    watch.on_exception(trainer, None, ValueError())
    watch.teardown(trainer, None, "fit")
    assert threading.active_count() == before


def test_a_rank_must_be_given_time_to_answer():
    with pytest.raises(ValueError, match=r"missing_after_s is 1.0. Needed: 5 or more"):
        RankWatch("checkpoints", 1.0)
