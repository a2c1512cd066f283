"""Forecasts from a trained encoder: what each client does within a horizon.

The events themselves give the labels. Moments lie one horizon apart, back from the end of the data;
the vector of a client is of its events strictly before a moment, the label of what came in the
horizon after it. Heads on these vectors are

    counts     a Poisson regression of the number of events, of all and of each kind
    time       which quarter of the horizon has the first event, or none (a discrete-time hazard)
    next kind  the kind of the first event, where there is one
    amount     the median of a number of the first event, where it has one

All see the client's own rates beside the vector, and counts, kinds and amounts begin at these. The
latest horizon is kept for scoring, by heads fitted on the earlier ones; the forecast itself is by
heads fitted on all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor

from seqmel.core.device import resolve_device, with_own_defaults
from seqmel.core.errors import ConfigError, InputError, did_you_mean, shown
from seqmel.core.linear_models import softmax
from seqmel.core.progress import Progress, Reporting, as_progress, warn
from seqmel.core.units import DAY_US
from seqmel.data.kinds.number import CLIP as NUMBER_CLIP
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.sequences.prepared import is_prepared
from seqmel.data.sources.checking import times_of
from seqmel.data.sources.reading import Events
from seqmel.data.sources.shard import places_in_shard
from seqmel.data.tables.event_labels import duration_us
from seqmel.data.vocabulary import FIRST, NumericScales
from seqmel.inference.as_of import moment_us, time_in_words
from seqmel.inference.embed import embed_sequences, open_events_for, sequence_chunks
from seqmel.model import AnyModel, TrainedModel, as_model
from seqmel.nn.by_category import column_to_pool_by

__all__ = ["Forecast", "forecast"]

_WINDOWS = 6
_MOST_ROWS = 30_000
_PARTS = 4  # of the horizon, for the time to the next event
_PENALTIES = (1e6, 1e5, 1e4, 1e3, 1e2)
_ITERATIONS = 30
_CLIP = 8.0
_LARGEST_LOG = 20.0
_OTHERS = "others"
_NONE = "none"

Floats: TypeAlias = npt.NDArray[np.float64]
Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Forecast:
    """Forecasts, and how good they were in the latest horizon of the data.

    Attributes:
        table: one row per client, indexed by client id: `count`, the expected number of events
            within the horizon, and `count=KIND` of each kind; `any`, the probability of an event;
            `days_to_next`, the median time to it, NaN where `any` is below one half;
            `next=KIND`, the probability that the next event comes within the horizon and is of
            this kind, and `next`, the most likely kind. With an amount, `next_COLUMN` is the median
            amount of the next event, if it has one.
        scores: one row per quantity: its loss by the forecast and by three baselines (the client's
            own rate, the last value, the global rate), and `calibration`, what was forecast of it
            over what happened; of an amount, twice the fraction of the amounts below the forecast.
        moment: the time of the forecast, as text.
        rows: number of clients in the scored horizon.
    """

    table: pd.DataFrame
    scores: pd.DataFrame
    moment: str
    rows: int


@with_own_defaults
def forecast(
    model: AnyModel,
    events: Events,
    *,
    within: str,
    by: str | None = None,
    top: int = 10,
    amount: str | None = None,
    as_of: Any = None,
    device: str = "auto",
    progress: Reporting = None,
) -> Forecast:
    """Forecast what each client does within a horizon. `Model.forecast` documents the arguments."""
    model = as_model(model)
    reporter = as_progress(progress)
    placed = resolve_device(device)
    if top < 1:
        raise ConfigError(f"top is {top}. Expected a whole number of at least 1.")
    horizon = duration_us(within, "within")
    if horizon <= 0:
        raise ConfigError(f"within is {within!r}. Expected a horizon longer than zero.")
    kinds = _Kinds.of(model, by, top, amount)
    low, end = _extent(model, events, as_of, reporter)
    moments = [end - horizon * i for i in range(1, _WINDOWS + 1)]
    moments = [moment for moment in moments if moment > low]
    if len(moments) < 2:
        raise InputError(
            f"The events before the moment of the forecast span less than two horizons of {within},"
            " one to learn from and one to score. Give a shorter horizon or more events."
        )
    model.encoder.to(placed).eval()
    rows = _observed(model, events, kinds, moments, horizon, placed, reporter)
    latest = rows.moment == moments[0]
    for part, words in ((latest, "the latest horizon"), (~latest, "the earlier horizons")):
        if len(np.unique(rows.windows[part].sum(1))) < 2:
            raise InputError(
                f"Nothing to learn or to score in {words} of {within}: all clients have as many "
                "events there. Give another horizon or more events."
            )
        if amount is not None and np.isnan(rows.amount[part]).all():
            raise InputError(
                f"No first event in {words} of {within} has a number in {amount!r}. Name another "
                "amount, or leave it out."
            )
    with reporter.task("fit", 2, "fits", quiet=True) as task:
        earlier = _Heads.fit(rows.take(~latest))
        scores = _scores(earlier, rows.take(latest), kinds)
        task.advance()
        heads = _Heads.fit(rows, like=earlier)
        task.advance()
    table = _forecast_all(model, events, heads, kinds, end, horizon, placed, reporter)
    return Forecast(table, scores, _words(end, model), int(latest.sum()))


@dataclass(frozen=True)
class _Kinds:
    """The kinds of events: the most frequent values of a category, and all others; and an amount.

    Attributes:
        column: the category; None if there is none, with all events of one kind.
        names: the values, and "others" at the end, with a _ if a value is called so.
        amount: the numeric column that is the amount of an event; None for no amount.
        scales: its scales.
    """

    column: str | None
    names: tuple[str, ...]
    amount: str | None = None
    scales: NumericScales | None = None

    @classmethod
    def of(cls, model: TrainedModel, by: str | None, top: int, amount: str | None = None) -> _Kinds:
        vocabulary = model.vocabulary
        if amount is not None and amount not in vocabulary.numeric:
            numbers = list(vocabulary.numeric)
            raise ConfigError(
                f"amount is {amount!r}, which is not a numeric column of the model."
                f"{did_you_mean(amount, numbers)} Expected one of: "
                f"{shown(numbers) or 'there is none'}."
            )
        scales = None if amount is None else vocabulary.numeric[amount]
        if by is not None and by not in vocabulary.categorical:
            known = list(vocabulary.categorical)
            raise ConfigError(
                f"by is {by!r}, which is not a categorical column of the model."
                f"{did_you_mean(by, known)} Expected one of: {shown(known) or 'there is none'}."
            )
        column: Any = by or vocabulary.source
        if column is None:
            column = column_to_pool_by(model.config.category_mean, vocabulary)
        if column is None:
            return cls(None, (_OTHERS,), amount, scales)
        values = vocabulary.categorical[column].values[:top]
        return cls(column, (*values, _free(_OTHERS, values)), amount, scales)

    @property
    def none(self) -> str:
        """What stands for no event where a kind stands."""
        return _free(_NONE, self.names)

    def of_events(self, sequences: EncodedSequences) -> npt.NDArray[np.int64]:
        """Return (E,) the kind of each event, client by client."""
        rest = len(self.names) - 1
        if self.column is None:
            return np.full(sequences.events, rest)
        codes = sequences.values(self.column, torch.arange(len(sequences))).long().numpy()
        return np.where((codes >= FIRST) & (codes < FIRST + rest), codes - FIRST, rest)

    def amounts(self, sequences: EncodedSequences) -> Floats:
        """Return (E,) the amount of each event on one scale for all; NaN if it has none."""
        if self.amount is None or self.scales is None:
            return np.full(sequences.events, np.nan)
        everyone = torch.arange(len(sequences))
        scaled = sequences.values(self.amount, everyone).double().numpy()
        if self.scales.by is None:
            return np.asarray(scaled)
        codes = sequences.values(self.scales.by, everyone).long().numpy()
        return self.scales.overall.encode(self.scales.decode(scaled, codes))

    def original(self, scaled: Floats) -> Floats:
        """Return amounts in their own unit."""
        assert self.scales is not None, "there is an amount"
        return NumericScales(overall=self.scales.overall).decode(scaled, None)


def _free(name: str, taken: Sequence[str]) -> str:
    """Return a name that is not taken yet."""
    return _free(name + "_", taken) if name in taken else name


def _extent(model: TrainedModel, events: Events, as_of: Any, progress: Progress) -> tuple[int, int]:
    """Return the first time of the events, and the moment of the forecast, in microseconds."""
    if is_prepared(events):
        raise ConfigError(
            f"{events} is a folder of prepared sequences. Give the events, which say how far they "
            "reach."
        )
    source = open_events_for(model, events)
    times = times_of(source, model.schema)
    source.connection.close()
    after = times.high_us + (DAY_US if times.daily else 1)
    if as_of is None:
        return times.low_us, after
    moment = moment_us(model, as_of)
    if moment > after + DAY_US:
        warn(
            progress,
            f"{time_in_words(moment)} is more than a day after the last event; the forecast is of "
            f"{time_in_words(after)}",
        )
    return times.low_us, min(after, moment)


def _words(moment: int, model: TrainedModel) -> str:
    if model.schema.time_unit != "timestamp":
        return f"{moment / DAY_US:g} days"
    return str(pd.Timestamp(moment, unit="us").floor("s"))


# What is observed at a moment


@dataclass(frozen=True)
class _Rows:
    """R rows of a client and a moment.

    Attributes:
        client: (R,) codes of the clients.
        moment: (R,) microseconds.
        vectors: (R, D).
        past: (R, S) number of events of each kind before the moment, the first one not counted.
        horizons: (R,) how many horizons lie between the first event and the moment.
        active: (R,) in how many of them, counted back from the moment, there is an event.
        last: (R, S) number of events of each kind in the last horizon before the moment.
        last_kind: (R,) kind of the last event.
        windows: (R, S) number of events of each kind in the horizon after the moment.
        next_kind: (R,) kind of the first of these; -1 if there is none.
        part: (R,) the part of the horizon that it is in; `_PARTS` if there is none.
        amount: (R,) amount of the first event after the moment; NaN if it or its amount is missing.
        amount_sum: (R,) of the amounts before the moment.
        amounts: (R,) number of these.
        last_amount: (R,) the last of these, NaN if there is none.
    """

    client: npt.NDArray[np.int64]
    moment: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]
    past: Floats
    horizons: Floats
    active: Floats
    last: Floats
    last_kind: npt.NDArray[np.int64]
    windows: Floats
    next_kind: npt.NDArray[np.int64]
    part: npt.NDArray[np.int64]
    amount: Floats
    amount_sum: Floats
    amounts: Floats
    last_amount: Floats

    def __len__(self) -> int:
        return len(self.client)

    def take(self, rows: npt.NDArray[Any]) -> _Rows:
        """Return some rows."""
        return _Rows(**{name: values[rows] for name, values in vars(self).items()})

    @classmethod
    def joined(cls, parts: Sequence[_Rows]) -> _Rows:
        """Return the rows of all parts."""
        names = vars(parts[0])
        return cls(**{n: np.concatenate([vars(part)[n] for part in parts]) for n in names})


def _at(
    model: TrainedModel,
    sequences: EncodedSequences,
    kinds: _Kinds,
    moment: int,
    horizon: int,
    device: torch.device,
) -> _Rows:
    """Return the rows of the clients with events before a moment."""
    everyone = torch.arange(len(sequences))
    lengths = sequences.lengths.numpy()
    size = len(kinds.names)
    time = sequences.times(everyone).numpy()
    kind = kinds.of_events(sequences)
    client = np.repeat(np.arange(len(lengths)), lengths)
    begins = lengths.cumsum() - lengths

    def counts(chosen: npt.NDArray[np.bool_]) -> Floats:
        cells = (client * size + kind)[chosen]
        return np.bincount(cells, minlength=len(lengths) * size).reshape(-1, size).astype(float)

    before = time < moment
    seen = np.bincount(client[before], minlength=len(lengths))
    known = np.flatnonzero(seen)
    past = counts(before)
    first = begins[known]
    ago = (moment - 1 - time[before]) // horizon
    changes = np.append(True, (np.diff(client[before]) != 0) | (np.diff(ago) != 0))
    active = np.bincount(client[before][changes[: len(ago)]], minlength=len(lengths))
    past[known, kind[first]] -= 1
    follows = begins[known] + seen[known]
    there = (seen < lengths)[known]
    follows = np.where(there, follows, 0)
    after = np.where(there, time[follows] - moment, horizon)
    inside = after < horizon
    amount = kinds.amounts(sequences)
    has = before & ~np.isnan(amount)
    place = np.full(len(lengths), -1)
    np.maximum.at(place, client[has], np.flatnonzero(has))
    last_amount = np.where(place < 0, np.nan, np.append(amount, np.nan)[place])
    cut = sequences.as_of(torch.from_numpy(known), torch.full((len(known),), moment))
    return _Rows(
        client=known,
        moment=np.full(len(known), moment),
        vectors=embed_sequences(model.encoder, cut, model.config, device=device).numpy(),
        past=past[known],
        horizons=(moment - time[first]) / horizon,
        active=active[known].astype(float),
        last=counts(before & (time >= moment - horizon))[known],
        last_kind=kind[begins[known] + seen[known] - 1],
        windows=counts(~before & (time < moment + horizon))[known],
        next_kind=np.where(inside, kind[follows], -1),
        part=np.where(inside, after * _PARTS // horizon, _PARTS),
        amount=np.where(inside, amount[follows], np.nan),
        amount_sum=np.bincount(client[has], amount[has], len(lengths)).astype(float)[known],
        amounts=np.bincount(client[has], minlength=len(lengths)).astype(float)[known],
        last_amount=last_amount[known],
    )


def _observed(
    model: TrainedModel,
    events: Events,
    kinds: _Kinds,
    moments: Sequence[int],
    horizon: int,
    device: torch.device,
    progress: Progress,
) -> _Rows:
    """Return rows of clients at all moments. Of many clients, about `_MOST_ROWS` rows are kept."""
    total, chunks = sequence_chunks(model, events)
    kept: list[tuple[pa.ChunkedArray, _Rows]] = []
    shards = 1
    with progress.task("observe", total, "clients") as task:
        for sequences in chunks:
            some = sequences.subset(_in_shard(sequences.client_ids, shards))
            for moment in moments:
                rows = _at(model, some, kinds, moment, horizon, device)
                kept.append((some.client_ids.take(pa.array(rows.client)), rows))
            while sum(len(rows) for _, rows in kept) > _MOST_ROWS:
                shards *= 2
                kept = [_thinned(ids, rows, shards) for ids, rows in kept]
            task.advance(len(sequences))
    rows = _Rows.joined([rows for _, rows in kept])
    ids = pd.Index(np.concatenate([ids.to_pandas().to_numpy() for ids, _ in kept]))
    return _Rows(**vars(rows) | {"client": ids.factorize()[0]})


def _in_shard(ids: pa.ChunkedArray, shards: int) -> Tensor:
    if shards == 1:
        return torch.arange(len(ids))
    return torch.from_numpy(places_in_shard(ids, (1, shards)))


def _thinned(ids: pa.ChunkedArray, rows: _Rows, shards: int) -> tuple[pa.ChunkedArray, _Rows]:
    places = _in_shard(ids, shards).numpy()
    return ids.take(pa.array(places)), rows.take(places)


# Baselines and heads


@dataclass(frozen=True)
class _Usual:
    """What is usual in some rows, for the baselines.

    Attributes:
        counts: (S,) mean number of events of each kind in a horizon.
        parts: (parts + 1,) how often the first event is in each part of the horizon, or nowhere.
        kinds: (S,) how often the next event is of each kind.
        after: (S, S) the same by the kind of the last event.
        again: (2,) how often there is an event, by whether there was one in the last horizon.
        amount: median amount of the next event.
    """

    counts: Floats
    parts: Floats
    kinds: Floats
    after: Floats
    again: Floats
    amount: float

    @classmethod
    def of(cls, rows: _Rows) -> _Usual:
        size = rows.windows.shape[1]
        some = rows.next_kind >= 0
        kinds = np.bincount(rows.next_kind[some], minlength=size) + 1.0
        cells = rows.last_kind[some] * size + rows.next_kind[some]
        after = np.bincount(cells, minlength=size * size).reshape(size, size)
        after = after + 10 * kinds / kinds.sum()
        recent = rows.last.sum(1) > 0
        there = some.astype(float)
        again = [(there[recent == one].sum() + there.mean()) / ((recent == one).sum() + 1)
                 for one in (False, True)]  # fmt: skip
        parts = np.bincount(rows.part, minlength=_PARTS + 1) + 1.0
        return cls(
            np.maximum(rows.windows.mean(0), 1e-6),
            parts / parts.sum(),
            kinds / kinds.sum(),
            after / after.sum(1, keepdims=True),
            np.array(again),
            0.0 if np.isnan(rows.amount).all() else float(np.nanmedian(rows.amount)),
        )

    def own_amount(self, rows: _Rows) -> Floats:
        """Return (R,) the mean of the client's own amounts and one usual amount."""
        return (rows.amount_sum + self.amount) / (rows.amounts + 1)

    def last_amount(self, rows: _Rows) -> Floats:
        """Return (R,) the last amount, or the usual one."""
        return np.where(np.isnan(rows.last_amount), self.amount, rows.last_amount)

    def own_rate(self, rows: _Rows) -> Floats:
        """Return (R, S) the client's own rate per horizon, with one horizon of the usual rate."""
        return (rows.past + self.counts) / (rows.horizons[:, None] + 1)

    def own_chance(self, rows: _Rows) -> Floats:
        """Return (R,) the fraction of the client's own horizons with an event, and a usual one."""
        horizons = np.ceil(np.maximum(rows.horizons, 1e-9))
        return (rows.active + 1 - self.parts[-1]) / (horizons + 1)

    def last_value(self, rows: _Rows) -> Floats:
        """Return (R, S) the counts of the last horizon, with a half of the usual rate."""
        return (rows.last + self.counts / 2) / 1.5

    def log_rates(self, rows: _Rows) -> Floats:
        """Return (R, 1 + S) logarithms of the own rate, of all events and of each kind."""
        own = self.own_rate(rows)
        return np.log(np.concatenate([own.sum(1, keepdims=True), own], axis=1))

    def inputs(self, rows: _Rows) -> Floats:
        """Return (R, D) vectors, logarithms of rates, the own chance of an event, and amounts."""
        last = self.last_value(rows)
        last = np.log(np.concatenate([last.sum(1, keepdims=True), last], axis=1))
        chance = self.own_chance(rows)[:, None]
        amounts = np.stack([self.own_amount(rows), self.last_amount(rows)], axis=1)
        parts = [rows.vectors, self.log_rates(rows), last, chance, amounts]
        return np.concatenate(parts, axis=1, dtype=np.float64)


