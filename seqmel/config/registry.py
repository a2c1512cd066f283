"""The sections of a config, the methods of each section, and the names of their options.

`root` is the model of the whole config in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel

from seqmel.config.options.losses import OTHER_LOSS_NAMES
from seqmel.config.options.modifiers import CHANGES
from seqmel.config.options.network import POOLINGS
from seqmel.config.options.objectives import OTHER_OBJECTIVE_NAMES
from seqmel.config.options.views import OTHER_VIEW_NAMES

__all__ = ["is_of", "method_name", "methods_of", "names_at", "options_of", "sections"]

_OTHER_NAMES = {
    "loss": OTHER_LOSS_NAMES,
    "objective": OTHER_OBJECTIVE_NAMES,
    "views": OTHER_VIEW_NAMES,
}


def methods_of(root: type[BaseModel]) -> dict[str, dict[str, str]]:
    """Return section -> method -> a line about it, with its other names.

    At the end sections of options that change what the others do; there the names are options of
    the config, see `CHANGES`.
    """
    found: dict[str, dict[str, str]] = {}
    for section, model in sections(root):
        names = (
            get_args(model.model_fields["name"].annotation) if "name" in model.model_fields else ()
        )
        for name in names:
            line = getattr(model, "lines", {}).get(name) or " ".join(
                (model.__doc__ or "").split("\n\n")[0].split()
            )
            others = [other for other, own in _OTHER_NAMES.get(section, {}).items() if own == name]
            found.setdefault(section, {})[name] = (
                f"{line} Also: {', '.join(others)}." if others else line
            )
        if section == "encoder":
            found["pooling"] = POOLINGS
    return {section: dict(names) for section, names in (found | CHANGES).items()}


def sections(root: type[BaseModel]) -> list[tuple[str, type[BaseModel]]]:
    """Return (section, options model), once per method of the section."""
    found = []
    for name, field in root.model_fields.items():
        for model in _models(field.annotation):
            found.append((field.alias or name, model))
    return found


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Return all models in the type of an option."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def names_at(root: type[BaseModel], path: list[str]) -> list[str]:
    """Return the options at a path: all sections for the empty path, else those it names."""
    if not path:
        return [field.alias or name for name, field in root.model_fields.items()]
    models = [model for name, model in sections(root) if name == path[0]]
    tagged = [
        m
        for m in models
        if len(path) > 1
        and "name" in m.model_fields
        and path[1] in get_args(m.model_fields["name"].annotation)
    ] or models
    for part in path[1:]:
        fields = [m.model_fields[part].annotation for m in tagged if part in m.model_fields]
        tagged = [model for annotation in fields for model in _models(annotation)] or tagged
    return sorted({n for model in tagged for n in model.model_fields})


def options_of(root: type[BaseModel], section: str) -> list[Any]:
    """The models that a section of the config may be."""
    return [model for name, model in sections(root) if name == section]


def method_name(model: type[BaseModel]) -> str:
    """Return the name of a method in the config; the first one if it has several."""
    return str(get_args(model.model_fields["name"].annotation)[0])


def is_of(model: type[BaseModel], value: Any) -> bool:
    """Whether a value is an instance of the model, or a mapping with its name."""
    return isinstance(value, model) or (
        isinstance(value, Mapping) and value.get("name") == method_name(model)
    )
