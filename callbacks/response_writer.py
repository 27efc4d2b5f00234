"""Responses as JSONL while a test goes on, so that an interrupted one never samples anything twice."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from rlsd_lightning.responses import Response, ResponseFolder

log = logging.getLogger(__name__)


class ResponseWriter(Callback):
    """Appends what predict_step returns to <dirpath>/<evaluation>.jsonl, one row per response.

    Acts after each batch (on_predict_batch_end), and says how far it is. With several ranks each writes its own file until the test has ended.

    Args:
        dirpath: where the files go; see rlsd_lightning.responses.
    """

    def __init__(self, dirpath: str) -> None:
        self._folder = ResponseFolder(Path(dirpath))
        self._started = 0.0

    def on_predict_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Note the time."""
        self._started = time.perf_counter()

    def on_predict_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write one batch; its seconds are spread evenly over its responses."""
        num_responses = sum(len(group) for _, group in outputs)
        seconds = time.perf_counter() - self._started
        share = seconds / max(1, num_responses)
        responses = [
            Response(id=problem.id, sample=sample, text=completion.text, seconds=share)
            for problem, group in outputs
            for sample, completion in enumerate(group)
        ]
        name = pl_module.evaluation_name(dataloader_idx)
        self._folder.append(name, responses, trainer.global_rank)
        if trainer.global_rank == 0:  # all ranks have equally many batches
            num_batches = trainer.num_predict_batches[dataloader_idx]
            log.info("%s: batch %d of %d in %.1f s.", name, batch_idx + 1, num_batches, seconds)
