"""Each user error ends with exit code 2, one helpful line, and nothing half-written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from in_process import InProcess
from small import card_events, nested

from seqmel.cli.main import main

EVENTS = card_events(6)
NESTED = nested(EVENTS, "client_id")
Run = Callable[..., str]


@pytest.fixture
def refused(
    tmp_path: Path,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run a command on events; give back its one line, having looked that nothing was written."""

    def run(command: str, events: str | Path, *options: str, model: Path = model_folder) -> str:
        given = {
            "describe": ["describe", str(events)],
            "prepare": ["prepare", str(events), "-o", str(tmp_path / "out")],
            "train": [
                "train",
                str(events),
                "-o",
                str(tmp_path / "out"),
                "--device",
                "cpu",
                "--epochs",
                "1",
            ],
            "embed": [
                "embed",
                str(model),
                str(events),
                "-o",
                str(tmp_path / "out"),
                "--device",
                "cpu",
            ],
            "predict": [
                "predict",
                str(model),
                str(events),
                "-o",
                str(tmp_path / "out"),
                "--device",
                "cpu",
            ],
        }
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        monkeypatch.setattr(sys, "argv", ["seqmel", *given[command], *options])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        lines = said.err.splitlines()
        assert (ended.value.code, len(lines), said.out) == (2, 1, "")
        assert lines[0].startswith("seqmel: ")
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        return lines[0]

    return run


def stored(table: pa.Table, folder: Path) -> Path:
    pq.write_table(table, folder / "events.parquet")
    return folder / "events.parquet"


def says(line: str, *words: str) -> None:
    missing = [word for word in words if word not in line]
    assert not missing, f"{missing} not in: {line}"


def put(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def test_columns_are_not_named_beside_a_model_that_names_them(
    refused: Run, model_folder: Path, tmp_path: Path
) -> None:
    for option in ("--client", "--time", "--time-format", "--decimal"):
        line = refused(
            "prepare", stored(EVENTS, tmp_path), "--model", str(model_folder), option, "x"
        )
        says(line, f"{option} has no effect for a model, which names its columns. Leave it out.")


@pytest.mark.parametrize(
    ("command", "option", "value", "expected"),
    [
        ("train", "--patience", "two", "a whole number"),
        ("train", "--epochs", "1e3", "a whole number"),
        ("train", "--threads", "0", "a number of at least 1"),
        ("embed", "--devices", "0", "a number of at least 1"),
    ],
)
def test_a_value_that_does_not_fit_its_option_is_refused_in_plain_words(
    command: str, option: str, value: str, expected: str, refused: Run, tmp_path: Path
) -> None:
    line = refused(command, stored(EVENTS, tmp_path), option, value)
    assert line.endswith(f"{option} cannot be {value!r}. Expected {expected}.")


def test_a_file_that_the_system_refuses_is_named_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "some.json")

    monkeypatch.setattr("seqmel.cli.main.app", fail)
    with pytest.raises(SystemExit) as ended:
        main()
    line = "seqmel: some.json cannot be read or written: Permission denied.\n"
    assert (ended.value.code, capsys.readouterr().err) == (2, line)


EVERY = pytest.mark.parametrize("command", ["describe", "prepare", "train", "embed"])
LEARNING = pytest.mark.parametrize("command", ["describe", "prepare", "train"])
WRITING = pytest.mark.parametrize("command", ["prepare", "train", "embed"])


# --------------------------------------------------------------------------------------------------
# files


@EVERY
def test_a_file_that_is_missing(command: str, refused: Run, tmp_path: Path) -> None:
    stored(EVENTS, tmp_path)
    says(
        refused(command, tmp_path / "event.parquet"),
        "No such file or folder",
        "Did you mean 'events.parquet'?",
    )


