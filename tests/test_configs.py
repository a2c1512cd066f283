"""The configs that come with seqmel."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqmel.config import read_config

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_is_valid_and_says_what_it_is_for(path: Path) -> None:
    """Every option exists, and the first line is a comment."""
    read_config(path)
    assert path.read_text().startswith("# ")


def test_there_is_a_config_for_each_data_set() -> None:
    """data/<name>/prepare.py and configs/<name>.yaml go together."""
    sets = {path.parent.name for path in (Path(__file__).parents[1] / "data").glob("*/prepare.py")}
    assert sets <= {path.stem for path in CONFIGS}


PUBLISHED = [  # hidden size, slices, clients per batch, rate, epochs between its falls
    ("sber_age", 800, (5, 25, 200), 64, 1e-3, 30),
    ("sber_gender", 1024, (5, 15, 75), 128, 2e-3, 10),
]


@pytest.mark.parametrize(
    ("name", "size", "slices", "batch", "rate", "epochs"), PUBLISHED, ids=lambda v: str(v)
)
def test_the_presets_are_as_published(
    name: str, size: int, slices: tuple[int, int, int], batch: int, rate: float, epochs: int
) -> None:
    config = read_config(Path(__file__).parents[1] / "configs" / f"{name}.yaml")
    assert config.encoder.model_dump()["hidden_size"] == size
    views, training = config.views, config.training
    assert (views.name, views.count, views.min_length, views.max_length) == (
        "random_slices",
        *slices,
    )
    assert (views.event_dropout, config.event_encoder.noise, config.seed) == (0.01, 0.003, 42)
    assert (training.batch_size, training.learning_rate, training.epochs, training.min_events) == (
        batch,
        rate,
        150,
        25,
    )
    assert (training.schedule, training.step_epochs, training.step_factor) == (
        "step",
        epochs,
        0.9025,
    )
    assert (training.weight_decay, training.gradient_clip) == (0, None)
    loss, miner = config.loss.model_dump(), config.miner
    assert (loss["name"], loss["margin"], loss["reduction"]) == ("contrastive", 0.5, "sum")
    assert miner is not None
    assert (miner.name, miner.model_dump()["k"]) == ("hard_negatives", 5)
    assert [(part.name, part.model_dump()["head_size"]) for part in config.objective] == [
        ("coles", None)
    ]
