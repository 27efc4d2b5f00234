"""What must hold between the groups of a configuration for a command: one small function per rule.

A rule yields a line per fault and says nothing about values that are missing or of the wrong type: other checks do.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from typing import Any

from rlsd_lightning.interfaces import RunsElsewhere
from rlsd_lightning.targets import locate

Tree = dict[str, Any]


def enough_completions(tree: Tree) -> Iterator[str]:
    """A group needs two completions, a step one problem."""
    group_size = _number(tree, "rollout.group_size")
    if group_size is not None and group_size < 2:
        yield (
            f"rollout.group_size is {group_size}, so every advantage would be 0. "
            "Set it to 2 or more (RLSD's launch script: 8)."
        )
    problems = _number(tree, "rollout.problems_per_step")
    if problems is not None and problems < 1:
        yield f"rollout.problems_per_step is {problems}. Set it to 1 or more (RLSD's launch script: 256)."


def run_has_an_end(tree: Tree) -> Iterator[str]:
    """The train loader is sized by max_steps, so epochs mean nothing here."""
    max_steps = _value(tree, "trainer.max_steps")
    if max_steps is None or (isinstance(max_steps, int) and max_steps < 1):
        yield (
            f"trainer.max_steps is {max_steps}, but the run's length is counted in optimizer steps. "
            "Set it to 1 or more (RLSD: 200)."
        )
    max_epochs = _value(tree, "trainer.max_epochs")
    if max_epochs not in (-1, None):
        yield (
            f"trainer.max_epochs is {max_epochs}, which would have no effect: a run is trainer.max_steps steps, "
            "however often they go through the problems. Leave it at -1 and set trainer.max_steps."
        )


def problems_are_shared_out(tree: Tree) -> Iterator[str]:
    """Every process takes the same number of problems."""
    problems, processes = _number(tree, "rollout.problems_per_step"), num_processes(tree)
    if problems is not None and problems % processes:
        yield (
            f"rollout.problems_per_step is {problems}, which {processes} processes (trainer.devices x num_nodes) "
            f"cannot share evenly. Set it to a multiple of {processes}."
        )


def launcher_started_as_many(tree: Tree) -> Iterator[str]:
    """Processes that torchrun or srun has started are those that the trainer counts on."""
    launched, devices = _launched_processes(), _devices(tree)
    num_nodes = _number(tree, "trainer.num_nodes") or 1
    if launched is not None and devices is not None and launched != devices * num_nodes:
        yield (
            f"trainer.devices is {_value(tree, 'trainer.devices')} and trainer.num_nodes {num_nodes}, which makes "
            f"{devices * num_nodes} processes, but {launched} were started. Set "
            "trainer.devices to the processes per host (--nproc-per-node, --ntasks-per-node) and trainer.num_nodes to "
            "the hosts."
        )


def micro_batches_are_filled(tree: Tree) -> Iterator[str]:
    """Every micro-batch of a step gets at least one completion on every process."""
    num_micro_batches = _number(tree, "trainer.accumulate_grad_batches")
    problems, group_size = (
        _number(tree, "rollout.problems_per_step"),
        _number(tree, "rollout.group_size"),
    )
    if num_micro_batches is None or problems is None or group_size is None:
        return
    completions = problems * group_size // num_processes(tree)
    if not 1 <= num_micro_batches <= completions:
        yield (
            f"trainer.accumulate_grad_batches is {num_micro_batches}, but a step has {completions} completions on each "
            f"process to cut into micro-batches. Set it between 1 and {completions}."
        )


def overlap_has_an_engine_elsewhere(tree: Tree) -> Iterator[str]:
    """Making rollouts beside training takes an engine that neither shares the policy's weights nor its process."""
    if not _value(tree, "rollout.overlap"):
        return
    target = _value(tree, "engine._target_")
    try:
        engine = locate(target)
    except ValueError:  # told already
        return
    if not (isinstance(engine, RunsElsewhere) and engine.runs_elsewhere):
        yield (
            f"rollout.overlap is true, but engine is {_class_name(target)}, which samples in the process that trains. "
            "Needed: an engine in processes of its own, whose class says runs_elsewhere = True. Choose "
            "engine=vllm_server, or set rollout.overlap=false."
        )


def overlap_is_corrected(tree: Tree) -> Iterator[str]:
    """Rollouts that are one step old are weighed by how much likelier they have become since."""
    if _value(tree, "rollout.overlap") and _value(tree, "loss.importance_cap") is None:
        yield (
            "rollout.overlap is true, but loss.importance_cap is null, so that nothing corrects for rollouts of the step "
            "before. Set loss.importance_cap=2.0, or set rollout.overlap=false."
        )


