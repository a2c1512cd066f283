"""Atomic writes: results are written to a temporary path and then renamed, never half-written."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from seqmel.core.errors import OutputError

if sys.platform != "win32":
    import fcntl

__all__ = [
    "HEADS_FILES",
    "MODEL_FILES",
    "NO_SPACE",
    "REQUIRED_MODEL_FILES",
    "allocate",
    "atomic_write",
    "check_output",
    "check_parquet_name",
    "check_result",
    "exclusive_lock",
    "file_stamps",
    "map_vectors",
    "move_into_place",
    "partial_path",
    "scratch_folder",
    "scratch_path",
    "translate_disk_full",
    "write_json",
]  # fmt: skip

_OTHER_FORMATS = (
    ".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".gz", ".zip", ".xlsx", ".xls", ".ods",
    ".feather", ".arrow", ".orc", ".pkl", ".npy", ".npz", ".h5",
)  # fmt: skip
_OWN = tuple(f"{folder}vocabulary.json" for folder in ("", "model/", "data/model/"))
"""Every folder of seqmel has one of these files."""
REQUIRED_MODEL_FILES = (
    "schema.json", "vocabulary.json", "model.safetensors", "metrics.json", "README.md",
)  # fmt: skip
"""Files of every model folder, beside config.json, which has their checksums."""
HEADS_FILES = ("targets.json", "heads.safetensors")
"""Files of a fine-tuned model."""
MODEL_FILES = (
    "config.json", *REQUIRED_MODEL_FILES, *HEADS_FILES, "statistics.json", "facts.json",
    "curves.png",
)  # fmt: skip
"""Names of all files that a model folder may have."""


NO_SPACE = {
    errno.ENOSPC: "The disk is full",
    errno.EDQUOT: "The disk is full",
    errno.EFBIG: "The file is larger than the system allows",
}
"""Error number -> why nothing more can be written."""


def partial_path(path: Path) -> Path:
    """Return where the unfinished result for `path` is, on the same file system."""
    return path.with_name(path.name + ".partial")


def file_stamps(files: Iterable[str | Path], root: Path | None = None) -> list[list[str | int]]:
    """Return the fingerprint of files: name (relative to `root`), size and modification time."""
    named = (
        (str(file).removeprefix(f"{root}{os.sep}") if root else Path(file).name, os.stat(file))
        for file in files
    )
    return [[name, about.st_size, about.st_mtime_ns] for name, about in named]


def check_output(
    path: Path,
    *,
    overwrite: bool,
    folder: bool,
    reads: Iterable[object] = (),
    option: str = "--overwrite",
) -> None:
    """Check before any work that a result can be written, and replaces nothing that it must not.

    Args:
        path: The output.
        overwrite: Whether existing output may be replaced.
        folder: Whether the output is a folder.
        reads: Inputs, whose paths must not be overwritten. Other values are ignored.
        option: How users allow overwriting, for messages.

    Raises:
        OutputError: The output exists or cannot be written.
    """
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists. Name another output, or pass {option}.")
    if path.is_dir() and any(path.iterdir()) and not any((path / name).is_file() for name in _OWN):
        raise OutputError(
            f"{path} is a folder that seqmel did not write; it will not replace it. Name another "
            f"output."
        )
    if path.exists() and path.is_dir() != folder:
        there = "a folder" if path.is_dir() else "a file"
        made = "a file" if path.is_dir() else "a folder"
        raise OutputError(f"{path} is {there}, and the output is {made}. Name another output.")
    _check_not_input(path, *reads)
    around = path.parent
    of_model = path.name in MODEL_FILES and (around / "model.safetensors").exists()
    if of_model and path.exists():
        raise OutputError(f"{path} is a file of the model in {around}. Name another output.")
    while not around.exists():
        around = around.parent
    if not around.is_dir() or not os.access(around, os.W_OK):
        raise OutputError(f"Cannot write {path}: {around} is not a folder that can be written to.")


def check_result(path: Path | None, *reads: object) -> None:
    """Check before any work that a file of results can be written, and replaces no input.

    Args:
        path: The file, which may exist; None for none.
        *reads: Inputs, see `check_output`.

    Raises:
        OutputError: It cannot be written, or would replace an input.
    """
    if path is not None:
        check_output(path, overwrite=True, folder=False, reads=reads)


def _check_not_input(path: Path, *reads: object) -> None:
    """Check that an output does not replace an input, or a folder around one."""
    if not path.exists():
        return
    whole = path.resolve()
    for read in _each(reads):
        if isinstance(read, str | os.PathLike) and os.path.exists(read):
            source = Path(read).resolve()
            if whole == source or whole in source.parents:
                raise OutputError(
                    f"{path} would replace {read}, which is read here. Name another output."
                )


def _each(reads: Iterable[object]) -> Iterator[object]:
    """Yield each input, and each of a list or dictionary of inputs."""
    for read in reads:
        for one in read.values() if isinstance(read, Mapping) else (read,):
            yield from one if isinstance(one, (list, tuple)) else (one,)


def check_parquet_name(path: Path) -> None:
    """Raise an `OutputError` if the filename has the extension of another format than Parquet."""
    stem = path
    while stem.suffix.lower() in _OTHER_FORMATS:
        stem = stem.with_suffix("")
    if stem != path:
        raise OutputError(
            f"{path} is not a name for Parquet, which is what is written. Name it {stem}.parquet."
        )


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path. It is renamed to `path` on success, and removed on failure."""
    partial = partial_path(path)
    with exclusive_lock(partial, path):
        _remove(partial)
        try:
            with translate_disk_full(path):
                yield partial
                move_into_place(partial, path)
        finally:
            _remove(partial)


