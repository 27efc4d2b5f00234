"""Peak memory and time of token_divergence against the naive way over all logits, forward and backward.

    python benchmarks/divergence.py            the table at V = 151,936 and N = 2,048 (minutes)
    python benchmarks/divergence.py --quick    a small shape (seconds)

Every run is a process of its own; ours and the naive way take turns, and the table holds medians. peak, beside and wall
are those of benchmarks/logprobs.py; the gradients are those of the student's hidden [N, H] and weight [V, H].
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from _table import table
from logprobs import read_peak, start_peak
from torch import Tensor

from rlsd_lightning.divergence import token_divergence

Form = dict[str, Any]
Method = Callable[..., Tensor]

FORMS: dict[str, Form] = {
    "forward_kl": {"kind": "forward_kl"},
    "reverse_kl": {"kind": "reverse_kl"},
    "jsd": {"kind": "jsd"},
    "forward_kl, top 100": {"kind": "forward_kl", "top_k": 100},
}
QUANTITIES = {"peak": ("MiB", 2**20, 0), "beside": ("MiB", 2**20, 0), "wall": ("s", 1, 2)}


def naive_divergence(
    hidden: Tensor,
    weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    *,
    kind: str,
    top_k: int | None = None,
) -> Tensor:
    """Compare all log-probs of both sides in float32 and leave the gradient to autograd."""
    student = (hidden @ weight.T).float().log_softmax(-1)
    with torch.no_grad():
        teacher = (teacher_hidden @ teacher_weight.T).float().log_softmax(-1)
    if top_k is not None:
        ids = teacher.topk(top_k).indices
        student, teacher = (_bucketed(side, ids) for side in (student, teacher))
    if kind == "forward_kl":
        return _kl(teacher, student)
    if kind == "reverse_kl":
        return _kl(student, teacher)
    mixture = (0.5 * (student.exp() + teacher.exp())).log()
    return 0.5 * (_kl(teacher, mixture) + _kl(student, mixture))


def _bucketed(logprobs: Tensor, ids: Tensor) -> Tensor:
    chosen = logprobs.gather(-1, ids)
    rest = (1 - chosen.exp().sum(-1, keepdim=True)).clamp(min=1e-30).log()
    return torch.cat([chosen, rest], -1)


def _kl(left: Tensor, right: Tensor) -> Tensor:
    return (left.exp() * (left - right)).sum(-1)


METHODS: dict[str, Method] = {"naive": naive_divergence, "ours": token_divergence}


class Inputs:
    """A student, a teacher, and the one thing that both ways are asked to do with them."""

    def __init__(
        self, places: int, vocabulary: int, hidden_size: int, dtype: str, device: str
    ) -> None:
        torch.manual_seed(0)
        kind = {"dtype": getattr(torch, dtype), "device": device}
        # Filled in place: a draw in another dtype would leave a larger copy in the peak.
        hidden, teacher_hidden = (torch.empty(places, hidden_size, **kind) for _ in range(2))
        weight, teacher_weight = (torch.empty(vocabulary, hidden_size, **kind) for _ in range(2))
        self.teacher = teacher_hidden.normal_(), teacher_weight.normal_(std=0.02)
        self.student = (
            hidden.normal_().requires_grad_(),
            weight.normal_(std=0.02).requires_grad_(),
        )

    def run(self, method: Method, form: Form) -> int:
        """Go forward and backward once, drop the gradients, and return their bytes."""
        method(*self.student, *self.teacher, **form).mean().backward()
        size = 0
        for tensor in self.student:
            assert tensor.grad is not None
            size += tensor.grad.nbytes
            tensor.grad = None
        return size


def measure(method: Method, form: Form, shape: dict[str, Any]) -> dict[str, float]:
    """Measure one forward and backward. Once per process: a second run would find memory already mapped."""
    device = shape["device"]
    Inputs(**shape | {"places": 64, "vocabulary": 1024}).run(method, form)
    inputs = Inputs(**shape)
    if device == "cuda":  # its libraries choose kernels and workspaces by shape
        inputs.run(method, form)
    held, start = start_peak(device), time.perf_counter()
    gradients = inputs.run(method, form)
    peak = read_peak(device) - held
    return {"peak": peak, "beside": peak - gradients, "wall": time.perf_counter() - start}


def measure_apart(job: dict[str, Any], threads: int) -> dict[str, float]:
    """Measure in a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, "--job", json.dumps(job)],
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def compare(form: str, shape: dict[str, Any], args: argparse.Namespace) -> list[str]:
    """Return a line of the table: both ways in turns, medians and their ratios."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in METHODS}
    for _ in range(args.repeats):
        for name in METHODS:
            job = {"method": name, "form": form, "shape": shape}
            runs[name].append(measure_apart(job, args.threads))
    cells = [form]
    for quantity, (_, unit, digits) in QUANTITIES.items():
        naive, ours = (median(run[quantity] for run in runs[name]) / unit for name in METHODS)
        cells += [f"{naive:.{digits}f}", f"{ours:.{digits}f}", f"{ours / naive:.2f}"]
    return cells


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=list(FORMS))
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--places", type=int, default=2048)
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2, help="on a CPU")
    parser.add_argument("--repeats", type=int, default=3, help="processes per way")
    parser.add_argument("--quick", action="store_true", help="one small shape, once")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.hidden, args.places, args.vocabulary, args.repeats = 64, 1024, 32_768, 1
    return args


def main() -> None:
    """Print the table, or measure the one job this process was started for."""
    args = parse_args()
    if args.job:
        job = json.loads(args.job)
        print(json.dumps(measure(METHODS[job["method"]], FORMS[job["form"]], job["shape"])))
        return
    print(
        f"N = {args.places}, V = {args.vocabulary}, H = {args.hidden}, {args.dtype}, {args.device}, "
        f"torch {torch.__version__}, median of {args.repeats}; ratio = ours / naive\n"
    )
    shape = {
        "places": args.places,
        "vocabulary": args.vocabulary,
        "hidden_size": args.hidden,
        "dtype": args.dtype,
        "device": args.device,
    }
    header = ["divergence"]
    for quantity, (unit, _, _) in QUANTITIES.items():
        header += [f"naive {quantity} {unit}", "ours", "ratio"]
    print(table(header, [compare(form, shape, args) for form in args.forms]))


if __name__ == "__main__":
    main()
