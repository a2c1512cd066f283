"""Small plans, and the events and labels that they are over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml
from small import TINY, card_events

PLAN: dict[str, Any] = {
    "data": {
        "cards": {
            "events": "events.parquet",
            "labels": "labels.parquet",
            "targets": ["habit", "amount"],
        }
    },
    "base": {k: v for k, v in TINY.items() if k != "encoder"},
    "rows": {"pooled": {}, "gru": {"encoder": TINY["encoder"]}},
    "seeds": [0, 1],
    "folds": 2,
    "trees": 3,
}
"""Two rows, two seeds, a target of classes and a quantity."""

QUICK: dict[str, Any] = PLAN | {
    "data": {"cards": PLAN["data"]["cards"] | {"targets": ["habit"]}},
    "base": PLAN["base"] | {"training": {"epochs": 0}},
    "rows": {"pooled": {}},
    "seeds": [0],
    "aggregates": False,
}
"""One row that is not trained, one target."""


def write(folder: Path, plan: dict[str, Any]) -> Path:
    """The plan as a file in the folder."""
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    return folder / "plan.yaml"


def events_and_labels(folder: Path) -> Path:
    """Write events and labels of 40 clients, and PLAN."""
    events = card_events(40)
    pq.write_table(events, folder / "events.parquet")
    labels = events.to_pandas().groupby("client_id").agg(amount=("amount", "mean")).reset_index()
    labels["habit"] = np.where((labels["client_id"] - 100) // 7 % 4 < 2, "a", "b")
    labels.to_parquet(folder / "labels.parquet")
    write(folder, PLAN)
    return folder
