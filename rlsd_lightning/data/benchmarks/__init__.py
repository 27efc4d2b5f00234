"""Published benchmarks as Problems, read from the hub or from a local copy by their published fields.

One file per benchmark says what its fields mean. opening.py makes one source of all rows, fields.py reads them, marks.py
puts images where a question marks them, dataset.py checks and numbers the problems. Every published field that is no part of a Problem itself is in `extra` under its own name.
"""

from rlsd_lightning.data.benchmarks.mathvision import MathVision
from rlsd_lightning.data.benchmarks.mathvista import MathVista
from rlsd_lightning.data.benchmarks.mmmu import MMMU
from rlsd_lightning.data.benchmarks.wemath import WeMath
from rlsd_lightning.data.benchmarks.zerobench import ZeroBench

__all__ = ["MMMU", "MathVision", "MathVista", "WeMath", "ZeroBench"]
