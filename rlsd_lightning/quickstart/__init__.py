"""What `fit` needs on a machine without data or model: a drawn data set and a tiny warmed-up model."""

from rlsd_lightning.quickstart.prepare import prepare
from rlsd_lightning.quickstart.recipe import Recipe

__all__ = ["Recipe", "prepare"]
