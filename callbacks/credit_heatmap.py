"""Shows which tokens got the credit: one page and one picture per chosen step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

from rlsd_lightning.callbacks.rollout_recorder import landmark_steps
from rlsd_lightning.data.images import describe_image
from rlsd_lightning.records import Decode, TokenRecord, completion_row, decoder, token_columns
from rlsd_lightning.report.heatmap import Group, StepCredit, influence, write_heatmap
from rlsd_lightning.report.images import as_picture
from rlsd_lightning.report.samples import verdict

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

Place = tuple[TokenRecord, int]
"""A completion: its micro-batch and its place on axis B."""


class CreditHeatmap(Callback):
    """Writes step_00000010.html and step_00000010.png, tokens coloured by credit, the most influential problems first.

    Works in on_train_batch_end, after the optimizer step of a step's last micro-batch, from the module's
    output {"record": TokenRecord} and the logged credit/lambda. The first, the middle and the last step of the run are
    always shown. With several ranks the page shows those completions that rank zero trained on, and says so: nothing
    is gathered, so no rank waits for another. Influence is that of rlsd_lightning.report.heatmap.influence.

    Args:
        dirpath: folder of the pages.
        every_n_steps: show every n-th step.
        max_problems: problems on a page; fewer if they would make it larger than 5 MB.
        max_completions: completions shown of a problem.
    """

    def __init__(
        self,
        dirpath: str | Path,
        every_n_steps: int = 10,
        max_problems: int = 8,
        max_completions: int = 8,
    ) -> None:
        limits = {
            "every_n_steps": every_n_steps,
            "max_problems": max_problems,
            "max_completions": max_completions,
        }
        faults = [f"{name} is {value}" for name, value in limits.items() if value < 1]
        if faults:
            raise ValueError(
                f"credit_heatmap: {' and '.join(faults)}, needs 1 or more. "
                "To draw nothing, leave the callback out (~callbacks.credit_heatmap)."
            )
        self.dirpath = Path(dirpath)
        self.every_n_steps = every_n_steps
        self.max_problems = max_problems
        self.max_completions = max_completions
        self._pending: list[TokenRecord] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the half of a step that an interrupted fit may have left."""
        self._pending = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the micro-batch; draw the step once its optimizer step is done."""
        record: TokenRecord = outputs["record"]
        if not trainer.is_global_zero:
            return
        if record.step % self.every_n_steps and record.step not in landmark_steps(trainer):
            return
        self._pending.append(record)
        if trainer.global_step < record.step:
            return
        lambda_ = trainer.callback_metrics.get("credit/lambda")
        content = self._content(
            record.step,
            decoder(pl_module.encoder.tokenizer),
            None if lambda_ is None else float(lambda_),
            _scope(trainer.world_size),
        )
        write_heatmap(content, self.dirpath)
        self._pending = []

    def _content(self, step: int, decode: Decode, lambda_: float | None, scope: str) -> StepCredit:
        """Choose what may be shown; only that is decoded."""
        by_problem: dict[str, list[Place]] = {}
        for record in self._pending:
            for index, rollout in enumerate(record.rollouts):
                by_problem.setdefault(rollout.problem.id, []).append((record, index))
        groups = sorted(by_problem.values(), key=_group_influence, reverse=True)
        return StepCredit(
            step=step,
            groups=[self._group(places, decode, lambda_) for places in groups[: self.max_problems]],
            num_problems=len(groups),
            num_completions=sum(map(len, groups)),
            scope=scope,
        )

    def _group(self, places: list[Place], decode: Decode, lambda_: float | None) -> Group:
        alike: dict[tuple[int, ...], list[Place]] = {}
        for place in sorted(places, key=_influence, reverse=True):
            alike.setdefault(tuple(_rollout(place).completion.token_ids), []).append(place)
        problem = _rollout(places[0]).problem
        rows = [
            (_row(same[0], decode, lambda_), len(same))
            for same in list(alike.values())[: self.max_completions]
        ]
        return Group(
            rows=rows,
            verdicts=[verdict(_judged(place)) for place in places],
            pictures=[as_picture(describe_image(image), image) for image in problem.images],
        )


def _scope(num_ranks: int) -> str:
    """Say whose completions a page shows, where it cannot be all."""
    if num_ranks == 1:
        return ""
    return (
        f"These are the completions that rank 0 of {num_ranks} trained on; those of the others are in rollouts/, "
        "if they were recorded."
    )


def _rollout(place: Place) -> Any:
    record, index = place
    return record.rollouts[index]


def _row(place: Place, decode: Decode, lambda_: float | None) -> dict[str, Any]:
    record, index = place
    row = completion_row(record.rollouts[index], step=record.step, lambda_=lambda_, images=[])
    return row | token_columns(record, index, decode)


def _judged(place: Place) -> dict[str, bool]:
    said = _rollout(place).verdict
    return {"valid": said.valid, "correct": said.correct}


def _influence(place: Place) -> tuple[float, float]:
    record, index = place
    return influence(record.credit[index][record.completion_mask[index]].tolist())


def _group_influence(places: list[Place]) -> tuple[float, ...]:
    """Mean influence of a problem's completions."""
    each = [_influence(place) for place in places]
    return tuple(sum(values) / len(each) for values in zip(*each, strict=True))
