"""Training and validation clients and views depend only on seed, epoch and data."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
import torch
from small import tiny_config, vocabulary_of
from torch import Tensor

from seqmel.config import Config
from seqmel.core.errors import TrainingError
from seqmel.core.random_streams import generator
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.nn.encoder import SequenceEncoder
from seqmel.objectives import Objective, ViewBatch
from seqmel.training.batches import (
    HeldOutBatches,
    TrainingBatches,
    resolve_auto_options,
    split_clients,
)


def with_lengths(*lengths: int) -> EncodedSequences:
    """Clients 0, 1, ... with so many events, numbered through in the column `k`."""
    offsets = pa.array([0, *torch.tensor(lengths).cumsum(0).tolist()], pa.int32())
    events = pa.array(range(sum(lengths)))
    columns = {
        "t": pa.ListArray.from_arrays(offsets, events),
        "k": pa.ListArray.from_arrays(offsets, events.cast(pa.int32())),
    }
    return EncodedSequences.from_batches(
        [pa.RecordBatch.from_pydict({"c": range(len(lengths)), **columns})], time="t"
    )


def config(**training: Any) -> Config:
    return tiny_config(training={"batch_size": 4, "validation_fraction": 0.2} | training)


def batches(
    sequences: EncodedSequences, clients: Tensor, options: Config, epoch: int = 0
) -> TrainingBatches:
    settled = resolve_auto_options(options, sequences)
    return TrainingBatches(
        sequences, vocabulary_of(), clients, objective_of(settled), settled, epoch=lambda: epoch
    )


def objective_of(settled: Config) -> Objective:
    return Objective(settled, vocabulary_of(), SequenceEncoder(settled, vocabulary_of()))


def drawn(batch: ViewBatch) -> list[tuple[int, list[int]]]:
    """Whose view it is, and its events by their number."""
    parts = batch.sequences.columns["k"].split(batch.sequences.lengths.tolist())
    return [(int(client), part.tolist()) for client, part in zip(batch.clients, parts, strict=True)]


# --------------------------------------------------------------------------------------------------
# settle


def settled_views(lengths: list[int], **views: int) -> tuple[int | None, int | None]:
    settled = resolve_auto_options(tiny_config(views=views), with_lengths(*lengths)).views
    return settled.min_length, settled.max_length


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([400] * 9, (25, 200)),
        ([100] * 9, (9, 75)),
        ([10] * 9, (5, 20)),
        ([0] * 50 + [100] * 9, (9, 75)),
        ([1, 2, 100, 1_000, 1_000], (9, 75)),
    ],
)
def test_lengths_that_are_not_given_come_from_the_median_client(
    lengths: list[int], expected: tuple[int, int]
) -> None:
    assert settled_views(lengths) == expected


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        ({"min_length": 3, "max_length": 7}, (3, 7)),
        ({"max_length": 7}, (5, 7)),
        ({"max_length": 3}, (3, 3)),
        ({"min_length": 300}, (300, 300)),
        ({"min_length": 30}, (30, 75)),
    ],
)
def test_lengths_that_are_given_are_kept(views: dict[str, int], expected: tuple[int, int]) -> None:
    assert settled_views([100] * 9, **views) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"max_length": 5}, (3, 5)),
        ({"max_length": 2}, (1, 2)),
        ({"min_length": 90}, (90, 180)),
        ({}, (9, 75)),
        ({"max_length": 5, "event_dropout": 0.1}, (5, 5)),
    ],
    ids=str,
)
def test_the_last_k_have_several_lengths_also_where_one_is_given(
    given: dict[str, float], expected: tuple[int, int]
) -> None:
    settled = resolve_auto_options(
        tiny_config(views={"name": "last_k", **given}), with_lengths(*[100] * 9)
    ).views
    assert (settled.min_length, settled.max_length) == expected


def test_a_settled_config_is_settled_already() -> None:
    sequences = with_lengths(*[100] * 9)
    once = resolve_auto_options(Config(), sequences)
    assert once.training.epochs is not None
    assert resolve_auto_options(once, with_lengths(*[7] * 500)) == once
    assert Config.from_dict(once.to_dict()) == once


@pytest.mark.parametrize(
    ("steps_an_epoch", "encoder", "epochs"),
    [(1, "none", 15), (100, "none", 5), (5_000, "none", 3), (7, "gru", 30), (100, "gru", 10)],
)
def test_epochs_that_are_not_given_make_a_fixed_number_of_steps_within_bounds(
    steps_an_epoch: int, encoder: str, epochs: int
) -> None:
    options = Config.from_dict(
        {
            "encoder": {"name": encoder},
            "training": {"validation_fraction": 0.0, "batch_size": 2},
        }
    )
    found = resolve_auto_options(options, with_lengths(*[2] * 2 * steps_an_epoch))
    assert found.training.epochs == epochs


# --------------------------------------------------------------------------------------------------
# split


def test_no_client_is_both_trained_on_and_held_out_and_none_is_forgotten() -> None:
    split = split_clients(with_lengths(*[5] * 50), config())
    assert sorted([*split.training.tolist(), *split.validation.tolist()]) == list(range(50))
    assert len(split.validation) == 10


def test_the_split_follows_from_the_seed() -> None:
    sequences = with_lengths(*[5] * 50)
    first, again, other = (
        split_clients(sequences, config().model_copy(update={"seed": s})) for s in (0, 0, 1)
    )
    assert torch.equal(first.validation, again.validation)
    assert not torch.equal(first.validation, other.validation)


def test_clients_with_less_than_two_events_are_in_neither_part() -> None:
    split = split_clients(with_lengths(*[0, 1, 2, 3] * 10), config())
    assert sorted([*split.training.tolist(), *split.validation.tolist()]) == [
        i for i in range(40) if i % 4 > 1
    ]


def test_clients_with_fewer_events_than_asked_for_are_in_neither_part() -> None:
    split = split_clients(with_lengths(9, 4, 5, 3, 5, 8), config(min_events=5))
    assert sorted([*split.training.tolist(), *split.validation.tolist()]) == [0, 2, 4, 5]
    with pytest.raises(TrainingError, match="Found 1 of 3 clients with the 5 events"):
        split_clients(with_lengths(9, 4, 2), config(min_events=5))


@pytest.mark.parametrize(("clients", "share", "held"), [(50, 0.0, 0), (9, 0.2, 0), (10, 0.2, 2)])
def test_a_single_client_is_not_held_out_since_it_has_no_others(
    clients: int, share: float, held: int
) -> None:
    assert (
        len(
            split_clients(
                with_lengths(*[5] * clients), config(validation_fraction=share)
            ).validation
        )
        == held
    )


@pytest.mark.parametrize("lengths", [[5], [5, 1, 0], [1, 1, 1]])
def test_less_than_two_clients_to_train_on_is_said_in_words(lengths: list[int]) -> None:
    able = sum(n > 1 for n in lengths)
    with pytest.raises(
        TrainingError, match=rf"Found {able} of {len(lengths)} clients? with the two events"
    ):
        split_clients(with_lengths(*lengths), config())


# --------------------------------------------------------------------------------------------------
# batches


def test_every_client_comes_at_most_once_an_epoch_in_batches_of_the_size_asked_for() -> None:
    sequences = with_lengths(*range(2, 24))
    found = [
        set(batch.clients.tolist()) for batch in batches(sequences, torch.arange(22), config())
    ]
    assert [len(clients) for clients in found] == [4] * 5
    assert len(set.union(*found)) == 20


def test_an_epoch_of_limited_clients_draws_others_each_time() -> None:
    sequences = with_lengths(*[9] * 40)
    seen = []
    for epoch in range(2):
        made = batches(sequences, torch.arange(40), config(epoch_clients=10), epoch)
        assert (len(made), made.clients, made.all_clients) == (2, 8, 40)
        seen.append({int(client) for batch in made for client in batch.clients})
        assert len(seen[-1]) == 8
    assert seen[0] != seen[1]


def test_many_clients_are_not_passed_over_as_a_whole_unless_epochs_are_given() -> None:
    many = with_lengths(*[2] * 110_000)
    found = resolve_auto_options(Config(), many).training
    assert (found.epoch_clients, found.epochs) == (100_000, 3)
    given = resolve_auto_options(Config.from_dict({"training": {"epochs": 2}}), many).training
    assert (given.epoch_clients, given.epochs) == (None, 2)


def test_few_clients_are_one_batch() -> None:
    found = list(batches(with_lengths(5, 6, 7), torch.arange(3), config()))
    assert len(found) == 1
    assert set(found[0].clients.tolist()) == {0, 1, 2}


def test_the_views_of_a_batch_are_the_events_of_its_clients() -> None:
    sequences = with_lengths(*range(2, 24))
    begins = sequences.lengths.cumsum(0) - sequences.lengths
    for batch in batches(sequences, torch.arange(22), config()):
        for client, events in drawn(batch):
            begin = int(begins[client])
            assert events == list(range(events[0], events[0] + len(events)))
            assert begin <= events[0] <= events[-1] < begin + int(sequences.lengths[client])


def test_an_epoch_can_be_drawn_again_and_the_next_is_another() -> None:
    sequences, clients = with_lengths(*range(2, 24)), torch.arange(22)
    first, again, following = (
        [drawn(batch) for batch in batches(sequences, clients, config(), epoch=epoch)]
        for epoch in (3, 3, 4)
    )
    assert first == again
    assert first != following


def test_held_out_clients_give_the_same_two_views_every_time() -> None:
    sequences = with_lengths(*range(10, 32))
    settled = resolve_auto_options(config(), sequences)
    held_out = HeldOutBatches(sequences, torch.tensor([3, 5, 8]), settled)
    first, again = ([drawn(batch) for batch in held_out] for _ in range(2))
    assert first == again
    assert [client for client, _ in first[0]] == [3, 3, 5, 5, 8, 8]


def test_no_held_out_clients_are_no_batches() -> None:
    sequences = with_lengths(5, 6)
    settled = resolve_auto_options(config(), sequences)
    held_out = HeldOutBatches(sequences, torch.tensor([], dtype=torch.int64), settled)
    assert (len(held_out), list(held_out)) == (0, [])


def test_every_purpose_has_random_numbers_of_its_own() -> None:
    seeds = [(seed, *parts) for seed in (0, 1) for parts in ((0,), (1, 0), (1, 1), (2, 0), (3,))]
    numbers = [tuple(torch.rand(3, generator=generator(*parts)).tolist()) for parts in seeds]
    assert len(set(numbers)) == len(numbers)
    assert tuple(torch.rand(3, generator=generator(0, 1, 1)).tolist()) == numbers[2]
