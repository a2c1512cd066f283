"""The feature sets that are compared, and their names: aggregates, vectors, and both joined."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.api.types import is_float_dtype

from seqmel.data.tables.labels import id_positions, join_features, locate_ids

if TYPE_CHECKING:
    from seqmel.data.schema import EventSchema
    from seqmel.data.sources.source import EventSource
    from seqmel.inference.as_of import Moments

__all__ = [
    "AGGREGATES",
    "BASELINES",
    "FACTS",
    "WITH_ORDER",
    "aggregate_sets",
    "beside_aggregates",
    "beside_facts",
    "few_label_probes",
    "reference",
    "standard_rows",
    "vectors_alone",
    "with_both",
    "with_facts",
]

AGGREGATES = "aggregates"
"""Hand-crafted aggregates that do not depend on the event order."""

WITH_ORDER = "aggregates with order"
"""The aggregates with hand-crafted features of the event order: the baseline for vectors."""

BASELINES = (AGGREGATES, WITH_ORDER)

FACTS = "facts"
"""Facts about the clients: the user's own table with one row per client."""


def aggregate_sets(
    source: EventSource, schema: EventSchema, moments: Moments | None = None
) -> dict[str, pd.DataFrame]:
    """Compute the aggregates of every client, without and with features of the event order.

    Args:
        source: the events.
        schema: the role of each column of the events.
        moments: clients and moments. Each gets one row, computed from the client's events before
            the moment. None computes one row per client from all events.

    Returns:
        Name of the feature set -> (clients, features) table.

    Raises:
        InputError, SchemaError: a column is missing, or a client id or time is null or cannot be
            read.
    """
    from seqmel.evaluation.aggregates import AggregatePlan

    plan = AggregatePlan.fit(source, schema, order=True)
    table = plan.compute(source, moments)
    return {AGGREGATES: table.iloc[:, : len(plan.plain_columns)], WITH_ORDER: table}


def reference(sets: Collection[str]) -> str | None:
    """Return the feature set that others are compared with.

    Args:
        sets: names of the feature sets.

    Returns:
        "aggregates with order" if it is among them, else "aggregates", else None.
    """
    return next((name for name in reversed(BASELINES) if name in sets), None)


def with_both(
    vectors: Mapping[str, pd.DataFrame], aggregates: Mapping[str, pd.DataFrame]
) -> dict[str, pd.DataFrame]:
    """Combine vectors and aggregates into the feature sets to score.

    Args:
        vectors: name -> (clients, dimensions) table.
        aggregates: name -> (clients, features) table.

    Returns:
        The aggregates, each set of vectors, and each set of vectors joined with the best baseline.
    """
    sets = dict(aggregates)
    baseline = reference(aggregates)
    for name, table in vectors.items():
        sets[name] = table
        if baseline is not None:
            sets[beside_aggregates(name, baseline)] = join_features(table, aggregates[baseline])
    return sets


def with_facts(
    sets: Mapping[str, pd.DataFrame], facts: pd.DataFrame, rows: pd.Index[Any]
) -> dict[str, pd.DataFrame]:
    """Add facts about the clients to the feature sets to score.

    Text becomes codes, the most frequent value first. A client without facts has nulls.

    Args:
        sets: name -> one row per client (and moment), as from `with_both`.
        facts: facts about the clients, as from `read_facts`.
        rows: the clients (and moments) that have a label.

    Returns:
        The sets, the facts alone, and each set but the plain aggregates joined with the facts.

    Raises:
        InputError: no client has facts.
    """
    clients = rows.get_level_values(0)
    place = id_positions(clients, facts.index)
    if (place < 0).all():
        locate_ids(clients.unique(), facts.index, of="facts")
    most = np.finfo(np.float32).max
    columns = {
        f"fact_{name}": values.clip(-most, most) if is_float_dtype(values) else _codes(values)
        for name, values in facts.items()
    }
    coded = pd.DataFrame(columns).reset_index(drop=True).reindex(place).set_axis(rows, axis=0)
    left_out = AGGREGATES if WITH_ORDER in sets else None
    beside = {
        beside_facts(name): join_features(table, coded)
        for name, table in sets.items()
        if name != left_out
    }
    return {**sets, FACTS: coded, **beside}


def _codes(values: pd.Series[Any]) -> pd.Series[Any]:
    """Return codes of text in the order of frequency; NaN for nulls."""
    order = values.value_counts().sort_index().sort_values(ascending=False, kind="stable").index
    codes: pd.Series[Any] = values.map({value: i for i, value in enumerate(order)}).astype(float)
    return codes


def beside_facts(name: str) -> str:
    """The name of a feature set joined with facts about the clients."""
    return f"{name} + {FACTS}"


def beside_aggregates(name: str, baseline: str = WITH_ORDER) -> str:
    """The name of a feature set joined with a baseline."""
    return f"{name} + {baseline}"


def vectors_alone(sets: Collection[str]) -> list[str]:
    """The names of the feature sets that hold vectors only."""
    behind = (*(beside_aggregates("", baseline) for baseline in BASELINES), beside_facts(""))
    others = (*BASELINES, FACTS)
    return [name for name in sets if name not in others and not name.endswith(behind)]


def few_label_probes(sets: Collection[str]) -> dict[str, str]:
    """The linear probes of a label curve, on vectors alone and on the reference aggregates.

    Args:
        sets: names of the feature sets.

    Returns:
        Name of the probe -> feature set, the `probes` of `label_curve`.
    """
    baseline = reference(sets)
    return {
        f"{name}: linear": name
        for name in (*([baseline] if baseline else []), *vectors_alone(sets))
    }


def standard_rows(sets: Collection[str]) -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    """The standard probes and averages, scored besides LightGBM on each feature set.

    Every set of vectors alone gets a linear probe. If there are aggregates, the predictions of the
    probe are also averaged with those of LightGBM on the best aggregates, without and with facts,
    so that each set is read by the model that suits it.

    Args:
        sets: names of the feature sets.

    Returns:
        `probes` and `averages`, as `score` takes them.
    """
    vectors = vectors_alone(sets)
    baseline = reference(sets)
    probes = {f"{name}: linear": name for name in vectors}
    if baseline is None:
        return probes, {}
    beside = (set_ for set_ in (baseline, beside_facts(baseline)) if set_ in sets)
    return probes, {
        f"{name}: linear, {other}: averaged": (f"{name}: linear", other)
        for other in beside
        for name in vectors
    }
