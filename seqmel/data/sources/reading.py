"""Read events from wherever they lie into one shape: a DuckDB view with one row an event.

`open_events` takes a Parquet or CSV file, a folder, a glob, a partitioned data set, a pandas, polars or Arrow table, or
a list of dictionaries, with one row an event or with one row a client and list columns. What follows (schema, vocabulary, preparation,
aggregates) sees only an `EventSource`, so there is one code path for all of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from seqmel.core.errors import InputError, SchemaError, did_you_mean, shown
from seqmel.data.schema import AS_ASKED, may_be_time, recognise_client
from seqmel.data.sources.arrow_tables import PERIOD, arrow_table, engine_table
from seqmel.data.sources.csv_files import CSV, Categories, register_csv, with_texts
from seqmel.data.sources.folders import check_plain, is_meds, meds_folder
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
    "open_unread",
    "partitioned",
    "paths_label",
]

Events: TypeAlias = Any
"""A path, folder or glob (str or Path), or a list of them; a table: pandas, polars, pyarrow, or anything with an Arrow stream;
a dictionary of columns; a pyarrow data set; or a list of dictionaries."""

_COUNTED = "row_number() OVER ()"
_FILE_BITS = 40  # of a place are for the rows of one file
_PARQUET = (".parquet", ".pq", ".parq")
_JSON_LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
_ARROW = (".feather", ".arrow", ".ipc")
_KINDS = {"CSV": CSV, "JSON": (".json", ".json.gz", *_JSON_LINES), "Arrow": _ARROW}  # all else is taken for Parquet
_SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".ods")


def open_events(
    events: Events,
    *,
    client: str | None = None,
    time: str | None = None,
    skip: Callable[[str], bool] | None = None,
    empty: bool = False,
    categories: Categories | None = None,
    memory_limit: str | None = None,
    threads: int | None = None,
    temp_folder: str | os.PathLike[str] | None = None,
) -> EventSource:
    """Open events of any supported kind.

    Args:
        events: a Parquet or CSV file, a folder, a glob, a pandas, polars or Arrow table, a pyarrow data set (which is not
            loaded as a whole), `EventSequences`, or a list of dictionaries: one an event, or one a client with sequences.
        client: the client column, needed here to unfold list columns and to keep ids of CSV as they are written; recognised by
            name otherwise.
        time: the time column, needed here to tell lists of the events of a client from a list of each event.
        skip: whether a column is not looked at, so that its lists need not fit the others.
        empty: events with columns and no rows are opened too.
        categories: columns that are known to be categories, and their codes where a model has some: CSV keeps their text.
        memory_limit: what DuckDB may hold in memory, such as "4GB"; it spills to disk beyond.
        threads: how many threads it may use; all cores where None.
        temp_folder: where it may spill.

    Returns:
        The events as a table of DuckDB: `columns`, `stream`, `connection`.

    Raises:
        InputError: nothing there, not readable, or zero rows without `empty`.
        SchemaError: list columns that do not fit together.

    Example:
        >>> import seqmel
        >>> source = seqmel.open_events(seqmel.generate_card_data(3).events)
        >>> list(source.columns)[:2]
        ['client_id', 'event_time']
    """
    connection = connect(memory_limit=memory_limit, threads=threads, temp_folder=temp_folder)
    return _opened(connection, events, client, categories, time=time, skip=skip, read=True, empty=empty)


def open_unread(
    events: Events,
    *,
    client: str | None = None,
    categories: Categories | None = None,
    memory_limit: str | None = None,
) -> EventSource:
    """Like `open_events`, but nothing is read through: CSV stays in its files, and list columns are not compared.

    It is for events that are read elsewhere, part by part (`seqmel.data.sources.parts`), and only looked at here.
    """
    return _opened(connect(memory_limit=memory_limit), events, client, categories, read=False)


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
) -> EventSource:
    label, left_out, placed = _register(connection, events, client, categories, read=read)
    named = getattr(events, "__event_columns__", (None, None, None))  # what EventSequences say of themselves
    with reading(label):
        columns = _columns(connection, "raw")
        no_rows = not columns or connection.execute("SELECT 1 FROM raw LIMIT 1").fetchone() is None
        if no_rows and not (empty and columns):
            raise InputError(f"{label} has no rows. Expected one row an event, or one row a client with list columns.")
    if len(columns) == 1:  # also what DuckDB makes of a CSV file whose lines differ in their number of fields
        raise InputError(
            f"{label} has one column, {next(iter(columns))!r}. Expected a client, a time and columns to learn from;"
            " in a CSV file, the same number of fields on every line."
        )
    lists = [name for name, kind in columns.items() if _is_list(kind)]
    if lists and not _one_row_an_event(connection, label, columns, client or named[0], time or named[1]):
        unfolded = _unfold(connection, label, columns, left_out, client or named[0], skip, check=read)
        return replace(unfolded, client=named[0] or unfolded.client, time=named[1], time_format=named[2])
    left_out |= dict.fromkeys(lists, "a list in each event") | placed.odd
    static = _static_rows(connection, label, columns)
    connection.execute(
        f"CREATE VIEW events AS SELECT {nan_as_null(columns)}, {placed.place} AS {ROW} FROM {placed.rows}"
        + (" WHERE time IS NOT NULL" if static else "")
    )
    notes = (f"{static:,} rows without a time are left out: the static facts of MEDS",) if static else ()
    return EventSource(
        connection, label, columns, left_out=left_out, unreadable=placed.odd, notes=notes, whole=placed.whole,
        files=placed.files,
    )  # fmt: skip


def _static_rows(connection: duckdb.DuckDBPyConnection, label: str, columns: dict[str, str]) -> int:
    """How many rows of a MEDS data set have no time; 0 of all others, where that is a mistake."""
    if not is_meds(list(columns)):
        return 0
    with reading(label):
        (static,) = connection.execute("SELECT count(*) FROM raw WHERE time IS NULL").fetchall()[0]
    return int(static)


def _one_row_an_event(
    connection: duckdb.DuckDBPyConnection, label: str, columns: dict[str, str], client: str | None, time: str | None
) -> bool:
    """Whether a row of a table with list columns is an event, of which a list is a value, and not a client.

    The time says so where it is known. Where it is not, and lists hold no time, a client with several rows does.
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
        (several,) = connection.execute(f"SELECT count(*) > count(DISTINCT {key}) FROM raw").fetchall()[0]
    return bool(several)


