"""Read labels and embeddings, and join them by client id, never by position."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from seqmel.core.errors import ConfigError, InputError, SchemaError, shown
from seqmel.core.progress import Progress
from seqmel.core.renames import renamed_keywords
from seqmel.core.units import count_words
from seqmel.data.schema import UNNAMED_INDEX, recognise_client
from seqmel.data.sources.addresses import is_address
from seqmel.data.sources.arrow_tables import arrow_table, collected, engine_table
from seqmel.data.sources.reading import _register, event_files, is_paths, paths_label
from seqmel.data.sources.source import EventSource, connect, ident, reading, type_in_words
from seqmel.data.tables.number_types import Scales
from seqmel.data.tables.vector_files import scales_of

__all__ = [
    "Task",
    "align",
    "check_classes",
    "client_of_embeddings",
    "column_names",
    "has_column",
    "id_positions",
    "join_features",
    "likely_client",
    "locate_ids",
    "named_client",
    "open_features",
    "own_time_column",
    "plain_id",
    "read_by_client",
    "read_column",
    "read_embeddings",
    "read_ids",
    "read_labels",
    "read_observed",
    "recognise_task",
    "say_undated",
    "to_quantities",
]

Table: TypeAlias = Any
"""A path (str or Path) to Parquet or CSV, or a table.

