"""The paper's experiment, composed once for each choice of groups; single values are changed in a copy."""

import copy
import functools

from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

from rlsd_lightning.planning.setup import read_setup


@functools.cache
def _composed(*choices: str) -> DictConfig:
    with initialize_config_module("rlsd_lightning.conf", version_base="1.3"):
        return compose("config", list(choices))


def config(*overrides: str, experiment: str = "rlsd_qwen3_vl_8b") -> DictConfig:
    """Return the configuration of group=option and key.of.a.value=value."""
    choices = [word for word in overrides if "." not in word.split("=")[0]]
    cfg = copy.deepcopy(_composed(f"experiment={experiment}", *choices))
    for word in overrides:
        key, value = word.split("=", 1)
        if "." in key:
            OmegaConf.update(cfg, key, OmegaConf.create(f"value: {value}").value)
    return cfg


def setup(*overrides: str, experiment: str = "rlsd_qwen3_vl_8b"):
    return read_setup(config(*overrides, experiment=experiment))
