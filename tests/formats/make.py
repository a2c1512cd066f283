"""Make a model folder of the present format, to be kept for the versions to come.

    PYTHONPATH=. python tests/formats/make.py tests/formats/model_3

writes the folder with the events (`events.parquet`) and the vectors that this version gives for
them (`vectors.parquet`) beside its own files. Run once for each format; what is there is never made
anew. (model_1 was made by this script at the last commit of format 1.)
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import seqmel

OPTIONS = {
    "event_encoder": {"hidden_size": 8},
    "encoder": {"name": "gru", "hidden_size": 8},
    "training": {"epochs": 2, "batch_size": 8, "validation_fraction": 0.3},
    "preparation": {"min_count": 2, "threads": 1},
    "schema": {"numeric_by": {"level": "kind"}},
    "device": "cpu",
    "precision": "32-true",
}


def made_events(clients: int = 16) -> pa.Table:
    """Return a category, a number, one within the category, and nulls."""
    random = np.random.default_rng(20)
    lengths = random.integers(2, 20, clients)
    client = np.repeat(np.arange(clients), lengths)
    size = len(client)
    kind = random.integers(0, 4, size)
    seconds = np.sort(random.choice(200 * 86_400, size, replace=False))
    amount = np.where(random.random(size) < 0.1, np.nan, np.exp(random.normal(3, 1, size)).round(2))
    return pa.table(
        {
            "client_id": pa.array([f"c{i}" for i in client]),
            "event_time": pa.array(seconds.astype("datetime64[s]")).cast(pa.timestamp("us")),
            "kind": pa.array([["a", "b", "c", None][i] for i in kind]),
            "amount": pa.array(amount),
            "level": pa.array(10.0 * kind + random.normal(0, 1, size).round(3)),
        }
    )


def main() -> None:
    """Train, embed, and keep it."""
    folder = Path(sys.argv[1])
    events = made_events()
    seqmel.train(events, folder, config=seqmel.Config.from_dict(OPTIONS))
    (folder / "curves.png").unlink()
    pq.write_table(events, folder / "events.parquet", compression="zstd")
    seqmel.embed_to_parquet(
        seqmel.load_model(folder),
        folder / "events.parquet",
        folder / "vectors.parquet",
        device="cpu",
    )


if __name__ == "__main__":
    main()
