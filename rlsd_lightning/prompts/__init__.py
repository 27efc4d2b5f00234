"""What the student (x) and the teacher (x, r) read: from a Problem to a Prompt in the model's tokens.

template.py says what each view shows, reference.py picks and cuts r, chat.py tokenises, encoder.py puts in the
images and holds the limits, overlong.py finds problems that exceed them.
"""

from rlsd_lightning.prompts.encoder import PromptEncoder, PromptTooLongError
from rlsd_lightning.prompts.overlong import filter_overlong
from rlsd_lightning.prompts.template import PromptTemplate

__all__ = ["PromptEncoder", "PromptTemplate", "PromptTooLongError", "filter_overlong"]
