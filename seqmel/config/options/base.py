"""The base of all options: immutable, unknown names are errors, a name alone means defaults."""

from __future__ import annotations

import functools
import json
import operator
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias, get_args

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

__all__ = [
    "FACTS",
    "Above",
    "Cosine",
    "Distance",
    "Layers",
    "MultipleOf",
    "Natural",
    "NotAbove",
    "NotNegative",
    "Only",
    "Options",
    "Patience",
    "Positive",
    "Share",
    "With",
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
Natural: TypeAlias = Annotated[int, Field(ge=0)]
Cosine: TypeAlias = Annotated[float, Field(ge=-1, le=1)]
Distance: TypeAlias = Annotated[float, Field(ge=0, le=2)]
"""Unit vectors are at most 2 apart."""


@dataclass(frozen=True)
class NotAbove:
    """In the type of an option: it is at most another option."""

    other: str

    def check(self, options: Options, name: str) -> None:
        """Raise a `ValueError` if the option is larger."""
        value = getattr(options, name)
        most = getattr(options, self.other)
        if value is not None and most is not None and value > most:
            raise ValueError(f"{name} {value} is larger than {self.other} {most}")


@dataclass(frozen=True)
class MultipleOf:
    """In the type of an option: it is a multiple of `factor` times another option."""

    factor: int
    other: str

    def check(self, options: Options, name: str) -> None:
        """Raise a `ValueError` if the option is not a multiple."""
        value = getattr(options, name)
        unit = self.factor * getattr(options, self.other)
        if value % unit:
            raise ValueError(
                f"{name} {value} is not a multiple of {self.factor} * {self.other} = {unit}"
            )


class Only:
    """In the type of an option: it has an effect only with these values of other options."""

    def __init__(self, **others: Any) -> None:
        self.others = others

    def check(self, options: Options, name: str) -> None:
        """Raise a `ValueError` if the option is set and has no effect."""
        value = getattr(options, name)
        if value == type(options).model_fields[name].default:
            return
        for other, needed in self.others.items():
            found = getattr(options, other)
            if found != needed:
                raise ValueError(
                    f"{name} {value} is for {other}: {_as_yaml(needed)}, found {_as_yaml(found)}"
                )


@dataclass(frozen=True)
class With:
    """In the type of an option: it has an effect only if another option is not null."""

    other: str

    def check(self, options: Options, name: str) -> None:
        """Raise a `ValueError` if the option is set and has no effect."""
        value = getattr(options, name)
        if value != type(options).model_fields[name].default and not getattr(options, self.other):
            raise ValueError(
                f"{name} {_as_yaml(value)} has no effect without {self.other}; "
                f"set {self.other}, or leave {name} out"
            )


def _as_yaml(value: Any) -> str:
    return json.dumps(value).strip('"')


FACTS = (
    "takes", "gives", "default_miner", "causal", "one_per_length", "hyperbolic",
    "leaves_out",
    "how", "when", "source",
)  # fmt: skip
"""What the options of a method say of it, as class attributes, and its class as well."""


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
    given: ClassVar[tuple[str, ...]] = ()
    """Of a method: arguments of its class that training passes, which are no options."""

    if not TYPE_CHECKING:
        schema: ClassVar[Any] = _NotInherited()

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, values: Any, info: ValidationInfo) -> Any:
        """Refuse true and false where a number is expected: pydantic takes them as 1 and 0."""
        if not isinstance(values, Mapping) or is_lenient(info):
            return values
        for name, field in cls.model_fields.items():
            value = values.get(name)
            parts = value if isinstance(value, (list, tuple)) else (value,)
            truth = next((part for part in parts if isinstance(part, (bool, np.bool_))), None)
            if truth is None:
                continue
            types = _types_in(field.annotation)
            if types & {int, float} and bool not in types:
                number = "a number" if float in types else "a whole number"
                raise ValueError(f"{name} is {_as_yaml(bool(truth))}. Expected {number}")
        return values

    @model_validator(mode="after")
    def _follows_rules(self, info: ValidationInfo) -> Any:
        needed = MultipleOf if is_lenient(info) else MultipleOf | NotAbove | Only | With
        for name, field in type(self).model_fields.items():
            for rule in field.metadata:
                if isinstance(rule, needed):
                    rule.check(self, name)
        return self


def _types_in(annotation: Any) -> set[Any]:
    """Return the types that a type such as `tuple[int, ...] | None` is made of."""
    return {annotation}.union(*map(_types_in, get_args(annotation)))


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
