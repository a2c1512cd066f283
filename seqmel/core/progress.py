"""Progress reports.

Bars with rate and time left on a terminal, curves in a notebook, plain lines elsewhere, or nothing.
"""

from __future__ import annotations

import contextlib
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

from seqmel.core.errors import ConfigError
from seqmel.core.units import rate_words, task_words

__all__ = [
    "EventsWarning",
    "Progress",
    "Recorder",
    "Reporting",
    "Task",
    "as_progress",
    "console_progress",
    "in_notebook",
    "record",
    "silent",
    "warn",
]

_LINE_SECONDS = 15.0


class Task(Protocol):
    """A task in progress."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Report `amount` more units. `note` replaces the text behind the bar."""


class Progress(Protocol):
    """Where functions report their progress."""

    def say(self, line: str) -> None:
        """Print a line."""

    def task(
        self, name: str, total: int | None, unit: str, *, quiet: bool = False
    ) -> contextlib.AbstractContextManager[Task]:
        """Start a task of `total` units, or of unknown size.

        Args:
            name: The name of the task.
            total: The number of units. None is unknown.
            unit: The plural of the unit.
            quiet: Whether the caller prints its own summary line at the end.
        """


@runtime_checkable
class Recorder(Protocol):
    """An optional method of a progress: records values for machines."""

    def record(self, event: str, figures: Mapping[str, Any]) -> None:
        """Record an event, such as an epoch, with its values."""


def record(progress: Progress, event: str, **figures: Any) -> None:
    """Record values, if the progress is a `Recorder`."""
    if isinstance(progress, Recorder):
        progress.record(event, figures)


class _Silent:
    def say(self, line: str) -> None:
        pass

    @contextlib.contextmanager
    def task(
        self, name: str, total: int | None, unit: str, *, quiet: bool = False
    ) -> Iterator[Task]:
        yield self

    def advance(self, amount: int = 1, note: str = "") -> None:
        pass


silent: Progress = _Silent()
"""Reports nothing."""


class EventsWarning(UserWarning):
    """Something about the events or labels may not be as the user believes. Work continues."""


def warn(progress: Progress, line: str, *, stacklevel: int = 2) -> None:
    """Show a warning as a line, and as a Python warning where no lines are shown.

    Args:
        progress: Where to report it.
        line: The warning.
        stacklevel: As in `warnings.warn`, counted from the caller.
    """
    if progress is silent:
        warnings.warn(line, EventsWarning, stacklevel=stacklevel + 1)
    else:
        progress.say(f"warning: {line}")


Reporting: TypeAlias = Progress | bool | None
"""The type of `progress=`. None shows bars on a terminal and in a notebook, and nothing elsewhere.
True shows lines elsewhere too, False nothing. A `Progress` receives the reports."""


def as_progress(given: Reporting) -> Progress:
    """Return the progress that a `progress=` argument stands for.

    Raises:
        ConfigError: The argument is invalid.
    """
    if given is None:
        return _shown_live() or silent
    if isinstance(given, bool):
        return console_progress() if given else silent
    if not (callable(getattr(given, "say", None)) and callable(getattr(given, "task", None))):
        raise ConfigError(
            f"progress is a {type(given).__name__}. Expected True, False, None, or an object "
            f"with the methods say and task."
        )
    return given


def console_progress() -> Progress:
    """Return bars on a terminal, curves in a notebook, and lines every 15 seconds elsewhere."""
    return _shown_live() or _Lines()


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")  # a kernel has imported it already
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def _shown_live() -> Progress | None:
    """Return the progress of a notebook or terminal; None elsewhere."""
    if in_notebook():
        from seqmel.core.notebook import NotebookProgress

        return NotebookProgress()
    return _Bars() if sys.stderr.isatty() else None


def _show(line: str) -> None:
    """A line on standard error.

    Work goes on where nobody reads it any more, as after a closed pipe.
    """
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


class _Lines:
    def say(self, line: str) -> None:
        _show(line)

    @contextlib.contextmanager
    def task(
        self, name: str, total: int | None, unit: str, *, quiet: bool = False
    ) -> Iterator[Task]:
        line = _Line(name, total, unit)
        yield line
        if not quiet:
            line.close()


class _Line:
    def __init__(self, name: str, total: int | None, unit: str) -> None:
        self.name = name
        self.total = total
        self.unit = unit
        self.done = 0
        self.note = ""
        self.began = self.reported = time.monotonic()

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.done += amount
        self.note = note or self.note
        if time.monotonic() - self.reported >= _LINE_SECONDS:
            self.reported = time.monotonic()
            self._report()

    def close(self) -> None:
        self._report()

    def _report(self) -> None:
        seconds = time.monotonic() - self.began
        _show(task_words(self.name, self.done, self.total, self.unit, seconds, self.note))


class _Bars:
    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)

    def say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False)

    @contextlib.contextmanager
    def task(
        self, name: str, total: int | None, unit: str, *, quiet: bool = False
    ) -> Iterator[Task]:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with RichProgress(*columns, console=self._console) as bars:
            number = bars.add_task(name, total=total, rate="", note="")
            yield _Bar(bars, number, unit)


class _Bar:
    def __init__(self, bars: object, number: int, unit: str) -> None:
        self.bars = bars
        self.number = number
        self.unit = unit
        self.done, self.began = 0, time.monotonic()

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.done += amount
        rate = rate_words(self.done / max(1e-9, time.monotonic() - self.began), self.unit)
        fields = {"rate": rate} | ({"note": note} if note else {})
        self.bars.update(self.number, advance=amount, **fields)  # type: ignore[attr-defined]
