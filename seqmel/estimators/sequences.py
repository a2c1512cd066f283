"""The raw events of N clients in memory, for splitting, training and embedding in Python.

They are stored as one row per client with list columns. `open_events` reads that form, so the
sequences are accepted wherever events are. They are indexed by client: scikit-learn's splitters
separate clients, never the events of one client.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from seqmel.config import Config
from seqmel.core.errors import InputError, shown
from seqmel.core.renames import warn_renamed
from seqmel.core.units import count_words
from seqmel.data.encoding.event_encoding import nest
from seqmel.data.fitting.schema_inference import find_time
from seqmel.data.schema import recognise_client
from seqmel.data.sources.csv_texts import with_texts_beside
from seqmel.data.sources.reading import Events, csv_files_of, open_events
from seqmel.data.sources.source import EventSource
from seqmel.data.sources.times import infer_time_format
from seqmel.data.tables.labels import id_positions

__all__ = ["EventSequences"]

Labels = TypeVar("Labels", "pd.Series[Any]", pd.DataFrame)


@dataclass(frozen=True, eq=False, repr=False)
class EventSequences:
    """The raw events of N clients, in time order within each client.

    `EventSequences.read` makes them. They are immutable.

        train = EventSequences.read("events.parquet", client="client_id", time="event_time")
        train[:100]                            # the first hundred clients
        train[train.lengths >= 10]             # those with ten events or more
        train.align(labels)                    # labels in the order of the clients

    Copies and clones share the events. `len` and `shape[0]` are the number of clients.

    Attributes:
        table: one row per client: its id, and one list column per column of the events.
        client: the column with the client id.
        time: the column with the time.
        time_format: format of the times, if they are text other than ISO 8601.
        texts: for events from CSV, the original text of columns whose values do not determine it
            (1.50, True), as list columns. A model may treat such a column as categorical.

    Examples:
        >>> import seqmel
        >>> events = seqmel.EventSequences.read(seqmel.generate_card_data(5).events)
        >>> len(events), len(events[:2]), events.client
        (5, 2, 'client_id')
    """

    table: pa.Table
    client: str
    time: str
    time_format: str | None = None
    texts: pa.Table | None = None

    @classmethod
    def read(
        cls,
        events: Events,
        *,
        client: str | None = None,
        time: str | None = None,
        time_format: str | None = None,
        memory_limit: str | None = None,
        threads: int | None = None,
    ) -> EventSequences:
        """Read events into memory.

        Args:
            events: a Parquet or CSV file, a folder, a glob, or a pandas, polars or Arrow table,
                with one row per event, or one row per client and list columns.
            client: the column with the client id; None recognises it by name.
            time: the column with the time; None recognises it by name.
            time_format: format of times that are text other than ISO 8601, such as "%d.%m.%Y"; None
                infers it from the values.
            memory_limit: memory that sorting may use before it spills to disk, such as "4GB". The
                events themselves must fit into memory.
            threads: maximum number of threads; None uses all cores.

        Returns:
            The sequences. Clients are in order of first appearance, ids keep their type.

        Raises:
            InputError: no such file, unreadable events, no rows, or an event without a client.
            SchemaError: no such column, or no column that is recognised.
        """
        source = open_events(
            events, client=client, time=time, memory_limit=memory_limit, threads=threads
        )
        client = client or source.client or recognise_client(source.columns, source.label)
        time = time or source.time or find_time(source)
        source.require(client, "Name the client column: client=...")
        source.require(time, "Name the time column: time=...")
        time_format = _time_format(source, time, time_format)
        files = csv_files_of(events)
        source, kept = with_texts_beside(source, files, (client, time)) if files else (source, {})
        table = pa.Table.from_batches(list(nest(source, client, time, time_format=time_format)))
        source.connection.close()
        texts = table.select(list(kept.values())).rename_columns(list(kept)) if kept else None
        return cls(table.drop_columns(list(kept.values())), client, time, time_format, texts)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def shape(self) -> tuple[int, int]:
        """(clients, columns), including the client column."""
        return len(self), self.table.num_columns

    @property
    def columns(self) -> list[str]:
        """The names of all columns; the client column is the first."""
        return list(self.table.column_names)

    @property
    def client_ids(self) -> pd.Index[Any]:
        """(N,) the client ids in their own type, named like their column."""
        ids: pd.Index[Any] = pd.Index(self.table.column(self.client).to_pandas(), name=self.client)
        return ids

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(N,) number of events per client."""
        lengths = pc.list_value_length(self.table.column(self.time)).fill_null(0)
        return np.asarray(lengths.to_numpy(), np.int64)

    @property
    def events(self) -> int:
        """Number of events of all clients."""
        return int(self.lengths.sum())

    def __getitem__(self, key: Any) -> EventSequences:
        """Select clients by position.

        Args:
            key: an int, a slice, or an array, list or Series of ints or booleans. scikit-learn
                passes (key, ...).

        Returns:
            The sequences of these clients, also for an int.

        Raises:
            IndexError: a position out of range.
        """
        if isinstance(key, tuple) and len(key) == 2 and key[1] is Ellipsis:
            key = key[0]
        if isinstance(key, pd.Series):
            key = key.to_numpy()
        return self.take(np.atleast_1d(np.arange(len(self))[key]))

    def __iter__(self) -> Iterator[EventSequences]:
        """Iterate over the clients, each as `EventSequences` of length one."""
        return (self.take(np.array([i])) for i in range(len(self)))

    def take(self, rows: npt.ArrayLike) -> EventSequences:
        """Select clients by position, in the given order.

        Args:
            rows: (R,) positions; a position may occur several times.

        Returns:
            The sequences of these R clients.
        """
        return self._take(pa.array(np.asarray(rows, np.int64)))

    def _take(self, rows: pa.Array) -> EventSequences:
        """`take` for an Arrow array. A null position gives a null id and null lists."""
        texts = self.texts.take(rows) if self.texts is not None else None
        return replace(self, table=self.table.take(rows), texts=texts)

    def select(self, client_ids: Any) -> EventSequences:
        """Select clients by id, in the given order.

        Args:
            client_ids: the ids; an id may occur several times.

        Returns:
            The sequences of these clients.

        Raises:
            InputError: an id is not among these sequences.
        """
        return self.take(self._places(pd.Index(client_ids), "are not among these sequences"))

    def of(self, client_ids: Any) -> EventSequences:
        """Deprecated alias of `select`."""
        warn_renamed("EventSequences.of", "EventSequences.select", stacklevel=2)
        return self.select(client_ids)

    def distinct(self) -> EventSequences:
        """Return each client once, after resampling that drew some clients several times."""
        again = self.client_ids.duplicated()
        return self[~again] if again.any() else self

    def align(self, labels: Labels) -> Labels:
        """Bring labels into the order of the clients, by client id.

        Args:
            labels: a Series or DataFrame indexed by unique client ids, or a DataFrame with the ids
                in a column named like the client column. The result leaves that column out.

        Returns:
            One row per client, indexed by client id.

        Raises:
            InputError: `labels` is no Series or DataFrame, has an id twice, or lacks a client.
        """
        if not isinstance(labels, (pd.Series, pd.DataFrame)):
            raise InputError(
                f"Cannot align a {type(labels).__name__}. Expected a pandas Series or DataFrame "
                f"indexed by client id."
            )
        if isinstance(labels, pd.DataFrame) and self.client in labels.columns:
            labels = labels.set_index(self.client)
        if labels.index.has_duplicates:
            again = labels.index[labels.index.duplicated()].tolist()[0]
            raise InputError(
                f"Client {again!r} has several labels. Expected one per client: drop or join the "
                f"others."
            )
        found = id_positions(self.client_ids, labels.index)
        if (found < 0).any():
            raise self._absent(found, self.client_ids, "have no label", " Leave them out first.")
        aligned: Labels = labels.iloc[found]
        aligned.index = self.client_ids
        return aligned

    def _places(self, wanted: pd.Index[Any], lack: str) -> npt.NDArray[np.intp]:
        ids = self.client_ids
        _, first = np.unique(ids.factorize()[0], return_index=True)
        found = id_positions(wanted, ids[first])
        if (found < 0).any():
            raise self._absent(found, wanted, lack, "")
        return np.asarray(first[found], np.intp)

    @staticmethod
    def _absent(
        found: npt.NDArray[np.intp], wanted: pd.Index[Any], lack: str, advice: str
    ) -> InputError:
        absent = wanted[found < 0]
        examples = shown([repr(i) for i in absent[:3].tolist()])
        return InputError(
            f"{len(absent):,} of {count_words(len(wanted), 'client')} {lack}, such as "
            f"{examples}.{advice}"
        )

    def to_arrow(self) -> pa.Table:
        """Return one row per client, with list columns."""
        return self.table

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per client, indexed by client id; each cell holds the client's values."""
        frame: pd.DataFrame = self.table.drop_columns([self.client]).to_pandas()
        frame.index = self.client_ids
        return frame

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """The table, for readers of Arrow streams."""
        return self.table.__arrow_c_stream__(requested_schema)

    @property
    def __event_columns__(self) -> tuple[str, str, str | None]:
        """The client column, the time column and the time format, for `open_events`."""
        return self.client, self.time, self.time_format

    @property
    def __event_texts__(self) -> pa.Table | None:
        """The original text of some columns, for `open_events`."""
        return self.texts

    def __array__(self, *_: Any, **__: Any) -> npt.NDArray[Any]:
        raise InputError(
            "Event sequences are not a matrix. Put a SequenceEmbedder or AggregateFeatures before "
            "steps that need numbers."
        )

    def __copy__(self) -> EventSequences:
        return self

    def __deepcopy__(self, _: Any) -> EventSequences:
        return self

    def __repr__(self) -> str:
        return (
            f"EventSequences({count_words(len(self), 'client')}, "
            f"{count_words(self.events, 'event')}: {', '.join(self.columns)})"
        )

    def _repr_html_(self) -> str:
        shares = self.lengths if len(self) else np.zeros(1, np.int64)
        roles = {self.client: "the client", self.time: "the time"}
        rows = "".join(
            f"<tr><td>{escape(field.name)}</td><td>{escape(_kind(field.type))}</td>"
            f"<td>{roles.get(field.name, '')}</td></tr>"
            for field in self.table.schema
        )
        return (
            f"<b>EventSequences</b>: {count_words(len(self), 'client')}, "
            f"{count_words(self.events, 'event')}; a client has {shares.min():,} to "
            f"{shares.max():,}, the median {np.median(shares):,.0f}<table>{rows}</table>"
        )


def _time_format(source: EventSource, time: str, given: str | None) -> str | None:
    """The format of the times: as given, as the events declare it, or inferred from the values."""
    if given is not None:
        return Config.from_dict(
            {"schema": {"time_format": given}}, source="EventSequences.read"
        ).schema.time_format
    if source.time_format is not None or source.columns[time] != "VARCHAR":
        return source.time_format
    return infer_time_format(source, time, option="time_format=...")


def _kind(kind: pa.DataType) -> str:
    return str(kind.value_type if hasattr(kind, "value_type") else kind)