def write_json(
    path: Path | None, values: Any, *, default: Callable[[Any], Any] | None = None
) -> None:
    """Write values as indented JSON.

    Args:
        path: The file; None writes nothing.
        values: The values.
        default: Converts a value that JSON lacks, such as a date.
    """
    if path is not None:
        with atomic_write(path) as partial:
            partial.write_text(json.dumps(values, indent=1, default=default), encoding="utf-8")


@contextlib.contextmanager
def exclusive_lock(part: Path, path: Path) -> Iterator[None]:
    """Lock `part`, in which `path` is made, against other runs.

    The kernel releases the lock of a killed run. File systems without locks are not protected.

    Raises:
        OutputError: Another run holds the lock.
    """
    if sys.platform == "win32":
        yield
        return
    lock = part.with_name(part.name + ".lock")
    with translate_disk_full(path):
        part.parent.mkdir(parents=True, exist_ok=True)
        held = _hold(lock)
    if held is None:
        raise OutputError(
            f"Another run is writing {path} just now. Wait until it has ended, or name another "
            f"output."
        )
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)  # before the release, so that the next run creates a new file
        os.close(held)


def _hold(lock: Path) -> int | None:
    """Return the open and locked file, or None if another run holds the lock."""
    while True:
        held = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
            return None
        except OSError:  # the file system has no locks
            return held
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held), os.stat(lock)):
                return held
        os.close(held)  # the run that held it has removed the file


@contextlib.contextmanager
def translate_disk_full(path: Path, then: str = "run it again") -> Iterator[None]:
    """Raise an `OutputError` if the disk or the quota is full while `path` is written."""
    try:
        yield
    except OSError as error:
        reason = NO_SPACE.get(error.errno or 0)
        if reason:
            raise OutputError(f"{reason}; {path} was not written. Free space and {then}.") from None
        raise


def allocate(path: Path, size: int) -> None:
    """Reserve disk space for a file that will be mapped.

    Writing to a map of a full disk would crash.
    """
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, max(1, size))
        else:
            file.truncate(size)


def map_vectors(
    path: Path, shape: tuple[int, int], mode: Literal["r", "r+"]
) -> npt.NDArray[np.float32]:
    """Map (N, D) float32 numbers of a file. An empty file cannot be mapped and gives an array."""
    return (
        np.memmap(path, np.float32, mode, shape=shape) if shape[0] else np.empty(shape, np.float32)
    )


def scratch_path(path: Path) -> Path:
    """Return the folder of `scratch_folder`."""
    return path.with_name(path.name + ".scratch")


@contextlib.contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, without leftovers of a killed run."""
    folder = scratch_path(path)
    with exclusive_lock(folder, path):
        _remove(folder)
        folder.mkdir()
        try:
            yield folder
        finally:
            _remove(folder)


def move_into_place(partial: Path, path: Path) -> None:
    """Rename a finished file or folder.

    An existing one is removed after the new one is in place.
    """
    if not path.is_dir():
        os.replace(partial, path)
        return
    if not partial.is_dir():
        raise OutputError(f"{path} is a folder; a file will not replace it. Name another output.")
    old = path.with_name(path.name + ".old")
    _remove(old)
    os.rename(path, old)
    os.rename(partial, path)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
