"""What processes that torchrun has started can agree on before they form a group, through the store of its agent.

A group is formed when the weights are there. Until then a rank knows nothing of the others: `agreed` and `meet` are for that.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.distributed import Store

TIMEOUT = timedelta(minutes=5)
"""How long the other processes wait for rank zero."""

_FAILED = "failed"
_number_of_question = itertools.count()


def is_launched() -> bool:
    """Whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def agreed(decide: Callable[[], Any]) -> Any:
    """Return what rank zero decides, on every process.

    Every process must ask the same questions in the same order.

    Args:
        decide: called on rank zero alone; its result must fit into JSON.

    Raises:
        Exception: on rank zero what `decide` raised.
        ValueError: on the others, that it did; or there is no such store.
    """
    store = agent_store()
    key = _key(next(_number_of_question))
    if os.environ["RANK"] != "0":
        answer = json.loads(store.get(key))
        if "error" in answer:
            raise ValueError(f"rank 0 stopped, so this rank does, too: {answer['error']}")
        return answer["decided"]
    try:
        decided = decide()
    except Exception as error:
        store.set(key, json.dumps({"error": str(error)}))  # else the other hosts would wait
        raise
    store.set(key, json.dumps({"decided": decided}))
    return decided


def meet() -> None:
    """Wait until every process has come here, or one has told that it will not; do nothing without such a store.

    Without this, the others would wait for the group that it never joins, for half an hour and without a word.

    Raises:
        ValueError: a process failed on its way; says which and why.
    """
    if not _has_store():
        return
    store = agent_store()
    here = _key(next(_number_of_question))
    store.add(here, 1)
    while store.add(here, 0) < int(os.environ["WORLD_SIZE"]):
        if store.check([_key(_FAILED)]):
            raise ValueError(store.get(_key(_FAILED)).decode())
        time.sleep(0.2)


def tell_failure(error: BaseException) -> None:
    """Tell the processes that wait in `meet` why this one does not come; do nothing without such a store.

    Args:
        error: what stopped it.
    """
    if not _has_store():
        return
    rank, host = os.environ["RANK"], socket.gethostname()
    first_line = next(iter(str(error).splitlines()), "").rstrip(".")
    told = (
        f"Rank {rank} on {host} failed before training began: {type(error).__name__}: {first_line}."
    )
    with contextlib.suppress(RuntimeError):  # the host of the store is gone: nobody waits there
        store = agent_store(timedelta(seconds=5))
        store.compare_set(
            _key(_FAILED), "", f"{told} So this rank ends, too."
        )  # the first one counts


def _has_store() -> bool:
    return is_launched() and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _key(name: str | int) -> str:
    """Name a key of this start of the processes; torchrun may start them again, with the same store."""
    return f"rlsd_lightning/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{name}"


def agent_store(timeout: timedelta = TIMEOUT) -> Store:
    """Connect to the store that the agent of the first host keeps for its processes.

    Args:
        timeout: of every wait on it.

    Raises:
        ValueError: it keeps none.
    """
    from torch.distributed import TCPStore

    if not _has_store():
        raise ValueError(
            "exp_manager.version is null, and torchrun was told not to share its store "
            "(TORCH_DISABLE_SHARE_RDZV_TCP_STORE), so that every process would choose a version of its own. "
            "Set exp_manager.version=NAME in the command of all hosts."
        )
    return TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=False,
        timeout=timeout,
    )
