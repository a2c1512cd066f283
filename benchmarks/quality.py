"""Vectors of seqmel and of pytorch-lifestream's CoLES, scored on the same clients and folds.

    python benchmarks/quality.py DATA_FOLDER --peer-python ../ptls/bin/python -o OUT_FOLDER [--set
    berka ...] [--seed 0] [--clients 2000] [--trees 100] [--same-model]

The peer has its published scenarios' settings (GRU, 5 slices, Adam, signed logarithms of numbers,
the last state as the vector), slices and epochs by set. seqmel is measured as it is by default, and
with --same-model also with that model and those slices: a GRU of the same width, contrastive loss,
last state, the same epochs. `--clients` takes the clients that `seqmel experiment --clients` takes.
What is there already is not made again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seqmel import Config, prepare, score
from seqmel.data.encoding.event_encoding import nest
from seqmel.data.fitting.timeline import open_and_infer
from seqmel.data.sequences.prepared import open_prepared
from seqmel.data.sources.reading import open_events
from seqmel.data.tables.labels import read_embeddings, read_labels
from seqmel.demo.generator import generate_card_data
from seqmel.evaluation.feature_sets import WITH_ORDER, aggregate_sets, standard_rows

SETS: dict[str, dict[str, Any]] = {
    "online_retail": {
        "targets": ["buys_in_holdout"],
        "hidden": 256, "epochs": 10, "shortest": 10, "longest": 100,
    },
    "berka": {
        "events": "transactions.parquet", "targets": ["age_group"],
        "hidden": 256, "epochs": 10, "shortest": 10, "longest": 60,
    },
    "physionet2012": {
        "targets": ["gender", "in_hospital_death", "age_group"],
        "hidden": 128, "epochs": 3, "shortest": 25, "longest": 200,
    },
    "assist2009": {
        "targets": ["next_same_skill", "next_correct"],
        "hidden": 256, "epochs": 15, "shortest": 5, "longest": 40,
    },
    "bpic2013": {
        "targets": ["next_activity", "log_hours_to_next"],
        "hidden": 256, "epochs": 15, "shortest": 2, "longest": 10,
    },
    "pendigits": {
        "targets": ["digit"],
        "hidden": 256, "epochs": 15, "shortest": 3, "longest": 8,
    },
    "cards": {
        "targets": ["gender", "age_group"],
        "hidden": 256, "epochs": 5, "shortest": 25, "longest": 150,
    },
    "baseball": {
        "targets": ["throws"],
        "hidden": 256, "epochs": 15, "shortest": 2, "longest": 15,
    },
    "eshop": {
        "targets": ["next_category", "next_shop_page"],
        "hidden": 256, "epochs": 15, "shortest": 2, "longest": 12,
    },
    "nafld": {
        "targets": ["hdl_rises", "next_hdl", "death_5y"],
        "hidden": 256, "epochs": 15, "shortest": 4, "longest": 30,
    },
}  # fmt: skip


def first_clients(events: Path, folder: Path, clients: int | None) -> Path:
    """Write the events of the first clients, in the order of prepared sequences."""
    if clients is None:
        return events
    prepared = prepare(events, folder / "all", config=Config(), overwrite=True)
    first = open_prepared(folder / "all").sequences.client_ids[:clients].combine_chunks()
    table = pq.read_table(events)
    column = table[prepared.schema.client]
    pq.write_table(table.filter(pc.is_in(column, first.cast(column.type))), folder / "few.parquet")
    return folder / "few.parquet"


def write_records(data: Path, folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Write the peer's records and return their sizes.

    Category codes are those that seqmel fits, numbers are not scaled, and columns are renamed,
    since a feature named `type` breaks it.
    """
    prepared = prepare(data, folder / "prepared", config=Config(), overwrite=True)
    schema = prepared.schema
    vocabulary = prepared.vocabulary
    with pa.OSFile(str(folder / "prepared" / "sequences.arrow")) as file:
        coded = pa.ipc.open_file(file).read_all()
    raw = pa.Table.from_batches(
        list(nest(open_events(data, client=schema.client), schema.client, schema.time))
    )
    assert coded[schema.client].equals(raw[schema.client])
    columns: dict[str, Any] = {"client_id": coded[schema.client]}
    columns["event_time"] = _lists(coded[schema.time], lambda x: pc.divide(x, 1_000_000))
    codes = {f"c{i}": name for i, name in enumerate(schema.categorical)}
    numbers = {f"n{i}": name for i, name in enumerate(schema.numeric)}
    columns |= {
        short: _lists(coded[name], lambda x: x.cast(pa.int64())) for short, name in codes.items()
    }
    columns |= {
        short: _lists(raw[name], lambda x: x.cast(pa.float32()).fill_null(0))
        for short, name in numbers.items()
    }
    keep = open_prepared(folder / "prepared").sequences.lengths.numpy() > 0
    pq.write_table(pa.table(columns).filter(pa.array(keep)), folder / "records.parquet")
    sizes = {short: vocabulary.categorical[name].size for short, name in codes.items()}
    return asked | {"categories": sizes, "numbers": list(numbers)}


