"""What all options share: they cannot be changed, an option that does not exist is refused, a name alone stands for defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo

__all__ = [
    "Above",
    "Layers",
    "NotNegative",
    "Options",
    "Positive",
    "Share",
    "also_named",
    "is_lenient",
    "named",
    "named_or",
]

Positive: TypeAlias = Annotated[int, Field(ge=1, lt=2**31)]
Layers: TypeAlias = Annotated[int, Field(ge=1, le=256)]
Share: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
Above: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _NotInherited:
    """Hides an attribute of `BaseModel` (its deprecated method `schema`), so that an option may have the name."""

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        raise AttributeError


class Options(BaseModel):
    """Options of a part."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    if not TYPE_CHECKING:
        schema: ClassVar[Any] = _NotInherited()


def is_lenient(info: ValidationInfo) -> bool:
    """Whether options are those of a model that is there, and so may be what later versions refuse; see `Config.from_dict`."""
    return bool((info.context or {}).get("lenient"))


def named(value: Any) -> Any:
    """A name alone is a name with default options."""
    return {"name": value} if isinstance(value, str) else value


def also_named(others: Mapping[str, str]) -> Callable[[Any], Any]:
    """Other names that the literature has for a method stand for its own."""

    def resolved(value: Any) -> Any:
        value = named(value)
        name = value.get("name") if isinstance(value, Mapping) else None
        return {**value, "name": others[name]} if isinstance(name, str) and name in others else value

    return resolved


def named_or(default: str) -> Callable[[Any], Any]:
    """Options without a name belong to the default one."""

    def complete(value: Any) -> Any:
        value = named(value)
        return {"name": default, **value} if isinstance(value, Mapping) else value

    return complete
