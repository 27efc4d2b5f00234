"""The nouns of the data's way: what one station hands to the next.

One word for one thing, in code, config, logs and docs:

    problem      one row: prompt x, images, gold answer, reference
    reference    the privileged context r of a problem (answer, worked solution, trace); never a model
    completion   the sampled tokens y
    rollout      problem + completion + verdict + advantage
    group        the rollouts of one problem
    policy       the weights being trained
    teacher      the weights (live, frozen, synced or ema) that read (x, r)
    verdict      what a verifier says; reward: its number
    advantage    A, one number per completion
    gain         log P_T - log P_S per token, in nats
    credit       A_t, the per-token advantage that the loss sees

Axes: P problems, G completions per group, B completions in a micro-batch, T completion tokens (padded),
R rows of a forward pass, S tokens of a row (padded), V vocabulary.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Problem:
    """One row of a data set, as every later station sees it."""

    id: str
    """Unique within its data set; seeds and records refer to it."""
    prompt: str
    """The question x, without images and without task instructions."""
    images: Sequence[Any] = ()
    """Paths, encoded bytes or PIL images, in reading order. Decoded late (rlsd_lightning.data.images)."""
    answer: str = ""
    """The gold answer, which the verifier compares with."""
    reference: str | None = None
    """The worked solution or trace; privileged, so only the teacher's view may show it."""
    kind: str = ""
    """What kind of answer is expected: "math", "multiple_choice", ...; routes to a verifier."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Whatever else a verifier needs: options, tests, schema, tolerance."""
    location: str = ""
    """Where the row came from, for messages: "train.jsonl:17"."""

    @property
    def place(self) -> str:
        """Name the problem in a message, with the file and line where these are known.

        Example:
            >>> Problem(id="q7", prompt="2+2?", location="train.jsonl:7").place
            "problem 'q7' (train.jsonl:7)"
        """
        known = self.location not in ("", self.id)
        return f"problem {self.id!r} ({self.location})" if known else f"problem {self.id!r}"


