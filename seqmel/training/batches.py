"""What a training sees: which clients, in which order, a batch at a time. All of it follows from the seed and the epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from seqmel.config import Config
from seqmel.core.errors import TrainingError
from seqmel.core.random_streams import Stream, generator
from seqmel.data.cycles import address_cycles
from seqmel.data.samplers import SAMPLERS
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.views import RandomSlices
from seqmel.data.views.watched import watched_numbers, watched_slices
from seqmel.data.vocabulary import TimeScale, Vocabulary
from seqmel.objectives import Objective, ViewBatch

__all__ = ["HeldOutBatches", "Split", "TrainingBatches", "settle", "settle_clock", "split_clients"]

_STEPS, _LEAST_EPOCHS, _MOST_EPOCHS = 1_000, 3, 30
_VALIDATION_BATCH = 256
_MOST_VALIDATION_CLIENTS = 2_000  # recall depends on the size of the gallery; beyond this more clients only cost time


@dataclass(frozen=True)
class Split:
    """Positions of the clients that are trained on, and of those held out to watch the training."""

    training: Tensor
    validation: Tensor


def split_clients(sequences: EncodedSequences, config: Config) -> Split:
    """Hold out a random share of the clients; one with too few events, for two views or as asked, is in neither part.

    Raises:
        TrainingError: fewer than two clients are left to train on.
    """
    least = config.training.min_events
    able = (RandomSlices.eligible(sequences.lengths) & (sequences.lengths >= least)).nonzero()[:, 0]
    mixed = able[torch.randperm(len(able), generator=generator(config.seed, Stream.SPLIT))]
    held = min(int(len(able) * config.training.validation_fraction), _MOST_VALIDATION_CLIENTS)
    held = held if held >= 2 else 0
    split = Split(training=mixed[held:].sort().values, validation=mixed[:held].sort().values)
    if len(split.training) < 2:
        raise TrainingError(
            f"Only {len(split.training)} of {len(sequences)} clients have the {'two' if least == 2 else least} events that training needs."
            " Contrastive learning compares clients: give it at least two, better some hundred."
        )
    return split


def settle(config: Config, sequences: EncodedSequences) -> Config:
    """The config with what was left to the data filled in: the slices' lengths and the number of epochs.

    Slices have up to 0.75 of the median client's events, at least 20 and at most 200, and from an eighth of that on. Where one
    length that is given would leave last_k no other, the shorter is half of the longer.
    """
    views, training = config.views, config.training
    median = float(sequences.lengths[sequences.lengths > 0].float().median()) if sequences.events else 1.0
    longest = views.max_length or max(views.min_length or 0, min(200, max(20, round(0.75 * median))))
    shortest = views.min_length or min(longest, max(5, longest // 8))
    one_given = None in (views.min_length, views.max_length)
    if views.name == "last_k" and one_given and views.same(shortest, longest):
        shortest, longest = (shortest, 2 * shortest) if views.min_length else ((longest + 1) // 2, longest)
    steps = max(1, int(len(sequences) * (1 - training.validation_fraction)) // training.batch_size)
    epochs = min(_MOST_EPOCHS, max(_LEAST_EPOCHS, -(-_STEPS // steps))) if training.epochs is None else training.epochs
    return config.model_copy(
        update={
            "views": views.model_copy(update={"min_length": shortest, "max_length": longest}),
            "training": training.model_copy(update={"epochs": epochs}),
        }
    )


def settle_clock(config: Config, sequences: EncodedSequences, scale: TimeScale) -> Config:
    """The config with the cycles filled in by which views are shifted, where that was left to the data."""
    if config.views.shift_clock is not None:
        return config
    shifted = address_cycles(sequences, scale, seed=config.seed)
    return config.model_copy(update={"views": config.views.model_copy(update={"shift_clock": shifted})})


class TrainingBatches:
    """The batches of an epoch: `batch_size` clients at a time as the sampler puts them together, views drawn afresh.

    Clients that do not fill a last batch come in another epoch; where they are fewer than one batch, they are the batch.

    Args:
        sequences, vocabulary: of all clients, and what they are encoded with.
        clients: positions of those that are trained on.
        objective: draws the views.
        config: names the sampler and the size of a batch.
        epoch: tells the number of the epoch.

    Raises:
        ConfigError: a sampler that needs a column which is not there.
    """

    def __init__(
        self,
        sequences: EncodedSequences,
        vocabulary: Vocabulary,
        clients: Tensor,
        objective: Objective,
        config: Config,
        epoch: Callable[[], int],
    ) -> None:
        size, options = min(config.training.batch_size, len(clients)), config.sampler.model_dump(exclude={"name"})
        self.sequences = sequences
        self.sampler = SAMPLERS[config.sampler.name](sequences, vocabulary, clients, size=size, **options)
        self.objective = objective
        self.seed = config.seed
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.sampler)

    @property
    def clients(self) -> int:
        """How many an epoch goes through."""
        return len(self.sampler) * self.sampler.size

    def __iter__(self) -> Iterator[ViewBatch]:
        random = generator(self.seed, Stream.VIEWS, self.epoch())
        for clients in self.sampler.batches(random):
            yield self.objective.draw(self.sequences, clients, random)


class HeldOutBatches:
    """Two slices of each held-out client, the same after every epoch, so that epochs can be compared."""

    def __init__(self, sequences: EncodedSequences, clients: Tensor, config: Config) -> None:
        assert config.views.min_length is not None, "settle() comes before"
        self.sequences = sequences
        self.parts = torch.split(clients, _VALIDATION_BATCH) if len(clients) else ()
        self.config = config

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[ViewBatch]:
        random = generator(self.config.seed, Stream.VALIDATION_VIEWS)
        for clients in self.parts:
            numbers = watched_numbers(len(clients), random)
            yield ViewBatch.of(*watched_slices(self.sequences, clients, numbers, **self.config.views.watched))
