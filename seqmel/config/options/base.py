"""The base of all options: immutable, unknown names are errors, a name alone means defaults."""

from __future__ import annotations

import functools
import operator
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

__all__ = [
    "Above",
    "Layers",
    "NotNegative",
    "Options",
    "Patience",
    "Positive",
    "Share",
    "all_of",
    "also_named",
    "is_lenient",
    "named",
    "named_or",
]

Positive: TypeAlias = Annotated[int, Field(ge=1, lt=2**31)]
Patience: TypeAlias = Annotated[
    Positive | None,
    BeforeValidator(lambda value: None if value == 0 and not isinstance(value, bool) else value),
]
"""Epochs without an improvement until training stops; 0 stands for null, which never stops."""
Layers: TypeAlias = Annotated[int, Field(ge=1, le=256)]
Share: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
Above: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _NotInherited:
    """Hide the deprecated `BaseModel.schema`, so that an option can have that name."""

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        raise AttributeError


class Options(BaseModel):
    """Options of one section or method."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    how: ClassVar[str] = ""
    """Of a method: its equation, or how it works, for the page of methods."""
    when: ClassVar[str] = ""
    """Of a method: for which data, or for what, to choose it."""
    source: ClassVar[str] = ""
    """Of a method: where it was published."""

    if not TYPE_CHECKING:
        schema: ClassVar[Any] = _NotInherited()


def all_of(base: type[Options]) -> Any:
    """Return the union of the options derived from `base` in its module, in file order."""
    there = vars(sys.modules[base.__module__]).values()
    found = [
        kind
        for kind in there
        if isinstance(kind, type) and issubclass(kind, base) and "name" in kind.model_fields
    ]
    return functools.reduce(operator.or_, found)


def is_lenient(info: ValidationInfo) -> bool:
    """Return whether the options come from an existing model; see `Config.from_dict`.

    Such options may hold what this version refuses.
    """
    return bool((info.context or {}).get("lenient"))


def named(value: Any) -> Any:
    """Return a name alone as a mapping with that name."""
    return {"name": value} if isinstance(value, str) else value


def also_named(others: Mapping[str, str]) -> Callable[[Any], Any]:
    """Return a validator that maps other names of a method in the literature to its own."""

    def resolved(value: Any) -> Any:
        value = named(value)
        name = value.get("name") if isinstance(value, Mapping) else None
        return (
            {**value, "name": others[name]} if isinstance(name, str) and name in others else value
        )

    return resolved


def named_or(default: str) -> Callable[[Any], Any]:
    """Return a validator that gives options without a name the default one."""

    def complete(value: Any) -> Any:
        value = named(value)
        return {"name": default, **value} if isinstance(value, Mapping) else value

    return complete
