"""Sequences attended to side by side come out as they would alone."""

from __future__ import annotations

import pytest
import torch
from small import batch_of, part
from torch import Tensor

from seqmel.data.sequences.batch import SequenceBatch
from seqmel.nn.encoders.transformer import Transformer

MIXED = [3, 0, 1, 7, 7, 2, 0, 1, 40, 38]


def made(**options: float) -> Transformer:
    torch.manual_seed(0)
    return Transformer(5, hidden_size=8, layers=2, heads=2, **options).double().eval()  # type: ignore[arg-type]


def events(batch: SequenceBatch) -> Tensor:
    return torch.randn(
        batch.events, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )


@pytest.mark.parametrize(
    "lengths", [MIXED, [1], [6, 6, 6], [9, 8], [0, 4, 0], list(range(30))], ids=str
)
def test_a_sequence_is_encoded_as_if_it_were_alone(lengths: list[int]) -> None:
    batch, encoder = batch_of(lengths), made()
    x = events(batch)
    states = encoder(x, batch)
    assert states.shape == (batch.events, 8)
    for i in range(len(batch)):
        rows = slice(int(batch.offsets[i]), int(batch.offsets[i + 1]))
        torch.testing.assert_close(
            encoder(x[rows], part(batch, i)), states[rows], rtol=1e-9, atol=1e-10
        )


def test_gradients_of_a_batch_are_the_sum_of_those_of_its_sequences() -> None:
    batch, encoder = batch_of(MIXED), made()
    x = events(batch)
    weights = list(encoder.parameters())
    together = torch.autograd.grad(encoder(x, batch).square().sum(), weights)
    alone = [torch.zeros_like(w) for w in weights]
    for i in range(len(batch)):
        rows = slice(int(batch.offsets[i]), int(batch.offsets[i + 1]))
        if batch.lengths[i]:
            for total, one in zip(
                alone,
                torch.autograd.grad(encoder(x[rows], part(batch, i)).square().sum(), weights),
                strict=True,
            ):
                total += one
    for mine, other in zip(together, alone, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-9)


def test_the_order_of_events_matters() -> None:
    batch, encoder = batch_of([5]), made()
    x = events(batch)
    assert not torch.allclose(encoder(x.flip(0), batch).flip(0), encoder(x, batch), atol=1e-3)


def test_every_event_sees_the_later_ones() -> None:
    batch, encoder = batch_of([5]), made()
    x = events(batch)
    changed = x.clone()
    changed[-1] += 1.0
    assert not torch.allclose(encoder(changed, batch)[0], encoder(x, batch)[0], atol=1e-6)


@pytest.mark.parametrize("lengths", [[], [0, 0]])
def test_a_batch_without_events_has_no_states(lengths: list[int]) -> None:
    batch = batch_of(lengths)
    assert made()(events(batch), batch).shape == (0, 8)


def test_dropout_acts_in_training_only() -> None:
    batch, encoder = batch_of(MIXED), made(dropout=0.5)
    x = events(batch)
    assert torch.equal(encoder(x, batch), encoder(x, batch))
    encoder.train()
    assert not torch.equal(encoder(x, batch), encoder(x, batch))


def test_a_causal_transformer_never_looks_ahead() -> None:
    torch.manual_seed(0)
    transformer = Transformer(8, hidden_size=16, causal=True).eval()
    events = torch.randn(14, 8)
    lengths = [9, 0, 5]
    changed = events.clone()
    changed[6:9] += 1.0
    changed[12:] += 1.0
    before, after = transformer(events, batch_of(lengths)), transformer(changed, batch_of(lengths))
    same = torch.tensor([True] * 6 + [False] * 3 + [True] * 3 + [False] * 2)
    torch.testing.assert_close(before[same], after[same], rtol=1e-5, atol=1e-6)
    assert (before[~same] - after[~same]).abs().amax(1).min() > 1e-3
    alone = transformer(events[:9], batch_of([9]))
    torch.testing.assert_close(before[:9], alone, rtol=1e-5, atol=1e-6)