A table is pandas, polars, pyarrow, or anything with an Arrow stream.
"""

Task: TypeAlias = Literal["auto", "classification", "regression"]

_MOST_CLASSES = 20  # A number with more distinct values than this is a quantity.
_TEXT = re.compile(r"VARCHAR|ENUM.*|UUID")
_WHOLE = re.compile(r"U?(TINY|SMALL|BIG)?INT(EGER)?|BOOLEAN")
_NUMBER = re.compile(rf"{_WHOLE.pattern}|U?HUGEINT|FLOAT|DOUBLE|DECIMAL.*")
_BATCH_ROWS = 100_000
_FRACTION = re.compile(r"FLOAT|DOUBLE|DECIMAL.*|.*\[\d*\]|BLOB|BOOLEAN")
_VECTOR = re.compile(r"(FLOAT|DOUBLE|TINYINT)\[\d*\]")


@renamed_keywords(moment="time_column")
def read_labels(
    labels: Table,
    target: str,
    *,
    client: str | None = None,
    time_column: str | None = None,
    options: tuple[str, str] = ("--client", "--target"),
) -> pd.Series[Any]:
    """Read one label per client, or one per client and time.

    Args:
        labels: a table with one row per client, or one per client and time.
        target: the column to predict: classes (text, booleans, whole numbers) or quantities.
        client: the client column; None recognises it by name.
        time_column: the time column, if clients have labels for several times.
        options: how a user names another client column and target, for the message about a missing
            column.

    Returns:
        The target, named as its column, indexed by client id (and time), in the order of the table.
        Rows with a target that is null, NaN or infinite are left out. Text, booleans and whole
        numbers keep their type; other numbers become float64.

    Raises:
        SchemaError: a column is missing, or the target is neither text nor boolean nor a number.
        InputError: the table cannot be read or has no labels, an id is missing, or a client (and
            time) has two labels.

    Examples:
        >>> import seqmel
        >>> gender = seqmel.read_labels(seqmel.generate_card_data(3).clients, "gender")
        >>> gender.index.name, gender.name
        ('client_id', 'gender')
    """
    source = _open(labels, client)
    client = client or recognise_client(source.columns, source.label)
    source.require(client, f"Name the client column with {options[0]}.")
    source.require(target, f"Name the column with {options[1]}.")
    if client == target:
        raise SchemaError(
            f"The column {target!r} is the client column of {source.label}. Name another with "
            f"{options[1]}."
        )
    value = _target_sql(target, source)
    return _series(source, target, value, client, time_column, f"Column {target!r}")


def read_observed(
    labels: Table,
    target: str,
    task: str,
    observed: str | None,
    *,
    options: tuple[str, str] = ("--client", "--observed"),
    **keys: Any,
) -> pd.Series[Any] | None:
    """Read whether each event was observed, for the task "survival"; None for other tasks.

    Args:
        labels: see `Table`.
        target: the column with the times.
        task: the task.
        observed: the column to read; None takes TARGET_observed.
        options: how a user names another column, see `read_labels`.
        **keys: client and time_column, as of `read_labels`.

    Raises:
        ConfigError: `observed` is given for another task.
        SchemaError: the column is missing.
    """
    if task == "survival":
        column = observed or f"{target}_observed"
        return read_labels(labels, column, options=options, **keys)
    if observed is not None:
        raise ConfigError(
            f"observed (--observed) belongs to the task survival; found {task}. Leave it out, or "
            "set --task survival."
        )
    return None


def read_column(
    labels: Table,
    column: str,
    *,
    option: str,
    client: str | None = None,
    time_column: str | None = None,
) -> pd.Series[Any]:
    """Read another column of the labels, of any type, as `read_labels` reads the target.

    It serves to split the clients.

    Args:
        labels: a table as in `read_labels`.
        column: its name.
        option: the flag that names another column, for the message about a missing column.
        client: the client column; None recognises it.
        time_column: the time column, if the labels have one.

    Returns:
        The column, indexed by client id (and time).

    Raises:
        SchemaError, InputError: see `read_labels`.
    """
    source = _open(labels, client)
    client = client or recognise_client(source.columns, source.label)
    source.require(column, f"Name another column with {option}.")
    if "--by" in option and column == client:
        raise InputError(
            f"{column!r} is the client column of {source.label}: each client would be a group. "
            f"Name another column with {option}."
        )
    return _series(source, column, ident(column), client, time_column, f"Column {column!r}")


def _series(
    source: EventSource, name: str, value: str, client: str, time_column: str | None, what: str
) -> pd.Series[Any]:
    """Return the values of an SQL expression, without nulls, by client (and time)."""
    keys = _keys(source, client, time_column)
    read = source.stream(
        f"SELECT * FROM (SELECT {value} AS __value, {', '.join(keys)} FROM events) WHERE __value "
        "IS NOT NULL",
        _BATCH_ROWS,
    ).read_all()
    if not len(read):
        raise InputError(f"{what} of {source.label} holds only nulls. Name a column with values.")
    values: pd.Series[Any] = read.column(0).to_pandas()
    values.index = _ids(read.select(range(1, read.num_columns)), source.label)
    values.name = name
    return values


def likely_client(labels: Table, name: str) -> str | None:
    """Return `name` if the table has such a column, which is then the client column; else None."""
    return name if has_column(labels, name) else None


def column_names(table: Table) -> list[str]:
    """Return the names of all columns of the table."""
    return list(_open(table, read=False).columns)


def has_column(table: Table, name: str) -> bool:
    """Return whether the table has a column of that name."""
    return name in column_names(table)


def own_time_column(table: Table, time_column: str | None) -> str | None:
    """Return the time column of vectors or predictions, which have the time as the events name it.

    Args:
        table: vectors or predictions.
        time_column: the time column of the labels, or None.

    Returns:
        `time_column`, or the only column of times if the table lacks it.
    """
    if time_column is None:
        return None
    return _or_only_time(_open(table, read=False).columns, time_column)


def _or_only_time(columns: Mapping[str, str], time_column: str | None) -> str | None:
    times = [name for name, kind in columns.items() if re.match(r"TIMESTAMP|DATE", kind)]
    missing = time_column is not None and time_column not in columns
    return times[0] if missing and len(times) == 1 else time_column


def say_undated(labels: Table, time: str, progress: Progress, *, hint: str = "") -> None:
    """Warn of labels that have the time column of the events, and are taken without it.

    Args:
        labels: a table of labels, of which only the clients are used.
        time: the time column of the events.
        progress: where to say it.
        hint: what to do. The default names --time-column.
    """
    kind = _open(labels, read=False).columns.get(time)
    if kind is not None and not kind.endswith("]"):  # a list is of the events, one row per client
        label = f"the labels ({paths_label(labels)})" if is_paths(labels) else "the labels"
        hint = hint or f"To cut each history before its moment: --time-column {time}."
        progress.say(
            f"warning: {label} have a column {time!r}, as the events have, and each is taken with "
            f"all events of its client, also those after it. {hint}"
        )


def named_client(labels: Table) -> str | None:
    """Return the only column with a name of a client id; None if there are none or several."""
    try:
        return recognise_client(_open(labels, read=False).columns, "")
    except SchemaError:
        return None


def read_ids(table: Table, *, client: str | None = None) -> list[str]:
    """Read the client ids of a table, as text.

    If the table has one column, that column holds the ids.

    Args:
        table: see `Table`.
        client: the client column; None recognises it.

    Raises:
        SchemaError: the column is missing, or none is recognised.
    """
    source = _open(table, client)
    if client is None:
        client = (
            next(iter(source.columns))
            if len(source.columns) == 1
            else recognise_client(source.columns, source.label)
        )
    source.require(client, "Name the client column with --client.")
    return [
        text
        for (text,) in source.rows(
            f"SELECT DISTINCT {ident(client)}::VARCHAR AS id FROM events ORDER BY id"
        )
        if text
    ]


def client_of_embeddings(embeddings: Table, likely: str | None = None) -> str:
    """Return the client column of a table of embeddings: `likely`, or what the table shows.

    The table shows it by the column beside `emb_0000 ...` or `embedding`, by the index that pandas
    wrote, by a column with a name of a client id, or by the first column, if it alone holds text or
    whole numbers.

    Args:
        embeddings: see `read_embeddings`.
        likely: the client column of the labels or events; used if the table has it.

    Raises:
        SchemaError: nothing distinguishes the client column from the vector.
    """
    return _client_among(_open(embeddings, read=False), embeddings, likely)


def _client_among(source: EventSource, embeddings: Table, likely: str | None) -> str:
    columns = source.columns
    if likely in columns:
        return str(likely)
    vectors = {name for name in columns if re.fullmatch(r"emb_\d+|embedding", name)}
    others = [name for name in columns if name not in vectors]
    named = [name for name in others if not UNNAMED_INDEX.fullmatch(name)]
    if vectors and len(others) == 1:
        return others[0]
    index = [name for name in _pandas_index(embeddings) if name in named]
    if len(index) == 1:
        return index[0]
    with contextlib.suppress(SchemaError):
        return recognise_client(named, source.label)
    unnamed = [name for name in _pandas_index(embeddings) if name in others]
    # the index of a DataFrame indexed by client; row numbers occur beside a client column
    if len(unnamed) == 1:
        return unnamed[0]
    if not others:
        raise SchemaError(
            f"No column of {source.label} holds the client: all of them are of the vector. Write "
            "the client ids as a column, in pandas with reset_index()."
        )
    ids = [name for name in others if not _FRACTION.fullmatch(columns[name])]
    if ids == others[:1] or (vectors and others and others[0] in ids):
        return ids[0]
    raise SchemaError(
        f"Which column of {source.label} holds the client? It has: {shown(columns)}. Name it with "
        "--client (client=...)."
    )


def _pandas_index(embeddings: Table) -> list[str]:
    """Return the columns of a Parquet file or Arrow table that were the index of a DataFrame."""
    schema = getattr(embeddings, "schema", None)
    if is_paths(embeddings):
        with contextlib.suppress(OSError, pa.ArrowException):
            schema = pq.read_schema(event_files(embeddings)[0])
    stored = (schema.metadata or {}).get(b"pandas") if isinstance(schema, pa.Schema) else None
    if not stored:
        return []
    return [name for name in json.loads(stored)["index_columns"] if isinstance(name, str)]


@renamed_keywords(moment="time_column")
def read_embeddings(
    embeddings: Table,
    *,
    client: str | None = None,
    time_column: str | None = None,
    likely: str | None = None,
) -> pd.DataFrame:
    """Read one vector per client, or one per client and time.

    Args:
        embeddings: a table with one row per client (and time). The vector is in columns `emb_0000
            ...`, or in one list column `embedding`; without either, it is in all columns except the
            client column. Vectors that `seqmel embed` wrote as int8 or binary are decoded with the
            scales in the file (or Arrow table); a bit becomes 0 or 1.
        client: the client column; None recognises it (`client_of_embeddings`).
        time_column: the time column, as `embed_as_of` writes it, if clients have vectors for
            several times. If the table lacks it, its only column of times is taken, because
            `embed_as_of` names times as the events do, and labels may not.
        likely: the client column if `client` is None and the table has it, such as that of the
            labels.

    Returns:
        A DataFrame of float32, one row per client in the order of the table, indexed by client id
        (and time).

    Raises:
        SchemaError: a column is missing or not numeric.
        InputError: the table cannot be read or has no rows, vectors differ in length, a client id
            is missing, or a client occurs twice.

    Examples:
        >>> import seqmel
        >>> data = seqmel.generate_card_data(20)
        >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
        >>> written = model.embed(data.events, "vectors.parquet", dtype="int8")
        >>> seqmel.read_embeddings(written).shape == (20, written.dimensions)
        True
    """
    embeddings = collected(embeddings)
    source, client = open_features(embeddings, client, likely)
    time_column = _or_only_time(source.columns, time_column)
    keys = _keys(source, client, time_column)
    scales = _scales(embeddings, source.label)
    names = _vector_columns(source, client, time_column, packed=scales is not None)
    kind = source.columns["embedding"] if names == ["embedding"] else ""
    packed = kind == "BLOB"
    nested = bool(_VECTOR.fullmatch(kind))
    read_as = "BLOB" if packed else "FLOAT[]" if nested else "FLOAT"
    selected = ", ".join(f"{ident(name)}::{read_as} AS {ident(name)}" for name in names)
    read = source.stream(
        f"SELECT {selected}, {', '.join(keys)} FROM events", _BATCH_ROWS
    ).read_all()
    ids = _ids(read.select(range(len(names), read.num_columns)), source.label)
    values: Any
    if packed:
        assert scales is not None, "without scales a column of bytes is no vector"
        bits = np.stack([np.frombuffer(row, np.uint8) for row in read.column(0).to_pylist()])
        values = np.unpackbits(bits, axis=1)[:, : scales.size]
    elif nested:
        values = _vectors(read.column(0), ids, source.label)
    else:
        values = {name: read.column(name).to_numpy() for name in names}
    frame: pd.DataFrame = pd.DataFrame(values, index=ids)
    if scales is not None:
        _check_size(scales, frame, source.label)
        frame = pd.DataFrame(scales.decode(frame.to_numpy()), index=ids, columns=frame.columns)
    return frame.rename(columns=lambda i: f"emb_{i:04}") if packed or nested else frame


def open_features(
    table: Table, client: str | None = None, likely: str | None = None
) -> tuple[EventSource, str]:
    """Open a table with one row per client, and find its client column.

    Args:
        table: see `Table`.
        client: the client column; None recognises it (`client_of_embeddings`).
        likely: the client column if `client` is None and the table has it.

    Returns:
        The opened table and its client column.

    Raises:
        SchemaError: the client column is missing or not recognised.
        InputError: the table cannot be read or has no rows.
    """
    source = _open(table, client)
    if client is None:
        client = _client_among(source, table, likely)
        # In a CSV file, ids stay as they are written.
        if source.columns[client] not in ("VARCHAR", "BIGINT"):
            source = _open(table, client)
    source.require(client, "Name the client column with --client.")
    return source, client


def read_by_client(
    source: EventSource, selected: Sequence[str], client: str
) -> tuple[pa.Table, pd.Index[Any]]:
    """Read SQL expressions of all rows, and the client ids.

    Args:
        source: a table with one row per client.
        selected: SQL expressions.
        client: the client column.

    Returns:
        The values and the (N,) ids.

    Raises:
        InputError: an id is missing, or a client has two rows.
    """
    sql = ", ".join([*selected, *_keys(source, client, None)])
    read = source.stream(f"SELECT {sql} FROM events", _BATCH_ROWS).read_all()
    count = len(selected)
    ids = _ids(read.select(range(count, read.num_columns)), source.label, dated=False)
    return read.select(range(count)), ids


def _scales(embeddings: Table, label: str) -> Scales | None:
    """Return the scales in the file or Arrow table."""
    if is_paths(embeddings):
        return scales_of(event_files(embeddings), label)
    schema = getattr(embeddings, "schema", None)
    return Scales.from_metadata(schema.metadata, label) if isinstance(schema, pa.Schema) else None


def _check_size(scales: Scales, frame: pd.DataFrame, label: str) -> None:
    if scales.size != frame.shape[1]:
        raise InputError(
            f"{label} has vectors of {count_words(frame.shape[1], 'dimension')} and scales for "
            f"{scales.size}. Expected all columns of a file that seqmel embed wrote."
        )


def align(labels: pd.Series[Any], features: pd.DataFrame) -> tuple[pd.Series[Any], pd.DataFrame]:
    """Align labels and features by client id.

    Ids of another type ("12" for 12) are matched through their text if none matches directly.

    Args:
        labels: one value per client, indexed by client id.
        features: one row per client, indexed by client id.

    Returns:
        The rows of the clients that both have, in the order of `labels` and with its ids.

    Raises:
        InputError: no client is in both. The message gives the number of ids on each side, and
            examples.
    """
    _once(features.index, "the features")
    place = locate_ids(labels.index, features.index, of="features")
    found = place >= 0
    matched = features.iloc[place[found]]
    matched.index = labels.index[found]
    return labels[found], matched


def locate_ids(labelled: pd.Index[Any], clients: pd.Index[Any], *, of: str) -> npt.NDArray[np.intp]:
    """Return the position of each labelled client among `clients`; -1 if it is missing.

    Ids of another type ("12" for 12) are matched through their text if none matches directly.

    Args:
        labelled: (N,) unique ids.
        clients: (M,) unique ids.
        of: what the clients have, for the message: "features".

    Returns:
        (N,) positions in `clients`.

    Raises:
        InputError: none is found. The message gives the number of ids on each side, and examples.
    """
    _once(labelled, "the labels")
    place = id_positions(labelled, clients)
    if (place < 0).all():
        raise InputError(
            f"No client of the labels has {of}. Labels: {_examples(labelled)}; {of}: "
            f"{_examples(clients)}. Check that both use the same client ids and client column."
        )
    return place


def recognise_task(y: pd.Series[Any]) -> Task:
    """Return "regression" for a number with more than 20 distinct values, else "classification".

    Args:
        y: the labels.
    """
    number = pd.api.types.is_numeric_dtype(y) and not pd.api.types.is_bool_dtype(y)
    return "regression" if number and y.nunique() > _MOST_CLASSES else "classification"


def to_quantities(y: pd.Series[Any]) -> npt.NDArray[np.float64]:
    """Return the labels as (clients,) float64.

    Args:
        y: the labels.

    Raises:
        InputError: the target is text, or the same for all clients.
    """
    if not pd.api.types.is_numeric_dtype(y):
        raise InputError(
            f"The target {y.name!r} is text, such as {y.iloc[0]!r}. Regression needs numbers."
        )
    quantities = y.to_numpy(np.float64)
    if quantities.min() == quantities.max():
        raise InputError(f"The target {y.name!r} is {y.iloc[0]} for all {len(y):,} usable clients.")
    return quantities


def check_classes(y: pd.Series[Any]) -> None:
    """Check that there are at least two classes.

    Args:
        y: the labels.

    Raises:
        InputError: there is only one.
    """
    if y.nunique() < 2:
        raise InputError(
            f"The target {y.name!r} has one class only, {y.tolist()[0]!r}, among "
            f"{count_words(len(y), 'client')} that can be used. Expected two or more."
        )


def join_features(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Join the features of two tables for the clients that both have.

    Rows are in the order of `a` and have its ids. A column of `b` with the name of one of `a` gets
    the suffix "_2".

    Args:
        a: one row per client, indexed by client id.
        b: the same.

    Raises:
        InputError: no client is in both.
    """
    order, right = align(a.index.to_series(), b)
    renamed = right.rename(
        columns={name: f"{name}_2" for name in a.columns.intersection(b.columns)}
    )
    joined: pd.DataFrame = pd.concat([a.loc[order.index], renamed], axis=1)
    return joined


