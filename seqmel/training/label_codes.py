"""Class codes of the clients for the parts of the objective that learn from labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from seqmel.config import Config
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.tables.labels import likely_client, read_labels
from seqmel.training.finetuning.labelled import label

__all__ = ["label_codes", "read_objective_labels"]


def read_objective_labels(config: Config, client: str | None) -> dict[str, pd.Series[Any]]:
    """Read the labels of each part of the objective that learns from labels, indexed by client id.

    Args:
        config: All options.
        client: The client column of the events, if it is known.

    Raises:
        SeqmelError: See `read_labels`.
    """
    found = {}
    for name, part in config.labelled.items():
        same = likely_client(part.labels, client) if client is not None else None
        found[name] = read_labels(part.labels, part.target, client=same)
    return found


def label_codes(
    config: Config, sequences: EncodedSequences, labels: Mapping[str, pd.Series[Any]] | None = None
) -> dict[str, Tensor]:
    """Return (N,) int64 for each part that learns from labels: the class of each client, or -1.

    Args:
        config: All options.
        sequences: The sequences of the clients.
        labels: Replaces the labels that the config names, see `read_objective_labels`.

    Raises:
        InputError: No client has a label, or there is one class, or too many.
        TrainingError: There are fewer than four labelled clients.
    """
    labels = read_objective_labels(config, sequences.client) if labels is None else labels
    return {name: _codes(y, sequences) for name, y in labels.items()}


def _codes(y: pd.Series[Any], sequences: EncodedSequences) -> Tensor:
    labelled = label(sequences, {str(y.name): y}, task="classification")
    codes = torch.full((len(sequences),), -1, dtype=torch.int64)
    codes[labelled.clients] = labelled.values[:, 0].long()
    return codes
