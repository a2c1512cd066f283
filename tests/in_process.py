"""Run commands and scripts in the process of the tests, since a new one first imports torch."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["Done", "InProcess"]


@dataclass(frozen=True)
class Done:
    """What a program left: its exit code and what it printed."""

    returncode: int
    stdout: str
    stderr: str


class InProcess:
    """Runs programs in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def seqmel(self, *words: object) -> Done:
        """The command `seqmel`, up to its exit."""
        from seqmel.cli.main import main

        return self._run(main, "seqmel", *words)

    def script(self, path: Path, *words: object) -> Done:
        """A Python file, as `python FILE` runs it."""
        return self._run(lambda: runpy.run_path(str(path), run_name="__main__"), path, *words)

    def _run(self, program: Callable[[], object], *words: object) -> Done:
        self._capsys.readouterr()
        with self._monkeypatch.context() as patched:
            patched.setattr(sys, "argv", [str(word) for word in words])
            patched.setattr(sys, "path", [*sys.path])
            try:
                program()
                code: object = 0
            except SystemExit as ended:
                code = ended.code
        said = self._capsys.readouterr()
        if isinstance(code, str):  # Python prints such a word itself
            return Done(1, said.out, f"{said.err}{code}\n")
        return Done(code if isinstance(code, int) else 0, said.out, said.err)
