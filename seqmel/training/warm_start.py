"""Warm start across schemas: take over what a trained model has in common with a new one.

Rows of the embedding table belong to a column and a value, so they can be taken over one by one:
those of values that both vocabularies have. Numbers are on robust scales of their own data, where
"three deviations above the median" means the same in both. The network behind the table and the
sequence encoder do not know columns; they are taken over if they have the same shape. All else
keeps its new weights: it depends on the order of columns or is fitted on the events.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from seqmel.core.errors import ConfigError, InputError, shown
from seqmel.core.units import count_words
from seqmel.data.cycles import cycles_of
from seqmel.data.kinds.category import FIRST, NULL, UNSEEN, CategoryCodes
from seqmel.data.kinds.number import KNOTS, NumericScales
from seqmel.data.kinds.sets import SetItems
from seqmel.data.vocabulary import Vocabulary
from seqmel.model import TrainedModel
from seqmel.nn.encoder import SequenceEncoder
from seqmel.nn.events import EventEncoder

__all__ = ["check_warm_start", "warm_start"]

_LAYERS = {
    "events.network.": "event network",
    "sequence.": "sequence encoder",
    "pooling.by_category.inner.": "pooling by category",
}
"""Prefix of weights that do not depend on columns -> what they are."""


def check_warm_start(model: TrainedModel, hidden_size: int) -> None:
    """Raise a `ConfigError` if no weight of a model can be taken over.

    Args:
        model: the trained model.
        hidden_size: the width of the new event encoder.
    """
    before = model.config.event_encoder.hidden_size
    if before != hidden_size:
        raise ConfigError(
            f"training.init_from is a model with event_encoder.hidden_size {before}, and "
            f"{hidden_size} is asked for now. Set event_encoder.hidden_size={before}."
        )


@torch.no_grad()
def warm_start(encoder: SequenceEncoder, vocabulary: Vocabulary, model: TrainedModel) -> str:
    """Take over the weights of columns, values and layers that a trained model has too.

    Args:
        encoder: a new encoder, which is changed.
        vocabulary: its vocabulary.
        model: the trained model.

    Returns:
        What was taken over and what begins anew, in words.

    Raises:
        InputError: no column of the events is one of the model.
    """
    columns, new = [], []
    before = _fitted(model.vocabulary)
    for name, fitted in _fitted(vocabulary).items():
        size = encoder.events.sizes[name]
        rows, words = _rows(fitted, before.get(name), size, vocabulary, model.vocabulary)
        if len(rows) == 0:
            new.append(name)
            continue
        columns.append(f"{name} ({words})")
        there, here = rows.T
        begin, old_begin = encoder.events.begins[name], model.encoder.events.begins[name]
        encoder.events.table[begin + here] = model.encoder.events.table[old_begin + there]
    if not columns:
        raise InputError(
            f"Nothing can be taken over from the model of training.init_from: its columns are "
            f"{shown(list(before))}, and those of the events {shown(new)}. Rename columns that "
            "mean the same, or leave init_from out."
        )
    times = _take_times(encoder.events, model.encoder.events)
    layers = _take_layers(encoder, model.encoder)
    found = f"columns {', '.join(columns)}; time ({times}); layers {', '.join(layers) or 'none'}"
    return f"{found}; new: {', '.join(new) or 'no column'}"


def _fitted(vocabulary: Vocabulary) -> dict[str, Any]:
    """Column -> what was fitted of it."""
    return {n: f for columns in vocabulary.by_kind.values() for n, f in columns.items()}


def _rows(
    fitted: Any, before: Any, count: int, vocabulary: Vocabulary, vocabulary_before: Vocabulary
) -> tuple[Tensor, str]:
    """Return (R, 2) rows of a column before and now, of `count` now, and what they are in words.

    No rows if the model has no such column, or one of another kind.
    """
    none = torch.empty(0, 2, dtype=torch.int64)
    if type(before) is not type(fitted):
        return none, ""
    if isinstance(fitted, (CategoryCodes, SetItems)):
        pairs = list(_codes(fitted.values, before.values))
        return torch.tensor(
            pairs
        ), f"{len(pairs) - FIRST} of {count_words(len(fitted.values), 'value')}"
    if isinstance(fitted, NumericScales):
        return _curves(fitted, before, vocabulary, vocabulary_before)
    if fitted != before:
        return none, ""
    return torch.arange(count).repeat(2, 1).T, "all"


def _codes(values: tuple[str, ...], before: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """Yield the codes of null, unseen and each common value, before and now."""
    yield NULL, NULL
    yield UNSEEN, UNSEEN
    places = {value: code for code, value in enumerate(before, FIRST)}
    for code, value in enumerate(values, FIRST):
        if value in places:
            yield places[value], code


def _curves(
    fitted: NumericScales,
    before: NumericScales,
    vocabulary: Vocabulary,
    vocabulary_before: Vocabulary,
) -> tuple[Tensor, str]:
    """Return the rows of the curves of a number: of common categories if both have one each."""
    curves = [(0, code) for code in range(len(fitted.rows))]
    words = "numbers"
    if before.by is not None:
        curves = [(UNSEEN, code) for _, code in curves]
        if fitted.by == before.by:
            codes = vocabulary.categorical[fitted.by].values
            codes_before = vocabulary_before.categorical[before.by].values
            common = {now: then for then, now in _codes(codes, codes_before)}
            curves = [(common.get(code, then), code) for then, code in curves]
            words = f"numbers within {fitted.by}"
    size = len(KNOTS) + 1  # one more for a missing number
    within = torch.arange(size)
    pairs = [torch.stack([then * size + within, now * size + within], 1) for then, now in curves]
    return torch.cat(pairs), words


def _take_times(events: EventEncoder, before: EventEncoder) -> str:
    """Take over the weights of the features of time that both have, and say which."""
    now, then = _time_names(events), _time_names(before)
    for i, name in enumerate(now):
        if name in then:
            events.from_time.weight[:, i] = before.from_time.weight[:, then.index(name)]
    events.from_time.bias.copy_(before.from_time.bias)
    common = [name.partition(" ")[0] for name in now if name in then]
    return ", ".join(dict.fromkeys(common))


def _time_names(events: EventEncoder) -> list[str]:
    """Names of the features of time, in their order; those of gaps within tables have none."""
    names = ["gap", "gap of zero"]
    for cycle in cycles_of(events.time.scale):
        for harmonic in range(cycle.harmonics):
            names += [f"{cycle.name} sine {harmonic}", f"{cycle.name} cosine {harmonic}"]
    return names + [f"holidays {i}" for i in range(events.time.holidays.output_size)]


def _take_layers(encoder: SequenceEncoder, before: SequenceEncoder) -> list[str]:
    """Take over groups of weights that have the same names and shapes, and name them."""
    now, then = encoder.state_dict(), before.state_dict()
    taken = []
    for prefix, words in _LAYERS.items():
        names = [name for name in now if name.startswith(prefix)]
        shapes = {name: now[name].shape for name in names}
        same = {n: w.shape for n, w in then.items() if n.startswith(prefix)} == shapes
        if names and same:
            for name in names:
                now[name].copy_(then[name])
            taken.append(words)
    return taken
