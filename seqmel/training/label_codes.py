"""The labels that a part of the objective learns from, as a code for each client."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch import Tensor

from seqmel.config import Config
from seqmel.data.labels import likely_client, read_labels
from seqmel.data.sequences import EncodedSequences
from seqmel.training.labelled import label

__all__ = ["label_codes", "labels_of"]


def labels_of(config: Config, client: str | None) -> pd.Series[Any] | None:
    """The labels that the objective names, indexed by client id; None where it names none.

    Args:
        config: all options.
        client: the client column of the events, where it is known.

    Raises:
        SeqmelError: what `read_labels` raises.
    """
    for part in config.objective:
        if part.name == "supervised_contrastive":
            same = likely_client(part.labels, client) if client is not None else None
            return read_labels(part.labels, part.target, client=same)
    return None


def label_codes(config: Config, sequences: EncodedSequences) -> Tensor | None:
    """(N,) int64: the class of each client, -1 where it has no label; None where the objective asks for no labels.

    Raises:
        InputError: no client in common with the events, one class, or too many.
        TrainingError: fewer than four labelled clients.
    """
    y = labels_of(config, sequences.client)
    if y is None:
        return None
    labelled = label(sequences, {str(y.name): y}, task="classification")
    codes = torch.full((len(sequences),), -1, dtype=torch.int64)
    codes[labelled.clients] = labelled.values[:, 0].long()
    return codes
