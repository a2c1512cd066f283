"""CoLES: the views of a batch go through encoder and head, and the loss tells clients apart."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small import SCHEMA, batch_of, card_events, fitted, sequences, tiny_config, vocabulary_of

from seqmel.nn.encoder import SequenceEncoder
from seqmel.objectives import CoLES, ViewBatch
from seqmel.training.batches import settle

LOSSES: list[dict[str, Any]] = [
    {"loss": "infonce"},
    {"loss": "contrastive"},
    {"loss": {"name": "contrastive", "reduction": "sum"}, "miner": "random_negatives"},
]
VIEWS = {"min_length": 2, "max_length": 9}


@pytest.mark.parametrize("options", LOSSES, ids=str)
def test_the_loss_is_finite_and_reaches_all_weights(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    config = tiny_config(views=VIEWS, **options)
    encoder = SequenceEncoder(config, vocabulary_of())
    objective = CoLES(config, embedding_size=encoder.output_size)
    loss = objective(encoder, ViewBatch(batch_of([5, 9, 2, 7, 4, 6]), torch.tensor([3, 3, 8, 8, 1, 1])))
    loss.backward()
    assert loss.isfinite()
    weights = {**dict(encoder.named_parameters()), **dict(objective.named_parameters())}
    assert [name for name, w in weights.items() if w.grad is None or not w.grad.isfinite().all()] == []
    assert any(w.grad.abs().sum() > 0 for w in objective.head.parameters())


@pytest.mark.parametrize("options", LOSSES, ids=str)
def test_following_the_gradient_lowers_the_loss_and_recognises_clients(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    config = tiny_config(views=VIEWS, **options)
    encoder = SequenceEncoder(config, vocabulary_of())
    objective = CoLES(config, embedding_size=encoder.output_size)
    batch = ViewBatch(batch_of([9] * 12), torch.arange(12) // 2)
    optimizer = torch.optim.Adam([*encoder.parameters(), *objective.parameters()], lr=3e-3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        torch.manual_seed(1)  # the same random negatives at every step
        loss = objective(encoder, batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_views_are_drawn_from_the_clients_of_the_batch() -> None:
    events = card_events(12)
    vocabulary = fitted(events, SCHEMA, min_count=2)
    held = sequences(events, SCHEMA, vocabulary)
    config = settle(tiny_config(views={"count": 3}), held)
    objective = CoLES(config, embedding_size=8)
    drawn = objective.draw(held, torch.tensor([7, 2, 9]), torch.Generator().manual_seed(0))
    assert set(drawn.clients.tolist()) == {7, 2, 9}
    assert len(drawn.clients) == len(drawn.sequences) <= 9
    moved = drawn.to("cpu")
    assert torch.equal(moved.clients, drawn.clients)
