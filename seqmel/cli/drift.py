"""`seqmel drift`: how far the embeddings of one period are from those of another, without any label."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from seqmel.data.labels import read_embeddings
from seqmel.evaluation.drift import Drift, drift
from seqmel.files import written_beside

__all__ = ["compare_embeddings"]


def compare_embeddings(
    reference: str,
    current: str,
    *,
    client: str | None,
    bins: int,
    psi: float,
    p_value: float,
    seed: int,
    json_file: Path | None,
) -> Drift:
    """Print the dimensions that moved most and the verdict; with `json_file`, write all of it."""
    vectors = [read_embeddings(path, client=client) for path in (reference, current)]
    found = drift(*vectors, bins=bins, psi_threshold=psi, p_threshold=p_value, seed=seed)
    if json_file is not None:
        with written_beside(json_file) as partial:
            partial.write_text(json.dumps(found.to_json(), indent=1), encoding="utf-8")
    console = Console(highlight=False, soft_wrap=True)
    console.print(found.table())
    console.print(
        f"{found.reference:,} reference and {found.current:,} current vectors; MMD on {found.sampled[0]:,} and"
        f" {found.sampled[1]:,} of them. Without drift no PSI would exceed {found.psi_by_chance:.3f} but in 1 % of cases."
    )
    console.print(found.verdict)
    return found
