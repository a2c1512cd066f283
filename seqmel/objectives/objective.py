"""The objective of a training: one part, or several with weights, over the same views of the same batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqmel.config import Config
from seqmel.data.sequences import EncodedSequences
from seqmel.data.views import VIEWS
from seqmel.data.views.drawn import of_clients
from seqmel.data.vocabulary import Vocabulary
from seqmel.nn.encoder import SequenceEncoder
from seqmel.objectives.coles import CoLES
from seqmel.objectives.encoded import Encoded, ViewBatch
from seqmel.objectives.event_prediction import EventPrediction
from seqmel.objectives.masked_events import MaskedEvents
from seqmel.objectives.next_event import NextEvent
from seqmel.options.objectives import (
    CoLESOptions,
    EventPredictionOptions,
    MaskedEventsOptions,
    NextEventOptions,
    ObjectiveOptions,
)
from seqmel.parallel import share

__all__ = ["Objective"]


class Objective(nn.Module):
    """Draws the views of a batch, and asks each part for its loss.

    Args:
        config: names the parts and their options; settled, so that the slices have lengths.
        vocabulary: of the events.
        encoder: that is to learn.

    Attributes:
        share_done: how much of the training is done, 0 to 1, set by whoever trains; margins that grow follow it.
    """

    def __init__(self, config: Config, vocabulary: Vocabulary, encoder: SequenceEncoder) -> None:
        super().__init__()
        assert config.views.min_length is not None, "settle() comes before"
        self.views = VIEWS[config.views.name](**config.views.model_dump(exclude={"name"}))
        self.share_done = 0.0
        self.parts = nn.ModuleDict({o.name: _part(o, config, vocabulary, encoder) for o in config.objective})
        self.weights: dict[str, float] = {options.name: options.weight for options in config.objective}

    def draw(self, sequences: EncodedSequences, clients: Tensor, generator: torch.Generator) -> ViewBatch:
        """The views of a batch of clients (positions, int64), gathered where the events lie.

        Where several processes train together, each draws those of all clients and gathers those of its share.
        """
        times = sequences.times(clients) if self.views.needs_times else None
        views = of_clients(self.views.draw(clients, sequences.lengths[clients], generator, times), share(clients))
        return ViewBatch.of(sequences.gather(views.clients, views.starts, views.lengths, views.events), views.clients)

    def losses(self, encoder: SequenceEncoder, batch: ViewBatch) -> dict[str, Tensor]:
        """The loss of each part, a float32 scalar, before its weight."""
        encoded = Encoded(encoder, batch, share_done=self.share_done)
        return {name: part(encoded) for name, part in self.parts.items()}

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum, which is what is learnt from."""
        return torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()


def _part(
    options: ObjectiveOptions, config: Config, vocabulary: Vocabulary, encoder: SequenceEncoder
) -> CoLES | EventPrediction | MaskedEvents | NextEvent:
    match options:
        case CoLESOptions():
            return CoLES(config, embedding_size=encoder.vector_size, head_size=options.head_size)
        case EventPredictionOptions(head_size=size):
            return EventPrediction(vocabulary, embedding_size=encoder.vector_size, head_size=size)
        case NextEventOptions(head_size=size, most_events=most):
            return NextEvent(vocabulary, state_size=encoder.state_size, head_size=size, most_events=most)
        case MaskedEventsOptions(head_size=size, share=share):
            return MaskedEvents(
                vocabulary, event_size=encoder.events.output_size, state_size=encoder.state_size, share=share,
                head_size=size,
            )  # fmt: skip
