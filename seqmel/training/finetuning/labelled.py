"""Labelled clients, their validation split, and the batches of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from seqmel.config.options.training import FinetuningOptions
from seqmel.core.errors import InputError, TrainingError
from seqmel.core.random_streams import Stream, generator
from seqmel.data.sequences.batch import SequenceBatch, to_device_async
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.tables.labels import Task, locate_ids
from seqmel.data.tables.targets import Target

__all__ = ["Labelled", "LabelledBatch", "LabelledBatches", "class_weights", "hold_out", "label"]

_MIN_CLIENTS = 4
_MAX_HELD_OUT = 20_000  # more clients hardly improve the metrics, and cost time after every epoch


@dataclass(frozen=True)
class Labelled:
    """L clients with labels for T targets.

    Attributes:
        targets: The T targets.
        clients: (L,) int64, positions in the sequences.
        values: (L, T) float32, codes of classes or standardised quantities. 0 if the label is
            missing.
        weights: (L, T) float32, weights of the labels. 0 if the label is missing.
    """

    targets: tuple[Target, ...]
    clients: Tensor
    values: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.clients)

    def __getitem__(self, places: Tensor) -> Labelled:
        """Select clients."""
        return replace(
            self,
            clients=self.clients[places],
            values=self.values[places],
            weights=self.weights[places],
        )

    def known(self, target: int) -> Tensor:
        """Return the positions of the clients with a label for a target."""
        return (self.weights[:, target] > 0).nonzero()[:, 0]

    def single_client_classes(self) -> dict[str, list[Any]]:
        """Return the classes with a single client: target -> classes."""
        found = {}
        for column, target in enumerate(self.targets):
            if target.classes:
                counts = torch.bincount(
                    self.values[self.known(column), column].long(), minlength=target.size
                )
                found[target.name] = [
                    c for c, n in zip(target.classes, counts.tolist(), strict=True) if n == 1
                ]
        return {name: classes for name, classes in found.items() if classes}


@dataclass(frozen=True)
class LabelledBatch:
    """A batch of sequences with their labels, (B, T), as in `Labelled`."""

    sequences: SequenceBatch
    values: Tensor
    weights: Tensor

    def to(self, device: torch.device | str) -> LabelledBatch:
        """Copy the batch to a device."""
        return LabelledBatch(
            self.sequences.to(device),
            to_device_async(self.values, device),
            to_device_async(self.weights, device),
        )


def label(
    sequences: EncodedSequences,
    labels: Mapping[str, pd.Series[Any]],
    *,
    weights: pd.Series[Any] | None = None,
    task: Task = "auto",
) -> Labelled:
    """Join labels and sequences by client id.

    Args:
        sequences: The sequences of all clients, labelled or not.
        labels: Target -> labels indexed by client id, as from `read_labels`. A client may lack
            some.
        weights: Weights indexed by client id. None gives equal weights.
        task: The task of all targets. "auto" infers it for each.

    Returns:
        The labelled clients.

    Raises:
        InputError: No client has a label, a target cannot be learnt, or weights are missing or
            negative.
        TrainingError: Fewer than four clients have a label.
    """
    ids = pd.Index(sequences.client_ids.to_pandas())
    values = torch.zeros(len(ids), len(labels))
    known = torch.zeros(len(ids), len(labels))
    targets = []
    for column, (name, y) in enumerate(labels.items()):
        y = y.dropna().rename(name)
        place = locate_ids(y.index, ids, of="events")
        counts = (
            _weights(weights, y[place >= 0]) if weights is not None else np.ones((place >= 0).sum())
        )
        counted = counts > 0
        y = y[place >= 0][counted]
        at = place[place >= 0][counted]
        counts = counts[counted]
        if not len(y):
            raise InputError(f"No client with a label of {name!r} has a weight above zero.")
        targets.append(Target.of(y, task))
        values[at, column] = torch.from_numpy(targets[-1].encode(y))
        known[at, column] = torch.from_numpy(counts).float()
    clients = (known > 0).any(1).nonzero()[:, 0]
    if len(clients) < _MIN_CLIENTS:
        raise TrainingError(
            f"Only {len(clients)} clients have a label, events and a weight above zero; at least "
            f"{_MIN_CLIENTS} are needed."
        )
    return Labelled(tuple(targets), clients, values[clients], known[clients])


def _weights(weights: pd.Series[Any], y: pd.Series[Any]) -> npt.NDArray[np.float64]:
    found = pd.to_numeric(weights, errors="coerce").reindex(y.index)
    wrong = found.index[~(found >= 0)]  # also true for NaN
    if len(wrong):
        client = wrong[:1].tolist()[0]
        raise InputError(
            f"Weights {weights.name!r}: client {client!r} has {weights.get(client)}. Expected a "
            f"number of 0 or more for each labelled client."
        )
    return found.to_numpy(np.float64)


def hold_out(labelled: Labelled, fraction: float, *, seed: int) -> tuple[Labelled, Labelled]:
    """Split off validation clients, stratified by their labels.

    Clients are sorted by their labels, with ties in random order, and every n-th is held out. This
    stratifies classes and quantities. The last training client of a class is never held out.

    Args:
        labelled: The labelled clients.
        fraction: The fraction to hold out.
        seed: The seed of the split.

    Returns:
        The training clients and the validation clients.
    """
    count = min(round(len(labelled) * fraction), _MAX_HELD_OUT)
    if count < 2:
        return labelled, labelled[torch.zeros(0, dtype=torch.int64)]
    random = generator(seed, Stream.FINETUNE_SPLIT)
    tie = torch.rand(len(labelled), generator=random)
    offset = float(torch.rand((), generator=random))
    missing = labelled.weights == 0
    keys = torch.where(missing, -torch.inf, labelled.values).numpy()
    order = torch.from_numpy(np.lexsort((tie.numpy(), *keys.T[::-1])))
    held = torch.zeros(len(labelled), dtype=torch.bool)
    held[
        order[
            ((torch.arange(count, dtype=torch.float64) + offset) * (len(labelled) / count)).long()
        ]
    ] = True
    for column, target in enumerate(labelled.targets):
        for code in range(len(target.classes)):
            of_class = (labelled.values[:, column] == code) & ~missing[:, column]
            if held[of_class].all():
                held &= ~of_class
    return labelled[(~held).nonzero()[:, 0]], labelled[held.nonzero()[:, 0]]


def class_weights(labelled: Labelled) -> Tensor:
    """Return (T, K) inverse frequency weights n / (K n_k) of the classes, and 1 elsewhere."""
    max_size = max(target.size for target in labelled.targets)
    found = torch.ones(len(labelled.targets), max_size)
    for column, target in enumerate(labelled.targets):
        if target.classes:
            known = labelled.known(column)
            counts = torch.bincount(
                labelled.values[known, column].long(), labelled.weights[known, column], target.size
            )
            found[column, : target.size] = counts.sum() / (target.size * counts)
    return found


class LabelledBatches:
    """The batches of an epoch: all clients in random order, in batches of nearly equal size.

    Sequences longer than `max_events` are cropped at random in each epoch.
    """

    def __init__(
        self,
        sequences: EncodedSequences,
        labelled: Labelled,
        options: FinetuningOptions,
        *,
        seed: int,
        epoch: Callable[[], int],
    ) -> None:
        self.sequences = sequences
        self.labelled = labelled
        self.max_events = options.max_events
        self.count = -(-len(labelled) // options.batch_size)
        self.seed = seed
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    @property
    def clients(self) -> int:
        """Number of clients per epoch."""
        return len(self.labelled)

    def __iter__(self) -> Iterator[LabelledBatch]:
        random = generator(self.seed, Stream.FINETUNE_BATCHES, self.epoch())
        order = torch.randperm(len(self.labelled), generator=random)
        for places in order.tensor_split(self.count):
            part = self.labelled[places]
            whole = self.sequences.lengths[part.clients]
            lengths = whole.clamp(max=self.max_events)
            drawn = torch.rand(len(part), generator=random, dtype=torch.float64)
            starts = (drawn * (whole - lengths + 1)).long()
            yield LabelledBatch(
                self.sequences.gather(part.clients, starts, lengths), part.values, part.weights
            )
