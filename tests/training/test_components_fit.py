"""Components of the pooled states that are alike in two halves of a client's events are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from small import batch_of, part, tiny_config

from seqmel.model import load_model
from seqmel.training import components_fit
from seqmel.training.components_fit import _reliable, with_most_components
from seqmel.training.run import train

CLIENTS = 160


def events(of_client: float) -> pd.DataFrame:
    """Six events per client with twelve numbers: what the client repeats, and noise."""
    random = np.random.default_rng(0)
    client = np.repeat(np.arange(CLIENTS), 6)
    own = np.repeat(random.normal(size=(CLIENTS, 12)), 6, axis=0)
    noise = random.normal(size=own.shape)
    frame = pd.DataFrame(
        of_client * own + noise, columns=[f"level_{column}" for column in range(12)]
    )
    day = pd.Timedelta(days=1)
    times = pd.Timestamp("2024-01-01") + day * np.tile(np.arange(6), CLIENTS)
    return pd.concat([pd.DataFrame({"client_id": client, "event_time": times}), frame], axis=1)


def kept(folder: Path, of_client: float, pca_dim: str | int = "auto") -> int:
    """The number of components of a model of such events, by its saved folder."""
    options = tiny_config(
        encoder="none", pooling=["mean", "std"], pca_dim=pca_dim, event_encoder={"hidden_size": 40}
    )
    train(events(of_client), folder, config=options)
    model = load_model(folder)
    assert model.encoder.components is not None
    assert model.config.pca_dim == model.encoder.components.dim
    return model.encoder.components.dim


def test_components_of_noise_are_left_out(tmp_path: Path) -> None:
    assert with_most_components(tiny_config(), CLIENTS).pca_dim == 32
    noise = kept(tmp_path / "noise", of_client=0.0)
    repeated = kept(tmp_path / "repeated", of_client=5.0)
    assert 8 <= noise <= 12
    assert noise < repeated <= 32


def test_halves_keep_no_graph_of_the_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the graphs of all batches together held 14 GB for 20,000 clients
    seen: list[torch.Tensor] = []

    def spy(even: torch.Tensor, odd: torch.Tensor) -> torch.Tensor:
        seen.extend((even, odd))
        return _reliable(even, odd)

    monkeypatch.setattr(components_fit, "_reliable", spy)
    kept(tmp_path / "model", of_client=5.0)
    assert len(seen) == 2
    assert seen[0].shape == seen[1].shape
    assert not any(half.requires_grad for half in seen)


def test_a_given_number_is_kept_whatever_the_data(tmp_path: Path) -> None:
    assert kept(tmp_path / "model", of_client=0.0, pca_dim=20) == 20


def test_those_that_both_halves_repeat_are_kept_and_the_first_eight() -> None:
    random = torch.Generator().manual_seed(0)
    even = torch.randn(500, 20, generator=random)
    odd = torch.randn(500, 20, generator=random)
    odd[:, [2, 11, 17]] += even[:, [2, 11, 17]]
    assert _reliable(even, odd).tolist() == [*range(8), 11, 17]


def test_of_few_clients_all_are_kept() -> None:
    random = torch.Generator().manual_seed(0)
    even, odd = torch.randn(2, 99, 20, generator=random)
    assert _reliable(even, odd).tolist() == list(range(20))


def test_where_halves_complete_each_other_all_are_kept() -> None:
    random = torch.Generator().manual_seed(0)
    even, odd = torch.randn(2, 500, 20, generator=random)
    odd[:, 17:] -= even[:, 17:]
    assert _reliable(even, odd).tolist() == list(range(20))
    odd[:, 17] = even[:, 17]  # two of twenty may be chance
    assert _reliable(even, odd).tolist() == [*range(8), 17]


def test_every_other_event_of_each_sequence_is_taken() -> None:
    batch = batch_of([3, 0, 8, 1])
    for first, lengths in ((0, [2, 0, 4, 1]), (1, [1, 0, 4, 0])):
        half = batch.every_other(first)
        assert half.lengths.tolist() == lengths
        for place, length in enumerate(lengths):
            whole, taken = part(batch, place), part(half, place)
            assert len(taken.time) == length
            assert torch.equal(taken.time, whole.time[first::2])
            assert torch.equal(taken.columns["level"], whole.columns["level"][first::2])
