"""What a training will be, before anything is trained."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from in_process import InProcess
from small import card_events, tiny_config

from seqmel.config import read_config
from seqmel.core.errors import TrainingError
from seqmel.training.estimate import TrainingEstimate, estimate_training
from seqmel.training.run import train_model

EVENTS = card_events()
WORDS = ["--set", "encoder.hidden_size=8", "--set", "event_encoder.hidden_size=8"]


@pytest.fixture(scope="module")
def estimate() -> TrainingEstimate:
    return estimate_training(EVENTS, config=tiny_config())


def test_sizes_and_options_are_those_of_the_model_that_is_trained(
    estimate: TrainingEstimate,
) -> None:
    model = train_model(EVENTS, config=tiny_config())
    assert (estimate.parameters, estimate.dimensions) == (
        model.metrics["parameters"],
        model.metrics["dimensions"],
    )
    assert estimate.config == model.config
    assert estimate.steps == model.metrics["history"][0]["steps"]


def test_the_time_is_that_of_all_steps(estimate: TrainingEstimate) -> None:
    assert estimate.seconds_per_step > 0
    assert estimate.seconds == pytest.approx(estimate.steps * estimate.seconds_per_step)


def test_what_is_printed_is_a_config_file(estimate: TrainingEstimate, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(estimate.to_yaml())
    assert read_config(tmp_path / "config.yaml") == estimate.config


def test_the_command_prints_and_writes_nothing(
    tmp_path: Path, in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(EVENTS, tmp_path / "events.parquet")
    monkeypatch.chdir(tmp_path)
    words = ["train", "events.parquet", "-o", "model", "--epochs", 4, "--patience", 2, *WORDS]
    done = in_process.seqmel(*words, "--show-config")
    assert done.returncode == 0, done.stderr
    assert "  patience: 2\n" in done.stdout
    clients, sizes, time = done.stdout.splitlines()[-3:]
    assert clients.startswith(f"# {len(EVENTS):,} events of 24 clients: ")
    assert " parameters, " in sizes
    assert re.match(r"# 4 epochs of 1 step at \d+ ms: at most \d+ s$", time)
    assert [path.name for path in tmp_path.iterdir()] == ["events.parquet"]


def test_too_few_clients_are_refused_as_in_training() -> None:
    with pytest.raises(TrainingError, match="Found 1 of 1 client"):
        estimate_training(card_events(1), config=tiny_config())
