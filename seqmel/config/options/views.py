"""The options of the views; see `seqmel.data.views` for the methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from seqmel.config.options.base import (
    Above,
    Options,
    Positive,
    Share,
    all_of,
    also_named,
    is_lenient,
    named_or,
)

__all__ = [
    "OTHER_VIEW_NAMES",
    "AnyViewsOptions",
    "LastKOptions",
    "RandomSlicesOptions",
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

    @property
    def watched(self) -> dict[str, Any]:
        """The arguments of `watched_slices`, of settled options."""
        return {
            "min_length": self.min_length,
            "max_length": self.max_length,
            "shifted": self.shift_clock or (),
        }

    @model_validator(mode="after")
    def _ordered(self) -> Any:
        if self.shift_clock is not None and len(set(self.shift_clock)) < len(self.shift_clock):
            raise ValueError(f"shift_clock names one cycle twice: {', '.join(self.shift_clock)}")
        if self.min_length and self.max_length and self.min_length > self.max_length:
            raise ValueError(
                f"min_length {self.min_length} is larger than max_length {self.max_length}"
            )
        return self


class RandomSlicesOptions(ViewsBase):
    """Random contiguous slices of a client's sequence."""

    when: ClassVar[str] = (
        "the default: order and gaps within a view are true ones. For sequences of tens to "
        "thousands of events"
    )
    how: ClassVar[str] = "contiguous runs, possibly overlapping"
    source: ClassVar[str] = "Babaev et al., 2002.08232"
    name: Literal["random_slices"] = "random_slices"


class RandomSamplesOptions(ViewsBase):
    """Random subsets of a client's events, in time order."""

    when: ClassVar[str] = (
        "the order of events carries nothing, or a short stretch of time should not be "
        "recognised by its dates"
    )
    how: ClassVar[str] = "random subsets, order kept"
    source: ClassVar[str] = "Babaev et al., 2002.08232"
    name: Literal["random_samples"]


class RandomDisjointSamplesOptions(ViewsBase):
    """A random partition of a client's events into subsets, in time order."""

    when: ClassVar[str] = "as random_samples, where views of one client must not share an event"
    how: ClassVar[str] = (
        "the events dealt into subsets, order kept; a short client is dealt into fewer, but "
        "two at least"
    )
    source: ClassVar[str] = "Babaev et al., 2002.08232"
    name: Literal["random_disjoint_samples"]


class TimeWindowsOptions(ViewsBase):
    """All events within a number of days from a random time on."""

    when: ClassVar[str] = (
        "behaviour changes over months, and activity differs: a view is a stretch of time, "
        "however many events it has"
    )
    how: ClassVar[str] = (
        "all events of `days` days around a random event; half of what a client spans where "
        "that is less"
    )
    name: Literal["time_windows"]
    days: Above = 30.0
    """Length of the window in days."""


class CalendarWindowsOptions(ViewsBase):
    """All events of a random day, week or month."""

    when: ClassVar[str] = "days, weeks or months are the natural unit, as in budgets and shifts"
    how: ClassVar[str] = (
        "all events of a random day, week or month (`unit`) in which the client has some"
    )
    name: Literal["calendar_windows"]
    unit: Literal["day", "week", "month"] = "week"
    """Length of the window."""


class LastKOptions(ViewsBase):
    """The last events, in several lengths."""

    when: ClassVar[str] = (
        "what counts is how a history ends, and models will be used on the most recent events"
    )
    how: ClassVar[str] = (
        "the last events, of several lengths, or of one where a dropout tells the views apart"
    )
    name: Literal["last_k"]

    @model_validator(mode="after")
    def _lengths_differ(self, info: ValidationInfo) -> Any:
        if not is_lenient(info) and self.same(self.min_length or 1, self.max_length):
            least = "a smaller min_length" if self.max_length != 1 else "a max_length of 2 or more"
            raise ValueError(
                f"last_k of {self.max_length} events and no others is one view of every client "
                f"with twice as many; expected {least}"
            )
        return self

    def same(self, shortest: int, longest: int | None) -> bool:
        """Whether clients with 2 * `longest` events have only one possible view."""
        return shortest == longest and not self.event_dropout and not self.day_dropout


class NearestTimeOptions(ViewsBase):
    """The events nearest in time to a random time."""

    when: ClassVar[str] = (
        "bursts of events should not dominate: quiet times are as likely to be seen as busy ones"
    )
    how: ClassVar[str] = (
        "the events nearest to a random moment between the client's first and last event: "
        "busy and quiet times alike"
    )
    name: Literal["nearest_time"]


if TYPE_CHECKING:
    AnyViewsOptions: TypeAlias = ViewsBase
else:
    AnyViewsOptions = all_of(ViewsBase)
ViewsOptions: TypeAlias = Annotated[
    Annotated[AnyViewsOptions, Field(discriminator="name")],
    BeforeValidator(named_or("random_slices")),
    BeforeValidator(also_named(OTHER_VIEW_NAMES)),
]
