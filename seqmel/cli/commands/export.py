"""`seqmel export`: write a model as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmel.cli.arguments import Model, Overwrite

__all__ = ["export"]


def export(
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="ONNX file to write.")],
    overwrite: Overwrite = False,
) -> None:
    """Write a model as ONNX, from raw event values to embeddings."""
    from seqmel.export import export_onnx
    from seqmel.model import load_model

    export_onnx(load_model(model), output, overwrite=overwrite)
    typer.echo(
        f"{output}, {output.stat().st_size / 1e6:.1f} MB; inputs and outputs are described in its "
        "doc_string"
    )
