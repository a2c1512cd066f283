"""`seqmel version`: print the version."""

from __future__ import annotations

import typer

__all__ = ["version"]


def version() -> None:
    """Print the version."""
    from seqmel.core.version import __version__

    typer.echo(__version__)
