"""A night with late events: a state of many clients, updated by the next day's events.

    python benchmarks/night.py -o OUT [--clients 100000 1000000] [--events 10] [--late 0.002]

Card-like events of 2,000 generated clients, their last ones, again and again under new ids. A state
is made of all but the last events. The night has the last event of a fifth of the clients, and for
a fraction `--late` an event of a month before. Then, on copies of the same state:

    without --history    clients with late events are skipped and listed, the others go on
    with --history       they are computed anew, the others go on

Every command is a process of its own; time and peak memory are what the operating system accounts
for it. It is checked that exactly the late clients are listed or computed anew, that a sample of
vectors equals those of all events at once, and that the others keep their state. The exit code is 1
where something differs. A million clients need 10 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
from scaling import run

import seqmel

BASE_CLIENTS = 2000
_SAMPLE = 400
_CLOSE = 1e-4
_SMALL = ("event_encoder.hidden_size=32", "training.validation_fraction=0.05")


def write_events(folder: Path, clients: int, events: int, late: float) -> None:
    """Write base, before, night and all (.parquet): the events of so many clients."""
    base = seqmel.generate_card_data(BASE_CLIENTS, seed=0).events
    pq.write_table(base, folder / "base.parquet")
    connection = duckdb.connect()
    connection.execute("SET enable_progress_bar = false")
    connection.register("base", base)
    connection.execute(
        "CREATE TABLE last AS SELECT * REPLACE (dense_rank() OVER (ORDER BY client_id) - 1 AS "
        "client_id), row_number() OVER (PARTITION BY client_id ORDER BY event_time DESC) AS back "
        f"FROM base QUALIFY back <= {events}"
    )
    (known,) = connection.execute("SELECT max(client_id) + 1 FROM last").fetchall()[0]
    every = (
        f"SELECT * REPLACE (client_id + copy * {known} AS client_id) FROM last, "
        f"range({-(-clients // known)}) c(copy) WHERE client_id + copy * {known} < {clients}"
    )
    columns = "SELECT * EXCLUDE (back, copy)"
    # Whole numbers decide, so that the same clients are late in each file.
    per_mille = round(late * 1000)
    is_new = "back = 1 AND client_id % 5 = 0"
    is_late = f"back = 1 AND client_id % 1000 >= {1000 - per_mille}"
    shifted = "event_time - INTERVAL 30 DAY AS event_time"
    parts = {
        "before": f"{columns} FROM ({every}) WHERE NOT ({is_new})",
        "night": f"{columns} FROM ({every}) WHERE {is_new} UNION ALL {columns} REPLACE ({shifted}) "
        f"FROM ({every}) WHERE {is_late}",
    }
    for name, query in parts.items():
        connection.execute(f"COPY ({query}) TO '{folder / name}.parquet' (FORMAT parquet)")
    connection.execute(
        f"COPY (FROM '{folder}/before.parquet' UNION ALL FROM '{folder}/night.parquet') "
        f"TO '{folder}/all.parquet' (FORMAT parquet)"
    )
    connection.close()


def ids_of(path: Path) -> set[int]:
    """Return the clients of a file."""
    return set(pq.read_table(path, columns=["client_id"])["client_id"].to_pylist())


def late_clients(folder: Path) -> set[int]:
    """Return the clients of the night with an event before their last one, or with no other."""
    found = duckdb.sql(
        f"WITH known AS (SELECT client_id, max(event_time) AS last FROM '{folder}/before.parquet' "
        f"GROUP BY 1) SELECT DISTINCT client_id FROM '{folder}/night.parquet' JOIN known USING "
        "(client_id) WHERE event_time < last"
    )
    return {client for (client,) in found.fetchall()}


def changed_states(folder: Path, computed: str) -> list[str]:
    """Return what differs in the state of clients that a night did not compute."""
    before, after = folder / "state_before.parquet", folder / "state.parquet"
    (changed,) = duckdb.sql(
        f"SELECT count(*) FROM '{before}' b LEFT JOIN '{after}' a ON a.client_id = b.client_id "
        f"WHERE b.client_id NOT IN (SELECT client_id FROM '{folder / computed}.parquet') "
        "AND a IS DISTINCT FROM b"
    ).fetchall()[0]
    return [f"{computed}: the state of {changed:,} other clients has changed"] if changed else []


def wrong(folder: Path) -> list[str]:
    """Return what differs from what the night should give."""
    late = late_clients(folder)
    night = ids_of(folder / "night.parquet")
    listed = ids_of(folder / "skipped.parquet")
    found = []
    if listed != late:
        found.append(f"{len(listed ^ late):,} clients are listed and not late, or the reverse")
    if ids_of(folder / "without.parquet") != night - late:
        found.append("the vectors without a history are not those of all others")
    if ids_of(folder / "with.parquet") != night:
        found.append("the vectors with a history are not those of all clients of the night")
    model = seqmel.load(folder / "model")
    random = np.random.default_rng(0)
    for name, clients in (("with", night), ("with", late), ("without", night - late)):
        chosen = random.choice(sorted(clients), min(_SAMPLE, len(clients)), replace=False)
        part = duckdb.sql(
            f"SELECT * FROM '{folder}/all.parquet' WHERE client_id IN "
            f"({', '.join(map(str, chosen))})"
        ).to_arrow_table()
        expected = model.embed(part, progress=False)
        rows = pq.read_table(
            folder / f"{name}.parquet", filters=[("client_id", "in", chosen.tolist())]
        )
        vectors = rows.to_pandas().set_index("client_id").loc[expected.index].to_numpy()
        far = float(np.abs(vectors - expected.to_numpy()).max())
        if not far < _CLOSE:
            found.append(f"vectors of {name} differ by {far:.1e} from those of all events")
    return found


def measure(folder: Path, clients: int, events: int, late: float) -> dict[str, Any]:
    """Run a night of so many clients, and return its figures."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = multiprocessing.get_context("spawn").Process(
        target=write_events, args=(folder, clients, events, late)
    )
    writer.start()
    writer.join()
    if writer.exitcode:
        sys.exit(f"the events in {folder} could not be written")
    log = folder / "log.txt"
    small = [word for option in _SMALL for word in ("--set", option)]
    model, state = folder / "model", folder / "state.parquet"
    run(log, "train", folder / "base.parquet", "-o", model, "--epochs", 1, "--overwrite", *small)

    def embed(name: str, events: str, *more: object) -> dict[str, float]:
        vectors = folder / f"{name}.parquet"
        words = ("-o", vectors, "--overwrite", "--state", state, *more)
        return run(log, "embed", model, folder / f"{events}.parquet", *words)

    state.unlink(missing_ok=True)
    figures = {"state": embed("first", "before")}
    (folder / "first.parquet").unlink()
    shutil.copy(state, folder / "state_before.parquet")
    figures["without --history"] = embed(
        "without", "night", "--skipped", folder / "skipped.parquet"
    )
    found = changed_states(folder, "without")
    shutil.copy(folder / "state_before.parquet", state)
    figures["with --history"] = embed("with", "night", "--history", folder / "all.parquet")
    found += changed_states(folder, "with")
    (folder / "state_before.parquet").unlink()
    return {
        "clients": clients,
        "of the night": len(ids_of(folder / "night.parquet")),
        "late": len(late_clients(folder)),
        "figures": figures,
        "wrong": found + wrong(folder),
    }


def main() -> None:
    """Measure, check and print."""
    duckdb.sql("SET enable_progress_bar = false")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--clients", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--events", type=int, default=10, help="events per client at most")
    parser.add_argument("--late", type=float, default=0.002, help="fraction of late clients")
    asked = parser.parse_args()
    print("| clients | of the night | late | | seconds | peak MB |\n|---|---|---|---|---|---|")
    found: list[str] = []
    for clients in sorted(asked.clients):
        folder = asked.output / str(clients)
        done = measure(folder, clients, asked.events, asked.late)
        (folder / "night.json").write_text(json.dumps(done, indent=1), encoding="utf-8")
        for stage, figures in done["figures"].items():
            print(
                f"| {clients:,} | {done['of the night']:,} | {done['late']:,} | {stage} | "
                f"{figures['seconds']:.0f} | {figures['peak_mb']:,.0f} |",
                flush=True,
            )
        found += done["wrong"]
    for line in found:
        print(line)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
