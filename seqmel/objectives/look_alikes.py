"""Pairs of clients that are probably alike, which contrastive learning should not push apart.

A negative that is really of the same kind as its anchor teaches the encoder a difference that is
not there. A pair of clients is left out of the negatives if any of these holds:

- its two vectors, as the loss compares them, have at least a given cosine (Huynh et al.: Boosting
  contrastive self-supervised learning with false negative cancellation, WACV 2022, arXiv
  2011.11765), which may fall during training, when vectors begin to mean something (Chen et al.:
  Incremental false negative detection for contrastive learning, ICLR 2022, arXiv 2106.03719);
- their vectors by an earlier model have at least a given cosine;
- their sequences are near-duplicates: MinHash signatures estimate that at least a given fraction
  of their subsequences of three events is in both (Broder: On the resemblance and containment of
  documents, 1997);
- they have the same value of a column, such as a household or a segment.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqmel.config.options.objectives import LeaveOutOptions

__all__ = ["ClientTraits", "LookAlikes"]


@dataclass(frozen=True)
class ClientTraits:
    """What is known of the N clients of a set.

    Attributes:
        groups: (N,) int64, the group of each client, or -1; None if there are no groups.
        signatures: (N, H) int32, MinHash signatures of the sequences, or None.
        vectors: (N, D) vectors of an earlier model, of length 1, or 0 where there is none; or None.
    """

    groups: Tensor | None = None
    signatures: Tensor | None = None
    vectors: Tensor | None = None


class LookAlikes(nn.Module):
    """Finds the pairs to leave out of the negatives of a batch.

    Args:
        options: what to leave out.
        traits: of all clients of the set; those that the options need.
    """

    groups: Tensor | None
    signatures: Tensor | None
    vectors: Tensor | None

    def __init__(self, options: LeaveOutOptions, traits: ClientTraits | None = None) -> None:
        super().__init__()
        self.options = options
        for name in ("groups", "signatures", "vectors"):
            value = getattr(traits, name, None)
            self.register_buffer(name, value, persistent=False)

    def excluded(
        self, vectors: Tensor, clients: Tensor, *, anchors: int, progress: float
    ) -> Tensor | None:
        """Return (A, N) bool, the pairs of an anchor and another client to leave out.

        Args:
            vectors: (N, D), as the loss compares them; the anchors come first.
            clients: (N,) int64, the client of each; below 0 for none.
            anchors: A.
            progress: fraction of the training that is done.

        Returns:
            The pairs, or None if the options leave out none.
        """
        threshold = self.options.threshold(progress)
        known = clients.clamp(min=0)
        parts = []
        if threshold is not None:
            unit = F.normalize(vectors.detach().float(), dim=1)
            parts.append(unit[:anchors] @ unit.t() >= threshold)
        if self.groups is not None:
            group = self.groups[known]
            own = group[:anchors].unsqueeze(1)
            parts.append((own == group) & (own >= 0))
        if self.signatures is not None and self.options.duplicates is not None:
            signature = self.signatures[known]
            shared = torch.zeros(anchors, len(clients), device=clients.device)
            for column in signature.unbind(1):  # (A, N, H) would be large
                shared += column[:anchors].unsqueeze(1) == column
            parts.append(shared >= self.options.duplicates * signature.shape[1])
        if self.vectors is not None:
            earlier = self.vectors[known]
            parts.append(earlier[:anchors] @ earlier.t() >= self.options.vectors_cosine)
        if not parts:
            return None
        others = (clients[:anchors].unsqueeze(1) != clients) & (clients >= 0)
        return torch.stack(parts).any(0) & others
