"""Losses know only tensors: embeddings (N, D) and whose they are (N,)."""

from seqmel.losses.contrastive import ContrastiveLoss
from seqmel.losses.infonce import InfoNCELoss

__all__ = ["ContrastiveLoss", "InfoNCELoss"]
