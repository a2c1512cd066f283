"""Read events from any supported source into a DuckDB view with one row per event.

`open_events` takes a Parquet or CSV file, a folder, a glob, a partitioned data set, a pandas,
polars or Arrow table, or a list of dictionaries, with one row per event, or one row per client and
list columns. All other code (schema, vocabulary, preparation, aggregates) uses only the resulting
`EventSource`.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from seqmel.core.errors import InputError, SchemaError, did_you_mean, shell_words, shown
from seqmel.core.memory import memory_bytes
from seqmel.core.progress import EventsWarning
from seqmel.core.threads import engine_threads
from seqmel.core.units import count_words
from seqmel.data.schema import AS_ASKED, may_be_time, recognise_client
from seqmel.data.sources.addresses import data_set_at, is_address
from seqmel.data.sources.arrow_tables import PERIOD, arrow_table, engine_table
from seqmel.data.sources.csv_files import CSV, Categories, Decimal, register_csv, with_texts
from seqmel.data.sources.folders import check_plain, delta_files, equal_files, is_meds, meds_folder
from seqmel.data.sources.source import (
    RESERVED,
    ROW,
    EventSource,
    connect,
    ident,
    literal,
    no_column,
    reading,
    row_of_table,
)

__all__ = [
    "Events",
    "check_even",
    "client_twice",
    "csv_files_of",
    "event_files",
    "is_paths",
    "nameless_rows",
    "nan_as_null",
    "only_clients",
    "open_events",
    "open_member",
    "open_unread",
    "partitioned",
    "paths_label",
]

Events: TypeAlias = Any
"""A path, folder or glob (str or Path), or a list of them; an address of Parquet files, such as
s3://bucket/events; a pandas, polars or pyarrow table, or anything with an Arrow stream; a
dictionary of columns; a pyarrow data set; or a list of dictionaries. Functions that take a schema
or a model also take name -> any of these, for several tables."""

_COUNTED = "row_number() OVER ()"
_FILE_BITS = 40  # bits of a position for the rows of one file
_PARQUET = (".parquet", ".pq", ".parq")
_JSON_LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
_ARROW = (".feather", ".arrow", ".ipc")
# All other files are taken for Parquet.
_KINDS = {"CSV": CSV, "JSON": (".json", ".json.gz", *_JSON_LINES), "Arrow": _ARROW}
_SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".ods")


def open_events(
    events: Events,
    *,
    client: str | None = None,
    time: str | None = None,
    skip: Callable[[str], bool] | None = None,
    empty: bool = False,
    decimal: Decimal | None = None,
    categories: Categories | None = None,
    memory_limit: str | None = None,
    threads: int | None = None,
    temp_folder: str | os.PathLike[str] | None = None,
) -> EventSource:
    """Open events of any supported kind.

    Args:
        events: A Parquet or CSV file, a folder, a glob, an address of Parquet files such as
            s3://bucket/events, a pandas, polars or Arrow table, a pyarrow data set (neither is
            loaded as a whole), `EventSequences`, or a list of dictionaries: one per event, or one
            per client with sequences.
        client: The client column. It is needed here to unnest list columns and to keep the text of
            ids in CSV files. None recognises it by name.
        time: The time column. It is needed here to distinguish lists of events from a list in each
            event.
        skip: Returns whether a column is ignored. Its lists may have other lengths.
        decimal: The decimal mark of CSV files. None recognises a comma from the values.
        empty: Whether events with columns and no rows are accepted.
        categories: Columns known to be categories, with their codes if a model has them. CSV files
            keep their text.
        memory_limit: Memory limit of DuckDB, such as "4GB". It spills to disk beyond.
        threads: Number of threads of DuckDB. None uses all cores.
        temp_folder: Where DuckDB spills.

    Returns:
        The events as a table of DuckDB: `columns`, `stream`, `connection`.

    Raises:
        InputError: There is nothing, it cannot be read, or it has no rows and `empty` is False.
        SchemaError: List columns do not fit together.

    Examples:
        >>> import seqmel
        >>> source = seqmel.open_events(seqmel.generate_card_data(3).events)
        >>> list(source.columns)[:2]
        ['client_id', 'event_time']
    """
    connection = connect(memory_limit=memory_limit, threads=threads, temp_folder=temp_folder)
    source = _opened(
        connection,
        events,
        client,
        categories,
        time=time,
        skip=skip,
        read=True,
        empty=empty,
        decimal=decimal,
    )
    return replace(source, memory=memory_bytes(memory_limit), threads=engine_threads(threads))


def open_member(
    connection: duckdb.DuckDBPyConnection,
    events: Events,
    number: int,
    *,
    client: str | None,
    time: str | None,
    skip: Callable[[str], bool] | None,
    empty: bool,
    decimal: Decimal | None,
    categories: Categories | None,
) -> EventSource:
    """Open one of several tables on a shared connection, as the view `events_<number>`.

    The other arguments are those of `open_events`.
    """
    return _opened(
        connection,
        events,
        client,
        categories,
        time=time,
        skip=skip,
        read=True,
        empty=empty,
        decimal=decimal,
        suffix=f"_{number}",
    )


def open_unread(
    events: Events,
    *,
    client: str | None = None,
    time: str | None = None,
    categories: Categories | None = None,
    memory_limit: str | None = None,
) -> EventSource:
    """Open events without reading them: CSV files stay files.

    For events that are read elsewhere in parts (`seqmel.data.sources.parts`).
    """
    connection = connect(memory_limit=memory_limit)
    return _opened(connection, events, client, categories, time=time, read=False)


def _opened(
    connection: duckdb.DuckDBPyConnection,
    events: Events,
    client: str | None,
    categories: Categories | None,
    *,
    time: str | None = None,
    skip: Callable[[str], bool] | None = None,
    read: bool,
    empty: bool = False,
    decimal: Decimal | None = None,
    suffix: str = "",
) -> EventSource:
    """Open events as the views `events` and `nested`; `suffix` ends their names in the catalog."""
    raw = f"raw{suffix}"
    label, left_out, placed = _register(
        connection, events, client, categories, raw, read=read, decimal=decimal
    )
    # EventSequences name their columns.
    named = getattr(events, "__event_columns__", (None, None, None))
    with reading(label):
        columns = _columns(connection, raw)
        no_rows = (
            not columns or connection.execute(f"SELECT 1 FROM {raw} LIMIT 1").fetchone() is None
        )
        if no_rows and not (empty and columns):
            raise InputError(
                f"{label} has no rows. Expected one row per event, or one row per client with "
                f"list columns."
            )
    # DuckDB also gives one column if lines of a CSV file differ in their number of fields.
    if len(columns) == 1:
        raise InputError(
            f"{label} has one column, {next(iter(columns))!r}. Expected a client, a time and "
            "columns to learn from; in a CSV file, the same number of fields on every line."
        )
    lists = [name for name, kind in columns.items() if _is_list(kind)]
    if lists and not _one_row_an_event(
        connection, label, columns, raw, client or named[0], time or named[1]
    ):
        unfolded = _unfold(
            connection,
            label,
            columns,
            left_out,
            client or named[0],
            skip,
            check=read,
            suffix=suffix,
        )
        return replace(
            unfolded,
            client=named[0] or unfolded.client,
            time=named[1],
            time_format=named[2],
            decimal=placed.decimal,
        )
    left_out |= placed.odd
    static = _static_rows(connection, label, columns, raw)
    connection.execute(
        (
            f"CREATE VIEW events{suffix} AS SELECT {nan_as_null(columns)}, {placed.place} AS {ROW}"
            f" FROM {placed.rows}"
        )
        + (" WHERE time IS NOT NULL" if static else "")
    )
    notes = (
        (f"{count_words(static, 'row')} without a time left out: the static facts of MEDS",)
        if static
        else ()
    )
    return EventSource(
        connection,
        label,
        columns,
        left_out=left_out,
        unreadable=placed.odd,
        notes=notes,
        whole=placed.whole,
        files=placed.files,
        decimal=placed.decimal,
    )


def _static_rows(
    connection: duckdb.DuckDBPyConnection, label: str, columns: dict[str, str], raw: str
) -> int:
    """Return how many rows of a MEDS data set have no time. Elsewhere such rows are an error."""
    if not is_meds(list(columns)):
        return 0
    with reading(label):
        (static,) = connection.execute(f"SELECT count(*) FROM {raw} WHERE time IS NULL").fetchall()[
            0
        ]
    return int(static)


def _one_row_an_event(
    connection: duckdb.DuckDBPyConnection,
    label: str,
    columns: dict[str, str],
    raw: str,
    client: str | None,
    time: str | None,
) -> bool:
    """Return whether a row of a table with list columns is an event rather than a client.

    The time column decides if it is known. Otherwise, if no list holds times, a client with several
    rows shows that rows are events.
    """
    if time in columns:
        return not _is_list(columns[time])
    times = {name: _is_list(kind) for name, kind in columns.items() if may_be_time(name, kind)}
    if any(times.values()) or not times:
        return False
    single = [name for name, kind in columns.items() if not _is_list(kind)]
    try:
        key = ident(client or recognise_client(single, label))
    except SchemaError:
        return False
    with reading(label):
        (several,) = connection.execute(
            f"SELECT count(*) > count(DISTINCT {key}) FROM {raw}"
        ).fetchall()[0]
    return bool(several)


@dataclass(frozen=True)
class _Placed:
    """SQL for rows and for their positions in the input.

    Positions come from the file or table. Counting rows would be a scan in a single thread.

    Attributes:
        rows: SQL for the rows.
        place: SQL for the position of a row.
        whole: See `EventSource`.
        partitioned: Whether names of folders are columns.
        odd: Column -> why none of its rows can be read.
        files: The files of the events.
    """

    rows: str
    place: str
    whole: tuple[str, ...] | pa.Table | str | None = None
    partitioned: bool = False
    odd: dict[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    decimal: Decimal = "."


def _register(
    connection: duckdb.DuckDBPyConnection,
    events: Events,
    client: str | None,
    categories: Categories | None = None,
    raw: str = "raw",
    *,
    read: bool,
    decimal: Decimal | None = None,
) -> tuple[str, dict[str, str], _Placed]:
    """Create the view `raw`, or a table from CSV files that are read now.

    Returns:
        The label of the events, the columns that are partition keys, and how to select the rows.
    """
    if is_address(events):
        found = data_set_at(events)
        left_out = dict.fromkeys(sorted(_partition_keys(found)), "partition key of the folder")
        return events, left_out, _register_table(connection, found, events, raw)
    if is_paths(events):
        path = paths_label(events)
        files = event_files(events)
        _warn_of_copies(path, files)
        table = _other_format(path, files)
        if table is not None:
            return path, {}, _register_table(connection, table, path, raw)
        placed = _register_files(
            connection, path, files, client, categories, raw, read=read, decimal=decimal
        )
        keys = sorted(_folder_keys(files[0])) if placed.partitioned else ()
        return path, dict.fromkeys(keys, "partition key of the folder"), placed
    label = f"the given {type(events).__name__}"
    if isinstance(events, ds.Dataset):
        left_out = dict.fromkeys(sorted(_partition_keys(events)), "partition key of the data set")
        return label, left_out, _register_table(connection, events, label, raw)
    table, odd = arrow_table(events)
    texts = getattr(events, "__event_texts__", None)
    table = table if texts is None else with_texts(connection, table, texts, categories or {})
    return label, {}, _register_table(connection, table, label, raw, odd)


def _warn_of_copies(path: str, files: list[str]) -> None:
    try:
        copies = equal_files(files) if len(files) > 1 else None
    except OSError:  # reading reports it
        return
    if copies is not None:
        first, second = copies
        warnings.warn(
            f"{second} is a copy of {first}, to the byte, so each row of it counts twice in "
            f"{path}. Leave one out, unless that is meant.",
            EventsWarning,
            stacklevel=2,
        )


def _other_format(path: str, files: list[str]) -> pa.Table | ds.Dataset | None:
    """Return the events of JSON and Arrow (Feather) files, or None for CSV and Parquet files.

    Raises:
        InputError: A spreadsheet, or files that cannot be read.
    """
    kind = _kind_of(files[0])
    if files[0].lower().endswith(_SPREADSHEETS):
        raise InputError(
            f"{files[0]} is a spreadsheet. Save it as CSV in UTF-8, or in Python pass "
            f"pandas.read_excel({files[0]!r})."
        )
    if kind == "Arrow":
        with reading(path):
            return ds.dataset(files, format="ipc")
    if kind == "JSON":
        listed = "[" + ", ".join(literal(f) for f in files) + "]"
        with reading(path):
            sql = f"FROM read_json({listed}, union_by_name = true, sample_size = -1)"
            return connect().sql(sql).to_arrow_table()
    return None


def _register_table(
    connection: duckdb.DuckDBPyConnection,
    table: pa.Table | ds.Dataset,
    label: str,
    raw: str,
    odd: dict[str, str] | None = None,
) -> _Placed:
    """Create `raw` from a table or data set. `odd` are unreadable columns and why they are."""
    _check_names(table.schema.names, label)
    odd = odd or {}
    with reading(label):
        if isinstance(table, pa.Table):
            table, more = engine_table(connection, table)
            odd = odd | more
        connection.register(raw, table)
    return _Placed(raw, _COUNTED, table if isinstance(table, pa.Table) else None, odd=odd)


def _partition_keys(events: ds.Dataset) -> set[str]:
    # The schema of the partitioning of a single file names all of its columns.
    first = next(iter(events.get_fragments()), None)
    return set() if first is None else set(ds.get_partition_keys(first.partition_expression))


def _check_names(names: list[str], label: str) -> None:
    """Raise a `SchemaError` if names are equal but for case, empty or reserved."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.casefold(), name) if name not in seen.values() else name
        if other != name or names.count(name) > 1:
            raise SchemaError(
                f"{label} has the columns {other!r} and {name!r}, which are equal apart from "
                f"case. Rename one."
            )
        if not name:
            raise SchemaError(f"{label} has a column without a name. Name it.")
        if RESERVED.fullmatch(name):
            raise SchemaError(
                f"{label} has a column named {name!r}, which seqmel keeps for itself. Rename it."
            )


