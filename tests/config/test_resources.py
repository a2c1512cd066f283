"""Every reader takes memory limit and threads from the config, also from that of a model."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small import card_events

from seqmel.cli.main import main
from seqmel.core.errors import InputError
from seqmel.data.sources import reading
from seqmel.evaluation.retrieval import evaluate_retrieval
from seqmel.inference.as_of import embed_as_of
from seqmel.model import load_model

ASKED = {"memory_limit": "700MB", "threads": 1}
MODEL = Path(__file__).parents[1] / "formats" / "model_2"


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What every connection to DuckDB that reads events was given."""
    seen: list[dict[str, Any]] = []
    real = reading.connect

    def connect(**options: Any) -> Any:
        seen.append({name: options.get(name) for name in ASKED})
        return real(**options)

    monkeypatch.setattr(reading, "connect", connect)
    return seen


@pytest.mark.parametrize("command", ["describe", "evaluate"])
def test_a_command_reads_with_the_resources_of_its_options(
    command: str, connections: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = card_events(40)
    pq.write_table(events, tmp_path / "events.parquet")
    settings = [
        word for name, value in ASKED.items() for word in ("--set", f"preparation.{name}={value}")
    ]
    path = str(tmp_path / "events.parquet")
    pq.write_table(pa.table({"client_id": [100], "y": [1]}), tmp_path / "labels.parquet")
    labels = [str(tmp_path / "labels.parquet"), "--target", "y", "--events", path]
    words = [command, path] if command == "describe" else [command, *labels]
    monkeypatch.setattr(sys, "argv", ["seqmel", *words, *settings])
    with pytest.raises(SystemExit):
        main()
    assert ASKED in connections


def test_running_a_model_reads_with_the_resources_of_the_model(
    connections: list[dict[str, Any]], tmp_path: Path
) -> None:
    model = load_model(MODEL)
    model = replace(
        model,
        config=model.config.model_copy(
            update={"preparation": model.config.preparation.model_copy(update=ASKED)}
        ),
    )
    events = MODEL / "events.parquet"
    embed_as_of(model, events, "2030-01-01", tmp_path / "out.parquet", device="cpu")
    assert set(map(json.dumps, connections)) == {json.dumps(ASKED)}
    connections.clear()
    with pytest.raises(InputError):  # no client is left
        evaluate_retrieval(model, events, trained_on=events, min_events=2, device="cpu")
    assert set(map(json.dumps, connections)) == {json.dumps(ASKED)}
