"""The options of pre-training and fine-tuning."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from seqmel.config.options.base import (
    Above,
    NotNegative,
    Options,
    Patience,
    Positive,
    Share,
    is_lenient,
)

__all__ = ["FinetuningOptions", "TrainingOptions"]


class TrainingOptions(Options):
    """Pre-training."""

    epochs: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    """Passes over the clients; null chooses 3 to 15 epochs, about 500 steps (3 to 30 and 1,000
    with a sequence encoder); 0 trains nothing."""
    epoch_clients: Annotated[int, Field(ge=2, lt=2**31)] | None = None
    """Clients per epoch, drawn at random; null takes all, or 100,000 of more if epochs is null
    too."""
    batch_size: Annotated[int, Field(ge=2, lt=2**31)] = 64
    """Clients per batch."""
    events_at_a_time: Positive | None = None
    """Encode a batch in parts of so many events, each again for its gradients: memory hardly grows
    with batch_size; a step takes up to a third longer. null encodes it as a whole."""
    learning_rate: Above = 1e-3
    """Peak learning rate of AdamW."""
    weight_decay: NotNegative = 1e-4
    """Weight decay."""
    schedule: Literal["one_cycle", "constant", "step"] = "one_cycle"
    """one_cycle: warm-up over the first tenth of the steps, then cosine decay. step: multiply
    by step_factor every step_epochs epochs."""
    step_epochs: Positive | None = None
    """Epochs per step of the schedule step."""
    step_factor: Annotated[float, Field(gt=0, le=1)] | None = None
    """Factor per step of the schedule step; the published presets use 0.9025 every 30 or 10
    epochs."""
    gradient_clip: Above | None = 1.0
    """Maximum norm of the gradient; null does not clip."""
    min_events: Annotated[int, Field(ge=2)] = 2
    """Clients with fewer events are left out of training; they are embedded like all others."""
    validation_fraction: Annotated[float, Field(ge=0, lt=0.9)] = 0.05
    """Fraction of clients in the validation split."""
    patience: Patience = None
    """Early stopping: epochs without a better validation recall; 0 or null never stops early.
    With or without it, the best epoch is kept."""
    init_from: str | None = None
    """Warm start: a model folder to take over columns, values and layers from that the new model
    has too. All else begins anew."""
    storage: Literal["memory", "memory_map", "device"] = "memory_map"
    """Where sequences are kept in training: in memory, memory-mapped from disk, or on the
    device."""

    @field_validator("init_from", mode="before")
    @classmethod
    def _path_of(cls, value: Any) -> Any:
        """Take the folder of a path or of a saved model."""
        return os.fspath(value) if isinstance(value, os.PathLike) else value

    @model_validator(mode="after")
    def _steps_are_given_for_their_schedule(self) -> TrainingOptions:
        given = (self.step_epochs is not None) + (self.step_factor is not None)
        if self.schedule == "step" and given < 2:
            raise ValueError(
                "schedule step needs step_epochs and step_factor, such as 30 and 0.9025"
            )
        if self.schedule != "step" and given:
            raise ValueError(
                f"step_epochs and step_factor are for schedule step, found {self.schedule}"
            )
        return self

    @model_validator(mode="after")
    def _patience_has_clients(self, info: ValidationInfo) -> TrainingOptions:
        if self.patience is not None and not self.validation_fraction and not is_lenient(info):
            raise ValueError(
                f"patience {self.patience} needs a validation split; validation_fraction is 0"
            )
        return self


class FinetuningOptions(Options):
    """Fine-tuning on labels, of a pretrained or a new encoder."""

    unfreeze: Literal["auto", "head", "gradual", "discriminative", "all"] = "auto"
    """What is trained. auto: head below 1,000 labelled clients unless epochs or
    encoder_lr_scale is set, else all. head: only the heads, solved exactly. all: the
    encoder too. discriminative: all, each encoder part closer to the input at a 2.6 times
    lower rate. gradual: one more encoder part per epoch, from the output down."""
    epochs: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    """Passes over the labelled clients; null chooses 3 to 10 epochs, about 600 steps."""
    batch_size: Annotated[int, Field(ge=2, lt=2**31)] = 64
    """Clients per batch."""
    learning_rate: Above = 1e-3
    """Peak learning rate of the heads."""
    encoder_lr_scale: Annotated[float, Field(gt=0, le=10)] | None = None
    """Learning rate of the encoder relative to the heads; null takes 0.1 for a pretrained
    encoder with fewer than 2,500 labelled clients, else 1."""
    weight_decay: NotNegative = 1e-4
    """Weight decay."""
    gradient_clip: Above = 1.0
    """Maximum norm of the gradient."""
    dropout: Share = 0.1
    """Dropout on the embedding in training."""
    label_smoothing: Share = 0.0
    """Label smoothing."""
    class_weight: Literal["balanced"] | None = None
    """balanced: weight classes by inverse frequency."""
    quantity_loss: Literal["auto", "squared", "log", "poisson", "tweedie", "quantile"] = "auto"
    """Loss of quantities. squared: their mean. log: squared error of log(1 + y). poisson, tweedie
    (power 1.5): deviance of counts, or of amounts that are often zero, with a log link. quantile:
    a quantile in place of the mean. auto: log for a heavy tail without negative values, else
    squared."""
    quantile: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The quantile of quantity_loss quantile, such as 0.9; null is the median."""
    time_edges: Annotated[tuple[Above, ...], Field(min_length=1)] | None = None
    """Task survival: upper bounds of the bins of time, such as [30, 60, 90], in the unit of the
    labels. null: up to ten, at quantiles of the observed times."""
    max_events: Positive = 512
    """In training, longer sequences are cut to a random slice of this length, a new one each
    epoch."""
    validation_fraction: Annotated[float, Field(ge=0, lt=0.9)] = 0.1
    """Fraction of labelled clients in the validation split, stratified by class."""
    patience: Patience = 3
    """Early stopping: epochs without a lower validation loss; 0 or null never stops early."""
    calibrate: bool = False
    """Fit a temperature per classification target on the validation split."""

    @model_validator(mode="after")
    def _calibration_has_clients(self) -> FinetuningOptions:
        if self.calibrate and not self.validation_fraction:
            raise ValueError("calibrate needs a validation split; validation_fraction is 0")
        return self

    @model_validator(mode="after")
    def _time_edges_increase(self) -> FinetuningOptions:
        edges = self.time_edges or ()
        if list(edges) != sorted(set(edges)):
            raise ValueError(f"time_edges is {list(edges)}; expected increasing numbers")
        return self

    @model_validator(mode="after")
    def _quantile_is_for_its_loss(self) -> FinetuningOptions:
        if self.quantile is not None and self.quantity_loss != "quantile":
            raise ValueError(
                f"quantile {self.quantile} is for quantity_loss quantile, found "
                f"{self.quantity_loss}"
            )
        return self
