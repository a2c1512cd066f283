"""Offline mining in training: when the sampler is updated, and resuming without a trace."""

from __future__ import annotations

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small import SCHEMA, card_events, fitted, sequences, tiny_config
from torch import Tensor

from seqmel.config import Config
from seqmel.core.embedding_metrics import unit_vectors
from seqmel.data.samplers import OfflineHardSampler
from seqmel.data.samplers.offline_hard import near_groups
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.vocabulary import Vocabulary
from seqmel.inference.embed import embed_sequences
from seqmel.nn.encoder import SequenceEncoder
from seqmel.training.fit import fit
from seqmel.training.offline import OfflineMining


@functools.cache
def held() -> tuple[EncodedSequences, Vocabulary]:
    table = card_events(22)
    vocabulary = fitted(table, SCHEMA, min_count=2)
    return sequences(table, SCHEMA, vocabulary), vocabulary


def config(sampler: Any, epochs: int = 3, **changes: Any) -> Config:
    training = {
        "epochs": epochs,
        "batch_size": 6,
        "validation_fraction": 0.0,
        "schedule": "constant",
    }
    return tiny_config(
        **{"encoder": "none", "objective": "coles", "sampler": sampler, "training": training}
        | changes
    )


def offline(**options: int) -> dict[str, Any]:
    return {"name": "offline_hard", "group": 3, **options}


def weights(options: Config, checkpoints: Path | None = None) -> dict[str, Tensor]:
    return fit(*held(), options, checkpoints=checkpoints)[0].state_dict()


def alike(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(other[name], value) for name, value in one.items())


def test_the_first_epoch_is_that_of_random_batches_and_the_second_is_not() -> None:
    one, two = ([weights(config(s, epochs)) for s in ("random", offline())] for epochs in (1, 2))
    assert alike(*one)
    assert not alike(*two)


@pytest.mark.parametrize("refresh", [1, 2])
def test_a_training_that_is_resumed_draws_what_an_undisturbed_one_does(
    refresh: int, tmp_path: Path
) -> None:
    whole = weights(config(offline(refresh_every=refresh)), tmp_path / "whole")
    weights(config(offline(refresh_every=refresh), epochs=2), tmp_path / "parts")
    saved = torch.load(tmp_path / "parts" / "last.ckpt", weights_only=True)["callbacks"][
        "OfflineMining"
    ]["pool"]
    assert sorted(saved.tolist()) == list(range(22))
    assert alike(whole, weights(config(offline(refresh_every=refresh)), tmp_path / "parts"))
    assert not alike(whole, weights(config(offline(refresh_every=3 - refresh))))


def test_clients_are_compared_by_the_learned_part_of_what_embed_gives() -> None:
    encoded, vocabulary = held()
    options = config(
        offline(), event_encoder={"hidden_size": 16, "dropout": 0.5}, embedding={"max_events": 9}
    )
    torch.manual_seed(0)
    encoder = SequenceEncoder(options, vocabulary).train()
    clients = torch.arange(20, 2, -1)
    sampler = OfflineHardSampler(encoded, vocabulary, clients, size=6, group=3)
    mining = OfflineMining(sampler, encoded, encoder, options, torch.device("cpu"))
    before: Any = SimpleNamespace(current_epoch=0)
    mining.on_train_epoch_start(before, before)
    assert sampler.pool is None
    assert mining.state_dict() == {}
    before.current_epoch = 1
    mining.on_train_epoch_start(before, before)
    assert encoder.training
    assert all(module.training for module in encoder.modules())
    assert sampler.pool is not None
    mixed = sampler.pool.reshape(6, 3)[:, 0]  # the first of each group
    vectors = embed_sequences(encoder.eval(), encoded.subset(clients), options)
    near = unit_vectors(vectors[:, : encoder.vector_size])
    assert near.shape[1] < vectors.shape[1] - 3  # nothing of the last events and the profile
    ordered = torch.cat([mixed, torch.tensor([p for p in range(18) if p not in mixed.tolist()])])
    expected = ordered[near_groups(near[ordered], 3)]
    assert sampler.pool.tolist() == expected.tolist()
