"""`seqmel drift`: how far embeddings are from those of another period, or events from those of the training; without any label."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from seqmel.core.atomic_files import atomic_write, check_not_input
from seqmel.core.errors import InputError, ModelError, shown
from seqmel.data.sources.reading import event_files
from seqmel.data.tables.labels import client_of_embeddings, read_embeddings
from seqmel.data.tables.vector_files import models_of, scales_of
from seqmel.evaluation.drift import Drift, drift
from seqmel.evaluation.input_drift import InputDrift, input_drift
from seqmel.inference.embed import sequence_chunks
from seqmel.model import load_model

__all__ = ["compare_embeddings", "compare_events", "is_model"]


def is_model(path: str) -> bool:
    """Whether the reference is a model rather than a file of embeddings."""
    return (Path(path) / "config.json").is_file()


def compare_events(model: str, events: str, *, psi: float, unseen: float, json_file: Path | None) -> InputDrift:
    """Print how far each column has moved since the training, and the verdict; with `json_file`, write all of it."""
    check_not_input(json_file, model, events)
    loaded = load_model(model)
    if loaded.statistics is None:
        raise ModelError(
            f"{model} has model format 1, which keeps nothing of the training's values to compare with. Train it again, or"
            " compare embeddings: seqmel drift REFERENCE.parquet CURRENT.parquet"
        )
    _, chunks = sequence_chunks(loaded, events)
    found = input_drift(loaded.statistics, chunks, psi_threshold=psi, unseen_threshold=unseen)
    console = _written(found, json_file)
    console.print(
        f"{found.events[0]:,} events of {found.clients[0]:,} clients in training, {found.events[1]:,} of"
        f" {found.clients[1]:,} now. Without drift no PSI would exceed {found.psi_by_chance:.3f} but in 1 % of cases."
    )
    console.print(found.verdict, markup=False)
    return found


def _written(found: Drift | InputDrift, json_file: Path | None) -> Console:
    if json_file is not None:
        with atomic_write(json_file) as partial:
            partial.write_text(json.dumps(found.to_json(), indent=1), encoding="utf-8")
    console = Console(highlight=False, soft_wrap=True)
    console.print(found.table())
    return console


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
    check_not_input(json_file, reference, current)
    types = [_number_type(path) for path in (reference, current)]
    if types[0] != types[1]:
        raise InputError(
            f"{reference} was written as {types[0]} and {current} as {types[1]}: the steps alone would be drift. Write both with"
            " the same --dtype."
        )
    models = {path: models_of(event_files(path)) for path in (reference, current)}
    if len(set().union(*models.values())) > 1:
        words = " and ".join(f"{path} ({shown(sorted(found)) or 'not known'})" for path, found in models.items())
        raise InputError(
            f"The vectors are of different models: {words}. Their dimensions have nothing in common; embed both with one model."
        )
    likely = client_of_embeddings(reference)
    vectors = [read_embeddings(path, client=client, likely=likely) for path in (reference, current)]
    found = drift(*vectors, bins=bins, psi_threshold=psi, alpha=p_value, seed=seed)
    console = _written(found, json_file)
    sides = " and ".join(f"{len(side):,}" for side in vectors)
    console.print(
        f"The same {found.current:,} clients on both sides, of {sides}."
        if found.by_client
        else f"Other clients on both sides, {sides}: what differs may be who is there."
    )
    console.print(
        f"{found.reference:,} reference and {found.current:,} current vectors; MMD on {found.sampled[0]:,} and"
        f" {found.sampled[1]:,} of them. Without drift no PSI would exceed {found.psi_by_chance:.3f} but in 1 % of cases."
    )
    console.print(found.verdict)
    return found


def _number_type(path: str) -> str:
    """How the numbers of a file of embeddings were written."""
    scales = scales_of(event_files(path), path)
    return "float" if scales is None else scales.number_type
