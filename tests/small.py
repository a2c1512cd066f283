"""Small events for the tests, and plain-Python views of what the library makes of them."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor

from seqmel.config import Config
from seqmel.core.checksums import digest, digest_of_json
from seqmel.data.encoding.event_encoding import encode
from seqmel.data.fitting.vocabulary_fitting import fit_vocabulary
from seqmel.data.schema import EventSchema
from seqmel.data.sequences.batch import SequenceBatch
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.sources.reading import Events, open_events
from seqmel.data.vocabulary import CategoryCodes, NumericScale, NumericScales, TimeScale, Vocabulary

SCHEMA = EventSchema(
    client="client_id",
    time="event_time",
    categorical=("mcc", "city"),
    numeric=("amount", "reading"),
    numeric_by={"reading": "mcc"},
)
"""The schema of `card_events`."""

TINY: dict[str, Any] = {
    "event_encoder": {"hidden_size": 16},
    "encoder": {"name": "gru", "hidden_size": 16},
    "training": {"epochs": 1, "batch_size": 8, "validation_fraction": 0.3},
    "preparation": {"min_count": 2, "threads": 1},
    "device": "cpu",
    "precision": "32-true",
}
"""Options of a training that takes a moment."""

CHANGED: dict[str, dict[str, Any]] = {
    "views.event_dropout": {"views": {"event_dropout": 0.3}},
    "views.day_dropout": {"views": {"day_dropout": 0.3}},
    "views.shuffle": {"views": {"shuffle": True}},
    "views.shift_clock": {"views": {"shift_clock": ["day"]}},
    "event_encoder.category_dropout": {
        "event_encoder": {"hidden_size": 16, "category_dropout": 0.3}
    },
    "event_encoder.noise": {"event_encoder": {"hidden_size": 16, "noise": 0.1}},
    "miner.memory": {"loss": "contrastive", "miner": {"memory": 16}},
    "event_encoder.category_init=ppmi": {
        "event_encoder": {"hidden_size": 16, "category_init": "ppmi"}
    },
    "loss.margin_start": {"loss": {"name": "contrastive", "margin_start": 0.1}},
}
"""What a config says to have each of the options that change what methods do."""

WITH_LABELS = {"classification", "supervised_contrastive"}
"""The objectives that need a table of labels."""


def tiny_config(**changes: Any) -> Config:
    """TINY, with other values for some sections."""
    return Config.from_dict(TINY | changes)


def card_events(clients: int = 24, *, seed: int = 0, most: int = 30) -> pa.Table:
    """Return unordered events with distinct times, and with nulls and NaN in the features."""
    random = np.random.default_rng(seed)
    lengths = random.integers(3, most + 1, clients)
    client = np.repeat(np.arange(clients), lengths)[random.permutation(lengths.sum())]
    events = len(client)
    habit = client % 4
    mcc = np.where(random.random(events) < 0.7, habit, random.integers(0, 6, events))
    amount = np.exp(random.normal(2 + habit, 1.0, events)).round(2)
    amount[random.random(events) < 0.05] = np.nan
    seconds = np.sort(random.choice(300 * 86_400, events, replace=False))
    city = np.array(["Oslo", "Bergen", "Bodø", None], dtype=object)[
        random.choice(4, events, p=[0.5, 0.3, 0.15, 0.05])
    ]
    return pa.table(
        {
            "client_id": pa.array(client * 7 + 100, pa.int32()),
            "event_time": pa.array(seconds.astype("datetime64[s]")).cast(pa.timestamp("us")),
            "mcc": pa.array(np.array([5411, 5812, 4111, 6011, 5999, 7995])[mcc], pa.int64()),
            "city": pa.array(city, pa.string()),
            "amount": pa.array(amount, pa.float64()),
            "reading": pa.array(np.round(100.0 * mcc + random.normal(0, 1 + mcc, events), 3)),
        }
    )


def nested(table: pa.Table, client: str) -> pa.Table:
    """Return one row per client, in order of first appearance, with list columns: a slow loop."""
    rows: dict[Any, dict[str, list[Any]]] = {}
    for event in table.to_pylist():
        lists = rows.setdefault(
            event[client], {name: [] for name in table.column_names if name != client}
        )
        for name, values in lists.items():
            values.append(event[name])
    columns = {
        name: pa.array([lists[name] for lists in rows.values()], pa.list_(table.field(name).type))
        for name in table.column_names
        if name != client
    }
    return pa.table({client: pa.array(list(rows), table.field(client).type), **columns})


def resealed(folder: Path) -> None:
    """Make the checksums of a model folder right again, as one would who changes it on purpose."""
    path = folder / "config.json"
    described = json.loads(path.read_text())
    sums = {
        name: digest((folder / name).read_bytes())
        for name in described["sha256"]
        if name != "config.json"
    }
    described["sha256"] = sums
    described["sha256"] = sums | {"config.json": digest_of_json(described)}
    path.write_text(json.dumps(described))


def days(*numbers: int) -> list[dt.datetime]:
    """Timestamps so many days after 2023-01-01."""
    return [dt.datetime(2023, 1, 1) + dt.timedelta(days=number) for number in numbers]


def fitted(
    events: Events, schema: EventSchema, *, min_count: int = 1, **options: Any
) -> Vocabulary:
    """The vocabulary of these events."""
    return fit_vocabulary(
        open_events(events, client=schema.client), schema, min_count=min_count, **options
    )


def batches(
    events: Events, schema: EventSchema, vocabulary: Vocabulary, **options: Any
) -> list[pa.RecordBatch]:
    """What `encode` yields."""
    return list(encode(open_events(events, client=schema.client), schema, vocabulary, **options))


def rows(
    events: Events, schema: EventSchema, vocabulary: Vocabulary, **options: Any
) -> list[dict[str, Any]]:
    """Return one dict per client: its id and lists; NaN as the text "NaN", which equals itself."""
    found = [
        row for batch in batches(events, schema, vocabulary, **options) for row in batch.to_pylist()
    ]
    return [{name: _comparable(value) for name, value in row.items()} for row in found]


def _comparable(value: Any) -> Any:
    return ["NaN" if v != v else v for v in value] if isinstance(value, list) else value


def column(events: Events, schema: EventSchema, vocabulary: Vocabulary, name: str) -> list[Any]:
    """The encoded values of one column, client after client."""
    return [value for row in rows(events, schema, vocabulary) for value in row[name]]


def sequences(
    events: Events, schema: EventSchema, vocabulary: Vocabulary, **options: Any
) -> EncodedSequences:
    """The encoded sequences in memory."""
    return EncodedSequences.from_batches(
        batches(events, schema, vocabulary, **options), time=schema.time
    )


def vocabulary_of(*, span_days: float = 500.0, daily: bool = False) -> Vocabulary:
    """Return a vocabulary: a category `kind`, a number `size`, and `level` within the category."""
    scale = NumericScale(log_unit=None, center=0.0, scale=1.0)
    return Vocabulary(
        categorical={"kind": CategoryCodes(values=("a", "b", "c"), null=True)},
        numeric={
            "size": NumericScales(overall=scale, missing=0.14),
            "level": NumericScales(
                overall=scale, by="kind", within=(None, None, scale, scale, None)
            ),
        },
        time=TimeScale(
            daily=daily,
            span_days=span_days,
            gap_center=8.0,
            gap_scale=2.0,
            end_us=400 * 86_400_000_000,
        ),
    )


def batch_of(lengths: list[int], *, seed: int = 0) -> SequenceBatch:
    """A batch with the columns of `vocabulary_of`, its sequences of these lengths."""
    random = torch.Generator().manual_seed(seed)
    events = sum(lengths)
    sizes = torch.tensor(lengths, dtype=torch.int64)
    columns = {
        "kind": torch.randint(0, 5, (events,), generator=random, dtype=torch.int32),
        "size": torch.randn(events, generator=random),
        "level": torch.randn(events, generator=random).clamp(-10, 10),
    }
    columns["size"][::7] = torch.nan
    gaps = torch.randint(0, 200_000, (events,), generator=random) * 1_000_000
    return SequenceBatch(columns, gaps.cumsum(0), offsets(sizes), sizes)


def offsets(lengths: Tensor) -> Tensor:
    """(B,) lengths -> (B + 1,) offsets."""
    return torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])


def part(batch: SequenceBatch, index: int) -> SequenceBatch:
    """One sequence of a batch as a batch of its own."""
    begin, end = batch.offsets[index : index + 2].tolist()
    length = batch.lengths[index : index + 1]
    columns = {name: values[begin:end] for name, values in batch.columns.items()}
    return SequenceBatch(columns, batch.time[begin:end], offsets(length), length)


class Recorded:
    """A `Progress` that keeps what is reported to it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.tasks: list[tuple[str, int | None, str]] = []
        self.notes: list[str] = []
        self.done = 0

    def say(self, line: str) -> None:
        self.lines.append(line)

    @contextlib.contextmanager
    def task(self, name: str, total: int | None, unit: str, **_: Any) -> Iterator[Recorded]:
        self.tasks.append((name, total, unit))
        yield self

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.done += amount
        self.notes.append(note)


def two_tables(clients: int = 24, *, seed: int = 0) -> dict[str, pd.DataFrame]:
    """Card payments and clicks of the same clients, with an `amount` each. Some lack clicks."""
    events = card_events(clients, seed=seed).to_pandas()
    random = np.random.default_rng(seed)
    cards = events[["client_id", "event_time", "mcc", "amount"]].fillna({"amount": 1.0})
    some = events[events["client_id"] > 120]
    moments = some["event_time"] + pd.to_timedelta(random.integers(1, 5_000, len(some)), unit="m")
    clicks = pd.DataFrame(
        {
            "user": some["client_id"],
            "ts": moments.astype("datetime64[s]").astype("int64"),
            "page": random.choice(["home", "pay", "help"], len(some)),
            "amount": random.random(len(some)),
        }
    )
    return {"cards": cards.reset_index(drop=True), "clicks": clicks.reset_index(drop=True)}
