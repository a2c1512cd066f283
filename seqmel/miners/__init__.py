"""Miners choose the pairs that a loss looks at. They see embeddings without gradient."""

from seqmel.miners.hard_negatives import HardNegatives
from seqmel.miners.random_negatives import RandomNegatives

__all__ = ["HardNegatives", "RandomNegatives"]
