"""An interrupted training is finished from its best epoch, without further training."""

from __future__ import annotations

import re
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
    with pytest.raises(InputError, match="No unfinished run with a finished epoch is in"):
        finish(tmp_path / "model")
    output = interrupted(tmp_path, after=1)
    output.mkdir()
    (output / "config.json").write_text("{}")
    with pytest.raises(OutputError, match="exists"):
        finish(output)
    assert (output.with_name("model.partial") / "checkpoints" / "last.ckpt").is_file()


class Lines:
    """A progress that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(silent, name)

    def say(self, line: str) -> None:
        self.lines.append(line)


def longer(epochs: int, **others: Any) -> Any:
    """The options of the interrupted run, with other epochs."""
    return tiny_config(training=TRAINING | {"epochs": epochs} | others)


def test_a_run_is_resumed_with_more_epochs(tmp_path: Path) -> None:
    output, said = interrupted(tmp_path), Lines()
    train(EVENTS, output, config=longer(5), resume=True, progress=said)
    model = load_model(output)
    rows = model.metrics["history"]
    assert ([row["epoch"] for row in rows], model.config.training.epochs) == ([1, 2, 3, 4, 5], 5)
    assert rows[4]["learning_rate"] < rows[2]["learning_rate"]  # the cycle ends with epoch 5
    plan, third, _, fifth, kept = said.lines[1:]
    assert plan == "training: 5 epochs of 2 steps; no early stopping; the best epoch is kept"
    assert re.match(r"epoch 3/5: .* others, effective rank \d+, about \d+ s left$", third)
    assert re.match(r"epoch 5/5: .* others, effective rank \d+$", fifth)
    best = max(rows, key=lambda row: row["recall_at_1"])
    recall = f"recall@1 {best['recall_at_1']:.3f}"
    assert kept == f"kept epoch {best['epoch']:.0f}, {recall}"


def test_a_run_is_resumed_with_fewer_epochs_than_it_has_done(tmp_path: Path) -> None:
    output, said = interrupted(tmp_path), Lines()
    train(EVENTS, output, config=longer(1), resume=True, progress=said)
    model = load_model(output)
    assert len(model.metrics["history"]) == model.config.training.epochs == 2
    assert any(line.startswith("2 epochs are done, more than the 1") for line in said.lines)


def test_a_run_is_resumed_with_another_patience(tmp_path: Path) -> None:
    slow = {"learning_rate": 1e-9, "patience": 3}
    with pytest.raises(KeyboardInterrupt):
        train(EVENTS, tmp_path / "m", config=longer(9, **slow), progress=StopAfter(3))
    said = Lines()
    config = longer(9, **slow | {"patience": 2})
    train(EVENTS, tmp_path / "m", config=config, resume=True, progress=said)
    assert len(load_model(tmp_path / "m").metrics["history"]) == 3
    assert "stopped early after epoch 3 of 9: no better recall@1 in 2 epochs" in said.lines[-1]


def test_other_options_are_still_refused_on_resume(tmp_path: Path) -> None:
    output = interrupted(tmp_path)
    with pytest.raises(OutputError, match=r"training.batch_size: 8 there, 4 now"):
        train(EVENTS, output, config=longer(5, batch_size=4), resume=True)
