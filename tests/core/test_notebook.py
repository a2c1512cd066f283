"""Progress in a notebook is one output: lines, a bar, and curves of the epochs so far."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from seqmel.core.notebook import NotebookProgress, curves
from seqmel.core.progress import Progress, as_progress, record

Shown = list[dict[str, str]]


class ZMQInteractiveShell:
    """The name of the class is what tells a kernel."""


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """What a kernel would show, one state after another; the display must be one."""
    states: Shown = []

    def display(data: dict[str, str], *, raw: bool, display_id: bool) -> Any:
        assert raw
        assert display_id
        assert not states, "a second output"
        states.append(data)
        return SimpleNamespace(update=lambda data, raw: states.append(data))

    kernel, module = ModuleType("IPython"), ModuleType("IPython.display")
    kernel.get_ipython = ZMQInteractiveShell  # type: ignore[attr-defined]
    module.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return states


@pytest.fixture
def progress(shown: Shown) -> Progress:
    return as_progress(None)


def epoch(progress: Progress, number: int, loss: float) -> None:
    record(progress, "epoch", epoch=number, loss=loss, recall_at_1=1 / loss)
    progress.say(f"epoch {number}: loss {loss}")


def test_a_notebook_shows_curves_from_the_second_epoch_on(progress: Progress, shown: Shown) -> None:
    assert isinstance(progress, NotebookProgress)
    epoch(progress, 1, 4.0)
    assert "<svg" not in shown[-1]["text/html"]
    epoch(progress, 2, 2.0)
    assert "loss: 2 epochs, from 4<" in shown[-1]["text/html"]
    assert "recall@1: 2 epochs, from 0.25<" in shown[-1]["text/html"]


def test_only_the_last_line_of_an_epoch_stays_and_all_other_lines(
    progress: Progress, shown: Shown
) -> None:
    progress.say("left out: <b>")
    epoch(progress, 1, 4.0)
    progress.say("a warning")
    epoch(progress, 2, 2.0)
    progress.say("kept epoch 2")
    expected = ["left out: <b>", "a warning", "epoch 2: loss 2.0", "kept epoch 2"]
    assert shown[-1]["text/plain"].splitlines() == expected
    assert "left out: &lt;b&gt;" in shown[-1]["text/html"]


def test_a_bar_is_there_while_a_task_lasts_and_a_line_afterwards(
    progress: Progress, shown: Shown
) -> None:
    progress.say("begins")
    with progress.task("read", 10, "events") as task:
        task.advance(4)
        progress.say("a line meanwhile")
        assert '<progress value="4" max="10">' in shown[-1]["text/html"]
    assert "<progress" not in shown[-1]["text/html"]
    assert shown[-1]["text/plain"].splitlines()[2].startswith("read: 4 of 10 events, ")
    with (
        pytest.raises(ValueError, match="stopped"),
        progress.task("read", None, "events", quiet=True),
    ):
        raise ValueError("stopped")
    assert "<progress" not in shown[-1]["text/html"]


def test_a_curve_goes_down_where_the_metric_falls_and_ends_at_its_last_value() -> None:
    history = [{"epoch": i, "loss": loss, "extra": 1.0} for i, loss in enumerate([3.0, 1.0, 2.0])]
    drawn = ElementTree.fromstring(curves(history))
    name = "{http://www.w3.org/2000/svg}"
    (line,) = drawn.iter(f"{name}polyline")
    heights = [float(point.split(",")[1]) for point in line.attrib["points"].split()]
    assert heights[0] < heights[2] < heights[1]  # y goes down the page
    assert [text.text for text in drawn.iter(f"{name}text")] == ["loss: 3 epochs, from 3", "2"]
    assert curves(history[:1]) == curves([]) == ""
