"""The languages that programs can be written in, and what compiles and runs them on this machine."""

from __future__ import annotations

import functools
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

_LOADERS = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
"""What the kernel starts first of a program with shared libraries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """How a source becomes a running program."""

    name: str
    tool: str = ""
    """The compiler or interpreter; none for Python, whose interpreter is the one that runs this."""
    file: str = ""
    """What the source is called."""
    flags: tuple[str, ...] = ()
    compiles: bool = False
    reserves_memory: bool = False
    """It reserves far more address space than it uses."""


_LANGUAGES = (
    Language(name="python"),
    Language(name="c", tool="gcc", file="main.c", flags=("-O2", "-std=c17"), compiles=True),
    Language(name="cpp", tool="g++", file="main.cpp", flags=("-O2", "-std=c++20"), compiles=True),
    Language(name="javascript", tool="node", file="main.js", reserves_memory=True),
)
LANGUAGES = {language.name: language for language in _LANGUAGES}
_ALSO_CALLED = {"python3": "python", "py": "python", "c++": "cpp", "js": "javascript"}


def language_named(name: object) -> Language:
    """Return a language by its name, one of its other names, in any case.

    Raises:
        ValueError: it is not known, or its compiler or interpreter is not on this machine.

    Example:
        >>> language_named("Python").name
        'python'
        >>> language_named("cobol")
        Traceback (most recent call last):
        ...
        ValueError: the language is 'cobol', but it must be one of python, c, cpp, javascript
    """
    lower = str(name).lower()
    language = LANGUAGES.get(_ALSO_CALLED.get(lower, lower))
    if language is None:
        raise ValueError(f"the language is {name!r}, but it must be one of {', '.join(LANGUAGES)}")
    if language.tool and _path_of(language.tool) is None:
        raise ValueError(
            f"the language is {name!r}, which needs {language.tool}, but there is none on this machine"
        )
    return language


def tool_of(language: Language) -> str:
    """Return where the compiler or interpreter of a language lies."""
    found = _path_of(language.tool)
    assert found is not None, "language_named looked for it"
    return found


def executable_to_compile(language: Language) -> list[str]:
    """Return where a compiler finds its parts: all of its installation, and the system's."""
    return ["/usr", str(Path(tool_of(language)).resolve().parents[1]), *_LOADERS]


def executable_to_run(program: str) -> list[str]:
    """Return what may be executed so that a program runs: it, and what loads its libraries."""
    return [os.path.realpath(program), *_LOADERS]


@functools.cache
def _path_of(tool: str) -> str | None:
    return shutil.which(tool)
