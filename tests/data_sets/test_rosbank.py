from __future__ import annotations

from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

COLUMNS = "PERIOD,cl_id,MCC,channel_type,currency,TRDATETIME,amount,trx_category,target_flag"
ROWS = [
    "01/10/2017,1,5200,,810,21OCT17:00:00:00,5023.0,POS,0",
    "01/10/2017,1,6011,,810,12OCT17:12:24:07,20000.0,DEPOSIT,0",
    "01/12/2017,0,5921,type1,810,05DEC17:00:00:00,767.0,POS,1",
    "01/10/2017,1,5411,,978,21OCT17:00:00:00,2031.55,POS,0",
    "01/01/2017,0,5411,type1,810,31JAN17:23:59:59,36.0,WD_ATM_ROS,1",
]
RAW = "\n".join([COLUMNS, *ROWS, ""])
RAW_WITH_SUM = "\n".join([COLUMNS + ",target_sum", *(row + ",15.5" for row in ROWS), ""])


@pytest.mark.parametrize("raw", [RAW, RAW_WITH_SUM])
def test_events_are_exact_and_hold_no_target(prepare, tmp_path, raw):
    done = prepare("rosbank", {"train.csv": raw})
    assert (done.returncode, done.stderr) == (0, "")
    events = pq.read_table(tmp_path / "out/events.parquet")
    text = pa.string()
    kinds = [pa.int64(), pa.timestamp("ms"), pa.int64(), text, pa.int64(), pa.float64(), text]
    assert events.schema.types == kinds
    assert events.to_pydict() == {
        "client_id": [0, 0, 1, 1, 1],
        "event_time": [
            datetime(2017, 1, 31, 23, 59, 59),
            datetime(2017, 12, 5),
            datetime(2017, 10, 12, 12, 24, 7),
            datetime(2017, 10, 21),
            datetime(2017, 10, 21),
        ],
        "mcc": [5411, 5921, 6011, 5200, 5411],
        "channel_type": ["type1", "type1", None, None, None],
        "currency": [810, 810, 810, 810, 978],
        "amount": [36.0, 767.0, 20000.0, 5023.0, 2031.55],
        "trx_category": ["WD_ATM_ROS", "POS", "DEPOSIT", "POS", "POS"],
    }


def test_clients_have_the_target(prepare, tmp_path):
    assert prepare("rosbank", {"train.csv": RAW}).returncode == 0
    clients = pq.read_table(tmp_path / "out/clients.parquet")
    assert clients.schema.types == [pa.int64(), pa.int64()]
    assert clients.to_pydict() == {"client_id": [0, 1], "churn": [1, 0]}


def test_a_missing_file_is_told_with_its_name(refused):
    assert refused("rosbank", {}).endswith("raw has no file train.csv (or the same with .gz)")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "TRDATETIME",
            "date",
            "has no column TRDATETIME; it has: PERIOD, cl_id, MCC, channel_type, currency, date,",
        ),
        (
            "12OCT17:12:24:07",
            "2017-10-12",
            "train.csv: data row 2: cannot read TRDATETIME '2017-10-12'",
        ),
        ("36.0,WD_ATM_ROS", "36.0,", "train.csv: data row 5: trx_category is empty"),
        ("2031.55,POS,0", "2031.55,POS,1", "train.csv: cl_id 1 has both 0 and 1 as target_flag"),
    ],
)
def test_one_line_says_what_is_wrong_and_where(refused, old, new, expected):
    assert expected in refused("rosbank", {"train.csv": RAW.replace(old, new)})
