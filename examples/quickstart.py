"""Events in, one vector a client out, and what the vectors are worth.

    python examples/quickstart.py

Writes events.parquet, clients.parquet, model/ and embeddings.parquet into the current folder.
"""

from __future__ import annotations

import pyarrow.parquet as pq

from seqmel import Config, embed_to_parquet, generate_card_data, load_model, read_embeddings, read_labels, score, train


def main() -> None:
    """Train, embed, score."""
    # Two tables: events (one row an event) and labels (one row a client). Yours come from elsewhere.
    data = generate_card_data(200, seed=0)
    pq.write_table(data.events, "events.parquet")
    pq.write_table(data.clients, "clients.parquet")

    # Columns are recognised. The options here only make it quick; without them: train("events.parquet", "model").
    config = Config.from_dict({"event_encoder": {"hidden_size": 32}, "training": {"epochs": 3}})
    train("events.parquet", "model", config=config, overwrite=True)
    clients, numbers = embed_to_parquet(load_model("model"), "events.parquet", "embeddings.parquet", overwrite=True)
    print(f"{clients} clients x {numbers} numbers")

    # Vectors and labels are joined by client id.
    vectors = read_embeddings("embeddings.parquet")
    age_group = read_labels("clients.parquet", "age_group")
    scores = score(age_group, {"embeddings": vectors}, folds=3, trees=50)
    print(f"AUROC {next(row for row in scores.rows if row.metric == 'auroc').mean:.3f}")


if __name__ == "__main__":
    main()