def is_paths(events: Any) -> bool:
    """Return whether this is a path, folder or glob, or a list of them, and no address."""
    if is_address(events):
        return False
    several = isinstance(events, (list, tuple)) and bool(events)
    return all(isinstance(one, (str, os.PathLike)) for one in (events if several else (events,)))


def paths_label(events: Any) -> str:
    """Return the name of a path, or of a list of them, in messages."""
    if isinstance(events, (str, os.PathLike)):
        return os.fspath(events)
    more = f" and {len(events) - 1} more" if len(events) > 1 else ""
    return f"{os.fspath(events[0])}{more}"


def event_files(events: Any) -> list[str]:
    """Return the files of a path, folder or glob, or of a list of them, in a fixed order.

    All files have the same format.
    """
    if isinstance(events, (list, tuple)):
        files = [file for one in events for file in event_files(one)]
        seen = set[str]()
        for file in files:
            if os.path.realpath(file) in seen:
                raise InputError(
                    f"{file} is in the list of {paths_label(events)} twice, so its events would "
                    "count twice. Name it once."
                )
            seen.add(os.path.realpath(file))
        return _of_one_kind(paths_label(events), files)
    path = meds_folder(os.fspath(events))
    current = delta_files(path)
    if current is not None:
        return current
    files = _files_of(path)
    if files != [path]:
        check_plain(files, path)
    return files