@EVERY
@pytest.mark.parametrize("content", [b"client_id,mcc\n1,2\n", b"PK\x03\x04zip", b""])
def test_a_file_that_is_not_parquet(
    command: str, content: bytes, refused: Run, tmp_path: Path
) -> None:
    (tmp_path / "events.parquet").write_bytes(content)
    says(
        refused(command, tmp_path / "events.parquet"),
        "is not a Parquet file",
        "Expected Parquet, or CSV",
    )


@EVERY
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_parquet_file_that_is_truncated(
    command: str, share: float, refused: Run, tmp_path: Path
) -> None:
    path = stored(EVENTS, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    says(refused(command, path), "is a truncated Parquet file", "Copy or write it again")


@EVERY
def test_a_parquet_file_with_a_damaged_page(command: str, refused: Run, tmp_path: Path) -> None:
    path = stored(EVENTS, tmp_path)
    content = bytearray(path.read_bytes())
    content[30:400] = b"\xff" * 370
    path.write_bytes(content)
    says(refused(command, path), "Cannot read", "events.parquet")


@LEARNING
@pytest.mark.parametrize("table", [EVENTS.slice(0, 0), NESTED.slice(0, 0)], ids=["flat", "nested"])
def test_events_without_rows(command: str, table: pa.Table, refused: Run, tmp_path: Path) -> None:
    says(
        refused(command, stored(table, tmp_path)),
        "has no rows",
        "Expected one row per event, or one row per client",
    )


@EVERY
def test_a_folder_without_events(command: str, refused: Run, tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "notes.txt").touch()
    says(refused(command, tmp_path / "events"), "No Parquet or CSV file in the folder", "notes.txt")


# --------------------------------------------------------------------------------------------------
# times


def bank_csv(folder: Path, *days: str) -> Path:
    rows = [f"c{i % 3},{days[i % len(days)]},{i}.5" for i in range(12)]
    (folder / "bank.csv").write_text("\n".join(["client_id,date,amount", *rows]))
    return folder / "bank.csv"


@LEARNING
def test_dates_whose_first_part_may_be_day_or_month(
    command: str, refused: Run, tmp_path: Path
) -> None:
    path = bank_csv(tmp_path, "04.05.2023", "12.11.2023")
    says(
        refused(command, path),
        "such as '04.05.2023', may have the day first or the month",
        "--time-format",
        "%d.%m.%Y",
    )


@LEARNING
def test_dates_of_which_one_is_no_date(command: str, refused: Run, tmp_path: Path) -> None:
    path = bank_csv(tmp_path, "24.05.2023", "31.02.2023")
    says(
        refused(command, path),
        "6 of 12 times in column 'date'",
        "written as '%d.%m.%Y'",
        "such as '31.02.2023'",
    )


@LEARNING
def test_a_time_format_that_is_none(command: str, refused: Run, tmp_path: Path) -> None:
    path = bank_csv(tmp_path, "24.05.2023", "31.01.2023")
    says(
        refused(command, path, "--time-format", "%d.%n"),
        "schema.time_format",
        "has no day",
        "%d.%m.%Y",
    )
    says(
        refused(command, path, "--time-format", "%m.%d.%Y"),
        "cannot be understood, such as '24.05.2023'",
        "'%m.%d.%Y'",
    )


def test_dates_that_the_model_does_not_know(refused: Run, tmp_path: Path) -> None:
    path = tmp_path / "bank.csv"
    line = "{},24.12.2023,5411,Oslo,1.5,2.5\n"
    path.write_text(
        "client_id,event_time,mcc,city,amount,reading\n" + "".join(line.format(i) for i in range(3))
    )
    line = refused("embed", path)
    says(
        line,
        "cannot be understood, such as '24.12.2023'",
        "schema.time_format says how; a trained model keeps to its own",
    )


# -------------------------------------------------------------------------------------------------
# columns


@LEARNING
@pytest.mark.parametrize(
    ("option", "near"),
    [
        (("--client", "clientid"), "client_id"),
        (("--time", "event_tme"), "event_time"),
        (("--set", "schema.categorical=[mc]"), "mcc"),
        (("--set", "schema.numeric=[amuont]"), "amount"),
    ],
)
@pytest.mark.parametrize("table", [EVENTS, NESTED], ids=["flat", "nested"])
def test_a_column_that_is_missing(
    command: str, option: tuple[str, str], near: str, table: pa.Table, refused: Run, tmp_path: Path
) -> None:
    line = refused(command, stored(table, tmp_path), *option)
    says(
        line,
        "No column",
        "events.parquet",
        f"Did you mean '{near}'?",
        "It has: client_id, event_time, mcc",
    )


@LEARNING
def test_a_client_column_that_cannot_be_recognised(
    command: str, refused: Run, tmp_path: Path
) -> None:
    path = stored(EVENTS.rename_columns(["who", *EVENTS.column_names[1:]]), tmp_path)
    says(
        refused(command, path),
        "Found no client column by its name",
        "has: who, event_time",
        "--client",
    )


@pytest.mark.parametrize("name", ["client_id", "event_time", "mcc", "amount"])
@pytest.mark.parametrize("table", [EVENTS, NESTED], ids=["flat", "nested"])
def test_events_that_lack_a_column_of_the_model(
    name: str, table: pa.Table, refused: Run, tmp_path: Path
) -> None:
    path = stored(
        table.rename_columns([c + "_2" if c == name else c for c in table.column_names]), tmp_path
    )
    line = refused("embed", path)
    says(line, f"No column '{name}'", f"Did you mean '{name}_2'?", "It has:")


@EVERY
@pytest.mark.parametrize(("name", "what"), [("client_id", "client"), ("event_time", "time")])
def test_a_client_or_time_that_is_null(
    command: str, name: str, what: str, refused: Run, tmp_path: Path
) -> None:
    values = EVENTS[name].to_pylist()
    values[3] = values[8] = None
    path = stored(put(EVENTS, name, pa.array(values, EVENTS.field(name).type)), tmp_path)
    says(
        refused(command, path),
        "2 events",
        f"have no {what}",
        f"column '{name}' is null",
        "Drop or fix these rows",
    )


@EVERY
def test_a_nested_client_that_is_null(command: str, refused: Run, tmp_path: Path) -> None:
    clients = pa.array([None, *NESTED["client_id"].to_pylist()[1:]], pa.int32())
    line = refused(command, stored(put(NESTED, "client_id", clients), tmp_path))
    says(line, "no client", "column 'client_id' is null", "Drop or fix these rows")


@EVERY
def test_a_time_that_cannot_be_understood(command: str, refused: Run, tmp_path: Path) -> None:
    times = [str(time) for time in EVENTS["event_time"].to_pylist()]
    times[5] = "31st of January"
    line = refused(command, stored(put(EVENTS, "event_time", pa.array(times)), tmp_path))
    says(
        line,
        "1 time in column 'event_time'",
        "such as '31st of January'",
        "Expected timestamps, dates, ISO 8601",
    )


@LEARNING
@pytest.mark.parametrize("role", ["categorical", "numeric"])
def test_a_feature_that_is_all_null(command: str, role: str, refused: Run, tmp_path: Path) -> None:
    path = stored(put(EVENTS, "amount", pa.nulls(len(EVENTS), pa.float64())), tmp_path)
    line = refused(command, path, "--set", f"schema.{role}=[amount]")
    says(line, "Column 'amount'", "holds only nulls", f"Leave it out of schema.{role}")


@LEARNING
def test_text_that_is_named_as_a_number(command: str, refused: Run, tmp_path: Path) -> None:
    line = refused(command, stored(EVENTS, tmp_path), "--set", "schema.numeric=[city]")
    says(line, "Column 'city'", "holds text, not numbers", "schema.categorical")


def test_text_where_the_model_learnt_numbers(refused: Run, tmp_path: Path) -> None:
    path = stored(put(EVENTS, "amount", pa.array(["much"] * len(EVENTS))), tmp_path)
    says(
        refused("embed", path),
        "column 'amount'",
        "events.parquet",
        "are not numbers, such as 'much'",
        "as 1234.50",
    )


def with_commas(folder: Path, *, values: int) -> Path:
    """CSV whose amounts have a comma that may be a decimal mark, with so many different values."""
    amounts = pa.array([f"{i % values},500" for i in range(len(EVENTS))])
    put(EVENTS, "amount", amounts).to_pandas().to_csv(folder / "events.csv", sep=";", index=False)
    return folder / "events.csv"


def test_commas_of_unknown_meaning_where_the_model_learnt_numbers(
    refused: Run, tmp_path: Path
) -> None:
    line = refused("embed", with_commas(tmp_path, values=7))
    says(
        line,
        f"{len(EVENTS)} values in column 'amount'",
        "such as '0,500'",
        "the model was trained with numbers there",
    )
    says(line, "Write them as 1234.50: a point before the decimals, and nothing else.")


@LEARNING
def test_commas_of_unknown_meaning_that_are_named_as_numbers(
    command: str, refused: Run, tmp_path: Path
) -> None:
    line = refused(command, with_commas(tmp_path, values=7), "--set", "schema.numeric=[amount]")
    says(
        line,
        "Column 'amount'",
        "not numbers, such as '0,500'. Write numbers as 1234.50, pass --decimal ,",
    )


def test_training_names_commas_of_unknown_meaning_that_it_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "train",
        with_commas(tmp_path, values=7),
        "-o",
        tmp_path / "model",
        "--epochs",
        "0",
        "--device",
        "cpu",
    ]
    monkeypatch.setattr(sys, "argv", ["seqmel", *map(str, words)])
    with pytest.raises(SystemExit, match="0"):
        main()
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "left out" in line)
    assert line.startswith(
        "warning: left out: amount (numbers written as text, such as '0,500': write them as "
        "1234.50, say"
    )


