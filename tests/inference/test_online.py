"""A scorer equals `embed` and `predict` for single clients, without the engine."""

from __future__ import annotations

import datetime as dt
import pickle
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from small import TINY, card_events, two_tables
from torch.utils._python_dispatch import TorchDispatchMode

import seqmel
from seqmel import Scorer
from seqmel.core.errors import InputError, ModelError, SchemaError
from seqmel.core.progress import EventsWarning
from seqmel.data.encoding.value_encoding import NotPlainError, ValueEncoding
from seqmel.inference.embed import embed
from seqmel.inference.online import ClientState
from seqmel.inference.update import update_embeddings
from seqmel.model import Model

EVENTS = card_events(24)
FRAME = EVENTS.to_pandas()
CLIENTS = dict(list(FRAME.groupby("client_id", sort=False)))


@pytest.fixture(scope="module")
def scorer(model: Model) -> Scorer:
    return Scorer(model)


@pytest.fixture(scope="module")
def expected(model: Model) -> dict[int, Any]:
    """Client -> the vector that `embed` gives."""
    parts = list(embed(model, EVENTS, device="cpu"))
    return {i: v.numpy() for ids, vs in parts for i, v in zip(ids.to_pylist(), vs, strict=True)}


@pytest.fixture
def _no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scorer, "_encoded_by_engine", lambda *_: pytest.fail("the engine was used"))


FORMS = {
    "dictionaries": lambda part: part.to_dict("records"),
    "frame": lambda part: part,
    "columns": lambda part: part.to_dict("list"),
    "without a client": lambda part: part.drop(columns="client_id"),
    "backwards": lambda part: part.iloc[::-1],
    "text of times": lambda part: part.assign(event_time=part["event_time"].astype(str)),
    "nullable": lambda part: part.convert_dtypes(),
    "categories": lambda part: part.assign(city=part["city"].astype("category")),
}


@pytest.mark.usefixtures("_no_engine")
@pytest.mark.parametrize("form", FORMS)
def test_vectors_are_those_of_embed_in_every_form(
    form: str, scorer: Scorer, expected: dict[int, Any]
) -> None:
    for client, part in CLIENTS.items():
        np.testing.assert_allclose(
            scorer.embed(FORMS[form](part)), expected[client], rtol=1e-5, atol=1e-5
        )


