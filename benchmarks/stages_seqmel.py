"""The stages in seqmel on any device; `compare.py` runs them on the CPU, `gpu.py` on a GPU.

"like" variants have the incumbent's widths: one layer of `event` numbers per event, GRU, last
state, contrastive loss with hard negatives. "own" ones are seqmel's defaults with a GRU,
"transformer" ones with a Transformer, "default" ones its defaults as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from made_data import preparation_config
from serving import Run, Stage, serve, sizes_of
from torch import nn

import seqmel
from seqmel import Config, Model
from seqmel.core.device import limit_onednn_cache, tune_malloc
from seqmel.data.sequences.batch import SequenceBatch
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.sequences.prepared import open_prepared
from seqmel.data.vocabulary import Vocabulary
from seqmel.inference.embed import embed_to_parquet
from seqmel.nn.encoder import SequenceEncoder
from seqmel.objectives import Encoded, Objective, ViewBatch
from seqmel.objectives.coles import CoLES
from seqmel.training.batches import TrainingBatches

__all__ = ["STAGES", "embed", "loss", "prepare", "slices", "step", "variant_config"]


def variant_config(sizes: dict[str, Any], variant: str) -> Config:
    """The options of a variant: "like", "own", "transformer" or "default"."""
    like = {
        "objective": "coles",
        "recency_features": False,
        "pca_dim": None,
        "event_encoder": {"hidden_size": sizes["event"], "layers": 1},
        "encoder": {"name": "gru", "hidden_size": sizes["hidden"]},
        "pooling": "last",
        "loss": {"name": "contrastive", "reduction": "sum"},
    }
    own = {"encoder": {"name": "gru", "hidden_size": sizes["hidden"]}}
    transformer = {"encoder": {"name": "transformer", "hidden_size": sizes["hidden"]}}
    views = {
        "count": sizes["count"],
        "min_length": sizes["shortest"],
        "max_length": sizes["longest"],
    }
    general = {"views": views, "training": {"batch_size": sizes["batch"], "epochs": 1}}
    return Config.from_dict(
        {"like": like, "own": own, "transformer": transformer, "default": {}}[variant] | general
    )


def prepare(folder: Path) -> Run:
    """Prepare the events of a Parquet file for training; units are events."""
    sizes = sizes_of(folder)
    config = preparation_config(sizes["threads"])

    def run() -> dict[str, float]:
        seqmel.prepare(folder / "events.parquet", folder / "again", config=config, overwrite=True)
        return {"units": sizes["events"]}

    return run


def slices(folder: Path, *, device: str = "cpu") -> Run:
    """One epoch of batches; units are events in slices."""
    sequences = open_prepared(folder / "prepared").sequences
    sequences = sequences.to(device) if device != "cpu" else sequences
    config = variant_config(sizes_of(folder), "like")
    vocabulary = open_prepared(folder / "prepared").vocabulary
    objective = Objective(config, vocabulary, SequenceEncoder(config, vocabulary))
    batches = _batches(sequences, vocabulary, objective, sizes_of(folder))

    def run() -> dict[str, float]:
        events = sum(batch.sequences.events for batch in batches)
        _wait(device)
        return {"units": events}

    return run


def _batches(
    sequences: EncodedSequences, vocabulary: Vocabulary, objective: Objective, sizes: dict[str, Any]
) -> TrainingBatches:
    epochs = iter(range(1_000_000_000))
    config = variant_config(sizes, "like")
    return TrainingBatches(
        sequences,
        vocabulary,
        torch.arange(len(sequences)),
        objective,
        config,
        epoch=lambda: next(epochs),
    )


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def step(
    folder: Path,
    *,
    variant: str,
    precision: str = "fp32",
    device: str = "cpu",
    around: Callable[[], Any] | None = None,
    compiled: str | None = None,
    units: str = "clients",
) -> Run:
    """Draw, forward, backward, clip, AdamW, without a trainer around them.

    Args:
        folder: of the data.
        variant: see `variant_config`.
        precision: "fp32" or "bf16", as autocast.
        device: where the sequences lie and the step runs.
        around: makes a context for the steps, such as one that forbids synchronisation.
        compiled: the backend of torch.compile for encoder and pooling, once for batches of all
            sizes; None is as it is.
        units: what a rate counts, "clients" or "events" of their views.
    """
    tune_malloc()
    limit_onednn_cache(recurrent=True)  # for all variants of this process
    sizes = sizes_of(folder)
    prepared = open_prepared(folder / "prepared")
    config = variant_config(sizes, variant)
    torch.manual_seed(0)
    encoder = SequenceEncoder(config, prepared.vocabulary).to(device).train()
    objective = Objective(config, prepared.vocabulary, encoder).to(device)
    weights = [*encoder.parameters(), *objective.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=1e-3)
    sequences = prepared.sequences.to(device) if device != "cpu" else prepared.sequences
    batches = _batches(sequences, prepared.vocabulary, objective, sizes)
    if compiled is not None:
        encoder.states = torch.compile(encoder.states, dynamic=True, backend=compiled)  # type: ignore[method-assign]
        encoder.pool = torch.compile(encoder.pool, dynamic=True, backend=compiled)  # type: ignore[method-assign]

    def one(batch: ViewBatch) -> None:
        optimizer.zero_grad()
        _ = (
            batch.sequences.sequence_index,
            batch.sequences.first_events,
        )  # worked out here, where nothing is compiled
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
            value = objective.total(objective.losses(encoder, batch))
        value.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()

    def run() -> dict[str, float]:
        drawn = iter(batches)
        events = 0
        for _ in range(sizes["steps"]):
            if around is None:
                batch = next(drawn).to(device)
                one(batch)
            else:
                with around():
                    batch = next(drawn).to(device)
                    one(batch)
            events += batch.sequences.events
        _wait(device)
        clients = sizes["steps"] * sizes["batch"]
        return {"units": clients if units == "clients" else events, "events": events}

    return run


class _Given(Encoded):
    """Vectors that are there already."""

    def __init__(self, vectors: torch.Tensor, batch: ViewBatch) -> None:
        self.batch = batch
        self.progress = 0.0
        self.__dict__["vectors"] = vectors.requires_grad_()


def loss(folder: Path, *, device: str = "cpu", calls: int = 20) -> Run:
    """Contrastive loss, five hard negatives per anchor, through the objective; units are calls."""
    sizes = sizes_of(folder)
    torch.manual_seed(0)
    objective = CoLES(variant_config(sizes, "like"), embedding_size=sizes["width"])
    objective.head = nn.Sequential()
    none = torch.zeros(0, dtype=torch.int64)
    clients = torch.arange(sizes["views"]) // sizes["count"]
    batch = ViewBatch.of(
        SequenceBatch({}, none, torch.zeros(1, dtype=torch.int64), none), clients
    ).to(device)
    given = _Given(torch.randn(sizes["views"], sizes["width"], device=device), batch)

    def run() -> dict[str, float]:
        for _ in range(calls):
            given.vectors.grad = None
            objective(given).backward()
        _wait(device)
        return {"units": calls}

    return run


def embed(folder: Path, *, variant: str, device: str = "cpu", source: str = "prepared") -> Run:
    """Embed sequences (`prepared`) or events (`events.parquet`) to Parquet; units are events."""
    sizes = sizes_of(folder)
    prepared = open_prepared(folder / "prepared")
    config = variant_config(sizes, variant)
    torch.manual_seed(0)
    model = Model(
        config,
        prepared.schema,
        prepared.vocabulary,
        SequenceEncoder(config, prepared.vocabulary).eval(),
        {},
    )

    def run() -> dict[str, float]:
        embed_to_parquet(
            model, folder / source, folder / "seqmel.parquet", device=device, overwrite=True
        )
        return {"units": sizes["events"]}

    return run


def online(folder: Path, *, calls: int = 50, length: int = 200) -> Run:
    """The default model and one client's events as dictionaries to a vector; units are calls."""
    sizes = sizes_of(folder)
    prepared = open_prepared(folder / "prepared")
    config = variant_config(sizes, "default")
    torch.manual_seed(0)
    encoder = SequenceEncoder(config, prepared.vocabulary).eval()
    scorer = Model(config, prepared.schema, prepared.vocabulary, encoder, {}).scorer()
    frame = pd.read_parquet(folder / "events.parquet")
    longest = frame["client_id"].value_counts().index[0]
    events = frame[frame["client_id"] == longest].head(length).to_dict("records")

    def run() -> dict[str, float]:
        for _ in range(calls):
            scorer.embed(events)
        return {"units": calls}

    return run


STAGES: dict[str, Stage] = {
    "prepare": prepare,
    "slices": slices,
    "loss": loss,
    **{
        f"step {v} {p}": partial(step, variant=v, precision=p)
        for v in ("like", "own", "default")
        for p in ("fp32", "bf16")
    },
    **{f"embed {v}": partial(embed, variant=v) for v in ("like", "own", "default")},
    "train events": partial(step, variant="default", units="events"),
    "online": online,
    "embed events": partial(embed, variant="like", source="events.parquet"),
}

if __name__ == "__main__":
    serve(STAGES)
