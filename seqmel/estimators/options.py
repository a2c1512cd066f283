"""Conversion between constructor parameters and a `Config`.

Parameters are flat options, or parts given as a name or as a dict of options.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel

from seqmel.api.parts import named_parts
from seqmel.config import Config
from seqmel.config.options.network import BY_CATEGORY
from seqmel.config.options.training import TrainingOptions
from seqmel.config.renames import new_path
from seqmel.core.errors import ConfigError, did_you_mean, plain, shown
from seqmel.core.renames import rename_keys
from seqmel.data.schema import SchemaOptions, SourceOptions

__all__ = [
    "PARTS",
    "RENAMED_PARAMETERS",
    "changed",
    "config_of",
    "options_of_part",
    "parameters_of",
    "schema_of",
    "sections_of",
    "seed_of",
]

PARTS = {
    "views": "views",
    "event_encoder": "event_encoder",
    "encoder": "encoder",
    "loss": "loss",
    "miner": "miner",
    "sampler": "sampler",
    "category_mean": "category_mean",
    "preparation": "preparation",
    "embedding": "embedding",
}
"""Parameter -> section of the config, for parameters with options (`encoder__hidden_size`)."""

RENAMED_PARAMETERS = {
    "by_category": "category_mean",
    "data": "storage",
    "encoder_rate": "encoder_lr_scale",
    "profile": "recency_features",
    "validation_share": "validation_fraction",
}
"""Old name of a parameter -> its new name; the old ones are accepted for one release."""

_AUTO = "auto"
_FLAT = (
    "objective",
    "pooling",
    "embedding_dim",
    "pca_dim",
    "matryoshka",
    "recency_features",
    "device",
    "precision",
)


def config_of(parameters: Mapping[str, Any], *, seed: int, source: str) -> Config:
    """Build a config from parameters.

    Args:
        parameters: name -> value. Parameters that are no options, such as `verbose`, are ignored.
        seed: seed of the training.
        source: name of the estimator, for messages.

    Returns:
        The config.

    Raises:
        ConfigError: an option does not exist or is out of range.
    """
    return Config.from_dict({"seed": seed} | sections_of(parameters), source=source)


def sections_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Group parameters into the sections of a config.

    Args:
        parameters: name -> value, by the names of an estimator.

    Returns:
        Section -> options, as nested dicts that `Config.from_dict` accepts.
    """
    given = {name: _plain(value) for name, value in named_parts(parameters).items()}
    options: dict[str, Any] = {name: given[name] for name in _FLAT if name in given}
    options |= {
        s: given[name] for name, s in PARTS.items() if name in given and _is_said(name, given[name])
    }
    for section, model in (("training", TrainingOptions), ("schema", SourceOptions)):
        found = {name: given[name] for name in model.model_fields if name in given}
        options |= {section: found} if found else {}
    return options


def schema_of(parameters: Mapping[str, Any], *, source: str) -> SchemaOptions:
    """Build the schema options from parameters.

    Args:
        parameters: name -> value; parameters of other sections are ignored.
        source: name of the estimator, for messages.

    Returns:
        The roles of the columns, as far as they are given.

    Raises:
        ConfigError: an option is out of range.
    """
    options = {
        name: _plain(parameters[name]) for name in SourceOptions.model_fields if name in parameters
    }
    return Config.from_dict({"schema": options}, source=source).schema


def parameters_of(config: Config) -> dict[str, Any]:
    """Convert a config to parameters.

    Args:
        config: all options.

    Returns:
        Name -> value, for parameters that differ from their defaults and have an effect.
    """
    default = Config()
    settled = config.model_dump()
    idle = () if config.compares else ("loss", "miner")
    if BY_CATEGORY.isdisjoint(config.pooling):
        idle = (*idle, "category_mean")
    parts = {
        name: _short(getattr(config, s))
        for name, s in PARTS.items()
        if _differ(config, default, s) and s not in idle
    }
    flat = {name: settled[name] for name in _FLAT if _differ(config, default, name)}
    training = {n: v for n, v in settled["training"].items() if v != getattr(default.training, n)}
    columns = {
        n: v
        for n, v in settled["schema"].items()
        if n != "decimal" and v != getattr(default.schema, n)
    }
    return parts | flat | training | columns | {"random_state": config.seed}


