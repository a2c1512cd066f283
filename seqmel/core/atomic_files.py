"""Results are written beside and moved into place, so that a half-written file is never taken for a whole one."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from seqmel.core.errors import OutputError

if sys.platform != "win32":
    import fcntl

__all__ = [
    "allocate",
    "atomic_write",
    "check_not_input",
    "check_output",
    "check_parquet_name",
    "exclusive_lock",
    "file_stamps",
    "map_vectors",
    "move_into_place",
    "partial_path",
    "scratch_folder",
    "scratch_path",
    "translate_disk_full",
]  # fmt: skip

_OTHER_FORMATS = (".csv", ".tsv", ".txt", ".json", ".gz")
_OWN = ("vocabulary.json", "model/vocabulary.json")  # every folder that seqmel writes has one of these


def partial_path(path: Path) -> Path:
    """Where the unfinished result for `path` lies: beside it, on the same file system."""
    return path.with_name(path.name + ".partial")


def file_stamps(files: Iterable[str | Path], root: Path | None = None) -> list[list[str | int]]:
    """Name (from `root` on, where there is one), size and time of change of each file: what tells other contents at the same place."""
    named = ((str(file).removeprefix(f"{root}{os.sep}") if root else Path(file).name, os.stat(file)) for file in files)
    return [[name, about.st_size, about.st_mtime_ns] for name, about in named]


def check_output(
    path: Path, *, overwrite: bool, folder: bool, reads: Iterable[object] = (), option: str = "--overwrite"
) -> None:
    """Before any work: the result must be writable there, and must not replace another one unasked, nor what it is made of.

    Args:
        path: where it is to be.
        overwrite: it may replace what is there.
        folder: it is a folder, not a file.
        reads: what it is made of; what is no path does not matter.
        option: how a user says that it may.
    """
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists. Name another output, or pass {option}.")
    if path.is_dir() and any(path.iterdir()) and not any((path / name).is_file() for name in _OWN):
        raise OutputError(f"{path} is a folder that seqmel did not write; it will not replace it. Name another output.")
    if path.exists() and path.is_dir() != folder:
        there, made = ("a folder", "a file") if path.is_dir() else ("a file", "a folder")
        raise OutputError(f"{path} is {there}, and {made} is what is written. Name another output.")
    check_not_input(path, *reads)
    around = path.parent
    while not around.exists():
        around = around.parent
    if not around.is_dir() or not os.access(around, os.W_OK):
        raise OutputError(f"Cannot write {path}: {around} is not a folder that can be written to.")


def check_not_input(path: Path | None, *reads: object) -> None:
    """Before any work: what is written to `path`, if anything, does not replace what is read, nor a folder that holds it."""
    if path is None or not path.exists():
        return
    whole = path.resolve()
    for read in (part for one in reads for part in (one if isinstance(one, (list, tuple)) else (one,))):
        if isinstance(read, str | os.PathLike) and os.path.exists(read):
            source = Path(read).resolve()
            if whole == source or whole in source.parents:
                raise OutputError(f"{path} would replace {read}, which is read here. Name another output.")


def check_parquet_name(path: Path) -> None:
    """Before any work: not a name that says another format than Parquet, by which what reads the file would go."""
    stem = path
    while stem.suffix.lower() in _OTHER_FORMATS:
        stem = stem.with_suffix("")
    if stem != path:
        raise OutputError(f"{path} is not a name for Parquet, which is what is written. Name it {stem}.parquet.")


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a path to write to; on success it is moved to `path`, on failure it is removed."""
    partial = partial_path(path)
    with exclusive_lock(partial, path):
        _remove(partial)
        try:
            with translate_disk_full(path):
                yield partial
                move_into_place(partial, path)
        finally:
            _remove(partial)


@contextlib.contextmanager
def exclusive_lock(part: Path, path: Path) -> Iterator[None]:
    """Hold `part`, in which `path` is made, against other runs: an `OutputError` where one has it.

    The kernel lets go of what a killed run held. Where there are no such locks, nothing is held.
    """
    if sys.platform == "win32":
        yield
        return
    lock = part.with_name(part.name + ".lock")
    with translate_disk_full(path):
        part.parent.mkdir(parents=True, exist_ok=True)
        held = _hold(lock)
    if held is None:
        raise OutputError(f"Another run is writing {path} just now. Wait until it has ended, or name another output.")
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)  # before it is let go of: who opens it from now on makes another one
        os.close(held)


def _hold(lock: Path) -> int | None:
    """The file, open and locked; None where another run holds it."""
    while True:
        held = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
            return None
        except OSError:  # no locks there
            return held
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held), os.stat(lock)):
                return held
        os.close(held)  # it was removed by the run that ended meanwhile


@contextlib.contextmanager
def translate_disk_full(path: Path, then: str = "run it again") -> Iterator[None]:
    """An `OutputError` where the disk, or what the user may use of it, is full while `path` is made."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(f"The disk is full; {path} was not written. Free space and {then}.") from None
        raise


def allocate(path: Path, size: int) -> None:
    """Take `size` bytes of the disk for a file that is to be mapped: a full disk is an error now, and not a signal later."""
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, max(1, size))
        else:
            file.truncate(size)


def map_vectors(path: Path, shape: tuple[int, int], mode: Literal["r", "r+"]) -> npt.NDArray[np.float32]:
    """(N, D) float32 numbers of a file, mapped; where N is 0 an array, since nothing cannot be mapped."""
    return np.memmap(path, np.float32, mode, shape=shape) if shape[0] else np.empty(shape, np.float32)


def scratch_path(path: Path) -> Path:
    """The folder of `scratch_folder`."""
    return path.with_name(path.name + ".scratch")


@contextlib.contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield a folder beside `path` that is removed in the end; one that a killed run left is removed first."""
    folder = scratch_path(path)
    with exclusive_lock(folder, path):
        _remove(folder)
        folder.mkdir()
        try:
            yield folder
        finally:
            _remove(folder)


def move_into_place(partial: Path, path: Path) -> None:
    """Rename a finished file or folder; what stood there before is removed only once the new one is in place."""
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
