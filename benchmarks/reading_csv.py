"""How fast CSV is read: a million generated card events, each way in turns.

    python benchmarks/reading_csv.py [--clients 6000] [--repeats 5] [--threads 2]

DuckDB alone with types by the first rows (which makes 4.5 a 5 where these are whole numbers),
seqmel, seqmel where it has DuckDB look at all rows for the types, as it does of values written in
an unusual way, and `EventSequences.read`. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import duckdb

from seqmel import EventSequences, generate_card_data
from seqmel.data.sources import csv_files
from seqmel.data.sources.reading import open_events


def seconds(run: Callable[[], object]) -> float:
    """Of one turn."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def ways(file: str, threads: int) -> dict[str, Callable[[], object]]:
    """Name -> what reads the file."""

    def alone() -> None:
        connection = duckdb.connect()
        connection.execute(f"SET threads = {threads}")
        connection.execute(f"CREATE TABLE raw AS FROM read_csv('{file}')")

    def by_all_rows() -> None:
        with mock.patch.object(csv_files, "read_as_text", return_value=None):
            open_events(file, threads=threads)

    return {
        "DuckDB alone, types by the first rows": alone,
        "seqmel": lambda: open_events(file, threads=threads),
        "seqmel, types by a look at all rows": by_all_rows,
        "EventSequences.read": lambda: EventSequences.read(file, threads=threads),
    }


def main() -> None:
    """Read the options, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=6000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        events = generate_card_data(options.clients, seed=0).events
        file = Path(folder) / "events.csv"
        events.to_pandas().to_csv(file, index=False)
        runs = ways(str(file), options.threads)
        turns = [[seconds(run) for run in runs.values()] for _ in range(1 + options.repeats)][1:]
    print(f"{len(events):,} events\n\n| | events/s | ratio to the third |\n|---|---|---|")
    for i, name in enumerate(runs):
        ratios = [turn[2] / turn[i] for turn in turns]
        rate = len(events) / statistics.median(turn[i] for turn in turns)
        print(
            f"| {name} | {rate / 1e6:.2f} M | {statistics.median(ratios):.2f} ({min(ratios):.2f} "
            f"to {max(ratios):.2f}) |"
        )


if __name__ == "__main__":
    main()
