from __future__ import annotations

from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

HEADER = "customer_id,tr_datetime,mcc_code,tr_type,amount,term_id\n"
ROWS = (
    "39026145,1 10:19:29,6011,7010,56147.89,\n"
    "39026145,0 10:23:26,4814,1030,-2245.92,\n"
    "6815,456 23:59:60,4829,2330,-5614.79,0042\n"
    "39026145,6 07:08:60,6011,2010,-112295.79,888987\n"
    "39026145,6 07:09:00,4829,2330,-2245.92, \n"
)
FILES = {
    "transactions.csv": HEADER + ROWS,
    "gender_train.csv": "customer_id,gender\n39026145,1\n6815,0\n",
}


def test_events_are_exact_and_second_60_is_the_next_minute(prepare, tmp_path):
    done = prepare("sber_gender", FILES)
    assert (done.returncode, done.stderr) == (0, "")
    events = pq.read_table(tmp_path / "out/events.parquet")
    kinds = [pa.int64(), pa.timestamp("ms"), pa.int64(), pa.int64(), pa.float64(), pa.string()]
    assert events.schema.types == kinds
    assert events.to_pydict() == {
        "client_id": [6815, 39026145, 39026145, 39026145, 39026145],
        "event_time": [
            datetime(2001, 4, 2),
            datetime(2000, 1, 1, 10, 23, 26),
            datetime(2000, 1, 2, 10, 19, 29),
            datetime(2000, 1, 7, 7, 9),
            datetime(2000, 1, 7, 7, 9),
        ],
        "mcc_code": [4829, 4814, 6011, 6011, 4829],
        "tr_type": [2330, 1030, 7010, 2010, 2330],
        "amount": [-5614.79, -2245.92, 56147.89, -112295.79, -2245.92],
        "term_id": ["0042", None, None, "888987", None],
    }


@pytest.mark.parametrize("name", ["gender_train.csv", "customers_gender_train.csv"])
def test_clients_have_their_gender_under_either_name_of_the_file(prepare, tmp_path, name):
    done = prepare(
        "sber_gender",
        {"transactions.csv": FILES["transactions.csv"], name: FILES["gender_train.csv"]},
    )
    assert done.returncode == 0
    clients = pq.read_table(tmp_path / "out/clients.parquet")
    assert clients.schema.types == [pa.int64(), pa.int64()]
    assert clients.to_pydict() == {"client_id": [6815, 39026145], "gender": [0, 1]}


@pytest.mark.parametrize(
    "time", ["0 24:00:00", "0 10:60:00", "0 10:00:61", "-1 10:00:00", "10:00:00", "99999 1:00:00"]
)
def test_a_time_that_cannot_be_read_is_refused(refused, time):
    row = f"1,{time},6011,7010,5.0,\n"
    line = refused("sber_gender", {**FILES, "transactions.csv": HEADER + ROWS + row})
    assert line.endswith(f"transactions.csv: data row 6: cannot read tr_datetime '{time}'")


def test_a_missing_file_is_told_with_both_its_names(refused):
    line = refused("sber_gender", {"transactions.csv": FILES["transactions.csv"]})
    assert line.endswith(
        "raw has no file gender_train.csv or customers_gender_train.csv (or the same with .gz)"
    )


def test_a_missing_column_is_told_with_those_there_are(refused):
    line = refused("sber_gender", {**FILES, "gender_train.csv": "id,gender\n1,1\n"})
    assert line.endswith("gender_train.csv has no column customer_id; it has: id, gender")
