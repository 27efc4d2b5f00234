"""From rows on disk or hub to the micro-batches of a step."""

from rlsd_lightning.data.problems import ProblemDataset, StreamingProblems

__all__ = ["ProblemDataset", "StreamingProblems"]
