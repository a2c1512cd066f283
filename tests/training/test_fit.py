"""What a person is told of a training while it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from small import SCHEMA, card_events, fitted, sequences, tiny_config

from seqmel.training.fit import _warn_of_collapse, fit


class Heard:
    """A Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.tasks: list[tuple[str, int | None, int]] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    @contextlib.contextmanager
    def task(self, name: str, total: int | None, unit: str) -> Iterator[Heard]:
        self.done = 0
        yield self
        self.tasks.append((name, total, self.done))

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.done += amount


def heard(**training: float) -> Heard:
    events = card_events(24)
    vocabulary = fitted(events, SCHEMA, min_count=2)
    progress = Heard()
    options = tiny_config(training={"epochs": 2, "batch_size": 8, "validation_share": 0.3} | training)
    fit(sequences(events, SCHEMA, vocabulary), vocabulary, options, progress=progress)
    return progress


def test_each_epoch_is_a_task_that_is_done_in_full_and_a_line_that_stays() -> None:
    progress = heard()
    assert progress.tasks == [("epoch 1/2", 16, 16), ("epoch 2/2", 16, 16)]
    assert progress.lines[0].startswith("epoch 1/2: ")
    assert all(word in progress.lines[0] for word in ("loss", "recall@1", "same client", "others", "effective rank"))


def test_of_fewer_clients_than_a_batch_holds_no_more_are_counted_than_there_are() -> None:
    assert heard(batch_size=64).tasks == [("epoch 1/2", 17, 17), ("epoch 2/2", 17, 17)]


def test_without_held_out_clients_only_the_loss_is_told() -> None:
    progress = heard(validation_share=0.0)
    assert "loss" in progress.lines[0]
    assert "recall" not in progress.lines[0]


@pytest.mark.parametrize(("rank", "warned"), [(0.0, True), (2.9, True), (3.1, False)])
def test_a_collapse_is_warned_of_in_words(rank: float, warned: bool) -> None:
    progress = Heard()
    _warn_of_collapse([{"effective_rank": 50.0}, {"effective_rank": rank}], progress)
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
