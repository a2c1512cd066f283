"""`seqmel config`: every option with its default."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["config"]


def config(
    section: Annotated[
        str | None,
        typer.Argument(help="Only the options of one section, such as training or loss."),
    ] = None,
) -> None:
    """List every option of a config file or of --set, with its default and what it does."""
    from seqmel.config.reference import options
    from seqmel.core.errors import ConfigError, did_you_mean

    found = options()
    known = list(dict.fromkeys(option.path.split(".")[0] for option in found))
    if section is not None and section not in known:
        raise ConfigError(
            f"There is no section {section!r}.{did_you_mean(section, known)} There are: "
            f"{', '.join(known)}."
        )
    for option in found:
        if section in (None, option.path.split(".")[0]):
            method = f" ({option.method})" if option.method else ""
            typer.echo(f"{option.path}{method}: {option.default}")
            if option.line:
                typer.echo(f"    {option.line}")
