"""How well clients are recognised by the times of their activity alone.

If that is high, recall says little about the embeddings, see `seqmel.data.cycles`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from seqmel.config import Config
from seqmel.core.embedding_metrics import embedding_metrics
from seqmel.core.units import count_words
from seqmel.data.cycles import address_cycles, cycles_of
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.vocabulary import TimeScale
from seqmel.nn.events import TimeFeatures
from seqmel.training.batches import HeldOutBatches, split_clients

__all__ = ["TimeAlone", "measure_time_alone"]

_HIGH = 0.2


@dataclass(frozen=True)
class TimeAlone:
    """Recall@1 of validation clients by the mean phase of each view.

    Attributes:
        recall_at_1: With the original times.
        shifted_recall_at_1: With the clock of each view shifted as in training.
        chance: Recall@1 of random vectors.
        clients: Number of clients.
        cycles: Names of all cycles that the data shows.
        shifted: Names of the shifted cycles.
        unshifted: Names of the cycles that the data says to shift, and the config does not.
    """

    recall_at_1: float
    shifted_recall_at_1: float
    chance: float
    clients: int
    cycles: tuple[str, ...]
    shifted: tuple[str, ...]
    unshifted: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return all fields as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        left = self.shifted_recall_at_1
        found = (
            f"recall@1 by time alone ({', '.join(self.cycles)}) {self.recall_at_1:.3f}, chance "
            f"{self.chance:.3f} ({count_words(self.clients, 'client')} held out)"
        )
        if self.shifted:
            found += f"; {', '.join(self.shifted)} shifted at random, then {left:.3f}"
        # Of cycles that are behaviour, such as shopping on Saturdays, a high recall is no fault.
        if not self.unshifted or left < max(_HIGH, 10 * self.chance):
            return found
        return (
            f"WARNING: {found}: clients are recognised by when they are active. Leave "
            f"views.shift_clock out, or add {', '.join(self.unshifted)} to it."
        )


@torch.inference_mode()
def measure_time_alone(
    sequences: EncodedSequences, scale: TimeScale, config: Config
) -> TimeAlone | None:
    """Search the views of the validation clients by the means of their time features.

    Args:
        sequences: The sequences of all training clients.
        scale: Gives the cycles that the data shows.
        config: The config of training, resolved.

    Returns:
        The result, or None without validation clients or cycles.
    """
    clients = split_clients(sequences, config).validation
    cycles = tuple(cycle.name for cycle in cycles_of(scale))
    if not len(clients) or not cycles:
        return None
    found = [_recall(sequences, clients, scale, c) for c in (_with_shifts(config, ()), config)]
    shifted = tuple(name for name in cycles if name in (config.views.shift_clock or ()))
    views = 2 * len(clients)
    addresses = address_cycles(sequences, scale, seed=config.seed)
    unshifted = tuple(name for name in addresses if name not in shifted)
    return TimeAlone(found[0], found[1], 1 / (views - 1), len(clients), cycles, shifted, unshifted)


def _with_shifts(config: Config, shifted: tuple[str, ...]) -> Config:
    return config.model_copy(
        update={"views": config.views.model_copy(update={"shift_clock": shifted})}
    )


def _recall(
    sequences: EncodedSequences, clients: torch.Tensor, scale: TimeScale, config: Config
) -> float:
    features = TimeFeatures(scale)
    means: list[torch.Tensor] = []
    owners: list[torch.Tensor] = []
    for batch in HeldOutBatches(sequences, clients, config):
        events = batch.sequences
        phases = features(events)[:, 2:]  # without the gaps
        sums = phases.new_zeros(len(events), phases.shape[1]).index_add_(
            0, events.sequence_index, phases
        )
        means.append(sums / events.lengths.unsqueeze(1))
        owners.append(batch.clients)
    return embedding_metrics(torch.cat(means), torch.cat(owners))["recall_at_1"]
