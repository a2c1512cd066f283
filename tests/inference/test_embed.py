"""A vector depends only on the client's events: not on batch mates, batch, threads or layout."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from small import SCHEMA, batches, card_events, fitted, nested, tiny_config

from seqmel.core.errors import InputError, ModelError, OutputError, SchemaError
from seqmel.data.sequences.prepared import write_prepared
from seqmel.data.vocabulary import Vocabulary
from seqmel.inference.embed import embed, embed_to_parquet, token_batches
from seqmel.model import Model
from seqmel.nn.encoder import SequenceEncoder

EVENTS = card_events(20)
ENCODERS: dict[str, Any] = {
    "gru": {"name": "gru", "hidden_size": 16},
    "lstm": {"name": "lstm", "hidden_size": 16, "layers": 2},
    "transformer": {"name": "transformer", "hidden_size": 16, "heads": 2},
    "none": "none",
    "states apart": {
        "name": "gru",
        "hidden_size": 16,
        "input_size": 8,
        "pooling": ["last", "mean"],
    },
}
CLOSE = {"rtol": 0.0, "atol": 1e-5}


@functools.cache
def vocabulary() -> Vocabulary:
    return fitted(EVENTS, SCHEMA, min_count=2)


@functools.cache
def untrained(encoder: str) -> Model:
    """A model with random weights and all ways of pooling."""
    pooling = ["last", "mean", "max", "std", "attention"]
    objective = "next_event" if encoder == "states apart" else "coles"
    config = tiny_config(encoder=ENCODERS[encoder], pooling=pooling, objective=objective)
    torch.manual_seed(0)
    return Model(config, SCHEMA, vocabulary(), SequenceEncoder(config, vocabulary()).eval(), {})


def vectors(model: Model, events: Any = EVENTS) -> dict[Any, np.ndarray[Any, Any]]:
    """Client id -> its vector, in the order of the output."""
    found: dict[Any, np.ndarray[Any, Any]] = {}
    for ids, numbers in embed(model, events, device="cpu"):
        found |= dict(zip(ids.to_pylist(), numbers.numpy(), strict=True))
    return found


@functools.cache
def expected(encoder: str) -> dict[Any, np.ndarray[Any, Any]]:
    return vectors(untrained(encoder))


def assert_same(found: dict[Any, Any], wanted: dict[Any, Any]) -> None:
    assert set(found) == set(wanted)
    for client, vector in found.items():
        np.testing.assert_allclose(vector, wanted[client], **CLOSE)


def with_options(model: Model, **embedding: int) -> Model:
    options = model.config.embedding.model_copy(update=embedding)
    return dataclasses.replace(model, config=model.config.model_copy(update={"embedding": options}))


# --------------------------------------------------------------------------------- what a vector
# depends on


@pytest.mark.parametrize("encoder", ENCODERS)
def test_batchmates_never_change_an_embedding(encoder: str) -> None:
    for client in (100, 107, 170):
        alone = EVENTS.filter(pa.compute.equal(EVENTS["client_id"], client))
        np.testing.assert_allclose(
            vectors(untrained(encoder), alone)[client], expected(encoder)[client], **CLOSE
        )


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("batch_events", [1, 50, 100_000])
def test_the_size_of_a_batch_never_changes_an_embedding(encoder: str, batch_events: int) -> None:
    assert_same(
        vectors(with_options(untrained(encoder), batch_events=batch_events)), expected(encoder)
    )


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_order_of_clients_and_rows_never_changes_an_embedding(encoder: str) -> None:
    shuffled = EVENTS.take(np.random.default_rng(0).permutation(len(EVENTS)))
    backwards = EVENTS.sort_by([("client_id", "descending"), ("event_time", "ascending")])
    for events in (shuffled, backwards):
        assert_same(vectors(untrained(encoder), events), expected(encoder))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_number_of_threads_never_changes_an_embedding(encoder: str) -> None:
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert_same(vectors(untrained(encoder)), expected(encoder))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_layout_of_the_events_never_changes_an_embedding(encoder: str, tmp_path: Path) -> None:
    pq.write_table(EVENTS, tmp_path / "flat.parquet", row_group_size=50)
    pq.write_table(nested(EVENTS, "client_id"), tmp_path / "nested.parquet")
    layouts = [
        str(tmp_path / "flat.parquet"),
        tmp_path / "nested.parquet",
        EVENTS.to_pandas(),
        pl.from_arrow(EVENTS),
    ]
    for events in layouts:
        assert_same(vectors(untrained(encoder), events), expected(encoder))


def test_prepared_sequences_give_the_vectors_of_the_raw_events(tmp_path: Path) -> None:
    folder = tmp_path / "prepared"
    chunks = batches(EVENTS, SCHEMA, vocabulary(), chunk_events=100)
    write_prepared(folder, chunks, schema=SCHEMA, vocabulary=vocabulary())
    assert_same(vectors(untrained("gru"), folder), expected("gru"))
    assert list(vectors(untrained("gru"), folder)) == list(expected("gru"))


def test_sequences_prepared_with_another_vocabulary_are_refused(tmp_path: Path) -> None:
    other = fitted(card_events(9, seed=5), SCHEMA)
    write_prepared(
        tmp_path / "other", batches(EVENTS, SCHEMA, other), schema=SCHEMA, vocabulary=other
    )
    with pytest.raises(ModelError, match=r"another vocabulary than the model's.* --model"):
        vectors(untrained("gru"), tmp_path / "other")


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_event_and_every_column_matters(encoder: str) -> None:
    client = EVENTS.filter(pa.compute.equal(EVENTS["client_id"], 100))
    plain = vectors(untrained(encoder), client)[100]
    assert np.abs(vectors(untrained(encoder), client.slice(1))[100] - plain).max() > 1e-3
    for name, other in {"mcc": 7995, "city": "Bodø", "amount": 1e4, "reading": -50.0}.items():
        column = pa.array([other] * len(client), client.field(name).type)
        changed = client.set_column(client.column_names.index(name), name, column)
        assert np.abs(vectors(untrained(encoder), changed)[100] - plain).max() > 1e-3


@pytest.mark.parametrize("encoder", ["gru", "lstm", "transformer"])
def test_the_order_of_events_in_time_matters(encoder: str) -> None:
    client = EVENTS.filter(pa.compute.equal(EVENTS["client_id"], 100)).sort_by("event_time")
    times = pa.array(
        [dt.datetime(2023, 1, 1) + dt.timedelta(days=i) for i in range(len(client))],
        pa.timestamp("us"),
    )
    even = client.set_column(1, "event_time", times)
    back = client.set_column(1, "event_time", times.take(pa.array(range(len(client) - 1, -1, -1))))
    difference = vectors(untrained(encoder), even)[100] - vectors(untrained(encoder), back)[100]
    assert np.abs(difference).max() > 1e-3


def test_only_the_last_max_events_are_looked_at() -> None:
    client = EVENTS.filter(pa.compute.equal(EVENTS["client_id"], 100)).sort_by("event_time")
    short = vectors(untrained("gru"), client.slice(len(client) - 3))
    assert_same(vectors(with_options(untrained("gru"), max_events=3), client), short)


# ------------------------------------------------------------------------------------ unusual
# clients, values


@pytest.mark.parametrize("encoder", ENCODERS)
def test_clients_without_or_with_one_event_are_embedded(encoder: str) -> None:
    table = nested(EVENTS, "client_id")
    first = {name: table[name][0].as_py()[:1] for name in table.column_names[1:]}
    extra = pa.table(
        {"client_id": [1, 2, 3]} | {name: [[], values, None] for name, values in first.items()},
        schema=table.schema,
    )
    found = vectors(
        untrained(encoder), pa.concat_tables([extra.slice(0, 1), table, extra.slice(1)])
    )
    assert next(iter(found)) == 1
    assert list(found)[-2:] == [2, 3]
    assert all(np.isfinite(vector).all() for vector in found.values())
    np.testing.assert_array_equal(found[1], found[3])
    assert np.abs(found[2] - found[1]).max() > 1e-3
    assert_same({client: found[client] for client in expected(encoder)}, expected(encoder))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_only_clients_without_events_can_be_embedded(encoder: str) -> None:
    table = nested(EVENTS, "client_id").slice(0, 2)
    empty = {name: pa.array([[], []], table.field(name).type) for name in table.column_names[1:]}
    found = vectors(untrained(encoder), pa.table({"client_id": table["client_id"], **empty}))
    assert list(found) == table["client_id"].to_pylist()
    assert all(np.isfinite(vector).all() for vector in found.values())


@pytest.mark.filterwarnings("ignore:.* has (values that the training|no numbers)")  # asked for here
def test_an_unseen_category_gives_the_vector_of_a_rare_one() -> None:
    city = EVENTS["city"].to_pylist()
    trained = EVENTS.set_column(
        3, "city", pa.array(["Vadsø" if i == 0 else c for i, c in enumerate(city)])
    )
    words = fitted(trained, SCHEMA, min_count=2)
    assert "Vadsø" not in words.categorical["city"].values
    model = dataclasses.replace(untrained("gru"), vocabulary=words)

    def of(place: str) -> dict[Any, Any]:
        return vectors(model, EVENTS.set_column(3, "city", pa.array([place] * len(EVENTS))))

    assert_same(of("Vadsø"), of("never seen"))
    assert max(np.abs(of("Oslo")[c] - v).max() for c, v in of("Vadsø").items()) > 1e-3


@pytest.mark.filterwarnings("ignore:.* has (values that the training|no numbers)")  # asked for here
@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), -float("inf"), 1e300])
def test_missing_and_extreme_numbers_give_finite_vectors(value: float | None) -> None:
    odd = EVENTS.set_column(4, "amount", pa.array([value] * len(EVENTS), pa.float64()))
    assert all(np.isfinite(vector).all() for vector in vectors(untrained("gru"), odd).values())


@pytest.mark.filterwarnings("ignore:.* has (values that the training|no numbers)")  # asked for here
def test_null_and_nan_give_the_same_vector_and_another_than_zero() -> None:
    null, nan, zero = (
        vectors(
            untrained("gru"),
            EVENTS.set_column(4, "amount", pa.array([x] * len(EVENTS), pa.float64())),
        )
        for x in (None, float("nan"), 0.0)
    )
    assert_same(null, nan)
    assert np.abs(null[100] - zero[100]).max() > 1e-3


# -------------------------------------------------------------------------------------------------
# the output


def written(model: Model, events: Any, path: Path, **options: Any) -> pa.Table:
    embed_to_parquet(model, events, path, device="cpu", **options)
    return pq.read_table(path)


IDS = {
    "int32": pa.array([7, 2**31 - 1, -5], pa.int32()),
    "text": pa.array(["0b6c5a52-9b1c-4c7e-8f58-3a1f8f2c8b11", "ü 1", "007"]),
    "int64": pa.array([2**62, 1, 0], pa.int64()),
    "date": pa.array([dt.date(2020, 1, 1), dt.date(2021, 1, 1), dt.date(2019, 1, 1)]),
}


@pytest.mark.parametrize("kind", IDS)
def test_ids_come_out_under_their_name_with_their_type_in_the_order_of_the_input(
    kind: str, tmp_path: Path
) -> None:
    some = EVENTS.slice(0, 60)
    ids = IDS[kind].take(pa.array([(i // 7) % 3 for i in range(60)]))
    table = some.set_column(0, "client_id", ids)
    found = written(untrained("gru"), table, tmp_path / "embeddings.parquet")
    assert found.column_names[0] == "client_id"
    assert found["client_id"].combine_chunks().equals(IDS[kind])


def test_columns_are_float32_numbered_from_zero(tmp_path: Path, model: Model) -> None:
    found = written(model, EVENTS, tmp_path / "embeddings.parquet")
    size = model.encoder.output_size
    assert found.column_names[1:] == [f"emb_{i:04d}" for i in range(size)]
    assert set(found.schema.types[1:]) == {pa.float32()}
    assert len(found) == 20
    numbers = np.stack([found[name].to_numpy() for name in found.column_names[1:]], axis=1)
    assert_same(dict(zip(found["client_id"].to_pylist(), numbers, strict=True)), vectors(model))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_list_column_holds_the_same_numbers(dtype: str, tmp_path: Path, model: Model) -> None:
    found = written(model, EVENTS, tmp_path / "embeddings.parquet", layout="list", dtype=dtype)
    assert found.column_names == ["client_id", "embedding"]
    numbers = np.array(found["embedding"].to_pylist(), dtype=dtype)
    wanted = np.stack(list(vectors(model).values()))
    np.testing.assert_allclose(
        numbers,
        wanted,
        rtol=2e-3 if dtype == "float16" else 0,
        atol=2e-3 if dtype == "float16" else 1e-5,
    )


def test_float16_columns_are_float16(tmp_path: Path, model: Model) -> None:
    found = written(model, EVENTS, tmp_path / "embeddings.parquet", dtype="float16")
    assert set(found.schema.types[1:]) == {pa.float16()}


def test_an_output_that_exists_is_replaced_only_when_asked(tmp_path: Path, model: Model) -> None:
    path = tmp_path / "embeddings.parquet"
    path.write_text("precious")
    with pytest.raises(OutputError, match="exists"):
        written(model, EVENTS, path)
    assert path.read_text() == "precious"
    assert len(written(model, EVENTS, path, overwrite=True)) == 20


def test_a_failure_leaves_nothing_and_keeps_what_was_there(tmp_path: Path, model: Model) -> None:
    path = tmp_path / "embeddings.parquet"
    path.write_text("precious")
    with pytest.raises(SchemaError):
        written(model, EVENTS.drop_columns("amount"), path, overwrite=True)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [
        ("embeddings.parquet", "precious")
    ]


def test_events_that_break_on_the_way_leave_nothing(tmp_path: Path, model: Model) -> None:
    broken = EVENTS.set_column(4, "amount", pa.array(["1"] * (len(EVENTS) - 1) + ["much"]))
    with pytest.raises(InputError, match="'much'"):
        written(model, broken, tmp_path / "embeddings.parquet")
    assert list(tmp_path.iterdir()) == []


def test_embedding_takes_no_gradient_and_leaves_the_model_as_it_was(model: Model) -> None:
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    assert not any(numbers.requires_grad for _, numbers in embed(model, EVENTS, device="cpu"))
    assert all(
        torch.equal(value, before[name]) for name, value in model.encoder.state_dict().items()
    )


def test_however_few_events_they_have_not_too_many_clients_are_embedded_at_a_time(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = vectors(model)
    monkeypatch.setattr("seqmel.inference.embed.CHUNK_CLIENTS", 3)
    assert_same(vectors(model), wanted)
    assert {len(ids) for ids, _ in embed(model, EVENTS, device="cpu")} == {3, len(wanted) % 3}
    embed_to_parquet(model, EVENTS, tmp_path / "e.parquet", device="cpu")
    assert pq.read_table(tmp_path / "e.parquet")["client_id"].to_pylist() == list(wanted)


# --------------------------------------------------------------------------------------------------
# batches


LENGTHS: list[list[int]] = [[], [0], [5], [0, 0, 0], [9, 1, 4, 4, 0, 100, 3], list(range(40))]


@pytest.mark.parametrize("sizes", LENGTHS, ids=str)
@pytest.mark.parametrize("budget", [1, 10, 1_000])
def test_token_batches_hold_every_client_once_within_the_budget(
    sizes: list[int], budget: int
) -> None:
    parts = list(token_batches(torch.tensor(sizes, dtype=torch.int64), budget))
    assert sorted(client for part in parts for client in part.tolist()) == list(range(len(sizes)))
    for part in parts:
        assert len(part) == 1 or sum(sizes[client] for client in part.tolist()) <= budget