def _files_of(path: str) -> list[str]:
    import glob

    if os.path.isdir(path):
        found = [
            str(f) for f in sorted(Path(path).rglob("*")) if f.is_file() and not _hidden(f, path)
        ]
        files = [f for f in found if f.lower().endswith((*_PARQUET, *CSV))]
        files = files or [f for f in found if f.lower().endswith((*_JSON_LINES, *_ARROW))]
        if not files and {"config.json", "model.safetensors"} <= set(os.listdir(path)):
            raise InputError(
                f"{path} is the folder of a model, and a table is expected here. Write its vectors "
                f"first: seqmel embed {shell_words(path)} EVENTS -o embeddings.parquet"
            )
        if not files:
            raise InputError(
                f"No Parquet or CSV file in the folder {path}. It has: "
                f"{shown(os.listdir(path)) or 'nothing'}"
            )
        return _of_one_kind(path, files)
    if os.path.exists(path):
        return [path]
    files = sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else []
    if not files and "://" in path:
        raise InputError(
            f"{path} is an address, where a path is expected. Addresses are read alone, as events, "
            "labels or facts; in Python a pyarrow.dataset.dataset(...) may have several."
        )
    if not files:
        beside = (
            os.listdir(os.path.dirname(path) or ".")
            if os.path.isdir(os.path.dirname(path) or ".")
            else []
        )
        raise InputError(
            f"No such file or folder: {path}.{did_you_mean(os.path.basename(path), beside)}"
        )
    return _of_one_kind(path, files)