def _open(table: Table, client: str | None = None, *, read: bool = True) -> EventSource:
    """Open the table as a source.

    Unlike `open_events`, it does not read list columns as events, and may leave CSV values
    unparsed.
    """
    connection = connect()
    if is_paths(table) or is_address(table) or isinstance(table, ds.Dataset):
        label, *_ = _register(connection, table, client, read=read)
    else:
        label = f"the given {type(table).__name__}"
        if isinstance(table, pd.Series) and table.index.name is None:
            table = table.rename_axis(client or "client")
        connection.register(
            "raw", engine_table(connection, _without_float16(arrow_table(table)[0]))[0]
        )
    with reading(label):
        connection.execute("CREATE VIEW events AS FROM raw")
        columns = {
            name: kind for name, kind, *_ in connection.execute("DESCRIBE events").fetchall()
        }
        if not connection.execute("SELECT 1 FROM events LIMIT 1").fetchall():
            raise InputError(f"{label} has no rows. Expected one row per client.")
    return EventSource(connection, label, columns)


def _without_float16(table: pa.Table) -> pa.Table:
    """Cast float16 columns. DuckDB reads them from Parquet, but not from Arrow."""
    return table.cast(
        pa.schema(
            [field.with_type(_wider(field.type)) for field in table.schema], table.schema.metadata
        )
    )


