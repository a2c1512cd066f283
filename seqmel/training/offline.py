"""Offline mining.

Before an epoch, the sampler gets embeddings of all clients by the current model.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as lightning
import torch
from torch import Tensor

from seqmel.config import Config
from seqmel.core.distributed import all_gather_with_grad, broadcast_from_rank0, local_shard
from seqmel.core.embedding_metrics import unit_vectors
from seqmel.core.random_streams import Stream, generator
from seqmel.data.samplers import OfflineHardSampler
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.inference.embed import embed_sequences
from seqmel.nn.encoder import SequenceEncoder

__all__ = ["OfflineMining"]


class OfflineMining(lightning.Callback):
    """Updates the pool of the sampler before an epoch that is due, and saves it in the checkpoint.

    The pool cannot be recomputed on resume, because the weights that gave it have changed. Clients
    are embedded as `embed` does: whole sequences, in float32, without dropout, with a shard per
    rank. The recency features are excluded, because no loss sees them.

    Args:
        sampler: The sampler whose pool is updated.
        sequences: The sequences of all clients.
        encoder: The encoder that is trained.
        config: Gives the seed, and the maximum number of events of a sequence and of a batch.
        device: The device of the encoder in training.
    """

    def __init__(
        self,
        sampler: OfflineHardSampler,
        sequences: EncodedSequences,
        encoder: SequenceEncoder,
        config: Config,
        device: torch.device,
    ) -> None:
        self.sampler = sampler
        self.sequences = sequences
        self.encoder = encoder
        self.config = config
        self.device = device

    def on_train_epoch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule
    ) -> None:
        """Update the pool before the first batch of the epoch is drawn."""
        epoch = trainer.current_epoch
        if self.sampler.due(epoch):
            self.sampler.pool = broadcast_from_rank0(
                self.sampler.mine(
                    self._vectors, generator(self.config.seed, Stream.OFFLINE_MINING, epoch)
                )
            )

    @torch.no_grad()
    def _vectors(self, clients: Tensor) -> Tensor:
        training = self.encoder.training
        self.encoder.eval()
        vectors = embed_sequences(
            self.encoder,
            self.sequences.subset(local_shard(clients)),
            self.config,
            device=self.device,
        )[:, : self.encoder.vector_size]
        self.encoder.train(training)
        return unit_vectors(all_gather_with_grad(vectors).to(self.device))

    def state_dict(self) -> dict[str, Any]:
        """Save the pool."""
        return {} if self.sampler.pool is None else {"pool": self.sampler.pool}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the pool."""
        self.sampler.pool = state["pool"]
