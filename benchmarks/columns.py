"""What a column is worth: embeddings of the same events with and without some columns, same folds.

    python benchmarks/columns.py EVENTS CLIENTS --target buys_in_holdout --ignore invoice_no \
      --without "code: description" --without "code and text:" --without "text: stock_code"

Each --without names a model and the columns that it does not see. The models are trained without
labels on the events of the first clients, as `seqmel train` does by default. Differences from the
first model are paired over folds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import t

from seqmel import read_labels, score, train
from seqmel.core.progress import console_progress


def main() -> None:
    """Print a row per model and reader of its embeddings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("events", type=Path)
    parser.add_argument("clients_file", metavar="CLIENTS", type=Path)
    parser.add_argument("--target", required=True)
    parser.add_argument("--without", action="append", required=True)
    parser.add_argument("--ignore", action="append", default=[])
    parser.add_argument("--clients", type=int, default=2_000)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--trees", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=5, help="of the training without labels")
    asked = parser.parse_args()
    events = pd.read_parquet(asked.events).drop(columns=asked.ignore)
    client = str(events.columns[0])
    first = events[client].drop_duplicates().iloc[: asked.clients]
    events = events[events[client].isin(first)]
    vectors: dict[str, pd.DataFrame] = {}
    for given in asked.without:
        name, _, columns = given.partition(":")
        seen = events.drop(columns=[c.strip() for c in columns.split(",") if c.strip()])
        model = train(seen, seed=asked.seed, epochs=asked.epochs, progress=console_progress())
        vectors[name] = model.embed(seen)
        print(f"{name}: {', '.join(model.schema.features)}", flush=True)
    y = read_labels(asked.clients_file, asked.target, client=client)
    probes = {f"{name}: linear": name for name in vectors}
    found = score(y, vectors, probes=probes, folds=asked.folds, trees=asked.trees, threads=1)
    print(f"\n| model | LightGBM | difference | linear | difference |  ({found.primary})")
    print("|---|---|---|---|---|")
    base, *_ = vectors
    for name in vectors:
        cells = []
        for end in ("", ": linear"):
            folds, others = (np.array(found.score(n + end).folds) for n in (name, base))
            cells += [_words(folds), "" if name == base else _words(folds - others)]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _words(folds: npt.NDArray[np.float64]) -> str:
    """Return the mean and its 95 % interval over folds."""
    half = t.ppf(0.975, len(folds) - 1) * folds.std(ddof=1) / len(folds) ** 0.5
    return f"{folds.mean():.3f} ± {half:.3f}"


if __name__ == "__main__":
    main()
