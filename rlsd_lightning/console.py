"""Keeps libraries from talking over a run: what they say that a user can do nothing about."""

from __future__ import annotations

import logging
import os
import warnings

from transformers.utils import logging as transformers_logging

HARMLESS = (
    "isinstance\\(treespec",  # Lightning's own use of a torch function that was renamed
    "Found .* module\\(s\\) in eval mode",  # the teacher's copy, which is never trained
    "Total length of `list` across ranks is zero",  # evaluators=none
    "The '.*_dataloader' does not have many workers",  # loading is no bottleneck beside sampling
    "Checkpoint directory .* exists and is not empty",  # a resumed run goes on in its folder
    "The dirpath has changed from",  # the same folder, written as a relative path before
    "Already found a `peft_config` attribute",  # a teacher's adapters beside the policy's
    "FSDP2-wrapped module .* returned a view tensor",  # which nobody writes to in place
    "`torch.distributed.\\w+` is deprecated",  # DeepSpeed's calls, not the user's
    "It is recommended to use `self.log\\(.*sync_dist=True\\)`",  # logged values are reduced already
)
"""Warnings, each with the reason why it is none here."""


def quieten_libraries() -> None:
    """Show warnings and errors of libraries, but not their greetings and loading bars."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    transformers_logging.disable_progress_bar()
    level = os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # INFO shows all
    logging.getLogger("vllm").setLevel(level)
    for message in HARMLESS:
        warnings.filterwarnings("ignore", message=f".*{message}")
