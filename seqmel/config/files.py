"""Options from a YAML file, `--set` and flags."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml

from seqmel.config.config import Config
from seqmel.config.event_tables import check_event_tables, event_paths, with_sources
from seqmel.config.options.base import all_of, named
from seqmel.config.options.network import EventEncoderOptions
from seqmel.config.options.objectives import ObjectiveBase
from seqmel.config.renames import RENAMED_OPTIONS, new_path, with_new_names
from seqmel.core.errors import ConfigError, did_you_mean

__all__ = ["last_said", "parse_yaml", "put", "read_config", "read_event_paths", "to_yaml"]

_DECIDED_BY = {"loss": "objective", "miner": "objective", "category_mean": "pooling"}


def read_config(path: str | Path | None, settings: Iterable[str] = (), **flags: Any) -> Config:
    """Read a YAML file, then apply `key.key=value` settings, then flags.

    Its `events` are no option of a config: commands read the paths, and the options of each table
    are in `schema.sources`.

    Args:
        path: a YAML file, or None.
        settings: `name=value` in YAML; later ones override.
        **flags: dotted option name -> value; None means not given.

    Returns:
        All options, checked.

    Raises:
        ConfigError: no such file, not YAML, an option that is unknown or out of range, or a loss
            of a library that is not installed or does not have it.

    Examples:
        >>> import seqmel
        >>> config = seqmel.read_config(None, ["encoder=gru", "encoder.hidden_size=64"], seed=1)
        >>> config.encoder.hidden_size, config.seed
        (64, 1)
    """
    options = _in_file(Path(path)) if path is not None else {}
    in_file = set(options)
    later = []
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise ConfigError(
                f"--set expects name=value, such as event_encoder.hidden_size=512; found "
                f"{setting!r}."
            )
        try:
            names = new_path(name.strip().split("."))
            put(options, names, parse_yaml(value))
            later.append(names[0])
        except (yaml.YAMLError, ValueError) as error:
            why = "the value is not valid YAML"
            why += f": {str(error).rstrip('.')}." if isinstance(error, ValueError) else "."
            if value.count("{") > value.count("}") or value.count("[") > value.count("]"):
                why += " A bracket is not closed. In a shell, quote it all: --set 'a.b={c: d}'."
            raise ConfigError(f"--set {setting!r}: {why}") from None
    for name, value in flags.items():
        if value is not None:
            put(options, name.split("."), value)
            later.append(name.split(".")[0])
    source = str(path) if path is not None else "the options"
    return Config.from_dict(options, source=source, said=last_said(in_file, later))


def read_event_paths(path: str | Path | None) -> Any:
    """Return the events that a config file names: a path, or name -> path; None if it names none.

    Raises:
        ConfigError: the file cannot be read, or `events` is no such option.
    """
    if path is None:
        return None
    options = _read_yaml(Path(path))
    if not _names_events(options):
        return None
    return event_paths(check_event_tables(options["events"], str(path)))


def _in_file(path: Path) -> dict[str, Any]:
    """Return the options of a file. Those of its event tables are in `schema.sources`."""
    options = _read_yaml(path)
    if not _names_events(options):
        return dict(with_new_names(options))
    tables = check_event_tables(options.pop("events"), str(path))
    options = dict(with_new_names(options))
    schema = options.get("schema") or {}
    if isinstance(schema, Mapping) and (merged := with_sources(schema, tables, str(path))):
        options["schema"] = merged
    return options


def _names_events(options: Mapping[str, Any]) -> bool:
    """Return whether `events` names event tables. It is also the old name of event_encoder."""
    events = options.get("events")
    names = set(events) if isinstance(events, Mapping) else set()
    return events is not None and names.isdisjoint(EventEncoderOptions.model_fields)


def last_said(*layers: Iterable[str]) -> set[str]:
    """Return the options set in the same layer as the option that activates them, or later.

    A loss from a preset that a later objective does not use is then no mistake.
    """
    last = {
        RENAMED_OPTIONS.get(name, name): place
        for place, layer in enumerate(layers)
        for name in layer
    }
    return {name for name, place in last.items() if place >= last.get(_DECIDED_BY.get(name, ""), 0)}


def to_yaml(config: Config) -> str:
    """Return all options as the text of a config file."""
    return str(yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True))


def parse_yaml(text: str) -> Any:
    """Parse YAML into plain values; never into Python objects.

    Raises:
        yaml.YAMLError, ValueError: it is not YAML, names an object, has a name twice or a date that
            is none, or is nested too deeply.
    """
    loader = _EachNameOnce(text)
    try:
        return loader.get_single_data()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    finally:
        loader.dispose()


class _EachNameOnce(yaml.SafeLoader):
    """The safe loader, but a name that stands twice in a mapping is an error."""

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        """Check the names before `<<` merges in others, which may be overridden."""
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                line = key.start_mark.line + 1
                if node.flow_style and ":" in key.value and _is_nothing(value):
                    spaced = key.value.replace(":", ": ", 1)
                    raise ValueError(
                        f"{key.value!r} is one name. A space comes after the colon: {{{spaced}}}."
                    )
                if (key.tag, key.value) in lines:
                    there = lines[key.tag, key.value]
                    raise ValueError(
                        f"{key.value!r} is there twice, in line {there} and line {line}. Keep "
                        f"one of them."
                    )
                lines[key.tag, key.value] = line
        return node


def _part_of_objective(
    options: dict[str, Any], names: list[str]
) -> tuple[dict[str, Any], list[str]] | None:
    """Return the part of the objective that has an option, and the rest of its name.

    None if there are not several parts, or none of them has the option.
    """
    default = [part.name for part in Config().objective]
    parts = options.get("objective", default)
    if not names or not isinstance(parts, list):
        return None
    found = [dict(p) if isinstance(p, Mapping) else {"name": p} for p in map(named, parts)]
    by_name = {str(part.get("name")): part for part in found}
    if names[0] in by_name and len(names) > 1:
        having, rest = [names[0]], names[1:]
    else:
        models = {m.model_fields["name"].default: m for m in get_args(all_of(ObjectiveBase))}
        having = [
            name for name in by_name if name in models and names[0] in models[name].model_fields
        ]
        rest = names
    if not having or rest == ["name"]:
        return None
    if len(having) > 1:
        raise ConfigError(
            f"objective.{names[0]} is an option of {' and '.join(having)}. Name one: "
            f"objective.{having[0]}.{names[0]}."
        )
    options["objective"] = found
    return by_name[having[0]], rest


def _is_nothing(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and not node.value


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        options = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        beside = [f.name for f in path.parent.iterdir()] if path.parent.is_dir() else []
        raise ConfigError(
            f"No such config file: {path}.{did_you_mean(path.name, beside)}"
        ) from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{path} is not a readable YAML file: {' '.join(str(error).split())}"
        ) from None
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise ConfigError(
            f"{path} holds a {type(options).__name__}. Expected options, such as `encoder: gru`."
        )
    return options


def put(options: dict[str, Any], names: list[str], value: Any) -> None:
    """Set a dotted option; a part given by name alone (`encoder: gru`) becomes a mapping.

    Of several parts of the objective, `objective.coles.curvature` names one. `objective.curvature`
    is that of the only part that has it, and the other parts stay.

    Raises:
        ConfigError: several parts of the objective have the option.
    """
    if names[0] == "objective" and (part := _part_of_objective(options, names[1:])) is not None:
        options, names = part
    for name in names[:-1]:
        part = named(options.get(name))
        options[name] = dict(part) if isinstance(part, Mapping) else {}
        options = options[name]
    options[names[-1]] = value
