"""Two ranks ask an engine of their own, and then one engine for both: the same questions, and bad ones.

python -m torch.distributed.run --nproc-per-node 2 shared_engine.py MODEL OUT
"""

import json
import os
import sys
from pathlib import Path

import rlsd_lightning  # noqa: F401 - before torchvision

# isort: split
import torch

from rlsd_lightning.engines.errors import EngineError
from rlsd_lightning.types import Problem
from rlsd_lightning.weight_check import first_layer_that_differs, fixed_prompts
from rlsd_lightning.weights import weight_names
from tests.helpers.vllm_case import Case


def say(case, rank):
    """Sample for this rank's prompts, of which the ranks have different numbers; twice, with new weights in between."""
    groups = case.sample(case.prompts[rank:], seed=7)
    case.shake()
    case.sync()
    again = case.sample(case.prompts[rank:], seed=7, temperature=0.7, top_p=0.9)
    return [[[each.token_ids for each in group] for group in said] for said in (groups, again)]


def refusal(ask):
    try:
        ask()
    except EngineError as error:
        return str(error)
    raise AssertionError("nothing was refused")


def ask_too_much(case, rank):
    """The prompt of rank 1 is too long."""
    much = case.encoder.student(Problem(id="much", prompt="word " * (400 * rank + 1)))
    return refusal(lambda: case.sample([much]))


def ask_with_nan(case, rank):
    """A NaN arises in the second layer, in what is computed for one rank's prompt as for all."""
    name = next(
        name for name in weight_names(case.policy) if name.endswith("layers.1.mlp.up_proj.weight")
    )
    weight = case.policy.model.get_parameter(name)
    before = weight.detach().clone()
    with torch.no_grad():
        weight.fill_(1e38)
    case.sync()
    said = refusal(lambda: case.sample(case.prompts[rank:]))
    with torch.no_grad():
        weight.copy_(before)
    case.sync()
    return said


def look_inside(case):
    """Which layer differs: none, and then one whose weights were changed after the sync."""
    prompts = fixed_prompts(case.encoder)
    none = first_layer_that_differs(case.policy, case.engine, prompts, "32")
    name = next(
        name for name in weight_names(case.policy) if name.endswith("layers.1.mlp.down_proj.weight")
    )
    with torch.no_grad():
        case.policy.model.get_parameter(name).mul_(1.5)
    return none, first_layer_that_differs(case.policy, case.engine, prompts, "32")


def surroundings():
    """What vLLM may not change; OpenCV, which reads images, changes a variable when it is imported."""
    own = ("VLLM_", "LD_LIBRARY_PATH")
    return {k: v for k, v in os.environ.items() if not k.startswith(own)} | {
        "threads": torch.get_num_threads(),
        "ranks": torch.distributed.get_world_size(),
    }


def main(model, out):
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    before = surroundings()
    own = Case(model)
    found = {"own": say(own, rank)}
    own.engine.close()
    case = Case(model, tensor_parallel_size=2)
    found["shared"] = say(case, rank)
    found["gap"] = case.gap()
    found["too_much"] = ask_too_much(case, rank)
    found["nan"] = ask_with_nan(case, rank)
    found["gap_afterwards"] = case.gap()
    found["layers"] = look_inside(case)
    case.engine.close()
    found["is_as_before"] = before.items() <= surroundings().items()
    total = torch.tensor(rank + 1)
    torch.distributed.all_reduce(total)
    found["group_works"] = total.item()
    Path(out, f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
