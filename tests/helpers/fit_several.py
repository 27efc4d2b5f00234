"""Runs `fit` several times in each of the processes that torchrun has started, so that libraries load once.

python -m torch.distributed.run --nproc-per-node 2 fit_several.py CONFIG_DIR COMMON... -- NAME OVERRIDE... -- NAME ...
"""

import os
import sys

import rlsd_lightning  # noqa: F401 - before torchvision

# isort: split
import torch
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra

from rlsd_lightning.train import run


def main(words):
    """Fit once for each NAME, with the runs in a folder of that name."""
    config_dir, *words = words
    groups = [[]]
    for word in words:
        groups.append([]) if word == "--" else groups[-1].append(word)
    common, *runs = groups
    for name, *overrides in runs:
        with initialize_config_module("rlsd_lightning.conf", version_base="1.3"):
            search = f"hydra.searchpath=[file://{config_dir}]"
            cfg = compose("main", [search, *common, *overrides, f"paths.runs={name}"])
        GlobalHydra.instance().clear()
        environment = dict(os.environ)
        run(cfg, "fit")
        os.environ.clear()  # the next run chooses a folder of its own
        os.environ.update(environment)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1:])