@LEARNING
def test_a_decimal_mark_that_is_none(command: str, refused: Run, tmp_path: Path) -> None:
    line = refused(command, with_commas(tmp_path, values=7), "--decimal", ";")
    says(line, "schema.decimal cannot be ';'. Expected one of: '.', ','.")


@LEARNING
def test_events_with_nothing_to_learn_from(command: str, refused: Run, tmp_path: Path) -> None:
    line = refused(command, stored(EVENTS.select(["client_id", "event_time"]), tmp_path))
    says(line, "No column", "is left to learn from", "schema.categorical or schema.numeric")


# ------------------------------------------------------------------------------------------- nested
# layout


@EVERY
def test_list_columns_of_unequal_length_within_a_client(
    command: str, refused: Run, tmp_path: Path
) -> None:
    lists = NESTED["amount"].to_pylist()
    events = len(lists[2])
    lists[2] = lists[2][:-1]
    line = refused(command, stored(put(NESTED, "amount", pa.array(lists)), tmp_path))
    client = NESTED["client_id"][2].as_py()
    says(
        line,
        "List columns of unequal length",
        f"client {client} has {events} values",
        f"and {events - 1} of 'amount'",
    )


@EVERY
def test_clients_with_two_rows_in_the_nested_layout(
    command: str, refused: Run, tmp_path: Path
) -> None:
    line = refused(command, stored(pa.concat_tables([NESTED, NESTED.slice(0, 1)]), tmp_path))
    says(line, f"Client {NESTED['client_id'][0].as_py()} has 2 rows", "Expected one row per client")


