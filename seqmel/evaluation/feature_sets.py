"""The sets of features that are compared: hand-crafted aggregates, vectors, and both beside each other; and their names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import pandas as pd

from seqmel.data.tables.labels import beside

if TYPE_CHECKING:
    from seqmel.data.schema import EventSchema
    from seqmel.data.sources.source import EventSource
    from seqmel.inference.as_of import Moments

__all__ = [
    "AGGREGATES",
    "BASELINES",
    "WITH_ORDER",
    "aggregate_sets",
    "beside_aggregates",
    "few_label_probes",
    "reference",
    "standard_rows",
    "vectors_alone",
    "with_both",
]

AGGREGATES = "aggregates"
"""Hand-crafted aggregates that no permutation of a client's events changes."""

WITH_ORDER = "aggregates with order"
"""The same with hand-crafted features of the order of events: what vectors are compared with."""

BASELINES = (AGGREGATES, WITH_ORDER)


def aggregate_sets(source: EventSource, schema: EventSchema, moments: Moments | None = None) -> dict[str, pd.DataFrame]:
    """The aggregates of every client, plain and with the order of events.

    Args:
        source: the events.
        schema: which column is what.
        moments: clients and moments, for aggregates of the events before these; see `AggregatePlan.compute`.
    """
    from seqmel.evaluation.aggregates import AggregatePlan

    plan = AggregatePlan.fit(source, schema, order=True)
    table = plan.compute(source, moments)
    return {AGGREGATES: table.iloc[:, : len(plan.plain_columns)], WITH_ORDER: table}


def reference(sets: Collection[str]) -> str | None:
    """The set of features that the others are compared with: the best of the baselines that is there, if any."""
    return next((name for name in reversed(BASELINES) if name in sets), None)


def with_both(vectors: Mapping[str, pd.DataFrame], aggregates: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The aggregates, each set of vectors, and each of these beside the aggregates, with order where these have it."""
    sets = dict(aggregates)
    baseline = reference(aggregates)
    for name, table in vectors.items():
        sets[name] = table
        if baseline is not None:
            sets[beside_aggregates(name, baseline)] = beside(table, aggregates[baseline])
    return sets


def beside_aggregates(name: str, baseline: str = WITH_ORDER) -> str:
    """The name of a set of features that has the columns of a baseline too."""
    return f"{name} + {baseline}"


def vectors_alone(sets: Collection[str]) -> list[str]:
    """Those sets of features that are vectors without aggregates beside."""
    behind = tuple(beside_aggregates("", baseline) for baseline in BASELINES)
    return [name for name in sets if name not in BASELINES and not name.endswith(behind)]


def few_label_probes(sets: Collection[str]) -> dict[str, str]:
    """The linear probes of a label curve: of vectors alone, and of the aggregates that they are compared with."""
    baseline = reference(sets)
    return {f"{name}: linear": name for name in (*([baseline] if baseline else []), *vectors_alone(sets))}


def standard_rows(sets: Collection[str]) -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    """What is scored of vectors besides LightGBM on each set: `probes` and `averages`, as `score` takes them.

    Every set of vectors alone is read by a linear probe; where there are aggregates, that probe is averaged with LightGBM
    on the best of these: each set is read by the model that suits it.
    """
    vectors, baseline = vectors_alone(sets), reference(sets)
    probes = {f"{name}: linear": name for name in vectors}
    if baseline is None:
        return probes, {}
    return probes, {f"{name}: linear, {baseline}: averaged": (f"{name}: linear", baseline) for name in vectors}
