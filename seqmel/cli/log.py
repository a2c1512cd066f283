"""The log of a run: one JSON object per line, for monitoring.

{"time": ..., "event": "started", "command": "train", "options": {...}, "seqmel": ..., "process":
...} {"time": ..., "event": "said" | "task" | "epoch", ...} {"time": ..., "event": "finished",
"seconds": ..., "peak_memory_mb": ..., and what was counted} {"time": ..., "event": "failed" |
"stopped", "error": the line of the message, ...}

A line is appended by one write, so that runs may share a file and a reader never sees half of one
but at a full disk.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from seqmel.core.errors import OutputError, SeqmelError
from seqmel.core.progress import Progress, Task, console_progress

__all__ = ["RunLog", "logged"]


class RunLog:
    """A `Progress` that also appends every report to a file."""

    def __init__(self, path: Path, shown: Progress) -> None:
        self.path = path
        self.shown = shown
        self.counts: dict[str, Any] = {}

    def say(self, line: str) -> None:
        """Show and record a line."""
        self.shown.say(line)
        self.record("said", {"line": line})

    @contextlib.contextmanager
    def task(
        self, name: str, total: int | None, unit: str, *, quiet: bool = False
    ) -> Iterator[Task]:
        """Show a task; record it when it is done."""
        began = time.monotonic()
        with self.shown.task(name, total, unit, quiet=quiet) as task:
            counted = _Counted(task)
            yield counted
        self.record(
            "task", {"name": name, "done": counted.done, "unit": unit, "seconds": _seconds(began)}
        )

    def record(self, event: str, figures: Mapping[str, Any]) -> None:
        """Append an event; counts are kept for the last line."""
        if event == "counted":
            self.counts |= figures
            return
        moment = dt.datetime.now(dt.timezone.utc).isoformat(timespec="milliseconds")
        line = json.dumps(
            {"time": moment, "event": event} | _plain(figures), ensure_ascii=False, allow_nan=False
        )
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(file, line.encode("utf-8", "backslashreplace") + b"\n")
            finally:
                os.close(file)
        except OSError as error:
            raise OutputError(
                f"The log {self.path} cannot be written: {error.strerror}. Name another file."
            ) from None


class _Counted:
    def __init__(self, task: Task) -> None:
        self._task = task
        self.done = 0

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.done += amount
        self._task.advance(amount, note)


@contextlib.contextmanager
def logged(path: Path | None, command: str, options: Mapping[str, Any]) -> Iterator[Progress]:
    """Return the progress of a command; it also writes a log if a file is named.

    Args:
        path: the log, which is appended to.
        command: its name.
        options: what it was given.

    Raises:
        OutputError: the log cannot be written; before any work.
    """
    if path is None:
        yield console_progress()
        return
    from seqmel.core.version import __version__

    log = RunLog(path, console_progress())
    began = time.monotonic()
    log.record(
        "started",
        {"command": command, "options": options, "seqmel": __version__, "process": os.getpid()},
    )
    try:
        yield log
    except SeqmelError as error:
        _ended(log, "failed", began, str(error))
        raise
    except KeyboardInterrupt:
        _ended(log, "stopped", began, "interrupted")
        raise
    except Exception as error:  # a bug, which is reported as such elsewhere
        _ended(log, "failed", began, f"{type(error).__name__}: {error}")
        raise
    log.record(
        "finished", {"seconds": _seconds(began), "peak_memory_mb": _peak_memory_mb(), **log.counts}
    )


def _ended(log: RunLog, event: str, began: float, line: str) -> None:
    figures = {"seconds": _seconds(began), "peak_memory_mb": _peak_memory_mb(), "error": line}
    with contextlib.suppress(OutputError):  # what went wrong before is what the user has to see
        log.record(event, figures)


def _seconds(began: float) -> float:
    return round(time.monotonic() - began, 3)


def _peak_memory_mb() -> float | None:
    """Peak memory of this process; None if the system does not report it."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


def _plain(value: Any) -> Any:
    """Return a value for JSON: null for non-finite numbers, text for unknown types."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
