"""Several event tables: how they are named, and what may stand for them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from inspect import getattr_static
from typing import Any

from seqmel.core.errors import InputError
from seqmel.data.sources.records import is_records

__all__ = ["event_tables", "has_name", "named_events", "only_table"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def event_tables(events: Any) -> dict[str, Any] | None:
    """Return name -> table if these are named event tables, such as {"cards": ..., "clicks": ...}.

    A dictionary of columns, which is one table, gives None. It has lists, arrays and Series.

    Raises:
        InputError: a name is unsuitable, or two names differ only in case.
    """
    if not isinstance(events, Mapping) or not events or not all(map(_is_table, events.values())):
        return None
    if all(isinstance(table, (list, tuple)) for table in events.values()):
        return None
    seen: dict[str, str] = {}
    for name in events:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InputError(
                f"{name!r} cannot name a source of events. Expected letters, digits, _ and -, with"
                " a letter first."
            )
        if (other := seen.setdefault(name.casefold(), name)) != name:
            raise InputError(f"The sources {other!r} and {name!r} differ only in case. Rename one.")
    return dict(events)


def only_table(events: Any) -> Any:
    """Return the table of a single named source; other events unchanged."""
    tables = event_tables(events)
    return next(iter(tables.values())) if tables is not None and len(tables) == 1 else events


def _is_table(value: Any) -> bool:
    if isinstance(value, (str, os.PathLike, Mapping)) or is_records(value):
        return True
    if isinstance(value, (list, tuple)):
        return bool(value) and all(isinstance(one, (str, os.PathLike)) for one in value)
    # Looked up without calling: the columns of a LazyFrame are a costly property.
    return any(getattr_static(value, name, None) is not None for name in ("columns", "schema"))


def named_events(given: Sequence[str]) -> Any:
    """Return events from the arguments of a command: PATH, or NAME=PATH for each of several tables.

    Args:
        given: the arguments. A path that exists is a path, even with = in its name.

    Returns:
        The path, or name -> path.

    Raises:
        InputError: several arguments, of which one has no name, or two have the same.
    """
    named = [_split(one) for one in given]
    if len(named) == 1 and named[0][0] is None:
        return given[0]
    found: dict[str, str] = {}
    for name, path in named:
        if name is None:
            raise InputError(
                f"{path} has no name. Name each of several sources of events, as in cards={path}."
            )
        if name in found:
            raise InputError(
                f"The source {name} is named twice: {found[name]} and {path}. Give it once; one"
                " source may be a folder or a glob pattern."
            )
        found[name] = path
    return found


def has_name(given: str) -> bool:
    """Return whether an argument is NAME=PATH rather than PATH."""
    return _split(given)[0] is not None


def _split(given: str) -> tuple[str | None, str]:
    name, equals, path = given.partition("=")
    if not equals or not _NAME.fullmatch(name) or os.path.exists(given):
        return None, given
    return name, path
