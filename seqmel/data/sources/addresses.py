"""Parquet files at an address such as s3://bucket/events, as a data set that is read in parts.

Addresses that pyarrow knows (s3, gs, abfss, hdfs, file) are opened by it, with its way of finding
credentials; all others by fsspec.
"""

from __future__ import annotations

import os
import re
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as fs

from seqmel.core.errors import InputError
from seqmel.data.sources.source import first_line

__all__ = ["data_set_at", "is_address"]


def is_address(events: Any) -> bool:
    """Return whether this is an address with a scheme, such as s3://bucket/events."""
    is_one = isinstance(events, str) and re.match(r"[a-zA-Z][\w+.-]+://", events) is not None
    return is_one and not os.path.exists(events)


def data_set_at(address: str) -> ds.Dataset:
    """Open the Parquet file, or the folder of Parquet files, at an address.

    Args:
        address: Such as s3://bucket/events.parquet or memory://events.

    Raises:
        InputError: The address cannot be opened, or does not hold Parquet files.
    """
    if not address.lower().split("?")[0].rstrip("/").endswith((".parquet", ".pq", ".parq")):
        ending = re.search(r"\.\w+$", address.split("://", 1)[1].rsplit("/", 1)[-1])
        if ending or any(mark in address for mark in "*["):
            raise InputError(
                f"{address} is an address, which is read as one Parquet file or a folder of them. "
                "Copy other formats here first, and name the folder rather than a pattern."
            )
    try:
        system, path = _file_system(address)
        found = ds.dataset(path, filesystem=system, format="parquet", partitioning="hive")
    except (OSError, ValueError, ImportError, pa.ArrowException) as error:
        raise InputError(f"Cannot read {address}: {first_line(error)}") from None
    if not found.files:
        raise InputError(f"No Parquet file at {address}.")
    return found


def _file_system(address: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of an address, and the path in it."""
    try:
        system, path = fs.FileSystem.from_uri(address)
    except pa.ArrowInvalid:  # a scheme that pyarrow does not know
        import fsspec

        other, path = fsspec.core.url_to_fs(address)
        system = fs.PyFileSystem(fs.FSSpecHandler(other))
    return system, path
