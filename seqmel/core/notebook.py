"""Progress in a notebook: one output that is drawn anew, with curves of the training.

It shows what was said, the curves of the epochs so far, and a bar for the task in progress.
IPython's display is used, without ipywidgets.
"""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from seqmel.core.colours import COLOURS
from seqmel.core.units import count_words, task_words

__all__ = ["NotebookProgress", "curves"]

_SECONDS = 0.25
"""Between two drawings of a bar."""
_PANELS = ("loss", "validation_loss", "recall_at_1", "auroc", "accuracy", "r2", "c_index")
"""Metrics with a curve, those first that matter most."""
_MOST_PANELS = 3
_WIDTH, _HEIGHT = 190, 120
_LEFT, _RIGHT, _TOP, _BOTTOM = 8, 52, 26, 12


def curves(history: Sequence[Mapping[str, float]]) -> str:
    """Draw the metrics of a training by epoch.

    Args:
        history: one row per epoch: name of a metric -> value.

    Returns:
        An SVG with a panel per metric; nothing before the second epoch. Its text has the colour of
        the page.
    """
    if len(history) < 2:
        return ""
    names = [name for name in _PANELS if all(name in row for row in history)][:_MOST_PANELS]
    panels = "".join(
        f'<g transform="translate({_WIDTH * i},0)">{_panel(name, history)}</g>'
        for i, name in enumerate(names)
    )
    width = _WIDTH * len(names)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{_HEIGHT}" '
        f'viewBox="0 0 {width} {_HEIGHT}" font-family="sans-serif" font-size="11" '
        f'fill="currentColor">{panels}</svg>'
    )


def _panel(name: str, history: Sequence[Mapping[str, float]]) -> str:
    """Draw the line of one metric, with its first value in the title and its last at the end."""
    values = [float(row[name]) for row in history]
    low, high = min(values), max(values)
    across = (_WIDTH - _LEFT - _RIGHT) / (len(values) - 1)
    down = (_HEIGHT - _TOP - _BOTTOM) / ((high - low) or 1.0)
    points = [(_LEFT + across * i, _TOP + down * (high - value)) for i, value in enumerate(values)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    title = name.replace("_at_", "@").replace("_", " ")
    return (
        f'<text x="{_LEFT}" y="14">{title}: {count_words(len(values), "epoch")}, from '
        f"{values[0]:.3g}</text>"
        f'<polyline points="{line}" fill="none" stroke="{COLOURS[0]}" stroke-width="2"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{COLOURS[0]}"/>'
        f'<text x="{x + 6:.1f}" y="{y + 4:.1f}">{values[-1]:.3g}</text>'
    )


class NotebookProgress:
    """A `Progress` and `Recorder` for the kernel of a notebook."""

    def __init__(self) -> None:
        self._display = importlib.import_module("IPython.display").display
        self._handle: Any = None
        self._lines: list[str] = []
        self._history: list[Mapping[str, float]] = []
        self._epoch_is_next = False
        self._epoch: int | None = None
        self._bars: list[_Bar] = []
        self._drawn = 0.0

    def say(self, line: str) -> None:
        """Show a line; that of an epoch replaces the one before, which the curves show."""
        if self._epoch_is_next and self._epoch is not None:
            del self._lines[self._epoch]
        self._lines.append(line)
        if self._epoch_is_next:
            self._epoch = len(self._lines) - 1
        self._epoch_is_next = False
        self.draw()

    def record(self, event: str, figures: Mapping[str, Any]) -> None:
        """Take the metrics of an epoch for the curves."""
        if event == "epoch":
            self._history.append(figures)
            self._epoch_is_next = True

    @contextlib.contextmanager
    def task(
        self, name: str, total: int | None, unit: str, *, quiet: bool = False
    ) -> Iterator[_Bar]:
        """Show a bar while the task is in progress, and a line at its end."""
        bar = _Bar(self, name, total, unit)
        self._bars.append(bar)
        try:
            yield bar
        finally:
            self._bars.remove(bar)
            self.draw()
        if not quiet:
            self.say(bar.text())

    def draw(self, *, soon_enough: bool = False) -> None:
        """Draw the output anew; with `soon_enough`, only if the last time is a while ago."""
        if soon_enough and time.monotonic() - self._drawn < _SECONDS:
            return
        self._drawn = time.monotonic()
        lines = "".join(f"<div>{escape(line)}</div>" for line in self._lines)
        bars = "".join(bar.html() for bar in self._bars)
        shown = {
            "text/plain": "\n".join([*self._lines, *(bar.text() for bar in self._bars)]),
            "text/html": f"<div>{lines}{curves(self._history)}{bars}</div>",
        }
        if self._handle is None:
            self._handle = self._display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)


class _Bar:
    def __init__(self, progress: NotebookProgress, name: str, total: int | None, unit: str) -> None:
        self.progress = progress
        self.name, self.total, self.unit = name, total, unit
        self.done, self.note, self.began = 0, "", time.monotonic()

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.done += amount
        self.note = note or self.note
        self.progress.draw(soon_enough=True)

    def text(self) -> str:
        seconds = time.monotonic() - self.began
        return task_words(self.name, self.done, self.total, self.unit, seconds, self.note)

    def html(self) -> str:
        value = f' value="{self.done}" max="{self.total}"' if self.total else ""
        return f"<div><progress{value}></progress> {escape(self.text())}</div>"
