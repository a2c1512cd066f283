"""A disk that fills up is one line; nothing half-written stays, and what was learnt is not lost."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from small import card_events, tiny_config

from seqmel.cli.main import main
from seqmel.core.atomic_files import allocate, atomic_write, translate_disk_full
from seqmel.core.errors import OutputError
from seqmel.inference.as_of import embed_as_of
from seqmel.inference.update import update_embeddings
from seqmel.model import Model, load_model
from seqmel.training import run as run_module
from seqmel.training.run import train, train_model

EVENTS = card_events(12)


def full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_write_that_the_system_refuses_for_want_of_space_is_said() -> None:
    with (
        pytest.raises(
            OutputError,
            match=r"The disk is full; out was not written\. Free space and run it again\.",
        ),
        translate_disk_full(Path("out")),
    ):
        Path("/dev/full").write_bytes(b"x")


def test_other_errors_are_left_as_they_are() -> None:
    with pytest.raises(FileNotFoundError), translate_disk_full(Path("out")):
        Path("/no/such/folder/file").write_bytes(b"x")


def test_a_disk_that_is_full_before_the_first_epoch_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("write_prepared", "write_model"):
        with monkeypatch.context() as patched:
            patched.setattr(run_module, name, full)
            with pytest.raises(
                OutputError, match=r"The disk is full; .*model was not written.*--resume"
            ):
                train(EVENTS, tmp_path / "model", config=tiny_config(training={"epochs": 0}))
        assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_in_the_end_loses_no_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(folder: Path, model: Model) -> None:
        folder.mkdir()
        (folder / "schema.json").write_text("{")
        full()

    with monkeypatch.context() as patched:
        patched.setattr(run_module, "write_model", half)
        with pytest.raises(OutputError, match="The disk is full"):
            train(EVENTS, tmp_path / "model", config=tiny_config())
    assert [path.name for path in tmp_path.iterdir()] == ["model.partial"]
    with monkeypatch.context() as patched:
        patched.setattr(
            run_module, "write_prepared", full
        )  # what was prepared is not prepared again
        train(EVENTS, tmp_path / "model", config=tiny_config(), resume=True)
    undisturbed = train_model(EVENTS, config=tiny_config())
    assert load_model(tmp_path / "model").fingerprint() == undisturbed.fingerprint()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_resume_starts_a_run_where_there_is_none(tmp_path: Path) -> None:
    train(EVENTS, tmp_path / "model", config=tiny_config(), resume=True)
    assert (
        load_model(tmp_path / "model").fingerprint()
        == train_model(EVENTS, config=tiny_config()).fingerprint()
    )
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.skipif(
    not hasattr(os, "posix_fallocate"), reason="the system cannot take space beforehand"
)
def test_space_for_what_is_mapped_is_taken_beforehand(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allocate(tmp_path / "file", 1000)
    assert (tmp_path / "file").stat().st_size == 1000
    (tmp_path / "file").unlink()
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OutputError, match="The disk is full"):
        embed_as_of(model, EVENTS, "2024-01-01", tmp_path / "out.parquet", device="cpu")
    with pytest.raises(OutputError, match="The disk is full"):
        update_embeddings(
            model, EVENTS, tmp_path / "state.parquet", tmp_path / "out.parquet", device="cpu"
        )
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_of_the_state_names_the_state_and_not_the_output(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, output = tmp_path / "state.parquet", tmp_path / "out.parquet"
    monkeypatch.setattr("seqmel.inference.update._Update.write", full)
    with pytest.raises(OutputError, match=r"The disk is full; .*state\.parquet was not written"):
        update_embeddings(model, EVENTS, state, output, device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_anywhere_else_is_a_line_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(EVENTS, tmp_path / "events.parquet")
    monkeypatch.setattr("seqmel.data.fitting.timeline.explain_schema", full)
    monkeypatch.setattr(sys, "argv", ["seqmel", "describe", str(tmp_path / "events.parquet")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert (
        capsys.readouterr().err
        == "seqmel: The disk is full (somewhere). Free space and run it again.\n"
    )


def test_a_limit_on_the_size_of_files_is_a_line_too(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_write(tmp_path / "out"):
            raise OSError(errno.EFBIG, "File too large")

    with pytest.raises(OutputError, match=r"larger than the system allows; .*out was not written"):
        write()
    assert list(tmp_path.iterdir()) == []