# -------------------------------------------------------------------------------------------------
# outputs


@WRITING
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_output_that_exists(command: str, kind: str, refused: Run, tmp_path: Path) -> None:
    if kind == "file":
        (tmp_path / "out").write_text("precious")
    else:
        (tmp_path / "out").mkdir()
    says(
        refused(command, stored(EVENTS, tmp_path)),
        "out exists",
        "Name another output, or pass --overwrite",
    )


@WRITING
def test_overwrite_does_not_remove_a_folder_of_the_users(
    command: str, refused: Run, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    says(
        refused(command, stored(EVENTS, tmp_path), "--overwrite"),
        "out is a folder that seqmel did not write",
    )


@WRITING
def test_an_output_that_is_the_input(command: str, refused: Run, tmp_path: Path) -> None:
    path = stored(EVENTS, tmp_path)
    line = refused(command, path, "-o", str(path), "--overwrite")
    says(
        line,
        "events.parquet",
        "Name another output",
        "is read here" if command in ("embed", "predict") else "is a file",
    )


@WRITING
def test_an_output_below_a_file(command: str, refused: Run, tmp_path: Path) -> None:
    path = stored(EVENTS, tmp_path)
    says(
        refused(command, path, "-o", str(path / "out")),
        "Cannot write",
        "is not a folder that can be written to",
    )


@pytest.mark.parametrize("command", ["embed", "predict"])
@pytest.mark.parametrize("name", ["q.csv", "q.TXT", "q.json", "q.csv.gz", "q.xlsx", "q.arrow"])
def test_an_output_that_is_named_as_another_format(
    command: str, name: str, refused: Run, tmp_path: Path
) -> None:
    line = refused(
        command, tmp_path / "nothing", "-o", str(tmp_path / name), model=tmp_path / "none"
    )
    says(line, f"{name} is not a name for Parquet", f"Name it {tmp_path / 'q.parquet'}.")


# ------------------------------------------------------------------------------------------- model
# folders


def test_a_model_that_is_not_there(refused: Run, tmp_path: Path) -> None:
    line = refused("embed", stored(EVENTS, tmp_path), model=tmp_path / "model")
    says(line, "No model folder at", "seqmel train")


@pytest.mark.parametrize(
    "name", ["config.json", "schema.json", "vocabulary.json", "model.safetensors", "metrics.json"]
)
def test_a_model_folder_that_is_incomplete(
    name: str, refused: Run, model_folder: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(model_folder, tmp_path / "model"))
    (model / name).unlink()
    says(refused("embed", stored(EVENTS, tmp_path), model=model), f"{name}", "missing", str(model))


def test_a_model_folder_that_is_damaged(refused: Run, model_folder: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(model_folder, tmp_path / "model"))
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    says(
        refused("embed", stored(EVENTS, tmp_path), model=model),
        "is damaged",
        "model.safetensors",
        "Copy it again",
    )


def test_a_model_folder_of_a_newer_format(refused: Run, model_folder: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(model_folder, tmp_path / "model"))
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"format": 99, "seqmel": "9.0"}))
    line = refused("embed", stored(EVENTS, tmp_path), model=model)
    says(
        line,
        "has model format 99, written by seqmel 9.0",
        "this version reads up to 3",
        "Update seqmel",
    )


