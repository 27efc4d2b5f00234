"""How much the evidence counts at each step: a rise, a plateau, and a fall to plain GRPO.

Pure: the step says all, so that a resumed run finds its lambda again. callbacks/lambda_decay.py hands it to the credit.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

Shape = Literal["linear", "cosine", "step"]


def lambda_at(
    step: int,
    peak: float,
    warmup_steps: int,
    hold_steps: int,
    decay_steps: int,
    shape: Shape = "linear",
) -> float:
    """Return lambda at an optimizer step.

    peak * s / W before step W, peak until W + H, then peak * fall((s - W - H) / D), and 0 from W + H + D on.
    RLSD's released code (arXiv:2604.03128) counts from 1 as we do and has no plateau: H = 0 is its schedule.

    Args:
        step: s, counted from 1.
        peak: lambda on the plateau, in [0, 1].
        warmup_steps: W.
        hold_steps: H.
        decay_steps: D; 0 stays at the peak for good.
        shape: of the fall: "linear", "cosine" (half a wave), or "step" (at the peak, then 0).

    Returns:
        A value in [0, peak].

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> [lambda_at(s, peak=0.5, warmup_steps=2, hold_steps=1, decay_steps=2) for s in range(1, 7)]
        [0.25, 0.5, 0.5, 0.25, 0.0, 0.0]
    """
    _check(step, peak, warmup_steps, hold_steps, decay_steps, shape)
    if step < warmup_steps:
        return peak * step / warmup_steps
    fallen = step - warmup_steps - hold_steps
    if fallen <= 0 or decay_steps == 0:
        return float(peak)
    if fallen >= decay_steps:
        return 0.0
    return peak * _remaining(fallen / decay_steps, shape)


def _remaining(share: float, shape: Shape) -> float:
    """Return what is left of the peak after this share of the fall, strictly inside it."""
    if shape == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * share))
    return 1.0 - share if shape == "linear" else 1.0


def _check(
    step: int, peak: float, warmup_steps: int, hold_steps: int, decay_steps: int, shape: str
) -> None:
    counts = {"warmup_steps": warmup_steps, "hold_steps": hold_steps, "decay_steps": decay_steps}
    faults = [f"{name} is {count}, needs 0 or more" for name, count in counts.items() if count < 0]
    if step < 1:
        faults.append(f"step is {step}, needs 1 or more: the first optimizer step is step 1")
    if not 0 <= peak <= 1:
        faults.append(f"peak is {peak}, needs a value in [0, 1]")
    if shape not in get_args(Shape):
        faults.append(f"shape is {shape!r}, needs one of {', '.join(get_args(Shape))}")
    if faults:
        raise ValueError("lambda_at: " + "; ".join(faults) + ". Set it in callbacks.lambda_decay.")
