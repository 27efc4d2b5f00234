"""rlsd_lightning trains reasoning models, vision-language ones first, with RLSD (arXiv:2604.03128)."""

import importlib.util
import os
import sys
from importlib.metadata import version
from pathlib import Path


def _require_installed() -> None:
    """Stop with one sentence where only the source folder is on the path and the plugin rooms are not mapped."""
    if importlib.util.find_spec("rlsd_lightning.verifiers") is not None:
        return
    source = Path(__file__).resolve().parents[1]
    message = (
        f"rlsd_lightning was found in the source folder {source}, but is not installed, so that its verifiers, "
        f"callbacks, evaluators and conf are missing. Install it once: {sys.executable} -m pip install -e {source}"
    )
    # `python -m rlsd_lightning` imports the package while argv[0] is still "-m": a sentence, no traceback.
    raise SystemExit(message) if sys.argv[:1] == ["-m"] else ImportError(message)


_require_installed()

__version__ = version("rlsd-lightning")

from rlsd_lightning.torchvision_ops import ensure_torchvision_ops, is_cpu_build

ensure_torchvision_ops()
if is_cpu_build():  # transformers may import DeepSpeed, which would warn that it found no GPU
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
