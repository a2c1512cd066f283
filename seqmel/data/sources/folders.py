"""Folders with a layout of their own: Delta Lake, Iceberg and Hudi tables, and MEDS data sets."""

from __future__ import annotations

import filecmp
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from seqmel.core.errors import InputError, shown

__all__ = ["check_plain", "delta_files", "equal_files", "is_meds", "meds_folder"]

_READ_AS_FILES = {"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"}
"""Reader features of Delta tables that leave their current files readable as they are."""

_HOW = {
    "Delta": "deltalake.DeltaTable({0!r}).to_pyarrow_dataset()",
    "Iceberg": "pyiceberg's table.scan().to_arrow()",
    "Hudi": "hudi.HudiTable({0!r}).read_snapshot()",
}
"""Kind of table -> code that reads its current rows."""

_END_BYTES = 4096
_MEDS_COLUMNS = {"subject_id", "time", "code", "numeric_value"}


def delta_files(path: str) -> list[str] | None:
    """Return the current files of a Delta table; None for any other path.

    Args:
        path: The path given by the user.

    Raises:
        InputError: The table cannot be read, its files cannot be read without the package
            deltalake, or some of their rows or names are not those of the table.
    """
    if not (Path(path) / "_delta_log").is_dir():
        return None
    try:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError
    except ImportError:
        raise InputError(
            f"{path} is a Delta table. Install the package that reads its list of files: pip "
            "install 'seqmel[delta]'."
        ) from None
    try:
        table = DeltaTable(path)
        needed = set(table.protocol().reader_features or ()) - _READ_AS_FILES
        if table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none":
            needed.add("columnMapping")
        files = sorted(table.file_uris())
    except (DeltaError, OSError) as error:
        raise InputError(
            f"{path} cannot be read as a Delta table: {' '.join(str(error).split())}"
        ) from None
    if needed:
        raise InputError(
            f"{path} is a Delta table with {shown(sorted(needed))}, so its files hold more than "
            "its current rows. Write its rows to Parquet first, or rewrite it without."
        )
    if not files:
        raise InputError(f"{path} is a Delta table without rows.")
    return files


def check_plain(files: Sequence[str], path: str) -> None:
    """Refuse the files of a table format that keeps its own list of files.

    Some of the files may hold rows that were replaced or deleted.

    Args:
        files: The files of a folder or glob.
        path: The path given by the user.

    Raises:
        InputError: A folder around one of the files is such a table.
    """
    for folder in sorted({parent for file in files for parent in Path(file).absolute().parents}):
        kind = _kind_of_table(folder)
        if kind is not None:
            article = "an" if kind == "Iceberg" else "a"
            raise InputError(
                f"{path} is {article} {kind} table ({folder}), whose files may hold rows that were "
                f"replaced or deleted. Pass {_HOW[kind].format(str(folder))} in Python, or "
                "write its rows to Parquet first."
            )


def equal_files(files: Sequence[str]) -> tuple[str, str] | None:
    """Return two files with the same rows, to the byte; None if there are none.

    Only files of one size are read, from their ends on. Parts without rows do not count.

    Args:
        files: Parquet, CSV, JSON or Arrow files.
    """
    seen: dict[tuple[int, bytes, bytes], str] = {}
    sizes = Counter(map(os.path.getsize, files))
    for file in files:
        size = os.path.getsize(file)
        if sizes[size] < 2:
            continue
        with open(file, "rb") as opened:
            head = opened.read(_END_BYTES)
            opened.seek(-min(size, _END_BYTES), os.SEEK_END)
            other = seen.setdefault((size, head, opened.read()), file)
        if other != file and filecmp.cmp(other, file, shallow=False) and _has_rows(file, head):
            return other, file
    return None


def _has_rows(file: str, head: bytes) -> bool:
    if head.startswith(b"PAR1"):
        return bool(pq.read_metadata(file).num_rows)
    return len(head.strip().splitlines()) > 1


def _kind_of_table(folder: Path) -> str | None:
    if (folder / "_delta_log").is_dir():
        return "Delta"
    if (folder / ".hoodie").is_dir():
        return "Hudi"
    return "Iceberg" if any((folder / "metadata").glob("*.metadata.json")) else None


def meds_folder(path: str) -> str:
    """Return the folder of the events: `data` of a MEDS data set, else the path itself.

    Source:
        https://github.com/Medical-Event-Data-Standard/meds
    """
    root = Path(path)
    about = root / "metadata"
    is_one = (root / "data").is_dir() and any(
        (about / name).is_file() for name in ("codes.parquet", "dataset.json")
    )
    return str(root / "data") if is_one else path


def is_meds(columns: Sequence[str]) -> bool:
    """Return whether these are the columns of MEDS, where rows without a time are static facts."""
    return set(columns) >= _MEDS_COLUMNS
