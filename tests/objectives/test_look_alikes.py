"""Which pairs are left out of the negatives, and that training leaves them out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from small import card_events, tiny_config
from torch import Tensor

from seqmel.config.options.objectives import LeaveOutOptions
from seqmel.core.errors import InputError, SchemaError
from seqmel.objectives.look_alikes import ClientTraits, LookAlikes
from seqmel.training.client_traits import minhash
from seqmel.training.run import train_model

CLIENTS = torch.tensor([0, 0, 1, 2, 3, -1])
VECTORS = torch.nn.functional.normalize(
    torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [0.0, 1.0], [-1.0, 0.0], [1.0, 0.0]]), dim=1
)


def pairs(
    options: dict[str, Any], traits: ClientTraits | None = None, *, progress: float = 0.0
) -> set[tuple[int, int]]:
    """The pairs of clients that are left out."""
    found = LookAlikes(LeaveOutOptions(**options), traits).excluded(
        VECTORS, CLIENTS, anchors=5, progress=progress
    )
    assert found is not None
    rows: Tensor = found.nonzero()
    return {(int(CLIENTS[i]), int(CLIENTS[j])) for i, j in rows}


def test_pairs_of_high_cosine_are_left_out_and_empty_slots_and_own_views_are_no_pairs() -> None:
    assert pairs({"cosine": 0.9}) == {(0, 1), (1, 0)}


def test_the_cosine_moves_during_training() -> None:
    options = {"cosine": -1.0, "cosine_start": 1.1 - 0.1}
    assert pairs(options) == set()
    assert len(pairs(options, progress=1.0)) == 12


def test_clients_of_one_group_are_left_out_and_unknown_groups_are_no_group() -> None:
    traits = ClientTraits(groups=torch.tensor([5, -1, 5, -1]))
    options = {"table": "t", "column": "c"}
    assert pairs(options, traits) == {(0, 2), (2, 0)}


def test_clients_that_an_earlier_model_had_near_are_left_out() -> None:
    traits = ClientTraits(
        vectors=torch.eye(3)[[0, 1, 1, 2]] * torch.tensor([1.0, 1, 1, 0])[:, None]
    )
    assert pairs({"vectors": "v"}, traits) == {(1, 2), (2, 1)}


def test_nothing_is_left_out_by_default() -> None:
    look_alikes = LookAlikes(LeaveOutOptions())
    assert look_alikes.excluded(VECTORS, CLIENTS, anchors=5, progress=0.0) is None


def test_signatures_estimate_the_fraction_of_shared_subsequences() -> None:
    random = np.random.default_rng(0)
    first = random.integers(0, 50, (2, 400), dtype=np.int32)
    second = first.copy()
    second[:, 200:] = random.integers(0, 50, (2, 200), dtype=np.int32)
    short = first[:, :1]
    found = minhash(
        np.concatenate([first, second, first, short], axis=1), np.array([400, 400, 400, 1])
    )

    def grams(codes: np.ndarray) -> set[tuple[int, ...]]:
        return {tuple(codes[:, i : i + 3].ravel().tolist()) for i in range(codes.shape[1] - 2)}

    shared = len(grams(first) & grams(second)) / len(grams(first) | grams(second))
    assert (found[0] == found[1]).mean() == pytest.approx(shared, abs=0.15)
    assert (found[0] == found[2]).all()
    assert (found[0] == found[3]).mean() < 0.1


def twice(events: pa.Table) -> pa.Table:
    """All clients, and all of them again under new ids."""
    place = events.schema.get_field_index("client_id")
    moved = pa.array(events["client_id"].to_numpy() + 100_000, events.schema.field(place).type)
    return pa.concat_tables([events, events.set_column(place, "client_id", moved)])


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Clients with a copy each, their households, and vectors by which copies are near."""
    events = twice(card_events(16))
    ids = np.array(sorted(set(events["client_id"].to_pylist())))
    found = {name: tmp_path / f"{name}.parquet" for name in ("table", "vectors", "strangers")}
    pd.DataFrame({"client_id": ids, "household": ids % 100_000}).to_parquet(found["table"])
    drawn = np.random.default_rng(0).normal(size=(16, 30)).astype(np.float32)
    numbers = pd.DataFrame(np.concatenate([drawn, drawn])).add_prefix("emb_")
    numbers.insert(0, "client_id", ids)
    numbers.to_parquet(found["vectors"])
    strangers = pd.DataFrame({"client_id": ids + 7_000_000, "household": ids})
    strangers.to_parquet(found["strangers"])
    return found


@pytest.mark.parametrize("by", ["duplicates", "table", "vectors"])
def test_training_leaves_out_copies_of_clients_and_says_how_many(
    by: str, files: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    leave_out: dict[str, Any] = {
        "duplicates": {"duplicates": 1.0},
        "table": {"table": str(files["table"]), "column": "household"},
        "vectors": {"vectors": str(files["vectors"])},
    }[by]
    # One batch of all clients that are trained on, so that the fraction is known.
    config = tiny_config(
        objective={"leave_out": leave_out},
        training={"epochs": 1, "batch_size": 32, "validation_fraction": 0.0},
    )
    model = train_model(twice(card_events(16)), config=config, progress=True)
    (epoch,) = model.metrics["history"]
    # Of the views of the 31 other clients, those of the copy; short clients have fewer views.
    assert epoch["left_out"] == pytest.approx(1 / 31, rel=0.05)
    assert f"{epoch['left_out']:.2%} of negatives left out" in capfd.readouterr().err


def test_tables_that_do_not_fit_are_refused_in_a_line(files: dict[str, Path]) -> None:
    for leave_out, error, words in (
        ({"table": str(files["table"]), "column": "hous"}, SchemaError, "mean 'household'"),
        ({"table": str(files["strangers"]), "column": "household"}, InputError, "same client ids"),
        ({"vectors": "nowhere.parquet"}, InputError, "nowhere.parquet"),
    ):
        with pytest.raises(error, match=words):
            train_model(card_events(16), config=tiny_config(objective={"leave_out": leave_out}))
