"""The losses of quantities: values against their formulas, heads against other solvers."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import PoissonRegressor
from sklearn.metrics import d2_pinball_score, mean_pinball_loss, mean_tweedie_deviance
from small import card_events, tiny_config

from seqmel.core.errors import ConfigError
from seqmel.core.shared_weights import _solve
from seqmel.data.tables.targets import Target
from seqmel.inference.predict import predict
from seqmel.model import Model, load_model
from seqmel.nn.heads import Heads
from seqmel.training.finetuning.finetune import finetune
from seqmel.training.finetuning.finetune_metrics import label_metrics
from seqmel.training.finetuning.labelled import Labelled
from seqmel.training.finetuning.linear_heads import _losses, solve_heads
from seqmel.training.finetuning.quantity_losses import quantity_losses

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(400, 3))
RATE = np.exp(0.5 * X[:, 0] - 0.3 * X[:, 1])
VISITS = RANDOM.poisson(RATE).astype(float)


@pytest.mark.parametrize(("loss", "power"), [("poisson", 1.0), ("tweedie", 1.5)])
def test_log_link_losses_are_half_the_deviance(loss: Any, power: float) -> None:
    target = Target(name="t", loss=loss)
    out, values = torch.tensor([-1.0, 0.0, 2.0]), torch.tensor([0.0, 1.0, 5.0])
    expected = mean_tweedie_deviance(values.numpy(), out.exp().numpy(), power=power)
    found = quantity_losses(out, values, target)
    assert float(found.mean()) == pytest.approx(expected / 2, rel=1e-5)
    assert float(found[1]) == pytest.approx(0, abs=1e-6)


def test_the_quantile_loss_is_the_pinball_loss_but_for_its_rounded_tip() -> None:
    out, values = torch.zeros(4), torch.tensor([-2.0, -0.5, 0.5, 2.0])
    found = quantity_losses(out, values, Target(name="t", loss="quantile", quantile=0.9))
    expected = mean_pinball_loss(values, out, alpha=0.9)
    assert float(found.mean()) == pytest.approx(expected, abs=0.0125 + 1e-6)


def test_the_solution_is_that_of_scikit_learn() -> None:
    target = Target(name="t", loss="poisson")
    parts = (torch.from_numpy(part) for part in (X, VISITS, np.ones(400)))
    loss = functools.partial(_losses, target)
    found = _solve(loss, 1, *parts, penalty=40.0)
    other = PoissonRegressor(alpha=0.1, tol=1e-8).fit(X, VISITS)
    np.testing.assert_allclose(found[:-1], other.coef_, atol=1e-4)
    assert float(found[-1]) == pytest.approx(other.intercept_, abs=1e-4)


@pytest.mark.parametrize("owned", [False, True])
def test_a_head_learns_rates_from_counts(owned: bool) -> None:
    target = Target.of(pd.Series(VISITS, name="visits"), "regression", loss="poisson")
    labels = torch.from_numpy(target.encode(pd.Series(VISITS)))[:, None]
    owners = torch.arange(400) // 2 if owned else None
    labelled = Labelled((target,), torch.arange(400), labels, torch.ones(400, 1), owners)
    heads = Heads(3, [1]).eval()
    solve_heads(heads, torch.from_numpy(X).float(), labelled, seed=0)
    with torch.no_grad():
        found = target.predicted(heads(torch.from_numpy(X).float())[0].double().numpy())
    assert spearmanr(found, RATE).statistic > 0.97
    assert found.sum() == pytest.approx(VISITS.sum(), rel=1e-3)


def test_a_quantile_is_measured_by_pinball_loss_and_coverage() -> None:
    y = pd.Series(RANDOM.normal(size=200), name="y")
    target = Target.of(y, "regression", loss="quantile", quantile=0.8)
    labels = torch.from_numpy(target.encode(y))[:, None]
    labelled = Labelled((target,), torch.arange(200), labels, torch.ones(200, 1))
    out = torch.linspace(-1, 2, 200)[:, None]
    found, predicted = label_metrics([out], labelled), target.predicted(out.double().numpy())
    assert found == {
        "pinball": pytest.approx(mean_pinball_loss(y, predicted, alpha=0.8), rel=1e-4),
        "below": pytest.approx((y <= predicted).mean()),
        "d2": pytest.approx(d2_pinball_score(y, predicted, alpha=0.8), rel=1e-3),
    }


EVENTS = card_events(60)
IDS = np.unique(EVENTS["client_id"].to_numpy())
LABELS = pd.DataFrame({"client_id": IDS, "visits": RANDOM.poisson((IDS - 100) // 7 % 4 * 4.0)})


def tuned(model: Model, folder: Path, said: Any = None, **finetuning: Any) -> Model:
    config = tiny_config(finetuning={"batch_size": 8, "validation_fraction": 0.3} | finetuning)
    made = finetune(
        model,
        EVENTS,
        LABELS,
        folder / "model",
        targets=["visits"],
        task="regression",
        config=config,
        progress=said,
    )
    return load_model(made)


@pytest.mark.parametrize("loss", ["poisson", "tweedie", "log"])
def test_predictions_are_amounts_from_zero_on(model: Model, tmp_path: Path, loss: str) -> None:
    made = tuned(model, tmp_path, quantity_loss=loss)
    assert made.targets[0].has_log_link == (loss != "log")
    (table,) = predict(made, EVENTS, device="cpu")
    found = table.to_pandas().set_index("client_id")["visits"]
    assert (found >= 0).all()
    assert spearmanr(found.loc[IDS], LABELS["visits"]).statistic > 0.5


def test_the_encoder_is_trained_for_a_high_quantile(model: Model, tmp_path: Path) -> None:
    wanted = {"quantity_loss": "quantile", "quantile": 0.9, "unfreeze": "all", "epochs": 1}
    made = tuned(model, tmp_path, **wanted)
    (table,) = predict(made, EVENTS, device="cpu")
    found = table.to_pandas().set_index("client_id")["visits"].loc[IDS].to_numpy()
    assert 0.75 < (LABELS["visits"].to_numpy() <= found).mean() <= 1
    assert "the 0.9 quantile of a quantity" in (tmp_path / "model" / "README.md").read_text()


def test_a_loss_of_quantities_is_refused_for_classes(model: Model, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="quantity_loss poisson is for quantities; kind has cl"):
        finetune(
            model,
            EVENTS,
            LABELS.assign(kind=["a", "b"] * 30),
            tmp_path / "model",
            targets=["kind"],
            config=tiny_config(finetuning={"quantity_loss": "poisson"}),
        )
    with pytest.raises(ConfigError, match="is for quantity_loss quantile, found auto"):
        tiny_config(finetuning={"quantile": 0.9})
