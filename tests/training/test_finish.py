"""An interrupted training is finished from its best epoch, without further training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from in_process import InProcess
from safetensors.torch import load_file
from small import card_events, tiny_config

from seqmel.core.errors import InputError, OutputError
from seqmel.core.progress import silent
from seqmel.model import load_model
from seqmel.training.finish import finish
from seqmel.training.run import prepare, train

EVENTS = card_events()
TRAINING = {"epochs": 3, "batch_size": 8, "validation_fraction": 0.3}
CONFIG = tiny_config(training=TRAINING)


class StopAfter:
    """A progress that interrupts after the line of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def __getattr__(self, name: str) -> Any:
        return getattr(silent, name)

    def task(self, name: str, *rest: Any, **options: Any) -> Any:
        if name.startswith(f"epoch {self.epoch + 1}/"):
            raise KeyboardInterrupt
        return silent.task(name, *rest, **options)


def interrupted(folder: Path, events: Any = EVENTS, *, after: int = 2) -> Path:
    """A training that was interrupted after an epoch."""
    with pytest.raises(KeyboardInterrupt):
        train(events, folder / "model", config=CONFIG, progress=StopAfter(after))
    assert not (folder / "model").exists()
    return folder / "model"


def test_the_model_is_that_of_the_best_epoch_so_far(tmp_path: Path) -> None:
    output = interrupted(tmp_path)
    last = torch.load(output.with_name("model.partial") / "checkpoints" / "best.ckpt")
    assert finish(output) == output
    model = load_model(output)
    assert [row["epoch"] for row in model.metrics["history"]] == [1, 2]
    assert model.config.training.epochs == 2
    kept = load_file(str(output / "model.safetensors"))
    components = [kept.pop(name) for name in ("components.mean", "components.weight")]
    assert all(part.any() for part in components)  # fitted to the vectors of that epoch
    for name, weights in kept.items():
        assert torch.equal(last["state_dict"][f"encoder.{name}"], weights), name
    assert list(tmp_path.iterdir()) == [output]
    assert train(EVENTS, output, config=CONFIG, resume=True) == output  # finished for good
    assert [row["epoch"] for row in load_model(output).metrics["history"]] == [1, 2]


def test_the_command_finishes_a_run_by_either_name(tmp_path: Path, in_process: InProcess) -> None:
    pq.write_table(EVENTS, tmp_path / "events.parquet")
    interrupted(tmp_path, tmp_path / "events.parquet", after=1)
    done = in_process.seqmel("finish", tmp_path / "model.partial")
    assert (done.returncode, done.stdout) == (0, f"model in {tmp_path / 'model'}\n"), done.stderr
    assert len(load_model(tmp_path / "model").metrics["history"]) == 1


def test_a_run_on_prepared_sequences_needs_their_folder(tmp_path: Path) -> None:
    prepare(EVENTS, tmp_path / "prepared", config=CONFIG)
    output = interrupted(tmp_path, tmp_path / "prepared", after=1)
    with pytest.raises(InputError, match=r"trained on prepared sequences\. Name their folder"):
        finish(output)
    assert len(load_model(finish(output, tmp_path / "prepared")).metrics["history"]) == 1


def test_what_cannot_be_finished_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No unfinished run with a finished epoch lies in"):
        finish(tmp_path / "model")
    output = interrupted(tmp_path, after=1)
    output.mkdir()
    (output / "config.json").write_text("{}")
    with pytest.raises(OutputError, match="exists"):
        finish(output)
    assert (output.with_name("model.partial") / "checkpoints" / "last.ckpt").is_file()
