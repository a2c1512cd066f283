"""The miners, under the short name that researchers look for: `from seqmel.miners import HardNegatives`."""

from seqmel.objectives.miners import *  # noqa: F403
from seqmel.objectives.miners import __all__ as __all__