@dataclass(frozen=True)
class _Head:
    """A linear head.

    Attributes:
        weights: (D + 1, size), with the bias in the last row.
        penalty: (size,) of the squared weights.
    """

    weights: Tensor
    penalty: Tensor


@dataclass(frozen=True)
class _Heads:
    """Heads on standardised inputs. Those of kinds add to the logarithms of the own rates.

    Attributes:
        usual: what is usual in the rows that the heads are fitted on.
        mean: (D,) of the inputs, the two amounts at the end.
        scale: (D,) of the inputs.
        most: (1 + S,) the largest counts that are forecast.
        counts: logarithms of the number of events: of all, then of each kind.
        parts: logits of the parts of the horizon, and of no event.
        kinds: logits of the kinds.
        amount: the amount of the next event; None without amounts.
    """

    usual: _Usual
    mean: Floats
    scale: Floats
    most: Floats
    counts: _Head
    parts: _Head
    kinds: _Head
    amount: _Head | None

    @classmethod
    def fit(cls, rows: _Rows, like: _Heads | None = None) -> _Heads:
        """Fit heads.

        Args:
            rows: the rows. Penalties are chosen by those of the latest moment.
            like: heads of other rows, to take the penalties from; None chooses them.
        """
        usual = _Usual.of(rows)
        inputs = usual.inputs(rows)
        mean = inputs.mean(0)
        scale = inputs.std(0)
        scale = np.where(scale > 1e-6, scale, 1.0)
        whole = _standardised(inputs, mean, scale)
        x = _without_amounts(whole)
        own = usual.log_rates(rows)
        counts = np.concatenate([rows.windows.sum(1, keepdims=True), rows.windows], axis=1)
        unit = np.maximum(counts.mean(0), 1e-6)
        held = rows.moment == rows.moment.max()
        nothing = np.zeros((len(rows), _PARTS + 1))
        some = rows.next_kind >= 0
        found = (
            _fit(
                _poisson_loss(torch.from_numpy(unit).float()),
                (x, counts, own),
                held,
                None if like is None else like.counts,
            ),
            _fit(_class_loss, (x, rows.part, nothing), held, None if like is None else like.parts),
            _fit(
                _class_loss,
                (x[some], rows.next_kind[some], own[some, 1:]),
                held[some],
                None if like is None else like.kinds,
            ),
        )
        has = ~np.isnan(rows.amount)
        amount = None
        if has.any():
            given = (whole[has], rows.amount[has], usual.own_amount(rows)[has, None])
            amount = _fit(_median_loss, given, held[has], None if like is None else like.amount)
        return cls(usual, mean, scale, 2 * counts.max(0), *found, amount)

    def amounts(self, rows: _Rows) -> Floats | None:
        """Return (R,) median amounts of the next event, on the scale of all; None without."""
        if self.amount is None:
            return None
        x = _standardised(self.usual.inputs(rows), self.mean, self.scale)
        added = (x @ self.amount.weights.double().numpy())[:, 0]
        return np.clip(self.usual.own_amount(rows) + added, -NUMBER_CLIP, NUMBER_CLIP)

    def __call__(self, rows: _Rows) -> tuple[Floats, Floats, Floats]:
        """Return (R, 1 + S) counts, (R, parts + 1) and (R, S) probabilities."""
        x = _without_amounts(_standardised(self.usual.inputs(rows), self.mean, self.scale))
        own = self.usual.log_rates(rows)
        weights = [head.weights.double().numpy() for head in (self.counts, self.parts, self.kinds)]
        counts = np.exp((own + x @ weights[0]).clip(max=_LARGEST_LOG))
        counts = np.minimum(counts, self.most)
        kinds = counts[:, 1:] / np.maximum(counts[:, 1:].sum(1, keepdims=True), 1e-12)
        counts = np.concatenate([counts[:, :1], counts[:, :1] * kinds], axis=1)
        return counts, softmax(x @ weights[1]), softmax(own[:, 1:] + x @ weights[2])


