"""The end of a training that gets no better; it is also the end where the run is resumed afterwards."""

from __future__ import annotations

import pytorch_lightning as lightning
from pytorch_lightning.callbacks import EarlyStopping

__all__ = ["Patience"]


class Patience(EarlyStopping):
    """Lightning's stopping, which a resumed run keeps to: of itself Lightning asks again only after one epoch more."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """After the state of the callbacks was read, and before the first epoch."""
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience
