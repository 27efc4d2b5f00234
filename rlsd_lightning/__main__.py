"""The command line: python -m rlsd_lightning COMMAND key=value ...

The command's word stands for the configuration's key `command`, and is written back into sys.argv as that, so that
Lightning, which starts its other ranks from sys.argv, starts them with the same command.
"""

from __future__ import annotations

import argparse
import dis
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig

import rlsd_lightning
from rlsd_lightning.config import COMMANDS, ConfigError
from rlsd_lightning.overrides import override_faults
from rlsd_lightning.run_folder import SWEEP_JOB
from rlsd_lightning.spelling import did_you_mean

CONFIG_NAME = "main"
USER_ERROR = 2
"""Exit status when the user can mend it."""


def usage() -> str:
    """Return the short help."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {purpose}" for name, purpose in COMMANDS.items()]
    return "\n".join(
        [
            "usage: python -m rlsd_lightning COMMAND [group=option] [key=value] [--multirun] [--cfg job] [--help]",
            "",
            *lines,
            "",
            "python -m rlsd_lightning fit           runs the quickstart",
            "python -m rlsd_lightning fit --help    lists the groups and their options",
        ]
    )


def command_line(arguments: list[str]) -> list[str]:
    """Turn what a user writes into what Hydra reads: flags first, then the command as an override, then the others.

    Args:
        arguments: without the program's name.

    Returns:
        Such as ["--multirun", "command=fit", "credit=rlsd,grpo"].

    Raises:
        SystemExit: with the help, or with what is wrong with the command.
    """
    args = get_args_parser().parse_intermixed_args(arguments)
    words = [word for word in args.overrides if "=" not in word and not word.startswith("~")]
    if words and words[0] not in COMMANDS:
        hint = did_you_mean(words[0], COMMANDS) or f"The commands are {', '.join(COMMANDS)}."
        _fail(f"{words[0]!r} is no command. {hint}")
    names_command = bool(words) or any(word.startswith("command=") for word in args.overrides)
    if not names_command and args.help:
        print(usage())
        raise SystemExit(0)
    only_asks = args.help or args.hydra_help or args.cfg or args.info or args.shell_completion
    if not names_command and not only_asks:
        _fail(usage())
    flags = list(arguments)
    for word in args.overrides:
        flags.remove(word)
    if words:
        args.overrides.remove(words[0])
        args.overrides.insert(0, f"command={words[0]}")
    return flags + args.overrides


@hydra.main(config_path="pkg://rlsd_lightning.conf", config_name=CONFIG_NAME, version_base="1.3")
def _job(cfg: DictConfig) -> dict[str, float]:
    """Run one job: the whole command, or one combination of a sweep."""
    with _own_process_state():
        try:
            from rlsd_lightning.train import run

            return run(cfg, cfg.command)
        except Exception as error:
            if _wants_traceback():
                raise
            if is_users_to_mend(error):
                _fail("\n".join([str(error), *getattr(error, "__notes__", [])]))
            traceback.print_exc()
            raise SystemExit(1) from error


def main() -> None:
    """Read the command line and run it."""
    if sys.argv[1:] == ["--version"]:
        print(f"rlsd_lightning {rlsd_lightning.__version__}")
        return
    sys.argv[1:] = command_line(sys.argv[1:])
    try:
        with _environment(HYDRA_FULL_ERROR="1"):  # else Hydra prints its errors itself
            _job()
    except HydraException as error:
        if _wants_traceback():
            raise
        args = get_args_parser().parse_args()
        faults = override_faults(
            args.overrides, args.config_name or CONFIG_NAME, _absolute(args.config_dir)
        )
        _fail(str(ConfigError(faults)) if faults else str(error.__cause__ or error))


def is_users_to_mend(error: Exception) -> bool:
    """Whether an error is one that this package raised on purpose, about what a user has written or supplied.

    Told by the place where it began: a raise statement of ours, not a call that failed.
    """
    if not isinstance(error, ValueError | TypeError | OSError) or error.__traceback__ is None:
        return False
    place = error.__traceback__
    while place.tb_next is not None:
        place = place.tb_next
    module = place.tb_frame.f_globals.get("__name__", "")
    operation = dis.opname[place.tb_frame.f_code.co_code[place.tb_lasti]]
    return module.startswith("rlsd_lightning") and operation == "RAISE_VARARGS"


@contextmanager
def _own_process_state() -> Iterator[None]:
    """Keep what a job does to the process from the next job of a sweep, and let its ranks find this very job."""
    arguments = sys.argv[1:]
    with _environment(HYDRA_FULL_ERROR=_USERS_FULL_ERROR):
        if os.environ.get("LOCAL_RANK", "0") != "0":
            logging.getLogger().setLevel(logging.WARNING)  # rank zero says it once
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            args = get_args_parser().parse_args(arguments)
            sys.argv[1:] = _relaunch_arguments(args)
            os.environ[SWEEP_JOB] = _name_of_job(args.overrides)
        try:
            yield
        finally:
            sys.argv[1:] = arguments
            _leave_process_group()


def _relaunch_arguments(args: argparse.Namespace) -> list[str]:
    """Return the command line that runs this job of a sweep alone."""
    flags = {
        "--config-dir": args.config_dir,
        "--config-path": args.config_path,
        "--config-name": args.config_name,
    }
    given = [word for flag, value in flags.items() if value for word in (flag, value)]
    overrides = HydraConfig.get().overrides
    return [
        *given,
        *overrides.task,
        *(o for o in overrides.hydra if not o.startswith("hydra.mode=")),
    ]


def _name_of_job(sweep: list[str]) -> str:
    """Return the overrides in which this job differs from the others of its sweep, such as credit=grpo.

    Args:
        sweep: the overrides of the whole sweep.
    """
    parser = OverridesParser.create()
    swept = {
        parsed.key_or_group
        for parsed in parser.parse_overrides(sweep)
        if parsed.is_sweep_override()
    }
    mine = HydraConfig.get().overrides.task
    chosen = [text for text in mine if parser.parse_override(text).key_or_group in swept]
    return ",".join(
        chosen or mine
    )  # a sweep that a yaml asks for names nothing on the command line


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


_USERS_FULL_ERROR = os.environ.get("HYDRA_FULL_ERROR")


def _wants_traceback() -> bool:
    return "1" in (_USERS_FULL_ERROR, os.environ.get("RLSD_TRACEBACK"))


def _absolute(folder: str | None) -> str | None:
    return os.path.abspath(folder) if folder else None


def _fail(message: str) -> None:
    print(message, file=sys.stderr)
    raise SystemExit(USER_ERROR)


if __name__ == "__main__":
    main()
