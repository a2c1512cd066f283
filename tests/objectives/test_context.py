"""CPC, replaced tokens, order and next sequence: equal to loops, causal, and empty batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small import batch_of, part, tiny_config, vocabulary_of
from torch import Tensor, nn

from seqmel.config import Config
from seqmel.core.errors import ConfigError
from seqmel.data.sequences.batch import SequenceBatch
from seqmel.nn.encoder import SequenceEncoder
from seqmel.objectives import Encoded, ViewBatch
from seqmel.objectives.cpc import CPC
from seqmel.objectives.masked_events import MaskedEvents
from seqmel.objectives.next_event import NextEvent
from seqmel.objectives.next_sequence import NextSequence
from seqmel.objectives.parts import sample_other_views, subsequences
from seqmel.objectives.replaced_token import ReplacedToken, corrupted
from seqmel.objectives.sequence_order import SequenceOrder

CLIENTS = torch.tensor([3, 3, 8, 8, 8, 1])
LENGTHS = [5, 9, 2, 7, 1, 6]
NAMES = ["cpc", "replaced_token", "sequence_order", "next_sequence"]


def encoder_of(kind: Any = "gru", **changes: Any) -> SequenceEncoder:
    torch.manual_seed(0)
    options = (
        {"name": kind, "hidden_size": 16} if isinstance(kind, str) and kind != "none" else kind
    )
    return SequenceEncoder(tiny_config(encoder=options, **changes), vocabulary_of()).eval()


def made(name: str, encoder: SequenceEncoder, **options: Any) -> nn.Module:
    torch.manual_seed(1)
    if name == "cpc":
        sizes = {"event_size": encoder.events.output_size, "state_size": encoder.state_size}
        return CPC(**sizes, head_size=8, **options)
    if name == "replaced_token":
        return ReplacedToken(state_size=encoder.state_size, head_size=8, **options)
    kind = SequenceOrder if name == "sequence_order" else NextSequence
    return kind(embedding_size=encoder.vector_size, head_size=8, **options)


def views(lengths: list[int] = LENGTHS, clients: Tensor = CLIENTS) -> ViewBatch:
    return ViewBatch.of(batch_of(lengths), clients)


def softplus(x: Tensor) -> Tensor:
    return torch.log1p(torch.exp(x)).squeeze()


def events_of(batch: SequenceBatch, begin: int, end: int) -> SequenceBatch:
    return batch.take(torch.arange(begin, end))


def begins(lengths: list[int]) -> list[int]:
    return [sum(lengths[:i]) for i in range(len(lengths))]


# --------------------------------------------------------------------------------------------------
# slow twins


def slow_cpc(cpc: Any, encoder: SequenceEncoder, batch: ViewBatch, *, others: bool) -> Tensor:
    """Events numbered through; whose and when each is; a loop over steps, places and events."""
    states, events = encoder.states(batch.sequences), encoder.events(batch.sequences)
    whose = [int(c) for c, n in zip(CLIENTS, LENGTHS, strict=True) for _ in range(n)]
    view = [v for v, n in enumerate(LENGTHS) for _ in range(n)]
    time = batch.sequences.time.tolist()
    steps = []
    for k, ahead in enumerate(cpc.ahead, 1):
        places = [t for t in range(len(view)) if t + k < len(view) and view[t] == view[t + k]]
        costs = []
        for t in places:
            query = ahead(states[t])
            score = [
                torch.cosine_similarity(query, cpc.to_key(events[u + k]), dim=0) / 0.1
                for u in places
            ]
            right = score[places.index(t)]
            wrong = [
                s
                for u, s in zip(places, score, strict=True)
                if whose[u + k] != whose[t + k] or (not others and time[u + k] != time[t + k])
            ]
            costs.append(-torch.log(right.exp() / (right.exp() + sum(s.exp() for s in wrong))))
        if costs:
            steps.append(torch.stack(costs).mean())
    return torch.stack(steps).mean()


def slow_order(part_: Any, encoder: SequenceEncoder, batch: ViewBatch) -> Tensor:
    costs = []
    for begin, n in zip(begins(LENGTHS), LENGTHS, strict=True):
        if n >= 2:
            a = encoder.embed(events_of(batch.sequences, begin, begin + n // 2))[
                0, : encoder.vector_size
            ]
            b = encoder.embed(events_of(batch.sequences, begin + n - n // 2, begin + n))[
                0, : encoder.vector_size
            ]
            right, wrong = part_.head(torch.cat([a, b])), part_.head(torch.cat([b, a]))
            costs.append((softplus(-right) + softplus(wrong)) / 2)
    return torch.stack(costs).mean()


def slow_next(
    part_: Any, encoder: SequenceEncoder, batch: ViewBatch, others: dict[int, int]
) -> Tensor:
    def vector(begin: int, n: int) -> Tensor:
        return encoder.embed(events_of(batch.sequences, begin, begin + n))[0, : encoder.vector_size]

    def odds(a: Tensor, b: Tensor) -> Tensor:
        return part_.head(torch.cat([a, b, (a - b).abs(), a * b]))

    costs, start = [], begins(LENGTHS)
    for i, j in others.items():
        n = min(LENGTHS[i] // 2, LENGTHS[j] // 2)
        first = vector(start[i] + LENGTHS[i] // 2 - n, n)
        own, foreign = (vector(start[v] + LENGTHS[v] - LENGTHS[v] // 2, n) for v in (i, j))
        costs.append((softplus(-odds(first, own)) + softplus(odds(first, foreign))) / 2)
    return torch.stack(costs).mean()


@pytest.mark.parametrize(
    "kind", ["gru", {"name": "transformer", "hidden_size": 16, "heads": 2, "causal": True}], ids=str
)
@pytest.mark.parametrize("negatives", ["batch", "others"])
def test_cpc_is_what_its_equation_says(kind: Any, negatives: str) -> None:
    encoder, batch = encoder_of(kind), views()
    batch.sequences.time[14:16] = batch.sequences.time[
        16:18
    ]  # one client, the same moments in two views
    cpc = made("cpc", encoder, negatives=negatives, steps=7)
    expected = slow_cpc(cpc, encoder, batch, others=negatives == "others")
    torch.testing.assert_close(cpc(Encoded(encoder, batch)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["none", "gru"])
def test_sequence_order_is_what_its_equation_says(kind: str) -> None:
    encoder, batch = encoder_of(kind), views()
    asked = made("sequence_order", encoder)
    torch.testing.assert_close(
        asked(Encoded(encoder, batch)), slow_order(asked, encoder, batch), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kind", ["none", "gru"])
def test_next_sequence_is_what_its_equation_says(kind: str) -> None:
    encoder, batch = encoder_of(kind), views()
    asked, able = made("next_sequence", encoder), torch.tensor([0, 1, 2, 3, 5])
    torch.manual_seed(4)
    found = asked(Encoded(encoder, batch))
    torch.manual_seed(4)
    others = dict(zip(able.tolist(), sample_other_views(CLIENTS, able).tolist(), strict=True))
    torch.testing.assert_close(
        found, slow_next(asked, encoder, batch, others), rtol=1e-4, atol=1e-5
    )


def test_replaced_token_asks_every_event_whether_it_was_changed() -> None:
    encoder, batch = encoder_of(), views()
    asked = made("replaced_token", encoder, corrupt_ratio=0.4)
    torch.manual_seed(5)
    found = asked(Encoded(encoder, batch))
    torch.manual_seed(5)
    events, changed = corrupted(batch.sequences, 0.4, 0.5)
    costs = []
    for begin, n in zip(begins(LENGTHS), LENGTHS, strict=True):
        states = encoder.states(events_of(events, begin, begin + n))
        scores = asked.head(states)[:, 0]
        costs += [
            softplus(-s if c else s)
            for s, c in zip(scores, changed[begin : begin + n], strict=True)
        ]
    torch.testing.assert_close(found, torch.stack(costs).mean(), rtol=1e-4, atol=1e-5)


# --------------------------------------------------------------------------------------------------
# properties


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_that_of_finite_differences(name: str) -> None:
    encoder = encoder_of(event_encoder={"hidden_size": 16, "category_dropout": 0.0})
    asked = made(name, encoder)
    weights = [*encoder.parameters(), *asked.parameters()]

    def loss() -> Tensor:
        torch.manual_seed(6)
        found: Tensor = asked(Encoded(encoder, views()))
        return found

    gradients = torch.autograd.grad(loss(), weights, allow_unused=True)
    slope = math.sqrt(sum(float(g.square().sum()) for g in gradients if g is not None))

    def moved(by: float) -> float:
        with torch.no_grad():
            for w, g in zip(weights, gradients, strict=True):
                w.add_(0 if g is None else g, alpha=by / slope)
        return loss().item()

    step = 3e-3
    above, below = moved(step), moved(-2 * step)
    assert slope > 0
    assert (above - below) / (2 * step) == pytest.approx(slope, rel=0.03)


def changed_after(batch: ViewBatch, view: int, place: int) -> ViewBatch:
    """Other features in all events of a view after a place."""
    begin, end = batch.sequences.offsets[view : view + 2].tolist()
    columns = {name: values.clone() for name, values in batch.sequences.columns.items()}
    columns["kind"][begin + place + 1 : end] = (columns["kind"][begin + place + 1 : end] + 1) % 5
    columns["size"][begin + place + 1 : end] = 3.0
    return ViewBatch.of(
        SequenceBatch(
            columns, batch.sequences.time, batch.sequences.offsets, batch.sequences.lengths
        ),
        CLIENTS,
    )


@pytest.mark.parametrize(
    "kind",
    ["gru", "lstm", {"name": "transformer", "hidden_size": 16, "heads": 2, "causal": True}],
    ids=["gru", "lstm", "causal transformer"],
)
def test_what_cpc_foretells_from_does_not_know_what_comes(kind: Any) -> None:
    encoder, batch = encoder_of(kind), views()
    cpc = made("cpc", encoder)
    for place in (0, 3, 7):
        states, others = (
            encoder.states(b.sequences)[5 : 5 + place + 1]
            for b in (batch, changed_after(batch, 1, place))
        )
        for ahead in cpc.ahead:
            torch.testing.assert_close(ahead(states), ahead(others))


def test_a_transformer_that_looks_ahead_would_know() -> None:
    encoder, batch = encoder_of({"name": "transformer", "hidden_size": 16, "heads": 2}), views()
    states, others = (encoder.states(b.sequences)[5:9] for b in (batch, changed_after(batch, 1, 3)))
    assert not torch.allclose(states, others)


@pytest.mark.parametrize(("name", "count"), [("sequence_order", 2), ("next_sequence", 3)])
def test_parts_have_equal_lengths_and_know_no_gap_to_what_was_before(name: str, count: int) -> None:
    encoder, batch = encoder_of(), views()
    asked, seen = made(name, encoder), []
    learnt: Callable[..., Tensor] = encoder.encode
    encoder.encode = lambda cut: (seen.append(cut), learnt(cut))[1]  # type: ignore[method-assign,assignment,func-returns-value]
    asked(Encoded(encoder, batch))
    (cut,) = seen
    parts = cut.lengths.view(count, -1)
    assert (parts == parts[0]).all()
    assert (parts > 0).all()
    assert cut.previous_time is None


def test_of_a_hidden_event_what_is_shown_is_not_asked_for() -> None:
    vocabulary = vocabulary_of()
    asked = MaskedEvents(vocabulary, event_size=4, state_size=4).decoder.sizes.keys()
    assert {"time of day", "day of week"} <= NextEvent(
        vocabulary, state_size=4
    ).decoder.sizes.keys() - asked
    assert asked == {*vocabulary.categorical, *vocabulary.numeric}


def test_runs_are_parts_of_the_views() -> None:
    batch = batch_of([5, 9])
    cut = subsequences(batch, torch.tensor([1, 7, 5]), torch.tensor([3, 2, 4]))
    assert cut.offsets.tolist() == [0, 3, 5, 9]
    for number, (begin, end) in enumerate([(1, 4), (7, 9), (5, 9)]):
        alone = part(cut, number)
        assert torch.equal(alone.time, batch.time[begin:end])
        assert torch.equal(alone.columns["level"], batch.columns["level"][begin:end])


def test_a_view_of_another_client_is_of_another_client_and_any_of_them() -> None:
    able, pairs = torch.tensor([0, 1, 2, 3, 5]), set()
    for _ in range(80):
        chosen = sample_other_views(CLIENTS, able)
        assert (CLIENTS[chosen] != CLIENTS[able]).all()
        pairs |= set(zip(able.tolist(), chosen.tolist(), strict=True))
    assert pairs == {
        (i, j) for i in able.tolist() for j in able.tolist() if CLIENTS[i] != CLIENTS[j]
    }


@pytest.mark.parametrize("feature_fraction", [0.01, 1.0])
def test_swapped_features_come_from_the_batch_and_what_is_equal_is_not_called_changed(
    feature_fraction: float,
) -> None:
    torch.manual_seed(0)
    batch = batch_of(LENGTHS)
    found, changed = corrupted(batch, 0.3, feature_fraction)
    differs = torch.zeros(30, dtype=torch.bool)
    for name, values in batch.columns.items():
        assert set(found.columns[name].nan_to_num(9).tolist()) <= set(values.nan_to_num(9).tolist())
        differs |= found.columns[name].nan_to_num(9) != values.nan_to_num(9)
    assert torch.equal(changed, differs)
    assert 0 < int(changed.sum()) <= 9
    assert torch.equal(found.time, batch.time)
    alike = SequenceBatch(
        {n: torch.full_like(v, 2) for n, v in batch.columns.items()},
        batch.time,
        batch.offsets,
        batch.lengths,
    )
    assert not corrupted(alike, 0.5, feature_fraction)[1].any()


@pytest.mark.parametrize(
    ("name", "views_"), [*((name, 1) for name in NAMES), ("cpc", 2), ("sequence_order", 2)]
)
def test_where_there_is_nothing_to_ask_the_loss_is_zero(name: str, views_: int) -> None:
    encoder = encoder_of()
    loss = made(name, encoder)(Encoded(encoder, views([1] * views_, torch.arange(views_))))
    loss.backward()
    assert loss.item() == 0.0


def test_next_sequence_has_nothing_to_ask_of_one_client() -> None:
    encoder = encoder_of()
    assert (
        made("next_sequence", encoder)(Encoded(encoder, views([4, 6], torch.tensor([2, 2])))).item()
        == 0.0
    )


def test_cpc_looks_ahead_from_no_more_places_than_it_may() -> None:
    encoder = encoder_of()
    cpc = made("cpc", encoder, max_events=2)
    assert len({round(cpc(Encoded(encoder, views())).item(), 4) for _ in range(8)}) > 1


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"objective": "cpc", "encoder": "none"},
        "the objective cpc needs a causal encoder.*found none",
    ),
    (
        {"objective": ["coles", "cpc"], "encoder": "transformer"},
        r"cpc needs .* causal: true; found transformer",
    ),
    (
        {"objective": "replaced_token"},
        "replaced_token needs an encoder: gru, lstm or transformer; found none",
    ),
    (
        {"objective": "sequence_order", "views": {"shuffle": True}},
        r"sequence_order needs .* set views\.shuffle to false",
    ),
    ({"objective": "next_sequence", "views": {"shuffle": True}}, r"next_sequence needs the order"),
    (
        {"objective": "cpc", "encoder": "gru", "views": {"shuffle": True}},
        "cpc needs the order of events",
    ),
    (
        {"objective": ["coles", "next_event"], "encoder": "gru", "views": {"shuffle": True}},
        r"next_event needs the order of events; set views\.shuffle to false",
    ),
    (
        {"objective": {"name": "cpc", "negatives": "all"}},
        "negatives cannot be 'all'. Expected one of: batch, others",
    ),
    ({"objective": {"name": "cpc", "steps": 0}}, "steps = 0"),
    ({"objective": {"name": "sequence_order", "step": 0}}, "unknown option"),
]


@pytest.mark.parametrize(
    ("options", "message"), REFUSED, ids=lambda v: str(v)[:50] if isinstance(v, dict) else ""
)
def test_an_objective_that_does_not_fit_is_refused_in_one_line(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Config.from_dict(options)
    assert "\n" not in str(caught.value)


def test_a_model_that_learnt_the_next_event_from_mixed_views_is_still_read() -> None:
    options = {"objective": "next_event", "encoder": "gru", "views": {"shuffle": True}}
    assert Config.from_dict(options, lenient=True).views.shuffle
