"""Several event tables in the network, against loops and single tables."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from seqmel.config.options.network import CategoryMeanOptions
from seqmel.data.sequences.batch import NO_TIME, SequenceBatch
from seqmel.data.vocabulary import (
    CategoryCodes,
    NumericScale,
    NumericScales,
    SourceColumns,
    TimeScale,
    Vocabulary,
)
from seqmel.nn.by_category import category_slots, column_to_pool_by
from seqmel.nn.decoder import EventDecoder
from seqmel.nn.events import EventEncoder
from seqmel.nn.recent import PlainEvents
from seqmel.nn.sources import SourceGaps, SourceKinds, last_by_source, slots_of_events
from seqmel.objectives.replaced_token import corrupted

CARDS, CLICKS = 2, 3  # codes
_SCALE = NumericScale(log_unit=None, center=0.0, scale=1.0)


def codes(count: int) -> CategoryCodes:
    return CategoryCodes(values=tuple(map(str, range(count))), null=True)


def vocabulary(*, by: bool = False) -> Vocabulary:
    amount = NumericScales(overall=_SCALE)
    if by:
        amount = NumericScales(overall=_SCALE, by="mcc", within=(None,) * codes(5).size)
    return Vocabulary(
        categorical={
            "source": CategoryCodes(values=("cards", "clicks"), null=False),
            "mcc": codes(5),
            "page": codes(60),
        },
        numeric={"amount": amount, "depth": NumericScales(overall=_SCALE)},
        time=TimeScale(daily=False, span_days=1.0, gap_center=1.0, gap_scale=2.0),
        source="source",
        sources={
            "cards": SourceColumns(columns=("mcc", "amount"), gap_center=1.0, gap_scale=0.5),
            "clicks": SourceColumns(columns=("page", "depth"), gap_center=3.0, gap_scale=2.0),
        },
    )


def batch_of(lengths: list[int], *, seed: int = 0) -> SequenceBatch:
    random = torch.Generator().manual_seed(seed)
    sizes, events = torch.tensor(lengths), sum(lengths)

    def draw(high: int) -> Tensor:
        return torch.randint(high, (events,), generator=random, dtype=torch.int32)

    source = draw(2) + CARDS
    columns = {"source": source, "mcc": draw(7), "page": draw(62)}
    columns["mcc"] = torch.where(source == CARDS, columns["mcc"], 0)
    columns["page"] = torch.where(source == CLICKS, columns["page"], 0)
    for name, table in (("amount", CARDS), ("depth", CLICKS)):
        numbers = torch.randn(events, generator=random)
        columns[name] = torch.where(source == table, numbers, torch.nan)
    time = torch.randint(100_000_000, (events,), generator=random).cumsum(0)
    return SequenceBatch(columns, time, torch.tensor([0, *lengths]).cumsum(0), sizes)


def changed_where_absent(batch: SequenceBatch) -> SequenceBatch:
    """Other values in columns that an event does not have."""
    columns = dict(batch.columns)
    for name, table in (("mcc", CARDS), ("page", CLICKS)):
        columns[name] = torch.where(batch.columns["source"] == table, columns[name], 4)
    for name, table in (("amount", CARDS), ("depth", CLICKS)):
        columns[name] = torch.where(batch.columns["source"] == table, columns[name], 1.5)
    return replace(batch, columns=columns)


def test_absent_columns_add_nothing_to_an_event() -> None:
    torch.manual_seed(0)
    encoder = EventEncoder(vocabulary(), hidden_size=8, category_dropout=0.0)
    batch = batch_of([4, 0, 9])
    torch.testing.assert_close(encoder(batch), encoder(changed_where_absent(batch)), rtol=0, atol=0)
    plain = PlainEvents(vocabulary())
    assert plain(batch).shape[1] == plain.output_size
    encoder(batch).sum().backward()
    null = encoder.begins["page"]  # no click has a null page below
    batch = replace(batch, columns={**batch.columns, "page": batch.columns["page"].clamp(min=1)})
    encoder.table.grad = None
    cards_alone = batch.take((batch.columns["source"] == CARDS).nonzero()[:, 0])
    encoder(cards_alone).sum().backward()
    assert encoder.table.grad is not None
    assert encoder.table.grad[null : null + 62].abs().max() == 0


@pytest.mark.parametrize("by", [False, True])
def test_absent_columns_cost_nothing(by: bool) -> None:
    torch.manual_seed(0)
    decoder = EventDecoder(vocabulary(by=by), input_size=6, hidden_size=8)
    torch.nn.init.normal_(decoder.network[-1].weight)
    batch, vectors = batch_of([30]), torch.randn(30, 6)
    rows = torch.arange(30)
    costs = decoder.costs(vectors, rows, batch)
    torch.testing.assert_close(costs, decoder.costs(vectors, rows, changed_where_absent(batch)))
    # a card costs what it does to a decoder of cards
    card = int((batch.columns["source"] == CARDS).nonzero()[0])
    outputs = dict(
        zip(
            decoder.sizes,
            decoder.network(vectors[card]).split(list(decoder.sizes.values())),
            strict=True,
        )
    )
    if not by:
        expected = -sum(
            outputs[name].log_softmax(0)[int(batch.columns[name][card])]
            for name in ("source", "mcc")
        )
        number = torch.bucketize(batch.columns["amount"][card], decoder.edges) + 1
        expected = expected - outputs["amount"].log_softmax(0)[number]
        hour = batch.time[card] // 3_600_000_000 % 24
        expected = expected - outputs["time of day"].log_softmax(0)[hour]
        torch.testing.assert_close(costs[card], expected)


def slow_gaps(batch: SequenceBatch, before: Tensor | None = None) -> list[int]:
    found = []
    for i, length in enumerate(batch.lengths.tolist()):
        last = {} if before is None else dict(enumerate(before[i].tolist()))
        begin = int(batch.offsets[i])
        for event in range(begin, begin + length):
            source, time = int(batch.columns["source"][event]), int(batch.time[event])
            seen = last.get(source, NO_TIME)
            found.append(0 if seen == NO_TIME else time - seen)
            last[source] = time
    return found


def test_gaps_are_since_the_last_event_of_the_same_table() -> None:
    gaps, batch = SourceGaps(vocabulary()), batch_of([5, 0, 1, 8])
    source = batch.columns["source"].long()
    assert gaps._gaps(batch, source).tolist() == slow_gaps(batch)
    before = torch.full((4, 4), NO_TIME)
    before[0, CARDS] = before[3, CLICKS] = 5
    later = replace(batch, previous_source_times=before)
    assert gaps._gaps(later, source).tolist() == slow_gaps(batch, before)
    found = gaps(batch)
    seconds = torch.tensor(slow_gaps(batch)) / 1e6
    center = torch.where(source == CARDS, 1.0, 3.0)
    scale = torch.where(source == CARDS, 0.5, 2.0)
    expected = ((seconds.log1p() - center) / scale).clamp(-5, 5)
    torch.testing.assert_close(found[:, 0], expected.float())
    assert found[:, 1].tolist() == [float(s == 0) for s in seconds]
    assert gaps(batch_of([0])).shape == (0, 2)


def test_the_last_time_of_each_table_is_kept() -> None:
    batch = batch_of([5, 0, 3])
    found = last_by_source(batch, "source", 4)
    for i, length in enumerate(batch.lengths.tolist()):
        events = range(int(batch.offsets[i]), int(batch.offsets[i]) + length)
        for table in (CARDS, CLICKS):
            times = [int(batch.time[e]) for e in events if batch.columns["source"][e] == table]
            assert found[i, table] == max(times, default=NO_TIME)


def test_the_table_of_a_masked_event_is_hidden() -> None:
    torch.manual_seed(0)
    encoder, batch = EventEncoder(vocabulary(), hidden_size=8).eval(), batch_of([6])
    other = {**batch.columns, "source": 5 - batch.columns["source"]}
    masked, mask = torch.tensor([3]), torch.ones(8)
    one = encoder(batch, masked=masked, mask_embedding=mask)
    two = encoder(replace(batch, columns=other), masked=masked, mask_embedding=mask)
    torch.testing.assert_close(one[3], two[3], rtol=0, atol=0)


def test_kinds_are_the_values_of_one_category_within_each_table() -> None:
    options = CategoryMeanOptions(values=20)
    kinds = column_to_pool_by(options, vocabulary())
    assert isinstance(kinds, SourceKinds)
    assert kinds.columns == ("mcc", "page")
    # five values and all of the rest, with null and unseen
    assert kinds.slots == (5 + 2) + (15 + 2)
    assert category_slots(options, vocabulary(), 96) == {kinds: 24, "source": 4}
    batch = batch_of([200])
    found = slots_of_events(batch, kinds, kinds.slots)
    for event in range(200):
        if batch.columns["source"][event] == CARDS:
            expected = int(batch.columns["mcc"][event])
        else:
            page = int(batch.columns["page"][event])
            expected = 7 + (page if page < 17 else 1)
        assert found[event] == expected
    assert column_to_pool_by(CategoryMeanOptions(column="page"), vocabulary()) == "page"


def test_donors_of_replaced_features_are_of_the_same_table() -> None:
    torch.manual_seed(0)
    batch = batch_of([40])
    found, changed = corrupted(batch, 0.9, 0.9, source="source")
    assert torch.equal(found.columns["source"], batch.columns["source"])
    assert torch.equal(found.columns["amount"].isnan(), batch.columns["source"] != CARDS)
    assert found.columns["page"][batch.columns["source"] == CARDS].eq(0).all()
    assert changed.sum() > 10
    pair = replace(
        batch.take(torch.tensor([0, 0])),
        columns={**batch.take(torch.tensor([0, 0])).columns, "source": torch.tensor([2, 3]).int()},
    )
    assert not corrupted(pair, 1.0, 1.0, source="source")[1].any()
