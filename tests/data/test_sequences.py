"""A gather from the file's own memory is what a slow loop over Python lists would have picked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from small import SCHEMA, batches, card_events, fitted, rows, sequences

from seqmel.data.schema import EventSchema
from seqmel.data.sequences.batch import SequenceBatch
from seqmel.data.sequences.encoded_sequences import EncodedSequences, write_sequences

EVENTS = card_events(20)
VOCABULARY = fitted(EVENTS, SCHEMA, min_count=2)
ROWS = rows(EVENTS, SCHEMA, VOCABULARY)
ALL = torch.arange(len(ROWS))
COLUMNS = ("mcc", "city", "amount", "reading")


def in_memory() -> EncodedSequences:
    return sequences(EVENTS, SCHEMA, VOCABULARY, chunk_events=60)


def lists(batch: SequenceBatch) -> list[dict[str, Any]]:
    """One dict a sequence, NaN as text."""
    found = []
    for begin, end in zip(batch.offsets[:-1].tolist(), batch.offsets[1:].tolist(), strict=True):
        columns = {"event_time": batch.time, **batch.columns}
        found.append(
            {n: ["NaN" if x != x else x for x in v[begin:end].tolist()] for n, v in columns.items()}
        )
    return found


def picked(clients: list[int], starts: list[int], lengths: list[int]) -> list[dict[str, Any]]:
    """The slow twin of `gather`."""
    names = ("event_time", *COLUMNS)
    return [
        {name: ROWS[c][name][start : start + length] for name in names}
        for c, start, length in zip(clients, starts, lengths, strict=True)
    ]


def runs(seed: int) -> tuple[list[int], list[int], list[int]]:
    """Random runs of events; clients come several times, some runs are empty."""
    random = torch.Generator().manual_seed(seed)
    clients = torch.randint(0, len(ROWS), (50,), generator=random).tolist()
    starts, lengths = [], []
    for client in clients:
        events = len(ROWS[client]["event_time"])
        starts.append(int(torch.randint(0, events, (), generator=random)))
        lengths.append(int(torch.randint(0, events - starts[-1] + 1, (), generator=random)))
    return clients, starts, lengths


def mapped(folder: Path) -> EncodedSequences:
    write_sequences(
        folder / "sequences.arrow", iter(batches(EVENTS, SCHEMA, VOCABULARY, chunk_events=60))
    )
    return EncodedSequences.open(folder / "sequences.arrow", time="event_time")


@pytest.mark.parametrize("seed", range(5))
def test_a_gather_is_what_a_loop_over_lists_picks(seed: int) -> None:
    clients, starts, lengths = runs(seed)
    batch = in_memory().gather(torch.tensor(clients), torch.tensor(starts), torch.tensor(lengths))
    assert lists(batch) == picked(clients, starts, lengths)
    assert batch.lengths.tolist() == lengths


@pytest.mark.parametrize("seed", range(3))
def test_explicit_events_are_what_a_loop_over_lists_picks(seed: int, tmp_path: Path) -> None:
    """In any order, some several times, across chunks; views without events too."""
    random = torch.Generator().manual_seed(seed)
    clients = torch.randint(0, len(ROWS), (40,), generator=random)
    lengths = torch.randint(0, 6, (40,), generator=random)
    chosen = [
        torch.randint(0, len(ROWS[c]["event_time"]), (n,), generator=random).tolist()
        for c, n in zip(clients.tolist(), lengths.tolist(), strict=True)
    ]
    expected = [
        {name: [ROWS[c][name][place] for place in places] for name in ("event_time", *COLUMNS)}
        for c, places in zip(clients.tolist(), chosen, strict=True)
    ]
    events = torch.tensor([place for places in chosen for place in places])
    for held in (in_memory(), mapped(tmp_path)):
        batch = held.gather(clients, torch.zeros_like(clients), lengths, events)
        assert lists(batch) == expected
        assert batch.lengths.tolist() == lengths.tolist()


def test_times_are_those_of_all_events_of_the_clients_in_the_order_asked_for() -> None:
    expected = [time for client in (17, 3, 0) for time in ROWS[client]["event_time"]]
    assert in_memory().times(torch.tensor([17, 3, 0])).tolist() == expected


@pytest.mark.parametrize("place", ["mapped", "read", "moved"])
def test_a_memory_map_gives_the_same_as_memory(place: str, tmp_path: Path) -> None:
    opened = mapped(tmp_path)
    opened = {"mapped": opened, "read": opened.in_memory(), "moved": opened.to("cpu")}[place]
    clients, starts, lengths = runs(7)
    assert lists(opened.gather(*map(torch.tensor, (clients, starts, lengths)))) == picked(
        clients, starts, lengths
    )
    assert opened.client_ids.equals(in_memory().client_ids)
    assert torch.equal(opened.lengths, in_memory().lengths)


def test_clients_of_one_chunk_are_gathered_as_those_of_several(tmp_path: Path) -> None:
    """One index then does for all columns."""
    for held in (
        in_memory(),
        mapped(tmp_path),
        mapped(tmp_path).in_memory(),
        mapped(tmp_path).subset(ALL).in_memory(),
    ):
        for client in range(len(ROWS)):
            length = len(ROWS[client]["event_time"])
            chosen = ([client, client], [0, length // 2], [length, length - length // 2])
            assert lists(held.gather(*map(torch.tensor, chosen))) == picked(*chosen)


def test_a_subset_is_read_into_memory_with_its_own_clients(tmp_path: Path) -> None:
    chosen = torch.tensor([17, 3, 0])
    read = mapped(tmp_path).subset(chosen).in_memory()
    assert lists(read.gather_last(torch.arange(3), max_events=1_000)) == lists(
        in_memory().gather_last(chosen, max_events=1_000)
    )


def test_sequences_know_their_clients_lengths_and_columns() -> None:
    held = in_memory()
    assert held.client_ids.to_pylist() == [row["client_id"] for row in ROWS]
    assert held.client_ids.type == pa.int32()
    assert held.lengths.tolist() == [len(row["event_time"]) for row in ROWS]
    assert (len(held), held.events, held.columns) == (len(ROWS), len(EVENTS), COLUMNS)
    assert held.gather(*[torch.tensor([0, 1])] * 3).columns["mcc"].dtype == torch.int32


def test_a_subset_has_its_clients_in_the_order_asked_for() -> None:
    chosen = torch.tensor([17, 3, 3, 0])
    subset = in_memory().subset(chosen)
    assert subset.client_ids.to_pylist() == [ROWS[i]["client_id"] for i in chosen]
    assert lists(subset.gather_last(torch.arange(4), max_events=1_000)) == lists(
        in_memory().gather_last(chosen, max_events=1_000)
    )
    assert subset.subset(torch.tensor([1])).client_ids.to_pylist() == [ROWS[3]["client_id"]]


@pytest.mark.parametrize("most", [1, 5, 1_000])
def test_whole_takes_the_last_events(most: int) -> None:
    found = lists(in_memory().gather_last(torch.arange(len(ROWS)), max_events=most))
    assert [row["mcc"] for row in found] == [row["mcc"][-most:] for row in ROWS]


def test_clients_without_events_are_empty_sequences(tmp_path: Path) -> None:
    schema = EventSchema(client="c", time="t", time_unit="day", categorical=("k",))
    table = pa.table(
        {"c": [1, 2, 3, 4], "t": [[], [1, 2], [], [3]], "k": [[], ["a", "b"], [], ["a"]]}
    )
    vocabulary = fitted(table, schema)
    for chunk_events in (1, 100):
        held = sequences(table, schema, vocabulary, chunk_events=chunk_events)
        assert held.lengths.tolist() == [0, 2, 0, 1]
        batch = held.gather_last(torch.arange(4), max_events=10)
        assert [row["k"] for row in lists(batch)] == [[], [2, 3], [], [2]]
        assert held.gather_last(torch.tensor([0, 2]), max_events=10).events == 0


def test_only_clients_without_events_can_be_held() -> None:
    schema = EventSchema(client="c", time="t", time_unit="day", categorical=("k",))
    vocabulary = fitted(pa.table({"c": [1], "t": [1], "k": ["a"]}), schema)
    table = pa.table(
        {
            "c": [1, 2],
            "t": pa.array([[], []], pa.list_(pa.int64())),
            "k": pa.array([[], []], pa.list_(pa.string())),
        }
    )
    held = sequences(table, schema, vocabulary)
    assert (len(held), held.events, held.gather_last(torch.arange(2), max_events=5).events) == (
        2,
        0,
        0,
    )


def test_a_batch_knows_to_which_sequence_each_event_belongs() -> None:
    batch = in_memory().gather(
        torch.tensor([4, 5, 6]), torch.tensor([0, 0, 0]), torch.tensor([2, 0, 3])
    )
    assert (len(batch), batch.events) == (3, 5)
    assert batch.sequence_index.tolist() == [0, 0, 2, 2, 2]
    assert batch.to("cpu").sequence_index.tolist() == [0, 0, 2, 2, 2]


def test_the_order_of_a_batch_is_the_order_asked_for_across_chunks() -> None:
    backwards = torch.arange(len(ROWS) - 1, -1, -1)
    found = lists(in_memory().gather_last(backwards, max_events=1_000))
    assert [row["amount"] for row in found] == [row["amount"] for row in reversed(ROWS)]