@dataclass(frozen=True)
class _Placed:
    """SQL for rows, and for their places in the input: read off a file or a table, since to count rows takes as long as to
    scan them, in one thread. `whole`: see `EventSource`; `partitioned`: whether the names of folders are columns; `odd`: columns that no row of which
    can be read, and why."""

    rows: str
    place: str
    whole: tuple[str, ...] | pa.Table | str | None = None
    partitioned: bool = False
    odd: dict[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()


def _register(
    connection: duckdb.DuckDBPyConnection,
    events: Events,
    client: str | None,
    categories: Categories | None = None,
    *,
    read: bool,
) -> tuple[str, dict[str, str], _Placed]:
    """Make the view `raw`, of CSV a table if it is to be read; return what to call it, the partition keys among its columns,
    and how to have its rows with their places."""
    if is_paths(events):
        path, files = paths_label(events), event_files(events)
        table = _other_format(path, files)
        if table is not None:
            return path, {}, _register_table(connection, table, path)
        placed = _register_files(connection, path, files, client, categories, read=read)
        keys = sorted(_folder_keys(files[0])) if placed.partitioned else ()
        return path, dict.fromkeys(keys, "partition key of the folder"), placed
    label = f"the given {type(events).__name__}"
    if isinstance(events, ds.Dataset):
        left_out = dict.fromkeys(sorted(_partition_keys(events)), "partition key of the data set")
        return label, left_out, _register_table(connection, events, label)
    table, odd = arrow_table(events)
    texts = getattr(events, "__event_texts__", None)
    table = table if texts is None else with_texts(connection, table, texts, categories or {})
    return label, {}, _register_table(connection, table, label, odd)


def _other_format(path: str, files: list[str]) -> pa.Table | ds.Dataset | None:
    """The events of JSON and of Arrow files (Feather); None of CSV and Parquet.

    Raises:
        InputError: a spreadsheet, or files that cannot be read.
    """
    kind = _kind_of(files[0])
    if files[0].lower().endswith(_SPREADSHEETS):
        raise InputError(
            f"{files[0]} is a spreadsheet. Save it as CSV in UTF-8, or from Python hand in pandas.read_excel({files[0]!r})."
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
    connection: duckdb.DuckDBPyConnection, table: pa.Table | ds.Dataset, label: str, odd: dict[str, str] | None = None
) -> _Placed:
    """Make `raw` of a table or data set; `odd` are columns that could not be read, and why."""
    _check_names(table.schema.names, label)
    odd = odd or {}
    with reading(label):
        if isinstance(table, pa.Table):
            table, more = engine_table(connection, table)
            odd = odd | more
        connection.register("raw", table)
    return _Placed("raw", _COUNTED, table if isinstance(table, pa.Table) else None, odd=odd)


def _partition_keys(events: ds.Dataset) -> set[str]:
    partitioning = getattr(events, "partitioning", None)
    return set(partitioning.schema.names) if partitioning is not None else set()


def _check_names(names: list[str], label: str) -> None:
    """A `SchemaError` where SQL could not tell two columns apart, or one from what is added here."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.casefold(), name) if name not in seen.values() else name
        if other != name or names.count(name) > 1:
            raise SchemaError(
                f"{label} has the columns {other!r} and {name!r}, which differ in nothing but their case, if at all. Rename one."
            )
        if not name:
            raise SchemaError(f"{label} has a column without a name. Name it.")
        if RESERVED.fullmatch(name):
            raise SchemaError(f"{label} has a column named {name!r}, which seqmel keeps for itself. Rename it.")


def is_paths(events: Any) -> bool:
    """Whether this is a path, folder or glob, or a list of them."""
    several = isinstance(events, (list, tuple)) and bool(events)
    return all(isinstance(one, (str, os.PathLike)) for one in (events if several else (events,)))


def paths_label(events: Any) -> str:
    """What to call a path, or a list of them, in a message."""
    if isinstance(events, (str, os.PathLike)):
        return os.fspath(events)
    more = f" and {len(events) - 1} more" if len(events) > 1 else ""
    return f"{os.fspath(events[0])}{more}"


def event_files(events: Any) -> list[str]:
    """The files that a path, folder or glob names, or a list of them, all of one kind, in a fixed order."""
    if isinstance(events, (list, tuple)):
        return _of_one_kind(paths_label(events), [file for one in events for file in event_files(one)])
    path = meds_folder(os.fspath(events))
    files = _files_of(path)
    if files != [path]:
        check_plain(files, path)
    return files


def _files_of(path: str) -> list[str]:
    import glob

    if os.path.isdir(path):
        found = [str(f) for f in sorted(Path(path).rglob("*")) if f.is_file() and not _hidden(f, path)]
        files = [f for f in found if f.lower().endswith((*_PARQUET, *CSV))]
        files = files or [f for f in found if f.lower().endswith((*_JSON_LINES, *_ARROW))]
        if not files:
            raise InputError(
                f"No Parquet or CSV file in the folder {path}. It has: {shown(os.listdir(path)) or 'nothing'}"
            )
        return _of_one_kind(path, files)
    if os.path.exists(path):
        return [path]
    files = sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else []
    if not files and "://" in path:
        raise InputError(
            f"{path} is an address, and seqmel reads paths. Mount it, or from Python hand in"
            " pyarrow.dataset.dataset(...) with its filesystem."
        )
    if not files:
        beside = os.listdir(os.path.dirname(path) or ".") if os.path.isdir(os.path.dirname(path) or ".") else []
        raise InputError(f"No such file or folder: {path}.{did_you_mean(os.path.basename(path), beside)}")
    return _of_one_kind(path, files)


def _of_one_kind(path: str, files: list[str]) -> list[str]:
    """The files; refused where CSV lies among others, of which some would have to be passed over."""
    kind = _kind_of(files[0])
    others = [f for f in files if _kind_of(f) != kind]
    if others:
        folder = path if os.path.isdir(path) else os.path.dirname(path)
        csv, other = sorted((files[0], others[0]), key=lambda f: _kind_of(f) != "CSV")
        raise InputError(
            f"{path} has {_kind_of(csv)} files, such as {os.path.basename(csv)}, and others, such as {os.path.basename(other)}."
            f" Only files of one kind are read together: name them, as in {os.path.join(folder, '**', '*.parquet')}."
        )
    return files


def _kind_of(file: str) -> str:
    return next((kind for kind, ends in _KINDS.items() if file.lower().endswith(ends)), "Parquet")


def csv_files_of(events: Events) -> list[str]:
    """The CSV files that a path, folder or glob names; none where the events are something else."""
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
    *,
    read: bool,
) -> _Placed:
    """Make `raw` of files: a table of CSV that is to be read, and a view of all else."""
    if _are_csv(files):
        with reading(path):
            register_csv(connection, files, client=client, categories=categories, read=read)
        if read:
            return _Placed("raw", row_of_table(connection, "raw"), "raw", files=tuple(files))
        return _Placed("raw", _COUNTED, files=tuple(files))
    for file in files:
        _check_parquet(file)
    with reading(path):
        schema = pq.read_schema(files[0])
    _check_names(schema.names, path)
    hive = "true" if partitioned(path, files) else "false"
    listed = "[" + ", ".join(literal(f) for f in files) + "]"
    rows = f"read_parquet({listed}, union_by_name = true, hive_partitioning = {hive})"
    with reading(path):
        connection.execute(f"CREATE VIEW raw AS FROM {rows}")
    whole = tuple(files) if hive == "false" else None
    hidden = {"file_index", "file_row_number"} & {name.casefold() for name in _columns(connection, "raw")}
    place = _COUNTED if hidden else f"(file_index::BIGINT << {_FILE_BITS}) + file_row_number"
    return _Placed(rows, place, whole, partitioned=hive == "true", odd=_periods(schema), files=tuple(files))


def _periods(schema: pa.Schema) -> dict[str, str]:
    """The columns of pandas' periods, which lie in Parquet as numbers that count something else in each frequency."""
    names = (f.name for f in schema if _extension(f) == PERIOD)
    return dict.fromkeys(names, "pandas periods, which Parquet keeps as bare numbers: write .dt.to_timestamp() of them")


def _extension(field: pa.Field) -> str:
    said = (field.metadata or {}).get(b"ARROW:extension:name", b"").decode()
    return str(getattr(field.type, "extension_name", said))


def _folder_keys(file: str) -> set[str]:
    """The keys of the folders `key=value` that a file lies in."""
    return set(re.findall(r"([^/\\=]+)=[^/\\]*[/\\]", file))


def partitioned(path: str, files: list[str]) -> bool:
    """Whether the folders `key=value` say something that the files do not: where a file has the column itself, that counts.

    Raises:
        SchemaError: the files have some of the keys as columns and lack others.
    """
    keys = {key.casefold(): key for key in _folder_keys(files[0])}
    with reading(path):
        inside = (
            keys.keys() & {name.casefold() for file in files for name in pq.read_schema(file).names} if keys else set()
        )
    if inside and len(inside) < len(keys):
        both, lacking = sorted(keys[k] for k in inside), sorted(keys[k] for k in keys.keys() - inside)
        raise SchemaError(
            f"The folders of {path} have the keys {shown(both)}, which are columns of the files too, and {shown(lacking)}, which"
            f" are not. Rename the folders of {both[0]!r}, or the column in the files."
        )
    return bool(keys) and not inside


def _check_parquet(file: str) -> None:
    """A Parquet file begins and ends with PAR1; the end is what a cut-off copy lacks."""
    with reading(file), open(file, "rb") as opened:
        head = opened.read(4)
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, size - 4))
        tail = opened.read(4)
    if head != b"PAR1":
        raise InputError(
            f"{file} is not a Parquet file. Expected Parquet, or CSV with the ending .csv, .csv.gz or .tsv."
        )
    if tail != b"PAR1" or size < 12:
        raise InputError(f"{file} is a truncated Parquet file: its end is missing. Copy or write it again.")


