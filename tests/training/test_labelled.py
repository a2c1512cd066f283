"""Labels are matched by client id, split by stratum, and every client is in every epoch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from small import SCHEMA, card_events, fitted, sequences

from seqmel.config.options.training import FinetuningOptions
from seqmel.core.errors import InputError, TrainingError
from seqmel.data.tables.targets import Target
from seqmel.training.finetuning.labelled import (
    Labelled,
    LabelledBatches,
    class_weights,
    hold_out,
    label,
)

CLIENTS: Any = SimpleNamespace(client_ids=pa.chunked_array([["d", "a", "c", "b", "e"]]))


def series(name: str = "y", **labels: Any) -> pd.Series[Any]:
    return pd.Series(labels, name=name)


def of_codes(*codes: list[float], missing: int = 0) -> Labelled:
    """Labels of targets with as many classes as there are codes; the first some are missing."""
    values = torch.tensor(codes).T
    weights = torch.ones_like(values)
    weights[:missing] = 0
    targets = tuple(
        Target(name=str(i), classes=tuple(range(int(max(c)) + 1))) for i, c in enumerate(codes)
    )
    return Labelled(targets, torch.arange(len(values)), values, weights)


def test_labels_are_matched_by_id_and_missing_ones_weigh_nothing() -> None:
    found = label(CLIENTS, {"g": series(a="x", b="y", d="y", z="x"), "h": series(c=1, d=2, e=1)})
    assert found.clients.tolist() == [0, 1, 2, 3, 4]
    assert found.values.T.tolist() == [[1, 0, 0, 1, 0], [1, 0, 0, 0, 0]]
    assert found.weights.T.tolist() == [[1, 1, 0, 1, 0], [1, 0, 1, 0, 1]]
    assert [target.classes for target in found.targets] == [("x", "y"), (1, 2)]


def test_weights_count_and_a_client_of_weight_0_is_as_if_unlabelled() -> None:
    weights = series("w", a=2.0, b=0.5, c=1.0, d=3.0, e=0.0)
    found = label(CLIENTS, {"y": series(a=0, b=1, c=0, d=1, e=2)}, weights=weights)
    assert found.clients.tolist() == [0, 1, 2, 3]
    assert found.weights[:, 0].tolist() == [3.0, 2.0, 1.0, 0.5]
    assert found.targets[0].classes == (0, 1)


@pytest.mark.parametrize(
    ("labels", "weights", "error", "message"),
    [
        (series(x=0, y=1), None, InputError, ("No client of the labels has events. Labels: 2 "
"clients, such as 'x', 'y'; events: 5")),
        (series(a=1, b=1, z=0), None, InputError, "one class only, 1, among 2 clients"),
        (series(a=0, b=1, c=1), None, TrainingError, ("Only 3 clients have a label, events and a "
"weight")),
        (series(a=0, b=1, c=1, d=0), series("w", a=1, b=-1, c=1, d=1), InputError, ("Weights 'w': "
"client 'b' "
"has -1")),
        (series(a=0, b=1, c=1, d=0), series("w", a=1, b=1, c=1), InputError, ("Weights 'w': "
"client 'd' has "
"None")),
        (series(a=0, b=1), series("w", a="x", b="y"), InputError, ("client 'a' has x. Expected a "
"number of 0 or more")),
        (series(a=0, b=1), series("w", a=0, b=0), InputError, ("No client with a label of 'y' has "
"a weight above zero")),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_learnt_are_refused(
    labels: Any, weights: Any, error: Any, message: str
) -> None:
    with pytest.raises(error, match=message):
        label(CLIENTS, {"y": labels}, weights=weights)


def test_the_share_held_out_has_the_classes_in_their_proportions() -> None:
    codes = [0.0] * 70 + [1.0] * 20 + [2.0] * 10
    training, held = hold_out(of_codes(codes), 0.2, seed=0)
    assert torch.bincount(held.values[:, 0].long()).tolist() == [14, 4, 2]
    assert sorted(training.clients.tolist() + held.clients.tolist()) == list(range(100))
    assert held.clients.tolist() != hold_out(of_codes(codes), 0.2, seed=1)[1].clients.tolist()
    assert held.clients.tolist() == hold_out(of_codes(codes), 0.2, seed=0)[1].clients.tolist()


@pytest.mark.parametrize("seed", range(10))
def test_the_last_client_of_a_class_is_not_held_out(seed: int) -> None:
    training, held = hold_out(of_codes([0.0, 1.0, 2.0, 3.0, 3.0, 3.0, 3.0, 3.0]), 0.5, seed=seed)
    assert set(training.values[:, 0].tolist()) == {0, 1, 2, 3}
    assert len(training) + len(held) == 8


@pytest.mark.parametrize("seed", [1085, 1459, 2376, 3432])
def test_a_start_just_below_the_next_client_holds_out_no_client_beyond_the_last(seed: int) -> None:
    """With these seeds the sum of a place and the start was rounded up to one past the end."""
    kept, held = hold_out(of_codes([i % 2 for i in range(60_000)]), 1 / 3, seed=seed)
    assert (len(kept), len(held)) == (40_000, 20_000)


def test_a_share_of_less_than_two_clients_holds_out_none() -> None:
    training, held = hold_out(of_codes([0.0, 1.0] * 5), 0.1, seed=0)
    assert (len(training), len(held)) == (10, 0)


def test_balanced_classes_have_the_same_sum_of_weights() -> None:
    labelled = of_codes([0.0] * 6 + [1.0] * 3 + [2.0], [0.0, 1.0] * 5)
    found = class_weights(labelled)
    assert found[0].tolist() == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    assert found[1].tolist() == [1, 1, 1]


def test_an_epoch_has_every_client_once_and_another_part_of_long_ones_each_time() -> None:
    events = card_events(11, most=30)
    encoded = sequences(events, SCHEMA, fitted(events, SCHEMA))
    labelled = of_codes([float(i % 2) for i in range(11)])
    epochs = []
    for epoch in (0, 0, 1):
        options = FinetuningOptions(batch_size=4, max_events=5)
        batches = list(LabelledBatches(encoded, labelled, options, seed=3, epoch=lambda e=epoch: e))  # type: ignore[misc]
        assert sorted(len(batch.sequences) for batch in batches) == [3, 4, 4]
        assert max(int(batch.sequences.lengths.max()) for batch in batches) == 5
        epochs.append(np.concatenate([batch.sequences.time.numpy() for batch in batches]))
        assert sum(batch.values.sum() for batch in batches) == 5
    assert np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(np.sort(epochs[0]), np.sort(epochs[2]))
