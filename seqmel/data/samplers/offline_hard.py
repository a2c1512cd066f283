"""Offline mining: batches of clients that lie near each other among all clients, by the model as it stood at the last look.

"Offline" is what negatives are called that are looked for in the whole set between epochs, from the most recent checkpoint and on
a subset of it (Schroff et al., FaceNet, arXiv 1503.03832, section 3.2), where miners look within a batch; "hard" as there: near
the anchor. FaceNet makes triplets of them. Here look-alikes share a batch, as in doppelganger mining (Smirnov et al., ICCV
Workshops 2017, doi 10.1109/ICCVW.2017.226), so that any loss and miner goes with it.

Every `refresh_every` epochs all clients are embedded and dealt, `pool_size` random ones at a time, into groups of G: a random client, and the
G - 1 nearest to it of those that are left, by the cosine. An epoch is these groups in random order, cut into batches: each
client comes at most once, and has G - 1 look-alikes in its batch, or fewer where its group was among the last to be made or lies
across the border of two batches. Before the first look, in the first epoch, batches are random: a new model knows no neighbours.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seqmel.data.samplers.base import Sampler
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.vocabulary import Vocabulary

__all__ = ["OfflineHard", "near_groups"]

_MOST_PRODUCTS = 4_000_000


class OfflineHard(Sampler):
    """See the module's text. Whoever trains calls `mine` before each epoch that is `due`, and sets `pool` to what it gives.

    Args:
        sequences, vocabulary, clients, size: see `Sampler`.
        refresh_every: epochs from one look to the next.
        group: G, 2 or more.
        pool_size: neighbours are looked for among at most so many clients, or G if that is more; memory and time grow with it.

    Attributes:
        pool: (N,) int64, places in `clients`, group after group; None before the first look. Where training is resumed it
            has to be what it was, and where several processes train together the same on each.
    """

    pool: Tensor | None = None

    def __init__(
        self,
        sequences: EncodedSequences,
        vocabulary: Vocabulary,
        clients: Tensor,
        *,
        size: int,
        refresh_every: int = 1,
        group: int = 8,
        pool_size: int = 32_768,
    ) -> None:
        super().__init__(sequences, vocabulary, clients, size=size)
        self.refresh_every = refresh_every
        self.group = group
        self.pool_size = pool_size

    def due(self, epoch: int) -> bool:
        """Whether neighbours are to be looked for before this epoch, counted from 0: the second, and then every `refresh_every`."""
        return epoch > 0 and (epoch - 1) % self.refresh_every == 0

    def mine(self, embed: Callable[[Tensor], Tensor], generator: torch.Generator) -> Tensor:
        """A new `pool`; not more than `pool_size` vectors are held at a time.

        Args:
            embed: (n,) clients -> (n, D) unit vectors of the model as it stands, on any device.
            generator: the source of randomness, on the CPU.
        """
        mixed = torch.randperm(len(self.clients), generator=generator)
        groups, most = -(-len(mixed) // self.group), max(1, self.pool_size // self.group)
        a_part = -(-groups // -(-groups // most))  # so that parts are about alike in size
        dealt = torch.split(mixed, a_part * self.group)
        return torch.cat([part[near_groups(embed(self.clients[part]), self.group)] for part in dealt])

    def order(self, generator: torch.Generator) -> Tensor:
        """(N,) all clients, the groups in random order."""
        if self.pool is None:
            return self.clients[torch.randperm(len(self.clients), generator=generator)]
        groups = torch.split(self.pool, self.group)
        mixed = torch.randperm(len(groups), generator=generator).tolist()
        return self.clients[torch.cat([groups[i] for i in mixed])]


@torch.no_grad()
def near_groups(vectors: Tensor, group: int) -> Tensor:
    """(n,) int64 on the host: all places, each `group` of them the first that is left and those left that are nearest to it.

    Args:
        vectors: (n, D) of length 1.
        group: places a group; the last has what is left.
    """
    rows = max(1, _MOST_PRODUCTS // max(1, len(vectors)))
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
