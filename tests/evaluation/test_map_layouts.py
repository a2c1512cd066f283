"""Maps and their scores: against slow formulas, and at both ends of the scale."""

from __future__ import annotations

import importlib.machinery
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from in_process import InProcess

from seqmel.core.errors import ConfigError
from seqmel.evaluation.map_layouts import global_score, map_layouts, neighbourhood_auc
from seqmel.evaluation.map_picture import colour_values

RANDOM = np.random.default_rng(0)
VECTORS = RANDOM.normal(size=(40, 6)) * [5, 3, 1, 1, 1, 1]


def slow_auc(x: np.ndarray, y: np.ndarray) -> float:
    """R_NX(k) by sets of neighbours, k by k."""
    count = len(x)

    def nearest(points: np.ndarray, row: int) -> list[int]:
        distances = ((points - points[row]) ** 2).sum(1)
        return [int(i) for i in np.argsort(distances, kind="stable") if i != row]

    of_x, of_y = ([nearest(p, i) for i in range(count)] for p in (x, y))
    top = bottom = 0.0
    for k in range(1, count - 1):
        shared = sum(len({*a[:k]} & {*b[:k]}) for a, b in zip(of_x, of_y, strict=True))
        q = shared / (k * count)
        top += ((count - 1) * q - k) / (count - 1 - k) / k
        bottom += 1 / k
    return top / bottom


def test_neighbourhood_preservation_is_that_of_a_loop_over_neighbours() -> None:
    points = VECTORS[:, :2] + RANDOM.normal(size=(40, 2))
    assert neighbourhood_auc(VECTORS, points) == pytest.approx(slow_auc(VECTORS, points))
    assert neighbourhood_auc(VECTORS, VECTORS) == pytest.approx(1)
    assert abs(neighbourhood_auc(VECTORS, RANDOM.normal(size=(40, 2)))) < 0.15


def test_the_global_score_is_one_for_pca_and_small_for_noise() -> None:
    centred = VECTORS - VECTORS.mean(0)
    pca = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    assert global_score(VECTORS, 7 * pca + 3) == pytest.approx(1)
    assert global_score(VECTORS, RANDOM.normal(size=(40, 2))) < 0.1
    assert global_score(pca, pca) == 1.0


def test_the_layouts_have_scores_and_are_the_same_twice() -> None:
    found = map_layouts(VECTORS.astype(np.float32), seed=0)
    again = map_layouts(VECTORS.astype(np.float32), seed=0)
    assert [layout.name for layout in found][:2] == ["PCA", "t-SNE"]
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(one.points, other.points)
        assert 0 < one.neighbours <= 1
    assert found[0].global_score == pytest.approx(1)


def test_trimap_and_pacmap_are_drawn_where_they_are_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are extras; here stand-ins with their interfaces."""
    given: dict[str, dict[str, Any]] = {}

    def stand_in(module: str, name: str) -> None:
        class Layout:
            def __init__(self, **options: Any) -> None:
                given[module] = options

            def fit_transform(self, points: np.ndarray) -> np.ndarray:
                return points[:, 1:3]

        made = types.ModuleType(module)
        made.__spec__ = importlib.machinery.ModuleSpec(module, None)
        setattr(made, name, Layout)
        monkeypatch.setitem(sys.modules, module, made)

    stand_in("trimap", "TorchTRIMAP")
    stand_in("pacmap", "PaCMAP")
    found = {layout.name: layout for layout in map_layouts(VECTORS.astype(np.float32), seed=7)}
    assert list(found)[-2:] == ["TriMap", "PaCMAP"]
    assert found["TriMap"].global_score < 1 == pytest.approx(found["PCA"].global_score)
    assert [options["random_state"] for options in given.values()] == [7, 7]
    stand_in("trimap", "TRIMAP")
    with pytest.raises(ConfigError, match="trimap is too old"):
        map_layouts(VECTORS.astype(np.float32), seed=7)


def test_colours_are_numbers_or_classes() -> None:
    assert colour_values(pd.Series(range(20))).tolist() == [float(i) for i in range(20)]
    few = colour_values(pd.Series([1.0, 2.0, None]))
    assert few.dropna().tolist() == ["1", "2"]
    many = colour_values(pd.Series([f"c{i}" for i in range(12)] + ["c0"] * 5))
    assert many.nunique() == 8
    assert (many == "all others").sum() == 5


def test_the_command_draws_and_says_the_scores(tmp_path: Path, in_process: InProcess) -> None:
    ids = pd.RangeIndex(40, name="Kunden Nr.")
    names = [f"emb_{i}" for i in range(6)]
    pd.DataFrame(VECTORS, ids, names).reset_index().to_parquet(tmp_path / "v.parquet")
    labels = pd.DataFrame({"sex": ["F", "M"] * 20, "age": np.arange(40.0)}, ids)
    labels.reset_index().to_parquet(tmp_path / "labels.parquet")
    words = ["map", tmp_path / "v.parquet", "--labels", tmp_path / "labels.parquet", "--colour"]
    for colour, file in (("sex", "map.png"), ("age", "map.svg"), ("sex", "map.html")):
        done = in_process.seqmel(*words, colour, "-o", tmp_path / file)
        assert done.returncode == 0, done.stderr
        assert "PCA: global score 1.00, neighbours kept 0." in done.stdout
    assert (tmp_path / "map.png").read_bytes()[:4] == b"\x89PNG"
    assert b"<svg" in (tmp_path / "map.svg").read_bytes()
    page = (tmp_path / "map.html").read_text(encoding="utf-8")
    data = json.loads(page.split('id="page">')[1].split("</script>")[0])
    assert [client["id"] for client in data["clients"]] == [str(i) for i in range(40)]
    assert data["map"]["colourings"][0] == {
        "name": "sex",
        "classes": ["F", "M"],
        "values": [0.0, 1.0] * 20,
    }
    assert "global score 1.00, neighbours kept 0." in data["map"]["layouts"][0]["note"]
    for wrong, message in (
        (["sx", "-o", tmp_path / "x.png"], "--colour"),
        (["sex", "-o", tmp_path / "x.gif"], "is no map. Name a file with .html"),
        (["sex", "-o", tmp_path / "map.png"], "--overwrite"),
        (["sex", "-o", tmp_path / "x.png", "--clients", 3], "Expected at least 10"),
    ):
        done = in_process.seqmel(*words, *wrong)
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr
