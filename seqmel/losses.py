"""The losses, under a short name: `from seqmel.losses import InfoNCELoss`."""

from seqmel.objectives.losses import *  # noqa: F403
from seqmel.objectives.losses import __all__ as __all__