@pytest.mark.parametrize("command", ["prepare"])
def test_preparing_for_a_model_that_is_not_there(
    command: str, refused: Run, tmp_path: Path
) -> None:
    line = refused(command, stored(EVENTS, tmp_path), "--model", str(tmp_path / "model"))
    says(line, "No model folder at", "seqmel train")


# -------------------------------------------------------------------------------------------------
# options


@LEARNING
@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--set", "trainin.epochs=1"), ("unknown option 'trainin", "Did you mean 'training'?")),
        (
            ("--set", "training.epoch=1"),
            ("unknown option 'training.epoch'", "Did you mean 'epochs' or 'step_epochs'?"),
        ),
        (
            ("--set", "training.batch_size=1"),
            ("training.batch_size = 1", "Expected a number of at least 2"),
        ),
        (
            ("--set", "training.learning_rate=-1"),
            ("training.learning_rate = -1", "Expected a number above 0"),
        ),
        (
            ("--set", "encoder=rnn"),
            ("encoder cannot be 'rnn'", "Expected one of: none, gru, lstm, transformer"),
        ),
        (("--set", "epochs"), ("--set expects name=value", "'epochs'")),
        (("--config", "nowhere.yaml"), ("No such config file: nowhere.yaml",)),
    ],
)
def test_an_option_that_is_unknown_or_out_of_range(
    command: str, option: tuple[str, str], words: tuple[str, ...], refused: Run, tmp_path: Path
) -> None:
    says(refused(command, stored(EVENTS, tmp_path), *option), *words)


