"""The words of a command line: what a user writes, what Hydra reads, what Lightning's other ranks are started with."""

from __future__ import annotations

import argparse
import sys

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser

from rlsd_lightning.config import COMMANDS
from rlsd_lightning.spelling import did_you_mean

USER_ERROR = 2
"""Exit status when the user can mend it."""


OF_RUNS = {
    "compare": "lay runs side by side in one page: compare RUN RUN ... [output=compare.html]"
}
"""Commands about finished runs, which read no configuration; they stand first on the command line."""


def usage() -> str:
    """Return the short help."""
    commands = COMMANDS | OF_RUNS
    width = max(map(len, commands))
    lines = [f"  {name:{width}}  {purpose}" for name, purpose in commands.items()]
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


def for_hydra(arguments: list[str]) -> list[str]:
    """Turn what a user writes into what Hydra reads: flags first, then the command as an override, then the others.

    Args:
        arguments: without the program's name.

    Raises:
        SystemExit: with the help, or with what is wrong with the command.

    Example:
        >>> for_hydra(["fit", "credit=rlsd,grpo", "--multirun"])
        ['--multirun', 'command=fit', 'credit=rlsd,grpo']
    """
    args = get_args_parser().parse_intermixed_args(arguments)
    words = [word for word in args.overrides if "=" not in word and not word.startswith("~")]
    if words and words[0] not in COMMANDS:
        hint = (
            did_you_mean(words[0], COMMANDS | OF_RUNS) or f"The commands are {', '.join(COMMANDS)}."
        )
        fail(f"{words[0]!r} is no command. {hint}")
    names_command = bool(words) or any(word.startswith("command=") for word in args.overrides)
    if not names_command and args.help:
        print(usage())
        raise SystemExit(0)
    only_asks = args.help or args.hydra_help or args.cfg or args.info or args.shell_completion
    if not names_command and not only_asks:
        fail(usage())
    flags = list(arguments)
    for word in args.overrides:
        flags.remove(word)
    if words:
        args.overrides.remove(words[0])
        args.overrides.insert(0, f"command={words[0]}")
    return flags + args.overrides


def for_ranks(sweep: argparse.Namespace) -> list[str]:
    """Return the command line that runs the present job of a sweep alone; Lightning starts its other ranks with it.

    Args:
        sweep: the parsed command line of the whole sweep.
    """
    flags = {
        "--config-dir": sweep.config_dir,
        "--config-path": sweep.config_path,
        "--config-name": sweep.config_name,
    }
    given = [word for flag, value in flags.items() if value for word in (flag, value)]
    overrides = HydraConfig.get().overrides
    return [
        *given,
        *overrides.task,
        *(o for o in overrides.hydra if not o.startswith("hydra.mode=")),
    ]


def name_of_job(sweep: list[str]) -> str:
    """Return the overrides in which the present job differs from the others of its sweep, such as credit=grpo.

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


def fail(message: str) -> None:
    """Say what is wrong, without a traceback, and end the program."""
    print(message, file=sys.stderr)
    raise SystemExit(USER_ERROR)
