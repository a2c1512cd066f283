"""The kinds of columns, and the kind `hashed`, which is never inferred."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small import TINY, card_events

import seqmel
from seqmel.core.errors import ModelError, SchemaError
from seqmel.core.progress import EventsWarning
from seqmel.data.encoding.event_encoding import encode
from seqmel.data.fitting.statistics import count_events
from seqmel.data.kinds.hashed import HashedColumn, HashedKind
from seqmel.data.kinds.registry import KINDS
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.sources.reading import open_events
from seqmel.data.vocabulary import Vocabulary
from seqmel.report.events import describe


def with_merchants(events: pd.DataFrame) -> pd.DataFrame:
    """The events with a column of many values, written as numbers with leading zeros."""
    number = np.random.default_rng(0).integers(0, 300, len(events))
    events = events.copy()
    events["merchant"] = [f"{n:05}" if n else None for n in number]
    return events


@pytest.fixture(scope="module")
def events() -> pd.DataFrame:
    return with_merchants(card_events().to_pandas())


@pytest.fixture(scope="module")
def model(events: pd.DataFrame) -> seqmel.Model:
    objective = ["coles", {"name": "event_prediction", "weight": 0.1}]
    config = TINY | {"schema": {"kinds": {"merchant": "hashed"}}, "objective": objective}
    return seqmel.train(events, config=config)


def test_every_kind_is_found_in_its_file_categories_and_numbers_first() -> None:
    assert list(KINDS)[:2] == ["categorical", "numeric"]
    assert "hashed" in KINDS


def test_a_hashed_column_gives_the_same_vectors_in_file_frame_and_saved_model(
    model: seqmel.Model, events: pd.DataFrame, tmp_path: Path
) -> None:
    found = model.embed(events)
    model.save(tmp_path / "model")
    events.to_csv(tmp_path / "events.csv", index=False)
    events.to_parquet(tmp_path / "events.parquet")
    for name in ("events.csv", "events.parquet"):
        again = seqmel.load(tmp_path / "model").embed(tmp_path / name)
        np.testing.assert_array_equal(again.loc[found.index.astype(again.index.dtype)], found)


def test_one_client_is_scored_as_in_the_batch_without_the_engine(
    model: seqmel.Model, events: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        seqmel.Scorer, "_encoded_by_engine", lambda *_: pytest.fail("the engine was used")
    )
    client = events["client_id"].iloc[0]
    vector = model.scorer().embed(events[events["client_id"] == client].to_dict("records"))
    np.testing.assert_allclose(vector, model.embed(events).loc[client], atol=1e-5)


@pytest.mark.parametrize(
    "values", [["a", "é", "", None, " a"], [5, -3, 0, 2**40, None], [1.5, 2.0], [True, False]]
)
def test_python_values_have_the_hashes_of_a_table(model: seqmel.Model, values: list[Any]) -> None:
    scorer = model.scorer()
    rest = {"mcc": "5411", "city": None, "amount": 1.0, "reading": None}
    events = [
        {"event_time": pd.Timestamp(2024, 1, 1 + day), "merchant": value} | rest
        for day, value in enumerate(values)
    ]
    expected = scorer._encoded_by_engine(events).columns["merchant"]
    np.testing.assert_array_equal(scorer._encoded(events).columns["merchant"], expected)


def test_a_value_is_the_sum_of_two_rows_and_null_has_its_own() -> None:
    kind, column = HashedKind(), HashedColumn(rows=10)
    layout = kind.layout({"a": column}, {}, {"a": 100})
    values = torch.tensor([0, 1, 1 + 37], dtype=torch.int32)
    rows, weights = kind.embed([values], torch.zeros(3, 0, dtype=torch.int64), layout, torch.float)
    assert rows.tolist() == [[110, 110], [100, 100], [107, 103]]
    assert weights.square().sum(1).tolist() == pytest.approx([1, 1, 1])
    assert kind.class_of(values, torch.empty(0)).tolist() == [0, 1, 38]


def test_the_merchant_changes_the_vector(model: seqmel.Model, events: pd.DataFrame) -> None:
    other = events.assign(merchant="another")
    assert not np.allclose(model.embed(events), model.embed(other))


def test_a_hashed_column_has_aggregates_bins_and_a_place_in_the_report(
    model: seqmel.Model, events: pd.DataFrame
) -> None:
    aggregates = seqmel.AggregateFeatures(client="client_id", kinds={"merchant": "hashed"})
    found = aggregates.set_output(transform="pandas").fit_transform(events)
    distinct = events.groupby("client_id")["merchant"].nunique()
    expected = distinct.loc[found.index].to_numpy()
    np.testing.assert_array_equal(found["merchant_distinct"], expected)
    batches = encode(open_events(events), model.schema, model.vocabulary)
    sequences = EncodedSequences.from_batches(batches, time=model.schema.time)
    nulls = int(events["merchant"].isna().sum())
    *_, counts = count_events(model.statistics, [sequences])
    assert counts["merchant"][0] == nulls
    assert counts["merchant"].sum() == len(events)
    summary = describe(sequences, model.vocabulary, torch.arange(2))
    (column,) = [column for column in summary.columns if column.role == "hashed"]
    assert column.nulls == pytest.approx(nulls / len(events))


def test_a_column_of_nulls_only_is_a_warning(model: seqmel.Model, events: pd.DataFrame) -> None:
    empty = events.assign(merchant=pd.Series(None, index=events.index, dtype="string"))
    with pytest.warns(EventsWarning, match="'merchant' has only nulls in 100% of the events"):
        list(seqmel.embed(model, empty))


def test_several_tables_may_have_hashed_columns(events: pd.DataFrame) -> None:
    tables = {"cards": events[::2], "visits": events[1::2].drop(columns="merchant")}
    schema = {"sources": {"cards": {"kinds": {"merchant": "hashed"}}}}
    model = seqmel.train(tables, config=TINY | {"schema": schema})
    assert model.schema.kinds == {"cards.merchant": "hashed"}
    assert model.embed(tables).notna().all(axis=None)


def test_an_estimator_takes_kinds(events: pd.DataFrame) -> None:
    made = seqmel.SequenceEmbedder(
        client="client_id", kinds={"merchant": "hashed"}, epochs=1, batch_size=8, device="cpu"
    )
    assert made.fit(events).model_.schema.kinds == {"merchant": "hashed"}


def test_an_unknown_kind_is_refused_with_the_nearest(events: pd.DataFrame) -> None:
    with pytest.raises(SchemaError, match=r"which there is not\. Did you mean 'hashed'"):
        seqmel.train(events, kinds={"merchant": "hashd"})


def test_a_column_has_one_kind(events: pd.DataFrame) -> None:
    with pytest.raises(SchemaError, match=r"named as categorical and as hashed\. Name it once"):
        seqmel.train(events, categorical=["merchant"], kinds={"merchant": "hashed"})


def test_a_vocabulary_of_a_later_version_is_refused(model: seqmel.Model) -> None:
    given = model.vocabulary.model_dump()
    given["kinds"] = {"later": {"merchant": {}}}
    with pytest.raises(ValueError, match="this version has no columns of the kind later"):
        Vocabulary.model_validate(given)


def test_onnx_refuses_other_kinds(model: seqmel.Model, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    with pytest.raises(ModelError, match="column 'merchant' of this one is hashed"):
        seqmel.export_onnx(model, tmp_path / "model.onnx")
