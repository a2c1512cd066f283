"""Columns with a list in each event: the kinds `set` and `vector`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from small import TINY, card_events, nested

import seqmel
from seqmel.core.errors import ConfigError, InputError, SchemaError
from seqmel.data.encoding.event_encoding import encode
from seqmel.data.fitting.statistics import ColumnBins, count_events
from seqmel.data.kinds.sets import SetItems, SetKind
from seqmel.data.kinds.vector import VectorKind, VectorScales
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.sources.reading import open_events
from seqmel.evaluation.drift import psi_of_counts
from seqmel.training.finetuning.finetune import config_for

ITEMS = ["milk", "bread", "jam", "tea"]


def with_lists(events: pa.Table) -> pa.Table:
    """The events with sets of text and of whole numbers, and vectors, each with some nulls."""
    random = np.random.default_rng(0)
    n = len(events)
    basket = [random.choice(ITEMS, random.integers(0, 4)).tolist() for _ in range(n)]
    shelf = [random.integers(0, 5, 2).tolist() for _ in range(n)]
    vector = [random.normal(3, 2, 4).tolist() for _ in range(n)]
    for i in range(0, n, 10):
        basket[i], vector[i] = None, None
    return (
        events.append_column("basket", pa.array(basket, pa.list_(pa.string())))
        .append_column("shelf", pa.array(shelf, pa.list_(pa.int64())))
        .append_column("vector", pa.array(vector, pa.list_(pa.float64())))
    )


@pytest.fixture(scope="module")
def events() -> pa.Table:
    return with_lists(card_events())


@pytest.fixture(scope="module")
def model(events: pa.Table) -> seqmel.Model:
    objective = ["coles", {"name": "event_prediction", "weight": 0.1}]
    return seqmel.train(events, config=TINY | {"objective": objective})


def codes(*sets: list[str | None] | None, width: int = 3) -> list[list[int]]:
    """The encoded values of sets of which b is more frequent than a."""
    found = SetKind().encode_values(SetItems(values=("b", "a"), width=width), sets)
    assert found is not None
    return [[int(code) for code in row] for row in found]


def test_lists_get_their_kind_by_their_type(model: seqmel.Model) -> None:
    assert model.schema.kinds == {"basket": "set", "shelf": "set", "vector": "vector"}


def test_a_set_is_its_items_once_each_the_most_frequent_first_and_the_unseen_last() -> None:
    assert codes(["a", "x", "b", "a", "y", None]) == [[2, 3, 1]]
    assert codes([], None, ["x"]) == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]
    assert codes(["x", "a", "b"], width=2) == [[2, 3]]


def test_a_set_is_the_mean_of_the_rows_of_its_items() -> None:
    kind, items = SetKind(), SetItems(values=("b", "a"), width=3)
    values = torch.from_numpy(kind.encode_values(items, [["b", "a"], ["x"], []]))
    (sums,) = kind.embed_wide([values], kind.layout({"c": items}, {}, {"c": 10}), torch.float)
    table = torch.randn(14, 8)
    found = (table[sums.rows] * sums.weights.unsqueeze(2)).sum(1)[sums.index]
    expected = torch.stack([(table[12] + table[13]) / 2, table[11], table[10]])
    torch.testing.assert_close(found, expected)


def test_a_vector_is_scaled_and_mapped_and_a_missing_one_has_its_own_row() -> None:
    kind, scales = VectorKind(), VectorScales(center=(1.0, 2.0), scale=(2.0, 4.0))
    encoded = kind.encode_values(scales, [[3.0, 2.0], [None, 4.0], None, [1e9, -1e9]])
    np.testing.assert_array_equal(encoded, [[1, 0], [0, 0.5], [np.nan, np.nan], [10, -10]])
    (sums,) = kind.embed_wide(
        [torch.from_numpy(encoded)], kind.layout({"v": scales}, {}, {"v": 5}), torch.float
    )
    assert sums.rows.tolist() == [5, 6, 7]
    expected = np.array([[1, 0, 0], [0, 0.5, 0], [0, 0, 1], [10, -10, 0]], np.float32)
    expected[:, :2] /= np.sqrt(2)
    np.testing.assert_allclose(sums.weights.numpy(), expected, rtol=1e-6)


def test_vectors_are_the_same_from_tables_files_rows_and_one_row_per_client(
    model: seqmel.Model, events: pa.Table, tmp_path: Path
) -> None:
    found = model.embed(events)
    model.save(tmp_path / "model")
    place = events.schema.get_field_index("vector")
    fixed = events.set_column(place, "vector", events["vector"].cast(pa.list_(pa.float32(), 4)))
    pq.write_table(fixed, tmp_path / "events.parquet")
    loaded = seqmel.load(tmp_path / "model")
    for other in (events.to_pandas(), nested(events, "client_id")):
        again = loaded.embed(other)
        np.testing.assert_allclose(again.loc[found.index], found, atol=1e-6)
    np.testing.assert_allclose(loaded.embed(tmp_path / "events.parquet"), found, atol=1e-4)
    client = int(found.index[0])
    rows = [event for event in events.to_pylist() if event["client_id"] == client]
    np.testing.assert_allclose(model.scorer().embed(rows), found.loc[client], atol=1e-5)


def test_the_order_of_a_set_means_nothing_and_its_items_do(
    model: seqmel.Model, events: pa.Table
) -> None:
    frame = events.to_pandas()
    found = model.embed(events)
    turned = frame.assign(basket=[x if x is None else x[::-1] for x in frame["basket"]])
    np.testing.assert_allclose(model.embed(turned).loc[found.index], found, atol=1e-6)
    other = frame.assign(basket=[["jam"]] * len(frame))
    assert not np.allclose(model.embed(other).loc[found.index], found)


def test_lists_have_aggregates_and_bins(model: seqmel.Model, events: pa.Table) -> None:
    frame = events.to_pandas()
    aggregates = seqmel.AggregateFeatures(client="client_id").set_output(transform="pandas")
    found = aggregates.fit_transform(events)
    baskets = frame.groupby("client_id")["basket"].agg(
        lambda x: len({item for items in x if items is not None for item in items})
    )
    np.testing.assert_array_equal(found["basket_distinct"], baskets.loc[found.index])
    batches = encode(open_events(events), model.schema, model.vocabulary)
    sequences = EncodedSequences.from_batches(batches, time=model.schema.time)
    *_, counts = count_events(model.statistics, [sequences])
    assert counts["vector"][-1] == frame["vector"].isna().sum()
    assert counts["basket"][0] == sum(x is None or not len(x) for x in frame["basket"])
    assert all(counts[name].sum() == len(frame) for name in ("basket", "vector"))


def test_drift_sees_every_item_and_models_of_the_first_item_keep_their_bins() -> None:
    fitted = SetItems(values=tuple("abcdefghijklmnop"), width=4)
    random = np.random.default_rng(0)

    def counts(others: str, size: int) -> np.ndarray:
        sets = [["a", *random.choice([*others], 2).tolist()] for _ in range(2_000)]
        bins = ColumnBins(edges=None, counts=(0,) * size, kind="set")
        return bins.count(SetKind().encode_values(fitted, sets))

    size, _ = SetKind().bins(fitted, [])
    before, same, other = (counts(known, size) for known in ("bcdefgh", "bcdefgh", "bcijklm"))
    assert psi_of_counts(before, same) < 0.1
    assert psi_of_counts(before, other) > 0.25
    assert counts("bc", fitted.size)[2] == 2_000
    values = SetKind().encode_values(fitted, [None, ["z"], ["a", "z"]])
    assert SetKind().bin_of(values, size).tolist()[:2] == [0, 1]
    assert SetKind().bin_of(values, size)[2] in (2, size - 1)


def test_several_tables_may_have_lists(events: pa.Table) -> None:
    tables = {"cards": events[::2], "visits": events[1::2].drop_columns(["basket", "vector"])}
    model = seqmel.train(tables, config=TINY)
    assert model.schema.kinds["cards.vector"] == "vector"
    assert model.embed(tables).notna().all(axis=None)


def test_what_is_ignored_is_ignored_whatever_its_type(events: pa.Table) -> None:
    schema = seqmel.train(events, config=TINY, ignore=["basket", "shelf", "vector"]).schema
    assert not schema.kinds


def vectors_of(*lengths: int) -> list[Any]:
    return [[0.5] * lengths[i % len(lengths)] for i in range(len(card_events()))]


def test_lists_of_unequal_length_are_no_vector(events: pa.Table) -> None:
    frame = events.to_pandas().drop(columns=["basket", "shelf"])
    uneven = frame.assign(vector=vectors_of(3, 4))
    left_out = seqmel.infer_schema(seqmel.open_events(uneven)).left_out
    assert left_out == {"vector": "lists of 3 to 4 numbers: a vector has one length"}
    with pytest.raises(SchemaError, match=r"holds lists of 3 to 4 numbers\. A vector has the same"):
        seqmel.train(uneven, kinds={"vector": "vector"})


def test_a_model_refuses_vectors_of_another_length_and_what_is_no_list(
    model: seqmel.Model, events: pa.Table
) -> None:
    frame = events.to_pandas()
    with pytest.raises(InputError, match=r"lists of 3 numbers, and the model was .* vectors of 4"):
        model.embed(frame.assign(vector=vectors_of(3)))
    with pytest.raises(InputError, match="holds text, and the model was trained with lists of nam"):
        model.embed(frame.assign(basket="milk"))
    with pytest.raises(InputError, match=r"holds numbers, and the model was trained with lists of"):
        model.embed(frame.assign(vector=1.5))


def test_fine_tuning_takes_the_kinds_that_training_was_given(events: pa.Table) -> None:
    model = seqmel.train(events, config=TINY | {"schema": {"kinds": {"city": "hashed"}}})
    assert model.schema.kinds.keys() == {"city", "basket", "shelf", "vector"}
    assert config_for(model, model.config).schema == model.config.schema
    one = seqmel.Config.from_dict({"schema": {"kinds": {"basket": "set"}}})
    assert config_for(model, one).schema == model.config.schema
    other = seqmel.Config.from_dict({"schema": {"kinds": {"basket": "hashed"}}})
    with pytest.raises(ConfigError, match=r"schema\.kinds cannot be changed by fine-tuning"):
        config_for(model, other)


@pytest.mark.parametrize("column", ["basket", "shelf", "vector"])
@pytest.mark.parametrize("nothing", [None, np.nan, []])
def test_a_column_of_nothing_is_read_whatever_its_type(
    model: seqmel.Model, events: pa.Table, column: str, nothing: Any
) -> None:
    place = events.schema.get_field_index(column)
    kind = events.schema.field(column).type
    missing = events.set_column(place, column, pa.nulls(len(events), kind))
    frame = events.to_pandas().assign(**{column: [nothing] * len(events)})
    if column == "vector" and nothing == []:
        with pytest.raises(InputError, match="lists of 0 numbers, and the model was trained with"):
            model.embed(frame)
    else:
        expected = model.embed(missing)
        np.testing.assert_allclose(model.embed(frame).loc[expected.index], expected, atol=1e-6)


def test_whole_numbers_in_a_set_may_be_floats_with_nulls(
    model: seqmel.Model, events: pa.Table
) -> None:
    place = events.schema.get_field_index("shelf")
    shelf = [[*items, None] for items in events["shelf"].to_pylist()]
    holes = events.set_column(place, "shelf", pa.array(shelf, pa.list_(pa.int64())))
    frame = holes.to_pandas()  # has arrays of floats
    found = model.embed(events)
    np.testing.assert_allclose(model.embed(frame).loc[found.index], found, atol=1e-6)
    rows = frame[frame["client_id"] == found.index[0]].to_dict("records")
    np.testing.assert_allclose(model.scorer().embed(rows), found.iloc[0], atol=1e-5)
    with pytest.raises(InputError, match="holds lists of numbers, and the model was trained with"):
        model.embed(frame.assign(shelf=[[1.5]] * len(frame)))


@pytest.mark.parametrize("kind", ["set", "vector"])
def test_a_column_that_is_no_list_is_neither(kind: str) -> None:
    with pytest.raises(SchemaError, match="holds text, not lists of"):
        seqmel.train(card_events(), kinds={"city": kind})


def test_lists_of_something_else_are_left_out() -> None:
    events = card_events()
    for odd, words in (([[1.0]], "lists of lists of numbers"), ([["a"]], "lists of lists of text"),
                       ([], "lists of nulls")):  # fmt: skip
        table = events.append_column("odd", pa.array([odd] * len(events)))
        schema = seqmel.infer_schema(seqmel.open_events(table))
        assert schema.left_out["odd"] == f"a column of {words} cannot be used"
    nothing = events.append_column("odd", pa.nulls(len(events), pa.string()))
    with pytest.raises(SchemaError, match=r"only nulls\. Leave it out of schema\.kinds"):
        seqmel.train(nothing, kinds={"odd": "text"})