def _wider(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_wider(kind.value_type), kind.list_size)
    if pa.types.is_list(kind):
        return pa.list_(_wider(kind.value_type))
    return pa.float32() if pa.types.is_float16(kind) else kind


def _target_sql(target: str, source: EventSource) -> str:
    kind = source.columns[target]
    if _WHOLE.fullmatch(kind):
        return ident(target)
    if _TEXT.fullmatch(kind):
        return f"{ident(target)}::VARCHAR"
    if _NUMBER.fullmatch(kind):
        return f"CASE WHEN isfinite({ident(target)}::DOUBLE) THEN {ident(target)}::DOUBLE END"
    raise SchemaError(
        f"The target {target!r} of {source.label} holds {type_in_words(kind)}. Expected text or "
        "booleans (classes), or numbers."
    )


def _keys(source: EventSource, client: str, time_column: str | None) -> list[str]:
    """Return SQL of the keys of a row: the client, and the time, converted to one type."""
    if time_column is None:
        return [ident(client)]
    source.require(time_column, "Name the time column with --time-column.")
    if time_column == client:
        raise SchemaError(
            f"Client and time are the same column, {client!r}, in {source.label}. Name two columns."
        )
    is_time = re.match(r"TIMESTAMP|DATE", source.columns[time_column])
    return [
        ident(client),
        f"{ident(time_column)}{'::TIMESTAMP' if is_time else ''} AS {ident(time_column)}",
    ]


