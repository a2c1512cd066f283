"""The decoder's costs are negative log-likelihoods, feature by feature."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from small import batch_of, vocabulary_of
from torch import Tensor
from torch.nn import functional as F

from seqmel.data.sequences.batch import SequenceBatch
from seqmel.nn.decoder import EventDecoder

LENGTHS = [4, 0, 9, 1]
EVENTS = sum(LENGTHS)


def evened(batch: SequenceBatch) -> Tensor:
    """Return the weight of each event's number by the frequency of its category; 1 on average."""
    kinds = batch.columns["kind"].tolist()
    weights = torch.tensor([1 / (kinds.count(kind) / len(kinds) + 1 / 400) for kind in kinds])
    return weights / weights.mean()


def test_before_anything_is_learnt_every_event_is_equally_likely() -> None:
    batch, decoder = batch_of(LENGTHS), EventDecoder(vocabulary_of(), input_size=8)
    costs = decoder.costs(torch.randn(3, 8), torch.zeros(EVENTS, dtype=torch.int64), batch)
    level = F.huber_loss(torch.zeros(EVENTS), batch.columns["level"], reduction="none") * evened(
        batch
    )
    expected = math.log(5) + math.log(15) + math.log(24) + math.log(7) + level
    torch.testing.assert_close(costs, expected)


def test_costs_are_those_of_a_slow_twin() -> None:
    torch.manual_seed(0)
    batch, decoder = batch_of(LENGTHS), EventDecoder(vocabulary_of(), input_size=8, hidden_size=12)
    for weights in decoder.parameters():
        torch.nn.init.normal_(weights)
    vectors, rows = torch.randn(3, 8), torch.randint(0, 3, (EVENTS,))
    found = decoder.costs(vectors, rows, batch)
    kind, size, hour, weekday, level = decoder.network(vectors).split([5, 15, 24, 7, 5], dim=1)
    edges = [-4, -2, -1.5, -1, -0.5, -0.25, 0, 0.25, 0.5, 1, 1.5, 2, 4]
    for e in range(EVENTS):
        row, code = rows[e], int(batch.columns["kind"][e])
        number = float(batch.columns["size"][e])
        bin_ = 0 if math.isnan(number) else 1 + sum(number > edge for edge in edges)
        seconds = int(batch.time[e]) // 1_000_000
        cost = -kind[row].log_softmax(0)[code] - size[row].log_softmax(0)[bin_]
        cost = cost - hour[row].log_softmax(0)[seconds // 3600 % 24]
        cost = cost - weekday[row].log_softmax(0)[(seconds // 86_400 + 3) % 7]
        cost = cost + evened(batch)[e] * F.huber_loss(level[row, code], batch.columns["level"][e])
        torch.testing.assert_close(found[e], cost, rtol=1e-4, atol=1e-4)


def test_the_time_to_the_next_event_is_a_bin_of_its_scale_and_none_has_one_of_its_own() -> None:
    torch.manual_seed(0)
    batch, decoder = (
        batch_of(LENGTHS),
        EventDecoder(vocabulary_of(), input_size=8, hidden_size=12, gap=True),
    )
    for weights in decoder.parameters():
        torch.nn.init.normal_(weights)
    vectors, rows = torch.randn(3, 8), torch.randint(0, 3, (EVENTS,))
    seconds = [0, 1, 3, 50, 400, 3_000, 30_000, 10**6, 10**9, 0, 7, 8, 9, 10]
    found = decoder.costs(vectors, rows, batch, gaps=torch.tensor(seconds) * 1_000_000)
    others = decoder.costs(vectors, rows, batch, gaps=torch.zeros(EVENTS, dtype=torch.int64))
    gap = decoder.network(vectors).split(list(decoder.sizes.values()), dim=1)[
        list(decoder.sizes).index("time to next")
    ]
    edges = [-4, -2, -1.5, -1, -0.5, -0.25, 0, 0.25, 0.5, 1, 1.5, 2, 4]
    for e, gone in enumerate(seconds):
        bin_ = 1 + sum((math.log1p(gone) - 8) / 2 > edge for edge in edges) if gone else 0
        log = gap[rows[e]].log_softmax(0)
        torch.testing.assert_close(found[e] - others[e], log[0] - log[bin_], rtol=1e-4, atol=1e-4)


def test_days_have_no_hours_and_a_week_no_weekdays() -> None:
    decoder = EventDecoder(vocabulary_of(daily=True, span_days=7), input_size=8)
    assert list(decoder.sizes) == ["kind", "size", "level"]


def test_costs_are_float32_and_finite_under_bfloat16() -> None:
    batch, decoder = batch_of(LENGTHS), EventDecoder(vocabulary_of(), input_size=8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        costs = decoder.costs(torch.randn(3, 8), torch.zeros(EVENTS, dtype=torch.int64), batch)
    assert costs.dtype == torch.float32
    assert costs.isfinite().all()


def test_numbers_of_a_rare_kind_count_as_much_as_those_of_a_frequent_one() -> None:
    batch = batch_of([1000])
    kinds = torch.full((1000,), 2, dtype=torch.int32)
    kinds[:20] = 3
    level = torch.ones(1000)
    batch = replace(
        batch, columns=batch.columns | {"kind": kinds, "level": level, "size": torch.zeros(1000)}
    )
    decoder = EventDecoder(vocabulary_of(daily=True, span_days=7), input_size=8)
    costs = decoder.costs(torch.randn(1, 8), torch.zeros(1000, dtype=torch.int64), batch).detach()
    of_level = costs - math.log(5) - math.log(15)
    torch.testing.assert_close(of_level.mean(), torch.tensor(0.5), rtol=1e-3, atol=1e-4)
    assert 0.8 < float(of_level[:20].sum() / of_level[20:].sum()) < 1