def _lists(column: pa.ChunkedArray, change: Any) -> pa.ChunkedArray:
    column = column.combine_chunks() if column.num_chunks != 1 else column
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return pa.chunked_array(
        [
            pa.LargeListArray.from_arrays(c.offsets.cast(pa.int64()), change(c.values))
            for c in chunks
        ]
    )


def seqmel(*arguments: object) -> None:
    """Run a command."""
    subprocess.run(
        [sys.executable, "-m", "seqmel", *map(str, arguments)],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def run(given: argparse.Namespace, folder: Path, name: str) -> None:
    """All vectors of a set, and their scores, in `folder`."""
    seed = given.seed
    peer = given.peer_python
    asked = SETS[name] | {"seed": seed}
    folder.mkdir(parents=True, exist_ok=True)
    here = given.data / name
    if name == "cards":
        here = folder
        generate_card_data(given.clients or 3_000, seed=seed).write(folder)
    clients = here / "clients.parquet"
    events = here / asked.get("events", "events.parquet")
    events = first_clients(events, folder, given.clients)
    seconds = {}
    if not (folder / "lifestream.parquet").exists():
        sizes = write_records(events, folder, asked)
        (folder / "asked.json").write_text(json.dumps(sizes), encoding="utf-8")
        began = time.monotonic()
        script = Path(__file__).with_name("quality_lifestream.py")
        subprocess.run([peer, str(script), str(folder)], check=True)
        seconds["pytorch-lifestream"] = round(time.monotonic() - began)
    like = [
        "objective=coles",
        "recency_features=false",
        "pca_dim=null",
        f"encoder.hidden_size={asked['hidden']}",
        "encoder.name=gru",
        "pooling=last",
        "event_encoder.layers=1",
        "loss=contrastive",
        "loss.reduction=sum",
        f"training.epochs={asked['epochs']}",
        f"views.min_length={asked['shortest']}",
        f"views.max_length={asked['longest']}",
        "training.batch_size=64",
    ]
    models: dict[str, list[str]] = {"default": []}
    if given.same_model:
        models["like"] = [x for option in like for x in ("--set", option)]
    for model, options in models.items():
        if not (folder / f"{model}.parquet").exists():
            began = time.monotonic()
            seqmel("train", events, "-o", folder / model, "--seed", seed, "--overwrite", *options)
            seqmel(
                "embed", folder / model, events, "-o", folder / f"{model}.parquet", "--overwrite"
            )
            seconds[f"seqmel, {model}"] = round(time.monotonic() - began)
    if seconds:
        (folder / "seconds.json").write_text(json.dumps(seconds), encoding="utf-8")
    titles = {"lifestream": "pytorch-lifestream", "default": "seqmel", "like": "seqmel, same model"}
    source, schema = open_and_infer(str(events), Config().schema)
    sets = aggregate_sets(source, schema)
    for file, title in titles.items():
        if file != "like" or given.same_model:
            sets[title] = read_embeddings(folder / f"{file}.parquet")
    probes, averages = standard_rows(sets)
    for target in asked["targets"]:
        y = read_labels(clients, target)
        options: dict[str, Any] = {"seed": seed, "trees": given.trees, "progress": True}
        scores = score(y, sets, probes=probes, averages=averages, **options)
        differences = [
            scores.difference("seqmel", name) for name in (WITH_ORDER, titles["lifestream"])
        ]
        found = {**scores.to_json(), "differences": [d.to_json() for d in differences]}
        (folder / f"{target}.json").write_text(json.dumps(found), encoding="utf-8")
        print(f"{name}, {target}\n{scores}", *map(str, differences), sep="\n", flush=True)


def main() -> None:
    """Read the options and run the sets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--set", action="append", choices=SETS, help="one set; all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=int, help="the first so many clients; all by default")
    parser.add_argument("--trees", type=int, default=500)
    parser.add_argument("--same-model", action="store_true")
    given = parser.parse_args()
    for name in given.set or SETS:
        folder = given.output / f"{name}-{given.seed}"
        run(given, folder, name)


if __name__ == "__main__":
    main()
