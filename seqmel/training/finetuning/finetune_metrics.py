"""How well outputs fit labels: the loss that is learnt, the figures that are shown, and the temperature that calibrates."""

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
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.tables.targets import Target
from seqmel.inference.embed import embed_sequences
from seqmel.nn.encoder import SequenceEncoder
from seqmel.nn.heads import Heads
from seqmel.training.finetuning.labelled import Labelled

__all__ = ["HeldOut", "calibrated", "label_loss", "label_metrics"]

_SPREAD = 0.5  # of the logarithm of a temperature, before it is fitted


def label_loss(
    outputs: Sequence[Tensor],
    values: Tensor,
    weights: Tensor,
    targets: Sequence[Target],
    class_weights: Tensor,
    *,
    label_smoothing: float = 0.0,
) -> Tensor:
    """The mean over targets of cross-entropy for classes, and squared error of the standardised number for quantities.

    Args:
        outputs: of the heads: for each target (B, size).
        values: (B, T), see `Labelled`.
        weights: (B, T); a label of weight 0 does not count, and a target without any label in the batch adds nothing.
        targets: what the T targets are.
        class_weights: (T, K), how much each class counts.
        label_smoothing: share of the probability that is spread over all classes.
    """
    total = values.new_zeros(())
    for column, (target, out) in enumerate(zip(targets, outputs, strict=True)):
        weight, value = weights[:, column], values[:, column]
        if target.classes:
            code = value.long()
            losses = F.cross_entropy(out, code, reduction="none", label_smoothing=label_smoothing)
            weight = weight * class_weights[column][code]
        else:
            losses = (out[:, 0] - value) ** 2
        total = total + (weight * losses).sum() / weight.sum().clamp(min=1e-12)
    return total / len(targets)


def label_metrics(outputs: Sequence[Tensor], labelled: Labelled) -> dict[str, float]:
    """Figures of the clients whose labels are known: accuracy, AUROC (one against the rest) and log-loss of classes, R2
    and RMSE (in the unit of the target) of quantities. Where there are several targets, each name has its target before it.

    AUROC is left out where a class is missing among these clients; all of it where they are none.
    """
    found: dict[str, float] = {}
    for column, (target, out) in enumerate(zip(labelled.targets, outputs, strict=True)):
        known = labelled.known(column)
        if len(known):
            numbers, values = out[known].double().numpy(), labelled.values[known, column].numpy()
            figures = _of_classes if target.classes else _of_quantity
            before = f"{target.name} " if len(labelled.targets) > 1 else ""
            found |= {before + name: figure for name, figure in figures(target, numbers, values).items()}
    return found


def _of_classes(target: Target, outputs: npt.NDArray[np.float64], values: npt.NDArray[np.float32]) -> dict[str, float]:
    from sklearn.metrics import roc_auc_score

    codes, shares = values.astype(np.int64), target.probabilities(outputs)
    right = shares[np.arange(len(codes)), codes]
    found = {"accuracy": float((shares.argmax(1) == codes).mean()), "log_loss": float(-np.log(right + 1e-12).mean())}
    if len(np.unique(codes)) == len(target.classes):
        ranked = shares[:, 1] if len(target.classes) == 2 else shares
        found["auroc"] = float(roc_auc_score(codes, ranked, multi_class="ovr"))
    return found


def _of_quantity(target: Target, outputs: npt.NDArray[np.float64], values: npt.NDArray[np.float32]) -> dict[str, float]:
    error = outputs[:, 0] - values
    spread = np.mean((values - values.mean()) ** 2)
    found = {"rmse": float(np.sqrt(np.mean(error**2)) * target.scale)}
    return found | ({"r2": float(1 - np.mean(error**2) / spread)} if spread else {})


@dataclass(frozen=True)
class HeldOut:
    """The clients held out, and what encoder and heads make of them, computed as a prediction is.

    Attributes:
        sequences: of these clients, in the order of their labels.
        labelled: their labels.
        class_weights: (T, K), those that training uses.
        config: gives the most events of a sequence.
    """

    sequences: EncodedSequences
    labelled: Labelled
    class_weights: Tensor
    config: Config

    def __len__(self) -> int:
        return len(self.labelled)

    @torch.no_grad()
    def outputs(self, encoder: SequenceEncoder, heads: Heads, device: torch.device) -> tuple[Tensor, ...]:
        """For each target (L, size), on the CPU. Both modules must be on `device`; they keep their mode.

        Raises:
            TrainingError: vectors that are not finite.
        """
        training = encoder.training
        encoder.eval(), heads.eval()
        try:
            vectors = embed_sequences(encoder, self.sequences, self.config, device=device)
        except ModelError:
            raise self._not_finite() from None
        found = tuple(out.cpu() for out in heads(vectors.to(device)))
        encoder.train(training), heads.train(training)
        return found

    def figures(self, outputs: Sequence[Tensor]) -> dict[str, float]:
        """The validation loss, which decides which epoch is best, and the figures of `label_metrics`.

        Raises:
            TrainingError: outputs that are not finite.
        """
        labelled = self.labelled
        if not all(out.isfinite().all() for out in outputs):
            raise self._not_finite()
        loss = label_loss(outputs, labelled.values, labelled.weights, labelled.targets, self.class_weights)
        return {"validation_loss": float(loss)} | label_metrics(outputs, labelled)

    def _not_finite(self) -> TrainingError:
        return TrainingError(
            "The outputs for the clients held out are no longer finite. Lower finetuning.learning_rate"
            f" (it is {self.config.finetuning.learning_rate:g})."
        )


def calibrated(targets: Sequence[Target], outputs: Sequence[Tensor], labelled: Labelled) -> tuple[Target, ...]:
    """The targets with the temperature that gives the labels the lowest log-loss (Guo et al., ICML 2017, arXiv 1706.04599).

    One number a target: probabilities become as sure as they are right, and which class is the likeliest stays. Its
    logarithm has a normal prior, so that a few clients held out, all of them right, do not make it certain.
    """
    from scipy.optimize import minimize_scalar

    found = []
    for column, (target, out) in enumerate(zip(targets, outputs, strict=True)):
        known = labelled.known(column)
        if target.classes and len(known):
            numbers, codes = out[known].double(), labelled.values[known, column].long()
            best = minimize_scalar(
                lambda log, x=numbers, y=codes: (
                    float(F.cross_entropy(x / np.exp(log), y, reduction="sum")) + (log / _SPREAD) ** 2 / 2
                ),
                bounds=(-4 * _SPREAD, 4 * _SPREAD),
                method="bounded",
            )
            target = target.model_copy(update={"temperature": float(np.exp(best.x))})
        found.append(target)
    return tuple(found)
