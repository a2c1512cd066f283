"""The data that the plans of these tests are about."""

from __future__ import annotations

from pathlib import Path

import pytest
from plans import events_and_labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Events and labels of 40 clients, and PLAN."""
    return events_and_labels(tmp_path)
