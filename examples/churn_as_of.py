"""Who is about to go quiet: embeddings as of a time, and a churn model tested on a later time.

    python examples/churn_as_of.py

Each vector holds only the events before its own time, since churn labels look ahead.
"""

from __future__ import annotations

import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import seqmel

MONTH = pd.Timedelta(days=30)


def labelled(events: pd.DataFrame, time: pd.Timestamp) -> pd.DataFrame:
    """Return the active clients, and whether their events halve in the next month."""
    when = events["event_time"]
    before = events[when.between(time - MONTH, time, "left")].groupby("client_id").size()
    after = events[when.between(time, time + MONTH, "left")].groupby("client_id").size()
    quiet = after.reindex(before.index, fill_value=0) < before / 2
    return quiet.rename("quiet").reset_index().assign(event_time=time)


def main() -> None:
    """Train before the first time, fit on the earlier times, test on the last."""
    events = seqmel.generate_card_data(250, seed=0).events.to_pandas()
    start = events["event_time"].min().normalize()
    times = [start + pd.Timedelta(days=days) for days in (120, 160, 200, 280)]
    rows = pd.concat([labelled(events, time) for time in times])
    quiet = rows.set_index(["client_id", "event_time"])["quiet"]

    before = events[events["event_time"] < times[0]]
    model = seqmel.train(before, epochs=2, event_encoder={"hidden_size": 32})
    vectors = model.embed(events, as_of=rows[["client_id", "event_time"]]).loc[quiet.index]

    late = vectors.index.get_level_values("event_time") == times[-1]
    churn = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=1000))
    risk = churn.fit(vectors[~late], quiet[~late]).predict_proba(vectors[late])[:, 1]
    print(f"{len(risk)} later rows, of which {quiet[late].mean():.0%} go quiet")
    print(f"AUROC out of time {roc_auc_score(quiet[late], risk):.3f}")


if __name__ == "__main__":
    main()
