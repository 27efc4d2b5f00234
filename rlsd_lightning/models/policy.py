"""The policy: a transformers model that scores packed rows and decodes against a cache.

Student and teacher, training and generation all go through `Policy.hidden_states`, so there is one place where
positions, images and the attention mask meet.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)

from rlsd_lightning.logprobs import token_logprobs, token_logprobs_and_entropy
from rlsd_lightning.models import adapters, quantised
from rlsd_lightning.models.family import Family, ImageFeatures
from rlsd_lightning.models.qwen3_vl import Qwen3VLFamily
from rlsd_lightning.models.text import TextFamily
from rlsd_lightning.packing import attention_mask
from rlsd_lightning.placement import WHOLE, Placement
from rlsd_lightning.types import ImageBatch, PackedRows

CHANGED_LOGITS = ("final_logit_softcapping", "logits_scaling", "logit_scale")
"""Settings of models that do something to their logits after the output embedding."""


class Policy(nn.Module):
    """A transformers model with its family's knowledge.

    Args:
        model: the model.
        family: what is to be known of it.
        has_adapters: the model is frozen but for LoRA's adapters (adapters.py), which are all that a checkpoint holds.
    """

    def __init__(
        self, model: PreTrainedModel, family: Family, *, has_adapters: bool = False
    ) -> None:
        super().__init__()
        self.model = model
        self.family = family
        self.has_adapters = has_adapters
        self.placement: Placement = WHOLE
        if has_adapters:
            self.register_state_dict_post_hook(_without_base)
            self.register_load_state_dict_pre_hook(_with_base)

    def plain_copy(self) -> Policy:
        """Return a copy without gradients and without adapters, for an engine or an export to fill."""
        if quantised.is_quantised(self.model):
            return Policy(quantised.unquantised(self.model).requires_grad_(False), self.family)
        copied = copy.deepcopy(self).requires_grad_(False)
        adapters.remove_adapters(copied.model)
        return Policy(copied.model, copied.family)

    def encode_images(self, images: ImageBatch | None) -> ImageFeatures:
        """Run the vision tower once over each image; an empty list without images."""
        return [] if images is None else self.family.encode_images(self.model, images)

    def look_at(self, images: ImageBatch | None) -> tuple[ImageFeatures, Tensor]:
        """Encode the images of a micro-batch so that a step is the same whichever rank got the images.

        Without images the vision tower reads a blank one, whose features are not used: DDP waits for every weight's
        gradient, and where weights are sharded every rank must run the same modules. Where neither is so, it reads nothing.

        Returns:
            The features, and a 0 for the loss that gives each weight of the tower a gradient of 0.
        """
        must_run = self.placement.is_sharded or not self.vision_is_frozen
        blank = self.family.blank_image() if images is None and must_run else None
        if blank is None:
            return self.encode_images(images), torch.zeros((), device=self.device)
        leaves = tree_leaves(self.encode_images(blank.to(self.device)))
        return [], torch.stack([leaf.float().sum() for leaf in leaves]).sum() * 0.0

    def hidden_states(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        mask: Tensor,
        image_features: ImageFeatures,
        cache: Any | None = None,
    ) -> Tensor:
        """Return the last hidden states of rows of tokens. [R, S, H]. See Family.hidden_states."""
        return self.family.hidden_states(
            self.model, input_ids, position_ids, mask, image_features, cache
        )

    def logits(self, hidden: Tensor) -> Tensor:
        """Return float32 logits of hidden states. [..., H] -> [..., V]."""
        return torch.nn.functional.linear(hidden, self.head_weight).float()

    @property
    def head_weight(self) -> Tensor:
        """The output embedding. [V, H]."""
        return self.model.get_output_embeddings().weight

    def logprobs(
        self,
        rows: PackedRows,
        token_ids: Tensor,
        completion_mask: Tensor,
        image_features: ImageFeatures,
        temperature: float,
    ) -> Tensor:
        """Return log-probabilities of completion tokens at the sampling temperature, 0 where masked. [B, T].

        Only the hidden states that predict a completion token meet the output embedding, and never all of the
        vocabulary at once: see logprobs.py.

        Args:
            rows: the view that holds these completions.
            token_ids: int64 [B, T]
            completion_mask: bool [B, T]
            image_features: of all images of the micro-batch; rows.image_index picks from them.
            temperature: divides the logits, above 0.
        """
        states = self.predictors(rows, completion_mask, image_features)
        return self.logprobs_of(states, token_ids, completion_mask, temperature)

    def logprobs_of(
        self, states: Tensor, token_ids: Tensor, completion_mask: Tensor, temperature: float
    ) -> Tensor:
        """Return log-probabilities of completion tokens from the states that predict them. [B, T].

        Args:
            states: see `predictors`. [N, H]
            token_ids: int64 [B, T]
            completion_mask: bool [B, T]
            temperature: divides the logits, above 0.
        """
        logprobs = token_logprobs(states, self.head_weight, token_ids[completion_mask], temperature)
        return spread(logprobs, completion_mask)

    def logprobs_and_entropy(
        self, states: Tensor, token_ids: Tensor, completion_mask: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """Return log-probabilities, and the entropies of the distributions the tokens were drawn from. [B, T] each.

        Entropies are in nats, without gradient. Arguments as in `logprobs_of`.
        """
        logprobs, entropy = token_logprobs_and_entropy(
            states, self.head_weight, token_ids[completion_mask], temperature
        )
        return spread(logprobs, completion_mask), spread(entropy, completion_mask)

    def predictors(
        self, rows: PackedRows, completion_mask: Tensor, image_features: ImageFeatures
    ) -> Tensor:
        """Return the hidden states that predict the completion tokens, in the order of the mask. [N, H].

        Args:
            rows: the view that holds these completions.
            completion_mask: bool [B, T]
            image_features: of all images of the micro-batch; rows.image_index picks from them.
        """
        hidden = self.hidden_states(
            rows.input_ids,
            rows.position_ids,
            attention_mask(rows, self.model.config._attn_implementation, self.dtype),
            [image_features[i] for i in rows.image_index],
        )
        return hidden.flatten(0, 1)[rows.predictor_index[completion_mask]]

    @property
    def vision_is_frozen(self) -> bool:
        """Whether the vision tower, if there is one, is the same for the whole run."""
        if self.family.image_token_id is None:
            return True
        return not any(weight.requires_grad for weight in self.model.model.visual.parameters())

    @property
    def dtype(self) -> torch.dtype:
        """The weights' type."""
        return self.model.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.model.device


