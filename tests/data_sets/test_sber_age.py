from __future__ import annotations

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

HEADER = "client_id,trans_date,small_group,amount_rur\n"
FILES = {
    "transactions_train.csv": HEADER
    + "33172,6,4,71.463\n20,9,3,5.5\n33172,5,35,45.017\n20,2,1,7\n33172,5,11,13.887\n",
    "train_target.csv": "client_id,bins\n33172,2\n20,0\n",
}


def test_events_are_sorted_by_client_and_day_and_ties_stay_in_order_of_the_file(prepare, tmp_path):
    done = prepare("sber_age", FILES)
    assert (done.returncode, done.stderr) == (0, "")
    events = pq.read_table(tmp_path / "out/events.parquet")
    assert events.schema.types == [pa.int64(), pa.int64(), pa.int64(), pa.float64()]
    assert events.to_pydict() == {
        "client_id": [20, 20, 33172, 33172, 33172],
        "event_day": [2, 9, 5, 5, 6],
        "small_group": [1, 3, 35, 11, 4],
        "amount": [7.0, 5.5, 45.017, 13.887, 71.463],
    }


def test_clients_have_their_age_group(prepare, tmp_path):
    assert prepare("sber_age", FILES).returncode == 0
    clients = pq.read_table(tmp_path / "out/clients.parquet")
    assert clients.schema.types == [pa.int64(), pa.int64()]
    assert clients.to_pydict() == {"client_id": [20, 33172], "age_group": [0, 2]}


def test_only_the_two_results_are_left_and_they_are_named_on_the_way_out(prepare, tmp_path):
    done = prepare("sber_age", FILES)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "clients.parquet",
        "events.parquet",
    ]
    assert [line.split("/")[-1] for line in done.stdout.splitlines()] == [
        "events.parquet: 5 rows",
        "clients.parquet: 2 rows",
    ]


def test_gzipped_files_in_a_folder_with_odd_characters_give_the_same(prepare, run_script, tmp_path):
    prepare("sber_age", FILES)
    odd = tmp_path / "it's [raw] {0}*"
    odd.mkdir()
    for name, text in FILES.items():
        (odd / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    assert run_script("sber_age", odd, odd / "out").returncode == 0
    for name in ("events.parquet", "clients.parquet"):
        assert pq.read_table(odd / "out" / name).equals(pq.read_table(tmp_path / "out" / name))


def test_byte_order_mark_quotes_and_windows_line_ends_are_read(prepare, tmp_path):
    quoted = '\ufeff"client_id","bins","note"\r\n"20"," 1 ","a, b"\r\n'
    assert prepare("sber_age", {**FILES, "train_target.csv": quoted}).returncode == 0
    assert pq.read_table(tmp_path / "out/clients.parquet").to_pylist() == [
        {"client_id": 20, "age_group": 1}
    ]


def test_a_folder_that_is_not_there_is_told_with_the_names_looked_for(run_script, tmp_path):
    done = run_script("sber_age", tmp_path / "nowhere", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr == (
        f"prepare.py: no folder {tmp_path}/nowhere; it should hold transactions_train.csv, "
        f"train_target.csv\n"
    )
    assert not (tmp_path / "out").exists()


def test_a_missing_file_is_told_with_its_name(refused):
    line = refused("sber_age", {"transactions_train.csv": FILES["transactions_train.csv"]})
    assert line.endswith("raw has no file train_target.csv (or the same with .gz)")


def test_a_truncated_download_is_refused(run_script, tmp_path):
    text = HEADER + "".join(
        f"{row},{row * 7919 % 730},{row % 200},{row / 7}\n" for row in range(20_000)
    )
    packed = gzip.compress(text.encode())
    (tmp_path / "transactions_train.csv.gz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "train_target.csv").write_text(FILES["train_target.csv"])
    done = run_script("sber_age", tmp_path, tmp_path / "out")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        (
            "train_target.csv",
            "client_id,age\n1,2\n",
            "train_target.csv has no column bins; it has: client_id, age",
        ),
        ("train_target.csv", "", "train_target.csv has no column client_id, bins; it has: nothing"),
        ("train_target.csv", "client_id,bins\n", "train_target.csv: a header but no rows"),
        (
            "train_target.csv",
            "client_id,bins\n7,1\n7,1\n",
            "train_target.csv: more than one row for client_id 7",
        ),
        (
            "transactions_train.csv",
            HEADER + "1,2,3,4\n1,2.5,3,4\n",
            "data row 2: cannot read trans_date '2.5'",
        ),
        (
            "transactions_train.csv",
            HEADER + "1,2,3,nan\n",
            "data row 1: cannot read amount_rur 'nan'",
        ),
        ("transactions_train.csv", HEADER + "1,2,,4\n", "data row 1: small_group is empty"),
    ],
)
def test_one_line_says_what_is_wrong_and_where(refused, file, text, expected):
    assert refused("sber_age", {**FILES, file: text}).endswith(expected)


def test_a_row_with_too_few_values_is_told_with_its_line(refused):
    line = refused("sber_age", {**FILES, "transactions_train.csv": HEADER + "1,2,3,4\n1,2\n"})
    assert "transactions_train.csv" in line
    assert "Line: 3" in line


def test_older_results_stay_when_the_new_raw_files_are_bad(prepare, run_script, tmp_path):
    prepare("sber_age", FILES)
    before = (tmp_path / "out/events.parquet").read_bytes()
    (tmp_path / "raw/train_target.csv").write_text("client_id,bins\n7,x\n")
    assert run_script("sber_age", tmp_path / "raw", tmp_path / "out").returncode == 2
    assert (tmp_path / "out/events.parquet").read_bytes() == before
