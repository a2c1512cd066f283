"""Samplers: each client at most once per epoch, one generator, segments on request."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
import torch
from small import SCHEMA, card_events, fitted, sequences
from torch import Tensor

from seqmel.core.errors import ConfigError
from seqmel.data.samplers import SAMPLERS, CategoryBalancedSampler, Sampler
from seqmel.data.samplers import category_balanced as module
from seqmel.data.samplers.category_balanced import most_frequent
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.vocabulary import CategoryCodes, TimeScale, Vocabulary


def vocabulary(*columns: str) -> Vocabulary:
    codes = CategoryCodes(values=tuple("abcdef"), null=False)
    time = TimeScale(daily=False, span_days=9.0, gap_center=0.0, gap_scale=1.0)
    return Vocabulary(categorical=dict.fromkeys(columns, codes), numeric={}, time=time)


def with_codes(*clients: list[int]) -> EncodedSequences:
    """Clients with these codes in the column `kind`, one event each."""
    lengths = [len(codes) for codes in clients]
    offsets = pa.array([0, *torch.tensor(lengths).cumsum(0).tolist()], pa.int32())
    values = pa.array([code for codes in clients for code in codes], pa.int32())
    times = pa.array(range(sum(lengths)), pa.int64())
    columns = {
        "t": pa.ListArray.from_arrays(offsets, times),
        "kind": pa.ListArray.from_arrays(offsets, values),
    }
    return EncodedSequences.from_batches(
        [pa.RecordBatch.from_pydict({"c": range(len(clients)), **columns})], time="t"
    )


def segments_of(counts: dict[int, int]) -> EncodedSequences:
    """So many clients of each segment."""
    return with_codes(*[[code, code, 0] for code, count in counts.items() for _ in range(count)])


def epoch(sampler: Sampler, seed: int = 0) -> list[list[int]]:
    return [batch.tolist() for batch in sampler.batches(torch.Generator().manual_seed(seed))]


@pytest.mark.parametrize("name", sorted(SAMPLERS))
@pytest.mark.parametrize("size", [2, 7, 23])
def test_no_client_comes_twice_an_epoch_and_batches_are_full(name: str, size: int) -> None:
    held, clients = segments_of({2: 11, 3: 1, 4: 13}), torch.arange(1, 24)
    sampler = SAMPLERS[name](held, vocabulary("kind"), clients, size=size)
    batches = epoch(sampler)
    assert [len(batch) for batch in batches] == [size] * len(sampler) == [size] * (23 // size)
    drawn = [client for batch in batches for client in batch]
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= set(range(1, 24))


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_an_epoch_follows_from_its_generator(name: str) -> None:
    sampler = SAMPLERS[name](
        segments_of({2: 9, 3: 9}), vocabulary("kind"), torch.arange(18), size=4
    )
    assert epoch(sampler, 1) == epoch(sampler, 1) != epoch(sampler, 2)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_over_some_epochs_every_client_comes(name: str) -> None:
    sampler = SAMPLERS[name](
        segments_of({2: 9, 3: 2, 5: 4}), vocabulary("kind"), torch.arange(15), size=4
    )
    assert {c for seed in range(9) for batch in epoch(sampler, seed) for c in batch} == set(
        range(15)
    )


def test_random_batches_are_those_of_a_permutation() -> None:
    clients = torch.arange(5, 27)
    sampler = SAMPLERS["random"](segments_of({2: 30}), vocabulary("kind"), clients, size=5)
    expected = clients[torch.randperm(22, generator=torch.Generator().manual_seed(3))].tolist()
    assert [c for batch in epoch(sampler, 3) for c in batch] == expected[:20]


def test_a_batch_has_clients_of_so_many_segments_in_equal_shares() -> None:
    counts = {2: 16, 3: 8, 4: 24, 5: 8, 6: 8}
    held = segments_of(counts)
    sampler = CategoryBalancedSampler(
        held, vocabulary("kind"), torch.arange(64), size=8, segments=2
    )
    segment = [code for code, count in counts.items() for _ in range(count)]
    mixtures = set()
    for seed in range(5):
        for batch in epoch(sampler, seed):
            found = Counter(segment[client] for client in batch)
            assert set(found.values()) <= {4, 8}
            mixtures.add(tuple(sorted(found)))
    assert len(mixtures) > 5


def test_one_segment_a_batch_is_the_hardest_and_more_than_clients_are_as_many_as_clients() -> None:
    held = segments_of({2: 8, 3: 8})
    sampler = CategoryBalancedSampler(
        held, vocabulary("kind"), torch.arange(16), size=4, segments=1
    )
    assert all(len({client // 8 for client in batch}) == 1 for batch in epoch(sampler))
    many = CategoryBalancedSampler(
        held, vocabulary("kind"), torch.arange(16), size=4, segments=99, clients_per_epoch=10
    )
    assert many.runs == 4
    assert [len(batch) for batch in epoch(many)] == [4, 4]


def slow_most_frequent(held: EncodedSequences, clients: Tensor, column: str) -> list[int]:
    found = []
    for client in clients:
        counts = Counter(held.values(column, client.unsqueeze(0)).tolist())
        found.append(min((-count, code) for code, count in counts.items())[1] if counts else 0)
    return found


@pytest.mark.parametrize("at_once", [1, 40, 10_000])
def test_the_most_frequent_code_is_found_in_parts_of_any_size(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_EVENTS_AT_ONCE", at_once)
    table = card_events(20)
    known = fitted(table, SCHEMA, min_count=2)
    held, clients = sequences(table, SCHEMA, known), torch.tensor([3, 1, 19, 8, 0, 7])
    for column, codes in known.categorical.items():
        found = most_frequent(held, clients, column, codes=codes.size)
        assert found.tolist() == slow_most_frequent(held, clients, column)


def test_among_equals_the_smaller_code_wins_and_no_events_give_zero() -> None:
    held = with_codes([5, 3, 3, 5], [], [7], [6, 2, 6])
    assert most_frequent(held, torch.arange(4), "kind", codes=8).tolist() == [3, 0, 7, 6]


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (
            ("kind", "city"),
            {"column": "knid"},
            r"no categorical column 'knid'\. Did you mean 'kind'\? There are: kind, city",
        ),
        ((), {}, "needs a categorical column, and the events have none. Take random"),
    ],
)
def test_a_column_that_is_not_there_is_said_in_one_line(
    columns: tuple[str, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        CategoryBalancedSampler(
            segments_of({2: 4}), vocabulary(*columns), torch.arange(4), size=2, **options
        )
    assert "\n" not in str(caught.value)
