"""What benchmark evaluators are made of: a metric keyed by question, an extraction step, intervals, an audit trail."""

from rlsd_lightning.scoring.benchmark import Benchmark, Judge
from rlsd_lightning.scoring.samples import Sample, Score

__all__ = ["Benchmark", "Judge", "Sample", "Score"]
