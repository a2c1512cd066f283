"""Early stopping that also holds for a resumed run."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as lightning
from pytorch_lightning.callbacks import EarlyStopping

__all__ = ["Patience"]


class Patience(EarlyStopping):
    """Lightning's EarlyStopping, applied on resume.

    Lightning alone would train one more epoch first.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the count. The patience is that of now: a run may be resumed with another."""
        super().load_state_dict(state_dict | {"patience": self.patience})

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Check the restored state of the callback before the first epoch."""
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience
