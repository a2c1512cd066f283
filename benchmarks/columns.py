"""What a column is worth: embeddings of the same events with and without some columns, same folds.

    python benchmarks/columns.py EVENTS CLIENTS --target buys_in_holdout --ignore invoice_no \
      --without "code: description" --without "code and text:" --without "text: stock_code" \
      [-o ROWS]

Each --without names a model and the columns that it does not see. The models are trained without
labels on the events of the first clients, as `seqmel train` does by default. Differences from the
first model are paired over folds. ROWS gets the table as JSON for research/data/columns.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
from rows import mean_and_half, write_rows

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
    parser.add_argument("-o", "--output", type=Path)
    asked = parser.parse_args()
    events = pd.read_parquet(asked.events).drop(columns=asked.ignore)
    client = str(events.columns[0])
    first = events[client].drop_duplicates().iloc[: asked.clients]
    events = events[events[client].isin(first)]
    vectors: dict[str, pd.DataFrame] = {}
    recalls = {}
    for given in asked.without:
        name, _, columns = given.partition(":")
        seen = events.drop(columns=[c.strip() for c in columns.split(",") if c.strip()])
        model = train(seen, seed=asked.seed, epochs=asked.epochs, progress=console_progress())
        vectors[name] = model.embed(seen)
        recalls[name] = round(max(row["recall_at_1"] for row in model.metrics["history"]), 4)
        print(f"{name}: {', '.join(model.schema.features)}", flush=True)
    y = read_labels(asked.clients_file, asked.target, client=client)
    probes = {f"{name}: linear": name for name in vectors}
    found = score(y, vectors, probes=probes, folds=asked.folds, trees=asked.trees, threads=1)
    print(
        f"\n| model | LightGBM | difference | linear | difference | recall@1 |  ({found.primary})"
    )
    print("|---|---|---|---|---|---|")
    base, *_ = vectors
    rows = []
    for name in vectors:
        row: dict[str, Any] = {"columns": name}
        cells = []
        for reader, end in (("LightGBM", ""), ("linear", ": linear")):
            own = found.score(name + end)
            apart = None if name == base else found.difference(name + end, base + end)
            row |= {reader: mean_and_half(own)}
            row |= {f"{reader} difference": None if apart is None else mean_and_half(apart)}
            cells += [str(own), "" if apart is None else str(apart)]
        rows.append(row | {"recall@1": recalls[name]})
        print(f"| {name} | {' | '.join(cells)} | {recalls[name]:.3f} |", flush=True)
    if asked.output is not None:
        write_rows(asked.output, rows)


if __name__ == "__main__":
    main()
