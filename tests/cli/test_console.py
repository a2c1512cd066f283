"""Results survive any console: one with few characters, and one that is closed or full."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from in_process import InProcess
from small import card_events

from seqmel.cli.console import PLAIN, tolerate_any_console

CONSOLES = {
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "cp1251": {"PYTHONIOENCODING": "cp1251"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


def run(
    environment: dict[str, str], *arguments: object, stdout: int = subprocess.PIPE
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "seqmel", *map(str, arguments)],
        stdout=stdout, stderr=subprocess.PIPE, env={**os.environ, **environment}, check=False,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    events = card_events(40)
    ids = np.unique(events.column("client_id").to_numpy())
    events.to_pandas().rename(columns={"mcc": "\u043a\u043e\u0434"}).to_parquet(
        tmp_path / "events.parquet"
    )
    kind = np.random.default_rng(0).integers(0, 2, len(ids))
    pd.DataFrame({"client_id": ids, "emb_0000": kind * 1.0, "emb_0001": 0.5}).to_parquet(
        tmp_path / "v.parquet"
    )
    pd.DataFrame({"client_id": ids, "target": kind}).to_parquet(tmp_path / "labels.parquet")
    return tmp_path


def asked(folder: Path) -> list[str | Path]:
    """Return the options of a short evaluation."""
    words = ["--target", "target", "--folds", "2", "--trees", "3"]
    return [*words, "--embeddings", folder / "v.parquet"]


@pytest.mark.parametrize("console", CONSOLES)
def test_evaluate_and_describe_end_well_on_any_console(console: str, folder: Path) -> None:
    done = run(
        CONSOLES[console],
        "evaluate",
        folder / "labels.parquet",
        *asked(folder),
        "--json",
        folder / "s.json",
    )
    assert (done.returncode, b"v" in done.stdout) == (0, True), done.stderr
    assert len(json.loads((folder / "s.json").read_text())) == 1
    described = run(CONSOLES[console], "describe", folder / "events.parquet")
    assert described.returncode == 0, described.stderr
    name = "\u043a\u043e\u0434"
    shown = (
        name.encode("cp1251") if console == "cp1251" else name.encode("ascii", "backslashreplace")
    )
    assert shown in described.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_results_are_there_where_the_screen_is_a_full_disk(folder: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = run(
            {},
            "evaluate",
            folder / "labels.parquet",
            *asked(folder),
            "--json",
            folder / "s.json",
            stdout=full.fileno(),
        )
    assert done.returncode == 2
    assert done.stderr.decode().strip().splitlines()[-1].startswith("seqmel: The disk is full")
    assert (folder / "s.json").is_file()


def test_work_goes_on_where_nobody_reads_its_progress(folder: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    arguments = ["prepare", folder / "events.parquet", "-o", folder / "prepared"]
    done = subprocess.run(
        [sys.executable, "-m", "seqmel", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=write,
        check=False,
    )
    os.close(write)
    assert done.returncode == 0
    assert (folder / "prepared" / "prepared.json").is_file()


def test_every_plain_form_is_ascii_and_lines_of_tables_keep_their_places() -> None:
    tolerate_any_console()
    assert all(form.isascii() for form in PLAIN.values())
    assert "\u2502\u2500\u250c\u253c\u2193".encode("ascii", "seqmel.plain") == b"|-++v"


def test_the_shell_completes_commands(
    in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        ("_SEQMEL_COMPLETE", "complete_bash"),
        ("COMP_WORDS", "seqmel tra"),
        ("COMP_CWORD", "1"),
    ):
        monkeypatch.setenv(name, value)
    assert in_process.seqmel().stdout.split() == ["train"]
