"""The losses, under the short name that researchers look for: `from seqmel.losses import InfoNCELoss`."""

from seqmel.objectives.losses import *  # noqa: F403
from seqmel.objectives.losses import __all__ as __all__
