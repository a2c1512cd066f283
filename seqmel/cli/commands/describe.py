"""`seqmel describe`: what would be learned from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmel.cli.arguments import Client, ConfigFile, Events, Settings, Time, TimeFormat, read_options

__all__ = ["describe"]


def describe(
    events: Events,
    client: Client = None,
    time: Time = None,
    time_format: TimeFormat = None,
    config: ConfigFile = None,
    settings: Settings = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the same as JSON to this file.")] = None,
) -> None:
    """Show what would be learned from: columns, lengths, gaps."""
    from seqmel.cli.describe import describe_events

    describe_events(
        events, read_options(config, settings, client=client, time=time, time_format=time_format), json_file
    )
