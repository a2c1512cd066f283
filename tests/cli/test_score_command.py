"""`seqmel score` on the command line, with predictions by seqmel and by others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, r2_score, roc_auc_score
from typer.testing import CliRunner

from seqmel.cli.main import app
from seqmel.core.errors import SeqmelError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write labels of 80 clients in another order than the predictions; one has no label."""
    random = np.random.default_rng(0)
    ids = np.arange(81)
    left = random.random(81) < 0.4
    p = 0.2 * left + random.uniform(0.1, 0.7, 81)
    kind = random.integers(0, 3, 81)
    shares = random.dirichlet(np.ones(3), 81)
    sum_of = random.normal(50, 10, 81)
    labels = pd.DataFrame(
        {"client_id": ids, "left": np.where(left, "yes", "no"), "kind": kind * 5, "spent": sum_of}
    )
    labels.iloc[:80].sample(frac=1, random_state=0).to_csv(tmp_path / "labels.csv", index=False)
    predictions = {
        "client_id": ids,
        "left=no": 1 - p,
        "left=yes": p,
        "left": np.where(p > 0.5, "yes", "no"),
    }
    predictions |= {f"kind={5 * k}": shares[:, k] for k in range(3)} | {"kind": 0}
    predictions |= {"spent": sum_of + random.normal(0, 5, 81), "bad": -sum_of, "logit": p * 7 - 3}
    pd.DataFrame(predictions).to_parquet(tmp_path / "predictions.parquet")
    return tmp_path


def run(folder: Path, *options: object, fails: bool = False) -> str:
    words = ["score", folder / "predictions.parquet", folder / "labels.csv", *options]
    if fails:
        with pytest.raises(SeqmelError) as refused:
            CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
        return str(refused.value)
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == 0
    return " ".join(done.stdout.split())


def test_metrics_of_predictions_equal_those_of_scikit_learn(folder: Path) -> None:
    targets = ["--target", "left", "--target", "kind", "--target", "spent"]
    said = run(folder, *targets, "--json", folder / "s.json")
    left, kind, spent = json.loads((folder / "s.json").read_text())
    both = pd.read_csv(folder / "labels.csv").merge(
        pd.read_parquet(folder / "predictions.parquet"), on="client_id", suffixes=("", "_p")
    )
    assert "80 clients; the metrics of ranking are of 'yes'" in said
    y, p = both["left"] == "yes", both["left=yes"]
    assert left["metrics"]["auroc"]["value"] == pytest.approx(roc_auc_score(y, p))
    assert left["metrics"]["average_precision"]["value"] == pytest.approx(
        average_precision_score(y, p)
    )
    low, high = left["metrics"]["auroc"]["interval"]
    assert low < left["metrics"]["auroc"]["value"] < high
    shares = both[[f"kind={k}" for k in (0, 5, 10)]]
    assert kind["classes"] == ["0", "5", "10"]
    assert kind["metrics"]["auroc"]["value"] == pytest.approx(
        roc_auc_score(both["kind"], shares, multi_class="ovr")
    )
    assert spent["metrics"]["r2"]["value"] == pytest.approx(
        r2_score(both["spent"], both["spent_p"])
    )


def test_one_column_is_the_probability_of_the_second_class(folder: Path) -> None:
    run(folder, "--target", "left", "--column", "left=yes", "--json", folder / "one.json")
    run(folder, "--target", "left", "--json", folder / "two.json")
    assert (folder / "one.json").read_text() == (folder / "two.json").read_text()


@pytest.mark.parametrize("target", ["left", "kind", "spent"])
def test_a_picture_is_drawn(folder: Path, target: str) -> None:
    run(folder, "--target", target, "--plot", folder / "p.png")
    assert (folder / "p.png").read_bytes()[:4] == b"\x89PNG"


def test_predictions_that_are_worse_than_the_mean_are_remarked_on(folder: Path) -> None:
    assert "worse than the mean" in run(folder, "--target", "spent", "--column", "bad")
    assert "worse than the mean" not in run(folder, "--target", "spent")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--target", "left", "--column", "logit"], "not probabilities: they reach from"),
        (["--target", "left", "--column", "left"], "no numbers in column 'left'"),
        (["--target", "kind", "--column", "left=yes"], "3 classes and the predictions one column"),
        (["--target", "spent", "--column", "spend"], "No column 'spend'"),
        (["--target", "lost"], "No column 'lost'"),
        (["--target", "left", "--target", "kind", "--plot", "p.png"], "for one target"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_one_line(
    folder: Path, options: list[str], says: str
) -> None:
    line = run(folder, *options, fails=True)
    assert says in line
    assert "\n" not in line


def test_predictions_at_moments_are_matched_by_client_and_moment(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    keys = pd.MultiIndex.from_product([range(40), pd.date_range("2024-01-01", periods=3)])
    labels = pd.DataFrame({"client_id": keys.get_level_values(0), "day": keys.get_level_values(1)})
    labels["left"] = random.integers(0, 2, 120)
    labels.to_parquet(tmp_path / "labels.parquet")
    found = labels.assign(p=random.random(120))
    found.sample(frac=1, random_state=0).to_parquet(tmp_path / "predictions.parquet")
    words = ["score", tmp_path / "predictions.parquet", tmp_path / "labels.parquet"]
    words += ["--target", "left", "--column", "p", "--json", tmp_path / "s.json"]
    done = CliRunner().invoke(
        app, [*map(str, words), "--time-column", "day"], catch_exceptions=False
    )
    assert "120 rows of 40 clients" in " ".join(done.stdout.split())
    (scores,) = json.loads((tmp_path / "s.json").read_text())
    assert (scores["clients"], scores["rows"]) == (40, 120)
    assert scores["metrics"]["auroc"]["value"] == pytest.approx(
        roc_auc_score(found["left"], found["p"])
    )
    predictions = found.rename(columns={"day": "event_time"})
    predictions.to_parquet(tmp_path / "predictions.parquet")
    done = CliRunner().invoke(
        app, [*map(str, words), "--time-column", "day"], catch_exceptions=False
    )
    assert "120 rows of 40 clients" in " ".join(done.stdout.split())
    found.to_parquet(tmp_path / "predictions.parquet")
    with pytest.raises(SeqmelError, match="Expected one row per client"):
        CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)


def test_the_column_that_both_tables_have_is_the_client_whatever_its_name(folder: Path) -> None:
    asked = ["--target", "left", "--json", folder / "s.json"]
    run(folder, *asked)
    before = json.loads((folder / "s.json").read_text())
    names = {"client_id": "Kunden Nr."}
    pd.read_csv(folder / "labels.csv").rename(columns=names).to_csv(folder / "labels.csv")
    pd.read_parquet(folder / "predictions.parquet").rename(columns=names).to_parquet(
        folder / "predictions.parquet"
    )
    assert "Name it with --client" in run(folder, *asked, fails=True)  # `kind` is in both too
    labels = pd.read_csv(folder / "labels.csv")[["Kunden Nr.", "left"]]
    labels.to_csv(folder / "labels.csv", index=False)
    run(folder, *asked)
    assert json.loads((folder / "s.json").read_text()) == before
