"""Number of threads: the granted cores, the requested number, and one for small work."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier, get_ident

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from seqmel.cli import main as command_line
from seqmel.core import threads
from seqmel.core.device import resolve_device
from seqmel.data.sources.source import connect


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A machine of eight cores, all free; a folder in place of that of the control groups."""
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "_CGROUPS", tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    yield tmp_path
    threads.set_threads(None)
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "20000 100000\n"}, 1),
        ({"cpu.max": "9900000 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
    ],
)
def test_usable_cores_are_those_that_control_groups_grant(
    tmp_path: Path, files: dict[str, str], cores: int
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert threads.usable_cores() == cores


@pytest.mark.parametrize(
    ("environment", "asked", "count"),
    [("3", None, 3), ("16", None, 8), ("3,2", None, 3), ("", None, 8), ("0", None, 8), ("3", 5, 5)],
)
def test_threads_are_those_asked_for_or_else_no_more_than_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, environment: str, asked: int | None, count: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", environment)
    threads.set_threads(asked)
    assert threads.thread_count() == count
    assert threads.thread_count(2) == 2


def test_torch_is_lowered_to_the_granted_cores_and_set_to_what_is_asked_for(tmp_path: Path) -> None:
    torch.set_num_threads(6)
    resolve_device("cpu")
    assert torch.get_num_threads() == 6
    (tmp_path / "cpu.max").write_text("200000 100000")
    resolve_device("cpu")
    assert torch.get_num_threads() == 2
    threads.set_threads(3)
    resolve_device("cpu")
    assert torch.get_num_threads() == 3


def test_small_solves_work_in_one_thread() -> None:
    np.ones((2, 2)) @ np.ones((2, 2))  # so that BLAS is loaded
    threads.set_threads(2)
    with threads.solver_threads(1000):
        assert {pool["num_threads"] for pool in threadpool_info()} == {1}
    with threads.solver_threads(10**9):
        assert max(pool["num_threads"] for pool in threadpool_info()) == 2


def test_the_engine_takes_the_threads_that_are_asked_for() -> None:
    def count(**options: int) -> int:
        return int(connect(**options).execute("SELECT current_setting('threads')").fetchall()[0][0])

    assert count() == 8
    threads.set_threads(3)
    assert count() == 3
    assert count(threads=2) == 2


@pytest.mark.parametrize(
    "command",
    [
        "describe",
        "prepare",
        "train",
        "embed",
        "export",
        "finetune",
        "predict",
        "evaluate",
        "drift",
        "retrieval",
        "experiment",
        "report",
        "demo",
    ],
)
def test_every_command_that_computes_takes_threads(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["seqmel", command, "--help"])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == 0
    assert "--threads" in capsys.readouterr().out


def test_threads_of_the_command_line_are_set_before_it_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["seqmel", "describe", "nowhere.parquet", "--threads", "5"])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == 2
    assert "nowhere.parquet" in capsys.readouterr().err
    assert threads.thread_count() == 5


def test_items_run_at_once_in_order_with_the_mode_and_threads_of_the_caller() -> None:
    torch.set_num_threads(4)
    meeting = Barrier(4)

    def seen(item: int) -> tuple[int, int, bool]:
        meeting.wait(timeout=60)  # four at once, or it breaks
        return item, torch.get_num_threads(), torch.is_inference_mode_enabled()

    with torch.inference_mode():
        assert list(threads.map_in_threads(seen, range(4))) == [(i, 1, True) for i in range(4)]
    assert torch.get_num_threads() == 4
    meeting = Barrier(2)
    assert list(threads.map_in_threads(seen, range(2))) == [(i, 2, False) for i in range(2)]


def test_with_one_thread_items_run_in_the_thread_of_the_caller() -> None:
    torch.set_num_threads(1)
    assert set(threads.map_in_threads(lambda _: get_ident(), range(3))) == {get_ident()}


def test_after_an_error_no_further_item_is_begun() -> None:
    torch.set_num_threads(2)
    begun = []

    def fails(item: int) -> None:
        begun.append(item)
        raise ValueError(item)

    with pytest.raises(ValueError, match="0"):
        list(threads.map_in_threads(fails, range(1000)))
    assert len(begun) < 1000
    assert torch.get_num_threads() == 2


def test_waiting_threads_sleep_soon_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for given in ({}, {"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}):
        for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
            monkeypatch.delenv(name, raising=False)
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        threads.limit_spinning()
        expected = given.get("GOMP_SPINCOUNT", None if given else "4000")
        assert threads.os.environ.get("GOMP_SPINCOUNT") == expected


def test_importing_the_library_sets_it_before_torch_is_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    shows = "import seqmel, os, sys; print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", shows], text=True) == "4000 False\n"
