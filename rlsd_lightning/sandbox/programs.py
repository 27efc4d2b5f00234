"""Runs a Python source: as a program with standard input and output, or as functions that are called from outside.

This runs in the process of the source, so the source can reach all of it. Nothing here is worth reaching: no expected
result, no test, and what is sent out is judged by somebody else.
"""

from __future__ import annotations

import _sitebuiltins
import atexit
import builtins
import json
import os
import sys
import types
from collections.abc import Callable
from io import BufferedReader

from rlsd_lightning.sandbox.values import decode, encode

TYPE_CHECKING = False  # as in typing, which takes long to load
if TYPE_CHECKING:
    from typing import Any, NoReturn

_CHANNEL = 3
_MAX_MESSAGE_CHARS = 200


def run_program(channel: BufferedReader, message: dict[str, Any]) -> NoReturn:
    """Run a source as Python runs a script, and end.

    Args:
        channel: closed, as a program has no use for it.
        message: {"source": ..., "paths": [...]}.
    """
    channel.close()
    os.close(_CHANNEL)
    code = 0
    try:
        exec(compile(message["source"], "solution.py", "exec"), _module("__main__", message))
    except SystemExit as error:
        code = _exit_code(error)
    except BaseException as error:
        _print_exception(error)
        code = 1
    end(code)


def serve_functions(channel: BufferedReader, message: dict[str, Any]) -> NoReturn:
    """Run a source, then do what requests ask of its functions and objects, until no more come.

    Args:
        channel: where requests come from, one line each.
        message: {"source": ..., "paths": [...], "nonce": ...}; every answer carries the nonce.
    """
    server = _Server(channel, message["nonce"])
    try:
        names = _module("solution", message)
        exec(compile(message["source"], "solution.py", "exec"), names)
    except BaseException as error:
        _print_exception(error)
        server.send(raised=_named(error))
        end(1)
    server.send(value=None)
    server.serve(names)
    end(0)


def end(code: int) -> NoReturn:
    """End as Python does: wait for threads, run what was put off until the end, write what is still buffered."""
    try:
        if "threading" in sys.modules:
            sys.modules["threading"]._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except BaseException:
        code = code or 1
    os._exit(code)


def _print_exception(error: BaseException) -> None:
    import traceback  # takes long to load, and most programs end well

    traceback.print_exception(error)


def _exit_code(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def _module(name: str, message: dict[str, Any]) -> dict[str, Any]:
    """Make an empty module and what every Python program expects to be there; returns its names."""
    for own in [own for own in sys.modules if own.split(".")[0] in ("rlsd_lightning", "__main__")]:
        del sys.modules[own]
    sys.path += message["paths"]
    sys.argv = ["solution.py"]
    builtins.exit = _sitebuiltins.Quitter("exit", "Ctrl-D")  # type: ignore[assignment]
    builtins.quit = _sitebuiltins.Quitter("quit", "Ctrl-D")  # type: ignore[assignment]
    module = types.ModuleType(name)
    sys.modules[name] = module
    sys.modules.setdefault("__main__", module)
    return module.__dict__


def _named(error: BaseException) -> list[str]:
    """Return an exception in words: the nearest type that Python itself has, and its message."""
    known = [kind for kind in type(error).__mro__ if kind.__module__ == "builtins"]
    try:
        text = str(error)[:_MAX_MESSAGE_CHARS]
    except BaseException:
        text = ""
    return [known[0].__name__, text]


class _Server:
    """Does what requests ask: look up a name, call something, read an attribute, apply an operator."""

    def __init__(self, channel: BufferedReader, nonce: str) -> None:
        self._channel = channel
        self._nonce = nonce
        self._objects: list[Any] = []

    def serve(self, names: dict[str, Any]) -> None:
        while line := self._channel.readline():
            request = json.loads(line)
            try:
                self.send(**self._do(request, names))
            except BaseException as error:
                self.send(raised=_named(error))

    def send(self, **answer: Any) -> None:
        data = json.dumps({"nonce": self._nonce, **answer}).encode() + b"\n"
        while data:
            data = data[os.write(_CHANNEL, data) :]

    def _do(self, request: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
        if request["do"] == "get":
            return {"value": self._encode(_looked_up(request["name"], names))}
        target = self._objects[request["target"]]
        if request["do"] == "attribute":
            return {"value": self._encode(getattr(target, request["name"]))}
        arguments = self._decode(request["args"])
        if request["do"] == "operator":
            return {"value": self._encode(_OPERATORS[request["name"]](target, *arguments))}
        keywords = {name: self._decode(value) for name, value in request["kwargs"].items()}
        answer = {"value": self._encode(target(*arguments, **keywords))}
        after = self._encode(arguments)
        return answer if after == request["args"] else answer | {"args": after}

    def _encode(self, value: Any) -> Any:
        return encode(value, self._keep)

    def _keep(self, value: Any) -> dict[str, Any]:
        if isinstance(value, _Callback):
            return {"t": "callback", "v": value.number}
        self._objects.append(value)
        return {"t": "handle", "v": len(self._objects) - 1}

    def _decode(self, data: Any) -> Any:
        return decode(data, self._find)

    def _find(self, data: dict[str, Any]) -> Any:
        if data["t"] == "callback":
            return _Callback(data["v"], self._call_back)
        return self._objects[data["v"]]

    def _call_back(self, number: int, arguments: tuple[Any, ...]) -> Any:
        self.send(callback=number, args=self._encode(list(arguments)))
        answer = json.loads(self._channel.readline())
        if "raised" in answer:
            raise RuntimeError(answer["raised"][1])
        return self._decode(answer["value"])


class _Callback:
    """A function of the tests' that was handed to the program."""

    def __init__(self, number: int, call: Callable[[int, tuple[Any, ...]], Any]) -> None:
        self.number = number
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(self.number, arguments)


_OPERATORS: dict[str, Callable[..., Any]] = {
    "__len__": len,
    "__str__": str,
    "__repr__": repr,
    "__bool__": bool,
    "__iter__": iter,
    "__next__": next,
    "__eq__": lambda one, other: bool(one == other),
    "__getitem__": lambda one, key: one[key],
    "__setitem__": lambda one, key, value: one.__setitem__(key, value),
    "__delitem__": lambda one, key: one.__delitem__(key),
}


def _looked_up(name: str, names: dict[str, Any]) -> Any:
    """Return what a source calls by a name: at its top level, or else a method of its class Solution."""
    if name not in names and "Solution" in names:
        return getattr(names["Solution"](), name)
    if name not in names:
        raise NameError(f"name {name!r} is not defined")
    return names[name]