def lag_is_allowed(tree: Tree) -> Iterator[str]:
    """Rollouts may be as old as weights that are handed over now and then, and used a step later, will make them."""
    allowed = _number(tree, "rollout.max_policy_lag") or 0
    every = _number(tree, "callbacks.weight_sync.every_n_steps") or 1
    overlap = bool(_value(tree, "rollout.overlap"))
    lag = every - 1 + overlap
    if _value(tree, "engine.shares_policy_weights") or allowed >= lag:
        return
    settings = {
        "rollout.overlap is true": overlap,
        f"callbacks.weight_sync.every_n_steps is {every}": every > 1,
    }
    why = " and ".join(setting for setting, counts in settings.items() if counts)
    yield (
        f"rollout.max_policy_lag is {allowed}, but {why}, so that rollouts come from weights up to {lag} "
        f"{'step' if lag == 1 else 'steps'} old. Set rollout.max_policy_lag={lag}."
    )


def ranks_share_an_engine(tree: Tree) -> Iterator[str]:
    """Ranks that share an engine form whole groups, and ask it equally often."""
    num_shared = _number(tree, "engine.tensor_parallel_size") or 1
    if num_shared == 1:
        return
    num_ranks = num_processes(tree)
    if num_ranks % num_shared:
        yield (
            f"engine.tensor_parallel_size is {num_shared}, but there are {num_ranks} processes (trainer.devices x "
            f"num_nodes), which do not make whole groups of {num_shared}. Set it to a divisor of {num_ranks}."
        )
    rounds = _number(tree, "rollout.refill_groups") or 0
    if rounds:
        yield (
            f"rollout.refill_groups is {rounds}, but engine.tensor_parallel_size is {num_shared}: ranks that share an "
            "engine must ask it equally often, and refill different numbers of groups. Set rollout.refill_groups=0, or "
            "engine.tensor_parallel_size=1."
        )


def loggers_are_installed(tree: Tree) -> Iterator[str]:
    """A logger is made when the weights are there already; that its package is missing can be known now."""
    for package in ("wandb", "tensorboard"):
        wanted = _value(tree, f"exp_manager.create_{package}_logger")
        if wanted and importlib.util.find_spec(package) is None:
            yield (
                f"exp_manager.create_{package}_logger is true, but the package {package} is not installed. "
                f"Install it (pip install {package}), or choose logger=csv."
            )


def workers_outlast_verifiers(tree: Tree) -> Iterator[str]:
    """What a verifier allows itself for a response, its worker process has to allow, too."""
    timeout_s = _value(tree, "verification.timeout_s")
    if not _number(tree, "verification.workers") or not isinstance(timeout_s, int | float):
        return
    for path, total_s in _total_limits(tree.get("verifier"), "verifier"):
        if total_s >= timeout_s:
            yield (
                f"verification.timeout_s is {timeout_s:g}, but {path} allows {total_s:g} s for a response, so that its "
                f"worker would be killed first. Set verification.timeout_s to more than {total_s:g}."
            )


_TRAINERS_OWN = {
    "gradient_clipping": "trainer.gradient_clip_val",
    "gradient_accumulation_steps": "trainer.accumulate_grad_batches",
    "train_batch_size": "rollout.problems_per_step",
    "train_micro_batch_size_per_gpu": "trainer.accumulate_grad_batches",
    "optimizer": "optim",
    "scheduler": "scheduler",
    "fp16": "trainer.precision",
    "bf16": "trainer.precision",
}
"""Settings of a DeepSpeed file that have their home elsewhere here."""


def deepspeed_agrees_with_the_trainer(tree: Tree) -> Iterator[str]:
    """Each setting has one home; DeepSpeed is installed; what it cannot do is not asked of it."""
    if _strategy_class(tree) != "DeepSpeedZero":
        return
    if importlib.util.find_spec("deepspeed") is None:
        yield (
            "trainer.strategy is DeepSpeed's, but the package deepspeed is not installed. Install it "
            "(pip install 'rlsd-lightning[deepspeed]'), or choose trainer=fsdp2."
        )
    config = _value(tree, "trainer.strategy.config") or {}
    for key, home in _TRAINERS_OWN.items():
        if key in config:
            yield f"trainer.strategy.config.{key} is set, which is {home} here. Set that, and leave this out."
    zero = config.get("zero_optimization") or {}
    if "stage" in zero:
        yield (
            f"trainer.strategy.config.zero_optimization.stage is {zero['stage']}, which is trainer.strategy.stage here. "
            "Set that, and leave this out."
        )
    if _value(tree, "trainer.gradient_clip_algorithm") == "value":
        yield (
            "trainer.gradient_clip_algorithm is value, but DeepSpeed clips by norm. Set it to norm, or choose trainer=ddp."
        )
    if _class_name(_value(tree, "teacher._target_")) == "EmaTeacher" and _value(
        tree, "trainer.precision"
    ) not in ("32-true", 32, "32"):
        yield (
            "teacher=ema moves its weights by small shares, which are lost in the bfloat16 weights that DeepSpeed makes of "
            f"trainer.precision={_value(tree, 'trainer.precision')}. Choose teacher=synced, trainer=fsdp2 or trainer=ddp."
        )


