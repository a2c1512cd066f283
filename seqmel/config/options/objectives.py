"""Options of the objectives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, Field

from seqmel.config.options.base import Above, Options, Positive, Share, also_named, named_or

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


class _ObjectiveOptions(Options):
    weight: Annotated[float, Field(gt=0)] = 1.0
    """What the loss counts beside those of other parts."""


class CoLESOptions(_ObjectiveOptions):
    """Contrastive learning for event sequences: views of one client together, views of others apart."""

    name: Literal["coles"] = "coles"
    head_size: Positive | None = 128
    """Width of the projection head, which exists in training only; null has none: the loss compares the vectors themselves."""


class EventPredictionOptions(_ObjectiveOptions):
    """From the vector of one view, the events of another view of the same client."""

    name: Literal["event_prediction"] = "event_prediction"
    head_size: Positive = 256


class NextEventOptions(_ObjectiveOptions):
    """From the state after each event, the next one and how soon it comes; for encoders that look back only."""

    name: Literal["next_event"] = "next_event"
    head_size: Positive = 256
    views: Positive | None = None
    """Views of each client that are learnt from; null takes all."""
    max_events: Positive = 4096
    """Events of a batch that are predicted at most."""


class MaskedEventsOptions(_ObjectiveOptions):
    """Hidden events, from the rest of their view; for encoders that see more than one event."""

    name: Literal["masked_events"] = "masked_events"
    head_size: Positive = 256
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the events that is hidden."""


class CPCOptions(_ObjectiveOptions):
    """From the state after an event, which of many events comes some steps later; for encoders that look back only."""

    name: Literal["cpc"] = "cpc"
    head_size: Positive = 128
    steps: Annotated[int, Field(ge=1, le=100)] = 3
    """How many events ahead is looked."""
    temperature: Above = 0.1
    negatives: Literal["batch", "others"] = "batch"
    """What the right event is told from: all events that are looked for in the batch, or those of other clients alone."""
    max_events: Annotated[int, Field(ge=2)] = 1024
    """Places of a batch that are looked ahead from at most, for each step."""


class ReplacedTokenOptions(_ObjectiveOptions):
    """Which events had features swapped for those of others; for encoders that see more than one event."""

    name: Literal["replaced_token"] = "replaced_token"
    head_size: Positive = 256
    corrupt_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the events that are given features of others."""
    feature_fraction: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Chance of each feature of such an event to be swapped; one always is."""


class SequenceOrderOptions(_ObjectiveOptions):
    """Of the two halves of a view, which came first."""

    name: Literal["sequence_order"] = "sequence_order"
    head_size: Positive = 256


class NextSequenceOptions(_ObjectiveOptions):
    """Whether a part of a sequence follows on another one, or is of another client."""

    name: Literal["next_sequence"] = "next_sequence"
    head_size: Positive = 256


class LabelledOptions(_ObjectiveOptions):
    """What a part has that learns from labels for some of the clients."""

    labels: Annotated[str, Field(min_length=1)]
    """A table with one row a client."""
    target: Annotated[str, Field(min_length=1)]
    """Its column with the classes."""


class SupervisedContrastiveOptions(LabelledOptions):
    """Views of clients of one class together, of others apart, with labels for some of the clients."""

    name: Literal["supervised_contrastive"] = "supervised_contrastive"
    head_size: Positive = 128
    temperature: Above = 0.1


class ClassificationOptions(LabelledOptions):
    """The class of a client from the vector of each of its views, with labels for some of the clients."""

    name: Literal["classification"] = "classification"
    head_size: Positive = 128
    label_smoothing: Share = 0.0
    class_weight: Literal["balanced"] | None = None
    """balanced: a class counts as much as another, however rare it is."""


def _parts(value: Any) -> Any:
    return [value] if isinstance(value, (str, Mapping, BaseModel)) else value


ObjectiveOptions: TypeAlias = (
    CoLESOptions
    | EventPredictionOptions
    | NextEventOptions
    | MaskedEventsOptions
    | CPCOptions
    | ReplacedTokenOptions
    | SequenceOrderOptions
    | NextSequenceOptions
    | SupervisedContrastiveOptions
    | ClassificationOptions
)
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