def options_of_part(name: str, value: Any) -> dict[str, Any]:
    """Return all options of a part, including those left at their defaults.

    Args:
        name: a key of `PARTS`.
        value: the name of the part, or its options.

    Returns:
        Option -> value. For an unknown part these are the given options only; `fit` raises the
        error.
    """
    if not _is_said(name, value) or not isinstance(value, (str, Mapping)):
        return {}
    try:
        section = Config.from_dict({PARTS[name]: _plain(value)}, lenient=True).model_dump()[
            PARTS[name]
        ]
    except ConfigError:
        return _as_options(value)
    return dict(section) if section is not None else {}


def changed(
    parameters: Mapping[str, Any], changes: Mapping[str, Any], *, source: str
) -> dict[str, Any]:
    """Apply changes to parameters, where `part__option` changes one option of a part.

    Args:
        parameters: name -> current value.
        changes: name -> new value.
        source: name of the estimator, for messages.

    Returns:
        Name -> new value, for the changed parameters only.

    Raises:
        ConfigError: no such parameter, or a parameter without options.
    """
    renames = {old: new for old, new in RENAMED_PARAMETERS.items() if new in parameters}
    changes = rename_keys(changes, renames, stacklevel=3)
    values = {name: value for name, value in changes.items() if name in parameters}
    for name, value in changes.items():
        part, nested, option = name.partition("__")
        part = renames.get(part, part)
        if nested and part in PARTS:
            option = new_path([PARTS[part], option])[1]
        if nested and part in PARTS and part in parameters:
            values[part] = {**_as_options(values.get(part, parameters[part])), option: value}
        elif name not in parameters:
            raise ConfigError(
                f"{source} has no parameter {name!r}.{did_you_mean(name, parameters)} It has: "
                f"{shown(parameters, 60)}."
            )
    return values


def seed_of(random_state: Any, *, source: str) -> int:
    """Turn `random_state` into a seed.

    Args:
        random_state: an int is used as it is; a RandomState is sampled; None draws a random seed.
        source: name of the estimator, for messages.

    Returns:
        The seed, from 0 to 2**32 - 1.

    Raises:
        ConfigError: none of these, or an int out of range.
    """
    from sklearn.utils import check_random_state

    if isinstance(random_state, (int, np.integer)) and not isinstance(random_state, bool):
        if not 0 <= random_state < 2**32:
            raise ConfigError(
                f"{source}: random_state is {random_state}. Expected 0 to {2**32 - 1}."
            )
        return int(random_state)
    try:
        return int(check_random_state(random_state).randint(2**31 - 1))
    except ValueError:
        raise ConfigError(
            f"{source}: random_state is {plain(random_state)!r}. Expected None, a whole number "
            f"or a numpy RandomState."
        ) from None


def _is_said(name: str, value: Any) -> bool:
    """Whether a part is set explicitly. For the miner, None is an explicit choice: no miner."""
    return not (isinstance(value, str) and value == _AUTO) if name == "miner" else value is not None


def _differ(config: Config, other: Config, section: str) -> bool:
    return bool(getattr(config, section) != getattr(other, section))


def _short(part: BaseModel | None) -> dict[str, Any] | None:
    """The name of a part and its options that differ from the defaults."""
    if part is None:
        return None
    name = {"name": part.name} if hasattr(part, "name") else {}
    return name | part.model_dump(exclude_defaults=True)


def _as_options(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    return (
        {"name": value}
        if isinstance(value, type) or (isinstance(value, str) and value != _AUTO)
        else {}
    )


def _plain(value: Any) -> Any:
    """Convert numpy values, as a parameter search draws them, to Python values."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
