"""Options of the objectives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, Field

from seqmel.options.base import Options, Positive, named_or

__all__ = [
    "CoLESOptions",
    "EventPredictionOptions",
    "MaskedEventsOptions",
    "NextEventOptions",
    "ObjectiveOptions",
    "ObjectivesOptions",
]


class _ObjectiveOptions(Options):
    weight: Annotated[float, Field(gt=0)] = 1.0
    """What the loss counts beside those of other parts."""


class CoLESOptions(_ObjectiveOptions):
    """Contrastive learning for event sequences: views of one client together, views of others apart."""

    name: Literal["coles"] = "coles"
    head_size: Positive = 128
    """Width of the projection head, which exists in training only."""


class EventPredictionOptions(_ObjectiveOptions):
    """From the vector of one view, the events of another view of the same client."""

    name: Literal["event_prediction"] = "event_prediction"
    head_size: Positive = 256


class NextEventOptions(_ObjectiveOptions):
    """From the state after each event, the next one; for encoders that look back only."""

    name: Literal["next_event"] = "next_event"
    head_size: Positive = 256
    most_events: Positive = 4096
    """Events of a batch that are foretold at most."""


class MaskedEventsOptions(_ObjectiveOptions):
    """Hidden events, from the rest of their view; for encoders that see more than one event."""

    name: Literal["masked_events"] = "masked_events"
    head_size: Positive = 256
    share: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the events that is hidden."""


def _parts(value: Any) -> Any:
    return [value] if isinstance(value, (str, Mapping, BaseModel)) else value


ObjectiveOptions: TypeAlias = CoLESOptions | EventPredictionOptions | NextEventOptions | MaskedEventsOptions
ObjectivesOptions: TypeAlias = Annotated[
    tuple[Annotated[Annotated[ObjectiveOptions, Field(discriminator="name")], BeforeValidator(named_or("coles"))], ...],
    Field(min_length=1),
    BeforeValidator(_parts),
]
