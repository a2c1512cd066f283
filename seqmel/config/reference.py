"""Every option of a config, with its default and a line on it, read from the option models."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import textwrap
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from seqmel.config.config import Config
from seqmel.config.registry import method_name, options_of, sections

__all__ = ["Option", "method_table", "options"]


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        path: as `--set` takes it, such as training.epochs.
        method: for an option that belongs to one method of its section, the method's name.
        default: as YAML shows it.
        line: what the option does.
    """

    path: str
    method: str | None
    default: str
    line: str


def options() -> list[Option]:
    """List all options, in the order of a config: those without a section first.

    Examples:
        >>> from seqmel.config.reference import options
        >>> next(option.default for option in options() if option.path == "training.batch_size")
        '64'
    """
    parts = sections(Config)
    names = {section for section, _ in parts}
    found = [_option(Config, name, name, None) for name in Config.model_fields if name not in names]
    for section, model in parts:
        method = method_name(model) if "name" in model.model_fields else None
        for field in model.model_fields:
            if field != "name":
                found.append(_option(model, field, f"{section}.{field}", method))
    return found


def method_table(section: str) -> str:
    """Return a Markdown table of the methods of a section, from their options.

    Args:
        section: "loss", "miner" or "views".

    Examples:
        >>> from seqmel.config.reference import method_table
        >>> print(method_table("views").splitlines()[2])
        | `random_slices` | contiguous runs, possibly overlapping | Babaev et al., 2002.08232 |
    """
    columns = {
        "loss": {"takes": "takes", "equation": "how", "source": "source"},
        "miner": {"gives": "gives", "what": "how", "source": "source"},
        "views": {"what": "how", "source": "source"},
    }[section]
    rows = [["name", *columns], ["---"] * (1 + len(columns))]
    for model in options_of(Config, section):
        if method_name(model) != "pml":  # a whole library
            cells = [str(getattr(model, fact)) for fact in columns.values()]
            rows.append([f"`{method_name(model)}`", *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _option(model: type[BaseModel], field: str, path: str, method: str | None) -> Option:
    default = model.model_fields[field].get_default(call_default_factory=True)
    return Option(path, method, _as_yaml(default), _lines(model).get(field, ""))


def _as_yaml(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple | list):
        return f"[{', '.join(_as_yaml(item) for item in value)}]"
    if isinstance(value, BaseModel):
        return str(getattr(value, "name", "{}"))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_as_yaml(item)}" for key, item in value.items()) + "}"
    return str(value)


@functools.cache
def _lines(model: type[BaseModel]) -> dict[str, str]:
    """Return the text under each field in the source of the model, or of a model it extends."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if not (issubclass(base, BaseModel) and base.__module__.startswith("seqmel.")):
            continue
        tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for before, after in itertools.pairwise(body):
            if not (isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name)):
                continue
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                found[before.target.id] = " ".join(str(after.value.value).split())
    return found
