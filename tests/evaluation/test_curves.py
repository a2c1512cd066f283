"""Curves: only the training part shrinks, compression is fitted on it, bytes are counted right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from seqmel.core.errors import ConfigError, InputError
from seqmel.data.tables.number_types import stored_bytes
from seqmel.evaluation import curves
from seqmel.evaluation.compression import Components, read_back
from seqmel.evaluation.curves import Curve, compression_curve, label_curve, label_draws
from seqmel.evaluation.picture import draw_curves
from seqmel.evaluation.problem import Problem
from seqmel.evaluation.scoring import score

FEW = {"trees": 10, "folds": 3, "threads": 1}


@pytest.fixture
def y() -> pd.Series:
    index = pd.Index([f"c{i:03}" for i in range(240)], name="client_id")
    return pd.Series(np.where(np.arange(240) % 2, "M", "F"), index, name="gender")


@pytest.fixture
def vectors(y: pd.Series) -> pd.DataFrame:
    """The label is along one direction that no single number shows well."""
    random = np.random.default_rng(0)
    x = random.normal(size=(240, 6)) + np.where(y == "M", 2.0, 0.0)[:, None]
    return pd.DataFrame(x.astype(np.float32), y.index, columns=[f"emb_{i:04}" for i in range(6)])


# --------------------------------------------------------------------------------------------------
# labels


def test_all_labels_give_the_score_itself_and_few_labels_a_lower_one(
    y: pd.Series, vectors: pd.DataFrame
) -> None:
    curve = label_curve(y, {"a": vectors}, (0.05, 1.0), **FEW)  # type: ignore[arg-type]
    few, whole = curve.points
    assert whole.score("auroc") == score(y, {"a": vectors}, **FEW).score("a")  # type: ignore[arg-type]
    assert few.score("auroc").mean < whole.score("auroc").mean
    assert few.settings == {"share": 0.05, "clients": 8, "draws": 5}
    assert len(few.score("auroc").folds) == 3


def test_a_linear_probe_learns_from_the_same_labels_where_these_are_few(
    y: pd.Series, vectors: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "_FEW_LABELS", 100)
    curve = label_curve(y, {"a": vectors}, (0.05, 1.0), probes={"a: linear": "a"}, **FEW)  # type: ignore[arg-type]
    assert [(point.features, point.at) for point in curve.points] == [
        ("a", 0.05),
        ("a", 1.0),
        ("a: linear", 0.05),
    ]
    trees, _, linear = curve.points
    assert linear.settings == trees.settings
    assert linear.score("auroc").mean > trees.score("auroc").mean + 0.03


def test_draws_are_training_clients_with_every_class_and_differ(y: pd.Series) -> None:
    problem = Problem.of(y, "auto", 3, 0)
    for fold, (train, _) in enumerate(problem.splits):
        draws = label_draws(problem, fold, 0.0125, 0)
        assert all(set(draw) <= set(train) and len(draw) == 2 for draw in draws)
        assert all(set(problem.target[draw]) == {0, 1} for draw in draws)
        assert len({tuple(draw) for draw in draws}) > 1
        assert [d.tolist() for d in label_draws(problem, fold, 0.0125, 0)] == [
            d.tolist() for d in draws
        ]


@pytest.mark.parametrize(("fraction", "draws"), [(1.0, 1), (0.6, 2), (0.5, 2), (0.3, 4), (0.1, 5)])
def test_small_shares_are_drawn_more_often(y: pd.Series, fraction: float, draws: int) -> None:
    assert len(label_draws(Problem.of(y, "auto", 3, 0), 0, fraction, 0)) == draws


@pytest.mark.parametrize("fractions", [(0.0,), (0.5, 1.5), (-0.1,), (float("nan"),), ()])
def test_a_fraction_out_of_range_is_refused(
    y: pd.Series, vectors: pd.DataFrame, fractions: tuple[float, ...]
) -> None:
    with pytest.raises(ConfigError, match="Expected fractions above 0, up to 1"):
        label_curve(y, {"a": vectors}, fractions)


def test_a_fraction_that_leaves_too_few_clients_is_refused(
    y: pd.Series, vectors: pd.DataFrame
) -> None:
    with pytest.raises(
        InputError, match=r"The label fraction 0\.001 of 160 training clients leaves 0"
    ):
        label_curve(y, {"a": vectors}, (0.001,), **FEW)  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------------
# sizes


def test_the_whole_vector_gives_the_score_itself_and_one_component_finds_the_direction(
    y: pd.Series, vectors: pd.DataFrame
) -> None:
    curve = compression_curve(y, {"a": vectors}, (1, None), ("float32", "binary"), **FEW)  # type: ignore[arg-type]
    found = {(p.settings["size"], p.settings["number_type"]): p for p in curve.points}
    assert found[6, "float32"].score("auroc") == score(y, {"a": vectors}, **FEW).score("a")  # type: ignore[arg-type]
    assert found[1, "float32"].score("auroc").mean > 0.95
    assert found[1, "binary"].score("auroc").mean > 0.9
    assert [p.at for p in curve.points] == [4, 1, 24, 1]


def test_what_compresses_never_sees_the_test_part(
    y: pd.Series, vectors: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    fit = Components.fit.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(
        Components, "fit", classmethod(lambda cls, x: seen.append(x) or fit(cls, x))
    )
    compression_curve(y, {"a": vectors}, (2,), ("int8",), **FEW)  # type: ignore[arg-type]
    problem = Problem.of(y, "auto", 3, 0)
    for training, (train, _) in zip(seen, problem.splits, strict=True):
        assert np.array_equal(training, vectors.to_numpy()[train])


def test_components_are_those_of_the_covariance() -> None:
    random = np.random.default_rng(1)
    x = (random.normal(size=(50, 4)) @ random.normal(size=(4, 4)) + 7).astype(np.float32)
    values, axes = np.linalg.eigh(np.cov(x.T.astype(np.float64)))
    projected = Components.fit(x).project(x, 2)
    for i in range(2):
        slow = (x - x.mean(0)) @ axes[:, ::-1][:, i]
        assert (
            min(np.abs(projected[:, i] - slow).max(), np.abs(projected[:, i] + slow).max()) < 1e-3
        )
        assert projected[:, i].var(ddof=1) == pytest.approx(values[::-1][i], rel=1e-3)


def test_int8_is_off_by_half_a_step_within_its_range_and_cuts_beyond() -> None:
    training = np.linspace(-3, 5, 2001, dtype=np.float32)[:, None].repeat(2, axis=1)
    low, high = np.quantile(training[:, 0], [0.001, 0.999])
    inside = np.linspace(low, high, 777, dtype=np.float32)[:, None].repeat(2, axis=1)
    read = read_back(inside, training, "int8")
    assert np.abs(read - inside).max() <= (high - low) / 255 / 2 + 1e-5
    assert len(np.unique(read[:, 0])) == 256
    assert read_back(np.full((1, 2), 1e9, np.float32), training, "int8") == pytest.approx(
        high, abs=1e-4
    )


def test_other_number_types_read_back_what_they_can_hold() -> None:
    x = np.array([[0.1, 1e9], [-2.0, 3.0]], np.float32)
    assert read_back(x, x, "float32") is x
    assert read_back(x, x, "float16").tolist() == [[float(np.float16(0.1)), 65504.0], [-2.0, 3.0]]
    assert read_back(x, x, "binary").tolist() == [[1, 1], [0, 0]]
    constant = np.full((5, 1), 3.0, np.float32)
    assert read_back(constant, constant, "int8").tolist() == constant.tolist()


@pytest.mark.parametrize(
    ("number_type", "count"), [("float32", 40), ("float16", 20), ("int8", 10), ("binary", 2)]
)
def test_bytes_of_ten_numbers(number_type: str, count: int) -> None:
    assert stored_bytes(10, number_type) == count  # type: ignore[arg-type]


def test_sizes_that_cannot_be_are_refused(y: pd.Series, vectors: pd.DataFrame) -> None:
    with pytest.raises(
        InputError, match="'a' have 6 numbers and 160 training clients; they cannot be reduced to 6"
    ):
        compression_curve(y, {"a": vectors}, (6,), **FEW)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="Cannot reduce embeddings to"):
        compression_curve(y, {"a": vectors}, (0,))
    with pytest.raises(ConfigError, match="no dtype 'int4'"):
        compression_curve(y, {"a": vectors}, (2,), ("int4",))  # type: ignore[arg-type]
    holes = vectors.copy()
    holes.iloc[3, 2] = np.nan
    with pytest.raises(InputError, match="missing or infinite"):
        compression_curve(y, {"a": holes}, (2,), **FEW)  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------------
# results


def test_curves_are_plain_json_a_table_and_a_picture(
    y: pd.Series, vectors: pd.DataFrame, tmp_path: Path
) -> None:
    labels = label_curve(y, {"a": vectors}, (0.1, 1), **FEW)  # type: ignore[arg-type]
    sizes = compression_curve(y, {"a": vectors}, (2, None), ("float32", "int8"), **FEW)  # type: ignore[arg-type]
    rows = json.loads(json.dumps(sizes.to_json()))
    assert {k: rows[1][k] for k in ("features", "size", "number_type", "bytes", "primary")} == {
        "features": "a", "size": 2, "number_type": "int8", "bytes": 2, "primary": "auroc",
    }  # fmt: skip
    assert labels.table().row_count == 2
    draw_curves(tmp_path / "curves.png", [labels, sizes])
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert isinstance(sizes, Curve)
