"""`seqmel info` shows what a report of a fault needs."""

from __future__ import annotations

from importlib import metadata

import pytest
from in_process import InProcess

import seqmel
from seqmel.core.threads import thread_count


def test_versions_extras_threads_and_devices_are_shown(
    in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == "pyspark":
            raise metadata.PackageNotFoundError
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    done = in_process.seqmel("info")
    assert done.returncode == 0, done.stderr
    rows = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert rows["seqmel"] == seqmel.__version__
    assert rows["torch"] == real("torch")
    assert rows["seqmel[spark]"] == "not installed"
    assert rows["seqmel[onnx]"].startswith("onnx ")
    assert rows["threads"].startswith(f"{thread_count()} ")
    assert "cpu with" in rows["device"]


def test_ctrl_c_in_any_command_is_one_line_and_exit_code_130(
    in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(device: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("seqmel.core.device.resolve_device", pressed)
    done = in_process.seqmel("info")
    assert done.returncode == 130
    assert done.stderr == "seqmel: stopped; no unfinished result was put in place\n"
