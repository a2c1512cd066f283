"""What is known of clients, to leave look-alikes out of the negatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from seqmel.config import Config
from seqmel.config.options.objectives import LeaveOutOptions
from seqmel.core.errors import ConfigError, InputError, SchemaError, did_you_mean, shown
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.tables.labels import (
    column_names,
    likely_client,
    locate_ids,
    read_column,
    read_embeddings,
)
from seqmel.data.vocabulary import Vocabulary
from seqmel.objectives.look_alikes import ClientTraits

__all__ = ["check_tables", "client_traits", "minhash"]

_HASHES = 64
_GRAM = 3  # events per subsequence
_ODD = np.uint64(0x9E3779B97F4A7C15)  # the golden ratio in 64 bits: multiplying by it spreads bits
_CLIENTS_AT_ONCE = 4_096


def client_traits(
    config: Config, sequences: EncodedSequences, vocabulary: Vocabulary
) -> ClientTraits | None:
    """Return what `leave_out` needs to know of the clients, or None if it needs nothing.

    Args:
        config: All options.
        sequences: The sequences of the clients.
        vocabulary: Their vocabulary.

    Raises:
        InputError: A table has none of the clients, or no value of the column.
        ConfigError: Near-duplicates are asked for, and there is no categorical column.
    """
    options = config.leave_out
    if options is None or not (options.table or options.vectors or options.duplicates):
        return None
    ids = pd.Index(sequences.client_ids.to_pandas())
    groups = _read_groups(options, sequences.client)
    vectors = _read_vectors(options, sequences.client)
    return ClientTraits(
        groups=None if groups is None else _groups(groups, ids),
        signatures=None if options.duplicates is None else _signatures(sequences, vocabulary),
        vectors=None if vectors is None else _vectors(vectors, ids),
    )


def check_tables(options: LeaveOutOptions) -> None:
    """Raise before any work if a table cannot be read, or lacks the column."""
    if options.vectors is not None:
        column_names(options.vectors)
    if options.table is None or options.column is None:
        return
    names = column_names(options.table)
    if options.column not in names:
        raise SchemaError(
            f"There is no column {options.column!r} in {options.table}. It has: {shown(names)}."
            f"{did_you_mean(options.column, names)} Name one in leave_out.column."
        )


def _read_groups(options: LeaveOutOptions, client: str) -> pd.Series[Any] | None:
    if options.table is None or options.column is None:
        return None
    same = likely_client(options.table, client)
    return read_column(options.table, options.column, option="leave_out.column", client=same)


def _read_vectors(options: LeaveOutOptions, client: str) -> pd.DataFrame | None:
    return None if options.vectors is None else read_embeddings(options.vectors, likely=client)


def _groups(values: pd.Series[Any], ids: pd.Index[Any]) -> Tensor:
    values = values.dropna()
    if not len(values):
        raise InputError(f"leave_out.column {values.name!r} has no value.")
    place = locate_ids(values.index, ids, of="events")
    codes = torch.full((len(ids),), -1, dtype=torch.int64)
    codes[torch.from_numpy(place[place >= 0])] = torch.from_numpy(
        pd.factorize(values)[0][place >= 0].astype(np.int64)
    )
    return codes


def _vectors(frame: pd.DataFrame, ids: pd.Index[Any]) -> Tensor:
    place = locate_ids(frame.index, ids, of="events")
    given = torch.from_numpy(frame.to_numpy(np.float32)[place >= 0])
    given = given - given.mean(0)
    vectors = torch.zeros(len(ids), given.shape[1])
    vectors[torch.from_numpy(place[place >= 0])] = torch.nn.functional.normalize(given, dim=1)
    return vectors


def _signatures(sequences: EncodedSequences, vocabulary: Vocabulary) -> Tensor:
    names = list(vocabulary.categorical)
    if not names:
        raise ConfigError(
            "leave_out.duplicates compares the categories of events, and there is no categorical "
            "column. Leave it out, or name one with --categorical."
        )
    parts = []
    for some in torch.arange(len(sequences)).split(_CLIENTS_AT_ONCE):
        codes = np.stack([sequences.values(name, some).numpy() for name in names])
        parts.append(torch.from_numpy(minhash(codes, sequences.lengths[some].numpy())))
    return torch.cat(parts)


def minhash(codes: npt.NDArray[np.int32], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Return (N, 64) int32 signatures of sequences.

    The fraction of equal numbers in two signatures estimates which fraction of the subsequences of
    three events of both sequences together is in both of them.

    Args:
        codes: (C, E) codes of each column, sequence after sequence.
        lengths: (N,) number of events of each sequence, at least one.
    """
    events = np.zeros(codes.shape[1], np.uint64)
    for column in codes.astype(np.uint64):
        events = (events ^ column) * _ODD
        events ^= events >> np.uint64(29)
    ends = np.repeat(np.cumsum(lengths), lengths)
    grams, place = events.copy(), np.arange(len(events))
    for step in range(1, _GRAM):  # the last events of a sequence repeat its end
        grams = grams * _ODD + events[np.minimum(place + step, ends - 1)]
        grams ^= grams >> np.uint64(31)
    random = np.random.default_rng(0)
    factors = random.integers(0, 2**63, (_HASHES, 2), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    starts = np.cumsum(lengths) - lengths
    found = np.empty((len(lengths), _HASHES), np.int32)
    for k, (factor, shift) in enumerate(factors):
        hashed = (grams * factor + shift) >> np.uint64(33)
        found[:, k] = np.minimum.reduceat(hashed, starts).astype(np.int32)
    return found
