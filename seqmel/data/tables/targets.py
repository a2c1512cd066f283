"""Targets of fine-tuned models, and the encoding of labels for training."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import (
    BaseModel,
    ConfigDict,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    field_validator,
    model_serializer,
)

from seqmel.core.errors import InputError, SchemaError, shown
from seqmel.core.linear_models import softmax
from seqmel.data.schema import dump_without
from seqmel.data.tables.labels import Task, check_classes, recognise_task, to_quantities
from seqmel.data.tables.survival import time_edges

__all__ = ["LARGEST_LINK", "QuantityLoss", "Target", "TargetTask", "Targets", "check_names"]

TargetTask: TypeAlias = Task | Literal["survival"]
"""The task of a target, see `Target.of`."""

QuantityLoss: TypeAlias = Literal["auto", "squared", "log", "poisson", "tweedie", "quantile"]

Classes = (
    tuple[StrictBool, ...] | tuple[StrictInt, ...] | tuple[StrictFloat, ...] | tuple[StrictStr, ...]
)
_MOST_CLASSES = 1_000


_HEAVY_TAIL = 5.0  # Distance of the 99th percentile from the median, in interquartile ranges.
_LARGEST_LOG = 700.0  # Above this, exp overflows.
LARGEST_LINK = 20.0
"""Predictions with a log link are at most exp(20) times the mean of the labels."""


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Target(_Data):
    """A column to predict: a class, a quantity or the time to an event.

    Attributes:
        name: the column of the labels.
        classes: the sorted class values; empty for a quantity.
        center, scale: mean and standard deviation of a quantity, for standardising.
        log: whether a quantity is trained as log(1 + y). It is if it is never negative and has a
            heavy tail, such as money.
        factor: correction of a quantity that is trained as a logarithm, so that predictions have
            the mean of the labels.
        loss: the loss of a quantity. With "poisson" and "tweedie" the labels are divided by their
            mean, and the head gives the logarithm of the prediction.
        quantile: what a quantity with the loss "quantile" is predicted by.
        temperature: divisor of the class logits before the softmax; 1 if not calibrated.
        edges: upper bounds of the bins of the time to an event; empty for other targets.
    """

    name: str
    classes: Classes = ()
    center: float = 0.0
    scale: float = 1.0
    log: bool = False
    factor: float = 1.0
    loss: Literal["squared", "poisson", "tweedie", "quantile"] = "squared"
    quantile: float = 0.5
    temperature: float = 1.0
    edges: tuple[float, ...] = ()

    @model_serializer(mode="wrap")
    def _dump(self, dump: Any) -> dict[str, Any]:
        return dump_without(dump, self, "edges")

    @field_validator("edges")
    @classmethod
    def _increase(cls, edges: tuple[float, ...]) -> tuple[float, ...]:
        if not (np.isfinite(edges).all() and (np.diff((0.0, *edges)) > 0).all()):
            raise ValueError("edges are not increasing numbers above 0")
        return edges

    @classmethod
    def of(
        cls,
        y: pd.Series[Any],
        task: TargetTask = "auto",
        *,
        loss: QuantityLoss = "auto",
        quantile: float | None = None,
        edges: tuple[float, ...] | None = None,
    ) -> Target:
        """Create the target for these labels.

        Args:
            y: the labels of the training clients, named as their column. Times to an event are
                signed, see `signed_times`.
            task: "classification", "regression", "survival" for times to an event, or "auto", which
                infers classes and quantities.
            loss: the loss if it is a quantity; "auto" takes "log" for a heavy tail, else "squared".
            quantile: the quantile of the loss "quantile"; None is the median.
            edges: upper bounds of the bins of the time to an event; None chooses them.

        Returns:
            The target, fitted on the labels.

        Raises:
            InputError: there is one class only, too many classes, a constant, or text where a
                quantity was requested, or a negative quantity does not fit the loss.
        """
        if task == "survival":
            found = time_edges(y.to_numpy(np.float64)) if edges is None else edges
            return cls(name=str(y.name), edges=found)
        if (recognise_task(y) if task == "auto" else task) == "regression":
            return cls._quantity(str(y.name), to_quantities(y), loss, quantile)
        check_classes(y)
        values = np.unique(y.to_numpy()).tolist()
        if len(values) > _MOST_CLASSES:
            raise InputError(
                f"The target {y.name!r} has {len(values):,} different values, such as "
                f"{shown(map(repr, values), 3)}. Expected at most {_MOST_CLASSES:,} classes. Join "
                "some, or name another target."
            )
        return cls(name=str(y.name), classes=tuple(values))

    @classmethod
    def _quantity(
        cls,
        name: str,
        numbers: npt.NDArray[np.float64],
        loss: QuantityLoss,
        quantile: float | None,
    ) -> Target:
        if loss in ("log", "poisson", "tweedie") and numbers.min() < 0:
            raise InputError(
                f"The target {name!r} has negative values, such as {numbers.min():g}; the loss "
                f"{loss} is for quantities from 0 on. Take squared or quantile."
            )
        if loss == "poisson" or loss == "tweedie":
            return cls(name=name, scale=float(numbers.mean()), loss=loss)
        log = loss == "log" or (loss == "auto" and _has_heavy_tail(numbers))
        numbers = np.log1p(numbers) if log else numbers
        scaling = {"center": float(numbers.mean()), "scale": float(numbers.std())}
        if loss == "quantile":
            return cls(name=name, loss=loss, quantile=quantile or 0.5, **scaling)
        return cls(name=name, log=log, **scaling)

    @property
    def has_log_link(self) -> bool:
        """Whether the head gives the logarithm of the prediction."""
        return self.loss in ("poisson", "tweedie")

    @property
    def task(self) -> TargetTask:
        """The task: "classification", "regression" or "survival"."""
        if self.edges:
            return "survival"
        return "classification" if self.classes else "regression"

    @property
    def size(self) -> int:
        """Number of outputs of the head: one per class or bin of time, or one for a quantity."""
        return len(self.classes) or len(self.edges) or 1

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the prediction columns.

        `gender=F`, `gender=M` and `gender`, only `age`, or `churn>30`, `churn>60` and `churn`.
        """
        chances = (f"{self.name}={value}" for value in self.classes)
        later = (f"{self.name}>{edge:g}" for edge in self.edges)
        return (*chances, *later, self.name)

    def encode(self, y: pd.Series[Any]) -> npt.NDArray[np.float32]:
        """Return (clients,) class codes, standardised quantities or signed times."""
        if self.edges:
            return y.to_numpy(np.float32)
        if not self.classes:
            numbers = y.to_numpy(np.float64)
            numbers = np.log1p(numbers.clip(min=0)) if self.log else numbers
            return ((numbers - self.center) / self.scale).astype(np.float32)
        return np.asarray(pd.Index(self.classes).get_indexer(pd.Index(y)), np.float32)

    def probabilities(self, outputs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return (clients, classes) probabilities from (clients, size) outputs of the head."""
        return softmax(outputs / self.temperature)

    def survival(self, outputs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return (clients, bins) probabilities that the event comes after each bound."""
        return np.asarray(np.exp(-np.logaddexp(0, outputs).cumsum(axis=1)))

    def chances(self, outputs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return (clients, K) what the first K of `columns` hold; a quantity has none."""
        if self.edges:
            return self.survival(outputs)
        return self.probabilities(outputs) if self.classes else outputs[:, :0]

    def quantities(self, standardised: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """Return (clients,) quantities in their original unit: the inverse of `encode`."""
        numbers = standardised.astype(np.float64) * self.scale + self.center
        return np.expm1(numbers.clip(0, _LARGEST_LOG)) if self.log else np.asarray(numbers)

    def predicted(self, outputs: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
        """Return (clients,) predictions from (clients, size) outputs of the head.

        They are the most likely class, the quantity in its original unit, or the median time to the
        event, which is NaN where it is beyond the last bin.
        """
        if self.edges:
            return _medians(self.survival(outputs), np.array((0.0, *self.edges)))
        if self.has_log_link:
            return np.asarray(np.exp(outputs[:, 0].clip(max=LARGEST_LINK)) * self.scale)
        if not self.classes:
            return np.asarray(self.quantities(outputs[:, 0]) * self.factor)
        return np.asarray(np.asarray(self.classes)[outputs.argmax(axis=1)])


def _medians(
    survival: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return (clients,) median times. The hazard is constant within a bin.

    Args:
        survival: (clients, bins) probabilities of surviving each bin.
        edges: (bins + 1,) bounds of the bins.
    """
    log = np.log(np.maximum(np.column_stack([np.ones(len(survival)), survival]), 1e-300))
    place = (survival > 0.5).sum(axis=1)
    inside = place.clip(max=survival.shape[1] - 1)
    rows = np.arange(len(survival))
    above, below = log[rows, inside], log[rows, inside + 1]
    part = (above - np.log(0.5)) / np.maximum(above - below, 1e-300)
    found = edges[inside] + part.clip(0, 1) * (edges[inside + 1] - edges[inside])
    return np.where(place == survival.shape[1], np.nan, found)


def _has_heavy_tail(numbers: npt.NDArray[np.float64]) -> bool:
    """Return whether numbers are non-negative with a heavy tail.

    The ratio is about 2 for a normal, 3.5 for an exponential and 6 for a log-normal distribution.
    """
    if numbers.min() < 0:
        return False
    low, middle, high, last = np.quantile(numbers, [0.25, 0.5, 0.75, 0.99])
    return bool(last - middle > _HEAVY_TAIL * (high - low))


class Targets(_Data):
    """All targets of a model, in the order of its outputs, as stored in `targets.json`."""

    targets: tuple[Target, ...]


def check_names(targets: tuple[Target, ...], *keys: str) -> None:
    """Check that the names of the prediction columns are unique, apart from the key columns.

    Args:
        targets: all targets of a model.
        *keys: names of the key columns of predictions.

    Raises:
        SchemaError: two prediction columns would have the same name.
    """
    names = [*keys, *(name for target in targets for name in target.columns)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SchemaError(
            f"Predictions would have two columns named {shown(map(repr, twice))}. Name each target "
            "once, and rename what clashes with another column."
        )
