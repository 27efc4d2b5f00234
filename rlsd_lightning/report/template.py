"""Fills a template: one HTML file without network, whose content policy allows no script but its own, by hash.

Everything that a model or a data set wrote is escaped here.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from rlsd_lightning.report.samples import verdict
from rlsd_lightning.report.scale import show
from rlsd_lightning.report.tokens import LEVELS

_HERE = Path(__file__).parent


def render(name: str, *, styles: Sequence[str], scripts: Sequence[str], **values: Any) -> str:
    """Fill a template of this folder.

    Args:
        name: the template's file.
        styles: files of CSS, in order.
        scripts: files of JavaScript, in order.
        values: what the template asks for beside style, script and script_hash.
    """
    script = "".join(_text(file) for file in scripts)
    return (
        _environment()
        .get_template(name)
        .render(
            style=Markup("".join(_text(file) for file in styles)),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            **values,
        )
    )


def render_macro(name: str, macro: str, *values: Any) -> Markup:
    """Fill one macro of a template: a part whose size has to be known before the page is put together."""
    return getattr(_environment().get_template(name).module, macro)(*values)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["show"] = show
    environment.globals["verdict"] = verdict
    environment.globals["levels"] = range(1, LEVELS + 1)
    return environment


def _text(file: str) -> str:
    return (_HERE / file).read_text(encoding="utf-8")
