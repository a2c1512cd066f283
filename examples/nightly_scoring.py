"""Every night: bring vectors up to date from yesterday's events, check them for drift, write predictions.

    python examples/nightly_scoring.py

The profile counts days to the end of the training data, so what it says of a recent event is
another number each month; a model for this job goes without it. The state counts all events of a
client, however long ago.

On the command line the same are `seqmel embed --state`, `seqmel drift --fail-on-drift` and `seqmel
predict`.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from seqmel import (
    Config,
    drift,
    generate_card_data,
    load_model,
    read_embeddings,
    train,
    update_embeddings,
)

TONIGHT = pd.Timedelta(days=1)


def main() -> None:
    """Once: a model, a state, a downstream model. Then two nights."""
    data = generate_card_data(200, seed=0)
    events, labels = (
        data.events.to_pandas(),
        data.clients.to_pandas().set_index("client_id")["gender"],
    )
    today = events["event_time"].max().normalize() - 2 * TONIGHT
    history = events[events["event_time"] < today]

    config = Config.from_dict(
        {"recency_features": False, "event_encoder": {"hidden_size": 16}, "training": {"epochs": 2}}
    )
    train(history, "model", config=config, overwrite=True)
    model = load_model("model")
    Path("state.parquet").unlink(
        missing_ok=True
    )  # a state that is there is gone on from; this one begins
    update_embeddings(model, history, "state.parquet", "vectors.parquet", overwrite=True)
    vectors = read_embeddings("vectors.parquet")
    downstream = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=1000))
    downstream.fit(vectors, labels.loc[vectors.index])

    for night in (today, today + TONIGHT):
        new = events[(events["event_time"] >= night) & (events["event_time"] < night + TONIGHT)]
        # Reads the new events alone; what comes out are the clients that had any.
        done = update_embeddings(model, new, "state.parquet", "changed.parquet", overwrite=True)
        changed = read_embeddings("changed.parquet")

        # The clients of tonight, with their vectors as they were.
        known = changed.index.intersection(vectors.index)
        found = drift(vectors.loc[known], changed.loc[known])
        print(f"{night.date()}: {len(new)} events of {done.clients} clients. {found.verdict}")
        if found.drifted:
            raise SystemExit("The vectors have moved: look before they are used.")

        scores = pd.DataFrame({"F": downstream.predict_proba(changed)[:, 0]}, index=changed.index)
        scores.to_parquet(f"scores-{night.date()}.parquet")
        vectors = pd.concat([vectors.drop(index=known), changed])
    print(f"{pq.read_metadata('state.parquet').num_rows} clients are known")


if __name__ == "__main__":
    main()
