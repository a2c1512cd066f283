"""Every night: update vectors from new events, check them for drift, write predictions.

    python examples/nightly_scoring.py

The model has no recency features, since they count days to the end of the training data and so
drift each month. The state counts all events of a client, however long ago. The commands for the
same are `seqmel embed --state`, `seqmel drift --fail-on-drift` and `seqmel predict`.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import seqmel

NIGHT = pd.Timedelta(days=1)
OPTIONS = {"recency_features": False, "event_encoder": {"hidden_size": 16}, "epochs": 2}


def main() -> None:
    """Train once and create the state; then run two nights."""
    data = seqmel.generate_card_data(200, seed=0)
    events = data.events.to_pandas()
    gender = data.clients.to_pandas().set_index("client_id")["gender"]
    today = events["event_time"].max().normalize() - 2 * NIGHT
    history = events[events["event_time"] < today]

    model = seqmel.train(history, "model", overwrite=True, **OPTIONS)
    Path("state.parquet").unlink(missing_ok=True)  # an existing state would be continued
    vectors = model.embed(history, state="state.parquet")
    downstream = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=1000))
    downstream.fit(vectors, gender.loc[vectors.index])

    for night in (today, today + NIGHT):
        new = events[events["event_time"].between(night, night + NIGHT, "left")]
        changed = model.embed(new, state="state.parquet")  # only the clients with new events

        known = changed.index.intersection(vectors.index)
        found = seqmel.drift(vectors.loc[known], changed.loc[known])
        print(f"{night.date()}: {len(new)} events of {len(changed)} clients. {found.verdict}")
        if found.drifted:
            raise SystemExit("The vectors have drifted. Check them before you use them.")

        scores = pd.DataFrame({"F": downstream.predict_proba(changed)[:, 0]}, changed.index)
        scores.to_parquet(f"scores-{night.date()}.parquet")
        vectors = pd.concat([vectors.drop(index=known), changed])
    print(f"{len(pd.read_parquet('state.parquet'))} clients are known")


if __name__ == "__main__":
    main()
