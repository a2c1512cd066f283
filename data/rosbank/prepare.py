"""Rosbank churn: the raw CSV file as published -> Parquet.

Wanted in RAW_FOLDER, plain or gzipped (the Hugging Face data set dllllb/rosbank-churn has it):

    train.csv   cl_id, MCC, channel_type (may be empty), currency, TRDATETIME (such as
    21OCT17:00:00:00), amount,
                trx_category, target_flag (the same in all rows of a client); further columns are
                left out

What comes out, in OUT_FOLDER:

    events.parquet    client_id, event_time, mcc, channel_type, currency, amount, trx_category;
    sorted by client and
                      time, then as in the file
    clients.parquet   client_id, churn

The target columns (target_flag, target_sum) are not in the events: a model would learn them by
heart.
"""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _common import INTEGER, NUMBER, TEXT, TEXT_OR_NULL, Column, load, main, refuse

FILES = [("train.csv",)]
COLUMNS = {
    "cl_id": INTEGER,
    "MCC": INTEGER,
    "channel_type": TEXT_OR_NULL,
    "currency": INTEGER,
    "TRDATETIME": Column("try_strptime({0}, '%d%b%y:%H:%M:%S')"),
    "amount": NUMBER,
    "trx_category": TEXT,
    "target_flag": INTEGER,
}

EVENTS = """
    SELECT cl_id AS client_id, TRDATETIME::TIMESTAMP_MS AS event_time, MCC AS mcc, channel_type,
           currency, amount,
           trx_category
    FROM trans ORDER BY cl_id, TRDATETIME, trans.rowid"""

CLIENTS = (
    "SELECT cl_id AS client_id, min(target_flag) AS churn FROM trans GROUP BY cl_id ORDER BY cl_id"
)

TWO_TARGETS = """
    SELECT cl_id, min(target_flag), max(target_flag) FROM trans
    GROUP BY cl_id HAVING min(target_flag) <> max(target_flag) ORDER BY cl_id"""


def convert(con: duckdb.DuckDBPyConnection, path: Path) -> dict[str, str]:
    load(con, "trans", path, COLUMNS)
    refuse(con, TWO_TARGETS, path, "cl_id {} has both {} and {} as target_flag")
    return {"events": EVENTS, "clients": CLIENTS}


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, FILES, convert))