def _columns(connection: duckdb.DuckDBPyConnection, view: str) -> dict[str, str]:
    return {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE {view}").fetchall()}


def nan_as_null(columns: dict[str, str]) -> str:
    """SQL for all columns, NaN as null.

    Once, here: DuckDB believes the statistics of a Parquet file, which leave NaN out, and so takes isnan(x) for false
    where they show finite bounds. It does not look through `try`.
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
) -> EventSource:
    """One row a client with list columns -> one row an event, in the order of the lists."""
    lists = [name for name, kind in columns.items() if _is_list(kind)]
    single = {name: kind for name, kind in columns.items() if name not in lists}
    skipped = [name for name in lists if skip is not None and skip(name)]
    left_out |= dict.fromkeys(skipped, AS_ASKED)
    if client in lists:
        raise SchemaError(f"The client column {client!r} of {label} is a list. Name the column that holds the client.")
    if client is not None and client not in single:
        raise no_column(client, columns, label, "Expected the column that holds the client.")
    only = next(iter(single)) if len(single) == 1 else None  # beside the lists nothing else can name the client
    client = client or only or recognise_client(single, label)
    lists = [name for name in lists if name not in skipped]
    connection.execute(f"CREATE VIEW nested AS SELECT *, row_number() OVER () AS {ROW} FROM raw")
    if check:
        _check_nested(connection, label, client, lists)
    unnested = ", ".join(f"unnest({ident(name)}) AS {ident(name)}" for name in lists)
    left_out |= {name: "one value a client, not an event" for name in single if name != client}
    kinds = {client: single[client]} | {name: _element(columns[name]) for name in lists}
    connection.execute(
        f"CREATE VIEW events AS SELECT {nan_as_null(kinds)}, row_number() OVER () AS {ROW}"
        f" FROM (SELECT {ident(client)}, {unnested} FROM raw)"
    )
    return EventSource(connection, label, kinds, nested=True, left_out=left_out, client=only)


def check_even(connection: duckdb.DuckDBPyConnection, label: str, client: str, lists: list[str]) -> None:
    """Raise a `SchemaError` where a client of the view `raw` has lists of unequal length."""
    key, (first, *others) = ident(client), lists
    for other in others:
        uneven = connection.execute(
            f"SELECT * FROM (SELECT {key}, coalesce(len({ident(first)}), 0) AS __n, coalesce(len({ident(other)}), 0) AS __m"
            " FROM raw) WHERE __n <> __m LIMIT 1"
        ).fetchone()
        if uneven:
            raise SchemaError(
                f"List columns of unequal length in {label}: client {uneven[0]!r} has {uneven[1]} values of {first!r}"
                f" and {uneven[2]} of {other!r}. Expected one value an event in every list column; one that is something else"
                " is left out with schema.ignore."
            )


def _check_nested(connection: duckdb.DuckDBPyConnection, label: str, client: str, lists: list[str]) -> None:
    key = ident(client)
    with reading(label):
        twice = connection.execute(
            f"SELECT {key}, count(*) FROM raw GROUP BY 1 HAVING count(*) > 1 ORDER BY 2 DESC, 1 LIMIT 1"
        ).fetchone()
        (nameless,) = connection.execute(f"SELECT count(*) FROM raw WHERE {key} IS NULL").fetchall()[0]
        check_even(connection, label, client, lists)
    if nameless:
        raise nameless_rows(nameless, client, label)
    if twice:
        raise client_twice(twice[0], twice[1], label)


def only_clients(source: EventSource, client: str, ids: pa.Table) -> EventSource:
    """The events of some clients, whose ids are compared as text.

    Args:
        source: the events.
        client: the client column.
        ids: a table with the column `id`.
    """
    source.connection.register("ids_given", ids)
    source.query("CREATE OR REPLACE TABLE only_ids AS SELECT DISTINCT id::VARCHAR AS id FROM ids_given")
    source.connection.unregister("ids_given")
    for view in ("events", "nested") if source.nested else ("events",):
        source.query(f"ALTER VIEW {view} RENAME TO {view}_of_all")
        source.query(
            f"CREATE VIEW {view} AS SELECT * FROM {view}_of_all WHERE {ident(client)}::VARCHAR IN (SELECT id FROM only_ids)"
        )
    return replace(source, whole=None, checked={})


def nameless_rows(count: int, client: str, label: str) -> InputError:
    """What is said of rows with list columns that have no client."""
    return InputError(f"{count:,} rows in {label} have no client (column {client!r} is null). Drop or mend these rows.")


def client_twice(client: object, count: int, label: str) -> SchemaError:
    """What is said of a client with several rows of list columns."""
    return SchemaError(
        f"Client {client!r} has {count} rows in {label}, which has list columns. Expected one row a client:"
        " join its lists, or give one row an event."
    )
