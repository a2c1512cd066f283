"""Offline hard mining: batches of clients whose current embeddings are close."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from seqmel.data.samplers.base import Sampler
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.vocabulary import Vocabulary

__all__ = ["OfflineHardSampler", "near_groups"]

_MAX_PRODUCTS = 4_000_000


class OfflineHardSampler(Sampler):
    """Offline mining: batches of groups of clients whose embeddings were near some epochs ago.

    Offline mining searches the whole set for negatives between epochs, with the most recent
    checkpoint and on a subset (Schroff et al., FaceNet, arXiv 1503.03832, section 3.2), where
    miners search within a batch. FaceNet builds triplets from them. Here similar clients share a
    batch, as in doppelganger mining (Smirnov et al., ICCV Workshops 2017, doi
    10.1109/ICCVW.2017.226), so it works with any loss and miner.

    Every `refresh_every` epochs all clients are embedded and grouped within random pools of
    `pool_size` clients: a random client, and the G - 1 remaining clients nearest to it by cosine.
    An epoch is a random order of the groups, cut into batches. Each client appears at most once. It
    shares the batch with its G - 1 neighbours, unless its group was formed from the rest of a pool,
    or crosses the border of two batches. Batches of the first epoch are random.

    The training loop calls `mine` before each epoch that is `due`, and sets `pool` to the result.

    Args:
        sequences: See `Sampler`.
        vocabulary: See `Sampler`.
        clients: See `Sampler`.
        size: See `Sampler`.
        clients_per_epoch: See `Sampler`.
        refresh_every: Epochs between updates of the groups; the first epoch is random.
        group: Clients G per group.
        pool_size: Number of clients to search for neighbours at a time, at least G. Memory and
            time grow with it.

    Attributes:
        pool: (N,) int64, positions in `clients`, group by group. None before the first search. A
            resumed run must restore it, and all ranks must have the same.
    """

    how: ClassVar[str] = (
        "every `refresh_every` epochs all training clients are embedded and dealt into groups "
        "of `group` clients that lie near each other; a batch is several groups; the first "
        "epoch is random"
    )
    source: ClassVar[str] = (
        "offline selection: Schroff et al., 1503.03832, section 3.2; look-alikes in a batch: "
        "Smirnov et al., ICCVW 2017 (doppelganger mining)"
    )
    when: ClassVar[str] = (
        "many clients and small batches: look-alikes would hardly ever meet by chance. Its "
        "loss is higher than that of random batches by construction; compare recall@1"
    )

    pool: Tensor | None = None

    def __init__(
        self,
        sequences: EncodedSequences,
        vocabulary: Vocabulary,
        clients: Tensor,
        *,
        size: int,
        clients_per_epoch: int | None = None,
        refresh_every: Annotated[int, Field(ge=1, lt=2**31)] = 1,
        group: Annotated[int, Field(ge=2, lt=2**31)] = 8,
        pool_size: Annotated[int, Field(ge=2, lt=2**31)] = 32_768,
    ) -> None:
        super().__init__(
            sequences, vocabulary, clients, size=size, clients_per_epoch=clients_per_epoch
        )
        self.refresh_every = refresh_every
        self.group = group
        self.pool_size = pool_size

    def due(self, epoch: int) -> bool:
        """Return whether to search before this epoch, from 0.

        The second, then every `refresh_every`.
        """
        return epoch > 0 and (epoch - 1) % self.refresh_every == 0

    def mine(self, embed: Callable[[Tensor], Tensor], generator: torch.Generator) -> Tensor:
        """Compute a new `pool`. At most `pool_size` vectors are in memory at a time.

        Args:
            embed: (n,) clients -> (n, D) unit vectors of the current model, on any device.
            generator: The source of randomness, on the CPU.
        """
        mixed = torch.randperm(len(self.clients), generator=generator)
        groups = -(-len(mixed) // self.group)
        max_groups = max(1, self.pool_size // self.group)
        pool_groups = -(-groups // -(-groups // max_groups))  # pools of similar size
        dealt = torch.split(mixed, pool_groups * self.group)
        return torch.cat(
            [part[near_groups(embed(self.clients[part]), self.group)] for part in dealt]
        )

    def order(self, generator: torch.Generator) -> Tensor:
        """Return (N,) all clients, with the groups in random order."""
        if self.pool is None:
            return self.clients[torch.randperm(len(self.clients), generator=generator)]
        groups = torch.split(self.pool, self.group)
        mixed = torch.randperm(len(groups), generator=generator).tolist()
        return self.clients[torch.cat([groups[i] for i in mixed])]


@torch.no_grad()
def near_groups(vectors: Tensor, group: int) -> Tensor:
    """Group vectors greedily: the first remaining one and the remaining ones nearest to it.

    Args:
        vectors: (n, D) unit vectors.
        group: Size of a group. The last one may be smaller.

    Returns:
        (n,) int64 on the host, positions of the vectors, group by group.
    """
    rows = max(1, _MAX_PRODUCTS // max(1, len(vectors)))
    used = torch.zeros(len(vectors), dtype=torch.bool, device=vectors.device)
    free = [True] * len(vectors)
    found: list[int] = []
    while len(found) < len(vectors):
        firsts = (~used).nonzero()[:rows, 0]
        alike = vectors[firsts] @ vectors.t()
        for row, first in enumerate(firsts.tolist()):
            if free[first]:
                used[first] = True
                count = min(group, len(vectors) - len(found)) - 1
                near = alike[row].masked_fill(used, -torch.inf).topk(count).indices
                used[near] = True
                members = [first, *near.tolist()]
                found += members
                for member in members:
                    free[member] = False
    return torch.tensor(found, dtype=torch.int64)
