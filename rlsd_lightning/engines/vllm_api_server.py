"""vLLM's own API server, started from this package: `python -m rlsd_lightning.engines.vllm_api_server --model ...`.

Importing the package makes torchvision usable beside a torch build that it does not fit, here and in the processes that
vLLM starts, which import this module again.
"""

from __future__ import annotations

import runpy

if __name__ == "__main__":
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")
