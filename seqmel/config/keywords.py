"""Options as keywords: `train(events, encoder="gru", epochs=3)` in place of nested sections."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel

from seqmel.config.config import Config, as_config
from seqmel.config.files import last_said, put
from seqmel.config.options.training import FinetuningOptions, TrainingOptions
from seqmel.config.registry import names_at
from seqmel.config.renames import RENAMED_OPTIONS, new_path
from seqmel.core.errors import ConfigError, did_you_mean, shown
from seqmel.data.schema import SchemaOptions

__all__ = ["config_with"]

_SECTIONS: dict[str, type[BaseModel]] = {
    "training": TrainingOptions,
    "finetuning": FinetuningOptions,
}


def config_with(
    config: Config | Mapping[str, Any] | None,
    options: Mapping[str, Any],
    *,
    section: Literal["training", "finetuning"],
    source: str,
) -> Config:
    """A config with options set in it.

    Args:
        config: what to begin with; the defaults where None.
        options: name -> value. A name is a section of the config (`encoder`, `loss`, `training`),
            an option of `section` (`epochs`), or one of the schema (`client`).
        section: the section whose options may be named without it.
        source: whose keywords these are, for the error line.

    Raises:
        ConfigError: no such option, or a value out of range.
    """
    if not options:
        return as_config(config)
    before: dict[str, Any] = (
        config.to_dict() if isinstance(config, Config) else copy.deepcopy(dict(config or {}))
    )
    earlier = [] if isinstance(config, Config) else list(before)
    paths = {name: _path(name, section, source) for name in options}
    for name, value in options.items():
        put(before, paths[name], value)
    return Config.from_dict(
        before, source=source, said=last_said(earlier, (path[0] for path in paths.values()))
    )


def _path(name: str, section: str, source: str) -> list[str]:
    sections = names_at(Config, [])
    if name in sections:
        return [name]
    for owner, model in ((section, _SECTIONS[section]), ("schema", SchemaOptions)):
        if name in model.model_fields or f"{owner}.{name}" in RENAMED_OPTIONS:
            return new_path([owner, name])
    if name in RENAMED_OPTIONS:
        return new_path([name])
    known = [*sections, *_SECTIONS[section].model_fields, *SchemaOptions.model_fields]
    raise ConfigError(
        f"{source} has no option {name!r}.{did_you_mean(name, known)} There are: "
        f"{shown(known, 99)}."
    )