def _of_one_kind(path: str, files: list[str]) -> list[str]:
    """Check that all files have the same format. Else some would be ignored silently."""
    kind = _kind_of(files[0])
    others = [f for f in files if _kind_of(f) != kind]
    if others:
        folder = path if os.path.isdir(path) else os.path.dirname(path)
        csv, other = sorted((files[0], others[0]), key=lambda f: _kind_of(f) != "CSV")
        raise InputError(
            f"{path} has {_kind_of(csv)} files, such as {os.path.basename(csv)}, and others, such "
            f"as {os.path.basename(other)}. Only files of one kind are read together: name them, "
            f"as in {os.path.join(folder, '**', '*.parquet')}."
        )
    return files


def _kind_of(file: str) -> str:
    return next((kind for kind, ends in _KINDS.items() if file.lower().endswith(ends)), "Parquet")


def csv_files_of(events: Events) -> list[str]:
    """Return the CSV files of a path, folder or glob, or none if the events are something else."""
    files = event_files(events) if is_paths(events) else []
    return files if _are_csv(files) else []


def _are_csv(files: list[str]) -> bool:
    return all(f.lower().endswith(CSV) for f in files)


def _hidden(file: Path, root: str) -> bool:
    return any(part.startswith((".", "_")) for part in file.relative_to(root).parts)


