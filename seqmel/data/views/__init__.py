"""Views of clients: the parts of their sequences that the training objective compares.

See `seqmel.data.views.base`. A view is one file here, with the name of the view, and its options in
`seqmel.config.options.views`.
"""

import importlib
import pkgutil
from collections.abc import Callable
from typing import TYPE_CHECKING

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

VIEWS: dict[str, Callable[..., ViewSampler]] = {
    module.name: kind
    for module in pkgutil.iter_modules(__path__)
    for kind in vars(importlib.import_module(f"{__name__}.{module.name}")).values()
    if isinstance(kind, type)
    and issubclass(kind, ViewSampler)
    and kind.__name__.lower() == module.name.replace("_", "")
}
"""Name in the config -> view sampler. The options of the config are its arguments."""

_classes = {kind.__name__: kind for kind in VIEWS.values()}
globals().update(_classes)
__all__ = ["VIEWS", "ViewSampler", "Views", *sorted(_classes)]
