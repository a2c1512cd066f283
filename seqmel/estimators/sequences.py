"""The events of N clients in memory, as they came: what is split, learnt from and embedded from Python.

One row a client with list columns, as `open_events` reads it; so it is also an input to `train`, `embed` and all else
that takes events. It is indexed by client: scikit-learn's splitters cut clients, never the events of a client.
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
from seqmel.data.encoding.event_encoding import nest
from seqmel.data.fitting.schema_inference import find_time
from seqmel.data.schema import recognise_client
from seqmel.data.sources.csv_texts import with_texts_beside
from seqmel.data.sources.reading import Events, csv_files_of, open_events
from seqmel.data.sources.source import EventSource
from seqmel.data.sources.times import infer_time_format
from seqmel.data.tables.labels import places

__all__ = ["EventSequences"]

Labels = TypeVar("Labels", "pd.Series[Any]", pd.DataFrame)


@dataclass(frozen=True, eq=False, repr=False)
class EventSequences:
    """The raw events of N clients, each client's in time order. Made by `EventSequences.read`; never changed.

        train = EventSequences.read("events.parquet", client="client_id", time="event_time")
        train[:100]                            # the first hundred clients
        train[train.lengths >= 10]             # those with ten events or more
        train.align(labels)                    # labels in the order of the clients

    Copies and clones share the events. `len` and `shape[0]` are the number of clients.

    Attributes:
        table: one row a client: its id, and a list column for each column of the events.
        client, time: the names of the columns that hold the client and the time.
        time_format: how the times are written, where they are text other than ISO 8601.
        texts: list columns, of CSV only: the text of columns of the table of which the values do not give it back (1.50, True),
            for a model that knows such a column as a category.

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
        """Read events of any kind that `open_events` takes; clients in order of first appearance, ids in their own type.

        Args:
            events: a Parquet or CSV file, a folder, a glob, or a pandas, polars or Arrow table; one row an event, or one
                row a client with list columns.
            client, time: the columns that hold them; recognised by name where None.
            time_format: how text of times is written that is not ISO 8601 (%d.%m.%Y); seen from the column where None.
            memory_limit: what sorting may hold in memory, such as "4GB", before it goes to disk; the events themselves
                are in memory at the end.
            threads: how many threads it may use; all cores where None.

        Raises:
            InputError: nothing there, not readable, no rows, or an event without a client.
            SchemaError: no such column, or none that is recognised.
        """
        source = open_events(events, client=client, time=time, memory_limit=memory_limit, threads=threads)
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
        """(clients, columns with that of the client)."""
        return len(self), self.table.num_columns

    @property
    def columns(self) -> list[str]:
        """The names of all columns, that of the client first."""
        return list(self.table.column_names)

    @property
    def client_ids(self) -> pd.Index[Any]:
        """(N,) the ids in their own type, named as their column."""
        ids: pd.Index[Any] = pd.Index(self.table.column(self.client).to_pandas(), name=self.client)
        return ids

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(N,) events a client."""
        lengths = pc.list_value_length(self.table.column(self.time)).fill_null(0)
        return np.asarray(lengths.to_numpy(), np.int64)

    @property
    def events(self) -> int:
        """Events of all clients."""
        return int(self.lengths.sum())

    def __getitem__(self, key: Any) -> EventSequences:
        """Some of the clients, by position: an int, a slice, or an array, list or Series of ints or booleans.

        The result is always sequences, also for an int. (key, ...) is what scikit-learn asks for.
        """
        if isinstance(key, tuple) and len(key) == 2 and key[1] is Ellipsis:
            key = key[0]
        if isinstance(key, pd.Series):
            key = key.to_numpy()
        return self.take(np.atleast_1d(np.arange(len(self))[key]))

    def __iter__(self) -> Iterator[EventSequences]:
        """One client after the other, each as sequences of one."""
        return (self.take(np.array([i])) for i in range(len(self)))

    def take(self, rows: npt.ArrayLike) -> EventSequences:
        """The clients at these positions, in this order; a client may come several times."""
        return self._take(pa.array(np.asarray(rows, np.int64)))

    def _take(self, rows: pa.Array) -> EventSequences:
        """The same for an Arrow array; where it is null, the id and the lists are."""
        texts = self.texts.take(rows) if self.texts is not None else None
        return replace(self, table=self.table.take(rows), texts=texts)

    def select(self, client_ids: Any) -> EventSequences:
        """The clients with these ids, in this order.

        Raises:
            InputError: an id that is not here.
        """
        return self.take(self._places(pd.Index(client_ids), "are not among these sequences"))

    def of(self, client_ids: Any) -> EventSequences:
        """The old name of `select`."""
        warn_renamed("EventSequences.of", "EventSequences.select", stacklevel=2)
        return self.select(client_ids)

    def distinct(self) -> EventSequences:
        """Every client once, where resampling drew some again."""
        again = self.client_ids.duplicated()
        return self[~again] if again.any() else self

    def align(self, labels: Labels) -> Labels:
        """Labels in the order of the clients, by client id.

        Args:
            labels: a Series or DataFrame whose index is the client id, each id once; or a DataFrame with the ids in a
                column named as that of the client, which then is left out of the result.

        Raises:
            InputError: no Series or DataFrame, an id twice, or a client without a label.
        """
        if not isinstance(labels, (pd.Series, pd.DataFrame)):
            raise InputError(
                f"Cannot align a {type(labels).__name__}. Expected a pandas Series or DataFrame indexed by client id."
            )
        if isinstance(labels, pd.DataFrame) and self.client in labels.columns:
            labels = labels.set_index(self.client)
        if labels.index.has_duplicates:
            again = labels.index[labels.index.duplicated()].tolist()[0]
            raise InputError(f"Client {again!r} has several labels. Expected one a client: drop or join the others.")
        found = places(self.client_ids, labels.index)
        if (found < 0).any():
            raise self._absent(found, self.client_ids, "have no label", " Leave them out first.")
        aligned: Labels = labels.iloc[found]
        aligned.index = self.client_ids
        return aligned

    def _places(self, wanted: pd.Index[Any], lack: str) -> npt.NDArray[np.intp]:
        ids = self.client_ids
        _, first = np.unique(ids.factorize()[0], return_index=True)
        found = places(wanted, ids[first])
        if (found < 0).any():
            raise self._absent(found, wanted, lack, "")
        return np.asarray(first[found], np.intp)

    @staticmethod
    def _absent(found: npt.NDArray[np.intp], wanted: pd.Index[Any], lack: str, advice: str) -> InputError:
        absent = wanted[found < 0]
        examples = shown([repr(i) for i in absent[:3].tolist()])
        return InputError(f"{len(absent):,} of {len(wanted):,} clients {lack}, such as {examples}.{advice}")

    def to_arrow(self) -> pa.Table:
        """One row a client, with list columns."""
        return self.table

    def to_pandas(self) -> pd.DataFrame:
        """One row a client, indexed by client id; each cell is an array of the client's values."""
        frame: pd.DataFrame = self.table.drop_columns([self.client]).to_pandas()
        frame.index = self.client_ids
        return frame

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """The table, for whatever reads Arrow streams."""
        return self.table.__arrow_c_stream__(requested_schema)

    @property
    def __event_columns__(self) -> tuple[str, str, str | None]:
        """What `open_events` asks for: the client and the time column, and how times are written."""
        return self.client, self.time, self.time_format

    @property
    def __event_texts__(self) -> pa.Table | None:
        """What `open_events` asks for: the text of columns that a model may want as it was."""
        return self.texts

    def __array__(self, *_: Any, **__: Any) -> npt.NDArray[Any]:
        raise InputError(
            "Event sequences are no matrix. Put a SequenceEmbedder or AggregateFeatures before what wants numbers."
        )

    def __copy__(self) -> EventSequences:
        return self

    def __deepcopy__(self, _: Any) -> EventSequences:
        return self

    def __repr__(self) -> str:
        return f"EventSequences({len(self):,} clients, {self.events:,} events: {', '.join(self.columns)})"

    def _repr_html_(self) -> str:
        shares = self.lengths if len(self) else np.zeros(1, np.int64)
        roles = {self.client: "the client", self.time: "the time"}
        rows = "".join(
            f"<tr><td>{escape(field.name)}</td><td>{escape(_kind(field.type))}</td><td>{roles.get(field.name, '')}</td></tr>"
            for field in self.table.schema
        )
        return (
            f"<b>EventSequences</b>: {len(self):,} clients, {self.events:,} events; a client has {shares.min():,} to"
            f" {shares.max():,}, the median {np.median(shares):,.0f}<table>{rows}</table>"
        )


def _time_format(source: EventSource, time: str, given: str | None) -> str | None:
    """How the times are written: as is said, as the events say of themselves, or as the column shows."""
    if given is not None:
        return Config.from_dict({"schema": {"time_format": given}}, source="EventSequences.read").schema.time_format
    if source.time_format is not None or source.columns[time] != "VARCHAR":
        return source.time_format
    return infer_time_format(source, time, option="time_format=...")


def _kind(kind: pa.DataType) -> str:
    return str(kind.value_type if hasattr(kind, "value_type") else kind)
