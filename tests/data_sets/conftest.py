"""Each test writes a few raw lines as published, runs the script, and reads its Parquet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from in_process import Done, InProcess

SCRIPTS = Path(__file__).resolve().parents[2] / "data"


@pytest.fixture
def run_script(in_process: InProcess) -> Callable[[str, Path, Path], Done]:
    """Run data/<name>/prepare.py on a folder of raw files, results to another folder."""

    def run(name: str, raw: Path, out: Path) -> Done:
        return in_process.script(SCRIPTS / name / "prepare.py", raw, "-o", out)

    return run


@pytest.fixture
def prepare(
    run_script: Callable[[str, Path, Path], Done], tmp_path: Path
) -> Callable[[str, Mapping[str, str]], Done]:
    """Write raw files to tmp_path/raw and run the script on them, results to tmp_path/out."""

    def run(name: str, files: Mapping[str, str]) -> Done:
        raw = tmp_path / "raw"
        raw.mkdir()
        for file, text in files.items():
            (raw / file).write_bytes(text.encode())
        return run_script(name, raw, tmp_path / "out")

    return run


@pytest.fixture
def refused(
    prepare: Callable[[str, Mapping[str, str]], Done], tmp_path: Path
) -> Callable[[str, Mapping[str, str]], str]:
    """Return the one error line of the script for bad files; it may leave no results behind."""

    def run(name: str, files: Mapping[str, str]) -> str:
        done = prepare(name, files)
        lines = done.stderr.splitlines()
        assert (done.returncode, len(lines), done.stdout) == (2, 1, ""), done
        assert list(tmp_path.glob("out/*")) == []
        return lines[0]

    return run
