"""Labelled samples, their validation split, and the batches of an epoch."""

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
from seqmel.core.units import count_words
from seqmel.data.sequences.batch import SequenceBatch, to_device_async
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.tables.labels import locate_ids
from seqmel.data.tables.targets import Target, TargetTask
from seqmel.training.finetuning.samples import Samples

__all__ = ["Labelled", "LabelledBatch", "LabelledBatches", "class_weights", "hold_out", "label"]

_MIN_CLIENTS = 4
_MAX_HELD_OUT = 20_000  # more clients hardly improve the metrics, and cost time after every epoch


@dataclass(frozen=True)
class Labelled:
    """L samples with labels for T targets. A sample is a client, or a client at a moment.

    Attributes:
        targets: The T targets.
        clients: (L,) int64, positions in the sequences of the samples.
        values: (L, T) float32, codes of classes or standardised quantities. 0 if the label is
            missing.
        weights: (L, T) float32, weights of the labels. 0 if the label is missing.
        owners: (L,) int64, codes of the clients. None if each sample is a client of its own.
        facts: (L, facts) float32, encoded facts about the clients. None without.
    """

    targets: tuple[Target, ...]
    clients: Tensor
    values: Tensor
    weights: Tensor
    owners: Tensor | None = None
    facts: Tensor | None = None

    def __len__(self) -> int:
        return len(self.clients)

    def __getitem__(self, places: Tensor) -> Labelled:
        """Select samples."""
        return replace(
            self,
            clients=self.clients[places],
            values=self.values[places],
            weights=self.weights[places],
            owners=None if self.owners is None else self.owners[places],
            facts=None if self.facts is None else self.facts[places],
        )

    @property
    def unit(self) -> str:
        """What a sample is called: "clients", or "rows" if a client may have several."""
        return "clients" if self.owners is None else "rows"

    @property
    def distinct_clients(self) -> int:
        """Number of distinct clients."""
        return len(self) if self.owners is None else len(self.owners.unique())

    def groups(self) -> Tensor:
        """Return (L,) int64, the client of each sample, as a code from 0 on."""
        if self.owners is None:
            return torch.arange(len(self))
        return torch.unique(self.owners, return_inverse=True)[1]

    def known(self, target: int) -> Tensor:
        """Return the positions of the samples with a label for a target."""
        return (self.weights[:, target] > 0).nonzero()[:, 0]

    def single_client_classes(self) -> dict[str, list[Any]]:
        """Return the classes with a single client: target -> classes."""
        found = {}
        groups = self.groups()
        for column, target in enumerate(self.targets):
            if target.classes:
                known = self.known(column)
                pairs = torch.stack([self.values[known, column].long(), groups[known]]).unique(
                    dim=1
                )
                counts = torch.bincount(pairs[0], minlength=target.size)
                found[target.name] = [
                    c for c, n in zip(target.classes, counts.tolist(), strict=True) if n == 1
                ]
        return {name: classes for name, classes in found.items() if classes}


@dataclass(frozen=True)
class LabelledBatch:
    """A batch of sequences with their labels, (B, T), and facts, as in `Labelled`."""

    sequences: SequenceBatch
    values: Tensor
    weights: Tensor
    facts: Tensor | None = None

    def to(self, device: torch.device | str) -> LabelledBatch:
        """Copy the batch to a device."""
        return LabelledBatch(
            self.sequences.to(device),
            to_device_async(self.values, device),
            to_device_async(self.weights, device),
            None if self.facts is None else to_device_async(self.facts, device),
        )


def label(
    sequences: EncodedSequences,
    labels: Mapping[str, pd.Series[Any]],
    *,
    weights: pd.Series[Any] | None = None,
    task: TargetTask = "auto",
    samples: Samples | None = None,
    options: FinetuningOptions | None = None,
) -> Labelled:
    """Join labels and samples by client id, or by client id and moment.

    Args:
        sequences: The sequences of all clients, labelled or not.
        labels: Target -> labels indexed by the keys of the samples, as from `read_labels`. A sample
            may lack some.
        weights: Weights, indexed likewise. None gives equal weights.
        task: The task of all targets. "auto" infers it for each.
        samples: The samples. None takes each client once.
        options: Names the loss of quantities.

    Returns:
        The labelled samples.

    Raises:
        InputError: No client has a label, a target cannot be learnt, or weights are missing or
            negative.
        TrainingError: Fewer than four clients have a label.
    """
    samples = Samples.of_clients(sequences) if samples is None else samples
    options = options or FinetuningOptions()
    ids = samples.keys
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
        targets.append(
            Target.of(
                y,
                task,
                loss=options.quantity_loss,
                quantile=options.quantile,
                edges=options.time_edges,
            )
        )
        values[at, column] = torch.from_numpy(targets[-1].encode(y))
        known[at, column] = torch.from_numpy(counts).float()
    rows = (known > 0).any(1).nonzero()[:, 0]
    owners = None if samples.owners is None else samples.owners[rows]
    labelled = Labelled(tuple(targets), rows, values[rows], known[rows], owners)
    if labelled.distinct_clients < _MIN_CLIENTS:
        raise TrainingError(
            f"Only {count_words(labelled.distinct_clients, 'client has', 'clients have')} a label, "
            f"events and a weight above zero; at least {_MIN_CLIENTS} are needed."
        )
    return labelled


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

    Clients are sorted by their labels, with ties in random order, and every n-th is held out, with
    all its samples. This stratifies classes and quantities. A client with several samples is sorted
    by their mean. The last training client of a class is never held out.

    Args:
        labelled: The labelled samples.
        fraction: The fraction of the clients to hold out.
        seed: The seed of the split.

    Returns:
        The samples of the training clients and of the validation clients.
    """
    groups = labelled.groups()
    clients = labelled.distinct_clients
    most = int(_MAX_HELD_OUT * clients / max(1, len(labelled)))
    count = min(round(clients * fraction), most)
    if count < 2:
        return labelled, labelled[torch.zeros(0, dtype=torch.int64)]
    random = generator(seed, Stream.FINETUNE_SPLIT)
    tie = torch.rand(clients, generator=random)
    offset = float(torch.rand((), generator=random))
    missing = labelled.weights == 0
    keys = _mean_labels(labelled, groups, clients).numpy()
    order = torch.from_numpy(np.lexsort((tie.numpy(), *keys.T[::-1])))
    held = torch.zeros(clients, dtype=torch.bool)
    held[
        order[((torch.arange(count, dtype=torch.float64) + offset) * (clients / count)).long()]
    ] = True
    for column, target in enumerate(labelled.targets):
        for code in range(len(target.classes)):
            owners = groups[(labelled.values[:, column] == code) & ~missing[:, column]]
            if held[owners].all():
                held[owners] = False
    rows = held[groups]
    return labelled[(~rows).nonzero()[:, 0]], labelled[rows.nonzero()[:, 0]]


def _mean_labels(labelled: Labelled, groups: Tensor, clients: int) -> Tensor:
    """Return (clients, T) the mean label of each client, -inf if it has none."""
    known = (labelled.weights > 0).float()
    sums, counts = torch.zeros(2, clients, len(labelled.targets))
    sums.index_add_(0, groups, labelled.values * known)
    counts.index_add_(0, groups, known)
    return torch.where(counts > 0, sums / counts, -torch.inf)


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
    """The batches of an epoch: all samples in random order, in batches of nearly equal size.

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
        """Number of samples per epoch."""
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
            sequences = self.sequences.gather(part.clients, starts, lengths)
            yield LabelledBatch(sequences, part.values, part.weights, part.facts)
