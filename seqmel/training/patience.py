"""Early stopping that also holds for a resumed run."""

from __future__ import annotations

import pytorch_lightning as lightning
from pytorch_lightning.callbacks import EarlyStopping

__all__ = ["Patience"]


class Patience(EarlyStopping):
    """Lightning's EarlyStopping, applied on resume.

    Lightning alone would train one more epoch first.
    """

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Check the restored state of the callback before the first epoch."""
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience
