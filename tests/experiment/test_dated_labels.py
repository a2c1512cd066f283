"""A plan whose labels have a moment: histories are cut, clients and time are split."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from plans import QUICK, write
from small import TINY, card_events

import seqmel.experiment.run
from seqmel.core.errors import ConfigError, InputError, SeqmelError
from seqmel.data.sequences.prepared import PreparedSequences
from seqmel.experiment import read_plan, run_experiment
from seqmel.model import Model

EVENTS = card_events(40)
MOMENTS = [dt.datetime(1970, month, 20) for month in (3, 5, 7, 9)]
CARDS = {
    "events": "events.parquet",
    "labels": "moments.parquet",
    "targets": ["next"],
    "time_column": "when",
}


def plan(**changes: Any) -> dict[str, Any]:
    return QUICK | {"data": {"cards": CARDS | changes}, "rows": {"pooled": {}}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pq.write_table(EVENTS, tmp_path / "events.parquet")
    rows = [
        (client, moment, (client // 7 + i) % 2)
        for client in np.unique(EVENTS["client_id"].to_numpy())
        for i, moment in enumerate(MOMENTS)
    ]
    labels = pd.DataFrame(rows, columns=["client_id", "when", "next"])
    labels["days"] = 1 + labels["next"] * 30 + labels["client_id"] % 5
    labels["days_observed"] = labels["client_id"] % 3 > 0
    labels.to_parquet(tmp_path / "moments.parquet")
    return tmp_path


def results(folder: Path, asked: dict[str, Any]) -> pd.DataFrame:
    run_experiment(write(folder, asked), folder / "out", progress=False)
    return pd.read_parquet(folder / "out" / "results.parquet")


def test_vectors_and_aggregates_are_scored_at_the_moments(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[dict[str, pd.DataFrame]] = []
    real = seqmel.experiment.run.score

    def watched(y: Any, sets: dict[str, pd.DataFrame], **options: Any) -> Any:
        scored.append(sets)
        return real(y, sets, **options)

    monkeypatch.setattr(seqmel.experiment.run, "score", watched)
    found = results(folder, plan() | {"aggregates": True})
    assert {"aggregates", "pooled", "pooled + aggregates with order"} <= set(found["features"])
    sets = scored[-1]
    frame, rows = EVENTS.to_pandas(), sets["pooled"].index
    assert len(rows) == 160
    counts = [
        ((frame["client_id"] == client) & (frame["event_time"] < moment)).sum()
        for client, moment in rows
    ]
    assert sets["aggregates"].loc[rows, "events"].tolist() == counts


def test_a_split_by_time_pretrains_before_the_test_rows_and_tests_other_clients(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[PreparedSequences] = []
    tuned: list[tuple[set[Any], set[Any]]] = []
    real, predict = seqmel.experiment.run._trained, seqmel.experiment.by_fold._predicted

    def watched(prepared: PreparedSequences, *given: Any) -> Model:
        trained.append(prepared)
        return real(prepared, *given)

    def watched_fold(model: Any, prepared: Any, samples: Any, tested: pd.Index, *facts: Any) -> Any:
        tuned.append((set(tested.get_level_values(0)), set(tested.get_level_values(1))))
        return predict(model, prepared, samples, tested, *facts)

    monkeypatch.setattr(seqmel.experiment.run, "_trained", watched)
    monkeypatch.setattr(seqmel.experiment.by_fold, "_predicted", watched_fold)
    tune = {"tuned": {"scored": "finetuned", "finetuning": {"epochs": 1, "batch_size": 16}}}
    found = results(folder, plan(split="time", test_fraction=0.25) | {"rows": tune})
    assert sorted(found["fold"].unique()) == [0, 1]
    (early,) = trained
    _, last = early.sequences.time_range() or (0, 0)
    assert pd.Timestamp(last, unit="us") < MOMENTS[-1]
    assert [times for _, times in tuned] == [{pd.Timestamp(MOMENTS[-1])}] * 2
    assert tuned[0][0] & tuned[1][0] == set()
    assert len(tuned[0][0] | tuned[1][0]) == 40


SURVIVAL: dict[str, Any] = {"targets": ["days"], "task": "survival", "time_edges": [3, 20]}


def test_times_to_an_event_are_scored_by_rank_and_at_their_bounds(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = []
    real = seqmel.experiment.by_fold._predicted

    def watched(model: Any, *given: Any) -> Any:
        models.append(model)
        return real(model, *given)

    monkeypatch.setattr(seqmel.experiment.by_fold, "_predicted", watched)
    tune = {"scored": "finetuned", "finetuning": {"epochs": 1, "batch_size": 16}}
    asked = plan(**SURVIVAL) | {"rows": {"pooled": {}, "tuned": tune}, "label_fractions": [0.5, 1]}
    found = results(folder, asked)
    assert set(found["metric"]) == {"concordance", "calibration", "calibration_error"}
    assert set(found.loc[found["primary"], "metric"]) == {"concordance"}
    assert found["value"].notna().all()
    assert {"pooled", "pooled: linear", "tuned", "tuned, 0.5 of the labels"} <= set(
        found["features"]
    )
    assert [model.targets[0].edges for model in models] == [(3.0, 20.0)] * 4


def test_only_the_first_clients_are_scored(folder: Path) -> None:
    seen = results(folder, plan() | {"aggregates": True, "clients": 12, "trees": 2})
    assert {"aggregates", "pooled"} <= set(seen["features"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"time_column": None, "split": "time"}, "split by time needs time_column"),
        ({"test_fraction": 0.2}, "test_fraction belongs to split: time"),
        ({"split": "clients"}, "data.cards.split is 'clients'. Expected 'time'."),
        ({"observed": "days_observed"}, "observed belongs to task: survival"),
        ({"time_edges": [3], "task": "regression"}, "time_edges belongs to task: survival"),
        ({"task": "survivial"}, "'survivial'. Expected 'classification', 'regression' or"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    changes: dict[str, Any], words: str, folder: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        read_plan(write(folder, plan(**changes)))


def test_bounds_of_times_belong_to_the_data_set(folder: Path) -> None:
    base = QUICK["base"] | {"finetuning": {"time_edges": [3]}}
    with pytest.raises(ConfigError, match=r"Write time_edges below data\.cards"):
        read_plan(write(folder, plan(**SURVIVAL) | {"base": base}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"observed": "seen"}, "No column 'seen' .* Name the column with observed in the plan"),
        ({"time_edges": [20, 3]}, "Expected increasing numbers"),
    ],
)
def test_times_that_cannot_be_scored_are_refused_before_any_work(
    changes: dict[str, Any], words: str, folder: Path
) -> None:
    with pytest.raises(SeqmelError, match=words):
        results(folder, plan(**SURVIVAL | changes))
    assert not (folder / "out").exists()


def test_an_objective_that_learns_one_label_per_client_is_refused(folder: Path) -> None:
    rows = {"with labels": {"objective": ["coles", {"name": "classification", "weight": 0.5}]}}
    asked = plan() | {"rows": rows, "base": {k: v for k, v in TINY.items() if k != "encoder"}}
    with pytest.raises(InputError, match="classification learns one label per client"):
        results(folder, asked)
