"""Makes `import torchvision` work beside a torch build that its compiled operators do not fit.

pip often pairs a CPU build of torch with a CUDA build of torchvision. Its operator library then fails to load,
and its Python layer stops at "operator torchvision::nms does not exist", although image transforms need none of
those operators. Declaring them is enough for the transforms; calling one still fails, as it should.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path

import torch

log = logging.getLogger(__name__)

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[
    torch.library.Library
] = []  # a Library takes its operators along when it is collected


def is_cpu_build() -> bool:
    """Whether this torch was built without any accelerator; asks no driver."""
    return torch.version.cuda is None and torch.version.hip is None


def ensure_torchvision_ops() -> bool:
    """Declare torchvision's operators where its compiled ones cannot be loaded; call it before torchvision.

    Does nothing where torchvision is absent, already imported, or fits this torch. Imports no torchvision.

    Returns:
        Whether this call declared the operators.
    """
    if "torchvision" in sys.modules:
        return False
    folder = _torchvision_folder()
    if folder is None or _loads_compiled_ops(folder) or hasattr(torch.ops.torchvision, "nms"):
        return False
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        library.define(schema)
    _declared.append(library)
    log.info(
        "torchvision's compiled operators do not fit torch %s: declared them without kernels, "
        "so that its image transforms work.",
        torch.__version__,
    )
    return True


def _torchvision_folder() -> Path | None:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent


def _loads_compiled_ops(folder: Path) -> bool:
    """Load the operator library as torchvision itself would; loading it twice is harmless."""
    for path in sorted(folder.glob("_C.*")):
        try:
            torch.ops.load_library(str(path))
        except OSError:  # built for another torch: a symbol or a CUDA library is missing
            continue
        return True
    return False