@LEARNING
def test_an_unknown_key_in_a_config_file(command: str, refused: Run, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("encoder: {name: gru, hiden_size: 12}\n")
    line = refused(command, stored(EVENTS, tmp_path), "--config", str(tmp_path / "my.yaml"))
    says(
        line,
        "my.yaml: unknown option 'encoder.hiden_size'",
        "Did you mean 'hidden_size'",
        "Known here:",
    )


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--epochs", "-1"), ("training.epochs = -1",)),
        (("--batch-size", "0"), ("training.batch_size = 0",)),
        (("--embedding-dim", "0"), ("embedding_dim = 0",)),
        (("--encoder", "gruu"), ("encoder cannot be 'gruu'", "Did you mean 'gru'?")),
        (("--seed", "-5"), ("seed = -5",)),
        (("--precision", "8"), ("precision cannot be '8'", "bf16-mixed")),
        (("--device", "tpu"), ("device cannot be 'tpu'", "cuda")),
    ],
)
def test_a_flag_of_train_that_is_out_of_range(
    option: tuple[str, str], words: tuple[str, ...], refused: Run, tmp_path: Path
) -> None:
    says(refused("train", stored(EVENTS, tmp_path), *option), *words)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--layout", "column"), ("--layout cannot be 'column'", "Did you mean 'columns'?")),
        (
            ("--dtype", "float64"),
            ("--dtype cannot be 'float64'", "Expected one of: float32, float16"),
        ),
        (("--device", "tpu"), ("device cannot be 'tpu'",)),
    ],
)
def test_a_flag_of_embed_that_does_not_exist(
    option: tuple[str, str], words: tuple[str, ...], refused: Run, tmp_path: Path
) -> None:
    says(refused("embed", stored(EVENTS, tmp_path), *option), *words)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
@pytest.mark.parametrize("command", ["train", "embed"])
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "gpu"])
def test_a_gpu_where_there_is_none(command: str, device: str, refused: Run, tmp_path: Path) -> None:
    line = refused(command, stored(EVENTS, tmp_path), "--device", device)
    says(line, f"Device {device} was asked for", "no such CUDA GPU is here", "--device cpu or auto")


# ------------------------------------------------------------------------------------ as a user
# would run it


def ran(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "seqmel", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_real_command_says_one_line_and_ends_with_2(tmp_path: Path) -> None:
    stored(EVENTS, tmp_path)
    done = ran("describe", tmp_path / "event.parquet")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("seqmel: ")
    assert "Did you mean 'events.parquet'?" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["events.parquet"]


def test_a_column_and_an_output_that_do_not_fit_are_refused(refused: Run, tmp_path: Path) -> None:
    path = stored(EVENTS, tmp_path)
    says(refused("train", path, "--time", "when"), "No column 'when'")
    says(refused("embed", path, "-o", str(path)), "events.parquet exists")


def test_the_real_command_trains_and_embeds(tmp_path: Path, in_process: InProcess) -> None:
    path = stored(EVENTS, tmp_path)
    small = ["encoder.hidden_size=8", "event_encoder.hidden_size=8"]
    options = [word for option in small for word in ("--set", option)]
    trained = ran(
        *("train", path, "-o", tmp_path / "model", "--encoder", "gru", *options),
        *("--device", "cpu", "--epochs", "1"),
    )
    assert (trained.returncode, trained.stdout.split(";")[0]) == (
        0,
        f"model in {tmp_path / 'model'}",
    ), trained.stderr
    embedded = in_process.seqmel(
        "embed", tmp_path / "model", path, "-o", tmp_path / "vectors.parquet"
    )
    assert embedded.returncode == 0, embedded.stderr
    assert pq.read_table(tmp_path / "vectors.parquet").num_rows == 6
