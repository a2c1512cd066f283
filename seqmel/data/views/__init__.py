"""Views of clients: the parts of their sequences that the training objective compares.

See `seqmel.data.views.base`. A view is one file here, with the name of the view. Its options in a
config are its fields.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from seqmel.core.modules import classes_by_file
from seqmel.data.views.base import ViewSampler
from seqmel.data.views.drawn_views import Views

if TYPE_CHECKING:  # for type checkers and editors; all classes are found below
    from seqmel.data.views.calendar_windows import CalendarWindows as CalendarWindows
    from seqmel.data.views.last_k import LastK as LastK
    from seqmel.data.views.nearest_time import NearestTime as NearestTime
    from seqmel.data.views.random_disjoint_samples import (
        RandomDisjointSamples as RandomDisjointSamples,
    )
    from seqmel.data.views.random_samples import RandomSamples as RandomSamples
    from seqmel.data.views.random_slices import RandomSlices as RandomSlices
    from seqmel.data.views.time_windows import TimeWindows as TimeWindows

_by_file = classes_by_file(__name__, ViewSampler)
VIEWS: dict[str, Callable[..., ViewSampler]] = dict(_by_file)
"""Name in the config -> view sampler. The options of the config are its arguments."""

_classes = {kind.__name__: kind for kind in _by_file.values()}
globals().update(_classes)
__all__ = ["VIEWS", "ViewSampler", "Views", *sorted(_classes)]
