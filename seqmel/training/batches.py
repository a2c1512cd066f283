"""The clients and views of each batch. They depend only on the seed and the epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from seqmel.config import Config
from seqmel.core.errors import TrainingError
from seqmel.core.random_streams import Stream, generator
from seqmel.core.units import count_words
from seqmel.data.cycles import address_cycles
from seqmel.data.samplers import SAMPLERS
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.views import RandomSlices
from seqmel.data.views.watched import watched_numbers, watched_slices
from seqmel.data.vocabulary import TimeScale, Vocabulary
from seqmel.objectives import Objective, ViewBatch
from seqmel.objectives.objective import ViewSource

__all__ = [
    "ClientSplit",
    "HeldOutBatches",
    "TrainingBatches",
    "resolve_auto_options",
    "resolve_clock_shifts",
    "split_clients",
]

# Steps aimed at, within these numbers of epochs: docs/results.md, fewer steps
_MIN_EPOCHS = 3
_STEPS = 500
_MAX_EPOCHS = 15
_ENCODER_STEPS = 1_000
_MAX_ENCODER_EPOCHS = 30
_EPOCH_CLIENTS = 100_000  # if the number of epochs is left to the data
_VALIDATION_BATCH = 256
# Recall depends on the number of clients that are compared. Beyond this it only costs time.
_MAX_VALIDATION_CLIENTS = 2_000


@dataclass(frozen=True)
class ClientSplit:
    """Positions of the training clients and of the validation clients."""

    training: Tensor
    validation: Tensor


def split_clients(sequences: EncodedSequences, config: Config) -> ClientSplit:
    """Split clients at random. Clients with fewer events than training needs are in neither part.

    Raises:
        TrainingError: Fewer than two clients are left to train on.
    """
    min_events = config.training.min_events
    able = (RandomSlices.eligible(sequences.lengths) & (sequences.lengths >= min_events)).nonzero()[
        :, 0
    ]
    mixed = able[torch.randperm(len(able), generator=generator(config.seed, Stream.SPLIT))]
    held = min(int(len(able) * config.training.validation_fraction), _MAX_VALIDATION_CLIENTS)
    held = held if held >= 2 else 0
    split = ClientSplit(training=mixed[held:].sort().values, validation=mixed[:held].sort().values)
    if len(split.training) < 2:
        raise TrainingError(
            f"Found {len(split.training)} of {count_words(len(sequences), 'client')} with the "
            f"{'two' if min_events == 2 else min_events} events that training "
            "needs. Contrastive learning compares clients: give it at least two, better some "
            "hundred."
        )
    return split


def resolve_auto_options(config: Config, sequences: EncodedSequences) -> Config:
    """Resolve the options that depend on the data: lengths of slices and epochs.

    Without a sequence encoder (the default) half as many steps are trained as with one. More than
    100,000 clients are not passed over as a whole, unless the number of epochs is given.

    The maximum length is 0.75 of the events of the median client, at least 20 and at most 200. The
    minimum is an eighth of it. If one given length would leave `last_k` no choice, the shorter is
    half of the longer.
    """
    views = config.views
    training = config.training
    median = (
        float(sequences.lengths[sequences.lengths > 0].float().median())
        if sequences.events
        else 1.0
    )
    longest = views.max_length or max(
        views.min_length or 0, min(200, max(20, round(0.75 * median)))
    )
    shortest = views.min_length or min(longest, max(5, longest // 8))
    one_given = None in (views.min_length, views.max_length)
    if one_given and views.same(shortest, longest):
        shortest, longest = (
            (shortest, 2 * shortest) if views.min_length else ((longest + 1) // 2, longest)
        )
    clients = int(len(sequences) * (1 - training.validation_fraction))
    epochs = training.epochs
    epoch_clients = training.epoch_clients
    if epochs is None and epoch_clients is None and clients > _EPOCH_CLIENTS:
        epoch_clients = _EPOCH_CLIENTS
    steps = max(1, min(clients, epoch_clients or clients) // training.batch_size)
    if epochs is None:
        aim = _STEPS
        most = _MAX_EPOCHS
        if config.encoder.name != "none":
            aim = _ENCODER_STEPS
            most = _MAX_ENCODER_EPOCHS
        epochs = min(most, max(_MIN_EPOCHS, -(-aim // steps)))
    return config.model_copy(
        update={
            "views": views.model_copy(update={"min_length": shortest, "max_length": longest}),
            "training": training.model_copy(
                update={"epochs": epochs, "epoch_clients": epoch_clients}
            ),
        }
    )


def resolve_clock_shifts(config: Config, sequences: EncodedSequences, scale: TimeScale) -> Config:
    """Resolve the cycles whose phase is shifted in views, if the config leaves them to the data."""
    if config.views.shift_clock is not None:
        return config
    shifted = address_cycles(sequences, scale, seed=config.seed)
    return config.model_copy(
        update={"views": config.views.model_copy(update={"shift_clock": shifted})}
    )


class TrainingBatches:
    """The batches of an epoch: clients as the sampler combines them, with newly drawn views.

    Clients of an incomplete last batch wait for another epoch. Fewer clients than one batch are the
    batch.

    Args:
        sequences: The sequences of all clients.
        vocabulary: The vocabulary of the sequences.
        clients: Positions of the training clients.
        objective: Draws the views: an `Objective` or a `ViewSource`.
        config: Names the sampler and the batch size.
        epoch: Returns the number of the current epoch.

    Raises:
        ConfigError: The sampler needs a column that does not exist.
    """

    def __init__(
        self,
        sequences: EncodedSequences,
        vocabulary: Vocabulary,
        clients: Tensor,
        objective: Objective | ViewSource,
        config: Config,
        epoch: Callable[[], int],
    ) -> None:
        limit = config.training.epoch_clients
        size = min(config.training.batch_size, len(clients), limit or len(clients))
        options = config.sampler.model_dump(exclude={"name"})
        self.sequences = sequences
        self.sampler = SAMPLERS[config.sampler.name](
            sequences, vocabulary, clients, size=size, clients_per_epoch=limit, **options
        )
        self.objective = objective
        self.seed = config.seed
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.sampler)

    @property
    def clients(self) -> int:
        """Number of clients per epoch."""
        return len(self.sampler) * self.sampler.size

    @property
    def all_clients(self) -> int:
        """Number of training clients."""
        return len(self.sampler.clients)

    def __iter__(self) -> Iterator[ViewBatch]:
        random = generator(self.seed, Stream.VIEWS, self.epoch())
        for clients in self.sampler.batches(random):
            yield self.objective.draw(self.sequences, clients, random)


class HeldOutBatches:
    """Two slices of each validation client. They are the same in every epoch, for comparability."""

    def __init__(self, sequences: EncodedSequences, clients: Tensor, config: Config) -> None:
        assert config.views.min_length is not None, "resolve_auto_options() comes before"
        self.sequences = sequences
        self.parts = torch.split(clients, _VALIDATION_BATCH) if len(clients) else ()
        self.config = config

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[ViewBatch]:
        random = generator(self.config.seed, Stream.VALIDATION_VIEWS)
        for clients in self.parts:
            numbers = watched_numbers(len(clients), random)
            yield ViewBatch.of(
                *watched_slices(self.sequences, clients, numbers, **self.config.views.watched)
            )
