"""Who is about to go quiet: embeddings of what was known at a moment, tested on a later one.

    python examples/churn_as_of.py

A training set for churn looks ahead, so that each vector must be of the events before its own
moment. The model of the vectors is trained on the events before the first moment; the churn model
on the moments of spring, tested in autumn.
"""

from __future__ import annotations

import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from seqmel import Config, embed_as_of, generate_card_data, load_model, read_embeddings, train

AHEAD = pd.Timedelta(days=30)


def labelled(events: pd.DataFrame, moment: pd.Timestamp) -> pd.DataFrame:
    """One row a client known at the moment: client, moment, and whether the month after has half the events of the one before."""
    time = events["event_time"]
    before = events[(time >= moment - AHEAD) & (time < moment)].groupby("client_id").size()
    after = events[(time >= moment) & (time < moment + AHEAD)].groupby("client_id").size()
    quiet = after.reindex(before.index, fill_value=0) < before / 2
    return pd.DataFrame(
        {"client_id": before.index, "event_time": moment, "quiet": quiet.to_numpy()}
    )


def main() -> None:
    """Train before the first moment, learn from the earlier moments, test on the last."""
    events = generate_card_data(250, seed=0).events.to_pandas()
    first = events["event_time"].min().normalize()
    moments = [first + pd.Timedelta(days=days) for days in (120, 160, 200, 280)]
    rows = pd.concat([labelled(events, moment) for moment in moments], ignore_index=True)

    config = Config.from_dict({"event_encoder": {"hidden_size": 32}, "training": {"epochs": 2}})
    train(events[events["event_time"] < moments[0]], "model", config=config, overwrite=True)
    embed_as_of(
        load_model("model"),
        events,
        rows[["client_id", "event_time"]],
        "as_of.parquet",
        overwrite=True,
    )

    # One row a client and moment; joined by both.
    vectors = read_embeddings("as_of.parquet", time_column="event_time")
    quiet = rows.set_index(["client_id", "event_time"])["quiet"]
    vectors = vectors.loc[quiet.index]
    late = vectors.index.get_level_values("event_time") == moments[-1]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=1000))
    model.fit(vectors[~late], quiet[~late])
    risk = pd.Series(model.predict_proba(vectors[late])[:, 1], vectors.index[late], name="risk")
    print(
        f"{(~late).sum()} rows learnt from, {late.sum()} later rows, {quiet[late].mean():.0%} of "
        "which go quiet"
    )
    print(f"AUROC out of time {roc_auc_score(quiet[late], risk):.3f}")


if __name__ == "__main__":
    main()
