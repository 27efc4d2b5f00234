"""Says which words of a command line do not fit the configuration, all at once, and what was probably meant."""

from __future__ import annotations

from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

from rlsd_lightning.known_keys import dotted_keys
from rlsd_lightning.spelling import did_you_mean


def override_faults(overrides: list[str], config_name: str, config_dir: str | None) -> list[str]:
    """Return a line for every override that the configuration cannot be composed with; empty if it is none of them.

    Each is tried on top of those that fit; groups come before keys, as a key may belong to a group's option.

    Args:
        overrides: as written on the command line.
        config_name: the top file's name.
        config_dir: a folder of the user's own with more groups, or None.
    """
    fitting = [f"hydra.searchpath=[file://{config_dir}]"] if config_dir else []
    errors: dict[str, HydraException] = {}
    with initialize_config_module("rlsd_lightning.conf", version_base="1.3"):
        try:
            cfg = compose(config_name, fitting)
        except HydraException:  # the files themselves do not compose
            return []
        for override in sorted(overrides, key=lambda text: "." in text.partition("=")[0]):
            try:
                cfg = compose(config_name, [*fitting, override])
                fitting.append(override)
            except HydraException as error:
                errors[override] = error
    return [
        _explain(override, errors[override], cfg) for override in overrides if override in errors
    ]


def _explain(override: str, error: HydraException, cfg: DictConfig) -> str:
    """Say what is wrong with one override.

    Args:
        override: as written.
        error: what Hydra said.
        cfg: what the other overrides compose to.
    """
    if isinstance(error, OverrideParseException):
        return f"{override!r} cannot be read. Write key=value, in quotes if the value has spaces or brackets."
    key = OverridesParser.create().parse_override(override).key_or_group
    if isinstance(error, MissingConfigException) and error.options:
        group, _, option = (error.missing_cfg_file or "").rpartition("/")
        options = sorted(error.options)
        hint = did_you_mean(option, options) or f"It has {', '.join(options)}."
        return f"{override}: group {group} has no option {option}. {hint}"
    tree = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(tree, dict)
    known = {str(name) for name in dotted_keys(tree)}
    if key not in known and not override.startswith("+"):
        hint = did_you_mean(key, known) or "See them all: python -m rlsd_lightning fit --cfg job."
        parent = key.rpartition(".")[0]
        add = (
            f" If {parent} takes it, but its yaml leaves it out, write +{override}."
            if parent in known
            else ""
        )
        return f"{override}: the configuration has no key {key}. {hint}{add}"
    return f"{override}: {' '.join(str(error).split())}"