def test_values_that_only_the_engine_reads_give_the_same_vectors(
    scorer: Scorer, expected: dict[int, Any]
) -> None:
    client, part = next(iter(CLIENTS.items()))
    exact = part.assign(mcc=[Decimal(x) for x in part["mcc"]])
    for given in (pa.Table.from_pandas(exact), exact):
        np.testing.assert_allclose(scorer.embed(given), expected[client], rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("_no_engine")
def test_many_clients_together_have_the_vectors_of_each_alone(
    scorer: Scorer, expected: dict[int, Any]
) -> None:
    vectors = scorer.embed_many([part.to_dict("records") for part in CLIENTS.values()])
    np.testing.assert_allclose(vectors, [expected[c] for c in CLIENTS], rtol=1e-5, atol=1e-5)
    mixed = scorer.embed_many([scorer.update(CLIENTS[100]), CLIENTS[107]])
    np.testing.assert_allclose(mixed, [expected[100], expected[107]], rtol=1e-4, atol=1e-5)


def test_threads_share_a_scorer(scorer: Scorer, expected: dict[int, Any]) -> None:
    work = [client for client in CLIENTS for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        vectors = list(pool.map(lambda c: scorer.embed(CLIENTS[c]), work))
    np.testing.assert_allclose(vectors, [expected[c] for c in work], rtol=1e-5, atol=1e-5)


class _Operations(TorchDispatchMode):
    """Counts the operations of torch, which is exact where times are not."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_a_call_takes_few_operations(scorer: Scorer) -> None:
    # The time of a call is that of its operations: each takes 2 us, and twice that in Python.
    events = CLIENTS[100].sort_values("event_time").to_dict("records")
    state = scorer.update(events[:-1])
    for most, call in (
        (500, lambda: scorer.embed(events)),
        (450, lambda: scorer.update(events[-1], state)),
        (180, lambda: scorer.embed(state)),
    ):
        with torch.inference_mode(), _Operations() as operations:
            call()
        assert operations.count <= most


def test_a_state_of_many_events_is_no_larger_than_one_of_few(scorer: Scorer) -> None:
    events = CLIENTS[100].to_dict("records")
    few, many = (pickle.dumps(scorer.update(given)) for given in (events[:1], events * 20))
    assert len(many) < 1.1 * len(few)


# ------------------------------------------------------------------------------------------ values

ROWS = 40
RANDOM = np.random.default_rng(0)
KINDS: dict[str, list[Any]] = {
    "text": ["a", "b", "", "05", "5", " 5", "NULL", "nan", "é", None],
    "whole": [5, -3, 0, None, 2**40],
    "real": [5.0, 5.5, -0.0, 1e15, 1e16, 1e-7, 0.1 + 0.2, float("nan"), float("inf"), None],
    "yes": [True, False, None],
}
"""Values of a category."""


def encoding_of(table: pa.Table, **options: Any) -> tuple[ValueEncoding, Scorer]:
    """The encoding and the scorer of a model that was made from these events."""
    config = TINY | {"training": {"epochs": 0}, "preparation": {"min_count": 1, "threads": 1}}
    trained = seqmel.train(table, config=config | options)
    return ValueEncoding(trained.schema, trained.vocabulary), Scorer(trained)


def same(encoding: ValueEncoding, scorer: Scorer, events: list[dict[str, Any]]) -> None:
    """The look-up tables and the engine give the same events."""
    ours, theirs = encoding.encode(events), scorer._encoded_by_engine(events)
    assert ours.time.tolist() == theirs.time.tolist()
    assert ours.columns.keys() == theirs.columns.keys()
    for name, values in theirs.columns.items():
        assert ours.columns[name].dtype == values.dtype
        np.testing.assert_allclose(ours.columns[name], values, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_categories_of_every_type_have_the_codes_of_the_engine(kind: str) -> None:
    values = [v for v in KINDS[kind] if v is not None] * 4
    day = [dt.datetime(2023, 1, 1 + i % 28) for i in range(len(values))]
    client = [i % 4 for i in range(len(values))]
    table = pa.table({"client": client, "time": day, "kind": values})
    encoding, scorer = encoding_of(table, schema={"categorical": ["kind"]})
    unknown: dict[str, list[Any]] = {"text": ["zz"], "whole": [77], "real": [7.25, 1e300]}
    for given in ([*KINDS[kind], *unknown.get(kind, [])], KINDS[kind][:1]):
        same(encoding, scorer, [{"time": day[0], "kind": v} for v in given])


def test_floats_have_the_text_of_the_engine() -> None:
    floats = [float(x) for x in RANDOM.normal(size=200) * 10.0 ** RANDOM.integers(-20, 20, 200)]
    table = pa.table({"client": [0, 1] * 100, "time": range(200), "kind": floats})
    encoding, scorer = encoding_of(table, schema={"categorical": ["kind"], "time_unit": "day"})
    same(encoding, scorer, [{"time": 1, "kind": x} for x in floats])
    assert not scorer.unseen([{"time": 1, "kind": x} for x in floats])


def test_numbers_are_scaled_as_by_the_engine() -> None:
    events = 400
    group = RANDOM.integers(0, 3, events)
    table = pa.table(
        {
            "client": np.arange(events) % 7,
            "time": np.arange(events),
            "group": np.array(["a", "b", "c"])[group],
            "heavy": np.exp(RANDOM.normal(0, 3, events)),
            "plain": RANDOM.normal(5, 2, events),
            "within": RANDOM.normal(0, 1, events) * 10.0**group,
        }
    )
    schema = {"time_unit": "second", "numeric_by": {"within": "group"}, "categorical": ["group"]}
    encoding, scorer = encoding_of(table, schema=schema)
    assert set(scorer._model.schema.numeric) == {"heavy", "plain", "within"}
    odd: list[Any] = [None, 0, -1, 3.5, 1e300, float("inf"), -float("inf"), float("nan"), 12345678]
    rows = [
        {"time": i, "group": g, "heavy": x, "plain": x, "within": x}
        for i, (x, g) in enumerate((x, g) for x in odd for g in ("a", "b", "c", "new", None))
    ]
    same(encoding, scorer, rows)
    same(encoding, scorer, [row | {"plain": "12.5"} for row in rows])


TIMES: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "datetime": ({}, [dt.datetime(2023, 1, 31, 12, 30, 1, 5), dt.datetime(1931, 5, 4, 3, 2, 1, 7)]),
    "zone": ({}, [dt.datetime(2023, 1, 31, 12, tzinfo=dt.timezone(dt.timedelta(hours=3)))]),
    "date": ({}, [dt.date(2023, 1, 31), dt.date(1965, 2, 28)]),
    "pandas": ({}, [pd.Timestamp("2023-01-31 12:00:00.123456789"), pd.Timestamp("2023-01-30")]),
    "numpy": ({}, [np.datetime64("2023-01-31T12:00:01"), np.datetime64("2023-01-30T01:00:00")]),
    "iso": ({}, ["2023-01-31 12:00:00", "2023-01-31T12:00:00.5", "2023-02-01", "1923-02-01"]),
    "iso zone": ({}, ["2023-01-31T12:00:00Z", "2023-01-31T12:00:00+03:30", "2023-01-31 12:00:00"]),
    "day first": ({"time_format": "%d.%m.%Y %H:%M"}, ["31.01.2023 12:30", "01.02.2023 00:00"]),
    "days": ({"time_unit": "day"}, [19_000, 12, -4]),
    "seconds": ({"time_unit": "second"}, [1_675_166_400, 0]),
}


@pytest.mark.parametrize("name", TIMES)
def test_times_of_every_kind_are_those_of_the_engine(name: str) -> None:
    options, values = TIMES[name]
    size = 4 * len(values)
    table = pa.table({"client": [0, 1] * (size // 2), "time": values * 4, "kind": ["a"] * size})
    encoding, scorer = encoding_of(table, schema={"categorical": ["kind"], **options})
    same(encoding, scorer, [{"time": value, "kind": "a"} for value in values])


@pytest.mark.parametrize("end", ["Z", "+03:00"])
def test_times_of_another_zone_are_warned_of_once_and_not_at_each_call(end: str) -> None:
    table = pa.table({"client": [0, 1] * 4, "time": ["2023-01-31T12:00:00"] * 8, "kind": ["a"] * 8})
    encoding, _ = encoding_of(table, schema={"categorical": ["kind"]})
    events = [{"time": f"2023-01-31T12:00:0{i}{end}", "kind": "a"} for i in range(3)]
    with pytest.warns(EventsWarning, match="state a time zone, and those of the training did not"):
        encoding.encode(events)
    encoding.encode(events)  # a warning would be an error


@pytest.mark.parametrize("odd", ["2023-02-31", "31/01/2023", "soon", None, 12.5, float("nan")])
def test_what_is_no_time_is_left_to_the_engine_and_refused_in_its_words(
    odd: Any, scorer: Scorer
) -> None:
    event = CLIENTS[100].iloc[0].to_dict() | {"event_time": odd}
    with pytest.raises(NotPlainError):
        scorer._values.encode([event])
    with pytest.raises((InputError, SchemaError), match="event_time"):
        scorer.embed([event])


def test_events_at_one_time_keep_their_order(scorer: Scorer) -> None:
    part = CLIENTS[100].assign(event_time=pd.Timestamp("2023-01-01"))
    _, vectors = next(iter(embed(scorer._model, part, device="cpu")))
    np.testing.assert_allclose(scorer.embed(part), vectors[0].numpy(), rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------------- bad input


def test_a_column_that_is_missing_is_refused_as_by_embed(scorer: Scorer) -> None:
    events = CLIENTS[100].drop(columns="city")
    for given in (events, events.to_dict("records")):
        with pytest.raises(SchemaError, match="No column 'city'"):
            scorer.embed(given)


def test_events_of_several_clients_are_refused(scorer: Scorer) -> None:
    for given in (FRAME, FRAME.to_dict("records"), FRAME.to_dict("list")):
        with pytest.raises(InputError, match="The events are of several clients"):
            scorer.embed(given)


def test_values_that_the_training_did_not_see_are_named(scorer: Scorer) -> None:
    events = [e | {"city": "Paris", "mcc": 1} for e in CLIENTS[100].to_dict("records")]
    assert scorer.unseen(events) == {"mcc": [1], "city": ["Paris"]}
    assert scorer.unseen(CLIENTS[107]) == {}
    with pytest.warns(EventsWarning, match="'city' has values that the training did not see"):
        scorer.embed(events * 7)


# ----------------------------------------------------------------------------------------- states


@pytest.mark.usefixtures("_no_engine")
def test_a_state_and_new_events_give_the_vector_of_all_events(
    scorer: Scorer, expected: dict[int, Any]
) -> None:
    for client, part in list(CLIENTS.items())[:8]:
        events = part.sort_values("event_time").to_dict("records")
        state = scorer.update(events[: len(events) // 2])
        for event in events[len(events) // 2 :]:
            state = pickle.loads(pickle.dumps(scorer.update(event, state)))
        assert state.events == len(events)
        np.testing.assert_allclose(scorer.embed(state), expected[client], rtol=1e-4, atol=1e-5)


def test_a_client_without_events_has_a_vector_and_a_state(scorer: Scorer) -> None:
    state = scorer.update([])
    assert (state.events, state.first_us) == (0, None)
    np.testing.assert_allclose(scorer.embed(state), scorer.embed([]), atol=1e-6)
    later = scorer.update(CLIENTS[100], state)
    np.testing.assert_allclose(
        scorer.embed(later), scorer.embed(CLIENTS[100]), rtol=1e-4, atol=1e-5
    )


def test_a_late_event_and_the_state_of_another_model_are_refused(scorer: Scorer) -> None:
    events = CLIENTS[100].sort_values("event_time")
    state = scorer.update(events.iloc[1:])
    with pytest.raises(InputError, match="begin before the last event"):
        scorer.update(events.iloc[:1], state)
    other = ClientState(state.events, state.first_us, state.last_us, "another", state.summary)
    for use in (scorer.embed, lambda one: scorer.update(events.iloc[-1:], one)):
        with pytest.raises(ModelError, match="belongs to another model"):
            use(other)


def test_states_of_the_nightly_file_are_gone_on_from(
    scorer: Scorer, model: Model, tmp_path: Path, expected: dict[int, Any]
) -> None:
    cut = FRAME["event_time"].quantile(0.7)
    update_embeddings(model, FRAME[FRAME["event_time"] < cut], tmp_path / "s", tmp_path / "v")
    states = scorer.states(tmp_path / "s", [*CLIENTS, -1])
    assert set(states) <= set(CLIENTS)
    assert len(states) > 20
    for client, state in states.items():
        rest = CLIENTS[client][CLIENTS[client]["event_time"] >= cut]
        vector = scorer.embed(scorer.update(rest, state))
        np.testing.assert_allclose(vector, expected[client], rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="No state file at"):
        scorer.states(tmp_path / "absent", [1])


# ------------------------------------------------------------------------------------ other models


@pytest.mark.parametrize("encoder", ["none", "lstm", "transformer"])
def test_models_of_every_encoder_are_scored(encoder: str) -> None:
    changed = {"encoder": encoder if encoder == "none" else {"name": encoder, "hidden_size": 16}}
    trained = seqmel.train(EVENTS, config=TINY | changed)
    scorer, vectors = trained.scorer(), trained.embed(FRAME, progress=False)
    for client in (100, 107, 114):
        np.testing.assert_allclose(
            scorer.embed(CLIENTS[client]), vectors.loc[client], rtol=1e-5, atol=1e-5
        )
    events = CLIENTS[100].sort_values("event_time")
    if encoder == "transformer":
        with pytest.raises(ModelError, match="there is no state"):
            scorer.update(events)
        return
    state = scorer.update(events.iloc[3:], scorer.update(events.iloc[:3]))
    np.testing.assert_allclose(scorer.embed(state), vectors.loc[100], rtol=1e-4, atol=1e-5)


def test_predictions_are_those_of_predict(model: Model) -> None:
    ids = list(CLIENTS)
    labels = pd.DataFrame({"client_id": ids, "kind": ["a", "b"] * 12, "size": np.arange(24.0)})
    tuned = seqmel.Model.of(model).finetune(
        EVENTS, labels, target=["kind", "size"], epochs=1, device="cpu"
    )
    frame, scorer = tuned.predict(FRAME, progress=False), tuned.scorer()
    assert scorer.predict(CLIENTS[100]).keys() == {"kind=a", "kind=b", "kind", "size"}
    for row, client in zip(scorer.predict_many(list(CLIENTS.values())), ids, strict=True):
        told = frame.loc[client].to_dict()
        assert row["kind"] == told["kind"]
        for name in ("kind=a", "kind=b", "size"):
            assert row[name] == pytest.approx(told[name], rel=1e-4, abs=1e-5)


def test_a_model_without_heads_does_not_predict(scorer: Scorer) -> None:
    with pytest.raises(ModelError, match="trained without labels"):
        scorer.predict(CLIENTS[100])


# ---------------------------------------------------------------------------------- several tables


@pytest.fixture(scope="module")
def two_sources() -> Model:
    return seqmel.train(two_tables(), config=TINY, progress=False)


def of_client(client: int) -> dict[str, list[dict[str, Any]]]:
    """The events of a client in each table."""
    tables = two_tables()
    cards = tables["cards"][tables["cards"]["client_id"] == client]
    clicks = tables["clicks"][tables["clicks"]["user"] == client]
    return {"cards": cards.to_dict("records"), "clicks": clicks.to_dict("records")}


@pytest.mark.usefixtures("_no_engine")
def test_events_of_several_tables_have_the_vectors_of_embed(two_sources: Model) -> None:
    scorer = two_sources.scorer()
    expected = two_sources.embed(two_tables(), progress=False)
    lacking = 0
    for client in expected.index:
        events = of_client(client)
        lacking += not events["clicks"]
        for given in (events, {name: rows for name, rows in reversed(events.items()) if rows}):
            np.testing.assert_allclose(
                scorer.embed(given), expected.loc[client], rtol=1e-5, atol=1e-5
            )
    assert 0 < lacking < len(expected)


@pytest.mark.usefixtures("_no_engine")
def test_a_state_goes_on_with_new_events_of_any_table(two_sources: Model) -> None:
    scorer = two_sources.scorer()
    client = int(two_tables()["clicks"]["user"].iloc[0])
    events = of_client(client)
    last = max(row["ts"] for row in events["clicks"])
    before = [row for row in events["cards"] if row["event_time"].timestamp() < last]
    state = scorer.update({"cards": before, "clicks": events["clicks"]})
    later = [row for row in events["cards"] if row["event_time"].timestamp() >= last]
    state = scorer.update({"cards": later}, state)
    assert state.events == len(events["cards"]) + len(events["clicks"])
    np.testing.assert_allclose(scorer.embed(state), scorer.embed(events), rtol=1e-4, atol=1e-5)


def test_events_of_several_tables_are_checked(two_sources: Model) -> None:
    scorer = two_sources.scorer()
    events = of_client(int(two_tables()["clicks"]["user"].iloc[0]))
    with pytest.raises(InputError, match="Expected the events of each by name"):
        scorer.embed(events["cards"])
    with pytest.raises(InputError, match="no source 'click'"):
        scorer.embed({"click": []})
    others = {**events, "clicks": [{**events["clicks"][0], "user": -5}]}
    with pytest.raises(InputError, match="of several clients"):
        scorer.embed(others)
    strange = {"clicks": [{**events["clicks"][0], "page": "shop"}]}
    assert scorer.unseen(strange) == {"clicks.page": ["shop"]}
