"""Times to an event: features and predictions are scored by concordance and calibration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import seqmel
from seqmel.cli.main import app
from seqmel.core.errors import ConfigError, InputError, SchemaError, SeqmelError
from seqmel.core.survival import concordant_pairs, expected_events, kaplan_meier
from seqmel.evaluation.downstream import Booster, LinearProbe
from seqmel.evaluation.predictions import read_predictions, score_predictions

RANDOM = np.random.default_rng(0)
IDS = pd.Index(np.arange(240).astype(str), name="client_id")
RISK = RANDOM.normal(size=len(IDS))
TIMES = RANDOM.exponential(30.0 * np.exp(-RISK))
ENDS = RANDOM.uniform(20, 120, len(IDS))
Y = pd.Series(np.minimum(TIMES, ENDS), IDS, name="churn")
OBSERVED = pd.Series(TIMES <= ENDS, IDS, name="churn_observed")
SETS = {
    "signal": pd.DataFrame({"x": RISK}, IDS),
    "noise": pd.DataFrame({"x": RANDOM.normal(size=len(IDS))}, IDS),
}
QUICK: dict[str, Any] = {
    "task": "survival",
    "observed": OBSERVED,
    "folds": 3,
    "trees": 60,
    "threads": 1,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Labels, and predictions of the exponential distribution that the times come from."""
    Y.to_frame().join(OBSERVED).to_parquet(tmp_path / "labels.parquet")
    rate = np.exp(RISK) / 30
    later = {f"churn>{bound}": np.exp(-rate * bound) for bound in (10, 30, 90)}
    pd.DataFrame({"client_id": IDS, **later}).to_parquet(tmp_path / "scores.parquet")
    SETS["signal"].rename(columns={"x": "emb_0"}).to_parquet(tmp_path / "vectors.parquet")
    return tmp_path


def run(*words: object) -> str:
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == 0
    return " ".join(done.stdout.split())


def test_features_that_carry_the_time_rank_clients_and_both_models_are_calibrated() -> None:
    rows = {
        "probes": {"signal: linear": "signal"},
        "averages": {"both": ["signal", "signal: linear"]},
    }
    found = seqmel.score(Y, SETS, time_edges=[10, 30, 60], **rows, **QUICK)
    assert (found.task, found.primary, found.edges) == ("survival", "concordance", (10, 30, 60))
    assert found.classes == {"event": int(OBSERVED.sum()), "censored": int((~OBSERVED).sum())}
    assert found.score("noise").mean < 0.6
    for name in ("signal", "signal: linear", "both"):
        assert found.score(name).mean > 0.7
        assert found.score(name, "calibration").mean == pytest.approx(1, abs=0.15)
        assert found.score(name, "calibration_error").mean < 0.08
    assert found.to_json()["edges"] == [10, 30, 60]
    assert "at 10, 30, 60" in found.caption


def test_groups_have_the_concordance_and_the_expected_events_of_their_own_clients() -> None:
    half = pd.Series(np.where(np.arange(len(IDS)) % 2, "odd", "even"), IDS, name="half")
    found = seqmel.score(Y, SETS, by=half, **QUICK).groups
    assert found is not None
    rows = {(row.features, row.group): row for row in found.rows}
    for group in ("odd", "even"):
        signal, noise = rows["signal", group], rows["noise", group]
        assert signal.clients == 120
        assert signal.mean == pytest.approx(OBSERVED[half == group].mean())
        assert signal.values["concordance"] > 0.65 > 0.6 > noise.values["concordance"]
        assert signal.values["expected"] == pytest.approx(1, abs=0.25)
    assert {gap.measure for gap in found.gaps} == {"concordance", "expected"}


def test_the_pairs_of_an_event_are_counted_as_a_loop_counts_them() -> None:
    times, observed = np.ceil(Y.to_numpy() / 20), OBSERVED.to_numpy()
    risks = np.round(RISK)
    concordant, comparable = concordant_pairs(times, observed, risks)
    for i in range(len(times)):
        later = (times > times[i]) | ((times == times[i]) & ~observed)
        higher = (risks[i] > risks[later]).sum() + (risks[i] == risks[later]).sum() / 2
        assert (concordant[i], comparable[i]) == ((higher, later.sum()) if observed[i] else (0, 0))


