"""The whole encoder: event encoder -> GRU, LSTM, Transformer or nothing -> pooling.

It gives one vector per sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from seqmel.config import Config
from seqmel.config.options.network import (
    BY_CATEGORY,
    LAST_EVENT,
    RECENT_POOLINGS,
    NoEncoderOptions,
    RecurrentOptions,
)
from seqmel.core.errors import ConfigError, ModelError
from seqmel.core.own_code import name_own_code
from seqmel.data.sequences.batch import SequenceBatch
from seqmel.data.vocabulary import Vocabulary
from seqmel.nn.by_category import ByCategory, category_slots, column_to_pool_by
from seqmel.nn.components import PrincipalComponents
from seqmel.nn.encoders import ENCODERS
from seqmel.nn.encoders.recurrent import Recurrent
from seqmel.nn.events import EventEncoder
from seqmel.nn.pooling import Pooling, Summary, side_by_side
from seqmel.nn.profile import PROFILE_SIZE, first_and_last, profile
from seqmel.nn.recent import SLOTS, RecentEvents
from seqmel.nn.sources import SourceKinds

__all__ = ["LAST_EVENT_DIM", "SequenceEncoder"]

LAST_EVENT_DIM = 16
"""Number of principal components of the last event."""


class SequenceEncoder(nn.Module):
    """Maps a ragged batch to vectors. With the vocabulary, it is all that training produces.

    It is a torch module: `model.encoder` is one, and `encode(batch)` takes the batches of
    `seqmel.batches`. `embed(batch)` adds recent events and recency features where the config has
    them.

    Pooling sees both the encoded events and the states of the sequence encoder. So single events
    (their categories and amounts) need not pass through the recurrence to be counted. With a
    separate state pooling (`encoder.pooling`), `pooling` sees only the events, and the pooled
    states are appended. Objectives that compare vectors (`pool`) see them only through a
    projection.

    Attributes:
        state_size: width of the states, including the encoded events.
        vector_size: width of `encode`.
        pooled_size: width of the pooled states, including those with a pooling of their own.
        last_event: the encoded last event, beside the pooled states; None without this pooling.
        components: principal components of the pooled states, without those of `category_mean`,
            and those of the last event. They are fitted after training. None during training, and
            for narrow states.
        output_size: width of `embed`, including recent events and recency features.
    """

    def __init__(self, config: Config, vocabulary: Vocabulary) -> None:
        super().__init__()
        options = config.event_encoder
        self.events = EventEncoder(
            vocabulary,
            hidden_size=options.hidden_size,
            layers=options.layers,
            dropout=options.dropout,
            category_dropout=options.category_dropout,
            noise=options.noise,
        )
        self.sequence = _sequence_encoder(config, options.hidden_size)
        states = self.sequence.output_size if self.sequence is not None else 0
        self.state_size = options.hidden_size + states
        width = options.hidden_size if config.state_pooling else self.state_size
        names = [name for name in config.pooling if name not in RECENT_POOLINGS]
        self.pooling = Pooling(
            names, size=width, by_category=_by_category(config, vocabulary, width)
        )
        self.state_pooling = (
            Pooling(config.state_pooling, size=states) if config.state_pooling else None
        )
        of_states = self.state_pooling.output_size if self.state_pooling is not None else 0
        joined = config.embedding_dim is not None
        pooled = self.pooling.output_size + (of_states if joined else 0)
        self.vector_size = config.embedding_dim or pooled
        projects = (
            self.vector_size != pooled or bool(config.matryoshka) or (joined and bool(of_states))
        )
        self.project = nn.Linear(pooled, self.vector_size) if projects else None
        self.end_us = (
            vocabulary.time.end_us
            if config.recency_features and config.embedding_dim is None
            else None
        )
        self.recent = _recent(config, vocabulary)
        shows_last = LAST_EVENT in config.pooling and not joined
        self.last_event = Pooling(["last"], size=options.hidden_size) if shows_last else None
        self.pooled_size = self.vector_size + (0 if joined else of_states)
        # What is pooled by category stays as it is: its few numbers per category are distinct.
        begin, size = self.pooling.columns_by_category
        self.by_category_columns = (begin, begin + size)
        self.components = self.new_components(config)

    def new_components(self, config: Config) -> PrincipalComponents | None:
        """Return components to fit, or None where the config or the width asks for none."""
        begin, end = self.by_category_columns
        width = self.pooled_size - (end - begin)
        if config.embedding_dim is not None or not isinstance(config.pca_dim, int):
            return None
        if config.pca_dim >= width:
            return None
        last_size = self.last_event.output_size if self.last_event is not None else 0
        last = (
            PrincipalComponents(last_size, LAST_EVENT_DIM) if last_size > LAST_EVENT_DIM else None
        )
        return PrincipalComponents(width, config.pca_dim, of_last_event=last)

    @property
    def output_size(self) -> int:
        """Width of the vector."""
        size = self.pooled_size
        size += self.last_event.output_size if self.last_event is not None else 0
        if self.components is not None:
            last = self.components.of_last_event
            size += self.components.dim - self.components.size
            size += last.dim - last.size if last is not None else 0
        size += self.recent.output_size if self.recent is not None else 0
        return size + (PROFILE_SIZE if self.end_us is not None else 0)

    def states(
        self,
        batch: SequenceBatch,
        *,
        masked: Tensor | None = None,
        mask_embedding: Tensor | None = None,
    ) -> Tensor:
        """Return the states: (E, W), one per event, from the event and those before it.

        A Transformer that is not causal also sees the later events.

        Args:
            batch: the sequences.
            masked: (E,) bool, events whose features are hidden; None for none.
            mask_embedding: the vector in their place, as in `EventEncoder.forward`.
        """
        return side_by_side(
            self.parts(self.events(batch, masked=masked, mask_embedding=mask_embedding), batch)
        )

    def parts(self, events: Tensor, batch: SequenceBatch) -> list[Tensor]:
        """Return the parts of the states: encoded events, output of the sequence encoder."""
        if self.sequence is None:
            return [events]
        with name_own_code(self.sequence, "encoder"):
            states = self.sequence(events, batch)
        if not isinstance(states, Tensor):
            raise ConfigError(
                f"The encoder {type(self.sequence).__name__} returned a {type(states).__name__}. "
                "Expected a tensor of states, one per event."
            )
        if states.shape != (len(events), self.sequence.output_size):
            raise ConfigError(
                f"The encoder {type(self.sequence).__name__} returned states of shape "
                f"{tuple(states.shape)}. Expected ({len(events)}, {self.sequence.output_size}): "
                "one per event, of its output_size."
            )
        return [events, states]

    @property
    def compares_events_alone(self) -> bool:
        """Whether what objectives see of a vector does not depend on the sequence encoder."""
        return self.sequence is None or (self.state_pooling is not None and self.project is None)

    def pool(self, parts: Sequence[Tensor], batch: SequenceBatch) -> Tensor:
        """Pool states to what objectives see of the vectors: (B, vector_size).

        Args:
            parts: the states, see `parts`; encoded events suffice if `compares_events_alone`.
            batch: the batch of the states.
        """
        if self.state_pooling is None:
            pooled = self.pooling(parts, batch)
        else:
            pooled = self.pooling(parts[0], batch)
            if self.project is not None:
                pooled = torch.cat([pooled, self.state_pooling(parts[1], batch)], dim=1)
        return pooled if self.project is None else self.project(pooled)

    def encode(self, batch: SequenceBatch) -> Tensor:
        """Encode sequences to the trainable part of their vectors: (B, vector_size).

        This is what objectives compare. `embed` returns the whole vectors.

        Args:
            batch: B sequences encoded with the vocabulary of the model, such as the `sequences` of
                a batch of `seqmel.batches(events, model=model)`, on the device of the module.

        Returns:
            (B, vector_size) floats, with gradient.

        Examples:
            >>> import seqmel
            >>> data = seqmel.generate_card_data(20)
            >>> model = seqmel.train(data.events, embedding_dim=8, epochs=1, batch_size=8)
            >>> batch = next(iter(seqmel.batches(data.events, model=model)))
            >>> vectors = model.encoder.encode(batch.sequences)
            >>> vectors.shape == (len(batch.clients), 8)
            True
        """
        events = self.events(batch)
        return self.pool(
            [events] if self.compares_events_alone else self.parts(events, batch), batch
        )

    def embed(self, batch: SequenceBatch) -> Tensor:
        """Return the embedding of each sequence: (B, output_size).

        It is `encode`, then separately pooled states, the last event, recent events and recency
        features, where the config has them.
        """
        parts = self.parts(self.events(batch), batch)
        vectors = self.pool(parts, batch)
        if self.state_pooling is not None and self.project is None:
            vectors = torch.cat([vectors, self.state_pooling(parts[1], batch)], dim=1)
        if self.last_event is not None:
            vectors = torch.cat([vectors, self.last_event(parts[0], batch)], dim=1)
        vectors = self._compressed(vectors)
        if self.recent is not None:
            vectors = torch.cat([vectors, self.recent(batch).to(vectors.dtype)], dim=1)
        return self._beside_profile(vectors, batch.counts, *first_and_last(batch), batch.now)

    def without_categories(self, vectors: Tensor) -> Tensor:
        """Return the columns of (B, pooled_size) that `components` are fitted to."""
        begin, end = self.by_category_columns
        return torch.cat([vectors[:, :begin], vectors[:, end : self.pooled_size]], dim=1)

    def last_events(self, vectors: Tensor) -> Tensor:
        """Return the columns of the last event, which follow those of the pooled states."""
        size = self.last_event.output_size if self.last_event is not None else 0
        return vectors[:, self.pooled_size : self.pooled_size + size]

    def _compressed(self, vectors: Tensor) -> Tensor:
        if self.components is None:
            return vectors
        begin, end = self.by_category_columns
        found = self.components(self.without_categories(vectors)).to(vectors.dtype)
        last = self.last_events(vectors)
        if self.components.of_last_event is not None:
            last = self.components.of_last_event(last).to(vectors.dtype)
        return torch.cat([found, vectors[:, begin:end], last], dim=1)

    def _beside_profile(
        self, vectors: Tensor, count: Tensor, first: Tensor, last: Tensor, now: Tensor | None
    ) -> Tensor:
        if self.end_us is None:
            return vectors
        moment = torch.full_like(first, self.end_us) if now is None else now
        return torch.cat([vectors, profile(count, first, last, moment).to(vectors.dtype)], dim=1)

    forward = embed

    def advance(self, batch: SequenceBatch, state: Summary | None = None) -> Summary:
        """Return the state of B clients after these events, for `read` and the next `advance`.

        Args:
            batch: the events of B clients, with `previous_time` if there is a state.
            state: the state after the earlier events of the same clients; None if there are none.

        Raises:
            ModelError: the encoder is a Transformer, which has to see all events at once.
        """
        events = self.events(batch)
        if not self.has_states:
            raise ModelError(
                f"The model's encoder is a {type(self.sequence).__name__.lower()}: it has to see "
                "all events of a client at once, so there is no state to continue from. Train a "
                "model with encoder none, gru or lstm, or embed all events."
            )
        recent = {} if self.recent is None else self.recent.summarise(batch)
        if self.last_event is not None:
            recent |= _named_apart(_LAST_EVENT, self.last_event.summarise(events, batch))
        if self.sequence is None:
            return self._merged(state, self.pooling.summarise(events, batch) | recent)
        memory = (
            events.new_zeros(len(batch), self.sequence.memory_size)
            if state is None
            else state["memory"]
        )
        states, memory = self.sequence.advance(events, batch, memory)
        if self.state_pooling is None:
            new = self.pooling.summarise([events, states], batch)
        else:
            new = self.pooling.summarise(events, batch) | _named_apart(
                _STATES, self.state_pooling.summarise(states, batch)
            )
        return self._merged(state, new | recent) | {"memory": memory}

    def _merged(self, earlier: Summary | None, later: Summary) -> Summary:
        if earlier is None:
            return later
        merged = self.pooling.merge(earlier, later)
        if self.state_pooling is not None:
            merged |= _merged_apart(_STATES, self.state_pooling, earlier, later)
        if self.last_event is not None:
            merged |= _merged_apart(_LAST_EVENT, self.last_event, earlier, later)
        if self.recent is not None:
            merged |= self.recent.merge(earlier, later, earlier["count"], later["count"])
        return merged

    @property
    def has_states(self) -> bool:
        """Whether `advance` can continue from earlier events."""
        return self.sequence is None or hasattr(self.sequence, "advance")

    def read(
        self, state: Summary, first: Tensor, last: Tensor, now: Tensor | None = None
    ) -> Tensor:
        """Return the vectors of B clients from their state: (B, output_size).

        Args:
            state: the result of `advance`.
            first: (B,) int64 microseconds, the time of the first event; 0 without events.
            last: (B,) int64 microseconds, the time of the last event; 0 without events.
            now: (B,) int64 microseconds, the time as of which each client is embedded; None is the
                end of the training data.
        """
        pooled = self.pooling.read(state)
        if self.state_pooling is not None:
            pooled = torch.cat([pooled, self.state_pooling.read(_apart(_STATES, state))], dim=1)
        vectors = pooled if self.project is None else self.project(pooled)
        if self.last_event is not None:
            shown = self.last_event.read(_apart(_LAST_EVENT, state))
            vectors = torch.cat([vectors, shown], dim=1)
        vectors = self._compressed(vectors)
        if self.recent is not None:
            vectors = torch.cat(
                [vectors, self.recent.read(state, state["count"]).to(vectors.dtype)], dim=1
            )
        return self._beside_profile(vectors, state["count"][:, 0], first, last, now)


_STATES = "states_"
_LAST_EVENT = "last_event_"
"""Prefixes of the names in a summary of what is pooled separately."""


def _named_apart(prefix: str, summary: Summary) -> Summary:
    """A summary as it stands beside that of the events, which has the count."""
    return {prefix + name: values for name, values in summary.items() if name != "count"}


def _apart(prefix: str, summary: Summary) -> Summary:
    """The summary with this prefix alone."""
    own = {
        name.removeprefix(prefix): values
        for name, values in summary.items()
        if name.startswith(prefix)
    }
    return own | {"count": summary["count"]}


def _merged_apart(prefix: str, pooling: Pooling, earlier: Summary, later: Summary) -> Summary:
    return _named_apart(prefix, pooling.merge(_apart(prefix, earlier), _apart(prefix, later)))


def _by_category(config: Config, vocabulary: Vocabulary, size: int) -> ByCategory | None:
    """Build category pooling; None if not configured, or if nothing is categorical."""
    if "category_mean" not in config.pooling:
        return None
    column = column_to_pool_by(config.category_mean, vocabulary)
    if column is None and len(set(config.pooling) - set(RECENT_POOLINGS)) == 1:
        raise ConfigError(
            "pooling is category_mean alone, and the events have no categorical column. Name "
            "another pooling."
        )
    if column is None:
        return None
    codes = column.slots if isinstance(column, SourceKinds) else vocabulary.categorical[column].size
    return ByCategory(column, codes, input_size=size, options=config.category_mean)


def _recent(config: Config, vocabulary: Vocabulary) -> RecentEvents | None:
    """Build the recent-event features; None if not configured, or with embedding_dim."""
    names = [name for name in config.pooling if name in RECENT_POOLINGS and name != LAST_EVENT]
    if config.embedding_dim is not None or not names:
        return None
    by_category = not BY_CATEGORY.isdisjoint(names)
    slots = category_slots(config.category_mean, vocabulary, SLOTS) if by_category else {}
    recent = RecentEvents(names, vocabulary, slots)
    return recent if recent.output_size else None


def _sequence_encoder(config: Config, input_size: int) -> Any:
    """Build the sequence encoder: (E, input_size) events and their batch -> states; or None."""
    match config.encoder:
        case RecurrentOptions(
            name=kind, hidden_size=size, layers=layers, dropout=dropout, input_size=projected
        ):
            return Recurrent(
                kind,
                input_size,
                hidden_size=size,
                layers=layers,
                dropout=dropout,
                projected_size=projected,
            )
        case NoEncoderOptions():
            return None
        case options:
            made = ENCODERS[options.name]
            with name_own_code(made, "encoder"):
                found = made(input_size=input_size, **options.model_dump(exclude={"name"}))
            if not isinstance(getattr(found, "output_size", None), int):
                raise ConfigError(
                    f"The encoder {options.name} has no whole number output_size. Set "
                    "self.output_size to the width of its states in its constructor."
                )
            return found
