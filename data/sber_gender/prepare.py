"""Sberbank gender: raw CSV files as published -> Parquet.

Wanted in RAW_FOLDER, plain or gzipped (the Hugging Face data set dllllb/transactions-gender has
them):

    transactions.csv   customer_id, tr_datetime ("day hh:mm:ss"), mcc_code, tr_type, amount, term_id
    (may be empty) gender_train.csv   customer_id, gender (customers_gender_train.csv in the copy of
    the contest)

What comes out, in OUT_FOLDER:

    events.parquet    client_id, event_time, mcc_code, tr_type, amount, term_id; sorted by client
    and time, then as in
                      the file
    clients.parquet   client_id, gender

The day number has no known place in the calendar: event_time counts it from 2000-01-01.
"""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _common import INTEGER, NUMBER, TEXT_OR_NULL, Column, load, main, refuse_repeats

FILES = [("transactions.csv",), ("gender_train.csv", "customers_gender_train.csv")]

# Some rows say second 60. Seconds are added on their own, so that such a row lies at the start of
# the next minute.
TIME = Column(r"""
    CASE WHEN regexp_full_match({0}, '\d\d?\d?\d? \d\d:\d\d:([0-5]\d|60)')
         THEN try_strptime('2000-01-01 ' || split_part({0}, ' ', 2)[:5], '%Y-%m-%d %H:%M')
              + to_days(try_cast(split_part({0}, ' ', 1) AS INTEGER))
              + to_seconds(try_cast({0}[-2:] AS INTEGER)) END""")

EVENT_COLUMNS = {
    "customer_id": INTEGER,
    "tr_datetime": TIME,
    "mcc_code": INTEGER,
    "tr_type": INTEGER,
    "amount": NUMBER,
    "term_id": TEXT_OR_NULL,
}
TARGET_COLUMNS = {"customer_id": INTEGER, "gender": INTEGER}

EVENTS = """
    SELECT customer_id AS client_id, tr_datetime::TIMESTAMP_MS AS event_time, mcc_code, tr_type,
           amount, term_id
    FROM trans ORDER BY customer_id, tr_datetime, trans.rowid"""

CLIENTS = "SELECT customer_id AS client_id, gender FROM target ORDER BY client_id"


def convert(con: duckdb.DuckDBPyConnection, events: Path, target: Path) -> dict[str, str]:
    load(con, "trans", events, EVENT_COLUMNS)
    load(con, "target", target, TARGET_COLUMNS)
    refuse_repeats(con, "target", "customer_id", target)
    return {"events": EVENTS, "clients": CLIENTS}


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, FILES, convert))
