"""Compare inferred column roles with roles assigned by hand, on real and derived tables.

    python benchmarks/schema_inference.py [FOLDER]

FOLDER holds a folder for each data set, each with events.parquet (or transactions.parquet); what is
not there is passed over. Of each table one line: how many columns have the role that is right, how
many numbers the category within which they are scaled, and what differs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from seqmel.data.fitting.schema_inference import infer_schema
from seqmel.data.schema import EventSchema, SchemaOptions
from seqmel.data.sources.reading import open_events

ROWS = 200_000
CODE = "a category"
NUMBER = "a number"
TEXT = "a text"
OUT = "left out"
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


def main(folder: Path) -> None:
    """Print a line a table, and the agreement of all."""
    right = columns = 0
    for name, events, expected in tables(folder):
        options = SchemaOptions(client="client_id", time="event_time")
        found = roles(infer_schema(open_events(events), options), expected)
        wrong = [
            f"{c}: {found[c]}, by hand {role}" for c, role in expected.items() if found[c] != role
        ]
        right = right + len(expected) - len(wrong)
        columns = columns + len(expected)
        print(
            f"{name:50s} {len(expected) - len(wrong):3d} of {len(expected):3d}  {'; '.join(wrong)}",
            flush=True,
        )
    print(f"{'all':50s} {right:3d} of {columns:3d}")


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
        table = (f"{name}, nameless", events, by_hand)
        yield renamed(table)
        yield renamed(as_codes((f"{name}, texts as shuffled codes, nameless", events, by_hand)))
        if any(role not in (CODE, TEXT, OUT) for role in by_hand.values()):
            yield renamed(as_whole_numbers((f"{name}, whole numbers, nameless", events, by_hand)))
        if len(events.columns) < 6:
            yield renamed(with_noise((f"{name}, 60 columns of noise, nameless", events, by_hand)))


def renamed(table: Table) -> Table:
    """Columns called c1 to cn."""
    name, events, by_hand = table
    names = {c: f"c{i}" for i, c in enumerate(by_hand, 1)}
    return (
        name,
        events.rename(columns=names),
        {names[c]: names.get(role, role) for c, role in by_hand.items()},
    )


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
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data"))
