"""Move from pytorch-lifestream: seqmel reads its feature dictionaries and its nested Parquet.

    python examples/from_lifestream.py

docs/how-to/from-lifestream.md lists which class and call of it is what in seqmel.
"""

from __future__ import annotations

from typing import Any

import torch

import seqmel

# The settings of a usual CoLES script, smaller.
COLES: dict[str, Any] = {
    "views": {"count": 5, "min_length": 10, "max_length": 40},
    "encoder": {"name": "gru", "hidden_size": 32},
    "event_encoder": {"hidden_size": 32},
    "pooling": "last",
    "pca_dim": None,
    "objective": "coles",
    "loss": {"name": "contrastive", "margin": 0.5, "reduction": "sum"},
    "miner": {"name": "hard_negatives", "k": 5},
    "epochs": 2,
}


def feature_dictionaries(count: int) -> list[dict[str, Any]]:
    """Return dictionaries as its preprocessor gives: seconds, category codes from 1, tensors."""
    events = seqmel.generate_card_data(count, seed=0).events.to_pandas()
    events = events.sort_values(["client_id", "event_time"], kind="stable")
    events["event_time"] = events["event_time"].astype("datetime64[s]").astype("int64")
    events["mcc"] = events["mcc"].rank(method="dense").astype("int64")
    columns = ("event_time", "mcc", "amount")
    return [
        {"client_id": client, **{name: torch.tensor(part[name].to_numpy()) for name in columns}}
        for client, part in events.groupby("client_id")
    ]


def main() -> None:
    """Train on feature dictionaries, and embed the same clients from nested Parquet."""
    records = feature_dictionaries(120)
    model = seqmel.train(records, "model", overwrite=True, **COLES)

    # Its Parquet files have one row per client, with list columns.
    nested = seqmel.EventSequences.read(records).to_pandas().reset_index()
    nested.to_parquet("ptls.parquet")
    vectors = model.embed("ptls.parquet")
    print(f"{len(vectors)} clients x {vectors.shape[1]} numbers")


if __name__ == "__main__":
    main()