def _vector_columns(
    source: EventSource, client: str, time_column: str | None, *, packed: bool
) -> list[str]:
    columns = source.columns
    kind = columns.get("embedding", "")
    if _VECTOR.fullmatch(kind) or (packed and kind == "BLOB"):
        return ["embedding"]
    others = [
        n for n in columns if n not in (client, time_column) and not UNNAMED_INDEX.fullmatch(n)
    ]
    names = [name for name in others if re.fullmatch(r"emb_\d+", name)] or others
    wrong = [
        f"{name} ({type_in_words(columns[name])})"
        for name in names
        if not _NUMBER.fullmatch(columns[name])
    ]
    if wrong or not names:
        raise SchemaError(
            f"Cannot read vectors from {source.label}: besides the client column {client!r} it has "
            f"{'columns that are not numeric: ' + shown(wrong) if wrong else 'no column'}. "
            "Expected numbers in columns emb_0000 ..., or lists in a column 'embedding'. Name "
            "another client column with --client."
        )
    return names


def _vectors(column: pa.ChunkedArray, ids: pd.Index[Any], label: str) -> npt.NDArray[np.float32]:
    """Return lists of equal length as a (clients, dimensions) matrix."""
    lengths = pc.list_value_length(column).fill_null(0).to_numpy()
    uneven = np.flatnonzero(lengths != lengths[0])
    if len(uneven) or not lengths[0]:
        client, length = (ids[uneven[0]], lengths[uneven[0]]) if len(uneven) else (ids[0], 0)
        raise InputError(
            f"Client {plain_id(client)} has a vector of length {length} in {label}, and the first "
            f"client one of length {lengths[0]}. Expected vectors of equal length, none empty."
        )
    values = pc.list_flatten(column).to_numpy()
    return np.asarray(values, np.float32).reshape(len(lengths), -1)


