"""The errors a user can cause, for `from seqmel.errors import InputError`."""

from seqmel.core.errors import *  # noqa: F403
from seqmel.core.errors import __all__ as __all__
