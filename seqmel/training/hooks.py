"""What a user hangs on a training: callbacks and loggers of Lightning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from seqmel.core.errors import ConfigError

__all__ = ["NO_HOOKS", "Hooks"]


@dataclass(frozen=True)
class Hooks:
    """Callbacks and loggers beside those of seqmel.

    Attributes:
        callbacks: `pytorch_lightning.Callback` objects; their `trainer` and `pl_module` are those
            of the training.
        loggers: `pytorch_lightning.loggers.Logger` objects; they get the options,
            and each epoch's losses and validation metrics.
    """

    callbacks: Sequence[Any] = ()
    loggers: Sequence[Any] = ()

    def check(self) -> None:
        """Raise a `ConfigError` for an object of another kind, before any work."""
        if not self.callbacks and not self.loggers:
            return
        from pytorch_lightning import Callback
        from pytorch_lightning.loggers import Logger

        for name, given, kind in (
            ("callbacks", self.callbacks, Callback),
            ("loggers", self.loggers, Logger),
        ):
            for one in given if isinstance(given, (list, tuple)) else [given]:
                if not isinstance(one, kind):
                    raise ConfigError(
                        f"{name} holds {one!r}. Expected a list of pytorch_lightning "
                        f"{kind.__name__} objects."
                    )


NO_HOOKS = Hooks()
"""Nothing beside what seqmel has."""
