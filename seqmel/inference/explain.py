"""Reasons for a score: what each event, column and fact of a client adds to a prediction."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor

from seqmel.core.device import disable_tf32, resolve_device, with_own_defaults
from seqmel.core.errors import (
    ConfigError,
    InputError,
    ModelError,
    SchemaError,
    did_you_mean,
    shown,
)
from seqmel.core.progress import Reporting, as_progress
from seqmel.core.random_streams import Stream, generator
from seqmel.core.units import count_words
from seqmel.data.encoding.event_encoding import encode
from seqmel.data.sequences.batch import SequenceBatch
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.sequences.prepared import is_prepared
from seqmel.data.sources.checking import time_sql
from seqmel.data.sources.client_ids import listed_ids
from seqmel.data.sources.reading import Events, only_clients
from seqmel.data.sources.source import ROW, EventSource, ident
from seqmel.data.tables.facts import read_facts
from seqmel.data.tables.labels import Table, plain_id
from seqmel.data.tables.targets import Target
from seqmel.inference.as_of import moment_us
from seqmel.inference.attribution import Score, Walk
from seqmel.inference.embed import finite, open_events_for
from seqmel.inference.predict import check_facts, heads_of, predict_outputs
from seqmel.model import TrainedModel

__all__ = ["explain"]

_WORK = 300_000
"""Events to run the network over for one client, if the number of orders is not given."""
_FEWEST_PAIRS = 2
_MOST_PAIRS = 64

Floats = npt.NDArray[np.float64]


@with_own_defaults
@torch.inference_mode()
def explain(
    model: TrainedModel,
    events: Events,
    clients: Any,
    *,
    target: str | None = None,
    near: Any = None,
    facts: Table | None = None,
    as_of: str | dt.date | int | None = None,
    last: int = 200,
    orders: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Reporting = None,
) -> pd.DataFrame:
    """Explain what moved the prediction, or the vector, of some clients.

    `Model.explain` has the arguments, the result and the errors; see `seqmel.inference.attribution`
    for the values.
    """
    reporter = as_progress(progress)
    placed = resolve_device(device)
    _check(model, events, last=last, orders=orders, target=target, near=near)
    chosen = None if near is not None else _chosen(model, target)
    _check_given_facts(model, facts, chosen)
    ids = _texts(clients)
    given = None if facts is None else read_facts(
        facts, likely=model.schema.client, known=model.facts
    )  # fmt: skip
    moment = None if as_of is None else moment_us(model, as_of)
    encoder = model.encoder.to(placed).eval()

    def vectors(batch: SequenceBatch) -> Tensor:
        return finite(encoder.embed(batch.to(placed)).float().cpu())

    wanted = list(dict.fromkeys([*ids, *([] if near is None else [plain_id(near)])]))
    histories = _histories(model, events, wanted, moment)
    other = None if near is None else vectors(histories[plain_id(near)].batch)[0]
    found = []
    with disable_tf32(placed), reporter.task("explain", len(ids), "clients") as task:
        for one in ids:
            history = histories[one]
            if given is not None and model.facts is not None and chosen is not None:
                history = replace(history, facts=_facts_of(model, given, one))
            if chosen is not None:
                score, output = _prediction(model, vectors, *chosen, history)
            else:
                score, output = _similarity(vectors, history, near, other)
            found.append(_explained(model, history, score, output, last, orders, seed))
            task.advance()
    table: pd.DataFrame = pd.concat(found, ignore_index=True)
    return table


def _check(
    model: TrainedModel,
    events: Events,
    *,
    last: int,
    orders: int | None,
    target: str | None,
    near: Any,
) -> None:
    if last < 1:
        raise ConfigError(f"last is {last}. Expected a whole number of at least 1.")
    if orders is not None and orders < 1:
        raise ConfigError(f"orders is {orders}. Expected a whole number of at least 1.")
    if target is not None and near is not None:
        raise ConfigError("target cannot be combined with near. Leave one of them out.")
    if model.statistics is None:
        raise ModelError(
            "The model has no distribution of its training events, which stands for unknown "
            "values: it was trained by an earlier version. Train it again."
        )
    if is_prepared(events):
        raise ConfigError(
            f"{events} is a folder of prepared sequences, which does not hold the values of the "
            "events. Give the events."
        )
    columns = ("output", "part", "event", "time", "source", "column", "value", "contribution")
    if model.schema.client in (*columns, "error"):
        raise SchemaError(
            f"The client column {model.schema.client!r} has the name of a column of the reasons. "
            "Rename it in the events and train again."
        )


def _chosen(model: TrainedModel, target: str | None) -> tuple[int, str] | None:
    """Return the index of the target and the prediction column; None for a model without heads."""
    if model.heads is None and target is None:
        return None
    heads_of(model)
    names = [one.name for one in model.targets]
    if target is None:
        if len(names) > 1:
            raise ConfigError(f"The model predicts {shown(names)}. Name one with target.")
        return 0, names[0]
    for i, one in enumerate(model.targets):
        if target in one.columns:
            return i, target
    known = [column for one in model.targets for column in one.columns]
    raise ConfigError(
        f"The model does not predict {target!r}.{did_you_mean(target, known)} It predicts: "
        f"{shown(known)}."
    )


def _check_given_facts(
    model: TrainedModel, facts: Table | None, chosen: tuple[int, str] | None
) -> None:
    if chosen is not None:
        check_facts(model, given=facts is not None)
    elif facts is not None:
        raise ConfigError("Vectors do not depend on facts about clients. Leave them out.")


def _texts(clients: Any) -> list[str]:
    """Return ids as text, each once."""
    ids = list(dict.fromkeys(map(plain_id, listed_ids(clients))))
    if not ids:
        raise ConfigError("No client to explain is named.")
    return ids


@dataclass(frozen=True)
class _History:
    """What the model sees of one client.

    Attributes:
        client: its id.
        batch: one sequence of n events.
        values: n rows: the time and the features as they were given.
        first: number of the first of these events in the whole history, from 1 on.
        facts: (1, facts) the encoded facts and (1, columns) their values; None without.
    """

    client: Any
    batch: SequenceBatch
    values: pd.DataFrame
    first: int
    facts: tuple[npt.NDArray[np.float32], pd.DataFrame] | None = None


def _histories(
    model: TrainedModel, events: Events, ids: Sequence[str], moment: int | None
) -> dict[str, _History]:
    """Return the history of each client, cut as embedding cuts it."""
    source = open_events_for(model, events)
    client = model.schema.client
    example = source.row(f"SELECT min({ident(client)})::VARCHAR FROM events")[0]
    label = source.label
    source = only_clients(source, client, pa.table({"id": list(ids)}))
    batches = encode(source, model.schema, model.vocabulary)
    sequences = EncodedSequences.from_batches(batches, time=model.schema.time)
    places = {plain_id(one): i for i, one in enumerate(sequences.client_ids.to_pylist())}
    found = {}
    for one in ids:
        place = places.get(one)
        if place is None or not int(sequences.lengths[place]):
            source.connection.close()
            raise InputError(
                f"Client {one!r} has no events in {label}. It has clients such as {example!r}."
            )
        at = torch.tensor([place])
        known = sequences if moment is None else sequences.as_of(at, torch.tensor([moment]))
        at = at if moment is None else torch.tensor([0])
        batch = known.gather_last(at, max_events=model.config.embedding.max_events)
        end = int(known.lengths[at[0]])
        begin = end - batch.events
        raw = _raw_values(source, model, one).iloc[begin:end]
        found[one] = _History(known.client_ids[int(at[0])].as_py(), batch, raw, begin + 1)
    source.connection.close()
    return found


def _raw_values(source: EventSource, model: TrainedModel, client: str) -> pd.DataFrame:
    """Return the time and the features of the events of a client, in the order of the sequence."""
    schema = model.schema
    source.connection.register("one_id", pa.table({"id": [client]}))
    features = [f"{ident(name)}::VARCHAR AS {ident(name)}" for name in schema.features]
    rows = source.stream(
        f"SELECT {', '.join([ident(schema.time), *features])} FROM events WHERE "
        f"{ident(schema.client)}::VARCHAR IN (SELECT id FROM one_id) "
        f"ORDER BY {time_sql(source, schema)}, {ROW}",
        65_536,
    ).read_all()
    source.connection.unregister("one_id")
    frame: pd.DataFrame = rows.to_pandas()
    return frame


def _facts_of(
    model: TrainedModel, given: pd.DataFrame, client: str
) -> tuple[npt.NDArray[np.float32], pd.DataFrame]:
    """Return the encoded facts of a client, and their values; nulls if there is no row."""
    assert model.facts is not None
    rows = given[given.index.map(plain_id) == client]
    if not len(rows):
        return model.facts.nothing(1), pd.DataFrame([dict.fromkeys(model.facts.names)])
    return model.facts.encode(rows), rows


def _prediction(
    model: TrainedModel,
    vectors: Callable[[SequenceBatch], Tensor],
    which: int,
    column: str,
    history: _History,
) -> tuple[Score, str]:
    """Return the score of a prediction column, and the column."""
    heads = heads_of(model)
    target = model.targets[which]

    def outputs(batch: SequenceBatch, facts: npt.NDArray[np.float32] | None) -> Floats:
        return predict_outputs(heads, vectors(batch), facts)[which]

    if target.edges and column == target.name:  # a median may lie beyond the last bound
        column = target.columns[len(target.edges) // 2]
    elif target.task == "regression":
        return lambda batch, facts: np.asarray(target.predicted(outputs(batch, facts))), column
    elif column == target.name:
        facts = None if history.facts is None else history.facts[0]
        column = _most_likely(target, outputs(history.batch, facts))
    place = target.columns.index(column)
    return lambda batch, facts: target.chances(outputs(batch, facts))[:, place], column


def _most_likely(target: Target, outputs: Floats) -> str:
    return target.columns[int(outputs[0].argmax())]


def _similarity(
    vectors: Callable[[SequenceBatch], Tensor],
    history: _History,
    near: Any,
    other: Tensor | None,
) -> tuple[Score, str]:
    """Return the cosine with the vector of another client, or with the client's own, and words."""
    aim = (vectors(history.batch)[0] if other is None else other).double()
    aim = aim / aim.norm().clamp(min=1e-300)

    def score(batch: SequenceBatch, _: npt.NDArray[np.float32] | None) -> Floats:
        rows = vectors(batch).double()
        return np.asarray((rows @ aim / rows.norm(dim=1).clamp(min=1e-300)).numpy())

    return score, "cosine with its own vector" if other is None else f"cosine with {near}"


