"""Errors of pydantic as one line for the user."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from seqmel.config.registry import method_name, methods_of, names_at, sections
from seqmel.core.errors import did_you_mean, plain, shown

__all__ = ["SHAPES", "expectation", "explain"]

SHAPES = {
    "tuple_type": "a list, in brackets: [a, b]",
    "dict_type": "options by their names: {a: 1, b: 2}, or {} for none",
    "model_type": "options by their names: {a: 1, b: 2}",
    "model_attributes_type": "a name, or options by their names: {name: a, b: 2}",
}
"""pydantic error type -> expected YAML syntax."""


_WANTED = {
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "list_type": SHAPES["tuple_type"],
    "missing": "a value",
    "none_required": "null",
    "literal_error": "{expected}",
    "too_short": "no fewer entries than {min_length}",
    "too_long": "no more entries than {max_length}",
    "string_too_short": "text of at least {min_length} characters",
}
"""pydantic error type -> what is expected instead."""


class _Short(reprlib.Repr):
    """Shortens values of options, with numpy scalars as plain values."""

    def repr1(self, x: Any, level: int) -> str:
        return super().repr1(plain(x), level)


_SHORT = _Short()
_SHORT.maxlevel = 2
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = (
    100  # a small file with aliases can hold a value of gigabytes
)


def explain(error: ValidationError, source: str, root: type[BaseModel]) -> str:
    """Describe the first error in one line, with the nearest existing name.

    Args:
        error: what pydantic says.
        source: where the options are from.
        root: the model of the whole config.
    """
    first = error.errors()[0]
    place = [p for p in first["loc"] if isinstance(p, str)]
    context: dict[str, Any] = first.get("ctx", {})
    if first["type"] == "extra_forbidden":
        return _unknown(place, source, root)
    name = ".".join(_without_kind(place, root))
    if first["type"] == "value_error":
        return f"{source}: {name + ': ' if name else ''}{context['error']}."
    if first["type"] in ("union_tag_invalid", "literal_error"):
        quoted = str(context.get("expected_tags", context.get("expected", ""))).replace(
            " or ", ", "
        )
        names = quoted.replace("'", "")
        expected = (
            names if any(map(str.isalnum, names)) else quoted
        )  # marks alone look like punctuation
        value = (
            first["input"].get("name") if isinstance(first["input"], Mapping) else first["input"]
        )
        found = value if isinstance(value, str) else _SHORT.repr(value)
        hint = _method_elsewhere(found, root) or did_you_mean(found, names.split(", "))
        return (
            f"{source}: {name} cannot be {_SHORT.repr(found)}. Expected one of: {expected}.{hint}"
        )
    if first["type"] == "string_pattern_mismatch":
        examples = {
            "preparation.memory_limit": "a size such as 4GB",
            "device": "auto, cpu, cuda, cuda:1, gpu or mps",
        }
        example = examples.get(name, f"text that matches {context['pattern']}")
        return f"{source}: {name} cannot be {_SHORT.repr(first['input'])}. Expected {example}."
    if first["type"] in SHAPES:
        return (
            f"{source}: {name} is {_SHORT.repr(first['input'])}. Expected {SHAPES[first['type']]}."
        )
    wanted = expectation(first)
    if wanted is not None:
        return f"{source}: {name} = {_SHORT.repr(first['input'])}. Expected {wanted}."
    return (
        f"{source}: {name} = {_SHORT.repr(first['input'])}: "
        f"{first['msg'][0].lower()}{first['msg'][1:]}."
    )


def expectation(first: Any) -> str | None:
    """Say what was expected instead of a value, if it is plain: "a number of at least 2".

    Args:
        first: one of the errors of a `ValidationError`.
    """
    if first["type"] not in _WANTED:
        return None
    context = first.get("ctx", {})
    bounds = {
        name: f"{int(value):,}" if value == int(value) else f"{value:g}"
        for name, value in context.items()
        if isinstance(value, (int, float))
    }
    return _WANTED[first["type"]].format(**(context | bounds))


def _method_elsewhere(name: str, root: type[BaseModel]) -> str:
    """Say to which section a method of this name belongs, if there is one."""
    places = [section for section, names in methods_of(root).items() if name in names]
    return f" {name} belongs to another option: {places[0]}={name}." if places else ""


def _unknown(place: list[str], source: str, root: type[BaseModel]) -> str:
    """Describe an unknown option: the nearest name in its section, or the section that has it."""
    *path, wrong = place
    known = names_at(root, path)
    elsewhere = _elsewhere(wrong, path, root)
    hint = did_you_mean(wrong, known) or (
        f" It is an option of: {shown(elsewhere)}." if elsewhere else ""
    )
    path = _without_kind(path, root)
    return (
        f"{source}: unknown option {'.'.join([*path, wrong])!r}.{hint} Known here: "
        f"{shown(known, 20)}."
    )


def _elsewhere(wrong: str, path: list[str], root: type[BaseModel]) -> list[str]:
    """Find options of this name in other sections, or for other methods of this section."""
    here = path[0] if path else ""
    having = [(name, model) for name, model in sections(root) if wrong in model.model_fields]
    others = dict.fromkeys(f"{name}.{wrong}" for name, _ in having if name != here)
    return list(others) or [f"{here} {method_name(model)}" for _, model in having if len(path) > 1]


def _without_kind(place: list[str], root: type[BaseModel]) -> list[str]:
    """Return the path as the user wrote it, without the method that pydantic adds."""
    several = len(place) > 1 and sum(name == place[0] for name, _ in sections(root)) > 1
    return [place[0], *place[2:]] if several else place
