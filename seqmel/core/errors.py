"""Errors that users can cause. Each is reported in one clear line.

    SeqmelError
    ├── InputError       events, labels or embeddings that cannot be read or do not fit
    │   └── SchemaError  columns that are missing, ambiguous or of an unsuitable type
    ├── ConfigError      an option that does not exist, or has a value out of range
    ├── ModelError       a model folder that is incomplete, damaged or of another format
    ├── OutputError      a result that cannot be written
    └── TrainingError    training that cannot start, or that failed

The message says what was wrong, what was found, and what to do. The command line prints it and
exits with code 2. A traceback there is a bug in seqmel.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable
from typing import Any

__all__ = [
    "ConfigError",
    "InputError",
    "ModelError",
    "OutputError",
    "SchemaError",
    "SeqmelError",
    "TrainingError",
    "did_you_mean",
    "one_line",
    "plain",
    "shell_words",
    "shown",
]


class SeqmelError(Exception):
    """Base class of all errors that a user of seqmel can cause. The message is always one line."""

    def __str__(self) -> str:
        return one_line(super().__str__())


def one_line(text: str) -> str:
    """Escape all characters that a terminal would not print as they are, such as line ends."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class InputError(SeqmelError):
    """Events, labels or embeddings that cannot be read, or do not fit together."""


class SchemaError(InputError):
    """A column that is missing, ambiguous, or of an unsuitable type."""


class ConfigError(SeqmelError, ValueError):
    """An option that does not exist, or has a value out of its range."""


class ModelError(SeqmelError):
    """A model folder that is incomplete, damaged, or of a format unknown to this version."""


class OutputError(SeqmelError):
    """A result that cannot be written."""


class TrainingError(SeqmelError):
    """Training that cannot start on this data or machine, or that failed."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence with the nearest known names, such as " Did you mean 'amount'?", or ""."""
    known = list(known)
    folded = {k.casefold(): k for k in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=2, cutoff=0.6)
    if not near:
        return ""
    return " Did you mean " + " or ".join(repr(folded[n]) for n in near) + "?"


def plain(value: Any) -> Any:
    """Return a numpy scalar as the Python value for a message: 12347, not np.int64(12347)."""
    if type(value).__module__ != "numpy" or getattr(value, "shape", None) != ():
        return value
    return (
        str(value) if value.dtype.kind in "mM" else value.item()
    )  # nanoseconds would become an int


def shell_words(*words: object) -> str:
    """Return words as arguments of a command to copy, quoted where a shell would split them."""
    return shlex.join(map(str, words))


def shown(names: Iterable[str], most: int = 12) -> str:
    """Join names for a message: the first ones, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
