"""Small plans over the events and labels of the fixture `folder`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from small import TINY

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
