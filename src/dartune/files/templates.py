"""Jinja templates that lie beside the modules that fill them in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any


def render(file: Path, filters: dict[str, Callable[..., Any]] | None = None, **content: Any) -> str:
    """Return the filled-in template. A name that is not in `content` is an error; for HTML, every value is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(file.parent),
        autoescape=".html" in file.suffixes,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= filters or {}
    return environment.get_template(file.name).render(content)
