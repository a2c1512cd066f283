"""Tiny sequences, labels and options that the estimators' tests share."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from small import card_events

from seqmel.estimators.embedder import SequenceEmbedder
from seqmel.estimators.sequences import EventSequences

OPTIONS: dict[str, Any] = {
    "event_encoder": {"hidden_size": 16},
    "encoder": {"name": "gru", "hidden_size": 16},
    "epochs": 1,
    "batch_size": 8,
    "validation_fraction": 0.3,
    "preparation": {"min_count": 2, "threads": 1},
    "numeric_by": {"reading": "mcc"},
    "device": "cpu",
    "precision": "32-true",
    "random_state": 0,
}
"""The parameters of an embedder that equal `tiny_config`."""


@pytest.fixture(scope="session")
def train() -> EventSequences:
    """24 clients, whose events came in mixed order."""
    return EventSequences.read(card_events(24))


@pytest.fixture(scope="session")
def labels(train: EventSequences) -> pd.Series:
    """Two classes, indexed by client id, in another order than the clients."""
    ids = train.client_ids
    return pd.Series((ids // 7 % 2).to_numpy(), index=ids, name="label").sort_index()


@pytest.fixture
def tiny() -> SequenceEmbedder:
    """Not fitted."""
    return SequenceEmbedder(**OPTIONS)


@pytest.fixture(scope="session")
def fitted(train: EventSequences) -> SequenceEmbedder:
    """Fitted on `train`; nobody changes it."""
    return SequenceEmbedder(**OPTIONS).fit(train)
