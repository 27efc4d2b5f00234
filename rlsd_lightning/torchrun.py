"""What processes that torchrun has started can agree on before they form a group, through the store of its agent."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.distributed import Store

TIMEOUT = timedelta(minutes=5)
"""How long the other processes wait for rank zero."""

_number_of_question = itertools.count()


def is_launched() -> bool:
    """Whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def agreed(decide: Callable[[], Any], store: Store | None = None) -> Any:
    """Return what rank zero decides, on every process.

    Every process must ask the same questions in the same order.

    Args:
        decide: called on rank zero alone; its result must fit into JSON.
        store: where rank zero leaves the answer; None for that of torchrun's agent.

    Raises:
        Exception: on rank zero what `decide` raised.
        ValueError: on the others, that it did; or there is no such store.
    """
    store = agent_store() if store is None else store
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    key = f"rlsd_lightning/{attempt}/{next(_number_of_question)}"
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


def agent_store() -> Store:
    """Connect to the store that the agent of the first host keeps for its processes.

    Raises:
        ValueError: it keeps none.
    """
    from torch.distributed import TCPStore

    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        raise ValueError(
            "exp_manager.version is null, and torchrun was told not to share its store "
            "(TORCH_DISABLE_SHARE_RDZV_TCP_STORE), so that every process would choose a version of its own. "
            "Set exp_manager.version=NAME in the command of all hosts."
        )
    return TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=False,
        timeout=TIMEOUT,
    )
