"""Vectors hold pooled events, pooled states and the profile; objectives see the configured part."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small import batch_of, part, tiny_config, vocabulary_of
from torch import Tensor

from seqmel.config import Config
from seqmel.core.errors import ConfigError
from seqmel.nn.encoder import SequenceEncoder
from seqmel.nn.encoders.recurrent import Recurrent

LENGTHS = [5, 0, 9, 1]
APART: dict[str, Any] = {
    "name": "gru",
    "hidden_size": 12,
    "input_size": 6,
    "pooling": ["last", "mean"],
}


def made(**changes: Any) -> SequenceEncoder:
    torch.manual_seed(0)
    config = tiny_config(
        **({"encoder": APART, "objective": ["coles", "next_event"], "pooling": ["max"]} | changes)
    )
    return SequenceEncoder(config, vocabulary_of()).eval()


def slow(encoder: SequenceEncoder, index: int) -> tuple[Tensor, Tensor]:
    """The largest of the events of one sequence; the last and the mean of its states."""
    batch = part(batch_of(LENGTHS), index)
    if not batch.events:
        return torch.zeros(16), torch.zeros(24)
    assert isinstance(encoder.sequence, Recurrent)
    assert encoder.sequence.project is not None
    events = encoder.events(batch)
    states = encoder.sequence.cells(encoder.sequence.project(events))[0]
    return events.max(0).values, torch.cat([states[-1], states.mean(0)])


def test_states_that_are_pooled_apart_stand_behind_what_is_pooled_of_the_events() -> None:
    encoder = made()
    vectors = encoder.embed(batch_of(LENGTHS))
    assert vectors.shape == (4, encoder.output_size)
    assert encoder.output_size == 16 + 24 + 3
    for index, vector in enumerate(vectors):
        torch.testing.assert_close(
            vector[:40], torch.cat(slow(encoder, index)), rtol=1e-5, atol=1e-6
        )


def test_objectives_see_the_events_alone_where_states_are_pooled_apart() -> None:
    encoder = made()
    seen = encoder.encode(batch_of(LENGTHS))
    assert seen.shape == (4, encoder.vector_size) == (4, 16)
    assert torch.equal(seen, encoder.embed(batch_of(LENGTHS))[:, :16])
    seen.sum().backward()
    assert encoder.sequence is not None
    assert all(weights.grad is None for weights in encoder.sequence.parameters())


@pytest.mark.parametrize("dim", [8, 16, 40])
def test_a_projection_joins_events_and_states_and_objectives_see_all_of_it(dim: int) -> None:
    """Also one to as many numbers as it is given, or as the events alone have."""
    encoder = made(embedding_dim=dim)
    assert encoder.project is not None
    vectors = encoder.embed(batch_of(LENGTHS))
    torch.testing.assert_close(encoder.encode(batch_of(LENGTHS)), vectors)
    for index, vector in enumerate(vectors):
        torch.testing.assert_close(
            vector, encoder.project(torch.cat(slow(encoder, index))), rtol=1e-5, atol=1e-5
        )


def test_states_that_nothing_trains_are_refused() -> None:
    with pytest.raises(
        ConfigError,
        match=r"encoder\.pooling needs a part of the objective that predicts from states",
    ):
        Config.from_dict({"encoder": APART})
    Config.from_dict({"encoder": APART, "embedding_dim": 16})
    Config.from_dict({"encoder": APART, "objective": "cpc"})


@pytest.mark.parametrize(
    ("pooling", "words"),
    [
        (["last", "last"], r"encoder\.pooling names one pooling twice"),
        (["category_mean"], r"encoder\.pooling.*category_mean"),
    ],
)
def test_a_wrong_pooling_of_states_is_a_line(pooling: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Config.from_dict({"encoder": APART | {"pooling": pooling}, "objective": "next_event"})
