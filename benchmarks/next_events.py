"""When and what comes next: embeddings by default beside aggregates with order, on many sets.

    python benchmarks/next_events.py DATA_FOLDER -o OUT_FOLDER [--sets berka,nafld] [--clients 2000]
    [--trees 100] [--seed 0] [--without rhythm,known_numbers,last_ranks]

The history of each client is cut at a random event. Targets are the hours until the next event and
values of its columns: a category (its seven most frequent values, and "other") or a number. No
default was chosen on these targets before the poolings `rhythm`, `known_numbers` and `last_ranks`,
which were chosen on cards, berka, physionet2012 and nafld and confirmed on the others. --without
trains a second model per set without these poolings.

OUT_FOLDER/next_events.json has the rows of the table: with --without, it can replace
research/data/next_events.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from flights import compare
from rows import mean_and_half, write_rows

import seqmel
from seqmel.evaluation.feature_sets import WITH_ORDER

COLUMNS = {
    "cards": ["city", "channel", "amount"],
    "berka": ["bank", "k_symbol", "amount", "balance"],
    "physionet2012": ["parameter", "value"],
    "nafld": ["kind", "value"],
    "baseball": ["team", "bat_cs", "gs", "innouts"],
    "online_retail": ["unit_price", "amount"],
    "assist2009": ["skill"],
    "eshop": ["model", "price"],
    "bpic2013": ["group", "role"],
}
HOURS = "log_hours"
_FEWEST = 8
_EARLIEST = 5
_MOST = 200
_CLASSES = 7
_RAREST = 10
_LARGE = 50
"""Numbers above are predicted as logarithms."""


def load(data: Path, name: str, clients: int) -> pd.DataFrame:
    """Return the events of some clients, in order."""
    if name == "cards":
        events = seqmel.generate_card_data(clients, seed=0).events.to_pandas()
    else:
        files = [data / name / f"{stem}.parquet" for stem in ("events", "transactions")]
        events = pd.read_parquet(next(file for file in files if file.exists()))
    ids = np.sort(events["client_id"].unique())
    if len(ids) > clients:
        ids = np.random.default_rng(0).choice(ids, clients, replace=False)
    events = events[events["client_id"].isin(ids)]
    return events.sort_values(["client_id", "event_time"], kind="stable", ignore_index=True)


def cut(events: pd.DataFrame, columns: list[str], seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cut each history at random, and label what comes next."""
    random = np.random.default_rng(seed)
    sizes = events.groupby("client_id", sort=False).size()
    ends = sizes.cumsum().to_numpy()
    kept = np.zeros(len(events), bool)
    clients = []
    following = []
    for client, size, end in zip(sizes.index, sizes, ends, strict=True):
        if size < _FEWEST:
            continue
        at = end - size + int(random.integers(_EARLIEST, size))
        kept[max(end - size, at - _MOST) : at] = True
        clients.append(client)
        following.append(at)
    later = events.loc[following]
    earlier = events.loc[np.array(following) - 1, "event_time"]
    hours = (later["event_time"].to_numpy() - earlier.to_numpy()) / np.timedelta64(1, "h")
    labels = {"client_id": clients, HOURS: np.log1p(hours)}
    for column in columns:
        values = later[column]
        if pd.api.types.is_float_dtype(values):
            large = values.abs().max() > _LARGE
            labels[column] = np.sign(values) * np.log1p(values.abs()) if large else values
        else:
            values = values.astype(str)
            counts = values.value_counts()
            frequent = counts.index[: min(_CLASSES, int((counts >= _RAREST).sum()))]
            labels[column] = values.where(values.isin(frequent), "other")
    return events[kept], pd.DataFrame({n: np.asarray(column) for n, column in labels.items()})


def row(data: str, scores: seqmel.Scores) -> dict[str, Any]:
    """Return the row of a target, with the columns of research/data/next_events.json."""
    vectors = {"without": "without", "with": "embeddings"}
    return {
        "data": data,
        "target": scores.target,
        "metric": scores.primary,
        WITH_ORDER: round(scores.score(WITH_ORDER).mean, 4),
        **{
            name: [round(scores.score(of + end).mean, 4) for end in ("", ": linear")]
            for name, of in vectors.items()
            if of in scores.matched
        },
        "difference": mean_and_half(scores.difference("embeddings", WITH_ORDER)),
    }


def options(description: str | None) -> argparse.ArgumentParser:
    """Return the options of comparisons on several tables."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--without", default="", help="poolings that a second model lacks")
    return parser


def compare_tables(
    tables: Iterable[tuple[str, pd.DataFrame, pd.DataFrame]], given: argparse.Namespace, file: str
) -> None:
    """Compare on each table, and write the rows after each.

    Args:
        tables: Names, events and labels. Labels that are all the same are left out.
        given: What `options` read.
        file: The name of the file of rows.
    """
    given.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, events, labels in tables:
        known = labels.drop(columns="client_id").nunique()
        found = compare(
            given.output, name, events, labels, list(known.index[known > 1]), given.trees,
            client="client_id", without=[p for p in given.without.split(",") if p],
        )  # fmt: skip
        rows += [row(name, scores) for scores in found]
        write_rows(given.output / file, rows)


def main() -> None:
    """Read the options and compare on each set."""
    parser = options(__doc__)
    parser.add_argument("--sets", default=",".join(COLUMNS))
    parser.add_argument("--clients", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    tables = (
        (name, *cut(load(given.data, name, given.clients), COLUMNS[name], given.seed))
        for name in given.sets.split(",")
    )
    compare_tables(tables, given, "next_events.json")


if __name__ == "__main__":
    main()
