"""Peak memory and time of token_logprobs against the naive log_softmax, forward and backward.

    python benchmarks/logprobs.py            the table at V = 151,936 and T = 2,048 (minutes)
    python benchmarks/logprobs.py --quick    a small shape (seconds)

Every run is a process of its own; ours and the naive way take turns, and the table holds medians. What is counted:

    peak          the most memory held at once during forward and backward, above what was held once the inputs existed
                  and kernels were loaded. On a CPU resident memory (VmHWM of Linux), on a GPU what torch allocated.
                  It includes the gradients of hidden [T, H] and weight [V, H], which no way can do without.
    beside grads  peak less the bytes of those gradients. Generous to the naive way, whose peak comes before they exist.
    wall          seconds of one forward and backward, allocations included.
    cpu           seconds of all threads in the same time: says what wall owes to other programs on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from rlsd_lightning.logprobs import token_logprobs

Method = Callable[[Tensor, Tensor, Tensor, float], Tensor]


def naive_logprobs(hidden: Tensor, weight: Tensor, token_ids: Tensor, temperature: float) -> Tensor:
    """Score tokens by way of all logits in float32."""
    logits = (hidden @ weight.T).float() / temperature
    return logits.log_softmax(-1).gather(-1, token_ids[:, None]).squeeze(1)


METHODS: dict[str, Method] = {"naive": naive_logprobs, "ours": token_logprobs}


class Inputs:
    """What both ways are given, and the one thing they are asked to do with it."""

    def __init__(
        self, tokens: int, vocabulary: int, hidden_size: int, dtype: str, device: str
    ) -> None:
        torch.manual_seed(0)
        kind = {"dtype": getattr(torch, dtype), "device": device}
        # Filled in place: a draw in another dtype would leave a larger copy in the peak.
        self.hidden = torch.empty(tokens, hidden_size, **kind).normal_().requires_grad_()
        self.weight = (
            torch.empty(vocabulary, hidden_size, **kind).normal_(std=0.02).requires_grad_()
        )
        self.token_ids = torch.randint(vocabulary, (tokens,), device=device)
        self.incoming = torch.randn(tokens, device=device)

    def run(self, method: Method, temperature: float) -> int:
        """Go forward and backward once, drop the gradients, and return their bytes."""
        method(self.hidden, self.weight, self.token_ids, temperature).backward(self.incoming)
        assert self.hidden.grad is not None
        assert self.weight.grad is not None
        size = self.hidden.grad.nbytes + self.weight.grad.nbytes
        self.hidden.grad = self.weight.grad = None
        return size


def measure(method: Method, shape: dict[str, int | str], temperature: float) -> dict[str, float]:
    """Measure one forward and backward. Once per process: a second run would find memory already mapped."""
    device = str(shape["device"])
    Inputs(**shape | {"tokens": 64, "vocabulary": 1024}).run(method, temperature)
    inputs = Inputs(**shape)
    if device == "cuda":  # its libraries choose kernels and workspaces by shape
        inputs.run(method, temperature)
    held = start_peak(device)
    wall, cpu = time.perf_counter(), time.process_time()
    gradients = inputs.run(method, temperature)
    peak = read_peak(device) - held
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"wall": wall, "cpu": cpu, "peak": peak, "beside": peak - gradients}


def start_peak(device: str) -> int:
    """Forget the peak so far and return the bytes held now."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM to the present resident size
    return _resident("VmRSS")


def read_peak(device: str) -> int:
    """Return the most bytes held at once since start_peak, all work done."""
    if device == "cuda":
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    return _resident("VmHWM")


def _resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(
        f"/proc/self/status has no {field}; resident memory is measured on Linux only."
    )


def measure_apart(
    name: str, shape: dict[str, int | str], args: argparse.Namespace
) -> dict[str, float]:
    """Measure in a fresh process."""
    job = json.dumps({"name": name, "shape": shape, "temperature": args.temperature})
    environment = os.environ | {"OMP_NUM_THREADS": str(args.threads)}
    done = subprocess.run(
        [sys.executable, __file__, "--job", job],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def compare(shape: dict[str, int | str], args: argparse.Namespace) -> str:
    """Return a line of the table: both ways in turns, medians and their ratios."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in METHODS}
    for _ in range(args.repeats):
        for name in METHODS:
            runs[name].append(measure_apart(name, shape, args))
    cells = [str(shape["hidden_size"]), str(shape["dtype"])]
    for quantity, unit, digits in (
        ("peak", 2**20, 0),
        ("beside", 2**20, 0),
        ("wall", 1, 2),
        ("cpu", 1, 2),
    ):
        naive, ours = (
            statistics.median(run[quantity] for run in runs[name]) / unit for name in METHODS
        )
        cells.append(f"{naive:.{digits}f} | {ours:.{digits}f} | {ours / naive:.2f}")
    return "| " + " | ".join(cells) + " |"


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--hidden", type=int, nargs="+", default=[1024, 2560])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2, help="on a CPU")
    parser.add_argument("--repeats", type=int, default=3, help="processes per way")
    parser.add_argument("--quick", action="store_true", help="one small shape, once")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.hidden, args.dtypes, args.repeats = [64], ["float32"], 1
        args.tokens, args.vocabulary = 1024, 32_768
    return args


def main() -> None:
    """Print the table, or measure the one job this process was started for."""
    args = parse_args()
    if args.job:
        job = json.loads(args.job)
        print(json.dumps(measure(METHODS[job["name"]], job["shape"], job["temperature"])))
        return
    print(
        f"T = {args.tokens}, V = {args.vocabulary}, temperature {args.temperature}, {args.device}, "
        f"torch {torch.__version__}, median of {args.repeats}; ratio = ours / naive\n"
    )
    titles = ["peak MiB", "beside grads MiB", "wall s", "cpu s"]
    print(
        "| H | dtype | " + " | ".join(f"{title}: naive | ours | ratio" for title in titles) + " |"
    )
    print("|---|---|" + "---|" * 3 * len(titles))
    for dtype in args.dtypes:
        for hidden_size in args.hidden:
            shape = {
                "tokens": args.tokens,
                "vocabulary": args.vocabulary,
                "hidden_size": hidden_size,
                "dtype": dtype,
                "device": args.device,
            }
            print(compare(shape, args), flush=True)


if __name__ == "__main__":
    main()
