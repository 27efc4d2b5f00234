"""Writes what the policy wrote: one JSONL file per optimizer step, one row per completion."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

from rlsd_lightning.data.images import image_key, load_image
from rlsd_lightning.records import (
    Decode,
    TokenRecord,
    completion_row,
    decoder,
    token_columns,
    write_atomically,
)

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


class RolloutRecorder(Callback):
    """Records completions with verdicts, and every few steps the numbers of every token.

    Works in on_train_batch_end, after the optimizer step of a step's last micro-batch, from the module's
    output {"record": TokenRecord} and the logged credit/lambda. The first, the middle and the last step of the run always get their tokens.
    A step that is trained again after a resume overwrites its file with the same content.

    Args:
        dirpath: folder of step_00000012.jsonl (one file per rank if there are several: ...rank003.jsonl); images
            that are not files yet are saved once under images/.
        every_n_steps: record every n-th step.
        tokens_every_n_steps: record tokens every n-th step.
        max_per_step: completions kept per step and rank, whole groups first; None keeps all.
    """

    def __init__(
        self,
        dirpath: str | Path,
        every_n_steps: int = 1,
        tokens_every_n_steps: int = 10,
        max_per_step: int | None = None,
    ) -> None:
        limits = {"every_n_steps": every_n_steps, "tokens_every_n_steps": tokens_every_n_steps}
        if max_per_step is not None:
            limits["max_per_step"] = max_per_step
        faults = [f"{name} is {value}" for name, value in limits.items() if value < 1]
        if faults:
            raise ValueError(
                f"rollout_recorder: {' and '.join(faults)}, needs 1 or more. "
                "To record nothing, leave the callback out (~callbacks.rollout_recorder)."
            )
        self.dirpath = Path(dirpath)
        self.every_n_steps = every_n_steps
        self.tokens_every_n_steps = tokens_every_n_steps
        self.max_per_step = max_per_step
        self._pending: list[TokenRecord] = []
        self._images: dict[str, list[str]] = {}
        # paths by problem id, so that a group's images are looked at once

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the half of a step that an interrupted fit may have left."""
        self._pending, self._images = [], {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the micro-batch; write the step's file once its optimizer step is done."""
        record: TokenRecord = outputs["record"]
        landmarks = landmark_steps(trainer)
        if record.step % self.every_n_steps and record.step not in landmarks:
            return
        self._pending.append(record)
        if trainer.global_step < record.step:
            return
        with_tokens = record.step % self.tokens_every_n_steps == 0 or record.step in landmarks
        decode = decoder(pl_module.encoder.tokenizer) if with_tokens else None
        lambda_ = trainer.callback_metrics.get("credit/lambda")
        rows = [self._row(*place, lambda_, decode) for place in self._places()]
        lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
        write_atomically(self._path(trainer, record.step), "".join(lines).encode())
        self._pending, self._images = [], {}

    def _places(self) -> list[tuple[TokenRecord, int]]:
        """Order the pending completions so that those of one problem lie side by side, and keep the first."""
        groups: dict[str, list[tuple[TokenRecord, int]]] = {}
        for record in self._pending:
            for index, rollout in enumerate(record.rollouts):
                groups.setdefault(rollout.problem.id, []).append((record, index))
        return [place for group in groups.values() for place in group][: self.max_per_step]

    def _row(
        self, record: TokenRecord, index: int, lambda_: Any | None, decode: Decode | None
    ) -> dict[str, Any]:
        problem = record.rollouts[index].problem
        if problem.id not in self._images:
            self._images[problem.id] = [image_path(image, self.dirpath) for image in problem.images]
        row = completion_row(
            record.rollouts[index],
            step=record.step,
            lambda_=None if lambda_ is None else float(lambda_),
            images=self._images[problem.id],
        )
        return row if decode is None else row | token_columns(record, index, decode)

    def _path(self, trainer: Trainer, step: int) -> Path:
        rank = f".rank{trainer.global_rank:03d}" if trainer.world_size > 1 else ""
        return self.dirpath / f"step_{step:08d}{rank}.jsonl"


def landmark_steps(trainer: Trainer) -> Sequence[int]:
    """The first, middle and last optimizer step of the run; the first alone while the end is unknown."""
    last = trainer.max_steps if trainer.max_steps > 0 else trainer.estimated_stepping_batches
    return (1,) if last == float("inf") else (1, (int(last) + 1) // 2, int(last))


def image_path(source: Any, dirpath: Path) -> str:
    """Say where an image can be found again, saving it if it only lives in memory.

    Args:
        source: a path, encoded bytes, a `datasets` image dict or a PIL image.
        dirpath: the recorder's folder.

    Returns:
        An absolute path, or one relative to `dirpath` for an image that is saved there.
    """
    if isinstance(source, str | Path):
        return str(Path(source).absolute())
    image = load_image(source)
    name = f"images/{image_key(image)}.png"
    if not (dirpath / name).exists():
        png = io.BytesIO()
        image.save(png, "PNG")
        write_atomically(dirpath / name, png.getvalue())
    return name