@dataclass(frozen=True, slots=True)
class Completion:
    """What the policy wrote, token by token."""

    token_ids: list[int]
    """The sampled ids, the stop token included; never re-encoded from text. [T]"""
    logprobs: list[float]
    """log P_S of each sampled token at the sampling temperature, over the whole vocabulary. [T]"""
    text: str
    """The ids decoded, without special tokens."""
    finish_reason: str
    """"stop": a stop token ended it. "length": it was cut at max_completion_tokens."""
    weight_versions: tuple[int, ...] = ()
    """Optimizer steps that the weights had seen which sampled it, oldest first; several where they changed on the way.
    Empty: from an engine that samples from the policy's own weights, as they are."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verifier says of one response."""

    reward: float
    """The number that policy gradients climb."""
    correct: bool
    """Whether the answer itself is right, shaping aside; accuracy counts this."""
    valid: bool = True
    """False: could not be judged. Leaves the group statistics, is counted, never reads as 0."""
    parts: dict[str, float] = field(default_factory=dict)
    """The reward's parts by name, before weighting."""
    reason: str = ""
    """One line for a person: what was extracted, what it was compared with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How completions are drawn."""

    max_completion_tokens: int
    """Completions are cut after this many tokens."""
    temperature: float = 1.0
    """Divides the logits; 0 is greedy."""
    top_p: float = 1.0
    """Keep the smallest set of tokens with at least this much probability; 1 keeps all."""
    top_k: int = 0
    """Keep this many most likely tokens; 0 keeps all."""
    presence_penalty: float = 0.0
    """Taken from the logit of every token that the completion holds already, before the temperature; 0 is none."""
    seed: int = 0
    """Together with a prompt's id and a completion's place in its group it fixes the draw."""

    def __post_init__(self) -> None:
        faults = []
        if self.max_completion_tokens < 1:
            faults.append(f"max_completion_tokens is {self.max_completion_tokens}, needs 1 or more")
        if self.temperature < 0:
            faults.append(f"temperature is {self.temperature}, needs 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            faults.append(f"top_p is {self.top_p}, needs a value in (0, 1]")
        if self.top_k < 0:
            faults.append(f"top_k is {self.top_k}, needs 0 (all tokens) or more")
        if not math.isfinite(self.presence_penalty):
            faults.append(f"presence_penalty is {self.presence_penalty}, needs a finite number")
        if faults:
            raise ValueError("sampling: " + "; ".join(faults) + ".")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessedImage:
    """One image, ready for the vision tower; equal keys mean equal pixels."""

    key: str
    """Digest of the pixels: images are encoded once per key."""
    pixel_values: Tensor
    """Flattened patches. [num_patches, patch_dim]"""
    grid: tuple[int, int, int]
    """Patches along time, height and width."""
    source: Any = None
    """The image as the problem gave it, for engines that want the picture itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One view of a problem, in the model's tokens."""

    id: str
    """The problem's id."""
    token_ids: list[int]
    """Chat template applied, one image token per visual feature. [S]"""
    position_ids: Tensor
    """Rotary positions, one row per rotary axis (3 for multimodal rotary, 1 for text). [A, S]"""
    images: tuple[ProcessedImage, ...] = ()
    """In order of their tokens."""

    @property
    def next_position(self) -> int:
        """The rotary position of the first completion token."""
        return int(self.position_ids.max()) + 1


TeacherView = Literal["reference", "siblings", "student"]
"""What the teacher reads: the problem with its reference (x, r), with what siblings of the completion wrote, or x alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """How the teacher's and the policy's next-token distributions are compared, and how much that counts."""

    kind: Literal["forward_kl", "reverse_kl", "jsd"] = "forward_kl"
    """KL(T || S), KL(S || T), or the generalised Jensen-Shannon divergence."""
    weight: float = 1.0
    """Multiplies the divergence beside the policy-gradient loss."""
    jsd_weight: float = 0.5
    """The teacher's share of the mixture; only for "jsd"."""
    top_k: int | None = None
    """Compare this many tokens and one bucket with the rest; None compares the whole vocabulary."""
    top_k_by: Literal["teacher", "student"] = "teacher"
    """Whose most likely tokens these are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditNeeds:
    """What a method asks of the stations before it, beyond the four arguments that every CreditAssigner takes."""

    view: TeacherView = "reference"
    """What the teacher reads."""
    every_completion: bool = False
    """The teacher scores completions with advantage 0 too: its log-probs are more than a weight."""
    contrast: bool = False
    """Also score under another problem's reference; __call__ takes `contrast_logprobs`, [B, T]."""
    spans: bool = False
    """Find the thought in each completion; __call__ takes `span_mask`, bool [B, T]."""
    divergence: Divergence | None = None
    """Add this distance between teacher and policy to the loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One completion with everything known about it before the update."""

    problem: Problem
    student: Prompt
    """What the policy read: x."""
    teacher: Prompt | None
    """What the teacher reads: (x, r). None where the method needs no teacher."""
    completion: Completion
    verdict: Verdict
    advantage: float
    contrast: Prompt | None = None
    """The teacher's view with another problem's reference; None where the method needs none."""
    span: tuple[bool, ...] | None = None
    """True = the token lies inside the thought; None where the method does not ask. [T]"""
    every_completion: bool = False
    """The method wants the teacher's log-probs even where the advantage is 0."""
    masked: bool = False
    """Kept out of the loss, though judged: a completion that was cut off, where rollout.on_truncated says so."""

    @property
    def in_loss(self) -> bool:
        """Whether its tokens enter the loss: it could be judged and is not masked."""
        return self.verdict.valid and not self.masked

    @property
    def scored(self) -> bool:
        """Whether the teacher scores it: not where no log-prob of the teacher could change anything."""
        wanted = self.advantage != 0.0 or self.every_completion
        return self.teacher is not None and wanted and self.in_loss


class _Movable:
    """Moves every tensor of a frozen dataclass; Lightning calls `to` when it moves a batch."""

    __slots__ = ()

    def to(self, device: torch.device | str, **_: Any) -> Any:
        """Return a copy whose tensors, nested ones too, lie on `device`."""
        changed = {}
        for spec in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, spec.name)
            if hasattr(value, "to"):
                changed[spec.name] = value.to(device)
            elif isinstance(value, tuple) and value and hasattr(value[0], "to"):
                changed[spec.name] = tuple(item.to(device) for item in value)
        return dataclasses.replace(self, **changed)  # type: ignore[type-var]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageBatch(_Movable):
    """The unique images of a micro-batch: each goes through the vision tower once."""

    pixel_values: Tensor
    """All patches of all images, concatenated. [num_patches, patch_dim]"""
    grids: Tensor
    """Patches along time, height, width. [num_images, 3]"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedRows(_Movable):
    """Rows for one forward pass: a row is a prompt followed by its completions as branches.

    Every token sees the prompt and its own branch, so the prompt is computed once however many completions
    share it. `rlsd_lightning.packing` builds these and derives the attention mask.
    """

    input_ids: Tensor
    """Prompt tokens, then branch after branch, then padding. int64 [R, S]"""
    position_ids: Tensor
    """Rotary positions; every branch starts where the prompt ends. int64 [A, R, S]"""
    branch_ids: Tensor
    """0 for the prompt, 1, 2, ... for its branches, -1 for padding. int64 [R, S]"""
    predictor_index: Tensor
    """Where in the flattened [R * S] row tokens the hidden state stands that predicts each completion token;
    0 where completion_mask is False. int64 [B, T]"""
    image_index: tuple[int, ...]
    """Which image of the ImageBatch fills the next run of image tokens, row by row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutBatch(_Movable):
    """One micro-batch of one optimizer step."""

    rollouts: tuple[Rollout, ...]
    """In the order of axis B."""
    token_ids: Tensor
    """Completion tokens, padded on the right. int64 [B, T]"""
    completion_mask: Tensor
    """True = the token counts in the loss. bool [B, T]"""
    rollout_logprobs: Tensor
    """From the engine, when sampled. [B, T]"""
    advantages: Tensor
    """One per completion. [B]"""
    student: PackedRows
    """The policy's view (x) of all completions."""
    teacher: PackedRows | None
    """The teacher's view (x, r) of the completions in teacher_index; None where no teacher is needed."""
    teacher_index: Tensor
    """The completions that the teacher scores, see Rollout.scored. int64 [B']"""
    contrast: PackedRows | None
    """The same completions behind another problem's reference; None where the method needs none."""
    span_mask: Tensor | None
    """True = the token lies inside the thought; None where the method does not ask. bool [B, T]"""
    images: ImageBatch | None
    """Unique images of all views."""
    policy_version: int
    """Optimizer steps that the oldest weights had seen which sampled these; training checks how long ago that was."""
    num_step_tokens: int
    """Loss tokens of the whole optimizer step: all micro-batches, all ranks."""
    num_step_completions: int
    """Completions with at least one loss token in the whole optimizer step."""
    metrics: dict[str, Any]
    """What the rollout station measured, on the step's first micro-batch; empty on the others."""
