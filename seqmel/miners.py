"""The miners, under a short name: `from seqmel.miners import HardNegatives`."""

from seqmel.objectives.miners import *  # noqa: F403
from seqmel.objectives.miners import __all__ as __all__
