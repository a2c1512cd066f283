"""A plan with several event tables, and with facts about the clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from plans import QUICK, write
from small import two_tables

import seqmel.experiment.by_fold
from seqmel.core.errors import ConfigError, SeqmelError
from seqmel.experiment import read_plan, run_experiment

BANK: dict[str, Any] = {
    "events": {"cards": "cards.parquet", "clicks": {"path": "clicks.csv", "ignore": ["page"]}},
    "facts": "facts.parquet",
    "labels": "labels.parquet",
    "targets": ["churn"],
}
TUNED: dict[str, Any] = {"scored": "finetuned", "finetuning": {"epochs": 1, "batch_size": 8}}


def plan(**changes: Any) -> dict[str, Any]:
    rows = {"pooled": {}, "joint": TUNED, "events alone": TUNED | {"facts": False}}
    return QUICK | {"data": {"bank": BANK | changes}, "rows": rows, "aggregates": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bank")
    tables = two_tables()
    tables["cards"].to_parquet(folder / "cards.parquet")
    tables["clicks"].to_csv(folder / "clicks.csv", index=False)
    ids = np.unique(tables["cards"]["client_id"])
    facts = pd.DataFrame({"client_id": ids, "age": np.arange(24.0), "region": ["n", "s"] * 12})
    facts.to_parquet(folder / "facts.parquet")
    labels = pd.DataFrame({"client_id": ids, "churn": facts["age"] % 4 < 2})
    labels.to_parquet(folder / "labels.parquet")
    return folder


def test_rows_are_scored_over_all_tables_with_facts_and_without(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = []
    real = seqmel.experiment.by_fold._predicted

    def watched(model: Any, *given: Any) -> Any:
        models.append(model)
        return real(model, *given)

    monkeypatch.setattr(seqmel.experiment.by_fold, "_predicted", watched)
    run_experiment(write(folder, plan()), folder / "out", progress=False)
    found = pd.read_parquet(folder / "out" / "results.parquet")
    once = found[(found["metric"] == "auroc") & (found["fold"] == 0)]["features"]
    assert once.is_unique
    assert set(once) == {
        "aggregates",
        "aggregates with order",
        "facts",
        "aggregates with order + facts",
        "pooled",
        "pooled: linear",
        "pooled + facts",
        "pooled + aggregates with order",
        "pooled + aggregates with order + facts",
        "pooled: linear, aggregates with order: averaged",
        "pooled: linear, aggregates with order + facts: averaged",
        "joint",
        "events alone",
    }
    schema = models[0].schema
    assert set(schema.sources) == {"cards", "clicks"}
    assert "clicks.page" in schema.left_out
    assert [model.facts and model.facts.names for model in models] == [("age", "region")] * 2 + [
        None
    ] * 2


def test_results_of_other_tables_or_facts_are_not_read_again(folder: Path) -> None:
    asked = plan() | {"rows": {"pooled": {}}, "aggregates": False}
    run_experiment(write(folder, asked), folder / "again", progress=False)
    found = pd.read_parquet(folder / "again" / "results.parquet")
    assert set(found["features"]) == {"facts", "pooled", "pooled: linear", "pooled + facts"}
    facts = pd.read_parquet(folder / "facts.parquet")
    facts.assign(age=0.0, income=1.0).to_parquet(folder / "facts.parquet")
    with pytest.raises(SeqmelError, match="The facts of bank changed"):
        run_experiment(folder / "plan.yaml", folder / "again", progress=False)
    facts.to_parquet(folder / "facts.parquet")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"events": {"cards": {"path": "x", "tiem": "at"}}}, "data.bank.events.cards.tiem.*'time'"),
        ({"events": {"cards": {"time": "at"}}}, "events.cards.path"),
        ({"events": {"a card": "x"}}, "'a card' cannot name a source"),
        ({"events": 3}, "found 3. Expected a path"),
        ({"facts": None, "fact_columns": ["age"]}, "fact_columns belong to facts"),
        ({"schema": {"sources": {"clicks": {"time": "ts"}}}}, "in events and in schema.sources"),
    ],
)
def test_tables_and_facts_that_cannot_be_are_refused(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        read_plan(write(tmp_path, plan(**changes)))


def test_facts_that_hold_the_target_are_refused_before_anything_is_written(folder: Path) -> None:
    asked = plan(facts="labels.parquet")
    with pytest.raises(ConfigError, match="'churn' is a column of the labels"):
        run_experiment(write(folder, asked), folder / "none", progress=False)
    assert not (folder / "none").exists()


def test_whether_a_row_has_facts_is_true_or_false(tmp_path: Path) -> None:
    asked = plan() | {"rows": {"pooled": {"facts": "age"}}}
    with pytest.raises(ConfigError, match="facts is 'age'"):
        read_plan(write(tmp_path, asked))
