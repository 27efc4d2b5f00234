"""Tells an error that a user can mend, which is said in its own words, from a bug, which keeps its traceback."""

from __future__ import annotations

import dis

from lightning.fabric.utilities.exceptions import MisconfigurationException

from rlsd_lightning.engines.errors import EngineError


def is_users_to_mend(error: Exception) -> bool:
    """Whether an error was raised on purpose, by this package or Lightning, about what a user has written or supplied.

    Told by the place where it began: a raise statement of this package, not a call that failed.
    """
    if isinstance(error, MisconfigurationException):
        return True
    if isinstance(error, EngineError):
        return error.__cause__ is None  # else a library failed, whose traceback is of use
    if not isinstance(error, ValueError | TypeError | OSError) or error.__traceback__ is None:
        return False
    place = error.__traceback__
    while place.tb_next is not None:
        place = place.tb_next
    module = place.tb_frame.f_globals.get("__name__", "")
    operation = dis.opname[place.tb_frame.f_code.co_code[place.tb_lasti]]
    return module.startswith("rlsd_lightning") and operation == "RAISE_VARARGS"
