"""Errors in a user's own parts of the training, as one line that says where they are."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path

from seqmel.core.errors import ConfigError, SeqmelError

__all__ = ["name_own_code"]

_PACKAGE = str(Path(__file__).parents[1])


@contextlib.contextmanager
def name_own_code(part: object, role: str) -> Iterator[None]:
    """Raise an error in a part of the user's as a `ConfigError` that names the part and the line.

    Errors in parts of seqmel, of seqmel itself and of want of memory are left as they are.

    Args:
        part: the loss, miner or encoder that runs.
        role: what it is, for the message.
    """
    kind = part if isinstance(part, type) else type(part)
    if kind.__module__.partition(".")[0] == "seqmel":
        yield
        return
    try:
        yield
    except (SeqmelError, MemoryError):
        raise
    except Exception as error:
        if "memory" in str(error):
            raise
        raise ConfigError(
            f"The {role} {kind.__name__} failed with {type(error).__name__}: {error} "
            f"({_place(error)})."
        ) from error


def _place(error: Exception) -> str:
    """Return the last line outside of seqmel and installed packages, else the last line."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame
        for frame in frames
        if "site-packages" not in frame.filename and not frame.filename.startswith(_PACKAGE)
    ]
    last = own[-1] if own else frames[-1]
    return f"{last.filename}, line {last.lineno}"
