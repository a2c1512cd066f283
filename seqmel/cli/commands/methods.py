"""`seqmel methods`: every method by name."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["methods"]


def methods(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List all objectives, views, encoders, poolings, losses, miners, samplers and modifiers."""
    import json

    from seqmel.config import methods as known

    if as_json:
        typer.echo(json.dumps(known(), indent=1))
        return
    for section, names in known().items():
        width = max(map(len, names))
        lines = [f"  {name:<{width}}  {line}" for name, line in names.items()]
        typer.echo("\n".join([section, *lines, ""]))
    typer.echo(
        "Equations and sources: docs/methods.md. Options: seqmel train EVENTS -o MODEL --set "
        "loss=triplet"
    )
