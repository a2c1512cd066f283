"""The whole encoder: event encoder -> GRU, LSTM, Transformer or nothing -> pooling, one vector a sequence."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seqmel.config import Config
from seqmel.config.options.network import NoEncoderOptions, RecurrentOptions, TransformerOptions
from seqmel.core.errors import ConfigError, ModelError
from seqmel.data.sequences.batch import SequenceBatch
from seqmel.data.vocabulary import Vocabulary
from seqmel.nn.by_category import ByCategory, column_to_pool_by
from seqmel.nn.events import EventEncoder
from seqmel.nn.pooling import Pooling, Summary, side_by_side
from seqmel.nn.profile import PROFILE_SIZE, first_and_last, profile
from seqmel.nn.recurrent import Recurrent
from seqmel.nn.transformer import Transformer

__all__ = ["SequenceEncoder"]


class SequenceEncoder(nn.Module):
    """From a ragged batch to vectors; everything that is kept of a training, besides the vocabulary.

    The sequence encoder sees the encoded events; pooling sees both, side by side, so that what holds of single events
    (which kinds, which amounts) need not pass through the recurrence to be counted.
    """

    def __init__(self, config: Config, vocabulary: Vocabulary) -> None:
        super().__init__()
        options = config.events
        self.events = EventEncoder(
            vocabulary,
            hidden_size=options.hidden_size,
            layers=options.layers,
            dropout=options.dropout,
            category_dropout=options.category_dropout,
            noise=options.noise,
        )
        self.sequence = _sequence_encoder(config, options.hidden_size)
        width = options.hidden_size + (self.sequence.output_size if self.sequence is not None else 0)
        self.state_size = width
        self.pooling = Pooling(config.pooling, size=width, by_category=_by_category(config, vocabulary, width))
        pooled = self.pooling.output_size
        self.vector_size = config.embedding_dim or pooled
        projects = self.vector_size != pooled or bool(config.matryoshka)
        self.project = nn.Linear(pooled, self.vector_size) if projects else None
        self.end_us = vocabulary.time.end_us if config.profile and config.embedding_dim is None else None
        self.output_size = self.vector_size + (PROFILE_SIZE if self.end_us is not None else 0)

    def states(self, batch: SequenceBatch, *, hidden: Tensor | None = None, stand_in: Tensor | None = None) -> Tensor:
        """(E, W): what is known of and after each event.

        Args:
            batch: the sequences.
            hidden, stand_in: see `EventEncoder.forward`.
        """
        return side_by_side(self._parts(batch, hidden=hidden, stand_in=stand_in))

    def _parts(
        self, batch: SequenceBatch, *, hidden: Tensor | None = None, stand_in: Tensor | None = None
    ) -> list[Tensor]:
        """The columns of the states: the encoded events, and what the sequence encoder makes of them."""
        events = self.events(batch, hidden=hidden, stand_in=stand_in)
        return [events] if self.sequence is None else [events, self.sequence(events, batch)]

    def pool(self, states: Tensor | Sequence[Tensor], batch: SequenceBatch) -> Tensor:
        """(B, vector_size): what is learnt of the vectors that belong to these states."""
        pooled = self.pooling(states, batch)
        return pooled if self.project is None else self.project(pooled)

    def learnt(self, batch: SequenceBatch) -> Tensor:
        """(B, vector_size): what is learnt of the vector of each sequence, before any head and without a profile."""
        return self.pool(self._parts(batch), batch)

    def embed(self, batch: SequenceBatch) -> Tensor:
        """(B, output_size): the vector of each sequence: what is learnt of it, then the profile, if it has one."""
        return self._beside_profile(self.learnt(batch), batch.offsets.diff(), *first_and_last(batch), batch.now)

    def _beside_profile(
        self, vectors: Tensor, count: Tensor, first: Tensor, last: Tensor, now: Tensor | None
    ) -> Tensor:
        if self.end_us is None:
            return vectors
        moment = torch.full_like(first, self.end_us) if now is None else now
        return torch.cat([vectors, profile(count, first, last, moment).to(vectors.dtype)], dim=1)

    forward = embed

    def advance(self, batch: SequenceBatch, state: Summary | None = None) -> Summary:
        """What is kept of B clients after these events; all that `read` and the next `advance` need.

        Args:
            batch: the events of B clients, `previous_time` given where there is a state.
            state: what is kept of the earlier events of the same clients; None where these are the first.

        Raises:
            ModelError: the encoder is a Transformer, which has to see all events at once.
        """
        events = self.events(batch)
        if isinstance(self.sequence, Transformer):
            raise ModelError(
                "The model's encoder is a transformer: it has to see all events of a client at once, so there is no state"
                " to go on from. Train a model with encoder none, gru or lstm, or embed all events."
            )
        if self.sequence is None:
            new = self.pooling.summarise(events, batch)
            return new if state is None else self.pooling.merge(state, new)
        memory = events.new_zeros(len(batch), self.sequence.memory_size) if state is None else state["memory"]
        states, memory = self.sequence.advance(events, batch, memory)
        new = self.pooling.summarise([events, states], batch)
        return (new if state is None else self.pooling.merge(state, new)) | {"memory": memory}

    def read(self, state: Summary, first: Tensor, last: Tensor) -> Tensor:
        """(B, output_size): the vectors of the clients of a state.

        Args:
            state: what `advance` gave.
            first, last: (B,) int64 microseconds, the times of the first and last event of all; 0 where there is none.
        """
        pooled = self.pooling.read(state)
        vectors = pooled if self.project is None else self.project(pooled)
        return self._beside_profile(vectors, state["count"][:, 0], first, last, None)


def _by_category(config: Config, vocabulary: Vocabulary, size: int) -> ByCategory | None:
    """None where it is not asked for, or beside other poolings where nothing is categorical."""
    if "by_category" not in config.pooling:
        return None
    column = column_to_pool_by(config.by_category, vocabulary)
    if column is None and len(config.pooling) == 1:
        raise ConfigError(
            "pooling is by_category alone, and the events have no categorical column. Name another pooling."
        )
    if column is None:
        return None
    codes = vocabulary.categorical[column].size
    return ByCategory(column, codes, input_size=size, options=config.by_category)


def _sequence_encoder(config: Config, input_size: int) -> Recurrent | Transformer | None:
    match config.encoder:
        case RecurrentOptions(name=kind, hidden_size=size, layers=layers, dropout=dropout):
            return Recurrent(kind, input_size, hidden_size=size, layers=layers, dropout=dropout)
        case TransformerOptions(hidden_size=size, layers=layers, heads=heads, dropout=dropout, causal=causal):
            return Transformer(input_size, hidden_size=size, layers=layers, heads=heads, dropout=dropout, causal=causal)
        case NoEncoderOptions():
            return None
