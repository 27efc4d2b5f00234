"""What a run will cost, before it runs: memory per GPU by part, FLOPs and seconds by phase, and what to change.

architecture.py  the sizes of a model, from its config alone      hardware.py  published numbers of GPUs
setup.py         a configuration as the numbers that matter here  workload.py  how a step's tokens lie in rows
engines.py       what makes the rollouts                          serving.py   a serving engine's weights and cache
memory.py        bytes by part and phase                          flops.py     FLOPs, traffic and seconds
cache.py         keys and values of a token                       advice.py    what to change where it does not fit
page.py          the answer as text                               engine_notes.py  what it says about the engine
"""

from rlsd_lightning.planning.setup import Assumptions

__all__ = ["Assumptions"]
