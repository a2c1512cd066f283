"""A failed allocation ends a command in one line; other errors keep their traceback."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from small import card_events

from seqmel import prepare
from seqmel.cli.main import main
from seqmel.data.sequences.prepared import open_prepared
from seqmel.data.sources.source import reading

TOO_MUCH = 2**60


def for_a_gpu(*_: object) -> None:
    raise torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 20.00 GiB.\nSee the documentation."
    )


def broken(*_: object) -> None:
    raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def describe(cause: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(card_events(3), tmp_path / "events.parquet")
    monkeypatch.setattr("seqmel.data.fitting.timeline.explain_schema", cause)
    monkeypatch.setattr(sys, "argv", ["seqmel", "describe", str(tmp_path / "events.parquet")])
    main()


@pytest.mark.parametrize(
    "cause",
    [
        lambda *_: torch.empty(TOO_MUCH, dtype=torch.uint8),
        lambda *_: np.empty(TOO_MUCH, np.uint8),
        lambda *_: pa.allocate_buffer(TOO_MUCH),
        for_a_gpu,
    ],
    ids=["torch", "numpy", "arrow", "gpu"],
)
def test_memory_that_is_not_there_is_one_line_with_what_to_do(
    cause: Callable[..., object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        describe(cause, tmp_path, monkeypatch)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("seqmel: Not enough memory (")
    assert "Lower preparation.memory_limit (--set NAME=VALUE)" in line


def test_memory_that_is_not_there_is_not_taken_for_a_broken_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MemoryError), reading("events.parquet"):
        pa.allocate_buffer(TOO_MUCH)
    pq.write_table(card_events(3), tmp_path / "events.parquet")
    prepare(tmp_path / "events.parquet", tmp_path / "prepared")

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr("mmap.mmap", refused)
    with pytest.raises(MemoryError, match="prepared cannot be mapped"):
        open_prepared(tmp_path / "prepared")


def test_another_error_of_torch_stays_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        describe(broken, tmp_path, monkeypatch)


def test_the_advice_is_what_the_user_of_the_command_can_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model's options cannot be changed when it embeds, so the advice names none of them."""
    monkeypatch.setattr("seqmel.cli.main.app", lambda *_, **__: np.empty(TOO_MUCH, np.uint8))
    for command, words in (
        ("embed", "--shard"),
        ("predict", "--shard"),
        ("train", "training.batch_size"),
    ):
        monkeypatch.setattr(sys, "argv", ["seqmel", command])
        with pytest.raises(SystemExit):
            main()
        line = capsys.readouterr().err
        assert words in line
        assert ("--set" in line) == (command == "train")
