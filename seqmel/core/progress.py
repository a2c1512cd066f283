"""Progress that a person can follow: bars with rate and time left on a terminal, plain lines elsewhere, or silence."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

__all__ = ["Progress", "Recorder", "Task", "console_progress", "record", "silent"]

_LINE_SECONDS = 15.0


class Task(Protocol):
    """One piece of work under way."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """So much more is done; `note` replaces the words behind the bar."""


class Progress(Protocol):
    """Where work reports to."""

    def say(self, line: str) -> None:
        """A line that stays."""

    def task(
        self, name: str, total: int | None, unit: str, *, told: bool = False
    ) -> contextlib.AbstractContextManager[Task]:
        """A piece of work of `total` units, or of a size that is not known; `told` where who does it says a line on its end."""


@runtime_checkable
class Recorder(Protocol):
    """What a progress may be as well: something that keeps figures for machines."""

    def record(self, event: str, figures: Mapping[str, Any]) -> None:
        """An event, such as an epoch, with its figures."""


def record(progress: Progress, event: str, **figures: Any) -> None:
    """Give figures to a progress that keeps them; nothing to one that only shows."""
    if isinstance(progress, Recorder):
        progress.record(event, figures)


class _Silent:
    def say(self, line: str) -> None:
        pass

    @contextlib.contextmanager
    def task(self, name: str, total: int | None, unit: str, *, told: bool = False) -> Iterator[Task]:
        yield self

    def advance(self, amount: int = 1, note: str = "") -> None:
        pass


silent: Progress = _Silent()
"""Says nothing; what the Python interface uses unless it is told otherwise."""


def console_progress() -> Progress:
    """Bars where standard error is a terminal, plain lines every quarter of a minute where it is not."""
    return _Bars() if sys.stderr.isatty() else _Lines()


class _Lines:
    def say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def task(self, name: str, total: int | None, unit: str, *, told: bool = False) -> Iterator[Task]:
        line = _Line(name, total, unit)
        yield line
        if not told:
            line.close()


class _Line:
    def __init__(self, name: str, total: int | None, unit: str) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done, self.note = 0, ""
        self.began = self.told = time.monotonic()

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.done += amount
        self.note = note or self.note
        if time.monotonic() - self.told >= _LINE_SECONDS:
            self.told = time.monotonic()
            self._tell()

    def close(self) -> None:
        self._tell()

    def _tell(self) -> None:
        seconds = time.monotonic() - self.began
        rate = self.done / seconds if seconds else 0.0
        of = f" of {self.total:,}" if self.total else ""
        left = (
            f", {(self.total - self.done) / rate:.0f} s left" if self.total and rate and self.done < self.total else ""
        )
        note = f", {self.note}" if self.note else ""
        line = f"{self.name}: {self.done:,}{of} {self.unit}, {seconds:.1f} s, {_rate(rate, self.unit)}{left}{note}"
        print(line, file=sys.stderr, flush=True)


def _rate(rate: float, unit: str) -> str:
    return f"{rate:,.0f} {unit}/s" if rate >= 9.5 or not rate else f"{rate:.2g} {unit}/s"


class _Bars:
    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)

    def say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False)

    @contextlib.contextmanager
    def task(self, name: str, total: int | None, unit: str, *, told: bool = False) -> Iterator[Task]:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
        )  # fmt: skip
        with RichProgress(*columns, console=self._console) as bars:
            number = bars.add_task(name, total=total, rate="", note="")
            yield _Bar(bars, number, unit)


class _Bar:
    def __init__(self, bars: object, number: int, unit: str) -> None:
        self.bars, self.number, self.unit = bars, number, unit
        self.done, self.began = 0, time.monotonic()

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.done += amount
        rate = _rate(self.done / max(1e-9, time.monotonic() - self.began), self.unit)
        fields = {"rate": rate} | ({"note": note} if note else {})
        self.bars.update(self.number, advance=amount, **fields)  # type: ignore[attr-defined]
