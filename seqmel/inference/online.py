"""Score one client at a time in a running service, in a few milliseconds.

`embed` and `predict` are for tables: they start a query engine and may read files. A `Scorer` takes
the events of one client as Python values, encodes them with the look-up tables of the vocabulary,
and runs the same network. Its vectors are those of `embed` up to rounding (1e-5).
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from seqmel.core.device import with_own_defaults
from seqmel.core.errors import InputError, ModelError, did_you_mean, shown
from seqmel.core.units import count_words
from seqmel.data.encoding.event_encoding import encode
from seqmel.data.encoding.value_encoding import EncodedValues, NotPlainError, ValueEncoding
from seqmel.data.sequences.batch import NO_TIME, OneSequence, SequenceBatch
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.sources.arrow_tables import arrow_table
from seqmel.inference.embed import finite, open_events_for
from seqmel.inference.predict import check_facts, heads_of, predict_outputs
from seqmel.inference.unseen import FEWEST_EVENTS, UnseenColumns
from seqmel.inference.update import read_states
from seqmel.model import AnyModel, as_model
from seqmel.nn.components import PrincipalComponents
from seqmel.nn.encoders.recurrent import Recurrent
from seqmel.nn.pooling import Summary
from seqmel.nn.products import Linear

__all__ = ["ClientState", "Scorer"]

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ClientState:
    """What is kept of the events of one client, so that new events can be added to it.

    It can be pickled. Nothing changes it: `Scorer.update` returns a new one.

    Attributes:
        events: number of events.
        first_us, last_us: time of the first and last event in microseconds; None without events.
        model: fingerprint of the model.
        summary: what pooling and the recurrence need, (1, ...) float32 each.

    Examples:
        >>> import seqmel
        >>> data = seqmel.generate_card_data(20)
        >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
        >>> model.scorer().update([]).events
        0
    """

    events: int
    first_us: int | None
    last_us: int | None
    model: str
    summary: Summary


class Scorer:
    """Embeds and predicts single clients, from all their events or from a state and new events.

    Events are a list of dictionaries, one per event, with the columns that the model was trained
    on; or a pandas DataFrame, or a dictionary of lists. They may have any order. The client column
    is not needed. A column that is missing altogether is an error; a value that is missing is None.
    A model of several tables takes name -> events; a table without events may be left out.

    A scorer keeps its own copy of the network on the CPU. Nothing in it changes after it was made,
    so threads can share it. Set OMP_NUM_THREADS=1 in a service that scores in several threads.

    Args:
        model: a model folder or a model.

    Examples:
        >>> import seqmel
        >>> data = seqmel.generate_card_data(20)
        >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
        >>> scorer = model.scorer()
        >>> events = [event for event in data.events.to_pylist() if event["client_id"] == 3]
        >>> scorer.embed(events).shape == (model.encoder.output_size,)
        True
        >>> state = scorer.update(events[:-1])
        >>> state = scorer.update(events[-1:], state)
        >>> state.events == len(events)
        True
    """

    @with_own_defaults
    def __init__(self, model: AnyModel) -> None:
        self._model = as_model(model)
        self._encoder = copy.deepcopy(self._model.encoder).cpu().eval()
        for part in self._encoder.modules():
            if isinstance(part, (Linear, Recurrent)):
                part.for_few = True
            elif isinstance(part, PrincipalComponents):
                part.double()  # which it does at each call otherwise
        self._heads = copy.deepcopy(self._model.heads)
        self._values = ValueEncoding(self._model.schema, self._model.vocabulary)
        self._fingerprint = self._model.fingerprint()

    def embed(self, events: Any) -> Vector:
        """Embed one client.

        Args:
            events: all events of the client, see the class; or its `ClientState`.

        Returns:
            (D,) float32, the vector that `embed` gives, up to rounding.

        Raises:
            InputError, SchemaError: a column is missing, a value cannot be read, or the events are
                of several clients.
            ModelError: the state is of another model.
        """
        return self._vectors([events])[0].numpy()

    def embed_many(self, clients: Sequence[Any]) -> Vector:
        """Embed several clients together, which is faster than one by one.

        Args:
            clients: for each client what `embed` takes.

        Returns:
            (N, D) float32, in the order of `clients`.

        Raises:
            SeqmelError: see `embed`.
        """
        return self._vectors(clients).numpy()

    def predict(self, events: Any, facts: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Predict the targets of a fine-tuned model for one client.

        Args:
            events: all events of the client, see the class; or its `ClientState`.
            facts: column -> value, for a model that was fine-tuned with facts. A value that is
                missing is None.

        Returns:
            The columns of `predict`: the probability of each class (`churn=yes`), the most likely
            class (`churn`), or a quantity.

        Raises:
            ModelError: the model has not been fine-tuned.
            SeqmelError: see `embed`.
        """
        return self.predict_many([events], None if facts is None else [facts])[0]

    def predict_many(
        self, clients: Sequence[Any], facts: Sequence[Mapping[str, Any]] | None = None
    ) -> list[dict[str, Any]]:
        """Predict several clients together.

        Args:
            clients: for each client what `predict` takes.
            facts: for each client its facts, for a model that was fine-tuned with facts.

        Returns:
            One dictionary per client, see `predict`.

        Raises:
            SeqmelError: see `predict`.
        """
        heads_of(self._model)
        assert self._heads is not None
        known = self._facts(facts, len(clients))
        vectors = self._vectors(clients)
        rows: list[dict[str, Any]] = [{} for _ in clients]
        for target, outputs in zip(
            self._model.targets, predict_outputs(self._heads, vectors, known), strict=True
        ):
            shares = target.chances(outputs).tolist()
            predicted = [None if x != x else x for x in target.predicted(outputs).tolist()]
            for row, share, value in zip(rows, shares, predicted, strict=True):
                row |= dict(zip(target.columns, [*share, value], strict=True))
        return rows

    @with_own_defaults
    @torch.inference_mode()
    def update(self, events: Any, state: ClientState | None = None) -> ClientState:
        """Add new events of one client to its state.

        Args:
            events: the events since the state was made, see the class.
            state: the state so far; None for a new client.

        Returns:
            The new state. `embed` and `predict` take it in place of events.

        Raises:
            InputError: an event is earlier than the last one of the state. Start again from all
                events of the client.
            ModelError: the model has a Transformer, or the state is of another model.
            SeqmelError: see `embed`.
        """
        old = None if state is None else self._checked(state)
        encoded = self._encoded(events)
        batch = _batch([encoded])
        if state is None or state.last_us is None:
            before = NO_TIME
        else:
            before = state.last_us
            if len(encoded.time) and encoded.time[0] < before:
                raise InputError(
                    "The new events begin before the last event of the client's state. Give "
                    "all events of the client, without a state."
                )
        given = replace(batch, previous_time=_whole([before]))
        summary = self._encoder.advance(given, old.summary if old is not None else None)
        times = encoded.time
        first, last = (int(times[0]), int(times[-1])) if len(times) else (None, None)
        if state is not None and state.events:
            first = state.first_us
            last = state.last_us if last is None else last
        return ClientState(
            len(times) + (state.events if state is not None else 0),
            first,
            last,
            self._fingerprint,
            {n: x if x.dtype is torch.float32 else x.float() for n, x in summary.items()},
        )

    def states(self, path: str | Path, clients: Sequence[Any]) -> dict[Any, ClientState]:
        """Read states of clients from a file of `embed --state`.

        Args:
            path: the state file.
            clients: ids, of the type in the file.

        Returns:
            Client -> its state; clients that are not in the file are left out.

        Raises:
            InputError: the file holds no states.
            ModelError: it is of another model.
        """
        found = read_states(path, self._model, clients)
        return {
            one: ClientState(
                int(part.events[0]),
                None if int(part.first_time[0]) == NO_TIME else int(part.first_time[0]),
                None if int(part.last_time[0]) == NO_TIME else int(part.last_time[0]),
                self._fingerprint,
                part.summary,
            )
            for one, part in found
        }

    def unseen(self, events: Any) -> dict[str, list[Any]]:
        """Return the category values that the training did not see, or that were too rare.

        Args:
            events: see the class.

        Returns:
            Column -> its unseen values, each once; columns without any are left out.

        Raises:
            SeqmelError: see `embed`.
        """
        try:
            return self._values.unseen(events)
        except NotPlainError:
            return self._values.unseen(self._as_lists(events))

    @with_own_defaults
    @torch.inference_mode()
    def _vectors(self, clients: Sequence[Any]) -> Tensor:
        """Return (N, D) vectors of clients, given as events or as states."""
        vectors = torch.empty(len(clients), self._encoder.output_size)
        for i, client in enumerate(clients):
            if isinstance(client, ClientState):
                state = self._checked(client)
                ends = [_whole([x or 0]) for x in (state.first_us, state.last_us)]
                vectors[i] = self._encoder.read(state.summary, *ends)[0].float()
        rest = [i for i, client in enumerate(clients) if not isinstance(client, ClientState)]
        if rest:
            most = self._model.config.embedding.max_events
            batch = _batch([self._encoded(clients[i]) for i in rest], most)
            vectors[rest] = self._encoder.embed(batch).float()
        return finite(vectors)

    def _facts(
        self, given: Sequence[Mapping[str, Any]] | None, clients: int
    ) -> npt.NDArray[np.float32] | None:
        """Return (N, facts) encoded facts; None for a model without."""
        check_facts(self._model, given=given is not None)
        facts = self._model.facts
        if facts is None or given is None:
            return None
        if len(given) != clients:
            raise InputError(
                f"{count_words(len(given), 'fact is', 'facts are')} given for "
                f"{count_words(clients, 'client')}. Expected one for each."
            )
        return facts.encode(facts.of_records(given))

    def _checked(self, state: ClientState) -> ClientState:
        if state.model != self._fingerprint:
            raise ModelError(
                "The state belongs to another model. Make a new one from all events of the client."
            )
        return state

    def _encoded(self, events: Any) -> EncodedValues:
        """Encode the events of one client, and warn of columns with only unseen values."""
        try:
            found = self._values.encode(events)
        except NotPlainError:
            found = self._encoded_by_engine(events)
        if len(found.time) >= FEWEST_EVENTS:
            unseen = UnseenColumns(self._model)
            unseen.count(found.columns)
            unseen.warn(stacklevel=5)
        return found

    def _encoded_by_engine(self, events: Any) -> EncodedValues:
        """Encode values of any type as `embed` does."""
        model = self._model
        source = open_events_for(model, self._tables(events), empty=True)
        batches = encode(source, model.schema, model.vocabulary)
        sequences = EncodedSequences.from_batches(batches, time=model.schema.time)
        everyone = torch.arange(len(sequences))
        columns = {n: sequences.values(n, everyone).numpy() for n in model.schema.features}
        return EncodedValues(sequences.times(everyone).numpy(), columns)

    def _tables(self, events: Any) -> pa.Table | dict[str, pa.Table]:
        """Return the events as a table with a client column, or one for each of several tables.

        Raises:
            InputError: they are of several clients, or no events at all.
        """
        schema = self._model.schema
        if not schema.sources:
            return _with_client(arrow_table(events)[0], schema.client, [])
        if not isinstance(events, Mapping) or not events:
            raise InputError(
                f"The model was trained on the sources {shown(schema.sources)}. Expected the "
                f"events of each by name, as in {{{next(iter(schema.sources))!r}: events}}."
            )
        for name in events:
            if name not in schema.sources:
                raise InputError(
                    f"The model has no source {name!r}.{did_you_mean(name, schema.sources)} It was "
                    f"trained on: {shown(schema.sources)}."
                )
        clients: list[Any] = []
        columns = {name: table.client for name, table in schema.sources.items()}
        return {
            name: _with_client(arrow_table(given)[0], columns[name], clients)
            for name, given in events.items()
            if not _is_nothing(given)
        }

    def _as_lists(self, events: Any) -> Any:
        """Return the events as dictionaries, one per event."""
        tables = self._tables(events)
        if isinstance(tables, dict):
            return {name: table.to_pylist() for name, table in tables.items()}
        return tables.to_pylist()


