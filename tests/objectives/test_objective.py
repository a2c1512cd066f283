"""The objective draws views and adds up its parts; each part predicts what its docstring says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from small import (
    SCHEMA,
    WITH_LABELS,
    batch_of,
    card_events,
    fitted,
    sequences,
    tiny_config,
    vocabulary_of,
)
from torch import Tensor

from seqmel.config import methods
from seqmel.core.errors import ConfigError
from seqmel.data.sequences.batch import SequenceBatch
from seqmel.nn.decoder import EventDecoder
from seqmel.nn.encoder import SequenceEncoder
from seqmel.nn.encoders.recurrent import Recurrent
from seqmel.objectives import Encoded, Objective, ViewBatch
from seqmel.objectives.event_prediction import EventPrediction
from seqmel.objectives.masked_events import MaskedEvents
from seqmel.objectives.next_event import NextEvent
from seqmel.training.batches import resolve_auto_options

VIEWS = {"min_length": 2, "max_length": 9}
CLIENTS = torch.tensor([3, 3, 8, 8, 8, 1])
LENGTHS = [5, 9, 2, 7, 1, 6]
ALL = sorted(set(methods()["objective"]) - WITH_LABELS)


def made(*parts: Any, **changes: Any) -> tuple[Objective, SequenceEncoder]:
    torch.manual_seed(0)
    config = tiny_config(objective=list(parts), views=VIEWS, **changes)
    encoder = SequenceEncoder(config, vocabulary_of())
    return Objective(config, vocabulary_of(), encoder), encoder


def views() -> ViewBatch:
    return ViewBatch.of(batch_of(LENGTHS), CLIENTS)


def test_each_view_has_the_next_of_its_client_in_a_circle() -> None:
    assert views().others.tolist() == [1, 0, 3, 4, 2, 5]
    assert ViewBatch.of(batch_of([]), torch.tensor([], dtype=torch.int64)).others.tolist() == []


def test_views_are_drawn_from_the_clients_of_the_batch() -> None:
    events = card_events(12)
    vocabulary = fitted(events, SCHEMA, min_count=2)
    held = sequences(events, SCHEMA, vocabulary)
    config = resolve_auto_options(tiny_config(views={"count": 3}), held)
    objective = Objective(config, vocabulary, SequenceEncoder(config, vocabulary))
    drawn = objective.draw(held, torch.tensor([7, 2, 9]), torch.Generator().manual_seed(0))
    assert set(drawn.clients.tolist()) == {7, 2, 9}
    assert len(drawn.clients) == len(drawn.sequences) <= 9
    moved = drawn.to("cpu")
    assert torch.equal(moved.clients, drawn.clients)
    assert torch.equal(moved.others, drawn.others)


def test_the_total_is_the_weighted_sum_of_the_parts() -> None:
    objective, encoder = made("coles", {"name": "event_prediction", "weight": 0.25})
    losses = objective.losses(encoder, views())
    assert list(losses) == ["coles", "event_prediction"]
    torch.testing.assert_close(
        objective.total(losses), losses["coles"] + 0.25 * losses["event_prediction"]
    )


@pytest.mark.parametrize("name", ALL)
def test_following_the_gradient_lowers_the_loss_of_each_part(name: str) -> None:
    objective, encoder = made(name)
    optimizer = torch.optim.Adam([*encoder.parameters(), *objective.parameters()], lr=1e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        torch.manual_seed(1)  # the same hidden events at every step
        loss = objective.total(objective.losses(encoder, views()))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert all(w.grad is not None and w.grad.isfinite().all() for w in objective.parameters())


def test_states_and_vectors_are_those_of_the_encoder() -> None:
    _, encoder = made("coles")
    encoded = Encoded(encoder.eval(), views())
    assert torch.equal(encoded.vectors, encoder.embed(views().sequences)[:, : encoder.vector_size])
    assert encoded.states is encoded.states


def scored(
    decoder: EventDecoder,
    vectors: list[Tensor],
    batch: ViewBatch,
    events: list[int],
    *,
    gaps: bool = False,
) -> Tensor:
    """Return the loss of each event given its own vector; computed together for class weights."""
    time = batch.sequences.time.tolist()
    since = torch.tensor([time[event] - time[event - 1] for event in events]) if gaps else None
    rows, taken = torch.arange(len(events)), batch.sequences.take(torch.tensor(events))
    return decoder.costs(torch.stack(vectors), rows, taken, gaps=since)


def stirred(part: Any) -> Any:
    """With outputs that are not all zero."""
    for weights in part.decoder.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    return part


def test_event_prediction_foretells_a_view_from_the_one_before_it_of_the_same_client() -> None:
    _, encoder = made("coles")
    batch, encoder = views(), encoder.eval()
    part = stirred(EventPrediction(vocabulary_of(), embedding_size=encoder.vector_size))
    vectors = encoder.embed(batch.sequences)[:, : encoder.vector_size]
    of_view = [view for view, length in enumerate(LENGTHS) for _ in range(length)]
    costs = scored(
        part.decoder,
        [vectors[batch.others[view]] for view in of_view],
        batch,
        list(range(sum(LENGTHS))),
    )
    expected = torch.stack([costs_of_view.mean() for costs_of_view in costs.split(LENGTHS)]).mean()
    torch.testing.assert_close(part(Encoded(encoder, batch)), expected)


def test_next_event_foretells_every_event_but_the_first_of_each_view() -> None:
    _, encoder = made("coles")
    batch, encoder = views(), encoder.eval()
    part = stirred(NextEvent(vocabulary_of(), state_size=encoder.state_size))
    states = encoder.states(batch.sequences)
    later = later_events(range(len(LENGTHS)))
    expected = scored(
        part.decoder, [states[event - 1] for event in later], batch, later, gaps=True
    ).mean()
    torch.testing.assert_close(part(Encoded(encoder, batch)), expected)


def later_events(views: Iterable[int]) -> list[int]:
    """The numbers of all events of these views but the first of each."""
    begins = [sum(LENGTHS[:view]) for view in range(len(LENGTHS))]
    return [begins[view] + i for view in views for i in range(1, LENGTHS[view])]


@pytest.mark.parametrize("states_apart", [True, False])
@pytest.mark.parametrize("first_for_all", [True, False])
def test_next_event_learns_from_the_first_views_of_each_client(
    states_apart: bool, first_for_all: bool
) -> None:
    """Whether or not something else has asked for the states of all views."""
    pooling = {"pooling": "last"} if states_apart else {}
    _, encoder = made("next_event", encoder={"name": "gru", "hidden_size": 16, **pooling})
    batch, encoder = views(), encoder.eval()
    part = stirred(NextEvent(vocabulary_of(), state_size=encoder.state_size, views=2))
    states, later = (
        encoder.states(batch.sequences),
        later_events([0, 1, 2, 3, 5]),
    )  # clients 3, 3, 8, 8 and 1
    expected = scored(
        part.decoder, [states[event - 1] for event in later], batch, later, gaps=True
    ).mean()
    encoded = Encoded(encoder, batch)
    assert not first_for_all or len(encoded.states) == sum(LENGTHS)
    torch.testing.assert_close(part(encoded), expected)


def test_states_that_are_pooled_apart_are_gone_through_for_the_views_that_need_them_alone() -> None:
    apart = {"name": "gru", "hidden_size": 16, "pooling": "last"}
    objective, encoder = made("coles", {"name": "next_event", "views": 1}, encoder=apart)
    assert isinstance(encoder.sequence, Recurrent)
    seen: list[int] = []
    encoder.sequence.register_forward_hook(lambda _, inputs, __: seen.append(inputs[1].events))
    objective.losses(encoder, views())
    assert seen == [LENGTHS[0] + LENGTHS[2] + LENGTHS[5]]


def test_next_event_looks_at_no_more_events_than_it_may() -> None:
    _, encoder = made("coles")
    part = stirred(NextEvent(vocabulary_of(), state_size=encoder.state_size, max_events=1))
    assert len({round(part(Encoded(encoder.eval(), views())).item(), 4) for _ in range(8)}) > 1


def test_a_view_of_one_event_has_no_next_event() -> None:
    _, encoder = made("coles")
    part = NextEvent(vocabulary_of(), state_size=encoder.state_size)
    loss = part(Encoded(encoder, ViewBatch.of(batch_of([1, 1]), torch.tensor([4, 5]))))
    loss.backward()
    assert loss.item() == 0.0


def test_of_a_hidden_event_only_the_time_is_seen() -> None:
    _, encoder = made("coles")
    batch, mask_embedding = views().sequences, torch.randn(16)
    other = batch.take(torch.arange(batch.events))
    columns = {name: values.flip(0) for name, values in batch.columns.items()}
    changed = type(batch)(columns, batch.time, batch.offsets, batch.lengths)
    everything = torch.arange(batch.events)
    hidden = encoder.eval().states(batch, masked=everything, mask_embedding=mask_embedding)
    assert torch.equal(
        hidden, encoder.states(changed, masked=everything, mask_embedding=mask_embedding)
    )
    assert other.events == batch.events
    one = encoder.events(batch, masked=torch.tensor([4]), mask_embedding=mask_embedding)
    apart = (one != encoder.events(batch)).any(1)
    assert apart.nonzero()[:, 0].tolist() == [4]


def test_masked_events_hide_a_share_of_the_events_and_foretell_just_these() -> None:
    _, encoder = made("coles")
    batch, encoder = views(), encoder.eval()
    part = stirred(
        MaskedEvents(vocabulary_of(), event_size=16, state_size=encoder.state_size, mask_ratio=0.2)
    )
    torch.manual_seed(3)
    found = part(Encoded(encoder, batch))
    torch.manual_seed(3)
    hidden = torch.randperm(30)[:6].sort().values
    states = encoder.states(batch.sequences, masked=hidden, mask_embedding=part.mask_embedding)
    expected = scored(part.decoder, [states[i] for i in hidden], batch, hidden.tolist()).mean()
    torch.testing.assert_close(found, expected)


def trained_in_parts(events: int | None, **changes: Any) -> tuple[Tensor, list[Tensor], int]:
    """The loss of a batch, the gradients, and the numbers that the forward pass keeps for them."""
    objective, encoder = made(
        "coles", "event_prediction", training={"events_at_a_time": events}, **changes
    )
    kept: list[int] = []

    def keep(values: Tensor) -> Tensor:
        kept.append(values.numel())
        return values

    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda values: values):
        loss = objective.total(objective.losses(encoder, views()))
    loss.backward()
    gradients = [p.grad for p in (*objective.parameters(), *encoder.parameters())]
    return loss.detach(), [g for g in gradients if g is not None], sum(kept)


@pytest.mark.parametrize("encoder", ["none", "gru", "transformer"])
@pytest.mark.parametrize("events", [1, 10, 10_000])
def test_a_batch_encoded_in_parts_has_the_gradients_of_the_whole(encoder: str, events: int) -> None:
    of = {"encoder": encoder, "event_encoder": {"hidden_size": 16}}
    loss, gradients, kept = trained_in_parts(None, **of)
    in_parts = trained_in_parts(events, **of)
    torch.testing.assert_close(in_parts[0], loss, rtol=1e-5, atol=1e-6)
    assert len(in_parts[1]) == len(gradients) > 0
    for found, expected in zip(in_parts[1], gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert in_parts[2] < kept


def test_parts_draw_the_same_dropout_again_for_their_gradients() -> None:
    seen: list[Tensor] = []

    class Watched(Encoded):
        def _recomputed(self, sequences: SequenceBatch) -> Tensor:
            torch.manual_seed(3)
            seen.append(self.encoder.encode(sequences))
            torch.manual_seed(3)
            return super()._recomputed(sequences)

    _, encoder = made("coles", event_encoder={"hidden_size": 16, "dropout": 0.5})
    vectors = Watched(encoder, views(), events_at_a_time=10).vectors
    assert torch.equal(vectors, torch.cat(seen))
    weights = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(0))
    of = [p for p in encoder.parameters() if p.requires_grad]
    expected = torch.autograd.grad((torch.cat(seen) * weights).sum(), of, allow_unused=True)
    found = torch.autograd.grad((vectors * weights).sum(), of, allow_unused=True)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_parts_of_a_batch_are_its_sequences_in_order() -> None:
    whole = batch_of(LENGTHS)
    for events, sizes in ((1, [1] * 6), (9, [1, 1, 2, 2]), (14, [2, 3, 1]), (99, [6])):
        parts = list(whole.split(events))
        assert [len(p) for p in parts] == sizes
        assert torch.equal(torch.cat([p.time for p in parts]), whole.time)
        assert torch.equal(torch.cat([p.counts for p in parts]), whole.counts)
        assert torch.equal(torch.cat([p.columns["level"] for p in parts]), whole.columns["level"])


def test_an_objective_of_states_cannot_be_encoded_in_parts() -> None:
    with pytest.raises(ConfigError, match=r"next_event needs the states .*events_at_a_time"):
        tiny_config(objective=["coles", "next_event"], training={"events_at_a_time": 100})
