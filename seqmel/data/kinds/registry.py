"""All kinds of columns, found in the files of this folder."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import warnings
from typing import Any

from seqmel.core.progress import EventsWarning
from seqmel.data.kinds import __path__ as folder
from seqmel.data.kinds.base import ColumnKind
from seqmel.data.schema import EventSchema
from seqmel.data.sources.checking import strange_times, times_key, times_of
from seqmel.data.sources.source import EventSource
from seqmel.data.sources.times import other_zone

__all__ = ["KINDS", "check_events", "kind_of"]

for _module in pkgutil.iter_modules(folder):
    importlib.import_module(f"seqmel.data.kinds.{_module.name}")


def _kinds(base: Any) -> list[type[ColumnKind[Any]]]:
    """Return the concrete classes below a class."""
    below = base.__subclasses__()
    return [base] if not inspect.isabstract(base) else [k for kind in below for k in _kinds(kind)]


# The features of a schema and of a vocabulary stand in this order.
KINDS: dict[str, ColumnKind[Any]] = {
    kind.role: kind()
    for kind in sorted(
        _kinds(ColumnKind),
        key=lambda kind: (kind.role not in ("categorical", "numeric"), kind.role),
    )
}
"""Role -> kind."""


def kind_of(schema: EventSchema, column: str) -> ColumnKind[Any]:
    """Return the kind of a feature."""
    return KINDS[schema.role_of(column)]


def _warn_of_times(source: EventSource, schema: EventSchema) -> None:
    """Warn once per source. The tables of several are checked by themselves."""
    for check in (strange_times, other_zone):
        key = (check.__name__, schema.stated_zone, *times_key(schema))
        if schema.source is None and key not in source.checked:
            words = source.checked[key] = check(source, schema)
            if words is not None:
                warnings.warn(words, EventsWarning, stacklevel=2)


def check_events(source: EventSource, schema: EventSchema) -> None:
    """Check that all columns exist, no client or time is null or invalid, and values suit a model.

    Raises:
        SchemaError: A column is missing or has an unsuitable type.
        InputError: A client or time is null, or a value cannot be parsed.
    """
    times_of(source, schema)
    _warn_of_times(source, schema)
    for column in schema.features:
        kind_of(schema, column).check_values(source, column)
