"""Compare model folders: data, options and validation metrics of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from seqmel.config import Config
from seqmel.core.errors import InputError, shown
from seqmel.model import read_description, read_metrics
from seqmel.training.card import kept_epoch
from seqmel.training.trackers import flat_options

__all__ = ["compare_runs"]

_NOT_COMPARED = ("views.min_length", "views.max_length")  # resolved from the data
_FIGURES = ("recall_at_1", "effective_rank", "loss")


def compare_runs(folders: Iterable[str | Path]) -> pd.DataFrame:
    """Compare model folders.

    Args:
        folders: model folders, or folders that hold such.

    Returns:
        A DataFrame with one row per model, indexed by its folder: clients, events, dimensions,
        epochs, the kept epoch with its figures (or the figures of a fine-tuned model on the clients
        held out), seconds; and a column for each option that is not the same in all of them.

    Raises:
        InputError: there is no model folder.
        ModelError: a model folder is damaged.
    """
    found = list(dict.fromkeys(_models(folders)))
    if not found:
        raise InputError(
            f"No model folder in {shown(map(str, folders))}. Expected folders that seqmel train or "
            f"seqmel finetune wrote."
        )
    facts = {}
    options = {}
    for folder in found:
        described = read_description(folder)
        config = Config.from_dict(described["config"], source=str(folder), lenient=True)
        facts[str(folder)] = _facts(read_metrics(folder))
        options[str(folder)] = {
            name: value for name, value in flat_options(config).items() if name not in _NOT_COMPARED
        }
    names = list(dict.fromkeys(name for of_one in options.values() for name in of_one))
    differing = [
        name for name in names if len({repr(one.get(name)) for one in options.values()}) > 1
    ]
    rows = {
        folder: facts[folder] | {name: options[folder].get(name) for name in differing}
        for folder in facts
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")


def _models(folders: Iterable[str | Path]) -> Iterator[Path]:
    """Yield the model folders among these and right below them, sorted by name."""
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise InputError(f"No folder at {folder}.")
        if (folder / "config.json").is_file():
            yield folder
            continue
        below = sorted(folder.glob("*/config.json"))
        yield from (
            path.parent for path in below if not path.parent.name.endswith((".partial", ".old"))
        )


def _facts(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return what is shown of a model."""
    history = metrics.get("history") or []
    facts = {name: metrics.get(name) for name in ("clients", "events", "dimensions")}
    facts["epochs"] = len(history)
    best = kept_epoch(history) or (history[-1] if history else {})
    facts["kept"] = int(best["epoch"]) if "epoch" in best else None
    figures = metrics.get("held_out") or {n: best[n] for n in _FIGURES if n in best}
    return facts | figures | {"seconds": metrics.get("seconds")}
