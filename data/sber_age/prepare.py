"""Sberbank age group: raw CSV files as published -> Parquet.

Wanted in RAW_FOLDER, plain or gzipped (the Hugging Face data set dllllb/age-group-prediction has
them):

    transactions_train.csv   client_id, trans_date (a day number), small_group, amount_rur
    train_target.csv         client_id, bins

What comes out, in OUT_FOLDER:

    events.parquet    client_id, event_day, small_group, amount; sorted by client and day, then as
    in the file clients.parquet   client_id, age_group
"""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _common import INTEGER, NUMBER, load, main, refuse_repeats

FILES = [("transactions_train.csv",), ("train_target.csv",)]
EVENT_COLUMNS = {
    "client_id": INTEGER,
    "trans_date": INTEGER,
    "small_group": INTEGER,
    "amount_rur": NUMBER,
}
TARGET_COLUMNS = {"client_id": INTEGER, "bins": INTEGER}

EVENTS = """
    SELECT client_id, trans_date AS event_day, small_group, amount_rur AS amount
    FROM trans ORDER BY client_id, trans_date, trans.rowid"""

CLIENTS = "SELECT client_id, bins AS age_group FROM target ORDER BY client_id"


def convert(con: duckdb.DuckDBPyConnection, events: Path, target: Path) -> dict[str, str]:
    load(con, "trans", events, EVENT_COLUMNS)
    load(con, "target", target, TARGET_COLUMNS)
    refuse_repeats(con, "target", "client_id", target)
    return {"events": EVENTS, "clients": CLIENTS}


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, FILES, convert))
