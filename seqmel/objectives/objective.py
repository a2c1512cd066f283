"""The training objective: a weighted sum of parts over the same views of a batch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from seqmel.config import Config
from seqmel.config.options.objectives import (
    ClassificationOptions,
    CoLESOptions,
    CPCOptions,
    EventPredictionOptions,
    MaskedEventsOptions,
    NextEventOptions,
    NextSequenceOptions,
    ObjectiveOptions,
    ReplacedTokenOptions,
    SequenceOrderOptions,
    SupervisedContrastiveOptions,
)
from seqmel.core.distributed import local_shard
from seqmel.data.cycles import drawn_shifts
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.views import VIEWS
from seqmel.data.views.drawn_views import select_clients
from seqmel.data.vocabulary import Vocabulary
from seqmel.nn.encoder import SequenceEncoder
from seqmel.objectives.classification import Classification
from seqmel.objectives.coles import CoLES
from seqmel.objectives.cpc import CPC
from seqmel.objectives.encoded import Encoded, ViewBatch
from seqmel.objectives.event_prediction import EventPrediction
from seqmel.objectives.look_alikes import ClientTraits
from seqmel.objectives.masked_events import MaskedEvents
from seqmel.objectives.matryoshka import Matryoshka
from seqmel.objectives.next_event import NextEvent
from seqmel.objectives.next_sequence import NextSequence
from seqmel.objectives.own import OWN_OBJECTIVES, OwnObjective
from seqmel.objectives.replaced_token import ReplacedToken
from seqmel.objectives.sequence_order import SequenceOrder
from seqmel.objectives.supervised_contrastive import SupervisedContrastive

__all__ = ["Objective", "ViewSource"]


class ViewSource:
    """Draws the views of batches of clients, and gathers their events.

    Args:
        config: names the views and their options; settled, so that the slices have lengths.
    """

    def __init__(self, config: Config) -> None:
        assert config.views.min_length is not None, "resolve_auto_options() comes before"
        self.views = VIEWS[config.views.name](
            **config.views.model_dump(exclude={"name", "shift_clock"})
        )
        self.shifted = config.views.shift_clock or ()

    def draw(
        self, sequences: EncodedSequences, clients: Tensor, generator: torch.Generator
    ) -> ViewBatch:
        """Draw and gather the views of a batch of clients (positions, int64).

        In distributed training each rank draws the views of all clients and gathers those of its
        shard.
        """
        times = sequences.times(clients) if self.views.needs_times else None
        drawn = self.views.draw(clients, sequences.lengths[clients], generator, times)
        own = local_shard(clients)
        views = select_clients(drawn, own)
        batch = sequences.gather(views.clients, views.starts, views.lengths, views.events)
        if self.shifted:
            shifts = drawn_shifts(len(drawn.clients), self.shifted, generator)
            batch = batch.with_shifted_clock(shifts[torch.isin(drawn.clients, own)])
        return ViewBatch.of(batch, views.clients)


class Objective(nn.Module):
    """Draws the views of a batch and computes the loss of each part.

    Args:
        config: Names the parts and their options, with all automatic options resolved.
        vocabulary: The vocabulary of the events.
        encoder: The encoder that is trained.
        codes: The class of each client for each part that learns from labels, see `LabelledPart`.
        traits: What is known of the clients, to leave look-alikes out, see `LookAlikes`.

    Attributes:
        progress: Training progress in [0, 1], set by the training loop. Annealed margins use it.
    """

    def __init__(
        self,
        config: Config,
        vocabulary: Vocabulary,
        encoder: SequenceEncoder,
        *,
        codes: Mapping[str, Tensor] | None = None,
        traits: ClientTraits | None = None,
    ) -> None:
        super().__init__()
        self.source = ViewSource(config)
        self.progress = 0.0
        self.events_at_a_time = config.training.events_at_a_time
        self.parts = nn.ModuleDict(
            {
                o.name: _part(o, config, vocabulary, encoder, codes or {}, traits)
                for o in config.objective
            }
        )
        self.weights: dict[str, float] = {
            options.name: options.weight for options in config.objective
        }

    def draw(
        self, sequences: EncodedSequences, clients: Tensor, generator: torch.Generator
    ) -> ViewBatch:
        """Draw and gather the views of a batch of clients, see `ViewSource`."""
        return self.source.draw(sequences, clients, generator)

    def seed(self, number: int, device: torch.device | str) -> None:
        """Seed the random mining identically on all ranks, see `CoLES.seed`."""
        for part in self.modules():
            if isinstance(part, CoLES):
                part.seed(number, device)

    def losses(self, encoder: SequenceEncoder, batch: ViewBatch) -> dict[str, Tensor]:
        """Compute the loss of each part, a float32 scalar, before its weight is applied."""
        encoded = Encoded(
            encoder, batch, progress=self.progress, events_at_a_time=self.events_at_a_time
        )
        return {name: part(encoded) for name, part in self.parts.items()}

    def statistics(self) -> dict[str, Tensor]:
        """Return the statistics of the last batch: scalars without gradient."""
        return {
            name: value
            for part in self.parts.values()
            for name, value in getattr(part, "statistics", {}).items()
        }

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """Compute the weighted sum of the losses."""
        return torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()


def _part(
    options: ObjectiveOptions,
    config: Config,
    vocabulary: Vocabulary,
    encoder: SequenceEncoder,
    codes: Mapping[str, Tensor],
    traits: ClientTraits | None,
) -> nn.Module:
    # The other options are named like the arguments of the part.
    own = options.model_dump(exclude={"name", "weight", "labels", "target"})
    states: dict[str, Any] = {"state_size": encoder.state_size}
    vectors: dict[str, Any] = {"embedding_size": encoder.vector_size}
    shifted = config.views.shift_clock or ()
    of_events: dict[str, Any] = {"event_size": encoder.events.output_size}
    match options:
        case CoLESOptions():
            return _nested(
                config,
                encoder,
                lambda size: CoLES(config, embedding_size=size, traits=traits, **own),
            )
        case EventPredictionOptions():
            return _nested(
                config,
                encoder,
                lambda size: EventPrediction(
                    vocabulary, embedding_size=size, without=shifted, **own
                ),
            )
        case NextEventOptions():
            return NextEvent(vocabulary, **states, **own)
        case MaskedEventsOptions():
            return MaskedEvents(vocabulary, **of_events, **states, **own)
        case CPCOptions():
            return CPC(**of_events, **states, **own)
        case ReplacedTokenOptions():
            return ReplacedToken(**states, **own, source=vocabulary.source)
        case SequenceOrderOptions():
            return SequenceOrder(**vectors, **own)
        case NextSequenceOptions():
            return NextSequence(**vectors, **own)
        case SupervisedContrastiveOptions():
            return SupervisedContrastive(codes[options.name], **vectors, **own)
        case ClassificationOptions():
            return Classification(codes[options.name], **vectors, **own)
        case _:
            return _own_part(OWN_OBJECTIVES[options.name], config, vocabulary, encoder, own)


def _own_part(
    kind: Callable[..., nn.Module],
    config: Config,
    vocabulary: Vocabulary,
    encoder: SequenceEncoder,
    options: Mapping[str, Any],
) -> nn.Module:
    """A registered part, given its options and those of the sizes that its constructor asks for."""
    asked = inspect.signature(kind).parameters
    sizes = {
        "state_size": encoder.state_size,
        "event_size": encoder.events.output_size,
        "vocabulary": vocabulary,
    }
    given = {name: value for name, value in sizes.items() if name in asked} | dict(options)
    if "embedding_size" not in asked:
        return OwnObjective(kind(**given))
    return _nested(config, encoder, lambda size: OwnObjective(kind(embedding_size=size, **given)))


def _nested(
    config: Config, encoder: SequenceEncoder, part: Callable[[int], nn.Module]
) -> nn.Module:
    """Build a part that learns from vectors: once, or for each nested size."""
    if not config.matryoshka:
        return part(encoder.vector_size)
    return Matryoshka(part, (*config.matryoshka, encoder.vector_size))
