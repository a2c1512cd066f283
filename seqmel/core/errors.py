"""Everything a user can cause ends in one of these, with one clear line.

    SeqmelError
    ├── InputError       events, labels or embeddings that cannot be read or do not fit
    │   └── SchemaError  columns: missing, ambiguous, or of a kind that cannot be used
    ├── ConfigError      an option that does not exist, or has a value out of range
    ├── ModelError       a model folder that is incomplete, damaged or of another format
    ├── OutputError      a result that cannot be written where it was asked for
    └── TrainingError    training that cannot start, or that went wrong on the way

The text says what was wrong, what was found, and what to do. On the command line it is printed as it stands and the
exit code is 2; a traceback there is a bug in seqmel.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

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
    "shown",
]


class SeqmelError(Exception):
    """Base of all errors that a user of seqmel can cause. It is one line, whatever the names and values in it are."""

    def __str__(self) -> str:
        return one_line(super().__str__())


def one_line(text: str) -> str:
    """The text with what a terminal would not print as it stands (line ends, escapes, turns of direction) written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class InputError(SeqmelError):
    """Events, labels or embeddings that cannot be read, or do not fit together."""


class SchemaError(InputError):
    """A column that is missing, ambiguous, or of a kind that cannot be used."""


class ConfigError(SeqmelError, ValueError):
    """An option that does not exist, or has a value out of its range."""


class ModelError(SeqmelError):
    """A model folder that is incomplete, damaged, or of a format that this version does not know."""


class OutputError(SeqmelError):
    """A result that cannot be written where it was asked for."""


class TrainingError(SeqmelError):
    """Training that cannot start on this data or machine, or that went wrong on the way."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that offers the nearest known names (" Did you mean 'amount'?"), or nothing where none is near."""
    known = list(known)
    folded = {k.casefold(): k for k in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=2, cutoff=0.6)
    if not near:
        return ""
    return " Did you mean " + " or ".join(repr(folded[n]) for n in near) + "?"


def shown(names: Iterable[str], most: int = 12) -> str:
    """Names for a message: the first dozen, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
