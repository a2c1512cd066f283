"""The data that the plans of these tests are about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from plans import PLAN, write
from small import card_events


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Events and labels of 40 clients, and PLAN."""
    events = card_events(40)
    pq.write_table(events, tmp_path / "events.parquet")
    frame = events.to_pandas()
    labels = frame.groupby("client_id").agg(amount=("amount", "mean")).reset_index()
    labels["habit"] = np.where((labels["client_id"] - 100) // 7 % 4 < 2, "a", "b")
    labels.to_parquet(tmp_path / "labels.parquet")
    write(tmp_path, PLAN)
    return tmp_path