def _standardised(inputs: Floats, mean: Floats, scale: Floats) -> Floats:
    """Return (R, D + 1) inputs on their scale, and 1."""
    x = np.clip((inputs - mean) / scale, -_CLIP, _CLIP)
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def _without_amounts(x: Floats) -> Floats:
    """Return the inputs without amounts, so that other forecasts are the same without them."""
    return np.delete(x, (-3, -2), axis=1)


def _fit(
    loss: Loss,
    given: tuple[Floats, npt.NDArray[Any], Floats],
    held: npt.NDArray[np.bool_],
    like: _Head | None,
) -> _Head:
    """Fit a head. Each output has the penalty that suits the held rows.

    Args:
        loss: of outputs and labels, (L, size) or (L, 1).
        given: (L, D + 1) inputs, (L, ...) labels, and (L, size) what the outputs are added to.
        held: (L,) rows of the latest moment, by which penalties are chosen.
        like: a head to take the penalties from; None chooses them.
    """
    x, y, base = (torch.from_numpy(values) for values in given)
    x = x.float()
    base = base.float()
    y = y.float() if y.is_floating_point() else y
    size = base.shape[1]
    if like is not None:
        return _Head(_solve(loss, (x, y, base), like.penalty, like.weights), like.penalty)
    best = torch.full((size,), _PENALTIES[0])
    start = torch.zeros(x.shape[1], size)
    if 0 < held.sum() < len(held):  # else all are of one moment, and the own rates are trusted
        test = torch.from_numpy(held)
        losses = []
        for penalty in _PENALTIES:
            train = (x[~test], y[~test], base[~test])
            start = _solve(loss, train, torch.full((size,), penalty), start)
            losses.append(loss(base[test] + x[test] @ start, y[test]).mean(0).expand(size))
        best = torch.tensor(_PENALTIES)[torch.stack(losses).argmin(0)]
    return _Head(_solve(loss, (x, y, base), best, start), best)


