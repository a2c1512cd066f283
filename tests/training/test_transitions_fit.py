"""Transition components are principal components of training clients and show order."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from small import fitted, tiny_config

from seqmel.data.encoding.event_encoding import encode
from seqmel.data.schema import EventSchema
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.sources.reading import open_events
from seqmel.nn.transitions import Transitions
from seqmel.training.ppmi_init import new_encoder
from seqmel.training.transitions_fit import fit_transitions

SCHEMA = EventSchema(
    client="client_id", time="event_time", categorical=("kind",), numeric=(), numeric_by={}
)


def events() -> pa.Table:
    """Return 60 clients with equal counts of kinds; a follows b or b follows a by parity."""
    random = np.random.default_rng(0)
    clients, kinds = [], []
    for client in range(60):
        pair = ["a", "b"] if client % 2 else ["b", "a"]
        row = [
            kind for word in random.integers(0, 2, 20) for kind in (pair if word else ["c", "d"])
        ]
        clients += [client] * 40
        kinds += row
    times = np.tile(np.arange(40), 60).astype("datetime64[h]").astype("datetime64[us]")
    return pa.table({"client_id": clients, "event_time": times, "kind": kinds})


def sequences() -> EncodedSequences:
    table = events()
    batches = encode(
        open_events(table, client="client_id"), SCHEMA, fitted(table, SCHEMA, min_count=1)
    )
    return EncodedSequences.from_batches(list(batches), time="event_time")


def test_components_are_the_principal_ones_of_all_clients() -> None:
    some, module = sequences(), Transitions("kind", 6)
    fit_transitions(module, some, torch.arange(60))
    batch = some.gather_last(torch.arange(60), max_events=10_000)
    whole = module.antisymmetric(batch).numpy()
    values, vectors = np.linalg.eigh(np.cov(whole.T, bias=True))
    found = module.read(module.summarise(batch), batch.lengths.unsqueeze(1).float()).numpy()
    for i in range(3):
        expected = whole @ vectors[:, -1 - i]
        cosine = (
            np.dot(found[:, i], expected) / np.linalg.norm(found[:, i]) / np.linalg.norm(expected)
        )
        np.testing.assert_allclose(abs(cosine), 1, atol=1e-5)
    assert values[-1] > 2 * values[-2]


def test_the_first_component_tells_who_follows_whom() -> None:
    some = sequences()
    config = tiny_config(pooling=["mean", "transitions"], encoder="none")
    vocabulary = fitted(events(), SCHEMA, min_count=1)
    encoder = new_encoder(config, vocabulary, some).eval()
    vectors = encoder.embed(some.gather_last(torch.arange(60), max_events=10_000))
    first = vectors[:, encoder.vector_size]
    order = torch.arange(60) % 2 == 1
    assert (first[order] > first.median()).all() or (first[order] < first.median()).all()


def test_no_clients_leave_components_of_nothing() -> None:
    module = Transitions("kind", 6)
    fit_transitions(module, sequences(), torch.empty(0, dtype=torch.int64))
    assert module.table.isfinite().all()
