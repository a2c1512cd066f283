"""The labels that parts of the objective learn from, as a code for each client."""

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

__all__ = ["label_codes", "labels_of"]


def labels_of(config: Config, client: str | None) -> dict[str, pd.Series[Any]]:
    """The labels that the objective names, indexed by client id, for each of its parts that learns from labels.

    Args:
        config: all options.
        client: the client column of the events, where it is known.

    Raises:
        SeqmelError: what `read_labels` raises.
    """
    found = {}
    for name, part in config.labelled.items():
        same = likely_client(part.labels, client) if client is not None else None
        found[name] = read_labels(part.labels, part.target, client=same)
    return found


def label_codes(
    config: Config, sequences: EncodedSequences, labels: Mapping[str, pd.Series[Any]] | None = None
) -> dict[str, Tensor]:
    """(N,) int64 for each part of the objective that learns from labels: the class of each client, -1 where it has no label.

    Args:
        config: all options.
        sequences: of the clients.
        labels: as from `labels_of`, in place of those that the config names.

    Raises:
        InputError: no client in common with the events, one class, or too many.
        TrainingError: fewer than four labelled clients.
    """
    labels = labels_of(config, sequences.client) if labels is None else labels
    return {name: _codes(y, sequences) for name, y in labels.items()}


def _codes(y: pd.Series[Any], sequences: EncodedSequences) -> Tensor:
    labelled = label(sequences, {str(y.name): y}, task="classification")
    codes = torch.full((len(sequences),), -1, dtype=torch.int64)
    codes[labelled.clients] = labelled.values[:, 0].long()
    return codes
