"""Sequences hold the events as they came, are cut by client, and never change."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.utils import _safe_indexing
from small import card_events, days, nested

from seqmel.core.errors import InputError, SchemaError
from seqmel.data.fitting.schema_inference import infer_schema
from seqmel.data.sources.reading import open_events
from seqmel.estimators.sequences import EventSequences
from seqmel.evaluation.aggregates import AggregatePlan

EVENTS = card_events(24)


def by_hand(table: pa.Table) -> dict[Any, list[dict[str, Any]]]:
    """Client -> its events in time order: a slow loop."""
    found: dict[Any, list[dict[str, Any]]] = {}
    for event in table.to_pylist():
        plain = {name: None if value != value else value for name, value in event.items()}
        found.setdefault(plain.pop("client_id"), []).append(plain)
    return {
        client: sorted(events, key=lambda event: event["event_time"])
        for client, events in found.items()
    }


def held(sequences: EventSequences) -> dict[Any, list[dict[str, Any]]]:
    """The same of sequences."""
    found = {}
    for row in sequences.to_arrow().to_pylist():
        client = row.pop("client_id")
        found[client] = [
            dict(zip(row, values, strict=True)) for values in zip(*row.values(), strict=True)
        ]
    return found


def _file(folder: Path) -> Any:
    pq.write_table(EVENTS, folder / "events.parquet")
    return folder / "events.parquet"


SOURCES: dict[str, Callable[[Path], Any]] = {
    "file": _file,
    "pandas": lambda _: EVENTS.to_pandas(),
    "polars": lambda _: pl.from_arrow(EVENTS),
    "arrow": lambda _: EVENTS,
    "nested": lambda _: nested(EVENTS, "client_id"),
    "sequences": lambda _: EventSequences.read(EVENTS),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_all_events_are_held_by_client_in_time_order_whatever_they_came_from(
    kind: str, tmp_path: Path
) -> None:
    sequences = EventSequences.read(SOURCES[kind](tmp_path))
    wanted = by_hand(EVENTS)
    assert held(sequences) == wanted
    assert sequences.client_ids.tolist() == list(wanted)
    assert sequences.lengths.tolist() == [len(events) for events in wanted.values()]
    assert (len(sequences), sequences.events, sequences.shape) == (24, len(EVENTS), (24, 6))


def test_events_at_the_same_time_keep_their_order() -> None:
    table = pa.table({"client": [1, 2, 1, 1], "day": [3, 1, 3, 2], "place": ["a", "b", "c", "d"]})
    assert EventSequences.read(table).to_arrow()["place"].to_pylist() == [["d", "a", "c"], ["b"]]


def test_many_batches_give_the_same_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    from seqmel.data.encoding import event_encoding as encoding
    from seqmel.estimators import sequences

    def small(*arguments: Any, **options: Any) -> Any:
        return encoding.nest(*arguments, **options, chunk_events=7)

    whole = EventSequences.read(EVENTS)
    monkeypatch.setattr(sequences, "nest", small)
    parts = EventSequences.read(EVENTS)
    assert parts.to_arrow()["mcc"].num_chunks > 5
    assert parts.to_arrow().to_pylist() == whole.to_arrow().to_pylist()
    assert parts[[20, 3]].to_arrow().to_pylist() == whole[[20, 3]].to_arrow().to_pylist()


@pytest.mark.parametrize(
    "ids",
    [
        pa.array(["b", "a", "ü 1"]),
        pa.array([2**62, 1, -5], pa.int64()),
        pa.array([7, 1, 3], pa.int16()),
        pa.array(days(1, 0, 5), pa.timestamp("us")),
    ],
    ids=lambda ids: str(ids.type),
)
def test_ids_keep_their_type_and_the_order_of_first_appearance(ids: pa.Array) -> None:
    table = pa.table(
        {
            "client": ids.take(pa.array([0, 1, 0, 2])),
            "day": [4, 3, 2, 1],
            "size": [1.0, 2.0, 3.0, 4.0],
        }
    )
    sequences = EventSequences.read(table)
    assert sequences.to_arrow()["client"].combine_chunks().equals(ids)
    assert sequences.client_ids.name == "client"


def test_categories_of_a_data_frame_are_held_as_text() -> None:
    frame = pd.DataFrame({"client": ["a", "b", "a"], "day": [1, 2, 3], "kind": ["x", "y", None]})
    frame = frame.astype({"client": "category", "kind": "category"})
    assert EventSequences.read(frame).to_arrow()["kind"].to_pylist() == [["x", None], ["y"]]


def test_clients_without_events_are_kept() -> None:
    table = pa.table(
        {"client": [3, 1, 2], "day": [[], [2, 1], None], "size": [[], [1.0, 2.0], None]}
    )
    sequences = EventSequences.read(table)
    assert sequences.client_ids.tolist() == [3, 1, 2]
    assert sequences.lengths.tolist() == [0, 2, 0]
    assert sequences.to_arrow()["size"].to_pylist() == [[], [2.0, 1.0], []]


def test_partition_keys_are_no_columns_of_the_events(tmp_path: Path) -> None:
    table = EVENTS.append_column("year", pa.array([2020 + i % 3 for i in range(len(EVENTS))]))
    pq.write_to_dataset(table, tmp_path / "events", partition_cols=["year"])
    assert "year" not in EventSequences.read(tmp_path / "events").columns


def test_columns_are_named_where_they_are_not_recognised() -> None:
    table = EVENTS.rename_columns(["who", "moment", "mcc", "city", "amount", "reading"])
    with pytest.raises(SchemaError, match="Found no client column by its name"):
        EventSequences.read(table)
    with pytest.raises(SchemaError, match=r"No column 'whom' .* Did you mean 'who'\?"):
        EventSequences.read(table, client="whom", time="moment")
    sequences = EventSequences.read(table, client="who", time="moment")
    assert (sequences.client, sequences.time, len(sequences)) == ("who", "moment", 24)
    assert infer_schema(open_events(sequences)).client == "who"


def test_an_event_without_a_client_is_refused() -> None:
    table = pa.table({"client": [1, None], "day": [1, 2], "size": [1.0, 2.0]})
    with pytest.raises(InputError, match=r"1 event .* has no client \(column 'client' is null\)"):
        EventSequences.read(table)


# -----------------------------------------------------------------------------------------------
# indexing


@pytest.mark.parametrize(
    ("key", "rows"),
    [
        (3, [3]),
        (-1, [23]),
        (np.int64(2), [2]),
        (slice(2, 9, 3), [2, 5, 8]),
        (slice(None, None, -1), list(range(23, -1, -1))),
        ([5, 1, 5], [5, 1, 5]),
        ([], []),
        (np.array([4, -2]), [4, 22]),
        (np.arange(24) % 5 == 0, [0, 5, 10, 15, 20]),
        ([True] + [False] * 22 + [True], [0, 23]),
        (pd.Series(np.arange(24) > 21, index=range(50, 74)), [22, 23]),
        ((np.array([1, 0]), ...), [1, 0]),
    ],
    ids=str,
)
def test_a_key_takes_clients_with_all_their_events(
    key: Any, rows: list[int], train: EventSequences
) -> None:
    some = train[key]
    every = train.to_arrow().to_pylist()
    assert some.to_arrow().to_pylist() == [every[row] for row in rows]
    assert some.lengths.tolist() == train.lengths[rows].tolist()


@pytest.mark.parametrize("key", [24, -25, [24], np.ones(23, bool), "amount", (slice(None), 0), 1.5])
def test_a_key_that_names_no_clients_is_an_index_error(key: Any, train: EventSequences) -> None:
    with pytest.raises(IndexError):
        train[key]


def test_iterating_gives_one_client_after_the_other(train: EventSequences) -> None:
    assert [one.client_ids[0] for one in train] == train.client_ids.tolist()


@pytest.mark.parametrize(
    "indices", [3, [0, 2], np.array([1]), slice(0, 5), (4, 1), np.arange(24) < 3], ids=str
)
def test_scikit_learn_indexes_sequences(indices: Any, train: EventSequences) -> None:
    wanted = np.atleast_1d(np.arange(24)[list(indices) if isinstance(indices, tuple) else indices])
    assert _safe_indexing(train, indices).client_ids.tolist() == train.client_ids[wanted].tolist()


def test_splitters_cut_clients_and_never_the_events_of_a_client(
    train: EventSequences, labels: pd.Series
) -> None:
    y = train.align(labels)
    for fitting, testing in StratifiedKFold(3).split(train, y):
        parts = [train[fitting], train[testing]]
        assert sorted(c for part in parts for c in part.client_ids) == sorted(train.client_ids)
        assert sum(part.events for part in parts) == train.events
    one, other, y_one, y_other = train_test_split(train, y, test_size=0.25, random_state=0)
    assert (len(one), len(other)) == (18, 6)
    assert y_one.index.equals(one.client_ids)
    assert y_other.index.equals(other.client_ids)
    assert held(one) | held(other) == held(train)


def test_clients_are_found_by_id(train: EventSequences) -> None:
    assert train.select([107, 100, 107]).client_ids.tolist() == [107, 100, 107]
    assert train.select(["107"]).client_ids.tolist() == [107]
    assert (
        train[[3, 3, 5]].select(train.client_ids[[5, 3]]).client_ids.tolist()
        == train.client_ids[[5, 3]].tolist()
    )
    with pytest.raises(
        InputError, match=r"1 of 2 clients are not among these sequences, such as 5\."
    ):
        train.select([107, 5])


def test_distinct_takes_each_client_once(train: EventSequences) -> None:
    assert train[[4, 1, 4, 4]].distinct().client_ids.tolist() == train.client_ids[[4, 1]].tolist()
    assert train.distinct() is train


# -------------------------------------------------------------------------------------------------
# labels


@pytest.mark.parametrize("as_text", [False, True])
def test_labels_are_aligned_by_id(as_text: bool, train: EventSequences, labels: pd.Series) -> None:
    given = labels.set_axis(labels.index.astype(str)) if as_text else labels
    aligned = train.align(given)
    assert aligned.index.equals(train.client_ids)
    assert aligned.tolist() == [labels[client] for client in train.client_ids]
    frame = train[[3, 3]].align(labels.to_frame())
    assert frame["label"].tolist() == [labels[train.client_ids[3]]] * 2


def test_a_table_of_labels_is_aligned_by_its_client_column(
    train: EventSequences, labels: pd.Series
) -> None:
    table = (
        labels.rename("label").rename_axis("client_id").reset_index().sample(frac=1, random_state=0)
    )
    aligned = train.align(table)
    assert aligned.columns.tolist() == ["label"]
    assert aligned["label"].tolist() == train.align(labels).tolist()


def test_labels_that_do_not_fit_are_refused(train: EventSequences, labels: pd.Series) -> None:
    with pytest.raises(InputError, match="1 of 24 clients have no label, such as 100"):
        train.align(labels.drop(100))
    with pytest.raises(InputError, match="Client 100 has several labels"):
        train.align(pd.concat([labels, labels[:1]]))
    with pytest.raises(
        InputError, match="Expected a pandas Series or DataFrame indexed by client id"
    ):
        train.align(labels.to_numpy())


# -------------------------------------------------------------------------------------------- as an
# object


def test_copies_and_clones_share_the_events(train: EventSequences) -> None:
    assert copy.copy(train) is train
    assert copy.deepcopy([train])[0] is train
    assert clone(train, safe=False) is train


def test_sequences_are_pickled_with_only_their_own_events(train: EventSequences) -> None:
    again = pickle.loads(pickle.dumps(train[2:5]))
    assert again.to_arrow().equals(train[2:5].to_arrow())
    assert (again.client, again.time) == (train.client, train.time)
    assert len(pickle.dumps(train[:1])) < len(pickle.dumps(train)) / 3


def test_sequences_do_not_change(train: EventSequences) -> None:
    with pytest.raises(AttributeError):
        train.client = "other"  # type: ignore[misc]


def test_sequences_are_an_input_wherever_events_are(train: EventSequences) -> None:
    source, flat = open_events(train), open_events(EVENTS)
    schema = infer_schema(flat)
    assert infer_schema(source) == schema
    wanted = AggregatePlan.fit(flat, schema).compute(flat)
    pd.testing.assert_frame_equal(AggregatePlan.fit(source, schema).compute(source), wanted)


def test_a_data_frame_of_sequences_is_read_again_as_they_are(train: EventSequences) -> None:
    frame = train.to_pandas()
    assert frame.index.equals(train.client_ids)
    assert held(EventSequences.read(frame)) == held(train)


def test_sequences_say_what_they_are(train: EventSequences) -> None:
    assert repr(train) == (
        "EventSequences(24 clients, 410 events: client_id, event_time, mcc, city, amount, reading)"
    )
    page = train._repr_html_()
    assert all(
        part in page
        for part in ("24 clients", "410 events", "<td>amount</td><td>double</td>", "the time")
    )
    assert "0 clients" in train[:0]._repr_html_()


def test_sequences_are_no_matrix(train: EventSequences) -> None:
    with pytest.raises(InputError, match="Put a SequenceEmbedder or AggregateFeatures before"):
        np.asarray(train)
