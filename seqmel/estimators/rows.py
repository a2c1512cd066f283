"""Conversion of X to one form: each row is a client with a sequence of events.

X is `EventSequences`, or a table with one row per client and list columns (or a list of dicts of
sequences), or a table, column or array of client ids if the estimator has events to look them up
in. Row i of the result always belongs to row i of X. X may also be a table with one row per event,
or several named tables of events; then the rows are the clients in order of first appearance.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from seqmel.core.errors import InputError, SchemaError, did_you_mean, shown
from seqmel.core.units import count_words
from seqmel.data.schema import SchemaOptions, may_be_time, recognise_client
from seqmel.data.sources.arrow_tables import arrow_table
from seqmel.data.sources.reading import Events
from seqmel.data.sources.records import is_records
from seqmel.data.sources.several import event_tables
from seqmel.data.tables.labels import id_positions
from seqmel.estimators.sequences import EventSequences

__all__ = ["ClientRows", "SeveralRows", "client_rows"]

_UNNAMED = "client_id"
_WANTED = (
    "Expected EventSequences; or a table of events, with one row per event, or one row per client "
    "and list columns; or client ids, with events=... set on the estimator."
)


@dataclass(frozen=True)
class ClientRows:
    """The clients of X, one per row.

    Attributes:
        table: one row per row of X: the client id and list columns. The lists of a client without
            events are null.
        client: the column with the client id.
        time: the column with the time; None if it is still to be recognised.
        index: (rows,) the index of results: that of a pandas X, else the client ids.
        resampled: whether rows with equal ids are the same client drawn again, and no error in X.
        time_format: format of the times, if known.
        texts: the original CSV text of some columns, as list columns; None if there is none.
        grouped: whether X has one row per event, so that its rows are not the rows here.
    """

    table: pa.Table
    client: str
    time: str | None
    index: pd.Index[Any]
    resampled: bool
    time_format: str | None = None
    texts: pa.Table | None = None
    grouped: bool = False

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def ids(self) -> pd.Index[Any]:
        """(rows,) the client ids, including those of clients without events."""
        if self.index.name == self.client:
            return self.index
        ids: pd.Index[Any] = pd.Index(self.table.column(self.client).to_pandas())
        return ids

    def numbers_rows(self, index: pd.Index[Any]) -> bool:
        """Return whether an index numbers rows: pandas makes ids in equal steps a range too."""
        return isinstance(index, pd.RangeIndex) and index.name != self.client

    def check_matched(self, given: Any, name: str, *, ordered: bool = False) -> None:
        """Check that labels or weights cannot be matched to other clients than theirs.

        Args:
            given: labels or weights of any form; None if there are none.
            name: what to call them.
            ordered: whether they are used by position, so that their order counts.

        Raises:
            InputError: X has one row per event, and they are not indexed by its client ids.
        """
        if not self.grouped or given is None:
            return
        index = getattr(given, "index", None)
        ids = self.ids
        same = isinstance(index, pd.Index) and index.equals(ids)
        if not isinstance(index, pd.Index) or self.numbers_rows(index) or ordered:
            matched = same
        else:
            matched = len(index) == len(ids) and set(index) == set(ids)
        if not matched:
            order = " in order of first appearance" if ordered else ""
            raise InputError(
                f"X has one row per event, so {name} cannot be matched to its clients by position. "
                f"Index {name} by client id{order}; or give EventSequences.read(events) as X, and "
                f"its align(...) of {name}."
            )

    def named(self, said: SchemaOptions) -> SchemaOptions:
        """Return schema options that name the client and time columns of the rows.

        Args:
            said: the options of the user.
        """
        return said.model_copy(
            update={
                "client": self.client,
                "time": self.time or said.time,
                "time_format": self.time_format or said.time_format,
            }
        )

    def to_learn_from(self) -> Events:
        """Return the events to train on, with each client once.

        A client drawn twice must not become two clients, which training would push apart.
        """
        if not self.resampled or self.time is None:
            return self.table
        return EventSequences(
            self.table, self.client, self.time, self.time_format, self.texts
        ).distinct()

    def distinct_clients(self) -> tuple[ClientRows, npt.NDArray[np.intp]]:
        """Return the rows with each client once, and (rows,) the place of each row's client there.

        Rows of X that are no draws of one client, such as those of a table with list columns, are
        all kept: they may differ in their events.
        """
        if not self.resampled:
            return self, np.arange(len(self))
        codes = pd.factorize(self.ids, use_na_sentinel=False)[0]
        return self._take(np.unique(codes, return_index=True)[1]), codes

    def _take(self, rows: npt.NDArray[np.intp]) -> ClientRows:
        texts = None if self.texts is None else self.texts.take(pa.array(rows))
        table = self.table.take(pa.array(rows))
        return replace(self, table=table, texts=texts, index=self.index[rows])

    def to_transform(self, client: str) -> Events:
        """Return the events of every row, with row numbers in place of client ids.

        Ids may occur twice or have no events; row numbers are unique.

        Args:
            client: name of the column with the row numbers.

        Returns:
            The events, with rows numbered from 0.
        """
        place = self.table.column_names.index(self.client)
        numbered = self.table.set_column(place, client, pa.array(np.arange(len(self))))
        if self.texts is None or self.time is None:
            return numbered
        return EventSequences(numbered, client, self.time, self.time_format, self.texts)


@dataclass(frozen=True)
class SeveralRows(ClientRows):
    """The clients of X with their events of several tables. `table` is the first of these.

    Attributes:
        sources: name -> sequences, one row per row of X. The lists of a client without events in a
            table are null.
    """

    sources: Mapping[str, EventSequences] = field(default_factory=dict)

    def named(self, said: SchemaOptions) -> SchemaOptions:
        """Return the options as they are: each table names its own columns."""
        return said

    def to_learn_from(self) -> Events:
        """Return name -> the events of each client once, without clients that have none."""
        return {
            name: sequences[sequences.lengths > 0].distinct()
            for name, sequences in self.sources.items()
        }

    def _take(self, rows: npt.NDArray[np.intp]) -> ClientRows:
        sources = {name: sequences.take(rows) for name, sequences in self.sources.items()}
        table = next(iter(sources.values())).table
        return replace(self, table=table, index=self.index[rows], sources=sources)

    def to_transform(self, client: str) -> Events:  # noqa: ARG002 each table has its own name
        """Return name -> the events of every row, with row numbers in place of client ids."""
        numbers = pd.RangeIndex(len(self))
        return {name: _with_ids(found, numbers) for name, found in self.sources.items()}


def client_rows(
    X: Any,  # noqa: N803
    *,
    events: Events | None = None,
    client: str | None = None,
    time: str | None = None,
    time_format: str | None = None,
    learning: bool = False,
) -> ClientRows:
    """Convert X to `ClientRows`.

    Args:
        X: `EventSequences`; a table with one row per event, or with one row per client and list
            columns, or a list of dicts of sequences; or name -> table, for several tables of
            events; or a table, column or array of client ids to look up in `events`.
        events: where to look up client ids, one table or name -> table; None if X holds the
            sequences itself.
        client: the column of X with the client id; None recognises it.
        time: the column with the times; None recognises it.
        time_format: format of times that are text.
        learning: leave out clients without events, and raise if no client has any.

    Returns:
        One row per row of X, or per client if X has one row per event; with `learning`, only those
        with events.

    Raises:
        InputError, SchemaError: X is none of these, or its columns cannot be used.
    """
    tables = event_tables(X if events is None else events)
    if tables is not None and len(tables) > 1:
        sources = {
            name: (
                table
                if isinstance(table, EventSequences)
                else EventSequences.read(table, client=client, time=time, time_format=time_format)
            ).distinct()
            for name, table in tables.items()
        }
        return _in_several(None if events is None else X, sources, client, learning=learning)
    if events is not None:
        if not isinstance(events, EventSequences) and not isinstance(X, EventSequences):
            events = EventSequences.read(events, client=client, time=time, time_format=time_format)
        return _looked_up(X, events, client, learning=learning)
    if isinstance(X, EventSequences):
        for what, said, is_ in (("client", client, X.client), ("time", time, X.time)):
            if said not in (None, is_):
                raise SchemaError(
                    f"X has its {what} in {is_!r}, and {what}={said!r} is set. Leave {what} out."
                )
        return _of_sequences(X, X.client_ids)
    return _of_table(X, client, time, time_format)


def _of_sequences(sequences: EventSequences, index: pd.Index[Any]) -> ClientRows:
    return ClientRows(
        sequences.table,
        sequences.client,
        sequences.time,
        index,
        True,
        sequences.time_format,
        sequences.texts,
    )


def _of_table(X: Any, client: str | None, time: str | None, time_format: str | None) -> ClientRows:  # noqa: N803
    if not hasattr(X, "__arrow_c_stream__") and not is_records(X):
        raise InputError(f"Cannot take sequences from a {type(X).__name__}. {_WANTED}")
    index = X.index if isinstance(X, (pd.DataFrame, pd.Series)) else None
    table = arrow_table(X.reset_index(drop=True) if index is not None else X)[0]
    single = [f.name for f in table.schema if not _is_list(f.type)]
    if _one_row_per_event(table, single, client, time):
        return _of_events(X, client, time, time_format)
    name = _client_column(single, client, index, type(X).__name__)
    if name not in single:
        ids = index.to_numpy() if index is not None else np.arange(len(table))
        table = table.add_column(0, name, pa.array(ids, from_pandas=True))
    if index is None:
        index = pd.Index(table.column(name).to_pandas(), name=name)
    return ClientRows(_typed(table), name, time, index, resampled=False)


def _one_row_per_event(
    table: pa.Table, single: list[str], client: str | None, time: str | None
) -> bool:
    """Return whether the rows are events.

    If there are lists, such as tags, the times or repeated clients decide.
    """
    if len(single) == table.num_columns:
        return True
    if time in table.column_names:
        return time in single
    times = [
        field.name for field in table.schema if may_be_time(field.name, _type_name(field.type))
    ]
    if not times or not set(times) <= set(single):
        return False
    try:
        ids = table.column(client or recognise_client(single, ""))
    except (SchemaError, KeyError):
        return False
    return len(ids.unique()) < len(ids)


def _type_name(kind: pa.DataType) -> str:
    value = kind.value_type if _is_list(kind) else kind
    return "TIMESTAMP" if pa.types.is_timestamp(value) or pa.types.is_date(value) else str(value)


def _of_events(X: Any, client: str | None, time: str | None, time_format: str | None) -> ClientRows:  # noqa: N803
    try:
        sequences = EventSequences.read(X, client=client, time=time, time_format=time_format)
    except SchemaError as error:
        raise SchemaError(f"{error} {_WANTED}") from None
    return replace(_of_sequences(sequences, sequences.client_ids), grouped=True)


def _client_column(
    columns: list[str], client: str | None, index: pd.Index[Any] | None, label: str
) -> str:
    """The name of the id column, or the name that the ids of the index get as a column."""
    if client is not None:
        if client in columns or (index is not None and index.name in (client, None)):
            return client
        raise SchemaError(
            f"No column {client!r} in the given {label}.{did_you_mean(client, columns)} It has: "
            f"{shown(columns)}. Name the client column: client=..., or have the client ids as the "
            "index."
        )
    if index is not None and index.name is not None:
        return str(index.name)
    try:
        return recognise_client(columns, f"the given {label}")
    except SchemaError:
        return _UNNAMED


def _typed(table: pa.Table) -> pa.Table:
    """Cast lists of nulls to lists of text, because some readers need a type.

    They hold no value, so the type does not matter.
    """
    fields = [
        field.with_type(pa.list_(pa.string()))
        if _is_list(field.type) and pa.types.is_null(field.type.value_type)
        else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _looked_up(X: Any, events: EventSequences, client: str | None, *, learning: bool) -> ClientRows:  # noqa: N803
    sequences = events.distinct()
    ids, index = _given_ids(X, client or sequences.client)
    place = id_positions(ids, sequences.client_ids)
    absent = place < 0
    if absent.all():
        _tell_none_has_events(ids, sequences.client_ids, repr(sequences), learning=learning)
    if learning:
        place = place[~absent]
        index = index[~absent]
        absent = absent[~absent]
    return _of_sequences(sequences._take(pa.array(place, mask=absent)), index)


def _in_several(
    X: Any,  # noqa: N803
    sources: Mapping[str, EventSequences],
    client: str | None,
    *,
    learning: bool,
) -> SeveralRows:
    """Look up clients in several tables; all clients if X is None."""
    first = next(iter(sources.values()))
    if X is None:
        everyone = [sequences.client_ids for sequences in sources.values()]
        ids = pd.Index(pd.concat([i.to_series() for i in everyone]).unique(), name=first.client)
        index = ids
    else:
        ids, index = _given_ids(X, client or first.client)
    places = {name: id_positions(ids, s.client_ids) for name, s in sources.items()}
    absent = np.all([place < 0 for place in places.values()], axis=0)
    if absent.all():
        _tell_none_has_events(ids, first.client_ids, shown(sources), learning=learning)
    if learning:
        ids = ids[~absent]
        index = index[~absent]
        places = {name: place[~absent] for name, place in places.items()}
    found = {
        name: _with_ids(sequences._take(pa.array(places[name], mask=places[name] < 0)), ids)
        for name, sequences in sources.items()
    }
    table = next(iter(found.values())).table
    return SeveralRows(table, first.client, None, index, True, grouped=X is None, sources=found)


def _with_ids(sequences: EventSequences, ids: pd.Index[Any]) -> EventSequences:
    """Return sequences with other ids."""
    place = sequences.table.column_names.index(sequences.client)
    column = pa.array(ids, from_pandas=True)
    return replace(sequences, table=sequences.table.set_column(place, sequences.client, column))


def _given_ids(X: Any, client: str) -> tuple[pd.Index[Any], pd.Index[Any]]:  # noqa: N803
    """(rows,) the client ids in X, none of them null, and the (rows,) index of results."""
    if isinstance(X, EventSequences):
        raise InputError(
            "X holds its own events, and events=... is set too. Leave events out, or give client "
            "ids as X."
        )
    ids, index = _ids(X, client)
    nulls = int(pd.isna(ids.to_numpy()).sum())
    if nulls:
        raise InputError(
            f"{nulls:,} of {count_words(len(ids), 'row')} of X have no client: the id is null. "
            "Drop or fix these rows."
        )
    return ids, index


def _tell_none_has_events(
    ids: pd.Index[Any], known: pd.Index[Any], name: str, *, learning: bool
) -> None:
    found = (
        f"None of the {count_words(len(ids), 'client')} of X, such as "
        f"{shown([repr(i) for i in ids[:3].tolist()])}, has events; {name} has "
        f"{shown([repr(i) for i in known[:3].tolist()])}."
    )
    if learning:
        raise InputError(f"{found} Check that both name the same clients.")
    warnings.warn(f"{found} They get the vectors of empty sequences.", UserWarning, stacklevel=3)


def _ids(X: Any, client: str) -> tuple[pd.Index[Any], pd.Index[Any]]:  # noqa: N803
    """(rows,) the client ids in X, and the (rows,) index of results."""
    if isinstance(X, pd.Series):
        return pd.Index(X), X.index
    if isinstance(X, pd.DataFrame):
        if client not in X.columns and X.index.name == client:
            return X.index, X.index
        names = [str(name) for name in X.columns]
        return pd.Index(X.iloc[:, names.index(_only_column(names, client))]), X.index
    if hasattr(X, "__arrow_c_stream__") and not isinstance(X, (str, os.PathLike)):
        table = (
            arrow_table(X)[0]
            if hasattr(X, "columns") or isinstance(X, pa.Table)
            else pa.table({client: X})
        )
        ids = pd.Index(
            table.column(_only_column(table.column_names, client)).to_pandas(), name=client
        )
        return ids, ids
    array: npt.NDArray[Any] = np.empty(()) if isinstance(X, (str, os.PathLike)) else np.asarray(X)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise InputError(
            f"Cannot take client ids from {type(X).__name__} of shape {array.shape}. Expected a "
            f"table with the column {client!r}, or one id per row."
        )
    ids = pd.Index(array, name=client)
    return ids, ids


def _only_column(columns: list[str], client: str) -> str:
    if client in columns:
        return client
    if len(columns) == 1:
        return columns[0]
    raise SchemaError(
        f"No column {client!r} in X, to look up the events by.{did_you_mean(client, columns)} It "
        f"has: {shown(columns)}."
    )
