"""CoLES: what it asks of the vectors of a batch."""

from __future__ import annotations

import pytest
import torch
from small import card_events, tiny_config

from seqmel.data.inference import infer_schema
from seqmel.data.preparation import encode, fit_vocabulary
from seqmel.data.reading import open_events
from seqmel.data.sequences import EncodedSequences
from seqmel.nn.encoder import SequenceEncoder
from seqmel.objectives import CoLES, ViewBatch
from seqmel.training.batches import generator, settle


def _objective_and_batch(**changes: object) -> tuple[CoLES, SequenceEncoder, ViewBatch]:
    source = open_events(card_events())
    schema = infer_schema(source)
    vocabulary = fit_vocabulary(source, schema)
    sequences = EncodedSequences.from_batches(encode(source, schema, vocabulary), time=schema.time)
    config = settle(tiny_config(encoder="none", **changes), sequences)
    torch.manual_seed(0)
    encoder = SequenceEncoder(config, vocabulary)
    objective = CoLES(config, embedding_size=encoder.output_size)
    return objective, encoder, objective.draw(sequences, torch.arange(8), generator(0))


@pytest.mark.parametrize("loss", ["infonce", "contrastive"])
def test_the_loss_is_computed_in_float32_also_under_mixed_precision(loss: str) -> None:
    """A similarity of ten has steps of a twentieth in bfloat16; the loss of the same vectors must not know of that."""
    objective, encoder, batch = _objective_and_batch(loss=loss)
    seen = []
    objective.loss.register_forward_hook(lambda module, given, found: seen.append((given, found)))
    with torch.autocast("cpu", torch.bfloat16):
        objective(encoder, batch)
    (given, found), plain = seen[0], objective.loss(*seen[0][0])
    assert given[0].dtype == found.dtype == torch.float32
    torch.testing.assert_close(found, plain, rtol=0, atol=0)


@pytest.mark.parametrize("changes", [{"loss": "contrastive", "miner": "random_negatives"}, {"loss": "contrastive"}, {}])
def test_every_weight_learns(changes: dict[str, object]) -> None:
    """Encoder and head both get a gradient, and it is finite."""
    objective, encoder, batch = _objective_and_batch(**changes)
    objective(encoder, batch).backward()
    for name, weight in [*encoder.named_parameters(), *objective.named_parameters()]:
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
