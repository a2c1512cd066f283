"""`train --logger` writes options and the metrics of each epoch where a tracker shows them."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from in_process import InProcess
from small import card_events, tiny_config

from seqmel.core.errors import ConfigError
from seqmel.model import load_model
from seqmel.training.hooks import Hooks
from seqmel.training.run import train
from seqmel.training.trackers import TRACKERS, flat_options, make_loggers

SMALL = ["encoder.name=gru", "encoder.hidden_size=8", "event_encoder.hidden_size=8"]
SMALL += ["training.validation_fraction=0.3", "training.batch_size=8"]


def test_the_command_logs_each_epoch_to_csv(tmp_path: Path, in_process: InProcess) -> None:
    pq.write_table(card_events(), tmp_path / "events.parquet")
    settings = [word for option in SMALL for word in ("--set", option)]
    words = ["train", tmp_path / "events.parquet", "-o", tmp_path / "model", *settings]
    done = in_process.seqmel(*words, "--epochs", 2, "--device", "cpu", "--logger", "csv")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "model.logs" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["recall_at_1"]]
    history = load_model(tmp_path / "model").metrics["history"]
    assert [float(row["recall_at_1"]) for row in rows] == pytest.approx(
        [row["recall_at_1"] for row in history]
    )
    options = (tmp_path / "model.logs" / "hparams.yaml").read_text()
    assert "encoder.hidden_size: 8" in options
    assert "training.epochs: 2" in options


def test_tensorboard_gets_the_metrics(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    config = tiny_config()
    hooks = Hooks(loggers=make_loggers(["tensorboard"], tmp_path / "model"))
    train(card_events(), tmp_path / "model", config=config, hooks=hooks)
    (file,) = (tmp_path / "model.logs").glob("events.out.tfevents.*")
    assert b"recall_at_1" in file.read_bytes()
    assert "training.batch_size: 8" in (tmp_path / "model.logs" / "hparams.yaml").read_text()


def test_options_are_plain_values_by_their_whole_names() -> None:
    options = flat_options(tiny_config(seed=7, pooling=["mean", "max"]))
    assert (options["seed"], options["training.batch_size"]) == (7, 8)
    assert options["pooling"] == "['mean', 'max']"


@pytest.mark.parametrize(
    ("name", "lightning"), [("mlflow", "MLFlowLogger"), ("wandb", "WandbLogger")]
)
def test_a_run_is_named_after_its_model(
    name: str, lightning: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    class Kept:
        def __init__(self, *given: Any, **options: Any) -> None:
            self.given, self.options = given, options
            made.append(self)

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker")
    monkeypatch.setattr(f"pytorch_lightning.loggers.{lightning}", Kept)
    assert make_loggers([name, name], tmp_path / "model") == made
    (one,) = made
    assert "model" in [*one.given, one.options.get("run_name")]
    if name == "mlflow":
        assert one.options["tracking_uri"] == "http://tracker"


def test_mlflow_may_write_to_the_folder_that_it_is_given_without_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uris: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "")  # so that it is put back
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")
    monkeypatch.setattr(
        "pytorch_lightning.loggers.MLFlowLogger",
        lambda *_, tracking_uri, **__: uris.append(tracking_uri),
    )
    make_loggers(["mlflow"], tmp_path / "model")
    assert uris == [(tmp_path / "mlruns").as_uri()]
    assert os.environ["MLFLOW_ALLOW_FILE_STORE"] == "true"


def test_a_tracker_that_is_unknown_or_not_installed_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"logger cannot be 'mlflo'.*Did you mean 'mlflow'\?"):
        make_loggers(["mlflo"], tmp_path / "model")

    def missing(*_: Any) -> None:
        raise ModuleNotFoundError("No module named 'wandb'")

    monkeypatch.setitem(TRACKERS, "wandb", missing)
    with pytest.raises(ConfigError, match=r"pip install 'seqmel\[wandb\]'"):
        make_loggers(["wandb"], tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
