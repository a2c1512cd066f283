"""Time alone: cycles are settled by the data, views are shifted, and its recall is measured."""

from __future__ import annotations

import dataclasses
from typing import Any

import pyarrow as pa
import pytest
import torch
from small import tiny_config, vocabulary_of

from seqmel.config import Config
from seqmel.core.errors import ConfigError
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.nn.encoder import SequenceEncoder
from seqmel.objectives import Objective
from seqmel.training.batches import HeldOutBatches, resolve_auto_options, resolve_clock_shifts
from seqmel.training.time_alone import TimeAlone, measure_time_alone

DAY = 86_400_000_000
SCALE = vocabulary_of().time


def visits(clients: int = 300) -> EncodedSequences:
    """Return 30 events per client that differ only by time, within a day of three years."""
    random = torch.Generator().manual_seed(1)
    begins = (torch.rand(clients, generator=random, dtype=torch.float64) * 1_000 * DAY).long()
    times = (
        begins.unsqueeze(1)
        + (torch.rand(clients, 30, generator=random) * DAY).long().sort(1).values
    )
    ones = [[1.0] * 30] * clients
    columns = {
        "c": range(clients),
        "t": pa.array(times.tolist(), pa.list_(pa.int64())),
        "kind": pa.array([[1] * 30] * clients, pa.list_(pa.int32())),
        "size": pa.array(ones, pa.list_(pa.float32())),
        "level": pa.array(ones, pa.list_(pa.float32())),
    }
    return EncodedSequences.from_batches([pa.RecordBatch.from_pydict(columns)], time="t")


def settled(sequences: EncodedSequences, **views: Any) -> Config:
    return resolve_clock_shifts(
        resolve_auto_options(tiny_config(views=views), sequences), sequences, SCALE
    )


def test_cycles_that_are_not_given_come_from_the_data_and_those_given_are_kept() -> None:
    sequences = visits()
    assert settled(sequences).views.shift_clock == ("week", "month", "year")
    assert settled(sequences, shift_clock=[]).views.shift_clock == ()
    assert settled(sequences, shift_clock=["day"]).views.shift_clock == ("day",)
    assert Config.from_dict(settled(sequences).to_dict()) == settled(sequences)


@pytest.mark.parametrize("given", [["hour"], ["day", "day"]], ids=str)
def test_cycles_that_do_not_exist_or_come_twice_are_refused(given: list[str]) -> None:
    with pytest.raises(ConfigError, match="shift_clock"):
        tiny_config(views={"shift_clock": given})


def test_each_view_of_training_has_a_shift_of_its_own_for_the_cycles_named() -> None:
    sequences = visits(20)
    config = settled(sequences, shift_clock=["week", "year"])
    objective = Objective(config, vocabulary_of(), SequenceEncoder(config, vocabulary_of()))
    clients = torch.tensor([4, 9, 2])
    batch, again = (
        objective.draw(sequences, clients, torch.Generator().manual_seed(0)).sequences
        for _ in range(2)
    )
    assert batch.clock is not None
    assert again.clock is not None
    assert torch.equal(batch.clock, again.clock)
    shifts = batch.clock - batch.time.unsqueeze(1)
    of_views = shifts[batch.offsets[:-1]]
    assert torch.equal(shifts, of_views[batch.sequence_index])
    assert (of_views[:, [0, 2]] == 0).all()
    assert len(of_views[:, 1].unique()) == len(of_views[:, 3].unique()) == len(batch)


def test_views_without_shifts_are_those_of_before_and_have_no_clock() -> None:
    sequences = visits(20)
    plain, moved = (
        Objective(config, vocabulary_of(), SequenceEncoder(config, vocabulary_of())).draw(
            sequences, torch.arange(5), torch.Generator().manual_seed(0)
        )
        for config in (settled(sequences, shift_clock=[]), settled(sequences, shift_clock=["day"]))
    )
    assert plain.sequences.clock is None
    assert torch.equal(plain.sequences.time, moved.sequences.time)


def test_held_out_views_are_shifted_as_those_of_training_and_alike_in_every_epoch() -> None:
    sequences = visits(20)
    held_out = HeldOutBatches(sequences, torch.arange(7), settled(sequences, shift_clock=["month"]))
    first, again = (next(iter(held_out)).sequences for _ in range(2))
    assert first.clock is not None
    assert again.clock is not None
    assert torch.equal(first.clock, again.clock)
    assert ((first.clock != first.time.unsqueeze(1)).any(0)).tolist() == [False, False, True, False]
    assert (
        next(
            iter(HeldOutBatches(sequences, torch.arange(7), settled(sequences, shift_clock=[])))
        ).sequences.clock
        is None
    )


def test_a_config_that_says_nothing_of_clocks_shifts_none() -> None:
    sequences = visits(20)
    unsettled = resolve_auto_options(tiny_config(), sequences)
    assert unsettled.views.shift_clock is None
    assert next(iter(HeldOutBatches(sequences, torch.arange(7), unsettled))).sequences.clock is None


# -------------------------------------------------------------------------------------------------
# time alone


def test_clients_that_differ_by_time_are_recalled_by_time_alone_unless_it_is_shifted() -> None:
    sequences = visits()
    found = measure_time_alone(sequences, SCALE, settled(sequences))
    assert found is not None
    assert found.clients == 90
    assert found.chance == pytest.approx(1 / 179)
    assert found.recall_at_1 > 0.5
    assert found.shifted_recall_at_1 < found.recall_at_1 / 5
    assert not str(found).startswith("WARNING")
    unshifted = measure_time_alone(sequences, SCALE, settled(sequences, shift_clock=[]))
    assert unshifted is not None
    assert unshifted.recall_at_1 == unshifted.shifted_recall_at_1 == found.recall_at_1
    assert unshifted.unshifted == ("week", "month", "year")
    assert str(unshifted).startswith("WARNING")


def test_where_nobody_is_held_out_or_no_cycle_is_seen_nothing_is_measured() -> None:
    sequences = visits(20)
    nobody = tiny_config(training={"validation_fraction": 0.0})
    assert measure_time_alone(sequences, SCALE, resolve_auto_options(nobody, sequences)) is None
    short = SCALE.model_copy(update={"span_days": 3.0, "daily": True})
    assert measure_time_alone(sequences, short, settled(sequences)) is None


def test_the_line_says_what_was_found_and_what_was_done() -> None:
    found = TimeAlone(0.62, 0.031, 0.002, 300, ("day", "week"), ("week",))
    assert str(found) == (
        "recall@1 by time alone (day, week) 0.620, chance 0.002 (300 clients held out); week "
        "shifted at random, then 0.031"
    )
    assert TimeAlone(**found.to_json()) == found
    high = dataclasses.replace(found, shifted_recall_at_1=0.5)
    assert str(high) == str(found).replace("0.031", "0.500")  # times of day are behaviour here
    given = dataclasses.replace(high, unshifted=("month", "year"))
    assert str(given) == (
        f"WARNING: {high}: clients are recognised by when they are active. Leave "
        f"views.shift_clock out, or add month, year to it."
    )
