"""The arguments that commands share, and how their text is parsed."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from seqmel.core.errors import ConfigError, did_you_mean, shell_words
from seqmel.core.threads import set_threads

if TYPE_CHECKING:
    from seqmel.config import Config

__all__ = [
    "AnyTask",
    "AsOf",
    "Client",
    "Columns",
    "ConfigFile",
    "Decimal",
    "Device",
    "Devices",
    "Engine",
    "Events",
    "EventsOrConfig",
    "FactColumn",
    "Facts",
    "JsonFile",
    "LabelsClient",
    "Log",
    "Model",
    "Observed",
    "Only",
    "Overwrite",
    "ParquetOutput",
    "Per",
    "Precision",
    "Resume",
    "Seed",
    "Settings",
    "Shard",
    "Time",
    "TimeFormat",
    "TimeZone",
    "device_option",
    "event_tables_of",
    "event_words",
    "flag",
    "not_given",
    "one_of",
    "read_options",
    "with_columns",
    "with_threads",
]

Events = Annotated[
    list[str],
    typer.Argument(
        help=(
            "Events: a Parquet or CSV file, a folder, a glob pattern; or prepared sequences; or "
            "NAME=PATH for each of several tables."
        )
    ),
]
EventsOrConfig = Annotated[
    list[str] | None,
    typer.Argument(
        help=(
            "Events: a Parquet or CSV file, a folder, a glob pattern; or prepared sequences; or "
            "NAME=PATH for each of several tables; or nothing, if --config has `events`."
        )
    ),
]
Client = Annotated[
    str | None, typer.Option(help="Client column of the events; recognised by its name by default.")
]
LabelsClient = Annotated[
    str | None,
    typer.Option(
        "--client", help="Client column of the labels; recognised by its name by default."
    ),
]
Time = Annotated[
    str | None, typer.Option(help="Time column of the events; recognised by its name by default.")
]
TimeFormat = Annotated[
    str | None,
    typer.Option(help="Format of times in text that is not ISO 8601, such as %d.%m.%Y %H:%M."),
]
TimeZone = Annotated[
    str | None,
    typer.Option(
        help="Zone in which hour, weekday and date are read, such as Europe/Paris; UTC by default."
    ),
]
Decimal = Annotated[
    str | None,
    typer.Option(
        help=(
            "Decimal mark of numbers in CSV: , or the point; recognised from the values by default."
        )
    ),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="YAML file with options; see seqmel config.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Set one option: event_encoder.hidden_size=512. Repeatable."),
]
Facts = Annotated[
    str | None,
    typer.Option(
        help="Table of facts beside the events: one row per client of numbers, text and dates."
    ),
]
FactColumn = Annotated[
    list[str] | None,
    typer.Option(help="Column of FACTS to use. Repeatable; by default all."),
]
Model = Annotated[Path, typer.Argument(help="Model folder.")]
ParquetOutput = Annotated[Path, typer.Option("--output", "-o", help="Parquet file to write.")]
AnyTask = Annotated[
    str,
    typer.Option(
        help=(
            "auto, classification, regression, or survival: TARGET is the time to an event, which "
            "may be censored."
        )
    ),
]
Observed = Annotated[
    str | None,
    typer.Option(
        help=(
            "Column of LABELS that says whether the event was observed, for --task survival; "
            "TARGET_observed by default."
        )
    ),
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Write the results to this JSON file.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]
Seed = Annotated[int | None, typer.Option(help="Random seed; the same seed gives the same model.")]
Precision = Annotated[str | None, typer.Option(help="auto, 32-true, bf16-mixed or 16-mixed.")]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Continue an interrupted run; start a new one if there is none."),
]
Log = Annotated[
    Path | None, typer.Option("--log", help="Append a log to this file: one JSON object per line.")
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Devices = Annotated[
    int | None, typer.Option(min=1, help="Number of local devices to shard the clients across.")
]
AsOf = Annotated[
    str | None,
    typer.Option(help="Use only events before this time: a date, or a table of clients and times."),
]
Per = Annotated[
    str,
    typer.Option(help="client, or event for one row per event: what was known right after it."),
]
Only = Annotated[
    str | None,
    typer.Option(help="With --per event: last:N for the last N events of each client."),
]
Shard = Annotated[
    str | None,
    typer.Option(
        help="Only one shard of the clients, by a hash of their ids: 3/8 is the third of eight."
    ),
]
Engine = Annotated[
    str, typer.Option(help="duckdb, on this machine; or spark, for events that do not fit on it.")
]

Threads = Annotated[
    int | None, typer.Option(min=1, help="Threads to compute with; the usable cores otherwise.")
]


def with_threads(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option `--threads`, which is set before it runs."""

    @functools.wraps(command)
    def run(*, threads: int | None, **options: object) -> None:
        set_threads(threads)
        command(**options)

    signature = inspect.signature(command, eval_str=True)
    option = inspect.Parameter(
        "threads", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Threads
    )
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), option])  # type: ignore[attr-defined]
    run.__annotations__ = command.__annotations__ | {"threads": Threads}
    return run


