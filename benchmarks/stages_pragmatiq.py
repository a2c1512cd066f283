"""The stages in pragmatiq, by its own functions, on the events of the first few clients.

Runs under the Python of an environment of its own (README.md says how to make it); needs nothing of
seqmel. The model is its smallest, "nano", which it offers for CPUs.
"""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

from serving import Run, serve, sizes_of

warnings.filterwarnings("ignore")
logging.disable()


def _events(folder: Path) -> int:
    import pyarrow.parquet as pq

    rows: int = pq.ParquetFile(folder / "pragmatiq" / "events.parquet").metadata.num_rows
    return rows


def prepare(folder: Path) -> Run:
    """Fit the tokenizer and write the tokens, in as many processes as threads; units are events."""
    from pragmatiq import api

    threads = sizes_of(folder)["threads"]
    events = _events(folder)

    def run() -> dict[str, float]:
        shutil.rmtree(folder / "pragmatiq-tokens", ignore_errors=True)
        api.tokenize(folder / "pragmatiq", folder / "pragmatiq-tokens", n_workers=threads)
        return {"units": events}

    return run


def _tokens(folder: Path) -> Path:
    if not (folder / "pragmatiq-tokens").is_dir():
        prepare(folder)()
    return folder / "pragmatiq-tokens"


def _pretrain(folder: Path, steps: int) -> dict[str, Any]:
    from pragmatiq import api

    shutil.rmtree(folder / "pragmatiq-runs", ignore_errors=True)
    done: dict[str, Any] = api.pretrain(
        _tokens(folder), "nano", model_size="nano", runs_root=folder / "pragmatiq-runs",
        max_steps=steps, log_every=1, verbose=False,
    )  # fmt: skip
    return done


def train(folder: Path) -> Run:
    """Some steps of pretraining, its start not counted by its own clock; units are events."""
    steps = sizes_of(folder)["steps"]
    manifest = json.loads((_tokens(folder) / "shard_manifest.json").read_text(encoding="utf-8"))
    tokens_per_event = manifest["total_tokens"] / manifest["total_events"]

    def run() -> dict[str, float]:
        done = _pretrain(folder, steps)
        tokens_per_second = done["last_metrics"]["tokens_per_sec"]
        return {"units": tokens_per_second / tokens_per_event, "seconds": 1.0}

    return run


def embed(folder: Path) -> Run:
    """Tokens to a Parquet file of vectors; units are events."""
    from pragmatiq import api

    events = _events(folder)
    if not (folder / "pragmatiq-runs" / "nano").is_dir():
        _pretrain(folder, 1)

    def run() -> dict[str, float]:
        api.embed(_tokens(folder), folder / "pragmatiq-runs" / "nano", folder / "pragmatiq.parquet")
        return {"units": events}

    return run


if __name__ == "__main__":
    serve({"prepare": prepare, "train": train, "embed": embed})
