"""The curves of a training mark the epoch that was kept."""

from __future__ import annotations

import pytest

from seqmel.training.card import curve_figure, kept_epoch

HISTORY = [
    {"epoch": float(i), "loss": 3.0 - i, "recall_at_1": recall}
    for i, recall in enumerate((0.2, 0.5, 0.4), start=1)
]


def test_every_curve_marks_the_kept_epoch() -> None:
    figure = curve_figure(HISTORY, ("loss", "recall_at_1", "absent"), kept_epoch(HISTORY))
    assert [axes.get_title() for axes in figure.axes] == ["loss", "recall@1"]
    for axes in figure.axes:
        curve, mark = axes.lines
        assert list(curve.get_xdata()) == [1, 2, 3]
        assert set(mark.get_xdata()) == {2}
        assert axes.get_xlabel() == "epoch (kept: 2)"


@pytest.mark.parametrize("names", [("loss",), ("loss", "recall_at_1")])
def test_nothing_is_marked_where_no_epoch_was_kept(names: tuple[str, ...]) -> None:
    for axes in curve_figure(HISTORY, names, None).axes:
        assert len(axes.lines) == 1
        assert axes.get_xlabel() == "epoch"
