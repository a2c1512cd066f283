"""The cost of a million clients: time and memory of prepare, train and embed by client count.

    python benchmarks/scaling.py -o OUT [--clients 10000 100000 [1000000]] [--train-up-to 100000] \
      [--events-per-client 60] [--shards 20] [--memory-limit 500MB]

Card-like events of 2,000 generated clients, again and again under new ids, rows in order of time
and so mixed across clients; about 180 events per client, or the last so many. Each command of
seqmel is a process of its own, its start included; time and peak memory are what the operating
system accounts for it. Training is one epoch of the default model; embedding reads the unsorted
events. With --shards the first two of so many shards are embedded at the same time by two
processes, each of which reads all events. Prints a table and writes it, with all figures, to OUT.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from made_data import repeat_clients

from seqmel import generate_card_data

BASE_CLIENTS = 2000
BASE_OPTIONS = ("training.storage=memory_map", "training.validation_fraction=0.05")


def run(log: Path, *arguments: object) -> dict[str, float]:
    """Seconds and peak memory (MB) of one `seqmel` command."""
    return run_together(log, [arguments])


def run_together(log: Path, commands: list[tuple[object, ...]]) -> dict[str, float]:
    """Seconds until the last of the commands ends, and the largest peak memory (MB) of one."""
    began = time.monotonic()
    peak = 0.0
    with log.open("a") as file:
        called = [[sys.executable, "-m", "seqmel", *map(str, words)] for words in commands]
        processes = [subprocess.Popen(words, stdout=file, stderr=file) for words in called]
        for process, words in zip(processes, called, strict=True):
            _, status, usage = os.wait4(process.pid, 0)
            if status:
                sys.exit(f"{' '.join(words)} failed; see {log}")
            peak = max(peak, usage.ru_maxrss / 1024)
    return {"seconds": time.monotonic() - began, "peak_mb": peak}


def write_events(path: Path, clients: int, last: int | None) -> None:
    """Events of so many clients, all or the last ones of each."""
    base = generate_card_data(min(clients, BASE_CLIENTS), seed=0).events
    if last is not None:
        frame = base.to_pandas().sort_values("event_time", kind="stable")
        base = pa.Table.from_pandas(frame.groupby("client_id").tail(last), preserve_index=False)
    repeat_clients(base, path, copies=-(-clients // BASE_CLIENTS), clients=clients)


def measure(
    out: Path,
    clients: int,
    *,
    train: bool,
    last: int | None,
    shards: int | None,
    memory_limit: str,
    settings: list[str],
) -> list[dict[str, Any]]:
    """The rows for so many clients; events and outputs are removed when they are done with."""
    events = out / "events.parquet"
    log = out / "log.txt"
    model = out / "model"
    # by a process of its own: the peak of one that is started later counts what this one held
    # before
    writer = multiprocessing.get_context("spawn").Process(
        target=write_events, args=(events, clients, last)
    )
    writer.start()
    writer.join()
    if writer.exitcode:
        sys.exit(f"{events} could not be written")
    limit = f"preparation.memory_limit={memory_limit}"
    chosen = [word for setting in (limit, *BASE_OPTIONS, *settings) for word in ("--set", setting)]
    done = {"prepare": run(log, "prepare", events, "-o", out / "sequences", "--overwrite", *chosen)}
    if train or not model.exists():
        done["train, one epoch"] = run(
            log,
            "train",
            out / "sequences",
            "-o",
            model,
            "--epochs",
            1 if train else 0,
            "--overwrite",
            *chosen,
        )
        if not train:
            del done["train, one epoch"]
    if shards is None:
        done["embed"] = run(
            log, "embed", model, events, "-o", out / "embeddings.parquet", "--overwrite"
        )
    else:
        parts = [
            ("embed", model, events, "-o", out / f"part-{i}.parquet", "--shard", f"{i}/{shards}")
            for i in (1, 2)
        ]
        title = f"embed, two of {shards} shards"
        done[title] = run_together(log, [(*words, "--overwrite") for words in parts])
        embedded = sum(pq.ParquetFile(out / f"part-{i}.parquet").metadata.num_rows for i in (1, 2))
        done[title]["embedded"] = embedded
    rows = pq.ParquetFile(events).metadata.num_rows
    return [
        {"stage": stage, "clients": clients, "events": rows, **figures}
        for stage, figures in done.items()
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """All figures as Markdown, stage by stage."""
    lines = [
        "| stage | clients | events | seconds | ms a client | hours a million clients | peak MB |",
        "|---" * 7 + "|",
    ]
    for stage in dict.fromkeys(row["stage"] for row in rows):
        for row in (r for r in rows if r["stage"] == stage):
            each = row["seconds"] / row.get("embedded", row["clients"])
            lines.append(
                f"| {stage} | {row['clients']:,} | {row['events']:,} | {row['seconds']:.1f} | "
                f"{1e3 * each:.2f} | {1e6 * each / 3600:.2f} | {row['peak_mb']:,.0f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Measure and write down."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--clients", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument(
        "--train-up-to",
        type=int,
        default=100_000,
        help="beyond it the model trained before is used",
    )
    parser.add_argument("--events-per-client", type=int, help="the last so many; all by default")
    parser.add_argument("--shards", type=int, help="embed two of so many shards, not all")
    parser.add_argument("--memory-limit", default="500MB", help="of the engine that sorts")
    parser.add_argument("--set", action="append", default=[], help="an option for seqmel train")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for clients in sorted(options.clients):
        rows += measure(
            options.output,
            clients,
            train=clients <= options.train_up_to,
            last=options.events_per_client,
            shards=options.shards,
            memory_limit=options.memory_limit,
            settings=options.set,
        )
        (options.output / "scaling.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
        (options.output / "scaling.md").write_text(table(rows) + "\n", encoding="utf-8")
        print(table(rows[-3:]) if clients != max(options.clients) else table(rows), flush=True)


if __name__ == "__main__":
    main()
