from __future__ import annotations

from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

TRANS = (
    '"trans_id";"account_id";"date";"type";"operation";"amount";"balance";"k_symbol";"bank";"account"\r\n'
    '276;2;930312;"PRIJEM";"PREVOD Z UCTU";20236.00;21336.00;" ";"ST";66487163\r\n'
    '3;1;950324;"VYDAJ";"PREVOD NA UCET";14.60;985.40;"SLUZBY";;\r\n'
    '279;2;930312;"VYBER";"VYBER";36.50;21299.50;"";"";\r\n'
    '1;1;950324;"PRIJEM";"VKLAD";1000.00;1000.00;;;\r\n'
    '275;2;930226;"PRIJEM";"";1100.00;1100.00;"UROK";;\r\n'
)
CLIENT = (
    '"client_id";"birth_number";"district_id"\r\n'
    '1;"706213";18\r\n2;"450204";1\r\n3;"405131";1\r\n9;"670101";5\r\n'
)
DISP = (
    '"disp_id";"client_id";"account_id";"type"\r\n'
    '1;9;1;"DISPONENT"\r\n'
    '2;2;1;"OWNER"\r\n'
    '3;1;2;"OWNER"\r\n'
    '4;3;3;"OWNER"\r\n'
)
LOAN = (
    '"loan_id";"account_id";"date";"amount";"duration";"payments";"status"\r\n'
    '4959;2;940105;80952;24;3373.00;"A"\r\n'
)
FILES = {"trans.asc": TRANS, "client.asc": CLIENT, "disp.asc": DISP, "loan.asc": LOAN}


def test_events_belong_to_the_owner_and_debits_are_negative(prepare, tmp_path):
    done = prepare("berka", FILES)
    assert (done.returncode, done.stderr) == (0, "")
    events = pq.read_table(tmp_path / "out/events.parquet")
    text = pa.string()
    kinds = [pa.int64(), pa.timestamp("ms"), pa.float64(), pa.float64(), text, text, text, text]
    assert events.schema.types == kinds
    assert events.to_pydict() == {
        "client_id": [1, 1, 1, 2, 2],
        "event_time": [
            datetime(1993, 2, 26),
            *[datetime(1993, 3, 12)] * 2,
            *[datetime(1995, 3, 24)] * 2,
        ],
        "amount": [1100.0, 20236.0, -36.5, -14.6, 1000.0],
        "balance": [1100.0, 21336.0, 21299.5, 985.4, 1000.0],
        "type": ["PRIJEM", "PRIJEM", "VYBER", "VYDAJ", "PRIJEM"],
        "operation": [None, "PREVOD Z UCTU", "VYBER", "PREVOD NA UCET", "VKLAD"],
        "k_symbol": ["UROK", None, None, "SLUZBY", None],
        "bank": [None, "ST", None, None, None],
    }


def test_clients_are_the_owners_with_gender_and_birth_date_from_the_birth_number(prepare, tmp_path):
    assert prepare("berka", FILES).returncode == 0
    clients = pq.read_table(tmp_path / "out/clients.parquet")
    whole, text, time = pa.int64(), pa.string(), pa.timestamp("ms")
    assert clients.schema.types == [whole, text, time, whole, whole, whole, text, time]
    assert clients.to_pydict() == {
        "client_id": [1, 2, 3],
        "gender": ["F", "M", "F"],
        "birth_date": [datetime(1970, 12, 13), datetime(1945, 2, 4), datetime(1940, 1, 31)],
        "age_on_1998_12_31": [28, 53, 58],
        "age_group": [0, 2, 3],
        "district_id": [18, 1, 1],
        "loan_status": ["A", None, None],
        "loan_date": [datetime(1994, 1, 5), None, None],
    }


@pytest.mark.parametrize(("year", "group"), [(68, 0), (67, 1), (55, 1), (54, 2), (42, 2), (41, 3)])
def test_age_groups_end_at_30_43_and_56(prepare, tmp_path, year, group):
    assert (
        prepare(
            "berka", {**FILES, "client.asc": CLIENT.replace("450204", f"{year}1231")}
        ).returncode
        == 0
    )
    clients = pq.read_table(tmp_path / "out/clients.parquet").to_pylist()
    assert (clients[1]["age_on_1998_12_31"], clients[1]["age_group"]) == (98 - year, group)


def test_the_names_of_the_csv_copies_and_commas_give_the_same(prepare, tmp_path):
    copies = {name.replace("asc", "csv"): text.replace(";", ",") for name, text in FILES.items()}
    assert prepare("berka", copies).returncode == 0
    assert pq.read_table(tmp_path / "out/events.parquet")["amount"].to_pylist() == [
        1100.0,
        20236.0,
        -36.5,
        -14.6,
        1000.0,
    ]


def test_a_missing_file_is_told_with_both_its_names(refused):
    line = refused("berka", {name: text for name, text in FILES.items() if name != "loan.asc"})
    assert line.endswith("raw has no file loan.asc or loan.csv (or the same with .gz)")


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        (
            "loan.asc",
            '"status"',
            '"state"',
            "loan.asc has no column status; it has: loan_id, account_id, date,",
        ),
        (
            "trans.asc",
            '950324;"VYDAJ"',
            '950230;"VYDAJ"',
            "trans.asc: data row 2: cannot read date '950230'",
        ),
        ("trans.asc", '"VYDAJ"', '"DEBIT"', "trans.asc: data row 2: cannot read type 'DEBIT'"),
        (
            "client.asc",
            "450204",
            "454904",
            "client.asc: data row 2: cannot read birth_number '454904'",
        ),
        ("client.asc", '3;"405131";1\r\n', "", "client.asc: no client_id 3, which is in disp.asc"),
        (
            "disp.asc",
            '2;2;1;"OWNER"\r\n',
            "",
            "disp.asc: no OWNER of account_id 1, which is in trans.asc",
        ),
        ("disp.asc", "DISPONENT", "OWNER", "disp.asc: more than one row for account_id 1"),
    ],
)
def test_one_line_says_what_is_wrong_and_where(refused, file, old, new, expected):
    assert old in FILES[file]
    assert expected in refused("berka", {**FILES, file: FILES[file].replace(old, new)})
