"""The figures of an epoch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from small import SCHEMA, card_events, fitted, sequences, tiny_config

from seqmel.config import Config
from seqmel.core.errors import ConfigError
from seqmel.core.progress import Task, silent
from seqmel.training.fit import fit
from seqmel.training.module import RunningMeans


def test_means_are_those_of_a_list_and_begin_again() -> None:
    numbers = torch.rand(50, generator=torch.Generator().manual_seed(0))
    means = RunningMeans()
    for _ in range(2):
        means.clear()
        for number in numbers:
            means.add({"loss": number, "other": 2 * number})
        mean = numbers.mean().item()
        assert means.values() == pytest.approx({"loss": mean, "other": 2 * mean}, rel=1e-6)


def test_means_hold_on_to_nothing_that_they_are_given() -> None:
    means, number = RunningMeans(), torch.ones(())
    means.add({"loss": number})
    number.fill_(5.0)
    assert means.values() == {"loss": 1.0}


def test_a_rate_in_steps_falls_after_so_many_epochs() -> None:
    events = card_events(16)
    vocabulary = fitted(events, SCHEMA, min_count=2)
    training = {"epochs": 5, "batch_size": 8, "validation_fraction": 0.3, "learning_rate": 0.01}
    config = tiny_config(
        training=training | {"schedule": "step", "step_epochs": 2, "step_factor": 0.5}
    )
    _, history = fit(sequences(events, SCHEMA, vocabulary), vocabulary, config)
    rates = [row["learning_rate"] for row in history]  # at which each epoch learnt
    assert rates == pytest.approx([0.01, 0.01, 0.005, 0.005, 0.0025])


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"schedule": "step"}, "schedule step needs step_epochs and step_factor"),
        ({"schedule": "step", "step_epochs": 3}, "schedule step needs step_epochs and step_factor"),
        ({"step_factor": 0.5}, "are for schedule step, found one_cycle"),
    ],
)
def test_steps_of_a_rate_belong_to_their_schedule(training: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config.from_dict({"training": training})


class Heard:
    """A progress that remembers what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    @contextlib.contextmanager
    def task(
        self, name: str, total: int | None, unit: str, *, quiet: bool = False
    ) -> Iterator[Task]:
        with silent.task(name, total, unit) as task:
            yield task


@pytest.mark.parametrize("loss", ["triplet", "binomial_deviance", "quadruplet", "multi_similarity"])
def test_what_is_mined_is_watched_and_said(loss: str) -> None:
    events = card_events(16)
    vocabulary = fitted(events, SCHEMA, min_count=2)
    config = tiny_config(objective="coles", loss=loss)
    progress = Heard()
    _, (row,) = fit(sequences(events, SCHEMA, vocabulary), vocabulary, config, progress=progress)
    assert 0 < row["active"] <= 1
    assert 0 < row["mined_positive_distance"] < 2
    assert 0 < row["mined_negative_distance"] < 2
    assert f"{row['active']:.0%} of mined tuples active" in progress.lines[1]
