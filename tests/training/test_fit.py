"""Progress and messages of a running training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from small import SCHEMA, card_events, fitted, sequences, tiny_config

from seqmel.config.options.training import TrainingOptions
from seqmel.core.errors import TrainingError
from seqmel.core.progress import Progress, console_progress
from seqmel.training.fit import EpochReport, _warn_of_collapse, fit
from seqmel.training.module import RunningMeans


class Heard:
    """A Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.tasks: list[tuple[str, int | None, int]] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    @contextlib.contextmanager
    def task(
        self, name: str, total: int | None, unit: str, *, quiet: bool = False
    ) -> Iterator[Heard]:
        self.done = 0
        yield self
        self.tasks.append((name, total, self.done))

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.done += amount


def heard(**training: float) -> Heard:
    progress = Heard()
    trained(progress, **training)
    return progress


def trained(progress: Progress, **training: float) -> None:
    events = card_events(24)
    vocabulary = fitted(events, SCHEMA, min_count=2)
    options = tiny_config(
        training={"epochs": 2, "batch_size": 8, "validation_fraction": 0.3} | training
    )
    fit(sequences(events, SCHEMA, vocabulary), vocabulary, options, progress=progress)


def test_each_epoch_is_a_task_that_is_done_in_full_and_a_line_that_stays() -> None:
    progress = heard()
    assert progress.tasks == [("epoch 1/2", 16, 16), ("epoch 2/2", 16, 16)]
    plan, line = progress.lines[:2]
    assert plan == "training: 2 epochs of 2 steps; no early stopping; the best epoch is kept"
    assert line.startswith("epoch 1/2: ")
    assert all(
        word in line for word in ("loss", "recall@1", "same client", "others", "effective rank")
    )
    assert "(7 clients held out), distance" in line


def test_of_fewer_clients_than_a_batch_holds_no_more_are_counted_than_there_are() -> None:
    assert heard(batch_size=64).tasks == [("epoch 1/2", 17, 17), ("epoch 2/2", 17, 17)]


def test_where_there_is_no_terminal_an_epoch_is_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    trained(console_progress())
    lines = [line.partition(": ")[0] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["training", "epoch 1/2", "epoch 2/2"]


def test_without_held_out_clients_only_the_loss_is_told() -> None:
    plan, *lines = heard(validation_fraction=0.0).lines
    assert plan.endswith("no validation clients: the last epoch is kept")
    assert "loss" in lines[0]
    assert not any("recall" in line for line in lines)


@pytest.mark.parametrize(
    ("rank", "clients", "warned"),
    [(0.0, 10, True), (2.9, 300, True), (3.1, 300, False), (2.6, 9, False)],
)
def test_a_collapse_is_warned_of_in_words_where_enough_clients_show_it(
    rank: float, clients: int, warned: bool
) -> None:
    progress = Heard()
    _warn_of_collapse(
        [{"effective_rank": 50.0}, {"effective_rank": rank, "clients_held_out": clients}], progress
    )
    assert bool(progress.lines) is warned
    if warned:
        assert progress.lines[0].startswith("WARNING: the embeddings have collapsed")
        assert f"{rank:.1f} directions" in progress.lines[0]
        assert "learning_rate" in progress.lines[0]


@pytest.mark.parametrize("history", [[], [{"loss": 1.0}]])
def test_without_a_rank_there_is_no_warning(history: list[dict[str, float]]) -> None:
    progress = Heard()
    _warn_of_collapse(history, progress)
    assert progress.lines == []


def epoch_ended(loss: float, weight: float, *, first: float = 2.0) -> None:
    """What is asked of an epoch before it is kept, of one with this loss and a weight."""
    report = EpochReport(Heard(), TrainingOptions(gradient_clip=None), words=lambda row: "")
    batches = SimpleNamespace(clients=8)
    trainer = SimpleNamespace(
        current_epoch=4, global_step=2_000, num_training_batches=1, train_dataloader=batches
    )
    report.on_train_epoch_start(trainer, None)  # type: ignore[arg-type]
    report.on_train_batch_end(trainer, None, {"loss": torch.tensor(first)}, None, 0)  # type: ignore[arg-type]
    losses, layer = RunningMeans(), torch.nn.Linear(1, 1)
    losses.add({"loss": torch.tensor(loss)})
    torch.nn.init.constant_(layer.weight, weight)
    report.on_train_epoch_end(trainer, SimpleNamespace(losses=losses, parameters=layer.parameters))  # type: ignore[arg-type]


def test_an_epoch_is_kept_whose_loss_is_below_a_thousand_times_that_of_the_first_batch() -> None:
    epoch_ended(1_999.0, 0.5)
    epoch_ended(999.0, 0.5, first=0.0)
    with pytest.raises(
        TrainingError,
        match=r"by step 2,000 \(epoch 5\): the loss is 2001 and began at 2\. Lower training",
    ):
        epoch_ended(2_001.0, 0.5)
    with pytest.raises(TrainingError, match="the loss is 1001 and began at 0"):
        epoch_ended(1_001.0, 0.5, first=0.0)


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_an_epoch_after_which_weights_are_not_finite_is_not_kept(weight: float) -> None:
    with pytest.raises(
        TrainingError,
        match=r"weights are no longer finite\..* training\.gradient_clip \(it is null\)",
    ):
        epoch_ended(1.0, weight)