_COLUMNS = {
    "client": Client,
    "time": Time,
    "time_format": TimeFormat,
    "time_zone": TimeZone,
    "decimal": Decimal,
}

Columns: TypeAlias = dict[str, str | None]
"""How the columns of the events are read, as keywords of `read_options`; see `with_columns`."""


def with_columns(
    command: Callable[..., None], *, without: tuple[str, ...] = ()
) -> Callable[..., None]:
    """The command with options that say how events are read, in place of its `columns`.

    They are `--client`, unless the command has its own, `--time`, `--time-format`, `--time-zone`
    and `--decimal`.

    Args:
        command: the command.
        without: those that have no effect for it.
    """
    signature = inspect.signature(command, eval_str=True)
    own = {*without, *signature.parameters}
    options = {name: kind for name, kind in _COLUMNS.items() if name not in own}

    @functools.wraps(command)
    def run(**given: object) -> None:
        command(columns={name: given.pop(name) for name in options}, **given)

    parameters = []
    for parameter in signature.parameters.values():
        if parameter.name != "columns":
            parameters.append(parameter)
            continue
        for name, kind in options.items():
            parameters.append(parameter.replace(name=name, default=None, annotation=kind))
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def read_options(path: Path | None, settings: list[str] | None, **flags: object) -> Config:
    """Build the config from a file, then `--set`, then flags; later ones override.

    A flag that is None was not given.
    """
    from seqmel.config import read_config

    flags = {("schema." + k if k in _COLUMNS else k): v for k, v in flags.items()}
    return read_config(path, settings or (), **flags)


def event_tables_of(events: list[str] | None, config: Path | None) -> Any:
    """Return the events of a command: those of its arguments, else those of its config file.

    Raises:
        ConfigError: neither names events.
        InputError: see `named_events`.
    """
    from seqmel.config.files import read_event_paths
    from seqmel.data.sources.several import named_events

    if events:
        return named_events(events)
    found = read_event_paths(config)
    if found is None:
        raise ConfigError(
            "No events are named. Give EVENTS, a path or NAME=PATH for each of several tables, or "
            "write `events` into the file of --config."
        )
    return found


def event_words(events: Any) -> str:
    """Return events as arguments of a command: PATH, or NAME=PATH for each of several tables."""
    if not isinstance(events, Mapping):
        return shell_words(events)
    return shell_words(*(f"{name}={path}" for name, path in events.items()))


def device_option(name: str | None) -> str:
    """The name of a device, checked before any work starts."""
    from seqmel.config import Config

    return Config.from_dict({"device": name or "auto"}, source="--device").device


def flag(name: str) -> str:
    """How an option is written on the command line; the words behind it stay."""
    option, space, value = name.partition(" ")
    return f"--{option.replace('_', '-')}{space}{value}"


def not_given(what: str, **options: object) -> None:
    """Raise a `ConfigError` if an option is given that has no effect here."""
    for name, value in options.items():
        if value is not None:
            raise ConfigError(f"--{name.replace('_', '-')} has no effect for {what}. Leave it out.")


def one_of(option: str, value: str, *allowed: str) -> str:
    """Return `value` if it is allowed.

    Raises:
        ConfigError: another value; the message names the nearest allowed one.
    """
    if value not in allowed:
        raise ConfigError(
            f"--{option} cannot be {value!r}. Expected one of: "
            f"{', '.join(allowed)}.{did_you_mean(value, allowed)}"
        )
    return value