def _explained(
    model: TrainedModel,
    history: _History,
    score: Score,
    output: str,
    last: int,
    orders: int | None,
    seed: int,
) -> pd.DataFrame:
    """Return the rows of one client."""
    facts = None if history.facts is None else history.facts[0]
    walk = Walk(model, history.batch, score, facts=facts, last=last)
    pairs = orders or min(_MOST_PAIRS, max(_FEWEST_PAIRS, _WORK // (2 * walk.work)))
    random = np.random.default_rng(generator(seed, Stream.EXPLAIN).initial_seed())
    walked = [[walk.contributions(one) for one in both] for both in walk.orders(pairs, random)]
    found = np.array(walked).mean(1)
    error = found.std(0, ddof=1) / pairs**0.5 if pairs > 1 else np.full(walk.items, np.nan)
    frame = _rows(model, history, walk, found.mean(0), error)
    frame.insert(0, model.schema.client, [history.client] * len(frame))
    frame.insert(1, "output", output)
    return frame


def _rows(
    model: TrainedModel,
    history: _History,
    walk: Walk,
    contribution: Floats,
    error: Floats,
) -> pd.DataFrame:
    schema = model.schema
    several = model.schema.source
    time = history.values[schema.time]
    rows: list[dict[str, Any]] = [
        {"part": "baseline", "contribution": walk.baseline(), "error": 0.0}
    ]

    def add(item: int, part: str, column: str | None, value: Any, event: int | None = None) -> None:
        row: dict[str, Any] = {
            "part": part,
            "column": column,
            "value": None if pd.isna(value) else str(value),
        }
        if event is not None:
            row |= {"event": history.first + event, "time": time.iloc[event]}
            row |= {} if several is None else {"source": history.values[several].iloc[event]}
        rows.append(row | {"contribution": contribution[item], "error": error[item]})

    if history.facts is not None and model.facts is not None:
        for i, name in enumerate(model.facts.names):
            add(walk.events * walk.size + 1 + i, "fact", name, history.facts[1][name].iloc[0])
    if walk.earlier:
        add(walk.events * walk.size, "earlier events", None, count_words(walk.earlier, "event"))
    for event in range(walk.earlier, walk.events):
        add(event * walk.size, "event", schema.time, time.iloc[event], event)
        for i, name in enumerate(walk.columns):
            if walk.has[event, i]:
                value = history.values[name].iloc[event]
                add(event * walk.size + 1 + i, "event", name, value, event)
    names = ["part", "event", "time", "source", "column", "value", "contribution", "error"]
    frame: pd.DataFrame = pd.DataFrame(
        rows, columns=[n for n in names if n != "source" or several is not None]
    )
    frame["event"] = frame["event"].astype("Int64")
    frame[["column", "value"]] = (
        frame[["column", "value"]].astype(object).where(frame[["column", "value"]].notna(), None)
    )
    frame["time"] = frame["time"].astype(time.dtype if len(time) else object)
    return frame