def _ids(keys: pa.Table, label: str, *, dated: bool = True) -> pd.Index[Any]:
    for what, name, column in zip(
        ("client", "time"), keys.column_names, keys.columns, strict=False
    ):
        if column.null_count:
            raise InputError(
                f"{count_words(column.null_count, f'row of {label} has', f'rows of {label} have')} "
                f"no {what} (column {name!r} is null). Drop or fix them."
            )
    parts = [
        pd.Index(column.to_pandas(), name=name)
        for name, column in zip(keys.column_names, keys.columns, strict=True)
    ]
    ids: pd.Index[Any] = parts[0] if len(parts) == 1 else pd.MultiIndex.from_arrays(parts)
    _once(ids, label, dated=dated)
    return ids


def _once(ids: pd.Index[Any], label: str, *, dated: bool = True) -> None:
    again = ids[ids.duplicated()]
    if len(again):
        row = "one row per client" if ids.nlevels == 1 else "one row per client and time"
        hint = " If they are of different moments, name --time-column."
        hint = hint if dated and ids.nlevels == 1 else ""
        raise InputError(
            f"Client {plain_id(again[0])} has {count_words(int(ids.isin(again[:1]).sum()), 'row')} "
            f"in {label}. Expected {row}: drop or join the others.{hint}"
        )