def _register_files(
    connection: duckdb.DuckDBPyConnection,
    path: str,
    files: list[str],
    client: str | None,
    categories: Categories | None,
    raw: str,
    *,
    read: bool,
    decimal: Decimal | None = None,
) -> _Placed:
    """Create `raw` from files: a table of CSV files that are read now, else a view."""
    if _are_csv(files):
        with reading(path):
            mark = register_csv(
                connection,
                files,
                raw,
                client=client,
                categories=categories,
                decimal=decimal,
                read=read,
            )
        if read:
            return _Placed(
                raw, row_of_table(connection, raw), raw, files=tuple(files), decimal=mark
            )
        return _Placed(raw, _COUNTED, files=tuple(files), decimal=mark)
    for file in files:
        _check_parquet(file)
    with reading(path):
        schema = pq.read_schema(files[0])
    _check_names(schema.names, path)
    hive = "true" if partitioned(path, files) else "false"
    listed = "[" + ", ".join(literal(f) for f in files) + "]"
    rows = f"read_parquet({listed}, union_by_name = true, hive_partitioning = {hive})"
    with reading(path):
        connection.execute(f"CREATE VIEW {raw} AS FROM {rows}")
    whole = tuple(files) if hive == "false" else None
    hidden = {"file_index", "file_row_number"} & {
        name.casefold() for name in _columns(connection, raw)
    }
    place = _COUNTED if hidden else f"(file_index::BIGINT << {_FILE_BITS}) + file_row_number"
    return _Placed(
        rows, place, whole, partitioned=hive == "true", odd=_periods(schema), files=tuple(files)
    )


