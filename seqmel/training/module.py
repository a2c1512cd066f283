"""The LightningModule: which step, which optimiser, what is logged. The method itself is in the objective."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import Tensor

from seqmel.config import Config
from seqmel.nn.encoder import SequenceEncoder
from seqmel.objectives import CoLES, ViewBatch
from seqmel.training.batches import generator
from seqmel.training.validation import embedding_metrics

__all__ = ["MONITOR", "TrainingModule"]

MONITOR = "recall_at_1"
"""The metric that decides which epoch is best, under the name that it is logged by."""


class TrainingModule(lightning.LightningModule):
    """An encoder and an objective, learning together; `on_epoch` is told of each row of the history.

    Attributes:
        history: one row an epoch: its loss, its learning rate, and the validation figures.
    """

    def __init__(
        self,
        encoder: SequenceEncoder,
        objective: CoLES,
        config: Config,
        *,
        on_epoch: Callable[[dict[str, float]], None] = lambda row: None,
    ) -> None:
        super().__init__()
        self.on_epoch = on_epoch
        self.encoder = encoder
        self.objective = objective
        self.config = config
        self.history: list[dict[str, float]] = []
        self._losses: list[Tensor] = []
        self._vectors: list[tuple[Tensor, Tensor]] = []
        self._metrics: dict[str, float] = {}

    def on_train_epoch_start(self) -> None:
        """Dropout draws from torch's own state; after a resume it has to be where it would have been."""
        torch.manual_seed(generator(self.config.seed, 2, self.current_epoch).initial_seed())
        self._losses.clear()

    def training_step(self, batch: ViewBatch, _: int) -> Tensor:
        """The loss of a batch."""
        self.objective.share_done = self.trainer.global_step / max(1, int(self.trainer.estimated_stepping_batches))
        loss = self.objective(self.encoder, batch)
        self._losses.append(loss.detach())
        return loss

    def validation_step(self, batch: ViewBatch, _: int) -> None:
        """Embed two views of each held-out client of the batch."""
        self._vectors.append((self.encoder.embed(batch.sequences).float(), batch.clients))

    def on_validation_epoch_end(self) -> None:
        """Compute and log the figures of the epoch."""
        vectors, clients = (torch.cat(parts) for parts in zip(*self._vectors, strict=True))
        self._vectors.clear()
        self._metrics = embedding_metrics(vectors, clients)
        self.log_dict(self._metrics)

    def on_train_epoch_end(self) -> None:
        """Add the epoch to the history. Lightning validates before this."""
        loss = float(torch.stack(self._losses).mean())
        rate = float(self.trainer.optimizers[0].param_groups[0]["lr"])
        self.log("loss", loss)
        self.history.append({"epoch": self.current_epoch + 1, "loss": loss, "learning_rate": rate} | self._metrics)
        self.on_epoch(self.history[-1])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The history belongs to the state."""
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """And comes back with it."""
        self.history = list(checkpoint["history"])

    def configure_optimizers(self) -> Any:
        """AdamW; a one-cycle schedule by the step, or a constant rate."""
        options = self.config.training
        optimizer = torch.optim.AdamW(self.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
        if options.schedule == "constant":
            return optimizer
        steps = max(2, int(self.trainer.estimated_stepping_batches))
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.learning_rate, total_steps=steps, pct_start=0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}

    def transfer_batch_to_device(self, batch: ViewBatch, device: torch.device, _: int) -> ViewBatch:
        """Batches know how to move themselves."""
        return batch.to(device)
