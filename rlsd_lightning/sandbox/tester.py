"""Runs the asserts of a data set against functions that live in another process.

The names that the tests use but do not define stand for the program's; calling one sends the arguments over and brings
a plain value back, which is compared here. The program's process never holds a test, and what it sends back is data: a
value that claims to equal everything arrives as an object without a say.
"""

from __future__ import annotations

import ast
import builtins
import itertools
import json
import os
import sys
import types
from collections.abc import Callable, Iterator
from io import BufferedReader

from rlsd_lightning.sandbox.assertions import free_names, told_apart
from rlsd_lightning.sandbox.programs import end
from rlsd_lightning.sandbox.values import NotPlainError, decode, encode

TYPE_CHECKING = False  # as in typing, which takes long to load
if TYPE_CHECKING:
    from typing import Any, NoReturn

_CHANNEL = 3
_MAX_ITEMS = 100_000
"""How much of an iterator is handed to the program."""


class ProgramError(Exception):
    """The program raised what is none of Python's own exceptions, or is gone."""


def run_tests(channel: BufferedReader, message: dict[str, Any]) -> NoReturn:
    """Run tests and report on each.

    Args:
        channel: requests go out and answers come in, one line each.
        message: {"tests": source, "paths": [...], "stop_at_first": whether one failure is enough, "nonce": ...}.
    """
    sys.path += message["paths"]
    tree = ast.parse(message["tests"])
    program = _Program(channel, message["nonce"])
    module = types.ModuleType("tests")
    sys.modules["tests"] = module
    module.__dict__.update(program.names(free_names(tree)))
    outcomes: list[bool] = []
    for statement, is_test in told_apart(tree):
        passed = _passes(statement, module.__dict__)
        if is_test:
            outcomes.append(passed)
        if not passed and (message["stop_at_first"] or not is_test):
            break
    program.send(outcomes=outcomes)
    end(0)


def _passes(statement: ast.stmt, names: dict[str, Any]) -> bool:
    try:
        exec(compile(ast.Module([statement], []), "tests.py", "exec"), names)
    except BaseException as error:  # whatever it is, it is no pass
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return False
    return True


class _Program:
    """The program in the other process, as far as tests can see it."""

    def __init__(self, channel: BufferedReader, nonce: str) -> None:
        self._channel = channel
        self._nonce = nonce
        self._functions: list[Callable[..., Any]] = []

    def names(self, wanted: list[str]) -> dict[str, Any]:
        """Return what the program defines of some names."""
        found = {}
        for name in wanted:
            try:
                found[name] = self.ask(do="get", name=name)
            except Exception:
                continue
        return found

    def ask(self, **request: Any) -> Any:
        """Send a request and return the value that comes back."""
        return self.listen(request)[0]

    def call(self, target: int, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Call something of the program's; what it does to its arguments is done to these, too."""
        value, changed = self.listen(
            {
                "do": "call",
                "target": target,
                "args": self.encode(list(arguments)),
                "kwargs": {name: self.encode(value) for name, value in keywords.items()},
            }
        )
        for mine, theirs in zip(arguments, changed, strict=False):
            _copy_into(mine, theirs)
        return value

    def listen(self, request: dict[str, Any]) -> tuple[Any, list[Any]]:
        """Send a request, serving what the program asks in between; returns the value, and arguments that changed."""
        self.send(**request)
        while True:
            line = self._channel.readline()
            if not line:
                raise ProgramError("the program is gone")
            answer = json.loads(line)
            if "callback" in answer:
                self._call_back(answer)
                continue
            if "raised" in answer:
                raise _exception(answer["raised"])
            return self.decode(answer["value"]), self.decode(answer.get("args", []))

    def send(self, **message: Any) -> None:
        data = json.dumps({"nonce": self._nonce, **message}).encode() + b"\n"
        while data:
            data = data[os.write(_CHANNEL, data) :]

    def encode(self, value: Any) -> Any:
        return encode(value, self._refer)

    def decode(self, data: Any) -> Any:
        return decode(data, self._find)

    def _refer(self, value: Any) -> dict[str, Any]:
        if isinstance(value, _Remote):
            return {"t": "handle", "v": object.__getattribute__(value, "_number")}
        if isinstance(value, Iterator):
            return {"t": "iterator", "v": self.encode(list(itertools.islice(value, _MAX_ITEMS)))}
        if not callable(value):
            raise NotPlainError(f"a {type(value).__name__} cannot be handed to the program")
        self._functions.append(value)
        return {"t": "callback", "v": len(self._functions) - 1}

    def _find(self, data: dict[str, Any]) -> Any:
        if data.get("t") == "handle":
            return _Remote(self, int(data["v"]))
        return self._functions[int(data["v"])]

    def _call_back(self, asked: dict[str, Any]) -> None:
        """Call one of the functions that the program was handed, and only those."""
        try:
            value = self._functions[int(asked["callback"])](*self.decode(asked["args"]))
            self.send(do="return", value=self.encode(value))
        except Exception as error:
            self.send(do="return", raised=[type(error).__name__, str(error)])


class _Remote:
    """Something of the program's that is no plain value: a function, a class, an object.

    It takes part in no comparison with a plain value, and in no arithmetic: what it says of itself proves nothing.
    """

    def __init__(self, program: _Program, number: int) -> None:
        object.__setattr__(self, "_program", program)
        object.__setattr__(self, "_number", number)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return _program_of(self).call(_number_of(self), arguments, keywords)

    def __getattr__(self, name: str) -> Any:
        return _program_of(self).ask(do="attribute", target=_number_of(self), name=name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Remote) and _operator("__eq__")(self, other) is True

    def __hash__(self) -> int:
        return _number_of(self)

    def __bool__(self) -> bool:
        return _operator("__bool__")(self) is True


def _program_of(remote: _Remote) -> _Program:
    return object.__getattribute__(remote, "_program")


def _number_of(remote: _Remote) -> int:
    return object.__getattribute__(remote, "_number")


def _operator(name: str) -> Callable[..., Any]:
    def apply(remote: _Remote, *arguments: Any) -> Any:
        program = _program_of(remote)
        sent = program.encode(list(arguments))
        return program.ask(do="operator", target=_number_of(remote), name=name, args=sent)

    return apply


for _name in (
    *("__len__", "__str__", "__repr__", "__iter__", "__next__"),
    *("__getitem__", "__setitem__", "__delitem__"),
):
    setattr(_Remote, _name, _operator(_name))


def _exception(raised: Any) -> Exception:
    """Return an exception like the one that the program raised."""
    name, text = raised
    kind = getattr(builtins, str(name), None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(text)
        except TypeError:  # those that want more arguments
            return ProgramError(f"{name}: {text}")
    return ProgramError(f"{name}: {text}")


def _copy_into(mine: Any, theirs: Any) -> None:
    """Do to an argument what the program did to its copy."""
    if type(mine) is not type(theirs):
        return
    if isinstance(mine, list | bytearray):
        mine[:] = theirs
    elif isinstance(mine, dict | set):
        mine.clear()
        mine.update(theirs)
    elif type(mine).__name__ == "deque":
        mine.clear()
        mine.extend(theirs)