def _periods(schema: pa.Schema) -> dict[str, str]:
    """Return the columns of pandas periods.

    Parquet stores them as numbers with unknown frequency.
    """
    names = (f.name for f in schema if _extension(f) == PERIOD)
    return dict.fromkeys(
        names,
        "pandas periods, which Parquet keeps as bare numbers: write .dt.to_timestamp() of them",
    )


def _extension(field: pa.Field) -> str:
    said = (field.metadata or {}).get(b"ARROW:extension:name", b"").decode()
    return str(getattr(field.type, "extension_name", said))


def _folder_keys(file: str) -> set[str]:
    """Return the keys of the folders `key=value` around a file."""
    return set(re.findall(r"([^/\\=]+)=[^/\\]*[/\\]", file))


def partitioned(path: str, files: list[str]) -> bool:
    """Return whether folders `key=value` add columns.

    A column of the files themselves has precedence.

    Raises:
        SchemaError: The files have some of the keys as columns and lack others.
    """
    keys = {key.casefold(): key for key in _folder_keys(files[0])}
    with reading(path):
        inside = (
            keys.keys() & {name.casefold() for file in files for name in pq.read_schema(file).names}
            if keys
            else set()
        )
    if inside and len(inside) < len(keys):
        both = sorted(keys[k] for k in inside)
        lacking = sorted(keys[k] for k in keys.keys() - inside)
        raise SchemaError(
            f"The folders of {path} have the keys {shown(both)}, which are columns of the files "
            f"too, and {shown(lacking)}, which are not. Rename the folders of {both[0]!r}, or the "
            "column in the files."
        )
    return bool(keys) and not inside


def _check_parquet(file: str) -> None:
    """Check the magic bytes of a Parquet file at both ends.

    A truncated copy lacks those at the end.
    """
    with reading(file), open(file, "rb") as opened:
        head = opened.read(4)
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, size - 4))
        tail = opened.read(4)
    if head != b"PAR1":
        raise InputError(
            f"{file} is not a Parquet file. Expected Parquet, or CSV with the ending .csv, "
            f".csv.gz or .tsv."
        )
    if tail != b"PAR1" or size < 12:
        raise InputError(
            f"{file} is a truncated Parquet file: its end is missing. Copy or write it again."
        )


