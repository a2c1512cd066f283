"""For any events: one finite vector per client and unchanged ids, or one line of refusal.

Drawn by hypothesis; `SEQMEL_EXAMPLES=2000 pytest tests/test_properties.py` draws more.
"""

from __future__ import annotations

import math
import os
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small import tiny_config

from seqmel.core.errors import InputError, SchemaError, SeqmelError
from seqmel.data.fitting.schema_inference import infer_schema
from seqmel.data.fitting.statistics import fit_statistics
from seqmel.data.fitting.vocabulary_fitting import fit_vocabulary
from seqmel.data.schema import SchemaOptions
from seqmel.data.sources.reading import open_events
from seqmel.inference.embed import embed, sequence_chunks
from seqmel.model import Model
from seqmel.nn.encoder import SequenceEncoder

EXAMPLES = int(os.environ.get("SEQMEL_EXAMPLES", "40"))
CONFIG = tiny_config(
    event_encoder={"hidden_size": 4},
    encoder={"name": "gru", "hidden_size": 4},
    pooling=["mean", "max"],
)

TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    st.sampled_from(
        [
            "",
            " ",
            "\0",
            "a\0b",
            "אבג",
            "\u202eabc",
            "💥",
            "é",
            "e\u0301",
            "NULL",
            "nan",
            "1",
            "1.0",
            "01",
            "'",
            '"',
            "x" * 5_000,
        ]
    ),
)
WHOLE = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-3, 3),
    st.sampled_from([-(2**63), 2**63 - 1, 2**53 + 1]),
)
REAL = st.one_of(
    st.floats(),
    st.sampled_from(
        [
            0.0,
            -0.0,
            math.inf,
            -math.inf,
            math.nan,
            5e-324,
            -5e-324,
            1.7e308,
            -1.7e308,
            1e15,
            1e16 + 2,
        ]
    ),
)
VALUES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "int64": (pa.int64(), WHOLE),
    "uint64": (pa.uint64(), st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([2**64 - 1, 0]))),
    "int8": (pa.int8(), st.integers(-128, 127)),
    "double": (pa.float64(), REAL),
    "float": (pa.float32(), st.floats(width=32)),
    "half": (pa.float16(), st.floats(width=16).map(np.float16)),
    "decimal": (
        pa.decimal128(38, 10),
        st.decimals(
            -(Decimal(10) ** 27),
            Decimal(10) ** 27,
            places=10,
            allow_nan=False,
            allow_infinity=False,
        ),
    ),
    "text": (pa.string(), TEXT),
    "large text": (pa.large_string(), TEXT),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), TEXT),
    "bool": (pa.bool_(), st.booleans()),
    "binary": (pa.binary(), st.binary(max_size=4)),
    "date": (pa.date32(), st.integers(-(2**31) + 1, 2**31 - 1)),
    "null": (pa.null(), st.none()),
}
IDS = {
    n: VALUES[n]
    for n in ("int64", "uint64", "decimal", "text", "dictionary", "bool", "binary", "double")
}
IDS["date"] = (pa.date32(), st.integers(-700_000, 2_900_000))  # what Python's dates can say
EXTREME = st.sampled_from([-(2**63) + 1, 2**63 - 1, -(2**62), 2**55])
SECONDS = st.one_of(st.integers(-(10**9), 2 * 10**9), st.integers(-(2**33), 2**37))
TIMES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "ns": (pa.timestamp("ns"), st.integers(-(2**63) + 1, 2**63 - 1)),
    "us": (pa.timestamp("us"), st.one_of(EXTREME, SECONDS.map(lambda s: s * 10**6))),
    "ms": (pa.timestamp("ms"), st.one_of(EXTREME, SECONDS.map(lambda s: s * 10**3))),
    "s": (pa.timestamp("s"), st.one_of(EXTREME, SECONDS)),
    "zoned": (pa.timestamp("us", "America/New_York"), SECONDS.map(lambda s: s * 10**6)),
    "date": (pa.date32(), st.one_of(st.integers(-30_000, 60_000), st.integers(-(10**6), 10**7))),
    "int": (pa.int64(), st.one_of(WHOLE, SECONDS)),
    "uint64": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "double": (pa.float64(), st.one_of(REAL, SECONDS.map(float))),
    "text": (pa.string(), st.datetimes().map(str)),
}
PLAIN = (
    "client type order length time amount value select kind n x r m key code first raw events "
    "clients sample part ranked text index emb_0000 codes_0 scales_0 __index_level_0__"
).split()
NAMES = st.one_of(
    st.sampled_from(
        [
            *PLAIN,
            "Größe",
            'a"b',
            "a'b",
            "a b",
            "é",
            "e\u0301",
            "💥",
            "שלום",
            "text kind",
            "client ",
            "time ",
        ]
    ),
    TEXT.filter(lambda name: 0 < len(name) < 50 and "\0" not in name),
)
ODD_NAMES = st.sampled_from(
    [
        "Amount",
        "amount",
        "AMOUNT",
        "__row",
        "__client",
        "__code",
        "__client_index",
        "__Key",
        "__text_0",
        "",
    ]
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[pa.Table, str, str, SchemaOptions]:
    """Return a table of events, its client and time columns, and the options of its columns."""
    events = draw(st.integers(1, 12))
    id_type, ids = draw(st.sampled_from(list(IDS.values())))
    pool = draw(st.lists(ids.filter(lambda v: v is not None), min_size=1, max_size=4))
    time_type, times = draw(st.sampled_from(list(TIMES.values())))
    strange = draw(st.integers(0, 9)) == 0
    names = draw(
        st.lists(
            st.one_of(NAMES, ODD_NAMES) if strange else NAMES,
            min_size=3,
            max_size=6,
            unique=not strange,
        )
    )
    columns = [
        _column(draw, id_type, st.sampled_from(pool), events),
        _column(draw, time_type, times, events),
    ]
    kinds = [draw(st.sampled_from(list(VALUES))) for _ in names[2:]]
    for name in kinds:
        kind, values = VALUES[name]
        some = draw(st.lists(values, min_size=2, max_size=4))
        columns.append(
            _column(
                draw,
                kind,
                st.sampled_from([*some, None]) if draw(st.booleans()) else values,
                events,
            )
        )
    said: dict[str, Any] = {"client": names[0], "time": names[1]}
    if draw(st.booleans()):
        numbers = {"int64", "uint64", "int8", "double", "float", "half", "decimal"}
        roles = [
            draw(st.sampled_from(["categorical", "numeric" if kind in numbers else "categorical"]))
            for kind in kinds
        ]
        for role in ("categorical", "numeric"):
            # A plus in front of a name would add it to the inferred ones.
            said[role] = [
                n
                for n, r in zip(names[2:], roles, strict=True)
                if r == role and not n.startswith("+")
            ]
        if draw(st.booleans()) and said["numeric"] and said["categorical"]:
            said["numeric_by"] = {said["numeric"][0]: said["categorical"][0]}
    if pa.types.is_integer(time_type) and draw(st.booleans()):
        said["time_unit"] = draw(st.sampled_from(["day", "second", "millisecond", "microsecond"]))
    return pa.table(columns, names=names), names[0], names[1], SchemaOptions(**said)


def _column(
    draw: st.DrawFn, kind: pa.DataType, values: st.SearchStrategy[Any], size: int
) -> pa.Array:
    return pa.array(draw(st.lists(values, min_size=size, max_size=size)), kind)


def tiny_model(table: Any, columns: SchemaOptions) -> Model:
    """What a training begins with: schema, vocabulary and an encoder drawn from a seed."""
    source = open_events(table, client=columns.client, threads=1)
    schema = infer_schema(source, columns)
    vocabulary = fit_vocabulary(source, schema, min_count=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Model(CONFIG, schema, vocabulary, SequenceEncoder(CONFIG, vocabulary).eval(), {})


def embedded(model: Model, table: Any) -> tuple[list[Any], np.ndarray]:  # type: ignore[type-arg]
    """Ids and vectors."""
    parts = list(embed(model, table, device="cpu"))
    return [i for ids, _ in parts for i in ids.to_pylist()], torch.cat(
        [vectors for _, vectors in parts]
    ).numpy()


def key(value: Any) -> Any:
    """NaN is equal to itself, and -0.0 to 0.0, as a client."""
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


@given(tables(), st.booleans(), st.randoms(use_true_random=False))
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize="SEQMEL_EXAMPLES" not in os.environ,
)
def test_events_of_any_kind_give_a_finite_vector_a_client_or_are_refused(
    made: tuple[pa.Table, str, str, SchemaOptions], from_file: bool, chance: Any
) -> None:
    table, client, _, columns = made
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.parquet"
        try:
            pq.write_table(table, path)
        except pa.ArrowException:  # times that Parquet cannot hold
            from_file = False
        try:
            model = tiny_model(path if from_file else table, columns)
            ids, vectors = embedded(model, path if from_file else table)
        except SeqmelError as error:
            if "\n" in str(error):
                raise AssertionError("more than one line") from error
            return
    given_ids = list(dict.fromkeys(map(key, table[client].to_pylist())))
    assert list(map(key, ids)) == given_ids
    assert vectors.shape == (len(given_ids), model.encoder.output_size)
    assert np.isfinite(vectors).all()
    counted = [
        fit_statistics(chunk, model.vocabulary) for chunk in sequence_chunks(model, table)[1]
    ]
    assert [(s.clients, s.events) for s in counted] == [(len(given_ids), len(table))]
    assert all(sum(bins.counts) == len(table) for bins in counted[0].columns.values())
    order = list(range(len(table)))
    chance.shuffle(order)
    shuffled_ids, shuffled = embedded(model, table.take(order))
    assert set(map(key, shuffled_ids)) == set(given_ids)
    if _times_differ(model, table):
        again = {key(i): v for i, v in zip(shuffled_ids, shuffled, strict=True)}
        np.testing.assert_allclose(
            np.stack([again[i] for i in given_ids]), vectors, rtol=1e-4, atol=1e-5
        )


def _times_differ(model: Model, table: pa.Table) -> bool:
    """Whether no client has two events in one microsecond: of such the input's order decides."""
    for sequences in sequence_chunks(model, table)[1]:
        for client in range(len(sequences)):
            times = sequences.times(torch.tensor([client]))
            if len(times.unique()) < len(times):
                return False
    return True


def plain(**columns: Any) -> pa.Table:
    """Events of three clients with other columns."""
    size = len(next(iter(columns.values())))
    seconds = np.arange(size).astype("datetime64[s]")
    return pa.table(
        {
            "client": np.arange(size) % 3,
            "time": pa.array(seconds).cast(pa.timestamp("us")),
            **columns,
        }
    )


def test_a_hundred_thousand_categories_are_encoded_and_the_rarest_share_a_code() -> None:
    values = [f"v{i}" for i in range(100_000)] + ["v7"] * 20
    table = plain(kind=values)
    source = open_events(table, client="client", threads=1)
    schema = infer_schema(
        source, SchemaOptions(client="client", time="time", categorical=("kind",))
    )
    vocabulary = fit_vocabulary(source, schema, min_count=1, max_categories=90_000)
    assert vocabulary.categorical["kind"].values[0] == "v7"
    assert vocabulary.categorical["kind"].size == 90_002
    encoder = SequenceEncoder(CONFIG, vocabulary).eval()
    ids, vectors = embedded(Model(CONFIG, schema, vocabulary, encoder, {}), table)
    assert (ids, vectors.shape[0], bool(np.isfinite(vectors).all())) == ([0, 1, 2], 3, True)


def test_one_client_with_very_many_events_beside_one_with_one() -> None:
    table = plain(kind=["a", "b"] * 50_000).set_column(0, "client", pa.array([0] * 99_999 + [1]))
    model = tiny_model(table, SchemaOptions(client="client", time="time"))
    ids, vectors = embedded(model, table)
    _, alone = embedded(model, table.slice(99_999))
    assert ids == [0, 1]
    np.testing.assert_allclose(vectors[1:], alone, atol=1e-6)


def test_zero_and_negative_zero_are_one_number_and_one_category() -> None:
    columns = SchemaOptions(client="client", time="time", categorical=("code",), numeric=("size",))
    sizes, codes = [1.0, 2.0, 0.0] * 10, [0.0, 1.0, 2.0] * 10
    model = tiny_model(plain(size=sizes, code=codes), columns)
    _, plus = embedded(model, plain(size=sizes, code=codes))
    _, minus = embedded(
        model,
        plain(size=[-x if x == 0 else x for x in sizes], code=[-x if x == 0 else x for x in codes]),
    )
    np.testing.assert_array_equal(plus, minus)


@pytest.mark.parametrize("names", [("Amount", "amount"), ("amount", "amount"), ("Größe", "GRÖSSE")])
@pytest.mark.parametrize("from_file", [True, False])
def test_columns_that_differ_only_by_case_are_refused_by_name(
    names: tuple[str, str], from_file: bool, tmp_path: Path
) -> None:
    table = pa.table([[1, 2], [3, 4], [5, 6], [7, 8]], names=["client", "time", *names])
    if from_file:
        pq.write_table(table, tmp_path / "events.parquet")
    with pytest.raises(SchemaError, match=f"'{names[0]}' and '{names[1]}'.*Rename one"):
        open_events(tmp_path / "events.parquet" if from_file else table)


@pytest.mark.parametrize("name", ["__row", "__Client", "__text_3"])
def test_a_column_named_like_one_that_is_added_is_refused(name: str) -> None:
    with pytest.raises(
        SchemaError, match=f"a column named '{name}', which seqmel keeps for itself"
    ):
        open_events(plain(**{name: [1, 2]}))


@pytest.mark.parametrize(
    ("kind", "value"), [("s", 2**60), ("ms", 2**62), ("us", 2**62 + 1), ("us", -(2**62) - 1)]
)
def test_a_time_that_is_too_far_away_is_refused(kind: str, value: int) -> None:
    times = pa.array([0, 1, value], pa.timestamp(kind))
    table = plain(kind=["a", "b", "a"]).set_column(1, "time", times)
    own_words = "the given Table: Could not convert Timestamp"  # of DuckDB 1.5
    with pytest.raises(
        InputError,
        match=f"1 time in column 'time' of the given Table cannot be understood|{own_words}",
    ):
        tiny_model(table, SchemaOptions(client="client", time="time"))
