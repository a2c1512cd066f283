"""Berka (PKDD'99 Discovery Challenge, Czech bank): raw files as published -> Parquet.

Wanted in RAW_FOLDER, as .asc or .csv, plain or gzipped (data_berka.zip of the PKDD'99 Discovery
Challenge has them):

    trans    account_id, date, type, operation, amount, balance, k_symbol, bank
    disp     client_id, account_id, type
    client   client_id, birth_number, district_id
    loan     account_id, date, status

What comes out, in OUT_FOLDER; the client of an account is its OWNER:

    events.parquet    client_id, event_time, amount (signed), balance, type, operation, k_symbol,
    bank; sorted by
                      client and day, then as in the file
    clients.parquet   client_id, gender, birth_date, age_on_1998_12_31, age_group, district_id,
    loan_status, loan_date
"""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _common import INTEGER, NUMBER, TEXT, TEXT_OR_NULL, Column, load, main, refuse, refuse_repeats

FILES = [(f"{name}.asc", f"{name}.csv") for name in ("trans", "disp", "client", "loan")]

# YYMMDD, all of it in the 1900s.
DAY = Column("CASE WHEN length({0}) = 6 THEN try_strptime('19' || {0}, '%Y%m%d') END")

# YYMMDD with month + 50 for a woman: in the first digit of the month a 5 or 6 then stands for 0 or
# 1.
IS_WOMAN = "{0}[3] IN ('5', '6')"
BIRTH_DATE = DAY.sql.format("({0}[:2] || translate({0}[3], '56', '01') || {0}[4:])")
BIRTH_NUMBER = Column(f"CASE WHEN {BIRTH_DATE} IS NOT NULL THEN {{0}} END")

TRANS_COLUMNS = {
    "account_id": INTEGER,
    "date": DAY,
    "type": Column("CASE WHEN {0} IN ('PRIJEM', 'VYDAJ', 'VYBER') THEN {0} END"),
    "operation": TEXT_OR_NULL,
    "amount": NUMBER,
    "balance": NUMBER,
    "k_symbol": TEXT_OR_NULL,
    "bank": TEXT_OR_NULL,
}
DISP_COLUMNS = {"client_id": INTEGER, "account_id": INTEGER, "type": TEXT}
CLIENT_COLUMNS = {"client_id": INTEGER, "birth_number": BIRTH_NUMBER, "district_id": INTEGER}
LOAN_COLUMNS = {"account_id": INTEGER, "date": DAY, "status": TEXT}

EVENTS = """
    SELECT client_id, date::TIMESTAMP_MS AS event_time,
           if(type = 'PRIJEM', amount, -amount) AS amount, balance, type,
           operation, k_symbol, bank
    FROM trans JOIN owner USING (account_id) ORDER BY client_id, date, trans.rowid"""

# On the last day of a year everybody has had the birthday of that year, so the years alone give the
# age.
CLIENTS = f"""
    SELECT client_id, if({IS_WOMAN.format("birth_number")}, 'F', 'M') AS gender,
           {BIRTH_DATE.format("birth_number")}::TIMESTAMP_MS AS birth_date,
           1998 - year(birth_date) AS age_on_1998_12_31,
           CASE WHEN age_on_1998_12_31 <= 30 THEN 0 WHEN age_on_1998_12_31 <= 43 THEN 1
                WHEN age_on_1998_12_31 <= 56 THEN 2 ELSE 3 END::BIGINT AS age_group,
           district_id, status AS loan_status, date::TIMESTAMP_MS AS loan_date
    FROM owner JOIN client USING (client_id) LEFT JOIN loan USING (account_id) ORDER BY client_id"""


def convert(
    con: duckdb.DuckDBPyConnection, trans: Path, disp: Path, client: Path, loan: Path
) -> dict[str, str]:
    load(con, "trans", trans, TRANS_COLUMNS)
    load(con, "disp", disp, DISP_COLUMNS)
    load(con, "client", client, CLIENT_COLUMNS)
    load(con, "loan", loan, LOAN_COLUMNS)
    con.execute("CREATE VIEW owner AS SELECT client_id, account_id FROM disp WHERE type = 'OWNER'")
    _check_keys(con, trans, disp, client, loan)
    return {"events": EVENTS, "clients": CLIENTS}


def _check_keys(
    con: duckdb.DuckDBPyConnection, trans: Path, disp: Path, client: Path, loan: Path
) -> None:
    """The joins must neither lose a row nor double one."""
    refuse_repeats(con, "owner", "account_id", disp)
    refuse_repeats(con, "owner", "client_id", disp)
    refuse_repeats(con, "client", "client_id", client)
    refuse_repeats(con, "loan", "account_id", loan)
    orphans = "SELECT account_id FROM trans ANTI JOIN owner USING (account_id) ORDER BY 1"
    refuse(con, orphans, disp, f"no OWNER of account_id {{}}, which is in {trans.name}")
    strangers = "SELECT client_id FROM owner ANTI JOIN client USING (client_id) ORDER BY 1"
    refuse(con, strangers, client, f"no client_id {{}}, which is in {disp.name}")


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, FILES, convert))