def test_expected_events_are_the_hazard_until_the_end_of_the_observation() -> None:
    survival = np.exp(-np.array([[10.0, 30.0]]) * 0.02)
    for time, hazard in ((0, 0), (4, 0.08), (10, 0.2), (25, 0.5), (99, 0.6)):
        found = expected_events(np.array([float(time)]), survival, (10.0, 30.0))
        assert found == pytest.approx([hazard])


@pytest.mark.parametrize("model", [Booster(trees=5, seed=0, threads=1), LinearProbe(seed=0)])
def test_without_information_the_survival_is_that_of_kaplan_and_meier(model: Any) -> None:
    signed = np.where(OBSERVED, Y, -Y)
    edges = (5.0, 10.0, 20.0, 40.0)
    constant = np.ones((len(Y), 1), np.float32)
    found = model.survival(constant, signed, constant[:1], edges)
    expected = kaplan_meier(Y.to_numpy(), OBSERVED.to_numpy(), np.array(edges))
    np.testing.assert_allclose(found[0], expected, atol=0.03)


def test_the_curve_of_labels_takes_times_and_every_draw_has_an_event() -> None:
    curve = seqmel.label_curve(Y, {"signal": SETS["signal"]}, [0.1, 1], **QUICK)
    low, high = (point.score("concordance").mean for point in curve.points)
    assert 0.5 < low <= high


def test_the_commands_score_features_and_predictions(folder: Path) -> None:
    shown = run(
        "evaluate", folder / "labels.parquet", "--target", "churn", "--task", "survival",
        "--embeddings", folder / "vectors.parquet", "--folds", 2, "--trees", 20,
        "--set", "finetuning.time_edges=[30, 60]", "--json", folder / "e.json",
    )  # fmt: skip
    assert "concordance" in shown
    assert json.loads((folder / "e.json").read_text())[0]["edges"] == [30, 60]
    shown = run(
        "score", folder / "scores.parquet", folder / "labels.parquet", "--target", "churn",
        "--task", "survival", "--json", folder / "s.json", "--plot", folder / "s.png",
    )  # fmt: skip
    (found,) = json.loads((folder / "s.json").read_text())
    assert found["metrics"]["concordance"]["value"] > 0.7
    low, high = found["metrics"]["concordance"]["interval"]
    assert low < found["metrics"]["concordance"]["value"] < high
    assert [row["bound"] for row in found["horizons"]] == [10, 30, 90]
    for row in found["horizons"]:
        assert row["predicted"] == pytest.approx(row["estimated"], abs=0.06)
    assert "Kaplan-Meier" in shown
    assert (folder / "s.png").stat().st_size > 1_000


BAD: dict[str, tuple[dict[str, Any], type[SeqmelError], str]] = {
    "no observed": ({"observed": None}, ConfigError, "Give observed="),
    "other task": ({"task": "regression"}, ConfigError, "observed belongs to the task survival"),
    "edges": ({"time_edges": [3, 2]}, ConfigError, "Expected increasing numbers above 0"),
    "few events": (
        {"observed": OBSERVED & (np.arange(240) < 3)},
        InputError,
        "3 folds need 3 observed",
    ),
    "metric": ({"metric": "auroc"}, ConfigError, "none of the time to an event"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_scored_is_one_line(case: str) -> None:
    options, error, words = BAD[case]
    with pytest.raises(error, match=words) as refused:
        seqmel.score(Y, SETS, **(QUICK | options))
    assert "\n" not in str(refused.value)


def test_predictions_that_are_no_survival_are_refused(folder: Path) -> None:
    options: dict[str, Any] = {"task": "survival", "observed": OBSERVED}
    rising = pd.DataFrame({"churn>10": 0.2, "churn>30": 0.4}, IDS)
    with pytest.raises(InputError, match="increase from one bound"):
        score_predictions(Y, rising, **options)
    with pytest.raises(InputError, match="are not probabilities: they reach from 2"):
        score_predictions(Y, rising + 2, **options)
    with pytest.raises(SchemaError, match="no probabilities of a later event of 'churn'"):
        read_predictions(folder / "labels.parquet", Y, task="survival")
    with pytest.raises(ConfigError, match="--column is for classes and quantities"):
        read_predictions(folder / "scores.parquet", Y, task="survival", column="churn>10")
