"""Describe events: counts, lengths, gaps, and role and contents of each column.

`seqmel describe` prints it.
"""

from __future__ import annotations

from typing import Any

from seqmel.data.kinds.base import QUANTILES
from seqmel.data.kinds.registry import check_events, kind_of
from seqmel.data.schema import EventSchema
from seqmel.data.sources.checking import present_sql, time_sql
from seqmel.data.sources.source import ROW, EventSource, ident, type_in_words

__all__ = ["describe_source"]

_IDS = 3


def describe_source(source: EventSource, schema: EventSchema) -> dict[str, Any]:
    """Return counts, lengths, gaps, and role and contents of each column, as JSON types.

    Args:
        source: opened events.
        schema: the roles of the columns.
    """
    check_events(source, schema)
    client = ident(schema.client)
    moment = time_sql(source, schema)
    quantiles = f"quantile_disc(n, {list(QUANTILES)})"
    events, clients, lengths = source.row(
        f"SELECT sum(n), count(*), {quantiles} FROM (SELECT coalesce(n, 0) AS n FROM "
        f"({source.clients_sql(schema.client)}) a LEFT JOIN (SELECT {client} AS counted, count(*) "
        "AS n FROM events GROUP BY 1) b ON a.client = b.counted)"
    )
    ids = source.rows(
        f"SELECT client FROM ({source.clients_sql(schema.client)}) ORDER BY first LIMIT {_IDS}"
    )
    kind = source.columns[schema.client]
    low, high = source.row(f"SELECT min(t), max(t) FROM (SELECT {moment} AS t FROM events)")
    (gaps,) = source.row(
        f"SELECT quantile_cont(gap, {list(QUANTILES)}) FROM (SELECT (t - lag(t) OVER (PARTITION "
        f"BY c ORDER BY t, r)) / 1e6 AS gap FROM (SELECT {client} AS c, {moment} AS t, {ROW} AS r "
        f"FROM events WHERE hash({client}::VARCHAR) % {max(1, events // 2_000_000)} = 0)) WHERE "
        "gap IS NOT NULL"
    )
    values = ", ".join(map(ident, schema.features))
    repeated, looked_at = source.row(
        "SELECT coalesce(sum(n) FILTER (n > 1), 0), coalesce(sum(n), 0) FROM (SELECT count(*) AS n "
        f"FROM events WHERE hash({client}::VARCHAR) % {max(1, events // 2_000_000)} = 0 GROUP BY "
        f"{client}, {moment}, {values})"
    )
    return {
        "events": events,
        "clients": clients,
        "repeated_events": repeated / max(1, looked_at),
        "nested": source.nested,
        "from_us": low,
        "to_us": high,
        "events_per_client": dict(zip(map(str, QUANTILES), lengths, strict=True)),
        "gap_seconds": dict(zip(map(str, QUANTILES), gaps, strict=True)) if gaps else None,
        "client_ids": {
            "type": type_in_words(kind),
            "first": [client for (client,) in ids],
        },
        "schema": schema.model_dump(mode="json"),
        "columns": {c: _column(source, schema, c) for c in schema.features},
    }


def _column(source: EventSource, schema: EventSchema, column: str) -> dict[str, Any]:
    facts = kind_of(schema, column).facts(source, column, present_sql(schema, column))
    return {"role": schema.role_of(column), **facts}
