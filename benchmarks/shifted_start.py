"""Shortcuts through time: the same events, and with each client shifted by random minutes.

    python benchmarks/shifted_start.py DATA_FOLDER -o OUT_FOLDER [--set physionet2012 ...] \
      [--clients 4000] [--seed 0]

When a client was there says nothing more of it once its start is random, so a method without a
shortcut through time loses nothing by it, but for what true starts were worth. DATA_FOLDER holds
physionet2012/, berka/ and online_retail/, each with events (or transactions) and clients as
Parquet; cards are generated. Each set is trained on as it is and shifted, with the default and with
`views.shift_clock=[]`; a linear probe scores every target on the same folds. Prints a table and
leaves it with all scores in OUT_FOLDER; what is there already is not trained again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import seqmel

TARGETS = {
    "physionet2012": ["gender", "in_hospital_death", "age_group"],
    "berka": ["age_group"],
    "online_retail": ["buys_in_holdout"],
    "cards": ["gender", "age_group"],
}
METHODS: dict[str, dict[str, Any]] = {"default": {}, "no shift": {"views": {"shift_clock": []}}}
MINUTES = 3 * 365 * 1440


def tables(data: Path, name: str, clients: int | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Events and clients of a set, or of so many of its clients."""
    if name == "cards":
        cards = seqmel.generate_card_data(clients or 3_000)
        return _frame(cards.events), _frame(cards.clients)
    events = data / name / ("transactions.parquet" if name == "berka" else "events.parquet")
    labels = pd.read_parquet(data / name / "clients.parquet")
    ids = np.sort(labels["client_id"].unique())
    if clients is not None and len(ids) > clients:
        ids = np.random.default_rng(0).choice(ids, clients, replace=False)
    return pd.read_parquet(events, filters=[("client_id", "in", list(ids))]), labels[
        labels["client_id"].isin(ids)
    ]


def _frame(table: Any) -> pd.DataFrame:
    return table if isinstance(table, pd.DataFrame) else table.to_pandas()


def shifted(events: pd.DataFrame, seed: int) -> pd.DataFrame:
    """All events of a client later by the same random number of minutes."""
    ids = pd.Index(np.sort(events["client_id"].unique()))
    minutes = np.random.default_rng(seed).integers(0, MINUTES, len(ids))
    by = pd.to_timedelta(minutes[ids.get_indexer(events["client_id"])], unit="min")
    return events.assign(
        event_time=pd.to_datetime(events["event_time"]).astype("datetime64[us]") + by
    )


def linear(vectors: pd.DataFrame, labels: pd.Series[Any]) -> float:
    """Return AUROC of two classes, else accuracy, over five folds of a logistic regression."""
    y, classes = pd.factorize(labels.reindex(vectors.index).dropna(), sort=True)
    x = vectors.loc[labels.reindex(vectors.index).notna().to_numpy()].to_numpy()
    scores = []
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(x, y):
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=300))
        chances = probe.fit(x[train], y[train]).predict_proba(x[test])
        two = len(classes) == 2
        scores.append(
            roc_auc_score(y[test], chances[:, 1])
            if two
            else accuracy_score(y[test], chances.argmax(1))
        )
    return float(np.mean(scores))


def scores(
    folder: Path, events: pd.DataFrame, labels: pd.DataFrame, name: str, options: dict[str, Any]
) -> dict[str, float]:
    """Train, embed and score, or what an earlier run found."""
    found = folder / "scores.json"
    if not found.exists():
        folder.mkdir(parents=True, exist_ok=True)
        columns = {"client": "client_id", "time": "event_time"}
        seqmel.train(
            events, folder / "model", config={"schema": columns, **options}, overwrite=True
        )
        seqmel.embed_to_parquet(
            folder / "model", events, folder / "vectors.parquet", overwrite=True
        )
        vectors = pd.read_parquet(folder / "vectors.parquet").set_index("client_id")
        by_client = labels.set_index("client_id")
        found.write_text(
            json.dumps({target: linear(vectors, by_client[target]) for target in TARGETS[name]})
        )
    return dict(json.loads(found.read_text()))


def rows(data: Path, out: Path, name: str, options: argparse.Namespace) -> list[str]:
    """A row of the table for each target and method."""
    events, labels = tables(data, name, options.clients)
    given: dict[str, Any] = {"seed": options.seed}
    if options.epochs is not None:
        given["training"] = {"epochs": options.epochs}
    lines = []
    for method, own in METHODS.items():
        folder = out / name / method.replace(" ", "_")
        as_is = scores(folder / "as_is", events, labels, name, {**given, **own})
        moved = scores(
            folder / "shifted", shifted(events, options.seed), labels, name, {**given, **own}
        )
        lines += [
            (
                f"| {name} | {target} | {method} | {as_is[target]:.3f} | {moved[target]:.3f} | "
                f"{moved[target] - as_is[target]:+.3f} |"
            )
            for target in TARGETS[name]
        ]
    return lines


def main() -> None:
    """Read the options and run the sets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--set", action="append", choices=TARGETS, help="one set; all by default")
    parser.add_argument("--clients", type=int, help="so many clients of each set at most")
    parser.add_argument(
        "--epochs", type=int, help="of each training; by the data where it is not given"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the starts and the training")
    options = parser.parse_args()
    lines = [
        "| set | target | method | as is | shifted | difference |",
        "|---|---|---|---|---|---|",
    ]
    for name in options.set or TARGETS:
        lines += rows(options.data, options.output, name, options)
    table = "\n".join(lines)
    (options.output / "table.md").write_text(table + "\n")
    print(table)


if __name__ == "__main__":
    main()
