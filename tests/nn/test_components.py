"""Principal components: orthogonal directions of the largest variance of standardised columns."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from small import batch_of, card_events, tiny_config, vocabulary_of
from torch import Tensor

from seqmel.inference.embed import embed_sequences
from seqmel.model import load_model
from seqmel.nn.components import PrincipalComponents
from seqmel.nn.encoder import LAST_EVENT_DIM, SequenceEncoder
from seqmel.training.run import prepare, train


def vectors(clients: int = 300, size: int = 12) -> Tensor:
    random = torch.Generator().manual_seed(0)
    inner = torch.randn(clients, 3, generator=random) * torch.tensor([4.0, 2.0, 1.0])
    noise = 0.1 * torch.randn(clients, size, generator=random)
    return inner @ torch.randn(3, size, generator=random) + noise + 5


def fitted(rows: Tensor, dim: int) -> PrincipalComponents:
    module = PrincipalComponents(rows.shape[1], dim)
    module.fit(rows)
    return module


def test_they_are_the_singular_vectors_of_the_standardised_columns() -> None:
    rows = vectors()
    found = fitted(rows, 4)(rows)
    standard = (rows - rows.mean(0)) / rows.std(0, correction=0)
    left, values, _ = np.linalg.svd(standard.double().numpy(), full_matrices=False)
    expected = left[:, :4] * values[:4]
    signs = np.sign((expected * found.numpy()).sum(0))
    np.testing.assert_allclose(found, expected * signs, rtol=1e-3, atol=1e-3)


def test_the_largest_weight_of_each_is_positive() -> None:
    rows = vectors()
    weight = fitted(rows, 4).weight * rows.std(0)  # of the standardised columns
    largest = weight.gather(1, weight.abs().argmax(1, keepdim=True))
    assert (largest > 0).all()


def test_constant_columns_and_missing_rank_give_zeros() -> None:
    rows = vectors(clients=5)
    rows[:, 3] = 7.0
    module = fitted(rows, 8)
    assert not module.weight[:, 3].any()
    assert (module(rows).abs().amax(0) > 1e-3).tolist() == [True] * 4 + [False] * 4
    assert not fitted(torch.ones(4, 6), 2)(torch.randn(3, 6)).any()


def test_rounding_does_not_depend_on_the_batch() -> None:
    rows = vectors(clients=200, size=700)
    module = fitted(rows, 64)
    whole = module(rows)
    for i in (0, 7, 199):
        assert torch.equal(module(rows[i : i + 1]), whole[i : i + 1])


def test_the_vector_has_them_in_place_of_the_pooled_states() -> None:
    pooling = ["mean", "category_mean", "max", "recent"]
    options = tiny_config(pooling=pooling, encoder="none", pca_dim=5)
    encoder = SequenceEncoder(options, vocabulary_of()).eval()
    assert encoder.components is not None
    assert encoder.recent is not None
    batch = batch_of([3, 0, 8])
    trained = encoder.encode(batch)
    begin, end = encoder.by_category_columns
    pooled = torch.cat([trained[:, :begin], trained[:, end:]], dim=1).detach()
    encoder.components.fit(pooled + torch.randn(pooled.shape))
    found = encoder.embed(batch)
    assert found.shape == (3, encoder.output_size)
    by_category = trained[:, begin:end]
    assert by_category.shape[1] == 5 * 9  # eight numbers and a count of each
    parts = [encoder.components(pooled), by_category, encoder.recent(batch)]
    assert torch.equal(found[:, :-3], torch.cat(parts, dim=1))
    assert encoder.output_size == found.shape[1]


def test_the_last_event_has_components_of_its_own() -> None:
    pooling = ["mean", "category_mean", "last_event", "recent"]
    config = tiny_config(
        pooling=pooling, encoder="none", pca_dim=5, event_encoder={"hidden_size": 40}
    )
    encoder = SequenceEncoder(config, vocabulary_of()).eval()
    batch = batch_of([3, 0, 8])
    events = encoder.events(batch).detach()
    last = torch.stack([events[2], torch.zeros(40), events[10]])
    assert encoder.encode(batch).shape[1] == encoder.pooled_size  # objectives do not see it

    encoder.components = None
    whole = encoder.embed(batch)
    size = encoder.pooled_size
    assert torch.equal(encoder.last_events(whole), last)
    assert torch.equal(whole[:, size : size + 40], last)
    assert whole.shape == (3, encoder.output_size)

    components = encoder.new_components(config)
    assert components is not None
    assert components.of_last_event is not None
    components.of_last_event.fit(last + torch.randn(last.shape))
    encoder.components = components
    found = encoder.embed(batch)
    assert found.shape == (3, encoder.output_size)
    begin = 5 + 5 * 9  # the components of the pooled states, then those by category
    reduced = components.of_last_event(last)
    assert torch.equal(found[:, begin : begin + LAST_EVENT_DIM], reduced)
    assert encoder.recent is not None
    assert torch.equal(found[:, begin + LAST_EVENT_DIM : -3], encoder.recent(batch))


@pytest.mark.parametrize("dim", [None, 100_000])
def test_a_narrow_part_or_null_keeps_all_dimensions(dim: int | None) -> None:
    options = tiny_config(pooling=["mean", "max"], encoder="none", pca_dim=dim)
    assert SequenceEncoder(options, vocabulary_of()).components is None


def test_they_are_fitted_after_training_and_saved(tmp_path: Path) -> None:
    options = tiny_config(
        pca_dim=6, pooling=["mean", "max", "last_event"], event_encoder={"hidden_size": 40}
    )
    train(card_events(), tmp_path / "model", config=options)
    loaded = load_model(tmp_path / "model")
    assert loaded.encoder.components is not None
    prepared = prepare(card_events(), tmp_path / "prepared", model=loaded)
    sequences = prepared.sequences
    trained = copy.deepcopy(loaded.encoder)
    trained.components = None
    rows = trained.without_categories(embed_sequences(trained, sequences, loaded.config))
    found = embed_sequences(loaded.encoder, sequences, loaded.config)
    assert found.shape[1] == loaded.encoder.output_size
    torch.testing.assert_close(found[:, :6], loaded.encoder.components(rows))
    assert (found[:, :6].std(0) > 0.1).all()
    of_last_event = loaded.encoder.components.of_last_event
    assert of_last_event is not None
    last = of_last_event(trained.last_events(embed_sequences(trained, sequences, loaded.config)))
    torch.testing.assert_close(found[:, 6 : 6 + LAST_EVENT_DIM], last)
    assert (last[:, :4].std(0) > 0.1).all()
