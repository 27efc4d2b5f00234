"""A rank that is gone ends the others within a minute, with a message that names it."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from rlsd_lightning.checkpoints import newest_in
from rlsd_lightning.peer_watch import Loss, PeerWatch, accept, call, open_hub

log = logging.getLogger(__name__)

STATUS_MISSING = 75
"""Exit status after a rank went missing: the same command may be started again (EX_TEMPFAIL of sysexits.h)."""
STATUS_FAILED = 1
"""Exit status after a rank failed with an error of its own."""
_GRACE_S = 2.0
"""Time for an error of this rank to show itself before another rank is blamed."""
_LAST_S = 15.0
"""Time for a rank that is ending to tidy up, which a collective operation may keep it from."""


class RankWatch(Callback):
    """Watches all ranks of a training run; does nothing in a run of one process.

    Acts from setup to teardown, in a thread beside whatever the rank does. List it last: on_exception waits for the
    name of the missing rank where a connection broke, and ends the process.

    Args:
        checkpoint_dir: where the message looks for the checkpoint to go on from.
        missing_after_s: a rank that is not heard of for so long is missing. Beats need Python to run now and then: set
            it above the longest call that holds the interpreter's lock.
    """

    def __init__(self, checkpoint_dir: str, missing_after_s: float = 45.0) -> None:
        if missing_after_s < 5:
            raise ValueError(
                f"callbacks.rank_watch.missing_after_s is {missing_after_s}. Needed: 5 or more seconds, as a busy rank "
                "answers late. Raise it (default: 45)."
            )
        self._checkpoint_dir = Path(checkpoint_dir)
        self._missing_after_s = missing_after_s
        self._watch: PeerWatch | None = None
        self._trainer: lightning.Trainer | None = None

    def setup(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        """Lay the lines between the ranks."""
        if trainer.world_size == 1:
            return
        self._trainer = trainer
        rank, token = trainer.global_rank, secrets.token_hex(8)
        if rank == 0:
            with open_hub() as hub:
                trainer.strategy.broadcast((hub.getsockname()[1], token))
                lines = accept(hub, token, trainer.world_size - 1)
        else:
            port, token = trainer.strategy.broadcast(None)
            lines = [call(trainer.strategy.cluster_environment.main_address, port, token, rank)]
        self._watch = PeerWatch(rank, lines, self._missing_after_s, self._on_loss)
        self._watch.start()

    def teardown(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        """Leave the others without alarm."""
        if self._watch is not None:
            self._watch.leave()
            self._watch = None

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException
    ) -> None:
        """Turn a broken connection into the name of the missing rank; tell the others of any other error."""
        if self._watch is None:
            return
        if is_broken_connection(exception):
            loss = self._watch.wait_for_loss(self._missing_after_s + _GRACE_S)
            if loss is not None:
                log.error(self._message(loss))
                raise SystemExit(_status(loss)) from exception
        first_line = next(iter(str(exception).splitlines()), "")
        self._watch.fail(f"{type(exception).__name__}: {first_line}")
        self._watch = None

    def _on_loss(self, loss: Loss) -> None:
        """End this process, which may hang in a collective operation that no exception could interrupt."""
        time.sleep(_GRACE_S)
        assert self._trainer is not None
        if self._trainer.interrupted:  # it has noticed and is about to end in its own way
            time.sleep(_LAST_S)
        else:
            log.error(self._message(loss))
        os._exit(_status(loss))

    def _message(self, loss: Loss) -> str:
        assert self._trainer is not None
        newest = newest_in(self._checkpoint_dir)
        what = f"failed: {loss.reason}" if loss.is_failure else f"is missing: {loss.reason}"
        again = (
            "There is no checkpoint yet, so the same command starts from scratch"
            if newest is None
            else f"The newest checkpoint is {newest}: the same command, on all hosts, goes on from there"
        )
        return (
            f"Rank {loss.rank} on {loss.host} {what}. A step needs all {self._trainer.world_size} ranks, so rank "
            f"{self._trainer.global_rank} on {socket.gethostname()} ends, too. {again}."
        )


def is_broken_connection(error: BaseException) -> bool:
    """Whether an error is what a rank sees when another one disappears in a collective operation.

    gloo raises a RuntimeError that names its source file; NCCL and the store have classes of their own.
    """
    if isinstance(error, torch.distributed.DistError):
        return True
    return isinstance(error, RuntimeError) and "gloo" in str(error)


def _status(loss: Loss) -> int:
    return STATUS_FAILED if loss.is_failure else STATUS_MISSING
