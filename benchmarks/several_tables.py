"""Several event tables beside the same events in one table: embeddings alone, same folds.

    python benchmarks/several_tables.py EVENTS CLIENTS --target buys \
      --table "bought: not is_cancel" --table "cancelled: is_cancel" [--drop is_cancel] \
      [--clients 2000] [--folds 5] [--epochs 5] [-o rows.json]

Each --table names a table and, in the syntax of pandas' query, which events are in it. Columns that
are empty in a table, or that --drop names because the tables are split by them, are left out of it;
the one table keeps them. A model is trained without labels on the one table, on each table alone,
and on all tables, on the events of the first clients and as `seqmel train` does by default. A
client without an event in a table has the mean vector of the others there. Differences are to the
one table, paired over folds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seqmel import read_labels, score, train
from seqmel.core.progress import console_progress

ONE, ALL = "one table", "several tables"


def main() -> None:
    """Print a row per target and set of vectors, and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("events", type=Path)
    parser.add_argument("clients_file", metavar="CLIENTS", type=Path)
    parser.add_argument("--target", action="append", required=True)
    parser.add_argument("--table", action="append", required=True, dest="tables")
    parser.add_argument("--drop", action="append", default=[])
    parser.add_argument("--ignore", action="append", default=[])
    parser.add_argument("--clients", type=int, default=2_000)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--trees", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="of the training without labels")
    parser.add_argument("-o", "--output", type=Path, help="a JSON file of the rows")
    asked = parser.parse_args()
    events = pd.read_parquet(asked.events).drop(columns=asked.ignore)
    client = str(events.columns[0])
    first = events[client].drop_duplicates().iloc[: asked.clients]
    events = events[events[client].isin(first)]
    tables = {}
    for given in asked.tables:
        name, _, condition = given.partition(":")
        table = events.query(condition.strip(), engine="python").drop(columns=asked.drop)
        tables[name.strip()] = table.dropna(axis="columns", how="all")
    if sum(map(len, tables.values())) != len(events):
        parser.error("the tables do not hold each event once")
    sets: dict[str, Any] = {ONE: events} | {f"{n} alone": t for n, t in tables.items()}
    sets[ALL] = tables
    vectors: dict[str, pd.DataFrame] = {}
    for name, given in sets.items():
        model = train(given, seed=asked.seed, epochs=asked.epochs, progress=console_progress())
        found = model.embed(given).reindex(first)
        vectors[name] = found.fillna(found.mean())
        print(f"{name}: {found.shape[1]:,} dimensions", flush=True)
    rows = []
    probes = {f"{name}: linear": name for name in vectors}
    for target in asked.target:
        y = read_labels(asked.clients_file, target, client=client)
        scores = score(y, vectors, probes=probes, folds=asked.folds, trees=asked.trees, threads=1)
        for name in vectors:
            row: dict[str, Any] = {"target": target, "metric": scores.primary, "events": name}
            for reader, end in (("LightGBM", ""), ("linear", ": linear")):
                folds = np.array(scores.score(name + end).folds)
                row[reader] = _interval(folds)
                base = np.array(scores.score(ONE + end).folds)
                row[f"{reader} difference"] = None if name == ONE else _interval(folds - base)
            rows.append(row)
            print(json.dumps(row), flush=True)
    if asked.output:
        lines = ",\n ".join(map(json.dumps, rows))
        asked.output.write_text(f"[\n {lines}\n]\n", encoding="utf-8")


def _interval(folds: np.ndarray[Any, Any]) -> list[float]:
    """Return the mean over folds and half of its 95 % interval."""
    from scipy.stats import t

    half = t.ppf(0.975, len(folds) - 1) * folds.std(ddof=1) / len(folds) ** 0.5
    return [round(float(folds.mean()), 3), round(float(half), 3)]


if __name__ == "__main__":
    main()
