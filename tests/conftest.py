"""What all tests share; the generators are in small.py."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from in_process import InProcess

    from seqmel.model import Model

if (
    "PYTEST_XDIST_WORKER_COUNT" in os.environ
):  # a share of the cores for each process, and for what it starts
    share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained for a moment on `card_events()`; nobody writes to it."""
    from small import card_events, tiny_config

    from seqmel.training.run import train

    config = tiny_config(schema={"numeric_by": {"reading": "mcc"}})
    return train(card_events(), tmp_path_factory.mktemp("trained") / "model", config=config)


@pytest.fixture(scope="session")
def model(model_folder: Path) -> Model:
    """The same, loaded."""
    from seqmel.model import load_model

    return load_model(model_folder)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> InProcess:
    """Commands and scripts without a process of their own."""
    from in_process import InProcess

    return InProcess(monkeypatch, capsys)


@pytest.fixture(autouse=True)
def _no_parts_of_ones_own_are_left() -> Iterator[None]:
    """What a test registers is gone after it."""
    yield
    parts = sys.modules.get("seqmel.api.parts")
    if parts is not None:
        parts.forget_parts()
