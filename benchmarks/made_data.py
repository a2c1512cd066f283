"""The generated data of a comparison: raw events, and the same encoded sequences for each side.

events.parquet    card-like events of all clients in time order, one row per event prepared/
the same, by `seqmel prepare` records.parquet   the sequences of `prepared`, one row per client, in
pytorch-lifestream's types pragmatiq/   the events of the first few clients as pragmatiq reads them
sizes.json        sizes and hyper-parameters
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seqmel import Config, generate_card_data, prepare
from seqmel.data.sequences.prepared import open_prepared

__all__ = ["CATEGORIES", "NUMBERS", "preparation_config", "repeat_clients", "write_data"]

CATEGORIES = ("mcc", "channel", "city")
NUMBERS = ("amount",)
_LEAST_EVENTS = 50  # of a shorter client the two libraries draw slices of different lengths
# more are these again under other ids: generating is slow, and nothing measured here can tell
_BASE_CLIENTS = 3_000


def write_data(folder: Path, sizes: dict[str, Any]) -> None:
    """Write the folder, unless it is there with these sizes.

    Args:
        folder: to write.
        sizes: `clients` to generate, and what `serving.sizes_of` shall tell the sides.
    """
    known = folder / "asked.json"
    if known.is_file() and json.loads(known.read_text(encoding="utf-8")) == sizes:
        return
    folder.mkdir(parents=True, exist_ok=True)
    known.unlink(missing_ok=True)
    _write_events(folder / "events.parquet", sizes["clients"])
    prepared = prepare(
        folder / "events.parquet",
        folder / "prepared",
        config=preparation_config(sizes["threads"]),
        overwrite=True,
    )
    categories = {name: codes.size for name, codes in prepared.vocabulary.categorical.items()}
    found = {
        "clients": len(prepared.sequences),
        "events": prepared.sequences.events,
        "categories": categories,
        "numbers": list(NUMBERS),
    }
    _write_records(folder)
    _write_contract(folder, sizes["few"])
    (folder / "sizes.json").write_text(json.dumps({**sizes, **found}), encoding="utf-8")
    known.write_text(json.dumps(sizes), encoding="utf-8")


def preparation_config(threads: int) -> Config:
    """Columns named, as the other library needs them named too."""
    columns = {
        "client": "client_id",
        "time": "event_time",
        "categorical": CATEGORIES,
        "numeric": NUMBERS,
    }
    return Config.from_dict(
        {
            "schema": {**columns, "numeric_by": {}},
            "preparation": {"threads": threads, "min_count": 1},
        }
    )


def _write_events(path: Path, clients: int) -> None:
    events = generate_card_data(min(clients, _BASE_CLIENTS), seed=0).events
    counts = events.group_by("client_id").aggregate([("client_id", "count")])
    enough = counts.filter(pc.greater_equal(counts["client_id_count"], _LEAST_EVENTS))["client_id"]
    base = events.filter(pc.is_in(events["client_id"], enough)).select(
        ["client_id", "event_time", *CATEGORIES, *NUMBERS]
    )
    repeat_clients(base, path, copies=-(-clients // _BASE_CLIENTS), clients=clients)


def repeat_clients(base: pa.Table, path: Path, *, copies: int, clients: int) -> None:
    """Write events of at most `clients` clients in time order: copies of `base` under new ids."""
    spill = {"memory_limit": "6GB", "temp_directory": str(path.parent / "spill")}
    connection = duckdb.connect(config=spill)
    connection.register("base", base)
    connection.execute(
        "CREATE TABLE numbered AS SELECT * REPLACE (dense_rank() OVER (ORDER BY client_id) - 1 "
        "AS client_id) FROM base"
    )
    (known,) = connection.execute("SELECT max(client_id) + 1 FROM numbered").fetchall()[0]
    connection.execute(
        f"COPY (SELECT * EXCLUDE (copy) REPLACE (client_id + copy * {known} AS client_id) FROM "
        f"numbered, range({copies}) c(copy) WHERE client_id + copy * {known} < {clients} ORDER BY "
        f"event_time) TO '{path}' (FORMAT parquet)"
    )
    connection.close()


def _write_records(folder: Path) -> None:
    """Times in seconds, codes as int64: what the other library's own preparation gives."""
    prepared = open_prepared(folder / "prepared")
    with pa.OSFile(str(folder / "prepared" / "sequences.arrow")) as file:
        table = pa.ipc.open_file(file).read_all()
    columns = {"client_id": table["client_id"]}
    columns["event_time"] = _lists(table["event_time"], lambda times: pc.divide(times, 1_000_000))
    for name in prepared.vocabulary.categorical:
        columns[name] = _lists(table[name], lambda codes: codes.cast(pa.int64()))
    columns |= {name: table[name] for name in NUMBERS}
    pq.write_table(pa.table(columns), folder / "records.parquet")


def _write_contract(folder: Path, clients: int) -> None:
    """Events of the first clients as pragmatiq wants them: client by client, values as texts."""
    (folder / "pragmatiq").mkdir(exist_ok=True)
    pairs = ", ".join(f"('{name}', {name}::VARCHAR)" for name in (*CATEGORIES, *NUMBERS))
    fields = f"map_from_entries(list_filter([{pairs}], lambda pair: pair[2] IS NOT NULL))"
    events = (
        f"(SELECT * FROM '{folder / 'events.parquet'}' WHERE client_id IN (SELECT DISTINCT "
        f"client_id FROM '{folder / 'events.parquet'}' ORDER BY client_id LIMIT {clients}))"
    )
    connection = duckdb.connect()
    connection.execute(
        "COPY (SELECT client_id::VARCHAR AS user_id, event_time::TIMESTAMP AS ts, 'transaction' AS "
        f"source, {fields} AS fields FROM {events} ORDER BY client_id, ts) TO "
        f"'{folder / 'pragmatiq' / 'events.parquet'}' (FORMAT parquet)"
    )
    connection.execute(
        "COPY (SELECT DISTINCT client_id::VARCHAR AS user_id, TIMESTAMP '2030-01-01' AS as_of, "
        "MAP(['country'], ['none']) AS attributes, [{'key': 'opened', 'ts': TIMESTAMP "
        f"'2000-01-01'}}] AS lifelong FROM {events} ORDER BY 1) TO "
        f"'{folder / 'pragmatiq' / 'profiles.parquet'}' (FORMAT parquet)"
    )
    connection.close()


def _lists(column: pa.ChunkedArray, change: Any) -> pa.ChunkedArray:
    """The same lists of changed values."""
    return pa.chunked_array(
        [pa.ListArray.from_arrays(c.offsets, change(c.values)) for c in column.chunks]
    )
