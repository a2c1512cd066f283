"""Rows with numbers make a curve: a line per score, a point per row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from plans import PLAN, write

from seqmel.core.errors import ConfigError
from seqmel.evaluation.picture import Line, Panel, draw_panels
from seqmel.experiment import read_plan, run_experiment
from seqmel.experiment.intervals import half_width
from seqmel.experiment.picture import _points, curve_panels
from seqmel.experiment.plan import Cell
from seqmel.experiment.run import _settings
from seqmel.experiment.table import markdown

SIZES: dict[str, Any] = {"4 numbers": {"embedding_dim": 4}, "16 numbers": {"embedding_dim": 16}}
CURVE: dict[str, Any] = PLAN | {"rows": SIZES, "curve": "embedding_dim"}


def results_of(*names: str) -> pd.DataFrame:
    """Two seeds and two folds for each of these features."""
    rows = [
        {
            "data": "cards",
            "target": "habit",
            "metric": "auroc",
            "features": name,
            "seed": seed,
            "fold": fold,
            "value": 0.5 + 0.1 * place + 0.01 * fold,
            "primary": True,
        }
        for place, name in enumerate(names)
        for seed in (0, 1)
        for fold in (0, 1)
    ]
    return pd.DataFrame(rows)


def lines_of(plan: dict[str, Any], folder: Path, *names: str) -> dict[str, Line]:
    (panel,) = curve_panels(read_plan(write(folder, plan)), results_of(*names))
    assert panel.title == "cards: habit, auroc, 95 % interval"
    return {line.name: line for line in panel.lines}


def test_each_kind_of_score_is_a_line_through_the_numbers_and_aggregates_are_level(
    folder: Path,
) -> None:
    kinds = [
        "{}",
        "{}: linear",
        "{} + aggregates with order",
        "{}: linear, aggregates with order: averaged",
    ]
    names = [kind.format(row) for kind in kinds for row in reversed(SIZES)]
    lines = lines_of(CURVE, folder, "aggregates", *names)
    assert list(lines) == [
        "aggregates",
        "embeddings",
        "linear",
        "embeddings + aggregates with order",
        "averaged",
    ]
    assert lines["aggregates"].at == ()
    assert lines["aggregates"].mean == pytest.approx((0.505,))
    assert all(line.at == (4, 16) for line in list(lines.values())[1:])
    assert lines["embeddings"].mean == pytest.approx((0.705, 0.605))
    half = half_width(np.array([[0.6, 0.61]] * 2))
    assert lines["embeddings"].low == pytest.approx((0.705 - half, 0.605 - half))
    assert lines["embeddings"].high == pytest.approx((0.705 + half, 0.605 + half))


def test_rows_that_learn_labels_and_shares_of_the_labels_are_lines_of_their_own(
    folder: Path,
) -> None:
    rows = SIZES | {f"{name}, tuned": row | {"scored": "finetuned"} for name, row in SIZES.items()}
    names = [f"{row}{share}" for row in rows for share in ("", ", 0.5 of the labels")]
    lines = lines_of(CURVE | {"rows": rows, "label_fractions": [0.5, 1]}, folder, *names)
    expected = [
        "embeddings",
        "embeddings, 0.5 of the labels",
        "fine-tuned",
        "fine-tuned, 0.5 of the labels",
    ]
    assert list(lines) == expected
    assert all(line.at == (4, 16) for line in lines.values())


def test_across_shares_of_the_labels_each_set_of_features_is_a_line(folder: Path) -> None:
    features = ["aggregates", "pooled", "pooled + aggregates with order", "tuned"]
    names = [
        f"{name}{share}"
        for name in features
        for share in ("", ", 0.5 of the labels", ", 0.1 of the labels")
    ]
    plan = PLAN | {"label_fractions": [0.1, 0.5, 1], "curve": "label_fractions"}
    plan |= {"rows": {"pooled": {}, "tuned": {"scored": "finetuned"}}}
    few = [f"{name}: linear, 0.1 of the labels" for name in ("aggregates with order", "pooled")]
    lines = lines_of(plan, folder, *names, *few, "pooled: linear")
    # The probe of the aggregates has a single position, and so no line.
    assert list(lines) == [*features, "pooled: linear"]
    assert lines.pop("pooled: linear").at == (0.1, 1.0)
    assert all(line.at == (0.1, 0.5, 1.0) for line in lines.values())


def test_differences_are_to_the_aggregates_with_as_many_labels(folder: Path) -> None:
    plan = PLAN | {"label_fractions": [0.1, 1], "rows": {"pooled": {}}}
    few = ", 0.1 of the labels"
    names = ["aggregates with order", "pooled", f"aggregates with order{few}", f"pooled{few}"]
    results = results_of(*names).assign(seconds=np.nan, steps=np.nan)
    results.loc[results["features"] == names[3], "value"] += 0.05
    table = markdown(read_plan(write(folder, plan)), results)
    assert "| minus aggregates with order, as many labels |" in table
    found = {name: line for line in table.splitlines() for name in names if f"| {name} |" in line}
    assert found[names[1]].endswith("| +0.100 ± 0.000 |")
    assert found[names[3]].endswith("| +0.150 ± 0.000 |")
    assert found[names[0]].endswith("|  |")
    assert found[names[2]].endswith("|  |")


def test_a_number_may_lie_in_a_section_and_be_written_as_yaml_reads_text(folder: Path) -> None:
    rows = {
        "low": {"training": {"learning_rate": "1e-4"}},
        "high": {"training": {"learning_rate": 0.01}},
    }
    plan = read_plan(write(folder, PLAN | {"rows": rows, "curve": "training.learning_rate"}))
    assert [plan.place(row) for row in rows] == [1e-4, 0.01]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"curve": "embeding_dim"},
            "row '4 numbers' sets no embeding_dim.*Did you mean 'embedding_dim'",
        ),
        ({"rows": SIZES | {"all": {"encoder": "gru"}}}, "row 'all' sets no embedding_dim"),
        ({"rows": SIZES | {"all": {"embedding_dim": None}}}, "row 'all' sets no embedding_dim"),
        (
            {"rows": {"a": {"encoder": {"name": "gru"}}}, "curve": "encoder.name"},
            "row 'a': encoder.name is 'gru'.*numbers",
        ),
        (
            {"rows": {"a": {"recency_features": False}}, "curve": "recency_features"},
            "row 'a': recency_features is False",
        ),
        (
            {"rows": SIZES | {"again": {"embedding_dim": 16, "recency_features": False}}},
            "rows '16 numbers' and 'again' have the same embedding_dim, 16",
        ),
        ({"curve": "label_fractions"}, "label_fractions.*two fractions or more"),
        ({"curve": "label_fraction"}, "Did you mean 'label_fractions'"),
        ({"curve": ["embedding_dim"]}, "curve is .*Expected text"),
    ],
    ids=[
        "unknown",
        "not set",
        "null",
        "text",
        "truth",
        "twice",
        "no shares",
        "nearly shares",
        "list",
    ],
)
def test_a_curve_across_what_is_no_number_of_every_row_is_refused_before_any_work(
    change: dict[str, Any], message: str, folder: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        run_experiment(write(folder, CURVE | change), folder / "out")
    assert "\n" not in str(caught.value)
    assert not (folder / "out").exists()


def test_a_curve_is_no_setting_of_a_cell(folder: Path) -> None:
    cell = Cell("4 numbers", "cards", 0)
    with_curve = read_plan(write(folder, CURVE))
    without = read_plan(write(folder, PLAN | {"rows": SIZES}))
    assert _settings(with_curve, cell) == _settings(without, cell)


def test_a_folder_of_results_is_drawn_anew_as_a_curve(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = PLAN | {
        "rows": SIZES,
        "seeds": [0],
        "data": {"cards": PLAN["data"]["cards"] | {"targets": ["habit"]}},
    }
    run_experiment(write(folder, plan), folder / "out")
    dots = (folder / "out" / "table.png").read_bytes()
    monkeypatch.setattr("seqmel.experiment.run.run_cell", lambda *_: pytest.fail("a cell was run"))
    run_experiment(write(folder, plan | {"curve": "embedding_dim"}), folder / "out")
    drawn = (folder / "out" / "table.png").read_bytes()
    assert drawn[:4] == b"\x89PNG"
    assert drawn != dots


def axes_of(*names: str, at: tuple[float, ...]) -> Any:
    """The panel of a figure with these lines, all alike."""
    flat, low, high = ((value,) * len(at) for value in (0.5, 0.4, 0.7))
    return draw_panels(
        [Panel("title", "across", tuple(Line(name, at, flat, low, high) for name in names))]
    ).axes[0]


@pytest.mark.parametrize(
    ("at", "scale"),
    [
        ((16, 32, 64), "log"),
        ((0.1, 0.3, 1), "log"),
        ((0.1, 0.3, 0.4), "linear"),
        ((0, 1, 100), "linear"),
        ((7,), "linear"),
    ],
)
def test_the_axis_is_logarithmic_where_that_spaces_the_places_more_evenly(
    at: tuple[float, ...], scale: str
) -> None:
    axes = axes_of("a", at=at)
    assert axes.get_xscale() == scale
    assert [text.get_text() for text in axes.get_xticklabels()] == [f"{place:g}" for place in at]


def test_lines_at_the_same_places_are_drawn_beside_each_other() -> None:
    axes = axes_of(*"abc", at=(1, 10, 100))
    xs = np.array([bars.lines[0].get_xdata() for bars in axes.containers], float)
    assert len(np.unique(xs[:, 0])) == 3
    assert (abs(np.log10(xs) - [0, 1, 2]) < 0.2).all()


def test_points_have_a_line_at_what_they_are_compared_with() -> None:
    figure = _points(results_of("aggregates", "aggregates with order", "embeddings"))
    (axes,) = figure.axes
    lines = [
        x for line in axes.lines for x in set(line.get_xdata()) if line.get_linestyle() == "--"
    ]
    assert lines == [pytest.approx(0.605)]  # the mean of aggregates with order
    (axes,) = _points(results_of("embeddings")).axes
    assert not [line for line in axes.lines if line.get_linestyle() == "--"]
