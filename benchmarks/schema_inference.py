"""Compare inferred column roles with roles assigned by hand, on real and derived tables.

    python benchmarks/schema_inference.py [FOLDER] [ROWS_FILE]

FOLDER holds a folder for each data set, each with events.parquet (or transactions.parquet); what is
not there is passed over. Of each table one line: how many columns have the role that is right, how
many numbers the category within which they are scaled, and what differs. ROWS_FILE gets the same as
JSON for research/data/schema_inference.json.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rows import write_rows

from seqmel.data.fitting.schema_inference import infer_schema
from seqmel.data.schema import EventSchema, SchemaOptions
from seqmel.data.sources.reading import open_events

ROWS = 200_000
CODE = "a category"
NUMBER = "a number"
TEXT = "a text"
OUT = "left out"
NAMELESS = ", nameless"
BASEBALL = (
    ("games gs innouts po a e dp bat_ab bat_r bat_h bat_hr bat_rbi bat_sb bat_cs bat_bb "
"bat_so").split()
)  # fmt: skip
BY_HAND: dict[str, dict[str, str]] = {
    "physionet2012": {"parameter": CODE, "value": "parameter"},
    "nafld": {"kind": CODE, "value": "kind"},
    "online_retail": {
        "invoice_no": OUT,
        "stock_code": CODE,
        "description": TEXT,
        "quantity": NUMBER,
        "unit_price": NUMBER,
        "amount": NUMBER,
        "is_cancel": CODE,
    },
    "assist2009": dict.fromkeys(["skill", "problem", "correct"], CODE),
    "bpic2013": dict.fromkeys(["activity", "status", "group", "role", "impact", "country"], CODE),
    "pendigits": {"x": NUMBER, "y": NUMBER},
    "berka": dict.fromkeys(["type", "operation", "k_symbol", "bank"], CODE)
    | {"amount": "operation", "balance": NUMBER},
    "baseball": dict.fromkeys(["kind", "team", "league", "position"], CODE)
    | dict.fromkeys(BASEBALL, NUMBER),
    "eshop": dict.fromkeys(["category", "model", "colour", "location", "photo"], CODE)
    | {"price": NUMBER, "shop_page": NUMBER},
}
"""Data set -> column -> its role; of a number that is scaled within a category, the category."""

Table = tuple[str, pd.DataFrame, dict[str, str]]


def main(folder: Path, rows_file: Path | None = None) -> None:
    """Print a line per table, and the agreement of all."""
    rows = []
    for name, events, by_hand in tables(folder):
        expected = by_hand
        if name.endswith(NAMELESS):
            events, expected = renamed(events, by_hand)
        options = SchemaOptions(client="client_id", time="event_time")
        found = roles(infer_schema(open_events(events), options), expected)
        wrong = {
            named: found[c]
            for named, (c, role) in zip(by_hand, expected.items(), strict=True)
            if found[c] != role
        }
        rows.append({"table": name, "columns": len(expected), "other": wrong})
        differ = [f"{c}: {role}, by hand {by_hand[c]}" for c, role in wrong.items()]
        print(f"{name:50s} {_agreement(rows[-1:])}  {'; '.join(differ)}", flush=True)
    print(f"{'all':50s} {_agreement(rows)}")
    if rows_file is not None:
        write_rows(rows_file, rows)


def _agreement(rows: list[dict[str, Any]]) -> str:
    columns = sum(row["columns"] for row in rows)
    return f"{columns - sum(len(row['other']) for row in rows):3d} of {columns:3d}"


def roles(schema: EventSchema, columns: dict[str, str]) -> dict[str, str]:
    """Column -> its role as `BY_HAND` has it."""
    return {
        c: CODE
        if c in schema.categorical
        else schema.numeric_by.get(c, NUMBER)
        if c in schema.numeric
        else TEXT
        if schema.kinds.get(c) == "text"
        else OUT
        for c in columns
    }


def tables(folder: Path) -> Iterator[Table]:
    """The real tables, each followed by those that are made of it."""
    for name, by_hand in BY_HAND.items():
        path = next(
            (
                p
                for p in (folder / name / f"{n}.parquet" for n in ("events", "transactions"))
                if p.exists()
            ),
            None,
        )
        if path is None:
            continue
        events = pd.read_parquet(path).head(ROWS)
        yield name, events, by_hand
        yield f"{name}{NAMELESS}", events, by_hand
        yield as_codes((f"{name}, texts as shuffled codes{NAMELESS}", events, by_hand))
        if any(role not in (CODE, TEXT, OUT) for role in by_hand.values()):
            yield as_whole_numbers((f"{name}, whole numbers{NAMELESS}", events, by_hand))
        if len(events.columns) < 6:
            yield with_noise((f"{name}, 60 columns of noise{NAMELESS}", events, by_hand))


def renamed(events: pd.DataFrame, by_hand: dict[str, str]) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return columns called c1 to cn."""
    names = {c: f"c{i}" for i, c in enumerate(by_hand, 1)}
    roles = {names[c]: names.get(role, role) for c, role in by_hand.items()}
    return events.rename(columns=names), roles


def as_codes(table: Table) -> Table:
    """Texts as whole numbers in random order, floats where some are missing, as pandas has them."""
    name, events, by_hand = table
    draw = np.random.default_rng(0)
    events = events.copy()
    roles = dict(by_hand)
    for column, role in by_hand.items():
        if role == CODE and not pd.api.types.is_numeric_dtype(events[column]):
            values = events[column].dropna().unique()
            codes = dict(zip(values, draw.permutation(len(values)), strict=True))
            events[column] = events[column].map(codes)
        elif role in (TEXT, OUT):  # of texts; as codes they would be other columns
            events = events.drop(columns=column)
            del roles[column]
    return name, events, roles


def as_whole_numbers(table: Table) -> Table:
    """Numbers rounded to whole numbers, in hundredths where they are small."""
    name, events, by_hand = table
    events = events.copy()
    for column, role in by_hand.items():
        if role not in (CODE, TEXT, OUT):
            unit = (
                100 if events[column].abs().median() < 10 and (events[column] % 1 != 0).any() else 1
            )
            events[column] = (events[column] * unit).round().astype("Int64")
    return name, events, by_hand


def with_noise(table: Table) -> Table:
    """Return sixty unrelated columns: fractions, whole numbers and texts in turn."""
    name, events, by_hand = table
    draw = np.random.default_rng(0)
    rows = len(events)
    noise = {
        f"n{i}": draw.normal(size=rows)
        if i % 3 == 0
        else draw.integers(0, 40, rows).astype(int if i % 3 == 1 else str)
        for i in range(60)
    }
    return name, pd.concat([events.reset_index(drop=True), pd.DataFrame(noise)], axis=1), by_hand


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:] or ["../shared/data"]))