def id_positions(wanted: pd.Index[Any], ids: pd.Index[Any]) -> npt.NDArray[np.intp]:
    """Return the position of each wanted id among unique ids; -1 if it is missing.

    If none is found directly, ids are compared as text, so that "12" finds 12.

    Args:
        wanted: (N,) ids.
        ids: (M,) unique ids.

    Returns:
        (N,) positions in `ids`.
    """
    place = np.asarray(ids.get_indexer(wanted), np.intp)
    return _positions_by_text(wanted, ids) if (place < 0).all() else place


def _positions_by_text(wanted: pd.Index[Any], ids: pd.Index[Any]) -> npt.NDArray[np.intp]:
    """Return the position of each wanted id among the ids as text; -1 if it is missing."""
    place: dict[str, int] = {}
    for i, client in enumerate(ids):
        place.setdefault(plain_id(client), i)
    return np.array([place.get(plain_id(client), -1) for client in wanted], np.intp)


def plain_id(client: object) -> str:
    """Return an id as text: a whole number without a decimal point."""
    if isinstance(client, tuple):
        return " at ".join(map(plain_id, client))
    whole = isinstance(client, (float, np.floating)) and float(client).is_integer()
    return str(int(client)) if whole else str(client)  # type: ignore[call-overload]


def _examples(ids: pd.Index[Any]) -> str:
    return (
        f"{count_words(len(ids), 'client')}, such as {', '.join(repr(i) for i in ids[:3].tolist())}"
    )
