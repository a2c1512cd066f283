"""Nothing half-written is ever taken for a result, and nothing is replaced unasked."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from seqmel.core.atomic_files import (
    atomic_write,
    check_output,
    check_result,
    move_into_place,
    partial_path,
    scratch_folder,
)
from seqmel.core.errors import OutputError


def test_a_result_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "result.txt"
    with atomic_write(path) as partial:
        partial.write_text("done")
        assert not path.exists()
        assert partial == partial_path(path)
    assert path.read_text() == "done"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_a_failure_leaves_what_was_there_and_no_part(
    error: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "result.txt"
    path.write_text("before")

    def fail() -> None:
        with atomic_write(path) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_an_earlier_run_left_half_written_does_not_get_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "result"
    partial_path(path).mkdir()
    (partial_path(path) / "old").touch()
    with atomic_write(path) as partial:
        partial.write_text("done")
    assert path.read_text() == "done"


@pytest.mark.parametrize("beside", [atomic_write, scratch_folder])
def test_two_runs_never_make_one_result_at_the_same_time(
    beside: Callable[[Path], AbstractContextManager[Path]], tmp_path: Path
) -> None:
    path = tmp_path / "result"
    with beside(path) as first:
        first.touch()
        with pytest.raises(
            OutputError, match=r"Another run is writing .*result just now\. Wait.*another output"
        ):
            beside(path).__enter__()
        assert first.exists()
    with beside(path) as third:
        third.touch()
    assert not list(tmp_path.glob("*.*"))


def test_what_a_killed_run_held_is_free_again(tmp_path: Path) -> None:
    held = (
        "import sys, pathlib, seqmel.core.atomic_files as f\n"
        "with f.atomic_write(pathlib.Path(sys.argv[1])) as p:\n"
        "    p.touch(); print(flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", held, str(tmp_path / "result")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        with pytest.raises(OutputError, match="Another run"), atomic_write(tmp_path / "result"):
            pass
        process.kill()
    with atomic_write(tmp_path / "result") as partial:
        partial.write_text("done")
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_a_folder_is_replaced_by_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for content in ("first", "second"):
        with atomic_write(path) as partial:
            partial.mkdir()
            (partial / content).touch()
    assert [file.name for file in path.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_replaced_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("new")
    (tmp_path / "old").write_text("old")
    move_into_place(tmp_path / "new", tmp_path / "old")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("old", "new")]


def test_a_full_disk_is_said_in_words(tmp_path: Path) -> None:
    def fill() -> None:
        with atomic_write(tmp_path / "result") as partial:
            partial.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match="The disk is full"):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_needs_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "result.parquet"
    check_output(path, overwrite=False, folder=False)
    path.touch()
    with pytest.raises(OutputError, match=r"result\.parquet exists\. .*--overwrite"):
        check_output(path, overwrite=False, folder=False)
    check_output(path, overwrite=True, folder=False)


@pytest.mark.parametrize("name", ["vocabulary.json", "model/vocabulary.json"])
def test_overwrite_replaces_an_empty_folder_or_one_that_seqmel_wrote(
    name: str, tmp_path: Path
) -> None:
    check_output(tmp_path, overwrite=True, folder=True)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    check_output(tmp_path, overwrite=True, folder=True)


def test_overwrite_never_removes_a_folder_that_seqmel_did_not_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "thesis.tex").touch()
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path, Path(".")):
        with pytest.raises(OutputError, match="is a folder that seqmel did not write"):
            check_output(path, overwrite=True, folder=True)


@pytest.mark.parametrize(
    ("folder", "there", "made"), [(True, "a file", "a folder"), (False, "a folder", "a file")]
)
def test_a_file_and_a_folder_are_not_replaced_by_each_other(
    folder: bool, there: str, made: str, tmp_path: Path
) -> None:
    path = tmp_path / "out"
    path.touch() if folder else path.mkdir()
    with pytest.raises(OutputError, match=f"out is {there}, and the output is {made}"):
        check_output(path, overwrite=True, folder=folder)


def test_what_is_read_is_not_replaced_nor_a_folder_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "demo" / "events.parquet"
    data.parent.mkdir()
    data.touch()
    (data.parent / "vocabulary.json").touch()
    (tmp_path / "link.parquet").symlink_to(data)
    monkeypatch.chdir(tmp_path)
    for path, read in (
        (data, data),
        (data, "demo/events.parquet"),
        (data, "link.parquet"),
        (Path("link.parquet"), data),
    ):
        with pytest.raises(OutputError, match=r"would replace .*, which is read here"):
            check_output(path, overwrite=True, folder=False, reads=(None, [], read))
    with pytest.raises(OutputError, match=r"demo would replace .*, which is read here"):
        check_output(Path("demo"), overwrite=True, folder=True, reads=(data,))
    check_output(
        tmp_path / "demo" / "vectors.parquet",
        overwrite=True,
        folder=False,
        reads=(data, data.parent, "*.parquet"),
    )
    check_result(None, data)
    check_result(data.with_name("scores.json"), data)
    for path, reason in ((data, "which is read here"), (data / "a" / "b.json", "Cannot write")):
        with pytest.raises(OutputError, match=reason):
            check_result(path, data)


def test_no_result_replaces_a_file_of_a_model(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for name in ("config.json", "model.safetensors", "README.md", "report.html"):
        (model / name).touch()
    for name in ("config.json", "model.safetensors", "README.md"):
        with pytest.raises(OutputError, match="is a file of the model in"):
            check_result(model / name)
    check_result(model / "report.html")
    check_result(model / "scores.json")
    (tmp_path / "README.md").touch()
    check_result(tmp_path / "README.md")


def test_a_file_never_replaces_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "vocabulary.json").touch()

    def write() -> None:
        with atomic_write(tmp_path / "model") as partial:
            partial.write_text("embeddings")

    with pytest.raises(OutputError, match="is a folder; a file will not replace it"):
        write()
    assert [file.name for file in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "vocabulary.json").exists()


def test_a_place_that_cannot_hold_an_output_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is not a folder that can be written to"):
        check_output(tmp_path / "file" / "result", overwrite=False, folder=True)
    check_output(tmp_path / "deep" / "deeper" / "result", overwrite=False, folder=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="is not a folder that can be written to"):
        check_output(tmp_path / "result", overwrite=False, folder=True)


def test_a_scratch_folder_is_gone_in_the_end_and_begins_empty(tmp_path: Path) -> None:
    (tmp_path / "out.scratch").mkdir()
    (tmp_path / "out.scratch" / "left").write_text("by a run that was killed")
    with scratch_folder(tmp_path / "out") as folder:
        assert list(folder.iterdir()) == []
        (folder / "file").write_text("work")
    assert list(tmp_path.iterdir()) == []
