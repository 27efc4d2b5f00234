"""Cuts one step's rollouts into micro-batches of about equal work and lays each out for the forward passes.

The unit is a prompt with the completions that share it: a group, or a part of one where a whole group is too long
for a row or where there are fewer groups than micro-batches.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rlsd_lightning.packing import image_batch, pack_rows
from rlsd_lightning.types import Completion, PackedRows, Prompt, Rollout, RolloutBatch

Unit = list[Rollout]
"""Rollouts of one problem that share a row."""


def split_groups(
    groups: Sequence[Unit], num_bins: int, max_row_tokens: int | None, share_prefix: bool
) -> list[Unit]:
    """Cut groups into units: whole groups where they fit.

    Args:
        groups: the rollouts of each problem.
        num_bins: at least this many units come out, so that no micro-batch is empty.
        max_row_tokens: no row of several completions is longer than this; None sets no limit.
        share_prefix: False gives every completion a row of its own.

    Raises:
        ValueError: there are fewer rollouts than micro-batches.
    """
    num_rollouts = sum(len(group) for group in groups)
    if num_rollouts < num_bins:
        raise ValueError(
            f"trainer.accumulate_grad_batches is {num_bins}, but a step has {num_rollouts} completions on this rank. "
            "Raise rollout.problems_per_step or rollout.group_size, or accumulate fewer micro-batches."
        )
    units = [unit for group in groups for unit in _fitting(group, max_row_tokens, share_prefix)]
    while len(units) < num_bins:
        largest = max(range(len(units)), key=lambda i: (len(units[i]), row_tokens(units[i])))
        unit = units.pop(largest)
        half = len(unit) // 2
        units[largest:largest] = [unit[:half], unit[half:]]
    return units


def _fitting(group: Unit, max_row_tokens: int | None, share_prefix: bool) -> list[Unit]:
    if not share_prefix:
        return [[rollout] for rollout in group]
    units: list[Unit] = []
    for rollout in group:
        fits = units and (
            max_row_tokens is None or row_tokens([*units[-1], rollout]) <= max_row_tokens
        )
        if fits:
            units[-1].append(rollout)
        else:
            units.append([rollout])
    return units


def row_tokens(unit: Unit) -> int:
    """Count the tokens of a unit's row, in the longer of its views."""
    prompt = max(len(view.token_ids) for view in _views(unit[0]))
    return prompt + sum(len(r.completion.token_ids) for r in unit)


def balance(units: Sequence[Unit], num_bins: int) -> list[list[Unit]]:
    """Fill bins by tokens, not by count: longest first, each into the lightest bin so far.

    Returns:
        `num_bins` non-empty bins; units keep their order within a bin.
    """
    order = sorted(range(len(units)), key=lambda i: -row_tokens(units[i]))
    bins: list[list[int]] = [[] for _ in range(num_bins)]
    loads = [0] * num_bins
    for i in order:
        lightest = min(range(num_bins), key=lambda b: (loads[b], b))
        bins[lightest].append(i)
        loads[lightest] += row_tokens(units[i])
    return [[units[i] for i in sorted(chosen)] for chosen in bins]


def collate(
    units: Sequence[Unit],
    *,
    policy_version: int,
    num_step_tokens: int,
    num_step_completions: int,
    metrics: dict[str, Any],
) -> RolloutBatch:
    """Lay one micro-batch out.

    Args:
        units: its rollouts, row by row.
        policy_version: see RolloutBatch.
        num_step_tokens: see RolloutBatch.
        num_step_completions: see RolloutBatch.
        metrics: see RolloutBatch.
    """
    rollouts = [rollout for unit in units for rollout in unit]
    token_ids = pad_sequence(
        [torch.tensor(r.completion.token_ids) for r in rollouts], batch_first=True
    )
    lengths = torch.tensor([num_loss_tokens(rollout) for rollout in rollouts])
    slots, images = _image_slots(rollouts)
    scored = [i for i, rollout in enumerate(rollouts) if rollout.scored]
    return RolloutBatch(
        rollouts=tuple(rollouts),
        token_ids=token_ids,
        completion_mask=torch.arange(token_ids.shape[1]) < lengths.unsqueeze(1),
        rollout_logprobs=pad_sequence(
            [torch.tensor(r.completion.logprobs) for r in rollouts], batch_first=True
        ),
        advantages=torch.tensor([r.advantage for r in rollouts]),
        student=pack_rows([_branches(unit, unit[0].student) for unit in units], slots),
        teacher=_scored_rows(units, "teacher", slots, token_ids.shape[1]) if scored else None,
        teacher_index=torch.tensor(scored, dtype=torch.int64),
        contrast=_contrast_rows(units, slots, token_ids.shape[1]) if scored else None,
        span_mask=_span_mask(rollouts),
        images=images,
        policy_version=policy_version,
        num_step_tokens=num_step_tokens,
        num_step_completions=num_step_completions,
        metrics=metrics,
    )


