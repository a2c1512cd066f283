"""SQL for the encoded events: encoding is a join with tables of the vocabulary."""

from __future__ import annotations

from seqmel.data.kinds.registry import kind_of
from seqmel.data.schema import EventSchema
from seqmel.data.sources.checking import time_sql
from seqmel.data.sources.source import EventSource, ident
from seqmel.data.vocabulary import Vocabulary

__all__ = ["coded_sql", "register_codes"]


def register_codes(source: EventSource, schema: EventSchema, vocabulary: Vocabulary) -> None:
    """Create the tables that `coded_sql` joins.

    Column names begin with two underscores, to avoid clashes with columns of the events. The tables
    are joined as `(FROM table)`, which has no `rowid` to confuse with a column of the events.
    """
    features = vocabulary.features
    for i, column in enumerate(schema.features):
        kind_of(schema, column).register(source, column, i, features[column])


def coded_sql(
    source: EventSource,
    schema: EventSchema,
    vocabulary: Vocabulary,
    keys: tuple[str, ...],
    join: str = "",
) -> str:
    """Return SQL for the encoded events, unordered: `keys`, time and features.

    `register_codes` must run first. There are two steps, because a number may be scaled within a
    category, whose codes are computed in the first one.

    Args:
        source: See `encode`.
        schema: See `encode`.
        vocabulary: See `encode`.
        keys: Further columns of the events or of the join.
        join: SQL that joins more tables to the events.
    """
    features = vocabulary.features
    steps = {
        column: kind_of(schema, column).encode_sql(source, schema, column, i, features[column])
        for i, column in enumerate(schema.features)
    }
    time = f"{time_sql(source, schema)} AS {ident(schema.time)}"
    values = (f"{step.value} AS {ident(column)}" for column, step in steps.items())
    joins = " ".join([join, *(step.join for step in steps.values())])
    coded = f"SELECT {', '.join([*keys, time, *values])} FROM events {joins}"
    scaled = [
        f"{step.scaled} AS {ident(c)}" if step.scaled else ident(c) for c, step in steps.items()
    ]
    chosen = ", ".join([*keys, ident(schema.time), *scaled])
    scale_joins = " ".join(step.scale_join for step in steps.values())
    return f"SELECT {chosen} FROM ({coded}) {scale_joins}"
