"""What a training will be: its resolved options, its sizes, and about how long it will take."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytorch_lightning as lightning

from seqmel.config import Config, as_config, to_yaml
from seqmel.core.device import with_own_defaults
from seqmel.core.progress import Reporting, as_progress, silent
from seqmel.core.units import count_words, duration_words
from seqmel.data.sources.reading import Events
from seqmel.nn.encoder import SequenceEncoder
from seqmel.training.batches import split_clients
from seqmel.training.components_fit import with_most_components
from seqmel.training.fit import fit
from seqmel.training.hooks import Hooks
from seqmel.training.run import check_options, prepared_in, resolve_all, with_epochs

__all__ = ["TrainingEstimate", "estimate_training"]

_WARM_UP = 2  # steps: the first ones allocate memory
_MOST_STEPS = 20
_MOST_SECONDS = 20.0


@dataclass(frozen=True)
class TrainingEstimate:
    """A training before it is run.

    Attributes:
        config: All options, with those resolved that depend on the data.
        clients: Clients with events.
        events: Events.
        training_clients: Clients that are trained on.
        validation_clients: Clients of the validation split.
        parameters: Parameters of the encoder.
        dimensions: Width of the vector; at most, where `pca_dim` is auto.
        steps: Steps per epoch.
        seconds_per_step: Measured on this machine, on one device.
    """

    config: Config
    clients: int
    events: int
    training_clients: int
    validation_clients: int
    parameters: int
    dimensions: int
    steps: int
    seconds_per_step: float

    @property
    def seconds(self) -> float:
        """Estimated duration of all epochs."""
        return (self.config.training.epochs or 0) * self.steps * self.seconds_per_step

    def to_yaml(self) -> str:
        """Return the options as a config file, with the sizes and the time as comments below."""
        epochs = self.config.training.epochs or 0
        about = "at most" if self.config.training.patience else "about"
        step = f"{1000 * self.seconds_per_step:,.0f} ms"
        return (
            f"{to_yaml(self.config)}# {count_words(self.events, 'event')} of "
            f"{count_words(self.clients, 'client')}: {self.training_clients:,} to train on, "
            f"{self.validation_clients:,} for validation\n# "
            f"{count_words(self.parameters, 'parameter')}, "
            f"{count_words(self.dimensions, 'dimension')} per vector\n# "
            f"{count_words(epochs, 'epoch')} of {count_words(self.steps, 'step')} at {step}: "
            f"{about} {duration_words(self.seconds)}\n"
        )


@with_own_defaults
def estimate_training(
    events: Events,
    *,
    config: Config | Mapping[str, Any] | None = None,
    progress: Reporting = None,
) -> TrainingEstimate:
    """Resolve all options of a training, and time its first steps. Nothing is kept.

    The events are read and encoded into a temporary folder as `train` does; prepared sequences
    skip this. The time is that of training steps alone.

    Args:
        events: See `open_events`, or a folder of prepared sequences.
        config: All options, as a Config or a mapping like a config file.
        progress: Where to report the preparation.

    Raises:
        SeqmelError: The input or the options are invalid, as for `train`.
    """
    config = as_config(config)
    check_options(config)
    with TemporaryDirectory(prefix="seqmel-", ignore_cleanup_errors=True) as folder:
        prepared = prepared_in(Path(folder), events, config, None, as_progress(progress))
        sequences = prepared.sequences
        vocabulary = prepared.vocabulary
        resolved = resolve_all(config, sequences, vocabulary.time)
        split = split_clients(sequences, resolved)
        watch = _Stopwatch()
        timed = with_epochs(resolved, max(1, resolved.training.epochs or 0))
        with contextlib.suppress(_Measured):
            fit(sequences, vocabulary, timed, hooks=Hooks(callbacks=[watch]), progress=silent)
        encoder = watch.encoder
        resolved = with_most_components(resolved, len(sequences))
        encoder.components = encoder.new_components(resolved)
        return TrainingEstimate(
            config=resolved,
            clients=len(sequences),
            events=sequences.events,
            training_clients=len(split.training),
            validation_clients=len(split.validation),
            parameters=sum(weights.numel() for weights in encoder.parameters()),
            dimensions=encoder.output_size,
            steps=watch.steps,
            seconds_per_step=watch.seconds_per_step,
        )


class _Measured(Exception):  # noqa: N818
    """Ends the training when enough steps are measured."""


class _Stopwatch(lightning.Callback):
    """Times training steps and ends the training early."""

    def __init__(self) -> None:
        self.encoder: SequenceEncoder
        self.steps = 0
        self._ends: list[float] = []

    @property
    def seconds_per_step(self) -> float:
        """The median from step to step, without the warm-up where there are steps beyond it."""
        seconds = [end - begin for begin, end in itertools.pairwise(self._ends)]
        return statistics.median(seconds[_WARM_UP:] or seconds)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Note the encoder and the number of steps."""
        self.encoder = pl_module.encoder
        self.steps = int(trainer.num_training_batches)
        self._ends = [time.monotonic()]

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        """Note the time, and stop after some steps or seconds."""
        float(outputs["loss"])  # waits for the device
        self._ends.append(time.monotonic())
        long = self._ends[-1] - self._ends[0] > _MOST_SECONDS
        if len(self._ends) > _MOST_STEPS or long:
            raise _Measured
