"""Labels and embeddings: accepted formats, refusals, and matching by id."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from seqmel.core.errors import InputError, SchemaError
from seqmel.data.tables.labels import (
    align,
    client_of_embeddings,
    join_features,
    read_embeddings,
    read_labels,
)


def _frame(ids: list[object], **columns: list[float]) -> pd.DataFrame:
    return pd.DataFrame(columns, index=pd.Index(ids, name="client_id"), dtype="float32")


# --------------------------------------------------------------------------------------------------
# labels


def test_labels_are_the_same_from_files_and_tables(tmp_path: Path) -> None:
    frame = pd.DataFrame({"gender": ["F", "M", "F"], "client_id": [3, 1, 2]})
    frame.to_parquet(tmp_path / "labels.parquet")
    frame.to_csv(tmp_path / "labels.csv", index=False)
    given = [
        tmp_path / "labels.parquet",
        str(tmp_path / "labels.csv"),
        frame,
        pl.from_pandas(frame),
        pl.from_pandas(frame).lazy(),
        ds.dataset(pa.Table.from_pandas(frame)),
    ]
    for labels in [*given, pa.Table.from_pandas(frame), frame.set_index("client_id")]:
        y = read_labels(labels, "gender")
        assert y.to_dict() == {3: "F", 1: "M", 2: "F"}
        assert (y.name, y.index.name) == ("gender", "client_id")


def test_a_series_of_labels_is_indexed_by_client_whether_its_index_has_a_name_or_not() -> None:
    named = pd.Series([1, 0, 1], index=pd.Index([3, 1, 2], name="client_id"), name="target")
    for labels, client in (
        (named, None),
        (named.rename_axis(None), None),
        (named.rename_axis(None), "who"),
    ):
        assert read_labels(labels, "target", client=client).to_dict() == {3: 1, 1: 0, 2: 1}


def test_labels_may_be_a_dictionary_of_columns() -> None:
    assert read_labels({"client_id": [3, 1], "target": ["a", "b"]}, "target").to_dict() == {
        3: "a",
        1: "b",
    }


def test_clients_without_a_label_are_left_out() -> None:
    frame = pd.DataFrame({"client_id": [1, 2, 3, 4], "age": [30.0, np.nan, np.inf, 40.0]})
    assert read_labels(frame, "age").to_dict() == {1: 30.0, 4: 40.0}
    table = pa.table({"client_id": [1, 2], "age": [30.0, float("nan")]})
    assert read_labels(table, "age").index.tolist() == [1]


def test_labels_keep_their_kind() -> None:
    table = pa.table(
        {
            "client_id": [1, 2],
            "whole": [0, 1],
            "flag": [True, False],
            "text": pa.array(["a", "b"]).dictionary_encode(),
            "money": pa.array([1, 2], pa.decimal128(12, 2)),
        }
    )
    kinds = {name: read_labels(table, name).dtype.kind for name in ("whole", "flag", "money")}
    assert kinds == {"whole": "i", "flag": "b", "money": "f"}
    assert read_labels(table, "text").tolist() == ["a", "b"]


def test_columns_may_be_named_like_those_of_the_query() -> None:
    frame = pd.DataFrame({"id": [5, 6], "label": [None, 1.0], "value": [1.0, 2.0]})
    assert read_labels(frame, "value", client="id").tolist() == [1.0, 2.0]
    assert read_labels(frame, "label", client="id").index.tolist() == [6]


def test_a_missing_target_offers_the_nearest_names() -> None:
    frame = pd.DataFrame({"client_id": [1], "gender": ["F"]})
    with pytest.raises(
        SchemaError, match=r"No column 'gendr' in the given DataFrame\. Did you mean 'gender'\?"
    ):
        read_labels(frame, "gendr")
    with pytest.raises(SchemaError, match="No column 'client' in"):
        read_labels(frame, "gender", client="client")


def test_a_target_that_is_the_client_or_a_date_is_refused() -> None:
    frame = pd.DataFrame({"client_id": [1], "born": [pd.Timestamp("2000-01-01")]})
    with pytest.raises(SchemaError, match="is the client column"):
        read_labels(frame, "client_id")
    with pytest.raises(SchemaError, match="holds timestamps"):
        read_labels(frame, "born")


def test_a_client_with_two_labels_is_refused() -> None:
    frame = pd.DataFrame({"client_id": [7, 7, 8], "gender": ["F", "M", "F"]})
    with pytest.raises(InputError, match="Client 7 has 2 rows in the given DataFrame"):
        read_labels(frame, "gender")


def test_labels_without_a_client_are_refused() -> None:
    table = pa.table({"client_id": [1, None], "gender": ["F", "M"]})
    with pytest.raises(
        InputError, match=r"1 row of the given Table has no client \(column 'client_id' is null\)"
    ):
        read_labels(table, "gender")


def test_labels_that_cannot_be_read_end_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    empty = pd.DataFrame(
        {"client_id": pd.Series([], dtype="int64"), "gender": pd.Series([], dtype="int64")}
    )
    unknown = pd.DataFrame({"client_id": [1], "gender": [np.nan]})
    for labels, message in (
        (tmp_path / "none.parquet", "No such file"),
        (tmp_path / "broken.parquet", "truncated"),
        (empty, "has no rows"),
        (unknown, "holds only nulls"),
        (3, "Expected a path"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            read_labels(labels, "gender")
        assert "\n" not in str(caught.value)


# --------------------------------------------------------------------------------------------------
# embeddings


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_vectors_are_read_from_columns(tmp_path: Path, kind: type) -> None:
    frame = pd.DataFrame({"id": ["b", "a"], "emb_0000": [1, 2], "emb_0001": [3, 4.5]})
    frame = frame.astype({"emb_0000": kind, "emb_0001": kind})
    frame.to_parquet(tmp_path / "e.parquet")
    for embeddings in (tmp_path / "e.parquet", frame, frame.set_index("id")):
        found = read_embeddings(embeddings)
        assert found.loc["a"].tolist() == [2, 4.5]
        assert (found.dtypes == np.float32).all()
        assert found.index.name == "id"


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.list_(pa.float16()), pa.list_(pa.float32(), 2)]
)
def test_vectors_are_read_from_one_list_column(tmp_path: Path, kind: pa.DataType) -> None:
    values = pa.array(np.array([1, 2, 3, 4.5], kind.value_type.to_pandas_dtype()))
    fixed = pa.types.is_fixed_size_list(kind)
    column = (
        pa.FixedSizeListArray.from_arrays(values, 2)
        if fixed
        else pa.ListArray.from_arrays([0, 2, 4], values)
    )
    table = pa.table({"client_id": [10, 20], "embedding": column})
    pq.write_table(table, tmp_path / "e.parquet")
    for embeddings in (table, tmp_path / "e.parquet"):
        found = read_embeddings(embeddings)
        assert found.columns.tolist() == ["emb_0000", "emb_0001"]
        assert found.loc[20].tolist() == [3, 4.5]
        assert (found.dtypes == np.float32).all()


def test_columns_beside_the_vector_are_left_out() -> None:
    frame = pd.DataFrame({"emb_0000": [1.0], "segment": ["a"], "uid": [5], "gender": [1]})
    assert read_embeddings(frame, client="uid").columns.tolist() == ["emb_0000"]


def test_any_table_of_numbers_is_a_vector() -> None:
    frame = pd.DataFrame({"uid": [5], "amount_mean": [1.0], "events": [3]})
    assert read_embeddings(frame).loc[5].to_dict() == {"amount_mean": 1, "events": 3}


def test_embeddings_that_do_not_fit_are_refused() -> None:
    for table, message in (
        ({"uid": [1, 1], "emb_0000": [1.0, 2.0]}, "Client 1 has 2 rows"),
        ({"uid": [1, 2], "embedding": [[1.0, 2.0], [3.0]]}, "Client 2 has a vector of length 1"),
        ({"uid": [1, 2], "embedding": [[1.0, 2.0], None]}, "Client 2 has a vector of length 0"),
        ({"uid": [1], "embedding": pa.array([[]], pa.list_(pa.float32()))}, "none empty"),
    ):
        with pytest.raises(InputError, match=message):
            read_embeddings(pa.table(table))
    with pytest.raises(SchemaError, match=r"columns that are not numeric: city \(text\)"):
        read_embeddings(pa.table({"uid": [1], "city": ["x"]}))
    with pytest.raises(SchemaError, match="no column"):
        read_embeddings(pa.table({"uid": [1]}))


# --------------------------------------------------------------------------------------------------
# match


def test_clients_are_matched_by_id_never_by_position() -> None:
    y = pd.Series([0, 1, 2], index=[1, 2, 3])
    features = _frame([3, 1, 2], x=[30, 10, 20])
    matched_y, matched_x = align(y, features)
    assert matched_y.tolist() == [0, 1, 2]
    assert matched_x["x"].tolist() == [10, 20, 30]


def test_only_clients_on_both_sides_remain() -> None:
    y, x = align(pd.Series([0, 1, 2], index=["a", "b", "c"]), _frame(["c", "d", "a"], x=[3, 4, 1]))
    assert y.index.tolist() == x.index.tolist() == ["a", "c"]
    assert x["x"].tolist() == [1, 3]


@pytest.mark.parametrize("ids", [["12", "7"], [12.0, 7.0], np.array([12, 7], np.uint8)])
def test_ids_of_another_type_match_by_value(ids: list[object]) -> None:
    y, x = align(pd.Series([0, 1], index=[7, 12]), _frame(list(ids), x=[12, 7]))
    assert y.tolist() == [0, 1]
    assert x["x"].to_dict() == {7: 7, 12: 12}


def test_where_nothing_matches_both_sides_are_counted_and_shown() -> None:
    with pytest.raises(
        InputError, match=r"Labels: 2 clients, such as 1, 2; features: 1 client, such as 'x9'\."
    ):
        align(pd.Series([0, 1], index=[1, 2]), _frame(["x9"], x=[1]))


def test_a_client_that_comes_twice_cannot_be_matched() -> None:
    with pytest.raises(InputError, match="Client 1 has 2 rows in the features"):
        align(pd.Series([0], index=[1]), _frame([1, 1], x=[1, 2]))


def test_features_are_put_beside_each_other_by_id() -> None:
    joined = join_features(
        _frame([1, 2, 3], x=[1, 2, 3]), _frame(["3", "1"], x=[30, 10], z=[33, 11])
    )
    assert joined.index.tolist() == [1, 3]
    assert joined.columns.tolist() == ["x", "x_2", "z"]
    assert joined.loc[3].tolist() == [3, 30, 33]


# --------------------------------------------------------------------------------------------------
# the client column


def _own(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"a": [5, 6, 7], "b": [0.5, 0.25, 1.0]} | columns)


@pytest.mark.parametrize(
    "layout",
    [
        "index of pandas",
        "named like a client",
        "last among emb_",
        "as the labels call it",
        "text first",
    ],
)
def test_the_client_column_of_embeddings_is_found_wherever_it_stands(
    layout: str, tmp_path: Path
) -> None:
    path, ids = tmp_path / "own.parquet", [30, 10, 20]
    likely = None
    if (
        layout == "index of pandas"
    ):  # which pandas writes last, here after a column of whole numbers
        _own().set_index(pd.Index(ids, name="who")).to_parquet(path)
    elif layout == "named like a client":
        _own(customer_id=ids).to_parquet(path)
    elif layout == "last among emb_":
        pd.DataFrame({"emb_0000": [5, 6, 7], "emb_0001": [1, 2, 3], "who": ids}).to_parquet(path)
    elif layout == "as the labels call it":
        _own(who=ids).to_parquet(path)
        likely = "who"
    else:
        ids = ["x", "y", "z"]
        pd.DataFrame({"who": ids, "b": [0.5, 0.25, 1.0]}).to_parquet(path)
    found = read_embeddings(path, likely=likely)
    assert found.index.tolist() == ids
    assert client_of_embeddings(path, likely) == found.index.name
    assert found.shape == (3, 1 if layout == "text first" else 2)


def test_row_numbers_that_pandas_wrote_are_neither_client_nor_vector(tmp_path: Path) -> None:
    path = tmp_path / "own.parquet"
    _own(client_id=[30, 10, 20]).iloc[[2, 0]].to_parquet(
        path
    )  # row numbers 2 and 0 are written too
    found = read_embeddings(path)
    assert found.index.tolist() == [20, 30]
    assert found.columns.tolist() == ["a", "b"]
    _own().set_index(pd.Index([30, 10, 20])).to_parquet(path)  # an index of clients without a name
    assert read_embeddings(path).index.tolist() == [30, 10, 20]


def test_embeddings_of_which_nothing_tells_the_client_are_refused(tmp_path: Path) -> None:
    for frame in (_own(who=[30, 10, 20]), pd.DataFrame({"b": [0.5, 0.25], "who": [1, 2]})):
        frame.to_parquet(tmp_path / "own.parquet")
        with pytest.raises(SchemaError, match=r"Which column of .* holds the client\? .*--client"):
            read_embeddings(tmp_path / "own.parquet")
        assert read_embeddings(tmp_path / "own.parquet", client="who").index.name == "who"
