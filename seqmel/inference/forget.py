"""Delete clients from state files, embeddings, predictions and prepared sequences.

Model folders are left unchanged. A model stores no single client; its vocabulary has values and
scales of all clients together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seqmel.core.atomic_files import atomic_write
from seqmel.core.errors import InputError
from seqmel.data.schema import recognise_client
from seqmel.data.sequences.prepared import is_prepared, open_prepared, write_prepared
from seqmel.data.tables.labels import client_of_embeddings

__all__ = ["forget"]

_ROWS = 65_536


def forget(
    clients: Any, paths: Sequence[str | Path], *, client: str | None = None
) -> dict[str, int]:
    """Delete all rows of some clients from files. Each file is replaced atomically.

    Args:
        clients: their ids: a list, a Series or an index. They are compared as text, so "12" matches
            12.
        paths: state files, embeddings and predictions (Parquet files that seqmel wrote), and
            folders of prepared sequences.
        client: the client column; None recognises it in each file.

    Returns:
        Path -> number of deleted rows, or of deleted clients for prepared sequences.

    Raises:
        InputError: there are no ids, or a path is neither such a file nor such a folder. It is
            raised before any file is changed.
        SchemaError: the client column of a file cannot be recognised.

    Examples:
        >>> import pandas as pd, tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "vectors.parquet"
        >>> pd.DataFrame({"client_id": [1, 2], "emb_0000": [0.5, 0.1]}).to_parquet(path)
        >>> list(forget([2], [path]).values())
        [1]
    """
    ids = pa.array(sorted({str(one) for one in pd.Index(clients).tolist()}), pa.string())
    if not len(ids):
        raise InputError("No client to forget was named. Give their ids.")
    columns = {
        str(path): None if is_prepared(path) else client or _client_of(Path(path)) for path in paths
    }
    return {
        path: _from_prepared(Path(path), ids)
        if column is None
        else _from_table(Path(path), column, ids)
        for path, column in columns.items()
    }


def _client_of(path: Path) -> str:
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException):
        raise InputError(
            f"{path} is neither a Parquet file nor a folder of prepared sequences. Clients are "
            "deleted from states, embeddings, predictions and prepared sequences."
        ) from None
    if b"seqmel" in (schema.metadata or {}):  # A state file: its first column is the client.
        return str(schema.names[0])
    try:
        return recognise_client(schema.names, str(path))
    except InputError:
        return client_of_embeddings(path)


def _kept(ids: pa.Array | pa.ChunkedArray, forgotten: pa.Array) -> Any:
    return pc.invert(pc.is_in(ids.cast(pa.string()), forgotten))


def _from_table(path: Path, column: str, forgotten: pa.Array) -> int:
    """Rewrite a Parquet file without the rows of these clients; keep its schema and metadata."""
    deleted = 0
    with pq.ParquetFile(path) as file:
        place = file.schema_arrow.get_field_index(column)
        if place < 0:
            raise InputError(
                f"{path} has no column {column!r}. It has: "
                f"{', '.join(file.schema_arrow.names[:12])}."
            )
        with (
            atomic_write(path) as partial,
            pq.ParquetWriter(partial, file.schema_arrow, compression="zstd") as writer,
        ):
            for batch in file.iter_batches(_ROWS):
                left = batch.filter(_kept(batch.column(place), forgotten))
                deleted += len(batch) - len(left)
                writer.write_batch(left)
    return deleted


def _from_prepared(folder: Path, forgotten: pa.Array) -> int:
    """Rewrite a folder of prepared sequences without these clients.

    The vocabulary stays, because it is about all clients together.
    """
    prepared = open_prepared(folder)
    deleted = 0

    def left() -> Iterator[pa.RecordBatch]:
        nonlocal deleted
        with (
            pa.memory_map(str(folder / "sequences.arrow")) as source,
            pa.ipc.open_file(source) as reader,
        ):
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                kept = batch.filter(_kept(batch.column(0), forgotten))
                deleted += len(batch) - len(kept)
                yield kept

    with atomic_write(folder) as partial:
        write_prepared(partial, left(), schema=prepared.schema, vocabulary=prepared.vocabulary)
    return deleted
