"""Client ids as they are given: one or several, and in the type of another file.

The text "12" is the number 12, "007" is not 7.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from seqmel.data.sources.source import connect

__all__ = ["ids_as", "listed_ids"]


def ids_as(ids: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Convert ids between text and integer types without changing their text.

    Args:
        ids: The ids.
        kind: The wanted type.

    Raises:
        ValueError: An id has no such form. Its text is the first argument.
    """
    if ids.type == kind:
        return ids
    if not (_is_plain(ids.type) and _is_plain(kind)):
        raise ValueError(str(ids[0].as_py()) if len(ids) else "")
    connection = connect()
    connection.register("ids", pa.table({"id": ids}))
    connection.register("wanted", pa.table({"id": pa.array([], kind)}))
    as_wanted = f"TRY_CAST(id AS {connection.execute('DESCRIBE wanted').fetchall()[0][1]})"
    lost = connection.execute(
        f"SELECT id::VARCHAR FROM ids WHERE {as_wanted}::VARCHAR IS DISTINCT FROM id::VARCHAR "
        f"LIMIT 1"
    ).fetchone()
    connection.close()
    if lost:
        raise ValueError(lost[0])
    return ids.cast(kind)


def listed_ids(ids: Any) -> list[Any]:
    """Return ids as a list, also a single one.

    Args:
        ids: an id, or several in a list, array or Series.
    """
    is_single = isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable)
    return [ids] if is_single else list(ids)


def _is_plain(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)
    )
