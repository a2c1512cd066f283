"""Every option of a config, with its default and a line on it, read from the option models."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import textwrap
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from seqmel.config.config import Config
from seqmel.config.options.network import POOLING_FACTS
from seqmel.config.registry import method_name, methods_of, sections

__all__ = ["Method", "Option", "described", "method_table", "options"]


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


@dataclass(frozen=True)
class Method:
    """A method that a config can name.

    Attributes:
        section: of the config, such as loss.
        name: of the method.
        line: what it is, in a line.
        how: its equation, or how it works.
        when: for which data, or for what, to choose it.
        source: where it was published.
        takes: of a loss, what it takes: pairs, triplets or batch. Of a miner, what it gives.
    """

    section: str
    name: str
    line: str
    how: str
    when: str
    source: str
    takes: str = ""

    @property
    def config(self) -> dict[str, Any]:
        """What a config says to choose the method: it, and what it cannot be without."""
        if self.section == "objective" and self.name in _LABELLED:
            labels = {"name": self.name, "labels": "clients.parquet", "target": "gender"}
            return {"objective": ["coles", labels]}
        if self.section == "objective" and self.name in _OF_STATES:
            return {"encoder": "gru", "objective": ["coles", self.name]}
        if self.section == "miner":
            loss = {"pairs": "contrastive", "triplets": "triplet"}[self.takes]
            return {"loss": loss, "miner": self.name}
        if self.section == "pooling":
            return {"pooling": ["mean", self.name] if self.name != "mean" else "mean"}
        return {self.section: self.name}


_LABELLED = ("supervised_contrastive", "classification")
_OF_STATES = ("next_event", "masked_events", "cpc", "replaced_token")


@functools.cache
def described() -> list[Method]:
    """Describe every method but those of other libraries, in the order of `seqmel methods`.

    Examples:
        >>> from seqmel.config.reference import described
        >>> next(method.when for method in described() if method.name == "mean")
        'always: what a typical event is like'
    """
    found = []
    lines = methods_of(Config)
    models = {
        (section, name): model
        for section, model in sections(Config)
        if "name" in model.model_fields
        for name in get_args(model.model_fields["name"].annotation)
    }
    for section in ("objective", "views", "encoder", "pooling", "loss", "miner", "sampler"):
        for name, line in lines[section].items():
            if section == "pooling":
                found.append(Method(section, name, line, *POOLING_FACTS[name]))
            elif name != "pml":  # a whole library
                model: Any = models[section, name]
                takes = getattr(model, "takes", getattr(model, "gives", ""))
                facts = (model.how, model.when, model.source, takes)
                found.append(Method(section, name, line, *facts))
    return found


def method_table(section: str) -> str:
    """Return a Markdown table of the methods of a section.

    Args:
        section: "objective", "views", "encoder", "pooling", "loss", "miner" or "sampler".

    Examples:
        >>> from seqmel.config.reference import method_table
        >>> print(method_table("views").splitlines()[2])
        | `random_slices` | contiguous runs, possibly overlapping | Babaev et al., 2002.08232 |
    """
    columns = {"how": "equation" if section == "loss" else "what", "source": "source"}
    if section in ("loss", "miner"):
        columns = {"takes": "takes" if section == "loss" else "gives", **columns}
    rows = [["name", *columns.values()], ["---"] * (1 + len(columns))]
    for method in described():
        if method.section == section:
            cells = [getattr(method, fact).replace("|", "\\|") for fact in columns]
            rows.append([f"`{method.name}`", *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _option(model: type[BaseModel], field: str, path: str, method: str | None) -> Option:
    info = model.model_fields[field]
    default = info.get_default(call_default_factory=True)
    return Option(path, method, _as_yaml(default), info.description or _lines(model).get(field, ""))


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
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except OSError:  # made from the signature of a class: its fields have descriptions
            continue
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for before, after in itertools.pairwise(body):
            if not (isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name)):
                continue
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                found[before.target.id] = " ".join(str(after.value.value).split())
    return found
