"""The written-out recurrence is torch's own, forward and backward, over any mix of lengths."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from small import batch_of, part
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from seqmel.data.sequences.batch import SequenceBatch
from seqmel.nn import layer
from seqmel.nn.encoders.recurrent import Packing, Recurrent

Kind = Literal["gru", "lstm"]
KINDS: list[Kind] = ["gru", "lstm"]
LENGTHS = [3, 0, 1, 7, 7, 2, 0, 1, 12]


def made(kind: Kind, *, layers: int = 2, seed: int = 0) -> Recurrent:
    torch.manual_seed(seed)
    return Recurrent(kind, 5, hidden_size=4, layers=layers).double()


def in_blocks_of(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many steps at once, of four units, as have so many rows."""
    monkeypatch.setattr(layer, "_FORWARD_NUMBERS", rows * 16)
    monkeypatch.setattr(layer, "_BACKWARD_ROWS", rows)


def events(batch: SequenceBatch, seed: int = 1) -> Tensor:
    return torch.randn(
        batch.events, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


def by_torch(cells: nn.Module, x: Tensor, batch: SequenceBatch) -> Tensor:
    """Run torch.nn.GRU or LSTM over the non-empty sequences, packed by torch, in batch order."""
    sequences = [s for s in x.split(batch.lengths.tolist()) if len(s)]
    packed, _ = cells(pack_sequence(sequences, enforce_sorted=False))
    padded, lengths = nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)
    return torch.cat([row[:length] for row, length in zip(padded, lengths.tolist(), strict=True)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "lengths", [LENGTHS, [1], [4], [0, 0, 2], [1, 1, 1], [5, 4, 3, 2, 1, 0]], ids=str
)
@pytest.mark.parametrize("block_rows", [1, 10, None])
def test_states_and_gradients_are_those_of_torch(
    kind: Kind, lengths: list[int], block_rows: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many steps are worked on together: one, some, or all."""
    if block_rows:
        in_blocks_of(block_rows, monkeypatch)
    batch, encoder = batch_of(lengths), made(kind)
    x = events(batch).requires_grad_()
    ours, theirs = encoder(x, batch), by_torch(encoder.cells, x, batch)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    weights = torch.randn(
        ours.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )
    inputs = [x, *encoder.parameters()]
    for mine, other in zip(
        torch.autograd.grad((ours * weights).sum(), inputs),
        torch.autograd.grad((theirs * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_in_single_precision_states_and_gradients_are_those_of_torch(kind: Kind) -> None:
    torch.manual_seed(0)
    batch, encoder = batch_of([40, 3, 60, 25]), Recurrent(kind, 16, hidden_size=64)
    x = (3 * torch.randn(batch.events, 16)).requires_grad_()
    ours, theirs = encoder(x, batch), by_torch(encoder.cells, x, batch)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)
    inputs = [x, *encoder.parameters()]
    for mine, other in zip(
        torch.autograd.grad(ours.square().sum(), inputs),
        torch.autograd.grad(theirs.square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, rtol=0, atol=2e-6 * float(other.abs().max()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", [LENGTHS, [4], [0, 0, 2]], ids=str)
@pytest.mark.parametrize("block_rows", [10, None])
def test_states_without_gradient_are_those_with_it(
    kind: Kind, lengths: list[int], block_rows: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they go on from a memory, and where the events come in half precision."""
    if block_rows:
        in_blocks_of(block_rows, monkeypatch)
    batch, encoder = batch_of(lengths), made(kind)
    x, memory = events(batch), torch.randn(len(batch), encoder.memory_size, dtype=torch.float64)
    expected, (going_on, after) = encoder(x, batch), encoder.advance(x, batch, memory)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x, batch), expected, rtol=1e-10, atol=1e-12)
        states, known = encoder.advance(x, batch, memory)
        torch.testing.assert_close(states, going_on, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(known, after, rtol=1e-6, atol=1e-6)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            halves = encoder.float()(x.bfloat16(), batch)
    assert halves.dtype == torch.float32
    torch.testing.assert_close(halves.double(), expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_projected_events_are_what_the_cells_see(kind: Kind) -> None:
    torch.manual_seed(0)
    batch, encoder = batch_of(LENGTHS), Recurrent(kind, 5, hidden_size=4, projected_size=3).double()
    assert encoder.project is not None
    x = events(batch)
    expected = by_torch(encoder.cells, encoder.project(x), batch)
    torch.testing.assert_close(encoder(x, batch), expected, rtol=1e-10, atol=1e-12)
    nothing = torch.zeros(len(batch), encoder.memory_size, dtype=torch.float64)
    torch.testing.assert_close(
        encoder.advance(x, batch, nothing)[0], expected, rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_the_numeric_ones(kind: Kind) -> None:
    batch, encoder = batch_of([2, 0, 3, 1]), made(kind)
    names, weights = zip(*encoder.named_parameters(), strict=True)

    def run(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(
            encoder, dict(zip(names, values, strict=True)), (x, batch)
        )

    assert torch.autograd.gradcheck(run, (events(batch).requires_grad_(), *weights), fast_mode=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_is_encoded_as_if_it_were_alone(kind: Kind) -> None:
    batch, encoder = batch_of(LENGTHS), made(kind)
    x = events(batch)
    states = encoder(x, batch)
    for i in range(len(batch)):
        rows = slice(int(batch.offsets[i]), int(batch.offsets[i + 1]))
        torch.testing.assert_close(
            encoder(x[rows], part(batch, i)), states[rows], rtol=1e-10, atol=1e-12
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_without_events_has_no_states(kind: Kind) -> None:
    for lengths in ([], [0, 0]):
        batch = batch_of(lengths)
        assert made(kind)(events(batch), batch).shape == (0, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_an_input_without_gradient_gets_none_and_the_weights_get_theirs(kind: Kind) -> None:
    batch, encoder = batch_of([3, 2]), made(kind)
    encoder(events(batch), batch).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_autocast_rounds_products_and_keeps_states_and_gradients_in_float32(
    kind: Kind,
) -> None:
    torch.manual_seed(0)
    batch, encoder = batch_of([30, 3, 0, 25, 25]), Recurrent(kind, 16, hidden_size=32)
    x = torch.randn(batch.events, 16).bfloat16().float().requires_grad_()
    inputs = [x, *encoder.parameters()]
    expected = encoder(x, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states = encoder(x.bfloat16(), batch)
    assert states.dtype == torch.float32
    assert not torch.equal(states, expected)
    torch.testing.assert_close(states, expected, rtol=0, atol=0.02)
    wanted = torch.autograd.grad(expected.square().sum(), inputs)
    for mine, other in zip(torch.autograd.grad(states.square().sum(), inputs), wanted, strict=True):
        assert mine.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(mine.flatten(), other.flatten(), dim=0) > 0.999


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_acts_between_layers_in_training_only(kind: Kind) -> None:
    batch = batch_of(LENGTHS)
    encoder = Recurrent(kind, 5, hidden_size=4, layers=2, dropout=0.5).double()
    x = events(batch)
    assert not torch.equal(encoder(x, batch), encoder(x, batch))
    encoder.eval()
    torch.testing.assert_close(
        encoder(x, batch), by_torch(encoder.cells, x, batch), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_through_a_memory_and_from_several_blocks_is_that_of_one_block(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, encoder = batch_of(LENGTHS), made(kind)
    x, memory = (
        events(batch).requires_grad_(),
        torch.randn(len(batch), encoder.memory_size, dtype=torch.float64),
    )
    inputs = [x, *encoder.parameters()]
    whole = torch.autograd.grad(encoder.advance(x, batch, memory)[0].sin().sum(), inputs)
    in_blocks_of(10, monkeypatch)
    for one, other in zip(
        torch.autograd.grad(encoder.advance(x, batch, memory)[0].sin().sum(), inputs),
        whole,
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_packing_goes_there_and_back_longest_first() -> None:
    batch = batch_of(LENGTHS)
    packing = Packing.of(batch)
    assert torch.equal(packing.order[packing.back], torch.arange(batch.events))
    assert packing.sizes == [
        sum(length > step for length in LENGTHS) for step in range(max(LENGTHS))
    ]
    first = batch.offsets[:-1][
        torch.tensor(sorted((i for i, n in enumerate(LENGTHS) if n), key=lambda i: -LENGTHS[i]))
    ]
    assert torch.equal(packing.order[: packing.sizes[0]], first)
