"""Completions with verdicts as JSONL: what `python -m rlsd_lightning predict` leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from rlsd_lightning.interfaces import Verifier
from rlsd_lightning.rank_files import of_rank
from rlsd_lightning.verification import verify_batch


class PredictionWriter(Callback):
    """Judges what predict_step returns and appends one line per completion to <dirpath>/<evaluation>.jsonl.

    Acts after each batch (on_predict_batch_end). With several ranks each writes its own file, <evaluation>.rank1.jsonl.

    Args:
        dirpath: where the files go; files of an earlier prediction are replaced.
        verifier: judges the responses.
    """

    def __init__(self, dirpath: str, verifier: Verifier) -> None:
        self._dir = Path(dirpath)
        self._verifier = verifier
        self._started: set[Path] = set()

    def on_predict_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Judge and write one batch."""
        pairs = [(problem, completion) for problem, group in outputs for completion in group]
        verdicts = verify_batch(
            self._verifier, [problem for problem, _ in pairs], [c.text for _, c in pairs]
        )
        path = self._path(list(pl_module.evaluations)[dataloader_idx], trainer.global_rank)
        self._dir.mkdir(parents=True, exist_ok=True)
        with path.open("a" if path in self._started else "w", encoding="utf-8") as file:
            for (problem, completion), verdict in zip(pairs, verdicts, strict=True):
                row = {
                    "problem_id": problem.id,
                    "location": problem.location,
                    "prompt": problem.prompt,
                    "answer": problem.answer,
                    "response": completion.text,
                    "finish_reason": completion.finish_reason,
                    "num_tokens": len(completion.token_ids),
                    "reward": verdict.reward,
                    "correct": verdict.correct,
                    "valid": verdict.valid,
                    "parts": verdict.parts,
                    "reason": verdict.reason,
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._started.add(path)

    def _path(self, evaluation: str, rank: int) -> Path:
        return of_rank(self._dir / f"{evaluation}.jsonl", rank)
