"""vLLM's own API server, started from this package: `python -m rlsd_lightning.engines.vllm_api_server --model=...`.

Importing the package makes torchvision usable beside a torch build that it does not fit, here and in the processes that
vLLM starts, which import this module again.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys

from rlsd_lightning.sandbox.linux import die_with

PARENT = "RLSD_SERVED_BY"
"""Variable with the id of the process that the server is to end with."""

if __name__ == "__main__":
    if PARENT in os.environ and sys.platform == "linux":
        die_with(int(os.environ[PARENT]), signal.SIGTERM)
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")
