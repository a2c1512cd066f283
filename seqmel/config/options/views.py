"""The options of the views: the fields of the classes in `seqmel.data.views`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from seqmel.config.options.base import (
    Options,
    Positive,
    Share,
    all_of,
    also_named,
    is_lenient,
    named_or,
)
from seqmel.config.options.from_source import options_in

__all__ = [
    "DEFAULT_VIEWS",
    "OTHER_VIEW_NAMES",
    "AnyViewsOptions",
    "ViewsBase",
    "ViewsOptions",
]

OTHER_VIEW_NAMES = {"weeks": "calendar_windows"}
"""Other name -> ours."""


CycleName: TypeAlias = Literal["day", "week", "month", "year"]


class ViewsBase(Options):
    """Options of views."""

    if TYPE_CHECKING:
        name: str

    count: Annotated[int, Field(ge=2)] = 5
    """Views per client."""
    min_length: Positive | None = None
    """Minimum number of events per view; null derives it from the data."""
    max_length: Positive | None = None
    """Maximum number of events per view; null derives it from the data."""
    event_dropout: Share = 0.0
    """Probability of dropping each event of a view; one always stays."""
    day_dropout: Share = 0.0
    """Probability of dropping each day of a view; one always stays."""
    shuffle: bool = False
    """Shuffle the events of a view in training, as an ablation; their times stay."""

    shift_clock: tuple[CycleName, ...] | None = None
    """Cycles (day, week, month, year) whose phase is shifted at random in training, separately for
    each view, so that the phase cannot identify a client. null shifts the cycles that locate events
    in time rather than describe behaviour.
    """

    one_per_length: ClassVar[bool] = False
    """Whether a client has only one view of each length, unless a dropout makes them differ."""

    @property
    def watched(self) -> dict[str, Any]:
        """The arguments of `watched_slices`, of settled options."""
        return {
            "min_length": self.min_length,
            "max_length": self.max_length,
            "shifted": self.shift_clock or (),
        }

    def same(self, shortest: int, longest: int | None) -> bool:
        """Whether clients with 2 * `longest` events have only one possible view."""
        dropout = self.event_dropout or self.day_dropout
        return self.one_per_length and shortest == longest and not dropout

    @model_validator(mode="after")
    def _lengths_differ(self, info: ValidationInfo) -> Any:
        if not is_lenient(info) and self.same(self.min_length or 1, self.max_length):
            least = "a smaller min_length" if self.max_length != 1 else "a max_length of 2 or more"
            raise ValueError(
                f"{self.name} of {self.max_length} events and no others is one view of every "
                f"client with twice as many; expected {least}"
            )
        return self

    @model_validator(mode="after")
    def _ordered(self) -> Any:
        if self.shift_clock is not None and len(set(self.shift_clock)) < len(self.shift_clock):
            raise ValueError(f"shift_clock names one cycle twice: {', '.join(self.shift_clock)}")
        if self.min_length and self.max_length and self.min_length > self.max_length:
            raise ValueError(
                f"min_length {self.min_length} is larger than max_length {self.max_length}"
            )
        return self


globals().update(options_in("data/views", ViewsBase))

if TYPE_CHECKING:
    AnyViewsOptions: TypeAlias = ViewsBase
else:
    AnyViewsOptions = all_of(ViewsBase)
DEFAULT_VIEWS: ViewsBase = globals()["RandomSlicesOptions"]()
ViewsOptions: TypeAlias = Annotated[
    Annotated[AnyViewsOptions, Field(discriminator="name")],
    BeforeValidator(named_or(DEFAULT_VIEWS.name)),
    BeforeValidator(also_named(OTHER_VIEW_NAMES)),
]
