"""Several event tables beside the same events in one table: embeddings alone, same folds.

    python benchmarks/several_tables.py EVENTS CLIENTS --target buys \
      --table "bought: not is_cancel" --table "cancelled: is_cancel" [--drop is_cancel] \
      [--clients 2000] [--folds 5] [--epochs 5]

Each --table names a table and, in the syntax of pandas' query, which events are in it. A column of
--drop is what the tables are split by, so that they do not need it; the one table keeps it. Both
models are trained without labels on the events of the first clients, as `seqmel train` does by
default. The difference is paired over folds.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seqmel import read_labels, score, train
from seqmel.core.progress import console_progress


def main() -> None:
    """Print a row per set of vectors and model."""
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
    asked = parser.parse_args()
    events = pd.read_parquet(asked.events).drop(columns=asked.ignore)
    client = str(events.columns[0])
    first = events[client].drop_duplicates().iloc[: asked.clients]
    events = events[events[client].isin(first)]
    tables = {}
    for given in asked.tables:
        name, _, condition = given.partition(":")
        tables[name.strip()] = events.query(condition.strip()).drop(columns=asked.drop)
    if sum(map(len, tables.values())) != len(events):
        parser.error("the tables do not hold each event once")
    vectors: dict[str, pd.DataFrame] = {}
    for name, given in (("one table", events), ("several tables", tables)):
        model = train(given, seed=asked.seed, epochs=asked.epochs, progress=console_progress())
        vectors[name] = model.embed(given)
        print(f"{name}: {vectors[name].shape[1]:,} dimensions", flush=True)
    probes = {f"{name}: linear": name for name in vectors}
    print("\n| target | read by | one table | several tables | difference |\n|---|---|---|---|---|")
    for target in asked.target:
        y = read_labels(asked.clients_file, target, client=client)
        found = score(y, vectors, probes=probes, folds=asked.folds, trees=asked.trees, threads=1)
        for reader, end in (("LightGBM", ""), ("linear", ": linear")):
            one, several = (np.array(found.score(name + end).folds) for name in vectors)
            cells = [_words(one), _words(several), _words(several - one)]
            print(f"| {target} ({found.primary}) | {reader} | {' | '.join(cells)} |", flush=True)


def _words(folds: np.ndarray[Any, Any]) -> str:
    """Return the mean and its 95 % interval over folds."""
    from scipy.stats import t

    half = t.ppf(0.975, len(folds) - 1) * folds.std(ddof=1) / len(folds) ** 0.5
    return f"{folds.mean():.3f} ± {half:.3f}"


if __name__ == "__main__":
    main()