def _columns(connection: duckdb.DuckDBPyConnection, view: str) -> dict[str, str]:
    return {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE {view}").fetchall()}


def nan_as_null(columns: dict[str, str]) -> str:
    """Return SQL for all columns, with NaN as null.

    DuckDB trusts the statistics of Parquet files, which exclude NaN, and replaces isnan(x) by false
    if the bounds are finite. It does not optimise through `try`, so this is the place to remove
    NaN.
    """
    reals = [ident(name) for name, kind in columns.items() if kind in ("FLOAT", "DOUBLE")]
    replaced = ", ".join(f"nullif(try({name}), 'NaN') AS {name}" for name in reals)
    return f"* REPLACE ({replaced})" if reals else "*"


def _is_list(kind: str) -> bool:
    return kind.endswith("]")


def _element(kind: str) -> str:
    return kind[: kind.rindex("[")]


def _unfold(
    connection: duckdb.DuckDBPyConnection,
    label: str,
    columns: dict[str, str],
    left_out: dict[str, str],
    client: str | None,
    skip: Callable[[str], bool] | None,
    *,
    check: bool,
    suffix: str = "",
) -> EventSource:
    """Unnest list columns: one row per client becomes one row per event, in list order."""
    lists = [name for name, kind in columns.items() if _is_list(kind)]
    single = {name: kind for name, kind in columns.items() if name not in lists}
    skipped = [name for name in lists if skip is not None and skip(name)]
    left_out |= dict.fromkeys(skipped, AS_ASKED)
    if client in lists:
        raise SchemaError(
            f"The client column {client!r} of {label} is a list. Name the column that holds the "
            f"client."
        )
    if client is not None and client not in single:
        raise no_column(client, columns, label, "Expected the column that holds the client.")
    # A single column beside the lists must be the client.
    only = next(iter(single)) if len(single) == 1 else None
    client = client or only or recognise_client(single, label)
    lists = [name for name in lists if name not in skipped]
    raw = f"raw{suffix}"
    connection.execute(
        f"CREATE VIEW nested{suffix} AS SELECT *, row_number() OVER () AS {ROW} FROM {raw}"
    )
    if check:
        _check_nested(connection, label, client, lists, raw)
    unnested = ", ".join(f"unnest({ident(name)}) AS {ident(name)}" for name in lists)
    left_out |= {name: "one value per client, not per event" for name in single if name != client}
    kinds = {client: single[client]} | {name: _element(columns[name]) for name in lists}
    connection.execute(
        f"CREATE VIEW events{suffix} AS SELECT {nan_as_null(kinds)}, row_number() OVER () AS {ROW}"
        f" FROM (SELECT {ident(client)}, {unnested} FROM {raw})"
    )
    return EventSource(connection, label, kinds, nested=True, left_out=left_out, client=only)


def check_even(
    connection: duckdb.DuckDBPyConnection,
    label: str,
    client: str,
    lists: list[str],
    raw: str = "raw",
) -> None:
    """Raise a `SchemaError` if a client of the view `raw` has lists of unequal length."""
    key, (first, *others) = ident(client), lists
    for other in others:
        uneven = connection.execute(
            f"SELECT * FROM (SELECT {key}, coalesce(len({ident(first)}), 0) AS __n, "
            f"coalesce(len({ident(other)}), 0) AS __m FROM {raw}) WHERE __n <> __m LIMIT 1"
        ).fetchone()
        if uneven:
            raise SchemaError(
                f"List columns of unequal length in {label}: client {uneven[0]!r} has "
                f"{count_words(uneven[1], 'value')} of {first!r} and {uneven[2]} of {other!r}. "
                "Expected one value per event in every list column. Leave out other lists with "
                "schema.ignore."
            )


def _check_nested(
    connection: duckdb.DuckDBPyConnection, label: str, client: str, lists: list[str], raw: str
) -> None:
    key = ident(client)
    with reading(label):
        twice = connection.execute(
            f"SELECT {key}, count(*) FROM {raw} GROUP BY 1 HAVING count(*) > 1 ORDER BY 2 DESC, 1 "
            f"LIMIT 1"
        ).fetchone()
        (nameless,) = connection.execute(
            f"SELECT count(*) FROM {raw} WHERE {key} IS NULL"
        ).fetchall()[0]
        check_even(connection, label, client, lists, raw)
    if nameless:
        raise nameless_rows(nameless, client, label)
    if twice:
        raise client_twice(twice[0], twice[1], label)


def only_clients(source: EventSource, client: str, ids: pa.Table) -> EventSource:
    """Select the events of some clients. Ids are compared as text.

    Args:
        source: The events.
        client: The client column.
        ids: A table with the column `id`.
    """
    source.connection.register("ids_given", ids)
    source.query(
        "CREATE OR REPLACE TABLE only_ids AS SELECT DISTINCT id::VARCHAR AS id FROM ids_given"
    )
    source.connection.unregister("ids_given")
    for view in ("events", "nested") if source.nested else ("events",):
        source.query(f"ALTER VIEW {view} RENAME TO {view}_of_all")
        source.query(
            f"CREATE VIEW {view} AS SELECT * FROM {view}_of_all WHERE {ident(client)}::VARCHAR "
            f"IN (SELECT id FROM only_ids)"
        )
    return replace(source, whole=None, checked={})


def nameless_rows(count: int, client: str, label: str) -> InputError:
    """Build the error for rows with list columns and no client."""
    return InputError(
        f"{count_words(count, f'row in {label} has', f'rows in {label} have')} no client (column "
        f"{client!r} is null). Drop or fix these rows."
    )


def client_twice(client: object, count: int, label: str) -> SchemaError:
    """Build the error for a client with several rows of list columns."""
    return SchemaError(
        f"Client {client!r} has {count_words(count, 'row')} in {label}, which has list columns. "
        "Expected one row per client: join its lists, or give one row per event."
    )
