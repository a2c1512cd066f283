"""Loss, validation metrics and calibration of outputs for labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from seqmel.config import Config
from seqmel.core.errors import ModelError, TrainingError
from seqmel.core.survival import survival_metrics
from seqmel.core.survival_loss import survival_losses
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.tables.survival import observed_times
from seqmel.data.tables.targets import Target
from seqmel.inference.histories import embed_histories
from seqmel.nn.encoder import SequenceEncoder
from seqmel.nn.heads import Heads
from seqmel.nn.joint_heads import JointHeads
from seqmel.training.finetuning.labelled import Labelled
from seqmel.training.finetuning.quantity_losses import quantity_losses

__all__ = ["HeldOut", "calibrate", "label_loss", "label_metrics", "target_losses", "unbiased"]

_SPREAD = 0.5  # prior standard deviation of the logarithm of a temperature


def label_loss(
    outputs: Sequence[Tensor],
    values: Tensor,
    weights: Tensor,
    targets: Sequence[Target],
    class_weights: Tensor,
    *,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Mean over targets of cross-entropy for classes, and of the loss of quantities and times.

    Args:
        outputs: Outputs of the heads: (B, size) for each target.
        values: (B, T), see `Labelled`.
        weights: (B, T). Labels of weight 0 are ignored. A target without labels in the batch adds
            nothing.
        targets: The T targets.
        class_weights: (T, K), the weight of each class.
        label_smoothing: Probability that is spread over all classes.

    Returns:
        A scalar.
    """
    total = values.new_zeros(())
    for column, (target, out) in enumerate(zip(targets, outputs, strict=True)):
        weight, losses = target_losses(
            out,
            values[:, column],
            weights[:, column],
            target,
            class_weights[column],
            label_smoothing=label_smoothing,
        )
        total = total + (weight * losses).sum() / weight.sum().clamp(min=1e-12)
    return total / len(targets)


