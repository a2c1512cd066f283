"""CoLES: the vectors of the views go through the head, and the loss tells clients apart."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small import batch_of, tiny_config, vocabulary_of

from seqmel.nn.encoder import SequenceEncoder
from seqmel.objectives import Encoded, ViewBatch
from seqmel.objectives.coles import CoLES

LOSSES: list[dict[str, Any]] = [
    {"loss": "infonce"},
    {"loss": "contrastive"},
    {"loss": {"name": "contrastive", "reduction": "sum"}, "miner": "random_negatives"},
]


@pytest.mark.parametrize("options", LOSSES, ids=str)
def test_the_loss_is_finite_and_reaches_all_weights(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    config = tiny_config(**options)
    encoder = SequenceEncoder(config, vocabulary_of())
    part = CoLES(config, embedding_size=encoder.vector_size)
    batch = ViewBatch.of(batch_of([5, 9, 2, 7, 4, 6]), torch.tensor([3, 3, 8, 8, 1, 1]))
    loss = part(Encoded(encoder, batch))
    loss.backward()
    assert loss.isfinite()
    weights = {**dict(encoder.named_parameters()), **dict(part.named_parameters())}
    assert [name for name, w in weights.items() if w.grad is None or not w.grad.isfinite().all()] == []
    assert any(w.grad.abs().sum() > 0 for w in part.head.parameters())


@pytest.mark.parametrize("options", LOSSES, ids=str)
def test_following_the_gradient_lowers_the_loss_and_recognises_clients(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    config = tiny_config(**options)
    encoder = SequenceEncoder(config, vocabulary_of())
    part = CoLES(config, embedding_size=encoder.vector_size)
    batch = ViewBatch.of(batch_of([9] * 12), torch.arange(12) // 2)
    optimizer = torch.optim.Adam([*encoder.parameters(), *part.parameters()], lr=3e-3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        torch.manual_seed(1)  # the same random negatives at every step
        loss = part(Encoded(encoder, batch))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
