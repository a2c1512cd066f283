"""Ragged batches for a user's own training loop, with seqmel's views, samplers and vocabulary."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from seqmel.api.model import Model
from seqmel.api.parts import named_parts
from seqmel.config import Config, as_config, config_with
from seqmel.core.errors import ConfigError
from seqmel.core.progress import Reporting, as_progress
from seqmel.data.samplers import OfflineHardSampler
from seqmel.data.schema import EventSchema
from seqmel.data.sequences.prepared import PreparedSequences
from seqmel.data.sources.reading import Events
from seqmel.data.vocabulary import Vocabulary
from seqmel.model import AnyModel, as_model
from seqmel.nn.encoder import SequenceEncoder
from seqmel.objectives import ViewBatch
from seqmel.objectives.objective import ViewSource
from seqmel.training.batches import (
    TrainingBatches,
    resolve_auto_options,
    resolve_clock_shifts,
    split_clients,
)
from seqmel.training.ppmi_init import new_encoder
from seqmel.training.run import model_of, prepared_in

__all__ = ["Batches", "batches"]


class Batches:
    """The batches of an epoch. Every iteration is a new epoch with new views.

    `seqmel.batches` makes one. A batch is a `ViewBatch` of S views with E events in all:

    - `batch.sequences` holds the views without padding. `columns` maps each feature to its (E,)
      values, `time` is (E,) in microseconds, and `offsets` is (S + 1,): view s is the events from
      offsets[s] up to offsets[s + 1].
    - `batch.clients` is (S,), the client of each view.
    - `batch.to(device)` moves the batch.

    Args:
        prepared: the encoded events.
        config: all options; "auto" values are resolved from the events.

    Attributes:
        schema: the role of each column of the events.
        vocabulary: category codes and numeric scales.
        config: the options, with "auto" values resolved.
        epoch: number of epochs begun.

    Raises:
        ConfigError: the sampler is "offline_hard", which needs seqmel's own training loop.
        TrainingError: fewer than two clients.

    Examples:
        >>> import seqmel
        >>> found = seqmel.batches(seqmel.generate_card_data(20).events, batch_size=8)
        >>> len(found), found.epoch, found.schema.client
        (2, 0, 'client_id')
    """

    def __init__(self, prepared: PreparedSequences, config: Config) -> None:
        self._prepared = prepared
        self._sequences = prepared.sequences.in_memory()
        self._began = time.monotonic()
        self.schema: EventSchema = prepared.schema
        self.vocabulary: Vocabulary = prepared.vocabulary
        self.config = resolve_clock_shifts(
            resolve_auto_options(config, self._sequences), self._sequences, prepared.vocabulary.time
        )
        self.epoch = 0
        self._clients = split_clients(self._sequences, self.config).training
        self._batches = TrainingBatches(
            self._sequences,
            self.vocabulary,
            self._clients,
            ViewSource(self.config),
            self.config,
            lambda: self.epoch - 1,
        )
        if isinstance(self._batches.sampler, OfflineHardSampler):
            raise ConfigError(
                "The sampler offline_hard embeds all clients as training goes on. Name another "
                "sampler."
            )

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[ViewBatch]:
        self.epoch += 1
        return iter(self._batches)

    def encoder(self) -> SequenceEncoder:
        """Create an untrained encoder for these events, as configured.

        Returns:
            The encoder; `encoder.embed(batch.sequences)` gives (S, D) vectors.
        """
        with torch.random.fork_rng():
            torch.manual_seed(self.config.seed)
            return new_encoder(self.config, self.vocabulary, self._sequences, self._clients)

    def model(self, encoder: SequenceEncoder) -> Model:
        """Wrap an encoder trained on these batches in a `Model`, to embed, save or fine-tune.

        Args:
            encoder: an encoder made by `encoder`. It is moved to the CPU and set to evaluation
                mode.

        Returns:
            The model, in memory only.
        """
        seconds = time.monotonic() - self._began
        found = model_of(
            self._prepared, self._sequences, self.config, encoder.cpu().eval(), [], seconds=seconds
        )
        return Model.of(found)


def batches(
    events: Events,
    *,
    config: Config | Mapping[str, Any] | None = None,
    model: AnyModel | None = None,
    progress: Reporting = None,
    **options: Any,
) -> Batches:
    """Make ragged batches of client views for your own training loop.

    Args:
        events: a Parquet or CSV file, a folder, a glob, a pandas, polars or Arrow table,
            `EventSequences`, or a folder of prepared sequences. They are encoded and held in
            memory.
        config: options, as a `Config` or as a dict with the names of a config file. The default
            is the config of `model`, if given.
        model: encode the events with the schema and vocabulary of this model, so that
            `model.encoder` takes the batches.
        progress: None shows progress on a terminal and in a notebook, True everywhere, False
            nowhere; or a `Progress`.
        **options: options of the config by name, such as `batch_size=64`, `sampler`, `seed`,
            `encoder`, or `views={"name": "random_slices", "count": 2}`. All clients with at least
            two events are in the batches, unless `validation_fraction` is set.

    Returns:
        The batches, to be iterated once per epoch.

    Raises:
        ConfigError: an option does not exist or is out of range.
        InputError, SchemaError: the events cannot be read, or their columns cannot be used.
        ModelError: the events were prepared with another vocabulary than that of `model`.
        TrainingError: fewer than two clients.

    Examples:
        >>> import seqmel, torch
        >>> data = seqmel.generate_card_data(20)
        >>> found = seqmel.batches(data.events, views={"count": 2}, encoder="gru", batch_size=8)
        >>> encoder = found.encoder()
        >>> optimizer = torch.optim.Adam(encoder.parameters())
        >>> loss = seqmel.losses.InfoNCELoss()
        >>> for batch in found:
        ...     vectors = torch.nn.functional.normalize(encoder.embed(batch.sequences), dim=1)
        ...     loss(vectors, batch.clients).backward()
        ...     optimizer.step()
        ...     optimizer.zero_grad()
        >>> found.model(encoder).embed(data.events).shape[0]
        20
    """
    known = None if model is None else as_model(model)
    base = known.config if known is not None else None
    given = as_config(base if config is None else _named(config))
    if config is None or "validation_fraction" not in given.training.model_fields_set:
        options = {"validation_fraction": 0.0} | options
    checked = config_with(given, named_parts(options), section="training", source="batches")
    with tempfile.TemporaryDirectory(prefix="seqmel-", ignore_cleanup_errors=True) as folder:
        return Batches(
            prepared_in(Path(folder), events, checked, known, as_progress(progress)), checked
        )


def _named(config: Config | Mapping[str, Any]) -> Config | Mapping[str, Any]:
    return named_parts(config) if isinstance(config, Mapping) else config
