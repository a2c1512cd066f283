"""How an encoder is trained, and how labels are learnt on top of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, model_validator

from seqmel.config.options.base import Above, NotNegative, Options, Positive, Share, is_lenient

__all__ = ["FinetuningOptions", "TrainingOptions"]


class TrainingOptions(Options):
    """How long and how fast to learn, and on what."""

    epochs: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    """How often to go through all clients; null makes about 1,000 steps of it, from 3 to 30 epochs; 0 trains nothing."""
    batch_size: Annotated[int, Field(ge=2, lt=2**31)] = 64
    """Clients a batch."""
    learning_rate: Above = 1e-3
    weight_decay: NotNegative = 1e-4
    schedule: Literal["one_cycle", "constant", "step"] = "one_cycle"
    """One cycle: up over the first tenth of the steps, then down along a cosine. step: times step_factor after every
    step_epochs epochs."""
    step_epochs: Positive | None = None
    step_factor: Annotated[float, Field(gt=0, le=1)] | None = None
    """Of the schedule step, which needs both; the published presets have 0.9025 every 30 or 10 epochs."""
    gradient_clip: Above | None = 1.0
    """Longest that a step's gradient may be; null leaves it as it is."""
    min_events: Annotated[int, Field(ge=2)] = 2
    """Clients with fewer events are not trained on; they are embedded like all others."""
    validation_fraction: Annotated[float, Field(ge=0, lt=0.9)] = 0.05
    """Share of the clients held out to watch the training."""
    patience: Positive | None = None
    """Stop after so many epochs without a better validation recall; null never stops early."""
    storage: Literal["memory", "memory_map", "device"] = "memory_map"
    """Where the sequences lie: read into memory, mapped from disk, or on the device that trains."""

    @model_validator(mode="after")
    def _steps_are_given_for_their_schedule(self) -> TrainingOptions:
        given = (self.step_epochs is not None) + (self.step_factor is not None)
        if self.schedule == "step" and given < 2:
            raise ValueError("schedule step needs step_epochs and step_factor, such as 30 and 0.9025")
        if self.schedule != "step" and given:
            raise ValueError(f"step_epochs and step_factor are for schedule step, found {self.schedule}")
        return self

    @model_validator(mode="after")
    def _patience_has_clients(self, info: ValidationInfo) -> TrainingOptions:
        if self.patience is not None and not self.validation_fraction and not is_lenient(info):
            raise ValueError(f"patience {self.patience} watches clients held out; validation_fraction is 0")
        return self


class FinetuningOptions(Options):
    """How labels are learnt on top of an encoder, be it trained without labels or new."""

    unfreeze: Literal["auto", "head", "gradual", "discriminative", "all"] = "auto"
    """What learns. auto: head where a trained encoder has fewer than 1,000 labelled clients, unless epochs or encoder_lr_scale are
    given; else all. head: the heads alone, solved exactly. all: the encoder too. discriminative: the encoder too, each part
    nearer to the events 2.6 times slower. gradual: the parts of the encoder one more an epoch, from the vector down."""
    epochs: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    """How often to go through all labelled clients; null makes about 600 steps of it, from 3 to 10 epochs."""
    batch_size: Annotated[int, Field(ge=2, lt=2**31)] = 64
    learning_rate: Above = 1e-3
    """Of the heads, at the top of one cycle."""
    encoder_lr_scale: Annotated[float, Field(gt=0, le=10)] | None = None
    """The encoder's rate as a share of that; null takes 0.1 for a trained encoder with fewer than 2,500 labelled clients, else 1."""
    weight_decay: NotNegative = 1e-4
    gradient_clip: Above = 1.0
    dropout: Share = 0.1
    """Share of the vector's numbers that training hides from the heads."""
    label_smoothing: Share = 0.0
    class_weight: Literal["balanced"] | None = None
    """balanced: a class counts as much as another, however rare it is."""
    max_events: Positive = 512
    """Of longer sequences training sees a random contiguous part of so many events, drawn afresh each epoch."""
    validation_fraction: Annotated[float, Field(ge=0, lt=0.9)] = 0.1
    """Share of the labelled clients held out, with all classes in their proportions, to find the best epoch."""
    patience: Positive | None = 3
    """Stop after so many epochs without a lower validation loss; null never stops early."""
    calibrate: bool = False
    """Scale the outputs of classes by one temperature for each target, fitted on the clients held out."""

    @model_validator(mode="after")
    def _calibration_has_clients(self) -> FinetuningOptions:
        if self.calibrate and not self.validation_fraction:
            raise ValueError("calibrate needs clients held out; validation_fraction is 0")
        return self
