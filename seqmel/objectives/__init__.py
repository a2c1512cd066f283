"""Objectives: which views are drawn of the clients of a batch, and what is asked of their states and vectors."""

from seqmel.objectives.encoded import Encoded, ViewBatch
from seqmel.objectives.objective import Objective

__all__ = ["Encoded", "Objective", "ViewBatch"]