def target_losses(
    out: Tensor,
    values: Tensor,
    weights: Tensor,
    target: Target,
    class_weights: Tensor,
    *,
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Return the weights and the losses of one target, (B,) each; see `label_loss`."""
    if target.edges:
        return weights, survival_losses(out, values, target.edges)
    if not target.classes:
        return weights, quantity_losses(out[:, 0], values, target)
    code = values.long()
    losses = F.cross_entropy(out, code, reduction="none", label_smoothing=label_smoothing)
    return weights * class_weights[code], losses


def label_metrics(outputs: Sequence[Tensor], labelled: Labelled) -> dict[str, float]:
    """Compute metrics of the clients with known labels.

    These are accuracy, AUROC (one against the rest) and log-loss of classes, and R2 and RMSE (in
    the unit of the target) of quantities. A quantile has its mean pinball loss, D2 (one minus its
    ratio to that of the best constant) and the fraction of labels below the prediction instead.
    Times to an event have concordance and calibration, see `survival_metrics`.
    With several targets each name begins with its target.
    AUROC is omitted if these clients lack a class. All metrics are omitted if there are no clients.
    """
    found: dict[str, float] = {}
    for column, (target, out) in enumerate(zip(labelled.targets, outputs, strict=True)):
        known = labelled.known(column)
        if len(known):
            numbers = out[known].double().numpy()
            values = labelled.values[known, column].numpy()
            metrics = {
                "classification": _class_metrics,
                "survival": _time_metrics,
            }.get(target.task, _quantity_metrics)
            prefix = f"{target.name} " if len(labelled.targets) > 1 else ""
            found |= {
                prefix + name: value for name, value in metrics(target, numbers, values).items()
            }
    return found


def _class_metrics(
    target: Target, outputs: npt.NDArray[np.float64], values: npt.NDArray[np.float32]
) -> dict[str, float]:
    from sklearn.metrics import roc_auc_score

    codes = values.astype(np.int64)
    probabilities = target.probabilities(outputs)
    right = probabilities[np.arange(len(codes)), codes]
    found = {
        "accuracy": float((probabilities.argmax(1) == codes).mean()),
        "log_loss": float(-np.log(right + 1e-12).mean()),
    }
    if len(np.unique(codes)) == len(target.classes):
        ranked = probabilities[:, 1] if len(target.classes) == 2 else probabilities
        found["auroc"] = float(roc_auc_score(codes, ranked, multi_class="ovr"))
    return found


def _quantity_metrics(
    target: Target, outputs: npt.NDArray[np.float64], values: npt.NDArray[np.float32]
) -> dict[str, float]:
    actual = target.quantities(values)
    error = target.predicted(outputs) - actual
    if target.loss == "quantile":
        q = target.quantile
        pinball = _pinball(-error, q)
        constant = _pinball(actual - np.quantile(actual, q), q)
        skill = {"d2": 1 - pinball / constant} if constant else {}
        return {"pinball": pinball, "below": float((error >= 0).mean())} | skill
    spread = np.mean((actual - actual.mean()) ** 2)
    found = {"rmse": float(np.sqrt(np.mean(error**2)))}
    return found | ({"r2": float(1 - np.mean(error**2) / spread)} if spread else {})


def _time_metrics(
    target: Target, outputs: npt.NDArray[np.float64], values: npt.NDArray[np.float32]
) -> dict[str, float]:
    times, observed = observed_times(values)
    found = survival_metrics(times, observed, target.survival(outputs), target.edges)
    return {name: value for name, value in found.items() if not np.isnan(value)}


def _pinball(error: npt.NDArray[np.float64], q: float) -> float:
    """Return the mean pinball loss of errors, label minus prediction."""
    return float(np.maximum(q * error, (q - 1) * error).mean())


@dataclass(frozen=True)
class HeldOut:
    """The validation clients, and their outputs, computed like predictions.

    Attributes:
        sequences: Their sequences, in the order of `labelled`.
        labelled: Their labels.
        class_weights: (T, K), the weights used in training.
        config: Gives the maximum number of events of a sequence.
    """

    sequences: EncodedSequences
    labelled: Labelled
    class_weights: Tensor
    config: Config

    def __len__(self) -> int:
        return len(self.labelled)

    @torch.no_grad()
    def outputs(
        self, encoder: SequenceEncoder, heads: Heads | JointHeads, device: torch.device
    ) -> tuple[Tensor, ...]:
        """Return (L, size) for each target, on the CPU.

        Both modules must be on `device`. Their mode is restored.

        Raises:
            TrainingError: Vectors are not finite.
        """
        training = encoder.training
        encoder.eval(), heads.eval()
        try:
            vectors = embed_histories(encoder, self.sequences, self.config, device=device)
        except ModelError:
            raise self._not_finite() from None
        facts = self.labelled.facts
        placed = None if facts is None else facts.to(device)
        found = tuple(out.cpu() for out in heads(vectors.to(device), placed))
        encoder.train(training), heads.train(training)
        return found

    def metrics(self, outputs: Sequence[Tensor]) -> dict[str, float]:
        """Return the validation loss, which decides which epoch is best, and `label_metrics`.

        Raises:
            TrainingError: Outputs are not finite.
        """
        labelled = self.labelled
        if not all(out.isfinite().all() for out in outputs):
            raise self._not_finite()
        loss = label_loss(
            outputs, labelled.values, labelled.weights, labelled.targets, self.class_weights
        )
        return {"validation_loss": float(loss)} | label_metrics(outputs, labelled)

    def _not_finite(self) -> TrainingError:
        return TrainingError(
            "The outputs for the clients held out are no longer finite. Lower "
            f"finetuning.learning_rate (it is {self.config.finetuning.learning_rate:g})."
        )


def unbiased(
    targets: Sequence[Target], outputs: Sequence[Tensor], labelled: Labelled
) -> tuple[Target, ...]:
    """Scale quantities learned by their logarithm, so that predictions have the mean of the labels.

    The exponential of a mean of logarithms is below the mean (Duan, JASA 1983, estimates the same
    factor in another way).

    Args:
        targets: The T targets.
        outputs: The outputs of the heads: for each target (L, size).
        labelled: The labels of these training clients.

    Returns:
        The targets with their factors.
    """
    found = []
    for column, (target, out) in enumerate(zip(targets, outputs, strict=True)):
        if target.log:
            known = labelled.known(column).numpy()
            weights = labelled.weights[:, column].double().numpy()
            actual = target.quantities(labelled.values[:, column].numpy())
            predicted = target.quantities(out[:, 0].double().numpy())
            label_sum, prediction_sum = (
                float((x * weights)[known].sum()) for x in (actual, predicted)
            )
            factor = label_sum / prediction_sum if prediction_sum > 0 else 1.0
            target = target.model_copy(update={"factor": factor})
        found.append(target)
    return tuple(found)


def calibrate(
    targets: Sequence[Target], outputs: Sequence[Tensor], labelled: Labelled
) -> tuple[Target, ...]:
    """Calibrate by the temperature of lowest log-loss (Guo et al., ICML 2017, arXiv 1706.04599).

    It is one number per target, and does not change which class is most likely. Its logarithm has a
    normal prior. So a small validation split without errors does not make predictions certain.
    """
    from scipy.optimize import minimize_scalar

    found = []
    for column, (target, out) in enumerate(zip(targets, outputs, strict=True)):
        known = labelled.known(column)
        if target.classes and len(known):
            numbers = out[known].double()
            codes = labelled.values[known, column].long()
            best = minimize_scalar(
                lambda log, x=numbers, y=codes: (
                    float(F.cross_entropy(x / np.exp(log), y, reduction="sum"))
                    + (log / _SPREAD) ** 2 / 2
                ),
                bounds=(-4 * _SPREAD, 4 * _SPREAD),
                method="bounded",
            )
            target = target.model_copy(update={"temperature": float(np.exp(best.x))})
        found.append(target)
    return tuple(found)
