"""What `fit` needs on a machine without data or model: a drawn data set and a tiny warmed-up model."""

from rlsd_lightning.quickstart.digits import Digits
from rlsd_lightning.quickstart.prepare import prepare
from rlsd_lightning.quickstart.recipe import Recipe
from rlsd_lightning.quickstart.shapes import Shapes

__all__ = ["Digits", "Recipe", "Shapes", "prepare"]
