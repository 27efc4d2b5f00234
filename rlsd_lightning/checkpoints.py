"""Checkpoint files that are whole or not there at all, and the search for the newest one."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

PARTIAL_SUFFIX = ".partial"
"""Ends the name of a file that is still being written."""


class WholeFileCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its final name and renames it when it is complete and on disk.

    Lightning's own way builds the file in memory, writes it to the system's temporary folder and moves it: from
    another file system that is a copy, and a kill in the middle leaves half a checkpoint under the final name.
    DeepSpeed and FSDP write folders their own way and do not come here.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Save on a local or network file system.

        Args:
            checkpoint: what the trainer wants to keep.
            path: the final name.
            storage_options: always None here.
        """
        if storage_options is not None:
            raise TypeError(
                "WholeFileCheckpointIO takes no storage_options: it writes to mounted file systems."
            )
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + PARTIAL_SUFFIX)
        with partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)


def newest_in(folder: Path) -> Path | None:
    """Return the checkpoint that was written last and is complete, or None.

    Args:
        folder: a run's checkpoints. Files named best* are for evaluation: training does not go on from them.
    """
    paths = [
        path
        for path in folder.glob("*.ckpt")
        if not path.name.startswith("best") and is_complete(path)
    ]
    return max(paths, key=_written_at, default=None)


def is_complete(path: Path) -> bool:
    """Whether a checkpoint was written to its end.

    torch.save ends a file with the zip directory; DeepSpeed ends a folder with `latest`, FSDP with `meta.pt`.
    """
    if path.is_dir():
        return (path / "latest").exists() or (path / "meta.pt").exists()
    return zipfile.is_zipfile(path)


def _written_at(path: Path) -> int:
    last = next((path / name for name in ("latest", "meta.pt") if (path / name).exists()), path)
    return last.stat().st_mtime_ns
