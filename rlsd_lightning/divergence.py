"""How far the student's next-token distribution is from the teacher's, without the [N, V] logits of either.

The distribution form of distillation: forward or reverse KL or their mixture (JSD) at every token, over the whole
vocabulary or over a few likely tokens and one bucket for the rest. The forward pass takes a few rows of both logits at
a time and keeps a few numbers per row; from these the backward pass makes the gradient block by block. Only the student
learns: the teacher is a constant.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rlsd_lightning.logit_blocks import (
    autocasts,
    block_elements,
    logit_blocks,
    matmul_dtype,
    slices,
    wide_dtype,
    write_product,
)

Kind = Literal["forward_kl", "reverse_kl", "jsd"]
Side = Literal["teacher", "student"]


def token_divergence(
    hidden: Tensor,
    weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    *,
    kind: Kind,
    temperature: float = 1.0,
    jsd_weight: float = 0.5,
    top_k: int | None = None,
    top_k_by: Side = "teacher",
) -> Tensor:
    """Measure at each place how far the student's next-token distribution S is from the teacher's T.

    forward_kl: KL(T || S) = sum_v T_v log(T_v / S_v)
    reverse_kl: KL(S || T)
    jsd:        b KL(T || M) + (1 - b) KL(S || M), M = b T + (1 - b) S   -- GKD, arXiv:2306.13649, b is its beta

    b = 0.5 is the symmetric Jensen-Shannon divergence, at most log 2. For b -> 0, jsd / b tends to forward_kl and for
    b -> 1, jsd / (1 - b) to reverse_kl; jsd itself tends to 0 at both ends, so b must lie between.

    With top_k, T and S are first reduced to the k tokens that are most likely under one of them and one bucket that
    holds each side's remaining mass. That never makes the divergence larger (data-processing inequality).

    Args:
        hidden: the student's last hidden states, one per place. [N, H]
        weight: the student's output embedding. [V, H]
        teacher_hidden: the teacher's last hidden states at the same places; no gradient flows into it. [N, H_T]
        teacher_weight: the teacher's output embedding over the same vocabulary; no gradient flows into it. [V, H_T]
        kind: the divergence.
        temperature: divides the logits of both; above 0.
        jsd_weight: b, the teacher's share of the mixture M, in (0, 1). Only for jsd.
        top_k: how many tokens keep a bucket of their own; None, or V and more, keeps them all.
        top_k_by: whose most likely tokens: the "teacher"'s or the "student"'s. Only with top_k.

    Returns:
        Divergence in nats, in float32 (float64 where the student's inputs are). [N]

    Raises:
        ValueError: if shapes or dtypes do not fit, the vocabularies differ in size, or an option is out of its range.

    Example:
        >>> student, teacher = torch.zeros(1, 2), torch.tensor([[0.0, 9.0]])
        >>> token_divergence(student, torch.eye(2), teacher, torch.eye(2), kind="forward_kl")
        tensor([0.6919])
        >>> token_divergence(student, torch.eye(2), teacher, torch.eye(2), kind="reverse_kl")
        tensor([3.8070])
    """
    _check_options(kind, temperature, jsd_weight, top_k, top_k_by)
    _check_tensors(hidden, weight, teacher_hidden, teacher_weight)
    setting = _Setting(
        kind=kind,
        temperature=temperature,
        jsd_weight=jsd_weight,
        top_k=None if top_k is None or top_k >= len(weight) else top_k,
        top_k_by=top_k_by,
        dtype=matmul_dtype(hidden),
        teacher_dtype=matmul_dtype(teacher_hidden),
    )
    teacher_hidden, teacher_weight = teacher_hidden.detach(), teacher_weight.detach()
    return _TokenDivergence.apply(hidden, weight, teacher_hidden, teacher_weight, setting)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setting:
    kind: Kind
    temperature: float
    jsd_weight: float
    top_k: int | None
    """None = the whole vocabulary."""
    top_k_by: Side
    dtype: torch.dtype
    """In which the student's logits are multiplied."""
    teacher_dtype: torch.dtype


class _TokenDivergence(torch.autograd.Function):
    """Values from a few rows of all logits at a time, gradients from blocks of the vocabulary."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        teacher_hidden: Tensor,
        teacher_weight: Tensor,
        setting: _Setting,
    ) -> Tensor:
        # Cast whole and once, as every piece of rows needs all of it.
        head, teacher_head = weight.to(setting.dtype), teacher_weight.to(setting.teacher_dtype)
        numbers: list[Tensor] = []
        # One piece even of no rows: it says what there is to keep.
        for rows in slices(len(hidden), _num_rows(weight)) if len(hidden) else [slice(0, 0)]:
            found = _measure(hidden[rows], head, teacher_hidden[rows], teacher_head, setting)
            # Written to one place each and not joined at the end: small tensors that stay alive between the large ones
            # keep a CPU's heap from being used again, to the size of all logits.
            numbers = numbers or [each.new_empty(len(hidden), *each.shape[1:]) for each in found]
            for whole, each in zip(numbers, found, strict=True):
                whole[rows] = each
            del found, each
        values, *numbers = numbers
        ctx.setting = setting
        # The chosen tokens' numbers say all of the teacher.
        teacher = (teacher_hidden, teacher_weight) if setting.top_k is None else (None, None)
        ctx.save_for_backward(hidden, weight, *teacher, *numbers)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, teacher_hidden, teacher_weight, *numbers = ctx.saved_tensors
        setting: _Setting = ctx.setting
        # A place with gradient 0 (outside the loss) is left out rather than multiplied by 0.
        kept = grad.nonzero().squeeze(1)
        chosen, numbers = hidden[kept].to(setting.dtype), [each[kept] for each in numbers]
        if setting.top_k is None:
            teacher = teacher_hidden[kept].to(setting.teacher_dtype)
            pulls = _pulls_all(chosen, weight, teacher, teacher_weight, *numbers, setting)
        else:
            pulls = _pulls_top(chosen, weight, *numbers, setting)
        grad_kept, grad_weight = _gradients(
            chosen, weight, pulls, grad[kept] / setting.temperature, ctx.needs_input_grad
        )
        grad_hidden = None
        if grad_kept is not None:
            grad_hidden = torch.zeros_like(hidden)
            grad_hidden[kept] = grad_kept.to(hidden.dtype)
        return grad_hidden, grad_weight, None, None, None


_Pulls = Iterator[tuple[slice, slice, Tensor, Tensor]]
"""Blocks of d D / d (logits / temperature): rows, columns, those rows of weight, the block itself."""


def _measure(
    hidden: Tensor,
    weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    setting: _Setting,
) -> tuple[Tensor, ...]:
    """Return the divergence of a few rows and what the backward pass needs of them, the heads cast already."""
    student = _logits(hidden.to(setting.dtype), weight, setting.temperature)
    teacher = _logits(
        teacher_hidden.to(setting.teacher_dtype), teacher_weight, setting.temperature
    ).to(student.dtype)
    if setting.top_k is None:
        return _measure_all(student, teacher, setting)
    return _measure_top(student, teacher, setting)


def _measure_all(
    student: Tensor, teacher: Tensor, setting: _Setting
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return of logits [rows, V], overwriting them, the divergence and what _pulls_all needs, [rows] each."""
    total, teacher_total = student.logsumexp(1), teacher.logsumexp(1)
    student.sub_(total[:, None])
    teacher.sub_(teacher_total[:, None])
    value, centre = _value_and_centre(student, teacher, setting)
    return value, total, teacher_total, centre


def _pulls_all(
    hidden: Tensor,
    weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    total: Tensor,
    teacher_total: Tensor,
    centre: Tensor,
    setting: _Setting,
) -> _Pulls:
    """Pull on every token."""
    blocks = logit_blocks(hidden, weight, setting.temperature)
    teacher_blocks = logit_blocks(teacher_hidden, teacher_weight, setting.temperature)
    for (rows, columns, block, student), (*_, teacher) in zip(blocks, teacher_blocks, strict=True):
        student = student.sub_(total[rows, None])
        teacher = teacher.to(student.dtype).sub_(teacher_total[rows, None])
        yield rows, columns, block, _pull(student, teacher, centre[rows, None], setting)


def _measure_top(
    student: Tensor, teacher: Tensor, setting: _Setting
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return of logits [rows, V] the divergence over k + 1 buckets and what _pulls_top needs.

    That is the chosen ids [rows, k], the pull on each bucket [rows, k + 1] and the log-sum-exp of the student's other
    logits [rows].
    """
    chooser = teacher if setting.top_k_by == "teacher" else student
    ids = chooser.topk(setting.top_k, 1).indices
    (student, rest), (teacher, _) = _bucketed(student, ids), _bucketed(teacher, ids)
    value, centre = _value_and_centre(student, teacher, setting)
    return value, ids, _pull(student, teacher, centre[:, None], setting), rest


def _bucketed(logits: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log-probs of the chosen tokens and of all others together, and the others' log-sum-exp.

    The tail is summed up as it is. log(1 - chosen mass) would be -inf as soon as that mass rounds to 1, and shortly
    before that it would keep few correct digits.

    Args:
        logits: overwritten. [rows, V]
        ids: the chosen tokens, fewer than V. [rows, k]

    Returns:
        [rows, k + 1] and [rows].
    """
    chosen = logits.gather(1, ids)
    rest = logits.scatter_(1, ids, -torch.inf).logsumexp(1)
    return torch.cat([chosen, rest[:, None]], 1).log_softmax(1), rest


def _pulls_top(
    hidden: Tensor, weight: Tensor, ids: Tensor, pull: Tensor, rest: Tensor, setting: _Setting
) -> _Pulls:
    """Pull on each chosen token as on its bucket, and share out the tail's by S within the tail."""
    for rows, columns, block, logits in logit_blocks(hidden, weight, setting.temperature):
        shared = logits.sub_(rest[rows, None]).exp_().mul_(pull[rows, -1:])
        # Set, not added: a chosen token may stand so far above the rest that exp has overflowed here.
        row, place = ((ids[rows] >= columns.start) & (ids[rows] < columns.stop)).nonzero().unbind(1)
        shared[row, ids[rows][row, place] - columns.start] = pull[rows][row, place]
        yield rows, columns, block, shared


def _value_and_centre(student: Tensor, teacher: Tensor, setting: _Setting) -> tuple[Tensor, Tensor]:
    """Return of log-probs [rows, buckets] the divergence, and the sum over v of S_v g_v of _pull, [rows] each."""
    if setting.kind == "forward_kl":
        value = _kl(teacher, student)
        return value, torch.zeros_like(value)
    if setting.kind == "reverse_kl":
        value = _kl(student, teacher)
        return value, value
    mixture = _log_mixture(student, teacher, setting.jsd_weight)
    centre = (1 - setting.jsd_weight) * _kl(student, mixture)
    return setting.jsd_weight * _kl(teacher, mixture) + centre, centre


def _pull(student: Tensor, teacher: Tensor, centre: Tensor, setting: _Setting) -> Tensor:
    """Return d D / d logit_v = S_v (g_v - sum over u of S_u g_u), g_v = d D / d S_v up to a constant. [rows, buckets].

    reverse_kl: g = log(S / T); jsd: g = (1 - b) log(S / M); forward_kl: g = -T / S, so that the pull is S - T.
    """
    mass = student.exp()
    if setting.kind == "forward_kl":
        return mass.sub_(teacher.exp())
    if setting.kind == "reverse_kl":
        return mass.mul_(student - teacher - centre)
    mixture = _log_mixture(student, teacher, setting.jsd_weight)
    return mass.mul_((1 - setting.jsd_weight) * (student - mixture) - centre)


def _log_mixture(student: Tensor, teacher: Tensor, jsd_weight: float) -> Tensor:
    """Return log(b T + (1 - b) S) from log-probs."""
    return torch.logaddexp(teacher + math.log(jsd_weight), student + math.log1p(-jsd_weight))


def _kl(left: Tensor, right: Tensor) -> Tensor:
    """Return KL(left || right) of rows of log-probs, all finite."""
    return (left - right).mul_(left.exp()).sum(1)


def _gradients(
    hidden: Tensor, weight: Tensor, pulls: _Pulls, grad: Tensor, needed: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None]:
    """Carry the gradient of the divergences [N] to hidden [N, H] and weight [V, H], each where needed."""
    grad_hidden = torch.zeros_like(hidden, dtype=wide_dtype(hidden.dtype)) if needed[0] else None
    grad_weight = torch.zeros_like(weight) if needed[1] else None
    for rows, columns, block, pull in pulls:
        grad_logits = pull.mul_(grad[rows, None]).to(hidden.dtype)
        if grad_hidden is not None:
            write_product(grad_hidden[rows], grad_logits, block, add=True)
        if grad_weight is not None:
            write_product(grad_weight[columns], grad_logits.T, hidden[rows], add=rows.start > 0)
    return grad_hidden, grad_weight


def _num_rows(weight: Tensor) -> int:
    """Return how many rows of all logits make a block."""
    return max(1, block_elements(weight.device) // len(weight))


def _logits(hidden: Tensor, weight: Tensor, temperature: float) -> Tensor:
    """Return logits / T in at least float32. [rows, V]."""
    logits = (hidden @ weight.T).to(wide_dtype(hidden.dtype))
    return logits if temperature == 1 else logits.div_(temperature)


def _check_options(
    kind: str, temperature: float, jsd_weight: float, top_k: int | None, top_k_by: str
) -> None:
    faults = []
    if kind not in get_args(Kind):
        faults.append(f"kind is {kind!r}, needs one of {', '.join(get_args(Kind))}")
    if temperature <= 0:
        faults.append(f"temperature is {temperature}, needs a number above 0")
    if not 0 < jsd_weight < 1:
        faults.append(
            f"jsd_weight is {jsd_weight}, needs a value in (0, 1): at its ends the divergence is 0, and what it "
            "tends to is called forward_kl (0) and reverse_kl (1)"
        )
    if top_k is not None and top_k < 1:
        faults.append(f"top_k is {top_k}, needs 1 or more, or null for the whole vocabulary")
    if top_k_by not in get_args(Side):
        faults.append(f"top_k_by is {top_k_by!r}, needs one of {', '.join(get_args(Side))}")
    if faults:
        raise ValueError("token_divergence: " + "; ".join(faults) + ". Set it in conf/credit.")


def _check_tensors(
    hidden: Tensor, weight: Tensor, teacher_hidden: Tensor, teacher_weight: Tensor
) -> None:
    tensors = (hidden, weight, teacher_hidden, teacher_weight)
    shapes = [list(tensor.shape) for tensor in tensors]
    fits = all(tensor.dim() == 2 for tensor in tensors) and len(hidden) == len(teacher_hidden)
    if not fits or shapes[0][1] != shapes[1][1] or shapes[2][1] != shapes[3][1]:
        raise ValueError(
            f"token_divergence: hidden, weight, teacher_hidden and teacher_weight have the shapes {shapes}, need "
            "[N, H], [V, H], [N, H_T] and [V, H_T]. Score the same N places with both models, one row of hidden each."
        )
    if len(weight) != len(teacher_weight):
        raise ValueError(
            f"token_divergence: the student has {len(weight)} tokens and the teacher {len(teacher_weight)}, need "
            "one vocabulary. Choose a teacher with the student's tokenizer; if only unused rows of the output "
            "embedding differ, cut both to the shorter."
        )
    for side, states, head in (
        ("", hidden, weight),
        ("teacher_", teacher_hidden, teacher_weight),
    ):
        if states.dtype != head.dtype and not autocasts(states):
            raise ValueError(
                f"token_divergence: {side}hidden is {states.dtype} and {side}weight is {head.dtype}, which need one "
                "dtype. Cast one of them, or call under torch.autocast."
            )
