"""Events beyond memory: prepare, train and embed, each under a memory limit of the kernel.

    python benchmarks/beyond_memory.py -o OUT [--events 20000000] [--events-per-client 200] \
      [--columns 0] [--set OPTION=VALUE] [--limit-mb 2000] [--memory-limit 500MB]

Generated events without order, written in pieces, with `--columns` further numbers per event. Each
command of seqmel is a process of its own under RLIMIT_DATA: the kernel refuses it writable memory
beyond the limit, also such as is reserved and never touched (for which Arrow is told to reserve
none: ARROW_DEFAULT_MEMORY_POOL=system). Files that are mapped and read are page cache and do not
count. Training is one epoch of a narrow network, changed by `--set`. Prints a table, and writes all
figures to OUT/beyond_memory.json: seconds, the most that the kernel had granted and the most of it
that was in use, looked at twenty times a second, and how it ended.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import resource
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
NARROW = (
    "event_encoder.hidden_size=32",
    "training.batch_size=256",
    "views.max_length=100",
    "embedding_dim=64",
)


def write_events(path: Path, events: int, clients: int, columns: int) -> None:
    """Write events of clients drawn anew for each event, in pieces, with `columns` more numbers."""
    random = np.random.default_rng(0)
    with contextlib.ExitStack() as stack:
        writer = None
        for begin in range(0, events, CHUNK):
            count = min(CHUNK, events - begin)
            client = random.integers(0, clients, count)
            kind = (random.zipf(1.5, count) + client % 7) % 300
            values = {
                "client_id": client,
                "event_time": (random.integers(0, YEAR, count) + 1_672_531_200).astype(
                    "datetime64[s]"
                ),
                "mcc": 1_000 + kind,
                "channel": np.array(["shop", "web", "app", "cash"])[random.integers(0, 4, count)],
                "amount": np.exp(random.normal(3 + kind % 5, 1.0, count)).round(2),
            }
            values |= {
                f"measure_{i}": random.normal(client % 3, 1.0, count).astype(np.float32)
                for i in range(columns)
            }
            table = pa.table(values)
            writer = writer or stack.enter_context(pq.ParquetWriter(path, table.schema))
            writer.write_table(table, row_group_size=CHUNK)


def held_mb(pid: int) -> dict[str, int]:
    """Return granted and used writable memory of a process in MB; nothing when it has ended."""
    with contextlib.suppress(OSError):
        found = dict(
            re.findall(r"(VmData|RssAnon):\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
        )
        return {
            name: int(found.get(key, 0)) >> 10
            for name, key in (("granted_mb", "VmData"), ("in_use_mb", "RssAnon"))
        }
    return {}


def run(log: Path, limit_mb: int, *arguments: object) -> dict[str, Any]:
    """One `seqmel` command under the limit."""
    command = [sys.executable, "-m", "seqmel", *map(str, arguments)]
    limits = (limit_mb << 20, limit_mb << 20)
    began = time.monotonic()
    peak = {"granted_mb": 0, "in_use_mb": 0}
    with log.open("a") as file:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=file,
            env=os.environ | {"ARROW_DEFAULT_MEMORY_POOL": "system"},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, limits),
        )
        while process.poll() is None:
            peak |= {name: max(peak[name], seen) for name, seen in held_mb(process.pid).items()}
            time.sleep(0.05)
    return {
        "seconds": round(time.monotonic() - began, 1),
        **peak,
        "ended": f"exit code {process.returncode}",
    }


def main() -> None:
    """Measure and write down."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--events-per-client", type=int, default=200)
    parser.add_argument("--columns", type=int, default=0, help="further numbers per event")
    parser.add_argument("--limit-mb", type=int, default=2_000)
    parser.add_argument(
        "--memory-limit", default="500MB", help="of the engine that sorts, within the other limit"
    )
    parser.add_argument(
        "--set", action="append", default=[], dest="further", help="of prepare and train"
    )
    options = parser.parse_args()
    out: Path = options.output
    out.mkdir(parents=True, exist_ok=True)
    events = out / "events.parquet"
    log = out / "log.txt"
    clients = max(4, options.events // options.events_per_client)
    write_events(events, options.events, clients, options.columns)
    chosen = [f"preparation.memory_limit={options.memory_limit}", *NARROW, *options.further]
    settings = [word for setting in chosen for word in ("--set", setting)]
    commands = {
        "prepare": ("prepare", events, "-o", out / "sequences", *settings),
        "train, one epoch": (
            "train",
            out / "sequences",
            "-o",
            out / "model",
            "--epochs",
            1,
            *settings,
        ),
        "embed, from unsorted events": (
            "embed",
            out / "model",
            events,
            "-o",
            out / "embeddings.parquet",
        ),
    }
    found: dict[str, Any] = {
        "events": options.events,
        "clients": clients,
        "columns": options.columns,
        "set": options.further,
        "limit_mb": options.limit_mb,
        "memory_limit": options.memory_limit,
        "load": os.getloadavg(),
        "cpus": os.cpu_count(),
        "stages": {},
    }
    print("| stage | seconds | MB granted | MB in use | ended |\n|---|---|---|---|---|")
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
        print(
            f"| {stage} | {done['seconds']} | {done['granted_mb']:,} | {done['in_use_mb']:,} | "
            f"{done['ended']} |",
            flush=True,
        )
        if done["ended"] != "exit code 0":
            sys.exit(f"{stage}: {done['ended']}; see {log}")


if __name__ == "__main__":
    main()
