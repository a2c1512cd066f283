"""Shortcuts through time: the same events, and with each client shifted by random minutes.

    python benchmarks/shifted_start.py DATA_FOLDER -o OUT_FOLDER [--set physionet2012 ...] \
      [--clients 4000] [--seed 0]

When a client was there says nothing more of it once its start is random, so a method without a
shortcut through time loses no more by it than hand-made features do, which lose what true starts
and the calendar were worth. DATA_FOLDER holds physionet2012/, berka/ and online_retail/, each with
events (or transactions) and clients as Parquet; cards are generated. Each set is trained on as it
is and shifted, with the default and, with --no-shift, with `views.shift_clock=[]`. LightGBM (100
trees) and a linear model score every target on the same folds. Prints a table, with the 95 %
interval of the difference over the folds, and leaves it with all scores in OUT_FOLDER; what is
there already is not trained again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import seqmel
from seqmel.evaluation.results import Score

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


def scores(
    folder: Path, events: pd.DataFrame, labels: pd.DataFrame, name: str, options: dict[str, Any]
) -> dict[str, dict[str, list[float]]]:
    """Train, embed and score, or what an earlier run found: target -> features -> folds."""
    found = folder / "scores.json"
    if not found.exists():
        folder.mkdir(parents=True, exist_ok=True)
        columns = {"client": "client_id", "time": "event_time"}
        model = seqmel.train(events, config={"schema": columns, **options})
        sets = {"embeddings": model.embed(events)}
        if "views" not in options:
            aggregates = seqmel.AggregateFeatures(order=True, client="client_id", time="event_time")
            sets["aggregates with order"] = aggregates.fit_transform(events)
        by_target = {}
        for target in TARGETS[name]:
            scored = seqmel.score(
                labels.set_index("client_id")[target],
                sets,
                probes={"embeddings: linear": "embeddings"},
                trees=100,
            )
            by_target[target] = {
                row.features: list(row.folds) for row in scored.rows if row.metric == scored.primary
            }
        found.write_text(json.dumps(by_target))
    return dict(json.loads(found.read_text()))


def rows(data: Path, out: Path, name: str, options: argparse.Namespace) -> list[str]:
    """A row of the table for each target and kind of features."""
    events, labels = tables(data, name, options.clients)
    given: dict[str, Any] = {"seed": options.seed}
    if options.epochs is not None:
        given["training"] = {"epochs": options.epochs}
    lines = []
    for method, own in METHODS.items() if options.no_shift else [("default", METHODS["default"])]:
        folder = out / name / method.replace(" ", "_")
        as_is = scores(folder / "as_is", events, labels, name, {**given, **own})
        moved = scores(
            folder / "shifted", shifted(events, options.seed), labels, name, {**given, **own}
        )
        for target, by_features in as_is.items():
            for features, folds in by_features.items():
                title = features if method == "default" else f"{features}, {method}"
                there = moved[target][features]
                apart = Score(features, "", tuple(np.subtract(there, folds)))
                lines.append(
                    f"| {name} | {target} | {title} | {np.mean(folds):.3f} | {np.mean(there):.3f} "
                    f"| {apart.mean:+.3f} ± {apart.half_width:.3f} |"
                )
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
    parser.add_argument(
        "--no-shift", action="store_true", help="also train without shifting the clocks of views"
    )
    options = parser.parse_args()
    lines = [
        "| set | target | features | as is | shifted | difference |",
        "|---|---|---|---|---|---|",
    ]
    for name in options.set or TARGETS:
        lines += rows(options.data, options.output, name, options)
    table = "\n".join(lines)
    (options.output / "table.md").write_text(table + "\n")
    print(table)


if __name__ == "__main__":
    main()
