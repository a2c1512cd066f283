"""Objectives: which views are drawn of the clients of a batch, and what is asked of their vectors."""

from seqmel.objectives.coles import CoLES, ViewBatch

__all__ = ["CoLES", "ViewBatch"]