@contextmanager
def evaluating(policy: Policy) -> Iterator[None]:
    """Switch to evaluation mode for a while: no dropout, and a model with gradient checkpointing keeps a cache.

    Args:
        policy: afterwards in the mode that it was in.
    """
    was_training = policy.training
    policy.eval()
    try:
        yield
    finally:
        policy.train(was_training)


class AdapterView(Policy):
    """A policy's base under another set of adapters, or bare. It shares every weight and is made when it is needed.

    Args:
        policy: whose base it is.
        adapter: the set; None for the bare base.
    """

    def __init__(self, policy: Policy, adapter: str | None) -> None:
        super().__init__(policy.model, policy.family)
        self.placement = policy.placement
        self._adapter = adapter
        self._policy = (policy,)  # in a tuple, so that it is no submodule

    def encode_images(self, images: ImageBatch | None) -> ImageFeatures:
        """See Policy."""
        with adapters.using(self.model, self._adapter):
            return self._policy[0].encode_images(images)

    def hidden_states(self, *args: Any, **kwargs: Any) -> Tensor:
        """See Policy."""
        with adapters.using(self.model, self._adapter):
            return self._policy[0].hidden_states(*args, **kwargs)


def _without_base(policy: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """Take the frozen base out of a checkpoint: it is loaded from model.path."""
    for name in adapters.base_state(policy.model):
        state.pop(f"{prefix}model.{name}", None)


def _with_base(policy: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Let a checkpoint without the frozen base be loaded."""
    base = adapters.base_state(policy.model)
    state.update({f"{prefix}model.{name}": value for name, value in base.items()})


def spread(values: Tensor, mask: Tensor) -> Tensor:
    """Put values where the mask is True, 0 elsewhere. [N] -> the mask's shape."""
    return values.new_zeros(mask.shape).masked_scatter(mask, values)


def family_of(config: PretrainedConfig) -> Family:
    """Pick the family by the config's model_type.

    Raises:
        ValueError: a multimodal model whose family is not known here, or one without full attention.
    """
    if config.model_type in Qwen3VLFamily.MODEL_TYPES:
        return Qwen3VLFamily(config)
    if hasattr(config, "vision_config"):
        raise ValueError(
            f"model.path holds a {config.model_type!r} model; vision-language families known here: "
            f"{', '.join(Qwen3VLFamily.MODEL_TYPES)}. "
            "Add a class like rlsd_lightning/models/qwen3_vl.py and name it in family_of."
        )
    layer_types = set(getattr(config, "layer_types", None) or ["full_attention"])
    if layer_types != {"full_attention"}:
        raise ValueError(
            f"model.path holds a {config.model_type!r} model with layers of types {sorted(layer_types)}; a shared "
            "prompt needs full attention in every layer. Choose a model with full attention."
        )
    return TextFamily()


def load_policy(
    path: str,
    dtype: str = "bfloat16",
    attn_implementation: str = "sdpa",
    freeze_vision: bool = False,
    gradient_checkpointing: bool = False,
    revision: str | None = None,
    lora: Mapping[str, Any] | None = None,
    load_in_4bit: bool = False,
) -> Policy:
    """Load a policy from a Hugging Face folder or hub name.

    Args:
        path: folder or hub name.
        dtype: of the weights: "float32", "bfloat16", "float16".
        attn_implementation: "sdpa" or "eager"; they take the mask of shared prompts.
        freeze_vision: keep the vision tower as it is.
        gradient_checkpointing: recompute activations in the backward pass to save memory.
        revision: branch, tag or commit on the hub.
        lora: train adapters only, see adapters.Lora; None trains the model's own weights.
        load_in_4bit: hold the frozen weights beside adapters in 4 bits, see quantised.py.
    """
    if attn_implementation not in ("sdpa", "eager"):
        raise ValueError(
            f"model.attn_implementation is {attn_implementation!r}, which cannot take the mask of a shared prompt. "
            "Set it to sdpa (fast) or eager."
        )
    config = AutoConfig.from_pretrained(path, revision=revision)
    family = family_of(config)
    auto = AutoModelForCausalLM if isinstance(family, TextFamily) else AutoModelForImageTextToText
    model = auto.from_pretrained(
        path,
        revision=revision,
        dtype=getattr(torch, dtype),
        attn_implementation=attn_implementation,
        **(quantised.settings(dtype, lora) if load_in_4bit else {}),
    )
    head = model.get_output_embeddings()
    changed = [name for name in CHANGED_LOGITS if getattr(config, name, None) is not None]
    if changed or getattr(head, "bias", None) is not None:
        raise ValueError(
            f"model.path holds a {config.model_type!r} model whose logits are not a plain linear output "
            f"({', '.join(changed) or 'bias'}), as log-probs here assume. Choose a model without that."
        )
    if freeze_vision and family.image_token_id is None:
        raise ValueError(
            "model.freeze_vision is true, but a text model has no vision tower. Set it to false."
        )
    if freeze_vision:
        model.model.visual.requires_grad_(False)
    if lora is not None:
        adapters.add_adapters(model, adapters.Lora(**lora))
    if gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    # from_pretrained leaves evaluation mode, in which gradient checkpointing silently does nothing.
    return Policy(model.train(), family, has_adapters=lora is not None)


def load_reader(path: str, revision: str | None = None) -> tuple[Any, Family]:
    """Load what reads prompts, without weights: the processor (of a text model: the tokenizer) and the family."""
    try:
        config = AutoConfig.from_pretrained(path, revision=revision)
    except OSError as error:
        raise ValueError(
            f"model.path is {path!r}, which is neither a folder with a config.json nor a model that the Hugging Face hub "
            f"gave ({str(error).splitlines()[0]}). Correct it, or log in if the model is gated."
        ) from error
    family = family_of(config)
    auto = AutoTokenizer if isinstance(family, TextFamily) else AutoProcessor
    return auto.from_pretrained(path, revision=revision), family
