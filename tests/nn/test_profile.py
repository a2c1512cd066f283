"""The profile holds the event count and the days since the first and last event."""

from __future__ import annotations

import math

import pytest
import torch
from small import batch_of, tiny_config, vocabulary_of

from seqmel.nn.encoder import SequenceEncoder
from seqmel.nn.profile import first_and_last, profile

DAY_US = 86_400_000_000


def test_first_and_last_are_those_of_each_sequence() -> None:
    batch = batch_of([3, 0, 1, 0])
    first, last = first_and_last(batch)
    assert first.tolist() == [int(batch.time[0]), 0, int(batch.time[3]), 0]
    assert last.tolist() == [int(batch.time[2]), 0, int(batch.time[3]), 0]
    assert [x.tolist() for x in first_and_last(batch_of([0, 0]))] == [[0, 0], [0, 0]]


def test_days_are_logarithms_with_a_sign_and_nothing_is_zero() -> None:
    now = torch.tensor([10 * DAY_US, 0, 5])
    found = profile(
        torch.tensor([4, 2, 0]), torch.tensor([0, DAY_US, 0]), torch.tensor([9 * DAY_US, 0, 0]), now
    )
    expected = [
        [math.log(5), math.log(11), math.log(2)],
        [math.log(3), -math.log(2), 0.0],
        [0.0, 0.0, 0.0],
    ]
    torch.testing.assert_close(found, torch.tensor(expected))


@pytest.mark.parametrize(
    ("options", "more"), [({}, 3), ({"recency_features": False}, 0), ({"embedding_dim": 7}, 0)]
)
def test_it_stands_at_the_end_of_the_vector_and_learns_nothing(
    options: dict[str, int], more: int
) -> None:
    torch.manual_seed(0)
    encoder = SequenceEncoder(tiny_config(pooling="mean", **options), vocabulary_of()).eval()
    batch = batch_of([5, 2])
    vectors = encoder.embed(batch)
    assert vectors.shape == (2, encoder.output_size)
    assert encoder.output_size == encoder.vector_size + more
    assert torch.equal(
        vectors[:, : encoder.vector_size], encoder.pool(encoder.states(batch), batch)
    )
    if more:
        now = torch.full((2,), vocabulary_of().time.end_us)
        torch.testing.assert_close(
            vectors[:, -3:], profile(batch.lengths, *first_and_last(batch), now)
        )
