"""How much the evidence counts at each step: a rise, a plateau, and a fall to plain GRPO."""

from __future__ import annotations

import math
from typing import Literal

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

    s < W: peak * s / W.   s < W + H: peak.   then peak * fall((s - W - H) / D), 0 from there on.
    The launch script of RLSD (arXiv:2604.03128): peak 0.5, W 0, H 0, D 60; it counts steps from 1 and has no H.

    Args:
        step: s, counted from 1.
        peak: lambda on the plateau, in [0, 1].
        warmup_steps: W.
        hold_steps: H.
        decay_steps: D; 0 never falls.
        shape: of the fall: "linear", "cosine" (half a wave), or "step" (at the peak until it drops to 0).

    Example:
        >>> [lambda_at(s, peak=0.5, warmup_steps=2, hold_steps=1, decay_steps=2) for s in range(1, 7)]
        [0.25, 0.5, 0.5, 0.25, 0.0, 0.0]
    """
    if step < 1 or not 0 <= peak <= 1 or min(warmup_steps, hold_steps, decay_steps) < 0:
        raise ValueError(
            f"lambda_at: step {step} (from 1), peak {peak} (in [0, 1]), warmup_steps {warmup_steps}, hold_steps "
            f"{hold_steps}, decay_steps {decay_steps} (0 or more). Correct what is out of its range."
        )
    falls = {
        "linear": lambda share: 1.0 - share,
        "cosine": lambda share: 0.5 * (1.0 + math.cos(math.pi * share)),
        "step": lambda share: 1.0,
    }
    if shape not in falls:
        raise ValueError(f"lambda_at: shape is {shape!r}; needed is one of {', '.join(falls)}.")
    if step < warmup_steps:
        return peak * step / warmup_steps
    fallen = step - warmup_steps - hold_steps
    if fallen <= 0 or decay_steps == 0:
        return peak
    return peak * falls[shape](fallen / decay_steps) if fallen < decay_steps else 0.0
