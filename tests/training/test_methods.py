"""End-to-end training with every loss and each of its miners, and with every kind of view."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from small import SCHEMA, WITH_LABELS, card_events, fitted, sequences, tiny_config

from seqmel.config import methods
from seqmel.core.errors import ConfigError
from seqmel.data.samplers import SAMPLERS
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.views import VIEWS
from seqmel.data.vocabulary import Vocabulary
from seqmel.nn.encoder import SequenceEncoder
from seqmel.objectives.losses import LOSSES
from seqmel.objectives.miners import MINERS
from seqmel.training.fit import fit

SELF_SUPERVISED = sorted(set(methods()["objective"]) - WITH_LABELS)
METHODS: list[dict[str, Any]] = [
    *({"loss": loss} for loss in sorted(LOSSES)),
    *(
        {
            "loss": loss,
            "miner": {
                "name": miner,
                "memory": 30 if loss == "contrastive" or miner == "semi_hard" else 0,
            },
        }
        for loss in sorted(LOSSES)
        for miner in sorted(MINERS)
        if LOSSES[loss]().takes == MINERS[miner]().gives
    ),
    *({"views": {"name": views, "min_length": 2}} for views in sorted(VIEWS)),
    {"views": {"name": "time_windows", "day_dropout": 0.2, "event_dropout": 0.2, "shuffle": True}},
    {"event_encoder": {"hidden_size": 16, "category_init": "ppmi"}},
    *({"sampler": sampler} for sampler in sorted(SAMPLERS)),
    {"loss": {"name": "contrastive", "margin": 1.0, "margin_start": 0.1}},
    *(
        {"objective": name, "encoder": {"name": "gru", "hidden_size": 16}}
        for name in SELF_SUPERVISED
    ),
    {
        "objective": ["coles", {"name": "cpc", "weight": 0.5}, "replaced_token"],
        "encoder": {"name": "transformer", "hidden_size": 16, "heads": 2, "causal": True},
    },
    {"objective": ["sequence_order", "next_sequence"], "precision": "bf16-mixed"},
]


@functools.cache
def events() -> tuple[EncodedSequences, Vocabulary]:
    table = card_events(16)
    vocabulary = fitted(table, SCHEMA, min_count=2)
    return sequences(table, SCHEMA, vocabulary), vocabulary


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_training_moves_the_weights_and_stays_finite(method: dict[str, Any]) -> None:
    held, vocabulary = events()
    training = {"epochs": 2, "batch_size": 6, "validation_fraction": 0.2}
    config = tiny_config(
        **{"encoder": "none", "objective": {"head_size": 16}, "training": training} | method
    )
    encoder, history = fit(held, vocabulary, config)
    torch.manual_seed(config.seed)
    before = SequenceEncoder(config, vocabulary).state_dict()
    assert all(weights.isfinite().all() for weights in encoder.state_dict().values())
    assert any(
        not torch.equal(weights, before[name]) for name, weights in encoder.state_dict().items()
    )
    assert all(torch.tensor(list(row.values())).isfinite().all() for row in history)


def test_a_training_with_segments_ends_alike_when_it_is_resumed(tmp_path: Path) -> None:
    held, vocabulary = events()
    training = {"epochs": 2, "batch_size": 6, "validation_fraction": 0.0, "schedule": "constant"}
    config = tiny_config(
        encoder="none", sampler={"name": "category_balanced", "column": "city"}, training=training
    )
    whole, _ = fit(held, vocabulary, config, checkpoints=tmp_path / "whole")
    half = config.model_copy(update={"training": config.training.model_copy(update={"epochs": 1})})
    fit(held, vocabulary, half, checkpoints=tmp_path / "parts")
    resumed, _ = fit(held, vocabulary, config, checkpoints=tmp_path / "parts")
    again, _ = fit(held, vocabulary, config, checkpoints=tmp_path / "again")
    for name, weights in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], weights)
        assert torch.equal(again.state_dict()[name], weights)


def test_a_sampler_for_a_column_that_is_not_there_is_refused_before_training() -> None:
    held, vocabulary = events()
    with pytest.raises(ConfigError, match=r"no categorical column 'amount'\. There are: mcc, city"):
        fit(
            held, vocabulary, tiny_config(sampler={"name": "category_balanced", "column": "amount"})
        )


def test_a_memory_and_a_learnt_boundary_are_in_the_checkpoint_and_a_resumed_training_ends_alike(
    tmp_path: Path,
) -> None:
    held, vocabulary = events()
    training = {"epochs": 2, "batch_size": 6, "validation_fraction": 0.0, "schedule": "constant"}
    config = tiny_config(encoder="none", loss="margin", miner={"memory": 30}, training=training)
    whole, _ = fit(held, vocabulary, config, checkpoints=tmp_path / "whole")
    half = config.model_copy(update={"training": config.training.model_copy(update={"epochs": 1})})
    fit(held, vocabulary, half, checkpoints=tmp_path / "parts")
    saved = torch.load(tmp_path / "parts" / "last.ckpt", weights_only=True)["state_dict"]
    assert (saved["objective.parts.coles.memory.clients"] >= 0).any()
    assert saved["objective.parts.coles.loss.beta"] != 1.2
    resumed, _ = fit(held, vocabulary, config, checkpoints=tmp_path / "parts")
    for name, weights in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], weights)
