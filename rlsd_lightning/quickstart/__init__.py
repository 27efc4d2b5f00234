"""What `fit` needs on a machine without data or model: a drawn data set and a tiny warmed-up model."""

from rlsd_lightning.quickstart.digits import Digits
from rlsd_lightning.quickstart.prepare import prepare
from rlsd_lightning.quickstart.questions import Questions
from rlsd_lightning.quickstart.recipe import Recipe
from rlsd_lightning.quickstart.records import Records
from rlsd_lightning.quickstart.shapes import Shapes
from rlsd_lightning.quickstart.text_prepare import prepare_text

__all__ = ["Digits", "Questions", "Recipe", "Records", "Shapes", "prepare", "prepare_text"]