def _solve(
    loss: Loss, given: tuple[Tensor, Tensor, Tensor], penalty: Tensor, start: Tensor
) -> Tensor:
    """Return the weights of the lowest mean loss and penalty; the bias is free."""
    x, y, base = given
    weights = start.clone().requires_grad_(True)
    search = torch.optim.LBFGS([weights], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        total = loss(base + x @ weights, y).mean(0).sum()
        total = total + (penalty * weights[:-1].square()).sum() / (2 * len(x))
        total.backward()
        return total

    with torch.enable_grad():
        search.step(closure)
    return weights.detach()


def _poisson_loss(unit: Tensor) -> Loss:
    """Return the loss of logarithms of counts, in units, so that no kind outweighs another."""

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return (out.clamp(max=_LARGEST_LOG).exp() - y * out) / unit

    return loss


def _class_loss(out: Tensor, y: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(out, y, reduction="none").unsqueeze(1)


def _median_loss(out: Tensor, y: Tensor) -> Tensor:
    """Return the absolute error, rounded off at zero; its lowest mean is at the median."""
    smooth = torch.nn.functional.smooth_l1_loss
    return smooth(out, y[:, None].expand_as(out), reduction="none", beta=0.05)


# Scores


def _deviance(y: Floats, expected: Floats) -> Floats:
    """Return the Poisson deviance of each count."""
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.where(y > 0, y * np.log(y / expected), 0.0)
    return 2 * (log - y + expected)


def _log_loss(probabilities: Floats, y: npt.NDArray[np.int64]) -> float:
    return float(-np.log(np.maximum(probabilities[np.arange(len(y)), y], 1e-12)).mean())


def _scores(heads: _Heads, latest: _Rows, kinds: _Kinds) -> pd.DataFrame:
    """Return the losses of heads and baselines, fitted on earlier rows, in the latest horizon."""
    usual = heads.usual
    counts, parts, next_kinds = heads(latest)
    own = usual.own_rate(latest)
    last = usual.last_value(latest)
    everyone = np.ones((len(latest), 1))
    rates = {"own rate": own, "last value": last, "global rate": usual.counts * everyone}
    total = latest.windows.sum(1)
    found = [
        {
            "quantity": "number of events",
            "loss": "Poisson deviance",
            "forecast": _deviance(total, counts[:, 0]).mean(),
            **{name: _deviance(total, rate.sum(1)).mean() for name, rate in rates.items()},
            "calibration": counts[:, 0].sum() / max(total.sum(), 1e-12),
        }
    ]
    if kinds.column is not None:
        found.append(
            {
                "quantity": f"number of each {kinds.column}",
                "loss": "Poisson deviance",
                "forecast": _deviance(latest.windows, counts[:, 1:]).mean(),
                **{name: _deviance(latest.windows, rate).mean() for name, rate in rates.items()},
                "calibration": counts[:, 1:].sum() / max(total.sum(), 1e-12),
            }
        )
    there = (latest.next_kind >= 0).astype(np.int64)
    recent = (latest.last.sum(1) > 0).astype(np.int64)
    chances = {
        "forecast": 1 - parts[:, -1],
        "own rate": usual.own_chance(latest),
        "last value": usual.again[recent],
        "global rate": np.full(len(latest), 1 - usual.parts[-1]),
    }
    found.append(
        {
            "quantity": "any event",
            "loss": "log loss",
            **{n: _log_loss(np.stack([1 - p, p], axis=1), there) for n, p in chances.items()},
            "calibration": chances["forecast"].sum() / max(there.sum(), 1e-12),
        }
    )
    some = there > 0
    if kinds.column is not None and some.any():
        shares = {
            "forecast": next_kinds,
            "own rate": own / own.sum(1, keepdims=True),
            "last value": usual.after[latest.last_kind],
            "global rate": usual.kinds * everyone,
        }
        y = latest.next_kind[some]
        likely = next_kinds[some].argmax(1)
        found.append(
            {
                "quantity": f"next {kinds.column}, if any",
                "loss": "log loss",
                **{name: _log_loss(share[some], y) for name, share in shares.items()},
                "calibration": next_kinds[some].max(1).sum() / max((likely == y).sum(), 1e-12),
            }
        )
    amounts = heads.amounts(latest)
    if amounts is not None:
        found.append(_amount_scores(usual, latest, kinds, amounts))
    table: pd.DataFrame = pd.DataFrame(found).set_index("quantity")
    return table


def _amount_scores(usual: _Usual, latest: _Rows, kinds: _Kinds, forecast: Floats) -> dict[str, Any]:
    """Return the mean absolute errors of the amount of the next event, in its unit."""
    has = ~np.isnan(latest.amount)
    actual = kinds.original(latest.amount[has])
    by = {
        "forecast": forecast,
        "own rate": usual.own_amount(latest),
        "last value": usual.last_amount(latest),
        "global rate": np.full(len(latest), usual.amount),
    }
    errors = {name: np.abs(kinds.original(x[has]) - actual).mean() for name, x in by.items()}
    below = (latest.amount[has] < forecast[has]).mean()
    return {
        "quantity": f"next {kinds.amount}, if any",
        "loss": "absolute error",
        **errors,
        "calibration": 2 * below,
    }


# The forecast


def _forecast_all(
    model: TrainedModel,
    events: Events,
    heads: _Heads,
    kinds: _Kinds,
    moment: int,
    horizon: int,
    device: torch.device,
    progress: Progress,
) -> pd.DataFrame:
    """Return the forecasts of all clients with an event before the moment."""
    total, chunks = sequence_chunks(model, events)
    found = []
    with progress.task("forecast", total, "clients") as task:
        for sequences in chunks:
            rows = _at(model, sequences, kinds, moment, horizon, device)
            ids = sequences.client_ids.take(pa.array(rows.client)).to_pandas()
            table = _table(pd.Index(ids, name=model.schema.client), *heads(rows), kinds, horizon)
            amounts = heads.amounts(rows)
            if amounts is not None:
                table[f"next_{kinds.amount}"] = kinds.original(amounts)
            found.append(table)
            task.advance(len(sequences))
    joined: pd.DataFrame = pd.concat(found)
    return joined


def _table(
    ids: pd.Index[Any],
    counts: Floats,
    parts: Floats,
    next_kinds: Floats,
    kinds: _Kinds,
    horizon: int,
) -> pd.DataFrame:
    chance = 1 - parts[:, -1]
    columns: dict[str, Any] = {"count": counts[:, 0]}
    if kinds.column is not None:
        columns |= {f"count={name}": counts[:, 1 + i] for i, name in enumerate(kinds.names)}
    columns |= {"any": chance, "days_to_next": _median(parts[:, :-1], horizon / DAY_US)}
    if kinds.column is not None:
        joint = next_kinds * chance[:, None]
        columns |= {f"next={name}": joint[:, i] for i, name in enumerate(kinds.names)}
        whole = np.concatenate([joint, 1 - chance[:, None]], axis=1)
        columns["next"] = np.array([*kinds.names, kinds.none], dtype=object)[whole.argmax(1)]
    frame: pd.DataFrame = pd.DataFrame(columns, index=ids)
    return frame


def _median(parts: Floats, days: float) -> Floats:
    """Return (R,) the time by which an event has the probability one half, NaN if never."""
    known = np.concatenate([np.zeros((len(parts), 1)), parts.cumsum(1)], axis=1)
    reached = known[:, -1] >= 0.5
    part = np.minimum((known < 0.5).sum(1), parts.shape[1]) - 1
    row = np.arange(len(parts))
    within = (0.5 - known[row, part]) / np.maximum(parts[row, part], 1e-12)
    return np.where(reached, (part + within) * days / parts.shape[1], np.nan)
