"""A log has one whole JSON object a line: what began, each epoch, and how it ended."""

from __future__ import annotations

import json
import math
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from small import card_events

from seqmel.cli.log import RunLog, logged
from seqmel.cli.main import main
from seqmel.core.errors import InputError, OutputError
from seqmel.core.progress import record, silent
from seqmel.model import load_model

SMALL = [
    "--set",
    "encoder.hidden_size=8",
    "--set",
    "event_encoder.hidden_size=8",
    "--set",
    "training.validation_fraction=0.3",
]
Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command in a folder with events; gives its exit code."""
    pq.write_table(card_events(), tmp_path / "events.parquet")
    monkeypatch.chdir(tmp_path)

    def command(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["seqmel", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    return command


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_training_and_embedding_append_what_happened(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "runs.jsonl"
    assert (
        run(
            "train",
            "events.parquet",
            "-o",
            "m",
            "--epochs",
            2,
            "--device",
            "cpu",
            *SMALL,
            "--log",
            log,
        )
        == 0
    )
    assert (
        run("embed", "m", "events.parquet", "-o", "v.parquet", "--device", "cpu", "--log", log) == 0
    )
    found = lines(log)
    kinds = [line["event"] for line in found]
    assert [kinds.count(kind) for kind in ("started", "epoch", "finished", "failed")] == [
        2,
        2,
        2,
        0,
    ]
    assert (kinds[0], kinds[-1]) == ("started", "finished")
    started, embedding = (line for line in found if line["event"] == "started")
    assert (started["command"], started["options"]["config"]["training"]["epochs"]) == ("train", 2)
    assert (embedding["command"], embedding["options"]["model"]) == ("embed", "m")
    history = load_model(tmp_path / "m").metrics["history"]
    for row, line in zip(
        history, (line for line in found if line["event"] == "epoch"), strict=True
    ):
        assert {name: line[name] for name in row} == row
        assert line["seconds"] >= 0
    ends = [line for line in found if line["event"] == "finished"]
    assert (ends[0]["clients"], ends[0]["events"]) == (24, len(card_events()))
    assert (ends[1]["clients"], ends[1]["dimensions"]) == (
        24,
        len(pq.read_schema(tmp_path / "v.parquet")) - 1,
    )
    assert all(end["peak_memory_mb"] > 10 and end["seconds"] > 0 for end in ends)
    assert [
        line["done"] for line in found if line["event"] == "task" and line["name"] == "embed"
    ] == [24]


def test_a_run_that_fails_says_so_with_the_line_that_the_user_saw(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("prepare", "event.parquet", "-o", "s", "--log", "runs.jsonl") == 2
    found = lines(tmp_path / "runs.jsonl")
    assert [line["event"] for line in found] == ["started", "failed"]
    assert f"seqmel: {found[1]['error']}" in capsys.readouterr().err
    assert "No such file or folder" in found[1]["error"]


def test_a_log_that_cannot_be_written_is_refused_before_any_work(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", "events.parquet", "-o", "m", "--log", tmp_path / "no" / "log") == 2
    assert (
        "cannot be written: No such file or directory. Name another file."
        in capsys.readouterr().err
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.parquet"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_log_on_a_full_disk_is_a_line() -> None:
    with pytest.raises(OutputError, match=r"/dev/full cannot be written: No space left on device"):
        RunLog(Path("/dev/full"), silent).say("x")


@pytest.mark.parametrize(
    ("error", "event", "line"),
    [
        (InputError("No rows."), "failed", "No rows."),
        (KeyboardInterrupt(), "stopped", "interrupted"),
        (ZeroDivisionError("by zero"), "failed", "ZeroDivisionError: by zero"),
    ],
)
def test_every_end_is_written_and_goes_on_to_the_caller(
    error: BaseException, event: str, line: str, tmp_path: Path
) -> None:
    with pytest.raises(type(error)), logged(tmp_path / "log", "train", {}):
        raise error
    assert [(end["event"], end["error"]) for end in lines(tmp_path / "log")[1:]] == [(event, line)]


def test_numbers_and_text_of_any_kind_are_whole_json_lines(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log", silent)
    log.record(
        "epoch",
        {
            "loss": math.nan,
            "rate": math.inf,
            "path": Path("a"),
            "names": ("x\ny", "\ud800"),
            3: [1.5],
        },
    )
    (found,) = lines(tmp_path / "log")
    assert (found["loss"], found["rate"], found["path"], found["3"]) == (None, None, "a", [1.5])
    assert found["names"][0] == "x\ny"


def test_runs_that_share_a_log_never_mix_their_lines(tmp_path: Path) -> None:
    def write(name: str) -> None:
        log = RunLog(tmp_path / "log", silent)
        for number in range(200):
            log.record("said", {"line": name * 500, "number": number})

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = lines(tmp_path / "log")
    assert len(found) == 600
    assert {line["line"] for line in found} == {name * 500 for name in "abc"}


def test_a_progress_that_only_shows_takes_no_figures() -> None:
    record(silent, "epoch", loss=1.0)  # and is not asked to
    assert not hasattr(silent, "record")
