"""Old flags still work with a line that names the new one; the help has the new ones only."""

from __future__ import annotations

import re
import sys

import pytest
from typer.testing import CliRunner

from seqmel.cli.main import app, main
from seqmel.cli.renamed_flags import RENAMED_FLAGS
from seqmel.core.errors import ConfigError

FLAGS = [
    (command, old, new) for command, flags in RENAMED_FLAGS.items() for old, new in flags.items()
]
ARGUMENTS = {
    "drift": ["none.parquet", "none.parquet"],
    "embed": ["none", "none.parquet", "-o", "out.parquet"],
    "evaluate": ["none.parquet", "--target", "t", "--embeddings", "none.parquet"],
}
BESIDE = {
    "--unseen": [],
    "--allow-client-overlap": ["--time-split", "t"],
    "--test-fraction": ["--time-split", "t"],
    "--dtypes": ["--dims", "4"],
}
VALUES = {
    "--allow-client-overlap": None,
    "--dtypes": "int8",
    "--dims": "4,8",
    "--unseen-threshold": "0.1",
    "--alpha": "0.1",
    "--psi-threshold": "0.1",
    "--test-fraction": "0.2",
}


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> list[str]:
    monkeypatch.setattr(sys, "argv", ["seqmel", *words])
    with pytest.raises(SystemExit):
        main()
    read = capsys.readouterr()
    return (read.err or read.out).splitlines()


@pytest.mark.parametrize(("command", "old", "new"), FLAGS)
@pytest.mark.parametrize("joined", [False, True])
def test_an_old_flag_does_what_the_new_one_does_and_warns(
    command: str,
    old: str,
    new: str,
    joined: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    value = VALUES.get(new, "some")
    if joined and value is None:
        pytest.skip("a flag without a value")
    given = [
        [f"{name}={value}"] if joined else [name, *([value] if value else [])]
        for name in (old, new)
    ]
    beside = [*ARGUMENTS[command], *BESIDE.get(new, [])]
    warned, *line = run(monkeypatch, capsys, command, *beside, *given[0])
    assert warned.startswith(f"seqmel: warning: {old} is now called {new}.")
    assert line == run(monkeypatch, capsys, command, *beside, *given[1])


@pytest.mark.parametrize(("command", "old", "new"), FLAGS)
def test_the_help_has_the_new_flag_only(
    command: str,
    old: str,
    new: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = "\n".join(run(monkeypatch, capsys, command, "--help"))
    assert re.search(rf"{new}(?![\w-])", shown)
    assert not re.search(rf"{old}(?![\w-])", shown)


@pytest.mark.parametrize("command", ["map", "similar", "index"])
def test_a_model_and_events_where_embeddings_are_expected(command: str) -> None:
    with pytest.raises(
        ConfigError, match=f"seqmel {command} takes one file of embeddings, .* embed"
    ):
        CliRunner().invoke(
            app, [command, "model", "events.parquet", "-o", "x"], catch_exceptions=False
        )


def test_an_old_flag_and_its_new_one_together_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["drift", "a.parquet", "b.parquet", "--psi", "1", "--psi-threshold", "2"]
    (line,) = run(monkeypatch, capsys, *words)
    assert (
        line
        == "seqmel: --psi is the old name of --psi-threshold, and both are given. Leave --psi out."
    )
