"""The options of the methods of a folder, read from the source of their classes.

The options of a method are the arguments of its constructor: their types, their defaults, and the
lines on them in the docstring. Checking a config must not import torch, so the source is read
instead of imported. `options_from_signature` does the same for the parts of a user, which are
imported already.
"""

from __future__ import annotations

import ast
import functools
import importlib.resources
import inspect
import re
import sys
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, TypeVar

import pydantic

from seqmel.config.options import base as common
from seqmel.config.options.base import FACTS, Options

__all__ = ["argument_lines", "first_paragraph", "options_in"]

AnyOptions = TypeVar("AnyOptions", bound=Options)


def options_in(
    folder: str, base: type[AnyOptions], *, suffix: str = "", but: tuple[str, ...] = ()
) -> dict[str, type[AnyOptions]]:
    """Return name of the class -> options of the methods in a folder, in the order of the files.

    The method `circle` is the class in `circle.py` that is named like the file, but for case and
    underscores. `CircleOptions` has the arguments of its constructor, without those in
    `base.given`, and those of its class attributes that are in `FACTS`. Types may be those of
    `typing`, of pydantic, and of the module of `base` or of all options.

    Args:
        folder: below seqmel, such as "objectives/losses".
        base: the options that all methods of the folder have.
        suffix: what follows the name of the file in the name of the class, such as "Loss".
        but: files whose options stand elsewhere.
    """
    files = {
        path.name.removesuffix(".py"): path.read_text(encoding="utf-8")
        for path in importlib.resources.files("seqmel").joinpath(folder).iterdir()
        if path.name.endswith(".py")
    }
    file_of = {
        name: file
        for file, source in files.items()
        for name in re.findall(r"^class (\w+)", source, re.MULTILINE)
    }

    @functools.cache
    def parsed(file: str) -> dict[str, ast.ClassDef]:
        body = ast.parse(files[file]).body
        return {node.name: node for node in body if isinstance(node, ast.ClassDef)}

    def lineage(name: str) -> Iterator[ast.ClassDef]:
        """The class, then those of its bases that stand in the folder."""
        node = parsed(file_of[name])[name]
        yield node
        for above in node.bases:
            if isinstance(above, ast.Name) and above.id in file_of:
                yield from lineage(above.id)

    found = {}
    for name, file in sorted(file_of.items(), key=lambda pair: pair[1]):
        if file not in but and name.lower() == file.replace("_", "") + suffix.lower():
            options = f"{name.removesuffix(suffix)}Options"
            found[options] = _options(options, file, list(lineage(name)), base)
    return found


def first_paragraph(documentation: str) -> str:
    """Return the first paragraph of a docstring as one line."""
    return " ".join(documentation.split("\n\n")[0].split())


def argument_lines(documentation: str) -> dict[str, str]:
    """Return argument or field -> what a docstring says about it, in words of YAML."""
    section = re.search(
        r"^(?:Args|Attributes):\n((?: +.*\n?|\n)+)", inspect.cleandoc(documentation), re.MULTILINE
    )
    entries = re.findall(
        r"^    (\w+): (.*(?:\n {5,}.*)*)", section[1] if section else "", re.MULTILINE
    )
    texts = {name: re.sub(r"\bNone\b", "null", " ".join(text.split())) for name, text in entries}
    return {name: text[:1].upper() + text[1:] for name, text in texts.items()}


def _options(
    name: str, method: str, lineage: list[ast.ClassDef], base: type[AnyOptions]
) -> type[AnyOptions]:
    documentation = ast.get_docstring(lineage[0]) or ""
    lines = argument_lines(documentation)
    given = _arguments(lineage)
    namespace = vars(typing) | vars(pydantic) | vars(common) | vars(sys.modules[base.__module__])
    kinds = typing.get_type_hints(
        types.SimpleNamespace(__annotations__={key: kind for key, (kind, _) in given.items()}),
        namespace,
        include_extras=True,
    )
    fields: dict[str, Any] = {"name": (Literal[method], method)}
    for key, (_, default) in given.items():
        if key not in base.given:
            fields[key] = (kinds[key], pydantic.Field(default, description=lines.get(key)))
    model = pydantic.create_model(
        name,
        __base__=base,
        __module__=base.__module__,
        __doc__=first_paragraph(documentation),
        **fields,
    )
    for fact, value in _facts(lineage):
        if fact in FACTS:
            setattr(model, fact, value)
    return model


def _arguments(lineage: list[ast.ClassDef]) -> dict[str, tuple[str, Any]]:
    """Keyword argument of the constructor -> its type, as text, and its default.

    Those of a dataclass are its own fields.
    """
    for node in lineage:
        if node.decorator_list:
            return {
                name: (ast.unparse(field.annotation), ast.literal_eval(field.value))
                for name, field in _assigned(node).items()
                if not _is_fact(field)
            }
        for part in node.body:
            if isinstance(part, ast.FunctionDef) and part.name == "__init__":
                return {
                    argument.arg: (ast.unparse(argument.annotation), ast.literal_eval(default))
                    for argument, default in zip(
                        part.args.kwonlyargs, part.args.kw_defaults, strict=True
                    )
                    if argument.annotation is not None and default is not None
                }
    return {}


def _facts(lineage: list[ast.ClassDef]) -> Iterator[tuple[str, Any]]:
    """The class attributes with their values, those of the class itself last."""
    for node in reversed(lineage):
        for name, attribute in _assigned(node).items():
            if _is_fact(attribute):
                yield name, ast.literal_eval(attribute.value)


def _assigned(node: ast.ClassDef) -> dict[str, Any]:
    """Name -> assignment, with a type and a value, in the body of a class."""
    return {
        part.target.id: part
        for part in node.body
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name) and part.value
    }


def _is_fact(attribute: ast.AnnAssign) -> bool:
    return ast.unparse(attribute.annotation).startswith("ClassVar")
