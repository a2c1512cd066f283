"""Options of the objectives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, Field

from seqmel.config.options.base import Above, Options, Positive, Share, all_of, also_named, named_or

__all__ = [
    "OTHER_OBJECTIVE_NAMES",
    "CPCOptions",
    "ClassificationOptions",
    "CoLESOptions",
    "EventPredictionOptions",
    "LabelledOptions",
    "MaskedEventsOptions",
    "NextEventOptions",
    "NextSequenceOptions",
    "ObjectiveBase",
    "ObjectiveOptions",
    "ObjectivesOptions",
    "ReplacedTokenOptions",
    "SequenceOrderOptions",
    "SupervisedContrastiveOptions",
]

OTHER_OBJECTIVE_NAMES = {
    "meles": "coles",
    "mlm": "masked_events",
    "nsp": "next_sequence",
    "rtd": "replaced_token",
    "sop": "sequence_order",
}
"""Other name -> ours."""


class ObjectiveBase(Options):
    """Options of a part of the objective."""

    if TYPE_CHECKING:
        name: str

    weight: Annotated[float, Field(gt=0)] = 1.0
    """Loss weight of this part of the objective."""


class CoLESOptions(ObjectiveBase):
    """Contrastive learning: pulls views of one client together, pushes views of others apart."""

    name: Literal["coles"] = "coles"
    head_size: Positive | None = 128
    """Width of the projection head, used in training only; null compares the embeddings
    themselves."""


class EventPredictionOptions(ObjectiveBase):
    """Predicts the events of one view from the embedding of another view of the same client."""

    name: Literal["event_prediction"] = "event_prediction"
    head_size: Positive = 256
    """Width of the hidden layer of the decoder."""


class NextEventOptions(ObjectiveBase):
    """Predicts each next event and its time from the state before it; for causal encoders."""

    name: Literal["next_event"] = "next_event"
    head_size: Positive = 256
    """Width of the hidden layer of the decoder."""
    views: Positive | None = None
    """Views per client to learn from; null takes all."""
    max_events: Positive = 4096
    """Maximum number of target events per batch."""


class MaskedEventsOptions(ObjectiveBase):
    """Predicts masked events from the rest of their view; for encoders with context."""

    name: Literal["masked_events"] = "masked_events"
    head_size: Positive = 256
    """Width of the hidden layer of the decoder."""
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Fraction of events that are masked."""


class CPCOptions(ObjectiveBase):
    """Contrastive predictive coding: picks a future event among many; for causal encoders."""

    name: Literal["cpc"] = "cpc"
    head_size: Positive = 128
    """Width in which states and events are compared."""
    steps: Annotated[int, Field(ge=1, le=100)] = 3
    """Number of steps to look ahead."""
    temperature: Above = 0.1
    """Softmax temperature."""
    negatives: Literal["batch", "others"] = "batch"
    """Negatives: all target events of the batch, or only those of other clients."""
    max_events: Annotated[int, Field(ge=2)] = 1024
    """Maximum number of anchor positions per batch and step."""


class ReplacedTokenOptions(ObjectiveBase):
    """Detects events whose features were replaced; for encoders with context."""

    name: Literal["replaced_token"] = "replaced_token"
    head_size: Positive = 256
    """Width of the hidden layer of the classifier."""
    corrupt_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Fraction of events that are corrupted."""
    feature_fraction: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Probability that a feature of such an event is replaced; at least one is."""


class SequenceOrderOptions(ObjectiveBase):
    """Predicts which half of a view came first."""

    name: Literal["sequence_order"] = "sequence_order"
    head_size: Positive = 256
    """Width of the hidden layer of the classifier."""


class NextSequenceOptions(ObjectiveBase):
    """Predicts whether one part of a sequence follows another, or is of another client."""

    name: Literal["next_sequence"] = "next_sequence"
    head_size: Positive = 256
    """Width of the hidden layer of the classifier."""


class LabelledOptions(ObjectiveBase):
    """Options of objectives that learn from labels of some clients."""

    labels: Annotated[str, Field(min_length=1)]
    """Table with one row per client."""
    target: Annotated[str, Field(min_length=1)]
    """Column of the labels with the class."""


class SupervisedContrastiveOptions(LabelledOptions):
    """Pulls views of one class together and pushes other classes apart; labels for some clients."""

    name: Literal["supervised_contrastive"] = "supervised_contrastive"
    head_size: Positive = 128
    """Width of the projection head."""
    temperature: Above = 0.1
    """Softmax temperature."""


class ClassificationOptions(LabelledOptions):
    """Predicts the class of a client from each of its views; labels for some clients."""

    name: Literal["classification"] = "classification"
    head_size: Positive = 128
    """Width of the hidden layer of the classifier."""
    label_smoothing: Share = 0.0
    """Label smoothing."""
    class_weight: Literal["balanced"] | None = None
    """balanced: weight classes by inverse frequency."""


def _parts(value: Any) -> Any:
    return [value] if isinstance(value, (str, Mapping, BaseModel)) else value


if TYPE_CHECKING:
    ObjectiveOptions: TypeAlias = ObjectiveBase
else:
    ObjectiveOptions = all_of(ObjectiveBase)
ObjectivesOptions: TypeAlias = Annotated[
    tuple[
        Annotated[
            Annotated[ObjectiveOptions, Field(discriminator="name")],
            BeforeValidator(named_or("coles")),
            BeforeValidator(also_named(OTHER_OBJECTIVE_NAMES)),
        ],
        ...,
    ],
    Field(min_length=1),
    BeforeValidator(_parts),
]