def num_loss_tokens(rollout: Rollout) -> int:
    """Count the tokens that enter the loss: all of a completion that could be judged, none of another."""
    return len(rollout.completion.token_ids) if rollout.in_loss else 0


def oldest_version(completions: Iterable[Completion], shared: int | None) -> int:
    """Return how many optimizer steps the oldest weights had seen that sampled any of these.

    Args:
        completions: of one step.
        shared: those that the policy has seen, for an engine that samples from its weights; None for one with its own.

    Raises:
        RuntimeError: an engine with weights of its own does not say which ones sampled a completion.

    Example:
        >>> one, two = (Completion([1], [0.0], "", "stop", weight_versions=v) for v in [(4,), (3, 4)])
        >>> oldest_version([one, two], shared=None)
        3
    """
    versions = [completion.weight_versions for completion in completions]
    known = [version for each in versions for version in each]
    if all(versions):
        return min(known)
    if shared is None:
        raise RuntimeError(
            "engine: a completion has no weight_versions, though the engine says shares_policy_weights=False. Needed: "
            "the version that load_weights was given, by which training knows how old the completion is. Let the "
            "engine note it, and switch on the callback that hands weights over (callbacks.weight_sync)."
        )
    return min([shared, *known])


def _branches(unit: Unit, prompt: Prompt) -> tuple[Prompt, list[list[int]]]:
    return prompt, [rollout.completion.token_ids for rollout in unit]


def _views(rollout: Rollout) -> list[Prompt]:
    """Return the prompts that a rollout stands behind."""
    views = (rollout.student, rollout.teacher, rollout.contrast)
    return [view for view in views if view is not None]


def _image_slots(rollouts: Sequence[Rollout]) -> tuple[dict[str, int], Any]:
    """Number the unique images of all views, and batch them."""
    views = [view for rollout in rollouts for view in _views(rollout)]
    unique = {image.key: image for view in views for image in view.images}
    return {key: i for i, key in enumerate(unique)}, image_batch(list(unique.values()))


def _scored_rows(
    units: Sequence[Unit], view: str, slots: dict[str, int], num_tokens: int
) -> PackedRows:
    """Pack a view of the teacher of the completions that it scores; T as the student's."""
    scored = [[rollout for rollout in unit if rollout.scored] for unit in units]
    rows = pack_rows([_branches(unit, getattr(unit[0], view)) for unit in scored if unit], slots)
    missing = num_tokens - rows.predictor_index.shape[1]
    padded = torch.nn.functional.pad(rows.predictor_index, (0, missing))
    return dataclasses.replace(rows, predictor_index=padded)


def _contrast_rows(
    units: Sequence[Unit], slots: dict[str, int], num_tokens: int
) -> PackedRows | None:
    if all(unit[0].contrast is None for unit in units):
        return None
    return _scored_rows(units, "contrast", slots, num_tokens)


def _span_mask(rollouts: Sequence[Rollout]) -> Tensor | None:
    """Pad the spans; None where the method did not ask for them. bool [B, T]."""
    spans = [rollout.span for rollout in rollouts]
    if any(span is None for span in spans):
        return None
    return pad_sequence([torch.tensor(span) for span in spans], batch_first=True)
