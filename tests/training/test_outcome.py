"""Fine-tuning losses equal slow twins, metrics their definitions; temperature calibrates."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from seqmel.data.tables.targets import Target
from seqmel.training.finetuning.finetune_metrics import calibrate, label_loss, label_metrics
from seqmel.training.finetuning.labelled import Labelled

TARGETS = (Target(name="g", classes=("a", "b", "c")), Target(name="x", center=10.0, scale=2.0))


def random_case() -> tuple[list[torch.Tensor], Labelled, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    outputs = [torch.randn(12, 3, generator=random), torch.randn(12, 1, generator=random)]
    values = torch.stack([torch.arange(12) % 3, torch.randn(12, generator=random)], dim=1)
    weights = torch.rand(12, 2, generator=random) + 0.1
    weights[:4, 0] = weights[6:, 1] = 0
    return (
        outputs,
        Labelled(TARGETS, torch.arange(12), values, weights),
        torch.tensor([[1, 2, 0.5], [1, 1, 1]]),
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_equals_its_slow_twin(smoothing: float) -> None:
    outputs, labelled, counts = random_case()
    means = []
    for t in range(2):
        total = weight = 0.0
        for i in range(12):
            w, y = float(labelled.weights[i, t]), float(labelled.values[i, t])
            if t == 1:
                loss = (float(outputs[1][i, 0]) - y) ** 2
            else:
                logs = outputs[0][i].log_softmax(0).tolist()
                loss = -sum(
                    ((1 - smoothing) * (k == y) + smoothing / 3) * logs[k] for k in range(3)
                )
                w *= float(counts[0, int(y)])
            total, weight = total + w * loss, weight + w
        means.append(total / weight)
    found = label_loss(
        outputs, labelled.values, labelled.weights, TARGETS, counts, label_smoothing=smoothing
    )
    assert float(found) == pytest.approx(sum(means) / 2, rel=1e-5)


def test_a_missing_label_has_no_gradient_and_a_batch_without_labels_no_nan() -> None:
    outputs, labelled, counts = random_case()
    leaves = [out.clone().requires_grad_() for out in outputs]
    label_loss(leaves, labelled.values, labelled.weights, TARGETS, counts).backward()
    gradients = [leaf.grad for leaf in leaves]
    assert gradients[0] is not None
    assert gradients[1] is not None
    assert gradients[0][:4].abs().max() == gradients[1][6:].abs().max() == 0
    assert gradients[0][4:].abs().min() > 0
    assert float(label_loss(outputs, labelled.values, labelled.weights * 0, TARGETS, counts)) == 0


def test_figures_have_their_target_before_them_and_look_at_known_labels_only() -> None:
    outputs, labelled, _ = random_case()
    found = label_metrics(outputs, labelled)
    assert set(found) == {"g accuracy", "g log_loss", "g auroc", "x rmse", "x r2"}
    right = outputs[0][4:].argmax(1) == labelled.values[4:, 0]
    assert found["g accuracy"] == pytest.approx(float(right.float().mean()))
    error = (outputs[1][:6, 0] - labelled.values[:6, 1]) * 2.0
    assert found["x rmse"] == pytest.approx(float((error**2).mean().sqrt()), rel=1e-5)


def test_auroc_is_left_out_where_a_class_is_missing() -> None:
    one = Labelled(
        TARGETS[:1], torch.arange(3), torch.tensor([[0.0], [1.0], [1.0]]), torch.ones(3, 1)
    )
    assert set(label_metrics([torch.zeros(3, 3)], one)) == {"accuracy", "log_loss"}
    assert label_metrics([torch.zeros(3, 3)], one)["log_loss"] == pytest.approx(math.log(3))


@pytest.mark.parametrize("factor", [0.3, 4.0])
def test_calibration_finds_the_temperature_and_lowers_the_log_loss(factor: float) -> None:
    random = np.random.default_rng(0)
    outputs = torch.from_numpy(random.normal(0, 2, (4000, 3)))
    codes = torch.tensor([random.choice(3, p=row) for row in outputs.softmax(1).numpy()])
    labelled = Labelled(
        TARGETS[:1], torch.arange(4000), codes[:, None].float(), torch.ones(4000, 1)
    )
    stretched = [outputs * factor]
    before = label_metrics(stretched, labelled)
    targets = calibrate(TARGETS[:1], stretched, labelled)
    after = label_metrics(
        stretched, Labelled(targets, labelled.clients, labelled.values, labelled.weights)
    )
    assert targets[0].temperature == pytest.approx(factor, rel=0.1)
    assert after["log_loss"] < before["log_loss"] - 0.02
    assert (after["accuracy"], after["auroc"]) == (
        before["accuracy"],
        pytest.approx(before["auroc"], abs=0.01),
    )


def test_a_few_clients_that_are_all_right_do_not_make_it_certain() -> None:
    outputs = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0]])
    few = Labelled(
        TARGETS[:1], torch.arange(3), torch.tensor([[0.0], [1.0], [2.0]]), torch.ones(3, 1)
    )
    assert 0.6 < calibrate(TARGETS[:1], [outputs], few)[0].temperature < 1
