"""The command line: python -m rlsd_lightning COMMAND key=value ...

The command's word stands for the configuration's key `command`, and is written back into sys.argv as that, so that
Lightning, which starts its other ranks from sys.argv, starts them with the same command.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig

import rlsd_lightning
from rlsd_lightning import torchrun
from rlsd_lightning.command_line import fail, for_hydra, for_ranks, name_of_job
from rlsd_lightning.config import ConfigError
from rlsd_lightning.overrides import override_faults
from rlsd_lightning.run_folder import SWEEP_JOB

CONFIG_NAME = "main"

_FULL_ERROR = os.environ.get("HYDRA_FULL_ERROR")


def main() -> None:
    """Read the command line and run it."""
    if sys.argv[1:] == ["--version"]:
        print(f"rlsd_lightning {rlsd_lightning.__version__}")
        return
    if sys.argv[1:2] == ["compare"]:
        _compare(sys.argv[2:])
        return
    sys.argv[1:] = for_hydra(sys.argv[1:])
    try:
        with _environment(HYDRA_FULL_ERROR="1"):  # else Hydra prints its errors itself
            _job()
    except (
        KeyboardInterrupt
    ):  # training itself handles the first one: it finishes its step and saves
        print("Interrupted.", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None
    except HydraException as error:
        if _wants_traceback():
            raise
        args = get_args_parser().parse_args()
        config_dir = os.path.abspath(args.config_dir) if args.config_dir else None
        faults = override_faults(args.overrides, args.config_name or CONFIG_NAME, config_dir)
        fail(str(ConfigError(faults)) if faults else str(error.__cause__ or error))


def _compare(arguments: list[str]) -> None:
    """Lay runs side by side, which needs no configuration, and say where the page is."""
    from rlsd_lightning.report.compare import compare_command

    try:
        print(compare_command(arguments))
    except Exception as error:
        if _wants_traceback():
            raise
        _tell(error)
        raise SystemExit(1) from error


@hydra.main(config_path="pkg://rlsd_lightning.conf", config_name=CONFIG_NAME, version_base="1.3")
def _job(cfg: DictConfig) -> dict[str, float]:
    """Run one job: the whole command, or one combination of a sweep."""
    with own_process_state():
        try:
            from rlsd_lightning.train import (
                run,  # takes seconds, which a misspelt override need not wait for
            )

            return run(cfg, cfg.command)
        except Exception as error:
            torchrun.tell_failure(error)
            if _wants_traceback():
                raise
            _tell(error)
            raise SystemExit(1) from error


@contextmanager
def own_process_state() -> Iterator[None]:
    """Keep what a job does to the process from the next job of a sweep, and let its ranks find this very job."""
    arguments = sys.argv[1:]
    with _environment(HYDRA_FULL_ERROR=_FULL_ERROR):
        if os.environ.get("LOCAL_RANK", "0") != "0":
            logging.getLogger().setLevel(logging.WARNING)  # rank zero says it once
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            sweep = get_args_parser().parse_args(arguments)
            sys.argv[1:] = for_ranks(sweep)
            os.environ[SWEEP_JOB] = name_of_job(sweep.overrides)
        try:
            yield
        finally:
            sys.argv[1:] = arguments
            _leave_process_group()


def _tell(error: Exception) -> None:
    """Print an error: its own words if the user can mend it (and end the program), else the traceback of this job."""
    from rlsd_lightning.user_errors import is_users_to_mend

    if is_users_to_mend(error):
        fail("\n".join([str(error), *getattr(error, "__notes__", [])]))
    traceback.print_exc()


def _leave_process_group() -> None:
    """End the process group of a job with several ranks, so that the next job can make its own."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


@contextmanager
def _environment(**values: str | None) -> Iterator[None]:
    """Set or remove variables; afterwards the environment is as it was before, whatever else was changed."""
    before = dict(os.environ)
    for name, value in values.items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _wants_traceback() -> bool:
    return "1" in (_FULL_ERROR, os.environ.get("RLSD_TRACEBACK"))


if __name__ == "__main__":
    main()
