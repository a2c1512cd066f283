"""The objective of a training: one part, or several with weights, over the same views of the same batch."""

from __future__ import annotations

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
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.views import VIEWS
from seqmel.data.views.drawn_views import of_clients
from seqmel.data.vocabulary import Vocabulary
from seqmel.nn.encoder import SequenceEncoder
from seqmel.objectives.classification import Classification
from seqmel.objectives.coles import CoLES
from seqmel.objectives.cpc import CPC
from seqmel.objectives.encoded import Encoded, ViewBatch
from seqmel.objectives.event_prediction import EventPrediction
from seqmel.objectives.masked_events import MaskedEvents
from seqmel.objectives.matryoshka import Matryoshka
from seqmel.objectives.next_event import NextEvent
from seqmel.objectives.next_sequence import NextSequence
from seqmel.objectives.replaced_token import ReplacedToken
from seqmel.objectives.sequence_order import SequenceOrder
from seqmel.objectives.supervised_contrastive import SupervisedContrastive

__all__ = ["Objective"]


class Objective(nn.Module):
    """Draws the views of a batch, and asks each part for its loss.

    Args:
        config: names the parts and their options; settled, so that the slices have lengths.
        vocabulary: of the events.
        encoder: that is to learn.
        codes: for each part that learns from labels, by its name, the class of each client of the set, see `Labelled`.

    Attributes:
        share_done: how much of the training is done, 0 to 1, set by whoever trains; margins that grow follow it.
    """

    def __init__(
        self,
        config: Config,
        vocabulary: Vocabulary,
        encoder: SequenceEncoder,
        *,
        codes: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        assert config.views.min_length is not None, "settle() comes before"
        self.views = VIEWS[config.views.name](**config.views.model_dump(exclude={"name"}))
        self.progress = 0.0
        self.parts = nn.ModuleDict(
            {o.name: _part(o, config, vocabulary, encoder, codes or {}) for o in config.objective}
        )
        self.weights: dict[str, float] = {options.name: options.weight for options in config.objective}

    def draw(self, sequences: EncodedSequences, clients: Tensor, generator: torch.Generator) -> ViewBatch:
        """The views of a batch of clients (positions, int64), gathered where the events lie.

        Where several processes train together, each draws those of all clients and gathers those of its share.
        """
        times = sequences.times(clients) if self.views.needs_times else None
        views = of_clients(self.views.draw(clients, sequences.lengths[clients], generator, times), local_shard(clients))
        return ViewBatch.of(sequences.gather(views.clients, views.starts, views.lengths, views.events), views.clients)

    def seed(self, number: int, device: torch.device | str) -> None:
        """Let chance among what all processes look at hang on a number alone: see `CoLES.seed`."""
        for part in self.modules():
            if isinstance(part, CoLES):
                part.seed(number, device)

    def losses(self, encoder: SequenceEncoder, batch: ViewBatch) -> dict[str, Tensor]:
        """The loss of each part, a float32 scalar, before its weight."""
        encoded = Encoded(encoder, batch, progress=self.progress)
        return {name: part(encoded) for name, part in self.parts.items()}

    def figures(self) -> dict[str, Tensor]:
        """What else is worth watching of the batch that the losses were last asked for: scalars without gradient."""
        return {name: value for part in self.parts.values() for name, value in getattr(part, "figures", {}).items()}

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum, which is what is learnt from."""
        return torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()


def _part(
    options: ObjectiveOptions,
    config: Config,
    vocabulary: Vocabulary,
    encoder: SequenceEncoder,
    codes: Mapping[str, Tensor],
) -> nn.Module:
    own = options.model_dump(exclude={"name", "weight", "labels", "target"})  # named as the arguments of the part
    states: dict[str, Any] = {"state_size": encoder.state_size}
    vectors: dict[str, Any] = {"embedding_size": encoder.vector_size}
    of_events: dict[str, Any] = {"event_size": encoder.events.output_size}
    match options:
        case CoLESOptions():
            return _nested(config, encoder, lambda size: CoLES(config, embedding_size=size, **own))
        case EventPredictionOptions():
            return _nested(config, encoder, lambda size: EventPrediction(vocabulary, embedding_size=size, **own))
        case NextEventOptions():
            return NextEvent(vocabulary, **states, **own)
        case MaskedEventsOptions():
            return MaskedEvents(vocabulary, **of_events, **states, **own)
        case CPCOptions():
            return CPC(**of_events, **states, **own)
        case ReplacedTokenOptions():
            return ReplacedToken(**states, **own)
        case SequenceOrderOptions():
            return SequenceOrder(**vectors, **own)
        case NextSequenceOptions():
            return NextSequence(**vectors, **own)
        case SupervisedContrastiveOptions():
            return SupervisedContrastive(codes[options.name], **vectors, **own)
        case ClassificationOptions():
            return Classification(codes[options.name], **vectors, **own)


def _nested(config: Config, encoder: SequenceEncoder, part: Callable[[int], nn.Module]) -> nn.Module:
    """A part that learns from vectors: of the whole vector, or of each nested size of it too."""
    if not config.matryoshka:
        return part(encoder.vector_size)
    return Matryoshka(part, (*config.matryoshka, encoder.vector_size))
