"""Keep the text of CSV files beside the parsed values.

Whether `1.50` is a number or a version name is known to the model that gets the events later. So
text that a number, boolean or date does not give back is kept. `with_texts` of `csv_files` uses it
when a model needs it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from seqmel.data.sources.checking import category_text
from seqmel.data.sources.csv_files import csv_sql, read_as_text
from seqmel.data.sources.source import ROW, EventSource, ident, row_of_table

__all__ = ["with_texts_beside"]


def with_texts_beside(
    source: EventSource, files: Sequence[str], others: Collection[str]
) -> tuple[EventSource, dict[str, str]]:
    """Add text columns to the events.

    Args:
        source: Events of CSV files, from `open_events`.
        files: The CSV files.
        others: Columns that cannot be categories.

    Returns:
        The events with more columns, and column -> the name of the column with its text.
    """
    if (
        read_as_text(source.connection, files, dict.fromkeys(source.columns, "NULL"), "texts")
        is None
    ):
        source.query(
            f"CREATE OR REPLACE TABLE texts AS FROM {csv_sql(files, list(source.columns))}"
        )
    names = _lost(
        source, [c for c, kind in source.columns.items() if kind != "VARCHAR" and c not in others]
    )
    texts = {name: f"__text_{i}" for i, name in enumerate(names)}
    if texts:
        source.query("ALTER VIEW events RENAME TO events_alone")
        chosen = ", ".join(f"texts.{ident(name)} AS {text}" for name, text in texts.items())
        source.query(
            f"CREATE VIEW events AS SELECT events_alone.*, {chosen} FROM events_alone JOIN "
            f"{_placed(source)} ON __place = {ROW}"
        )
    return replace(source, columns=source.columns | dict.fromkeys(texts.values(), "VARCHAR")), texts


def _lost(source: EventSource, names: list[str]) -> list[str]:
    """Return the columns where some value, as a category, differs from the text of the file."""
    if not names:
        return []
    made = ", ".join(f"{category_text(source, name)} AS {ident(name)}" for name in names)
    lost = ", ".join(
        f"bool_or(made.{ident(name)} IS DISTINCT FROM texts.{ident(name)})" for name in names
    )
    found = source.row(
        f"SELECT {lost} FROM (SELECT {made}, {ROW} FROM events) made JOIN {_placed(source)} ON "
        f"__place = made.{ROW}"
    )
    return [name for name, is_lost in zip(names, found, strict=True) if is_lost]


def _placed(source: EventSource) -> str:
    """Return SQL for the table `texts` with the position of each row."""
    return f"(SELECT *, {row_of_table(source.connection, 'texts')} AS __place FROM texts) texts"