def _with_client(table: pa.Table, client: str, seen: list[Any]) -> pa.Table:
    """Return the events of one client with a client column. `seen` are ids in other tables.

    Raises:
        InputError: they are of several clients.
    """
    if client in table.column_names:
        seen += table.column(client).unique().to_pylist()
        if len(set(seen)) > 1:
            raise InputError(
                f"The events are of several clients (column {client!r}). Give the events of "
                f"one, or use embed_many."
            )
        table = table.drop_columns([client])
    return table.append_column(client, pa.array(np.zeros(len(table), np.int64)))


def _is_nothing(events: Any) -> bool:
    return isinstance(events, Sequence) and not len(events)


def _batch(clients: Sequence[EncodedValues], max_events: int | None = None) -> SequenceBatch:
    """Concatenate the last `max_events` events of each client."""
    begins = [0 if max_events is None else max(0, len(x.time) - max_events) for x in clients]
    lengths = [len(x.time) - begin for x, begin in zip(clients, begins, strict=True)]

    def of_all(values: list[npt.NDArray[Any]]) -> Tensor:
        kept = [part[begin:] for part, begin in zip(values, begins, strict=True)]
        return torch.from_numpy(kept[0] if len(kept) == 1 else np.concatenate(kept))

    time = of_all([x.time for x in clients])
    columns = {name: of_all([x.columns[name] for x in clients]) for name in clients[0].columns}
    offsets = _whole([0, *itertools.accumulate(lengths)])
    kind = OneSequence if len(clients) == 1 and len(time) else SequenceBatch
    return kind(columns, time, offsets, _whole(lengths))


def _whole(numbers: list[int]) -> Tensor:
    """Return an int64 tensor in less than half the time of torch.tensor."""
    return torch.from_numpy(np.array(numbers, np.int64))
