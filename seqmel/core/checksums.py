"""Read files of untrusted folders, and compute checksums.

Each file is read once, and the same bytes are checked and used. Symbolic links are refused, because
they could lead out of the folder. All errors in JSON become a `ValueError`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from seqmel.core.errors import ModelError

__all__ = ["digest", "digest_of_ids", "digest_of_json", "parse_json", "read_files"]


def digest(content: bytes) -> str:
    """Return the SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def digest_of_json(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of JSON values, independent of the order of keys and of whitespace."""
    return digest(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())


def digest_of_ids(ids: Iterable[object]) -> str:
    """Return the SHA-256 of a set of client ids. No id can be read from it."""
    return digest("\n".join(sorted(set(map(str, ids)))).encode())


def read_files(folder: Path, names: Iterable[str]) -> dict[str, bytes]:
    """Read files of a model folder.

    Args:
        folder: The folder.
        names: Names of files within it.

    Returns:
        Name -> content.

    Raises:
        ModelError: A file is missing, cannot be read, or is a link.
    """
    names = list(names)
    linked = [name for name in names if (folder / name).is_symlink()]
    if linked:
        raise ModelError(
            f"The model folder {folder} is refused: {', '.join(linked)} is a symbolic link, which "
            "could lead out of it. Copy the files themselves (cp -rL)."
        )
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ModelError(
            f"The model folder {folder} is incomplete: {', '.join(missing)} missing. Copy it "
            "again, or train."
        )
    try:
        return {name: (folder / name).read_bytes() for name in names}
    except OSError as error:
        raise ModelError(f"The model folder {folder} cannot be read: {error}.") from None


def parse_json(content: bytes) -> Any:
    """Parse JSON. Raises a `ValueError` also if it is nested too deeply or not UTF-8."""
    try:
        return json.loads(content.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
