"""Times to an event with censoring: labels, the loss, the metrics, and models that predict them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small import card_events

import seqmel
from seqmel.core.errors import ConfigError, InputError, ModelError, SchemaError
from seqmel.core.survival import concordance, kaplan_meier, survival_metrics
from seqmel.core.survival_loss import survival_losses
from seqmel.data.tables.survival import observed_times, signed_times, time_edges
from seqmel.data.tables.targets import Target

EVENTS = card_events(60)
IDS = np.unique(EVENTS["client_id"].to_numpy())
RANDOM = np.random.default_rng(0)
HABIT = (IDS - 100) // 7 % 4
TIMES = RANDOM.exponential(20.0 * (1 + HABIT) ** 2)
ENDS = RANDOM.uniform(40, 200, len(IDS))
LABELS = pd.DataFrame(
    {
        "client_id": IDS,
        "churn": np.minimum(TIMES, ENDS),
        "churn_observed": TIMES <= ENDS,
        "constant": 5,
    }
)
QUICK: dict[str, Any] = {"unfreeze": "head", "progress": False}


@pytest.fixture(scope="module")
def pretrained() -> seqmel.Model:
    return seqmel.train(EVENTS, epochs=1, batch_size=16, device="cpu", progress=False)


@pytest.fixture(scope="module")
def tuned(pretrained: seqmel.Model) -> seqmel.Model:
    return pretrained.finetune(EVENTS, LABELS, target="churn", task="survival", **QUICK)


def test_the_loss_is_that_of_a_loop_over_bins() -> None:
    edges = (2.0, 4.0, 10.0)
    values = torch.tensor([0.0, -0.0, 2.0, 2.5, -2.5, -3.5, 10.0, 11.0, -30.0])
    out = torch.randn(len(values), 3, generator=torch.Generator().manual_seed(0)).double()
    hazards = torch.sigmoid(out).tolist()
    expected = []
    for hazard, value in zip(hazards, values.tolist(), strict=True):
        likelihood = 1.0
        for at, (low, high) in enumerate(zip((0.0, *edges), edges, strict=False)):
            censored = np.signbit(value)
            if not censored and value <= high:
                likelihood *= hazard[at]
                break
            if not censored or (low + high) / 2 <= abs(value):
                likelihood *= 1 - hazard[at]
        expected.append(-np.log(likelihood))
    found = survival_losses(out, values.double(), edges)
    torch.testing.assert_close(found, torch.tensor(expected).double())


def test_concordance_is_that_of_all_pairs() -> None:
    for seed in range(20):
        random = np.random.default_rng(seed)
        times, risks = random.integers(0, 6, 40).astype(float), random.integers(0, 5, 40) / 2
        observed = random.random(40) < 0.6
        right = pairs = 0.0
        for i in range(40):
            for j in range(40):
                later = times[j] > times[i] or (times[j] == times[i] and not observed[j])
                if i != j and observed[i] and later:
                    pairs += 1
                    right += 1.0 if risks[i] > risks[j] else 0.5 if risks[i] == risks[j] else 0.0
        assert concordance(times, observed, risks) == pytest.approx(right / pairs)
    assert np.isnan(concordance(np.ones(3), np.zeros(3, bool), np.ones(3)))


def test_kaplan_meier_is_the_product_over_moments() -> None:
    times = np.array([1.0, 2.0, 2.0, 3.0, 4.0, 5.0])
    observed = np.array([True, True, False, True, False, True])
    at = np.array([0.5, 1.0, 2.5, 3.0, 9.0])
    after = 5 / 6 * 4 / 5 * 2 / 3
    expected = [1, 5 / 6, 5 / 6 * 4 / 5, after, 0]
    np.testing.assert_allclose(kaplan_meier(times, observed, at), expected)


def test_signed_times_keep_times_of_nothing_apart() -> None:
    signed = signed_times(pd.Series([0.0, 0.0, 3.0]), pd.Series([1, 0, 0]))
    times, observed = observed_times(signed.to_numpy(np.float32))
    assert times.tolist() == [0, 0, 3]
    assert observed.tolist() == [True, False, False]


@pytest.mark.parametrize("scale", [1e-4, 1.0, 37.0, 1e6])
def test_bins_have_events_and_the_last_one_ends_after_the_last_event(scale: float) -> None:
    times = np.random.default_rng(1).exponential(scale, 200)
    signed = np.where(np.arange(200) % 3 > 0, times, -times)
    edges = time_edges(signed)
    counts = np.histogram(signed[signed > 0], (0.0, *edges))[0]
    assert len(edges) == 10
    assert counts.min() >= 5
    assert counts.sum() == (signed > 0).sum()
    assert time_edges(np.array([0.0, -3.0])) == (1.0,)


def test_medians_and_survival_are_those_of_constant_hazards() -> None:
    target = Target(name="t", edges=(1.0, 3.0, 7.0))
    rate = np.array([0.5, 0.05])
    widths = np.diff((0.0, *target.edges))
    hazards = 1 - np.exp(-rate[:, None] * widths)
    outputs = np.log(hazards / (1 - hazards))
    np.testing.assert_allclose(target.survival(outputs), np.exp(-np.outer(rate, target.edges)))
    np.testing.assert_allclose(target.predicted(outputs), [np.log(2) / 0.5, np.nan])


def test_metrics_see_a_forecast_that_is_a_fifth_too_high() -> None:
    values = np.where(np.arange(1000) % 2 > 0, 1.0, -10.0)
    survival = np.full((1000, 1), 0.4)
    found = survival_metrics(*observed_times(values), survival, (2.0,))
    expected = {"concordance": 0.5, "calibration": 1.2, "calibration_error": 0.1}
    assert found == pytest.approx(expected)


def test_a_model_ranks_clients_by_their_time_and_is_calibrated(tuned: seqmel.Model) -> None:
    frame = tuned.predict(EVENTS, progress=False).loc[LABELS["client_id"]]
    (target,) = tuned.targets
    later = [f"churn>{edge:g}" for edge in target.edges]
    assert frame.columns.tolist() == [*later, "churn"]
    assert (np.diff(frame[later].to_numpy(), axis=1) <= 0).all()
    observed = LABELS["churn_observed"].to_numpy()
    risk = -frame[later].sum(axis=1).to_numpy()
    assert concordance(LABELS["churn"].to_numpy(), observed, risk) > 0.7
    estimated = kaplan_meier(LABELS["churn"].to_numpy(), observed, np.array(target.edges[:-2]))
    assert np.abs(frame[later].mean().to_numpy()[:-2] - estimated).max() < 0.15
    last = frame[later[-1]] > 0.5
    assert last.any()
    assert frame["churn"].isna().tolist() == last.tolist()
    assert {"concordance", "calibration", "calibration_error"} <= set(tuned.metrics["held_out"])


def test_a_saved_model_the_scorer_and_reasons_say_the_same(
    tuned: seqmel.Model, tmp_path: Path
) -> None:
    again = seqmel.load(tuned.save(tmp_path / "m"))
    assert "the time to an event, in " in (tmp_path / "m" / "README.md").read_text()
    few = EVENTS.to_pandas().query("client_id < 115")
    expected = tuned.predict(few, progress=False)
    pd.testing.assert_frame_equal(again.predict(few, progress=False), expected)
    client = expected.index[0]
    found = again.scorer().predict(few[few["client_id"] == client])
    wanted = [None if np.isnan(x) else pytest.approx(x, abs=1e-5) for x in expected.iloc[0]]
    assert list(found.values()) == wanted
    reasons = again.explain(few, client, orders=2, progress=False)
    column = reasons["output"].iloc[0]
    assert column in expected.columns[:-1]
    assert reasons["contribution"].sum() == pytest.approx(expected.loc[client, column], abs=1e-5)


def test_the_encoder_learns_times_too_and_edges_may_be_given(pretrained: seqmel.Model) -> None:
    options = {"epochs": 1, "batch_size": 32, "time_edges": [30, 90], "progress": False}
    named = LABELS.rename(columns={"churn_observed": "seen"})
    tuned = pretrained.finetune(
        EVENTS, named, target="churn", task="survival", observed="seen", **options
    )
    assert tuned.targets[0].columns == ("churn>30", "churn>90", "churn")
    assert np.isfinite(tuned.metrics["history"][0]["loss"])


def test_labels_of_the_time_to_an_event_are_learnt_as_they_come(pretrained: seqmel.Model) -> None:
    labels = seqmel.make_labels(
        EVENTS, within="40d", every="month", kind="time_to_event", target="next_buy"
    )
    tuned = pretrained.finetune(
        EVENTS, labels, target="next_buy", task="survival", time_column="event_time", **QUICK
    )
    assert tuned.targets[0].edges[-1] <= 40.1


def test_facts_are_learnt_with_times(pretrained: seqmel.Model) -> None:
    facts = pd.DataFrame({"client_id": IDS, "age": HABIT + RANDOM.random(len(IDS))})
    tuned = pretrained.finetune(
        EVENTS, LABELS, target="churn", task="survival", facts=facts, **QUICK
    )
    assert len(tuned.predict(EVENTS, facts=facts, progress=False)) == 60
    with pytest.raises(ConfigError, match="'churn_observed' is a column of the labels"):
        pretrained.finetune(
            EVENTS, LABELS, target="churn", task="survival", facts=LABELS.drop(columns="churn"),
            **QUICK,
        )  # fmt: skip


def test_the_estimator_predicts_what_the_function_does(
    pretrained: seqmel.Model, tuned: seqmel.Model, tmp_path: Path
) -> None:
    y = LABELS.set_index("client_id")[["churn", "churn_observed"]]
    options = {"unfreeze": "head", "random_state": 0}
    fitted = seqmel.SequenceSurvival.from_pretrained(pretrained, **options).fit(EVENTS, y)
    expected = tuned.predict(EVENTS, progress=False).to_numpy()
    np.testing.assert_allclose(fitted.predict_survival(EVENTS), expected[:, :-1], atol=1e-6)
    np.testing.assert_allclose(fitted.predict(EVENTS), expected[:, -1], rtol=1e-5)
    assert fitted.time_edges_ == tuned.targets[0].edges
    assert fitted.score(EVENTS, y) > 0.7
    unordered = y.sample(frac=1, random_state=0)
    assert fitted.score(EVENTS, unordered) == fitted.score(EVENTS, y)
    sequences = seqmel.EventSequences.read(EVENTS)
    records = sequences.align(y).to_records(index=False)
    assert fitted.score(sequences, records) == fitted.score(EVENTS, y)
    folder = fitted.save(tmp_path / "model")
    loaded = seqmel.SequenceSurvival.load(folder)
    np.testing.assert_array_equal(loaded.predict(EVENTS), fitted.predict(EVENTS))
    with pytest.raises(ModelError, match="SequenceSurvival times to an event"):
        seqmel.SequenceRegressor.load(folder)
    for wrong in (y["churn"], y.assign(churn_observed=1)):
        with pytest.raises(InputError, match=r"Expected y as a DataFrame .* of two columns"):
            fitted.score(EVENTS, wrong)


def test_a_model_is_evaluated_on_times_beside_aggregates(pretrained: seqmel.Model) -> None:
    found = pretrained.evaluate(
        LABELS, target="churn", task="survival", events=EVENTS, folds=2, trees=5, progress=False
    )
    assert found.primary == "concordance"
    assert {"aggregates", "embeddings: linear"} <= found.matched.keys()


BAD: dict[str, tuple[dict[str, Any], dict[str, Any], type[Exception], str]] = {
    "negative": ({"churn": -1.0}, {}, InputError, "has the time -1"),
    "text": ({"churn": "soon"}, {}, InputError, "Expected numbers: the time to the event"),
    "nobody": ({"churn_observed": False}, {}, InputError, "No event of 'churn' is observed"),
    "codes": ({"churn_observed": 2}, {}, SchemaError, "Expected true and false, or 1 and 0"),
    "no column": ({}, {"observed": "seen"}, SchemaError, "No column 'seen'.*--observed"),
    "no task": ({}, {"task": "auto", "observed": "x"}, ConfigError, "belongs to the task survival"),
    "loss": ({}, {"quantity_loss": "poisson"}, ConfigError, "has times to an event"),
    "edges": ({}, {"time_edges": [30, 30]}, ConfigError, "expected increasing numbers"),
    "other task": (
        {},
        {"task": "regression", "time_edges": [30]},
        ConfigError,
        "time_edges are for the task survival",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_times_is_one_line(
    case: str, pretrained: seqmel.Model, tmp_path: Path
) -> None:
    columns, options, error, words = BAD[case]
    given = {"target": "churn", "task": "survival"} | options
    with pytest.raises(error, match=words):
        pretrained.finetune(EVENTS, LABELS.assign(**columns), tmp_path / "m", **given)
    assert not list(tmp_path.iterdir())


def test_a_row_without_observed_is_refused(pretrained: seqmel.Model) -> None:
    lacking = LABELS.assign(churn_observed=LABELS["churn_observed"].astype("boolean"))
    lacking.loc[3, "churn_observed"] = None
    with pytest.raises(InputError, match=r"121 has a time in 'churn' and nothing in"):
        pretrained.finetune(EVENTS, lacking, target="churn", task="survival")
