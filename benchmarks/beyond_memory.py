"""More events than memory: prepare, train and embed, each ended when it holds more memory than it may.

    python benchmarks/beyond_memory.py -o OUT [--events 20000000] [--events-a-client 200] [--columns 0] \
      [--set OPTION=VALUE] [--limit-mb 2000] [--memory-limit 500MB]

Made events in no order, written in pieces, with so many further numbers an event as `--columns` says. Each command of seqmel is
a process of its own. Its anonymous memory, which the system cannot take back, is looked at twenty times a second, and the process
is killed where it is above the limit. Files that are mapped and read are page cache and do not count. (RLIMIT_AS and RLIMIT_DATA
count what is reserved and never touched, which is gigabytes in torch and DuckDB. To have the kernel hold the limit as well, start
this script in a control group: systemd-run --user --scope -p MemoryMax=2G.) Training is one epoch of a narrow network, changed by
`--set`. Prints a table, and writes all figures to OUT/beyond_memory.json: seconds, the most anonymous memory that was seen, and how
it ended.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CHUNK = 1_000_000
YEAR = 365 * 86_400
NARROW = ("events.hidden_size=32", "training.batch_size=256", "views.max_length=100", "embedding_dim=64")


def write_events(path: Path, events: int, clients: int, columns: int) -> None:
    """Write events of clients that are drawn anew for each event, a piece at a time; `columns` further numbers each."""
    random = np.random.default_rng(0)
    with contextlib.ExitStack() as stack:
        writer = None
        for begin in range(0, events, CHUNK):
            count = min(CHUNK, events - begin)
            client = random.integers(0, clients, count)
            kind = (random.zipf(1.5, count) + client % 7) % 300
            values = {
                "client_id": client,
                "event_time": (random.integers(0, YEAR, count) + 1_672_531_200).astype("datetime64[s]"),
                "mcc": 1_000 + kind,
                "channel": np.array(["shop", "web", "app", "cash"])[random.integers(0, 4, count)],
                "amount": np.exp(random.normal(3 + kind % 5, 1.0, count)).round(2),
            }
            values |= {f"measure_{i}": random.normal(client % 3, 1.0, count).astype(np.float32) for i in range(columns)}
            table = pa.table(values)
            writer = writer or stack.enter_context(pq.ParquetWriter(path, table.schema))
            writer.write_table(table, row_group_size=CHUNK)


def anonymous_mb(pid: int) -> float:
    """Anonymous memory of a process, in MB; 0 when it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
    return 0.0


def run(log: Path, limit_mb: int, *arguments: object) -> dict[str, Any]:
    """One `seqmel` command, killed above the limit."""
    command = [sys.executable, "-m", "seqmel", *map(str, arguments)]
    began, peak, killed = time.monotonic(), 0.0, False
    with log.open("a") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
        while process.poll() is None:
            seen = anonymous_mb(process.pid)
            peak = max(peak, seen)
            if seen > limit_mb:
                process.kill()
                killed = True
            time.sleep(0.05)
    ended = "killed at the limit" if killed else f"exit code {process.returncode}"
    return {"seconds": round(time.monotonic() - began, 1), "peak_anonymous_mb": round(peak), "ended": ended}


def main() -> None:
    """Measure and write down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--events-a-client", type=int, default=200)
    parser.add_argument("--columns", type=int, default=0, help="further numbers an event")
    parser.add_argument("--limit-mb", type=int, default=2_000)
    parser.add_argument("--memory-limit", default="500MB", help="of the engine that sorts, within the other limit")
    parser.add_argument("--set", action="append", default=[], dest="further", help="of prepare and train")
    options = parser.parse_args()
    out: Path = options.output
    out.mkdir(parents=True, exist_ok=True)
    events, log = out / "events.parquet", out / "log.txt"
    clients = max(4, options.events // options.events_a_client)
    write_events(events, options.events, clients, options.columns)
    chosen = [f"preparation.memory_limit={options.memory_limit}", *NARROW, *options.further]
    settings = [word for setting in chosen for word in ("--set", setting)]
    commands = {
        "prepare": ("prepare", events, "-o", out / "sequences", *settings),
        "train, one epoch": ("train", out / "sequences", "-o", out / "model", "--epochs", 1, *settings),
        "embed, from unsorted events": ("embed", out / "model", events, "-o", out / "embeddings.parquet"),
    }
    found: dict[str, Any] = {
        "events": options.events, "clients": clients, "columns": options.columns, "set": options.further,
        "limit_mb": options.limit_mb, "memory_limit": options.memory_limit,
        "load": os.getloadavg(), "cpus": os.cpu_count(), "stages": {},
    }  # fmt: skip
    print("| stage | seconds | peak anonymous MB | ended |\n|---|---|---|---|")
    for stage, command in commands.items():
        done = run(log, options.limit_mb, *command, "--overwrite")
        found["stages"][stage] = done
        sizes = {
            path.name: path.stat().st_size >> 20
            for path in (events, out / "sequences" / "sequences.arrow")
            if path.exists()
        }
        found["megabytes_on_disk"] = sizes
        (out / "beyond_memory.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
        print(f"| {stage} | {done['seconds']} | {done['peak_anonymous_mb']:,} | {done['ended']} |", flush=True)
        if done["ended"] != "exit code 0":
            sys.exit(f"{stage}: {done['ended']}; see {log}")


if __name__ == "__main__":
    main()
