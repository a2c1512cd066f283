"""Events in, one vector per client out, and what the vectors are worth.

    python examples/quickstart.py

Writes events.parquet, clients.parquet, model/ and embeddings.parquet into the current folder.
"""

from __future__ import annotations

import seqmel


def main() -> None:
    """Train, embed, score."""
    # Two tables: events (one row per event) and labels (one row per client).
    seqmel.generate_card_data(200, seed=0).write(".")

    # Columns are recognised. The options only make it quick.
    options = {"epochs": 3, "event_encoder": {"hidden_size": 32}}
    model = seqmel.train("events.parquet", "model", overwrite=True, **options)
    done = model.embed("events.parquet", "embeddings.parquet", overwrite=True)
    print(f"{done.rows} clients x {done.dimensions} numbers")

    # Vectors and labels are joined by client id.
    small = {"aggregates": False, "folds": 3, "trees": 50}
    scores = model.evaluate("clients.parquet", target="age_group", events="events.parquet", **small)
    print(f"AUROC {scores.score('embeddings', 'auroc').mean:.3f}")


if __name__ == "__main__":
    main()