def sharded_weights_have_one_type(tree: Tree) -> Iterator[str]:
    """FSDP2 joins the weights of a layer into one tensor, and adapters are float32."""
    is_fsdp, dtype = _strategy_class(tree) == "Fsdp2", _value(tree, "model.dtype")
    if is_fsdp and _value(tree, "model.lora") is not None and dtype != "float32":
        yield (
            f"model.dtype is {dtype} and model.lora is set: trainer=fsdp2 needs weights and adapters of one type. Set "
            "model.dtype=float32, or choose trainer=deepspeed_zero3."
        )


def four_bits_are_not_cut_up(tree: Tree) -> Iterator[str]:
    """Weights of 4 bits carry scales of their own, which ZeRO and FSDP2 do not know."""
    strategy = _strategy_class(tree)
    if _value(tree, "model.load_in_4bit") and strategy in ("DeepSpeedZero", "Fsdp2"):
        yield (
            f"model.load_in_4bit is true, which {strategy} cannot share out among ranks. Choose trainer=ddp, or set "
            "load_in_4bit to false."
        )


def _strategy_class(tree: Tree) -> str:
    """Return the name of the strategy's class; nothing for one that is chosen by a word."""
    strategy = _value(tree, "trainer.strategy")
    return _class_name(strategy.get("_target_")) if isinstance(strategy, dict) else ""


def _class_name(target: Any) -> str:
    return str(target).rpartition(".")[2]


def responses_are_named(tree: Tree) -> Iterator[str]:
    """Scoring needs something to score."""
    if _value(tree, "responses") is None:
        yield (
            "responses is null, so there is nothing to score. Set it to a file of responses, such as "
            "responses=mathvision.jsonl, or to a folder with <evaluator>.jsonl."
        )


RULES: dict[str, tuple[Callable[[Tree], Iterator[str]], ...]] = {
    "fit": (
        enough_completions,
        run_has_an_end,
        launcher_started_as_many,
        problems_are_shared_out,
        micro_batches_are_filled,
        overlap_has_an_engine_elsewhere,
        overlap_is_corrected,
        lag_is_allowed,
        ranks_share_an_engine,
        loggers_are_installed,
        workers_outlast_verifiers,
        deepspeed_agrees_with_the_trainer,
        sharded_weights_have_one_type,
        four_bits_are_not_cut_up,
    ),
    "score": (responses_are_named,),
    "plan": (
        enough_completions,
        run_has_an_end,
        problems_are_shared_out,
        micro_batches_are_filled,
    ),
}
"""Those of each command, in the order in which faults are told."""
RULES["doctor"] = RULES["fit"]  # it looks at what `fit` would do


def _total_limits(node: Any, path: str) -> Iterator[tuple[str, float]]:
    """Yield every total_limit_s of a verifier and of those in it, with where it stands."""
    for key, value in node.items() if isinstance(node, dict) else ():
        if key == "total_limit_s" and isinstance(value, int | float):
            yield f"{path}.{key}", value
        yield from _total_limits(value, f"{path}.{key}")


def _value(tree: Tree, path: str) -> Any:
    """Return what stands at a path; None where there is nothing."""
    for key in path.split("."):
        tree = tree.get(key) if isinstance(tree, dict) else None  # type: ignore[assignment]
    return tree


def _number(tree: Tree, path: str) -> int | None:
    """Return the whole number at a path; None where there is none."""
    value = _value(tree, path)
    return value if isinstance(value, int) else None


def num_processes(tree: Tree) -> int:
    """Return how many processes there will be: those that are there, else those that the configuration asks for."""
    return _launched_processes() or (_devices(tree) or 1) * (
        _number(tree, "trainer.num_nodes") or 1
    )


def _launched_processes() -> int | None:
    """Return how many processes torchrun or srun has started; None if this one was started alone."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    alone = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")  # as Lightning sees it
    return int(os.environ["SLURM_NTASKS"]) if "SLURM_PROCID" in os.environ and not alone else None


def _devices(tree: Tree) -> int | None:
    """Return what trainer.devices comes to on this host, in every form that Lightning takes; None if in none."""
    devices = _value(tree, "trainer.devices")
    if isinstance(devices, list):
        return len(devices)
    if isinstance(devices, str) and "," in devices:
        return len([device for device in devices.split(",") if device.strip()])
    if devices in ("auto", -1, "-1"):
        return _accelerators(tree)
    if isinstance(devices, str) and devices.isdigit():
        return int(devices)
    return devices if isinstance(devices, int) and devices > 0 else None


def _accelerators(tree: Tree) -> int:
    """Count the GPUs of this host that trainer.accelerator would use; 1 for the CPU."""
    if _value(tree, "trainer.accelerator") == "cpu":
        return 1
    import torch  # takes seconds, and most configurations say how many devices they want

    return max(1, torch.cuda.device_count())
