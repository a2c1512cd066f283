"""Embedding ten times the clients takes ten times the time and no more memory.

    python benchmarks/embed_scaling.py [--clients 2000] [--memory-limit 500MB]

Generates card-like events for N and 10 N clients (the N repeated under new ids, rows shuffled across clients by time),
trains a small model on the N, and runs `seqmel embed` on both as a process of its own. Prints time and peak memory as
the operating system accounts for them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from seqmel import Config, generate_card_data, train


def write_events(folder: Path, clients: int) -> tuple[Path, Path]:
    """Events of `clients` clients, and of ten times as many, both in order of time."""
    one, ten = folder / "one.parquet", folder / "ten.parquet"
    pq.write_table(generate_card_data(clients, seed=0).events, one)
    duckdb.sql(
        f"COPY (SELECT client_id * 10 + copy AS client_id, * EXCLUDE (client_id, copy) FROM '{one}', range(10) c(copy)"
        f" ORDER BY event_time) TO '{ten}' (FORMAT parquet)"
    )
    return one, ten


def embed(model: Path, events: Path, output: Path) -> tuple[float, float]:
    """Seconds and peak memory (MB) of one `seqmel embed`."""
    command = [sys.executable, "-m", "seqmel", "embed", str(model), str(events), "-o", str(output), "--overwrite"]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return time.monotonic() - began, usage.ru_maxrss / 1024


def main() -> None:
    """Run and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--memory-limit", default="500MB", help="of the engine that sorts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one, ten = write_events(folder, options.clients)
        small = {
            "events": {"hidden_size": 64},
            "encoder": {"name": "gru", "hidden_size": 64},
            "training": {"epochs": 1},
        }
        limited = {"preparation": {"memory_limit": options.memory_limit}}
        model = train(one, folder / "model", config=Config.of(small | limited))
        print("| clients | events | seconds | peak MB |\n|---|---|---|---|")
        for path, clients in ((one, options.clients), (ten, 10 * options.clients)):
            seconds, peak = embed(model, path, folder / "out.parquet")
            events = pq.ParquetFile(path).metadata.num_rows
            print(f"| {clients:,} | {events:,} | {seconds:.1f} | {peak:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
