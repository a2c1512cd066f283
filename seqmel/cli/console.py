"""Output for any console.

Characters that the encoding lacks are replaced. A closed stream is not an error.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
import unicodedata
from typing import TextIO

__all__ = ["PLAIN", "say", "silence", "tolerate_any_console"]

PLAIN = {
    "\u2193": "v",
    "\u2191": "^",
    "\u2192": "->",
    "\u2190": "<-",
    "\u00b1": "+-",
    "\u00b2": "2",
    "\u00d7": "x",
    "\u2212": "-",
    "\u2013": "-",
    "\u2014": "-",
    "\u2026": "...",
    "\u2022": "*",
    "\u2265": ">=",
    "\u2264": "<=",
    "\u2248": "~",
    "\u221e": "inf",
    "\u2018": "'",
    "\u2019": "'",
    "\u201c": '"',
    "\u201d": '"',
    "\u00a0": " ",
    "\u202f": " ",
}
"""Character that seqmel or rich prints -> ASCII; table lines are named by their Unicode names."""


def tolerate_any_console() -> None:
    """Let both streams replace characters that their encoding lacks instead of raising."""
    codecs.register_error("seqmel.plain", _plainly)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="seqmel.plain")


def say(line: str) -> None:
    """Print a last line on standard error; do nothing if it is closed or full."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        silence(sys.stderr)


def silence(stream: TextIO) -> None:
    """Redirect a closed or full stream to the null device, so that flushing it at exit succeeds.

    Streams without a file descriptor are left alone.
    """
    with contextlib.suppress(io.UnsupportedOperation):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """Error handler for codecs: the ASCII form of each character, or a Python escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(mark: str) -> str:
    if mark in PLAIN:
        return PLAIN[mark]
    name = unicodedata.name(mark, "")
    if name.startswith("BOX DRAWINGS"):
        turns = "AND" in name or "DOWN " in name or "UP " in name
        return "+" if turns else "-" if "HORIZONTAL" in name else "|"
    if name.startswith(("BLOCK", "LEFT HALF", "BRAILLE", "FULL BLOCK")):
        return "#"
    return mark.encode("ascii", "backslashreplace").decode()
