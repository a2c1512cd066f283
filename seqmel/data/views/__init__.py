"""Views of clients: the parts of their sequences that the training objective compares.

See `seqmel.data.views.base`.
"""

from collections.abc import Callable

from seqmel.data.views.base import ViewSampler
from seqmel.data.views.calendar_windows import CalendarWindows
from seqmel.data.views.drawn_views import Views
from seqmel.data.views.last_k import LastK
from seqmel.data.views.nearest_time import NearestTime
from seqmel.data.views.random_disjoint_samples import RandomDisjointSamples
from seqmel.data.views.random_samples import RandomSamples
from seqmel.data.views.random_slices import RandomSlices
from seqmel.data.views.time_windows import TimeWindows

__all__ = [
    "VIEWS",
    "CalendarWindows",
    "LastK",
    "NearestTime",
    "RandomDisjointSamples",
    "RandomSamples",
    "RandomSlices",
    "TimeWindows",
    "ViewSampler",
    "Views",
]

VIEWS: dict[str, Callable[..., ViewSampler]] = {
    "calendar_windows": CalendarWindows,
    "last_k": LastK,
    "nearest_time": NearestTime,
    "random_disjoint_samples": RandomDisjointSamples,
    "random_samples": RandomSamples,
    "random_slices": RandomSlices,
    "time_windows": TimeWindows,
}
"""Name in the config -> view sampler. The options of the config are its arguments."""
