"""Objectives: how views of clients are drawn, and the losses on their states and vectors."""

from seqmel.objectives.encoded import Encoded, ViewBatch
from seqmel.objectives.objective import Objective

__all__ = ["Encoded", "Objective", "ViewBatch"]
