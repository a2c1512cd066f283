"""The LightningModule: steps, optimiser and logging. The method itself is in the objective."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import Tensor

from seqmel.config import Config
from seqmel.core.distributed import current_rank
from seqmel.core.embedding_metrics import embedding_metrics
from seqmel.core.errors import TrainingError
from seqmel.core.random_streams import Stream, generator
from seqmel.nn.encoder import SequenceEncoder
from seqmel.objectives import Encoded, Objective, ViewBatch

__all__ = ["MONITOR", "RunningMeans", "TrainingModule", "one_cycle"]

MONITOR = "recall_at_1"
"""The name of the metric that decides which epoch is best."""


def one_cycle(optimizer: torch.optim.Optimizer, steps: int) -> dict[str, Any]:
    """Warm up each group's learning rate over a tenth of the steps, then anneal it along a cosine.

    The warm-up is at least one and a half steps long. torch divides by zero if it ends with the
    first step.
    """
    steps = max(2, steps)
    rates = [group["lr"] for group in optimizer.param_groups]
    rise = max(0.1, 1.5 / steps)
    cycle = _OneCycle(optimizer, rates, total_steps=steps, pct_start=rise)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


class _OneCycle(torch.optim.lr_scheduler.OneCycleLR):
    """A cycle that goes on from a checkpoint with its own length, not that of the checkpoint."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the step. A run may be resumed with more or fewer epochs."""
        length = {name: self.__dict__[name] for name in ("total_steps", "_schedule_phases")}
        super().load_state_dict(state_dict | length)


class RunningMeans:
    """Running means of scalars, updated in place.

    A list with one scalar tensor per step would fragment memory on the CPU: each tensor would lie
    in the middle of memory that the previous step freed, large blocks would no longer fit there,
    and the process would grow by megabytes per step.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Start again."""
        self._count = 0
        self._means: dict[str, Tensor] = {}

    def add(self, numbers: dict[str, Tensor]) -> None:
        """Add scalars by name. The names are the same each time. Never waits for a device."""
        self._count += 1
        for name, number in numbers.items():
            if self._count == 1:
                self._means[name] = torch.zeros_like(number, dtype=torch.float32)
            self._means[name].add_((number - self._means[name]) / self._count)

    def values(self) -> dict[str, float]:
        """Return the means."""
        return {name: float(mean) for name, mean in self._means.items()}


class TrainingModule(lightning.LightningModule):
    """Trains an encoder and an objective. `on_epoch` is called with each row of the history.

    Attributes:
        history: One row per epoch: steps so far, loss, learning rate, and validation metrics.
    """

    def __init__(
        self,
        encoder: SequenceEncoder,
        objective: Objective,
        config: Config,
        *,
        on_epoch: Callable[[dict[str, float]], None] = lambda _: None,
    ) -> None:
        super().__init__()
        self.on_epoch = on_epoch
        self.encoder = encoder
        self.objective = objective
        self.config = config
        self.history: list[dict[str, float]] = []
        self.losses = RunningMeans()
        self._rate = 0.0
        self._vectors: list[tuple[Tensor, Tensor]] = []
        self._metrics: dict[str, float] = {}

    def on_train_epoch_start(self) -> None:
        """Re-seed every epoch, so that a resumed run is identical to an uninterrupted one.

        Each rank has its own dropout, and all ranks mine the same batch identically.
        """
        rank = current_rank()
        own = () if rank.first else (rank.index,)
        torch.manual_seed(
            generator(self.config.seed, Stream.DROPOUT, self.current_epoch, *own).initial_seed()
        )
        self.objective.seed(
            generator(self.config.seed, Stream.MINER, self.current_epoch).initial_seed(),
            self.device,
        )
        self.losses.clear()

    def training_step(self, batch: ViewBatch, _: int) -> Tensor:
        """Return the loss of a batch."""
        self.objective.progress = self.trainer.global_step / max(
            1, int(self.trainer.estimated_stepping_batches)
        )
        # Read here, because the scheduler steps before the epoch ends.
        self._rate = float(self.trainer.optimizers[0].param_groups[0]["lr"])
        losses = self.objective.losses(self.encoder, batch)
        loss = self.objective.total(losses)
        if not loss.requires_grad:
            raise TrainingError(
                "The loss has no gradient, so nothing can be learned. A loss or an encoder of your "
                "own must compute with torch, without detach, item or no_grad."
            )
        parts = (
            {f"loss_{name}": part.detach() for name, part in losses.items()}
            if len(losses) > 1
            else {}
        )
        self.losses.add({"loss": loss.detach()} | parts | self.objective.statistics())
        return loss

    def validation_step(self, batch: ViewBatch, _: int) -> None:
        """Embed two views of each validation client of the batch."""
        encoded = Encoded(self.encoder, batch)
        self._vectors.append((encoded.vectors.float(), batch.clients))

    def on_validation_epoch_end(self) -> None:
        """Compute and log the metrics of the epoch."""
        vectors, clients = (torch.cat(parts) for parts in zip(*self._vectors, strict=True))
        self._vectors.clear()
        metrics = {"clients_held_out": float(len(clients.unique()))} | embedding_metrics(
            vectors, clients, ball=self.config.ball
        )
        # All ranks must decide by the same metrics.
        self._metrics = self.trainer.strategy.broadcast(metrics)
        self.log_dict(self._metrics)

    def on_train_epoch_end(self) -> None:
        """Add the epoch to the history. Lightning validates before this."""
        losses = self.losses.values()
        done = {"epoch": self.current_epoch + 1, "steps": self.global_step}
        self.log_dict(losses)
        self.history.append(done | losses | {"learning_rate": self._rate} | self._metrics)
        self.on_epoch(self.history[-1])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the training history."""
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the training history."""
        self.history = list(checkpoint["history"])

    def configure_optimizers(self) -> Any:
        """Return AdamW with a one-cycle schedule per step, a decay per epochs, or no schedule."""
        options = self.config.training
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
        )
        if options.schedule == "constant":
            return optimizer
        if options.step_epochs is not None and options.step_factor is not None:
            decay = torch.optim.lr_scheduler.StepLR(
                optimizer, options.step_epochs, options.step_factor
            )
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": decay, "interval": "epoch"},
            }
        return one_cycle(optimizer, int(self.trainer.estimated_stepping_batches))

    def transfer_batch_to_device(self, batch: ViewBatch, device: torch.device, _: int) -> ViewBatch:
        """Move a batch, for Lightning."""
        return batch.to(device)
