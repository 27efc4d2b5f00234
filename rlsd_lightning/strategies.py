"""The strategies that cut a training state into parts: DeepSpeed's ZeRO-1, -2 and -3, and PyTorch's FSDP2.

Thin subclasses of Lightning's. What they add: processors without a GPU, one checkpoint format that any number of ranks
of any of them reads (shards.py), gradients that are those of the whole step, and a policy that knows where its weights
lie (placement.py). Weights, gradient norms and metrics are those of one process up to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.seed import reset_seed
from lightning.pytorch.plugins.precision import DeepSpeedPrecision
from lightning.pytorch.strategies import DeepSpeedStrategy, ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.distributed.fsdp import (
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from rlsd_lightning.checkpoints import saved_parameters
from rlsd_lightning.models import Policy
from rlsd_lightning.placement import FullySharded, ZeroPartitioned
from rlsd_lightning.sharded_checkpoints import ShardedCheckpoints
from rlsd_lightning.shards import Part, part_of

DEFAULT_TIMEOUT_S = 1800.0
"""How long a rank waits for the others in a collective; the ranks' rollouts of a step may differ by minutes."""


class DeepSpeedZero(ShardedCheckpoints, DeepSpeedStrategy):
    """DeepSpeed's ZeRO, on GPUs or processors.

    Optimizer states (stage 1), gradients (2) and weights (3) are shared out among the ranks. With precision bf16-mixed
    DeepSpeed keeps bfloat16 weights for the forward passes and float32 ones in the optimizer. Evaluation before and after
    training needs no optimizer, so no engine is made for it: every rank then holds the plain module.

    Args:
        stage: 1, 2 or 3.
        offload_optimizer: keep optimizer states in the host's memory and step there.
        offload_parameters: keep weights in the host's memory between uses; only with stage 3.
        process_group_backend: "nccl" or "gloo"; None = nccl on GPUs.
        timeout_s: how long a rank waits for the others.
        config: further DeepSpeed settings, merged into those that are made here.

    Raises:
        ValueError: a stage that does not exist, or offloading that the stage has no use for.
    """

    def __init__(
        self,
        stage: int,
        offload_optimizer: bool = False,
        offload_parameters: bool = False,
        process_group_backend: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        if stage not in (1, 2, 3):
            raise ValueError(
                f"trainer.strategy.stage is {stage}. Set it to 1, 2 or 3, or choose trainer=ddp."
            )
        if offload_parameters and stage != 3:
            raise ValueError(
                f"trainer.strategy.offload_parameters is true, but stage {stage} keeps whole weights on every GPU. Set "
                "stage to 3, or offload_parameters to false."
            )
        super().__init__(
            stage=stage,
            offload_optimizer=offload_optimizer,
            offload_parameters=offload_parameters,
            process_group_backend=process_group_backend,
            timeout=timedelta(seconds=timeout_s),
        )
        assert isinstance(self.config, dict)
        own = {
            "zero_force_ds_cpu_optimizer": False,
            "zero_optimization": {
                # small weights, too, are cut up: kept whole, a teacher's would go stale when it follows the policy
                "stage3_param_persistence_threshold": 0
            },
            "data_types": {"grad_accum_dtype": "fp32"},
        }
        _merge(self.config, own)
        _merge(self.config, config or {})
        self._stage = stage
        self._is_engine = False

    @property
    def root_device(self) -> torch.device:
        """A GPU by its number; the processor as number 0, as DeepSpeed asks for a number."""
        device = super().root_device
        return torch.device("cpu", 0) if device.type == "cpu" else device

    def setup_environment(self) -> None:
        """Join the other ranks; on processors, too, which Lightning's own DeepSpeedStrategy refuses."""
        assert self.accelerator is not None
        self.accelerator.setup_device(self.root_device)
        self.setup_distributed()

    def setup_distributed(self) -> None:
        """Start the process group; as Lightning's, but for the check of GPU numbers."""
        from deepspeed import ops
        from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder

        reset_seed()
        self.set_world_ranks()
        if self.root_device.type == "cpu":
            # DeepSpeed would compile a shared-memory collective of its own, which takes minutes and a compiler
            ops.__compatible_ops__[ShareMemCommBuilder.NAME] = False
        self._init_deepspeed_distributed()

    def setup(self, trainer: lightning.Trainer) -> None:
        """Make the engine for training; for anything else the plain module is enough."""
        if not isinstance(self.precision_plugin, _ZeroPrecision):
            self.precision_plugin = _ZeroPrecision(self.precision_plugin)
        if trainer.state.fn == TrainerFn.FITTING:
            super().setup(trainer)
            self._is_engine = True
            self._place(trainer.lightning_module)
        elif not self._is_sharded:
            assert self.accelerator is not None
            self.accelerator.setup(trainer)
            self.model_to_device()

    def backward(
        self,
        closure_loss: Tensor,
        optimizer: torch.optim.Optimizer | None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """Go backward without DeepSpeed's division by K, as Lightning has divided already."""
        return super().backward(closure_loss, optimizer, *args, scale_wrt_gas=False, **kwargs)

    def grad_norm(self) -> float:
        """See MeasuresGradients."""
        return float(self.deepspeed_engine.get_global_grad_norm())

    def teardown(self) -> None:
        """Keep weights that are cut up where they are: moved, they could not be gathered again."""
        if not self._is_sharded:
            super().teardown()

    @property
    def _is_sharded(self) -> bool:
        return self._is_engine and self._stage == 3

    def _place(self, module: lightning.LightningModule) -> None:
        """Tell every policy of the module where its weights lie."""
        self.precision_plugin.weights_are_converted = True
        if self._stage < 3:
            return
        import deepspeed

        for policy in policies(module):
            policy.placement = ZeroPartitioned(self.deepspeed_engine.optimizer.parameter_offload)
            # the output embedding is used outside of the submodule that owns it
            deepspeed.zero.register_external_parameter(module, policy.head_weight)

    def parts(self) -> list[Part]:
        """See ShardedCheckpoints."""
        named = list(saved_parameters(self.lightning_module))
        keys = sorted(
            {key for state in self._states().values() for key, v in state.items() if v.dim()}
        )
        cut = self._zero3_parts if self._stage == 3 else self._zero12_parts
        return [
            part
            for place, (name, weight) in enumerate(named)
            for part in cut(place, name, weight, keys)
        ]

    def _zero12_parts(
        self, place: int, name: str, weight: nn.Parameter, keys: list[str]
    ) -> list[Part]:
        """Return whole weights, to be filled, and this rank's intervals of what the optimizer keeps of them."""
        mine = place % self.world_size == self.global_rank
        is_saved = not weight.requires_grad and mine
        whole = part_of(f"weights/{name}", weight.shape, 0, weight, is_saved=is_saved)
        fragment = weight._hp_mapping if weight.requires_grad else None
        if fragment is None:
            return [whole]
        if keys:
            flat = self._flat_weights()[fragment.param_group_index]
            fragment.set_optim_state_fragment(flat, self._states()[flat])
        address = fragment.lp_fragment_address
        return [whole] + [
            part_of(key, weight.shape, address.start, fragment.get_hp_fragment(state))
            for key, state in _keys(name, keys)
        ]

    def _zero3_parts(
        self, place: int, name: str, weight: nn.Parameter, keys: list[str]
    ) -> list[Part]:
        """Return this rank's intervals of a weight and of what the optimizer keeps of it."""
        from deepspeed.utils import (
            safe_get_local_fp32_param,
            safe_get_local_optimizer_state,
            safe_set_local_fp32_param,
            safe_set_local_optimizer_state,
        )

        size, local = weight.ds_numel, weight.ds_tensor
        start = min(self.global_rank * local.numel(), size)
        stop = min(start + local.numel(), size)

        def part(key: str, read: Any, write: Any) -> Part:
            return Part(
                key=key,
                shape=tuple(weight.ds_shape),
                start=start,
                stop=stop,
                read=lambda: read().flatten()[: stop - start],
                write=lambda values: write(
                    nn.functional.pad(values, (0, local.numel() - len(values)))
                ),
            )

        if not weight.requires_grad:
            return [part(f"weights/{name}", lambda: local, local.data.copy_)]

        def write_both(values: Tensor) -> None:
            local.data.copy_(values)
            safe_set_local_fp32_param(weight, values.to(torch.float32))

        weights = part(f"weights/{name}", lambda: safe_get_local_fp32_param(weight), write_both)
        states = [
            part(
                f"optimizer/{state}/{name}",
                lambda state=state: safe_get_local_optimizer_state(weight, state),
                lambda values, state=state: safe_set_local_optimizer_state(weight, values, state),
            )
            for state in keys
        ]
        return [weights, *states]

    def prepare_optimizer(self, states: set[str], scalars: Mapping[str, Tensor]) -> None:
        """See ShardedCheckpoints."""
        for flat in self._flat_weights():
            made = {name: torch.zeros_like(flat) for name in states}
            self._states()[flat] = made | {name: value.clone() for name, value in scalars.items()}

    def optimizer_scalars(self) -> dict[str, Tensor]:
        """See ShardedCheckpoints."""
        states = [self._states()[flat] for flat in self._flat_weights() if flat in self._states()]
        return {
            key: value for state in states[:1] for key, value in state.items() if not value.dim()
        }

    def _states(self) -> dict[Tensor, dict[str, Tensor]]:
        """Return the states of the torch optimizer inside DeepSpeed's, by flat weights."""
        return self.deepspeed_engine.optimizer.optimizer.state if self._is_engine else {}

    def _flat_weights(self) -> list[Tensor]:
        """Return what the torch optimizer inside DeepSpeed's steps: this rank's float32 weights, flattened."""
        outer = self.deepspeed_engine.optimizer
        if self._stage == 3:
            return outer.fp32_partitioned_groups_flat
        return [group["params"][0] for group in outer.optimizer.param_groups]


class Fsdp2(ShardedCheckpoints, ModelParallelStrategy):
    """PyTorch's FSDP2 over all ranks, on GPUs or processors.

    Every decoder layer and every block of the vision tower is a unit that is gathered when it runs; embeddings and norms
    belong to the policy as a whole. With precision bf16-mixed weights are kept in float32, gathered in bfloat16, and
    gradients are added up over the ranks in float32.

    Args:
        process_group_backend: "nccl" or "gloo"; None = nccl on GPUs.
        timeout_s: how long a rank waits for the others.
    """

    def __init__(
        self, process_group_backend: str | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> None:
        super().__init__(
            tensor_parallel_size=1,
            process_group_backend=process_group_backend,
            timeout=timedelta(seconds=timeout_s),
        )
        self._is_sharded = False

    def setup_environment(self) -> None:
        """Join the other ranks; all of them share the weights out."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def setup(self, trainer: lightning.Trainer) -> None:
        """Cut up the policies for training; for anything else every rank holds the plain module."""
        if self._is_sharded:
            return
        assert self.accelerator is not None
        assert self.model is not None
        self.accelerator.setup(trainer)
        self.model = self.precision_plugin.convert_module(self.model)
        self.model_to_device()
        self.barrier()
        if trainer.state.fn == TrainerFn.FITTING:
            for policy in policies(self.model):
                self._shard(policy)
            self._is_sharded = True
            self.setup_optimizers(trainer)
        self.setup_precision_plugin()

    def _shard(self, policy: Policy) -> None:
        settings: dict[str, Any] = {"mesh": self.device_mesh["data_parallel"]}
        if self.precision_plugin.precision == "bf16-mixed":
            settings["mp_policy"] = MixedPrecisionPolicy(
                param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
            )
        for module in list(policy.model.modules()):
            if type(module).__name__ in policy.model._no_split_modules:
                fully_shard(module, **settings)
        fully_shard(policy, reshard_after_forward=False, **settings)
        for name in ("encode_images", "hidden_states"):  # all forward passes go through these two
            register_fsdp_forward_method(policy, name)
        policy.placement = FullySharded()

    def parts(self) -> list[Part]:
        """See ShardedCheckpoints."""
        for policy in policies(self.lightning_module):
            policy.placement.release(policy)
        states = self.optimizers[0].state if self.optimizers else {}
        return [
            part
            for name, weight in saved_parameters(self.lightning_module)
            for part in [_rows(f"weights/{name}", weight)]
            + [
                _rows(f"optimizer/{key}/{name}", value)
                for key, value in states.get(weight, {}).items()
                if value.dim()
            ]
        ]

    def prepare_optimizer(self, states: set[str], scalars: Mapping[str, Tensor]) -> None:
        """See ShardedCheckpoints."""
        (optimizer,) = self.optimizers
        for group in optimizer.param_groups:
            for weight in group["params"]:
                made = {name: torch.zeros_like(weight) for name in states}
                optimizer.state[weight] = made | {k: v.clone() for k, v in scalars.items()}

    def optimizer_scalars(self) -> dict[str, Tensor]:
        """See ShardedCheckpoints."""
        state = next(iter(self.optimizers[0].state.values()), {})
        return {key: value for key, value in state.items() if not value.dim()}


class _ZeroPrecision(DeepSpeedPrecision):
    """Lightning's plugin for DeepSpeed, without its conversion of batches.

    It would round the rollouts' log-probs and advantages to bfloat16. Images are converted by the model.
    """

    def __init__(self, given: DeepSpeedPrecision) -> None:
        super().__init__(given.precision)
        self.weights_are_converted = False

    def convert_input(self, data: Any) -> Any:
        """Return the batch as it is."""
        return data

    def forward_context(self) -> AbstractContextManager[Any]:
        """Compute in the lower precision while DeepSpeed has not converted the weights: evaluation before training."""
        if self.weights_are_converted or not self.precision.endswith("mixed"):
            return nullcontext()
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return torch.autocast(device, dtype=self._desired_dtype)


def policies(module: nn.Module) -> list[Policy]:
    """Return every policy in a module: the one that is trained, teachers' copies, the anchor."""
    return [child for child in module.modules() if isinstance(child, Policy)]


def _rows(key: str, tensor: Tensor) -> Part:
    """Return this rank's rows of a DTensor that is cut along its first axis."""
    local = tensor.detach().to_local()
    _, offset = compute_local_shape_and_global_offset(
        tensor.shape, tensor.device_mesh, tensor.placements
    )
    start = offset[0] * (tensor.numel() // tensor.shape[0]) if local.numel() else 0
    return part_of(key, tensor.shape, start, local)


def _keys(name: str, states: list[str]) -> list[tuple[str, str | None]]:
    """Pair a weight's keys with the optimizer states they stand for; None is the weight itself."""
    return [(f"weights/{name}", None), *((f"optimizer/{s}/{name}", s) for s in states)]


def _merge(settings: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Put settings into nested settings, in place."""
    for key, value in more.items():
        if isinstance(value, Mapping) and isinstance(settings.get(key), dict):
            _merge(settings[key], value)
        else:
            settings[key] = dict(value) if isinstance(value, Mapping) else value
