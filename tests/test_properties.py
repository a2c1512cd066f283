"""Whatever the events are: one finite vector a client, ids as they came, in any order of the rows; or a refusal in one line.

Drawn by hypothesis; `SEQMEL_EXAMPLES=2000 pytest tests/test_properties.py` draws more.
"""

from __future__ import annotations

import math
import os
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small import tiny_config

from seqmel.data.inference import infer_schema
from seqmel.data.preparation import fit_vocabulary
from seqmel.data.reading import open_events
from seqmel.data.statistics import count_events, fit_statistics
from seqmel.embedding import embed, sequence_chunks
from seqmel.errors import SeqmelError
from seqmel.model import Model
from seqmel.nn.encoder import SequenceEncoder
from seqmel.schema import SchemaOptions

EXAMPLES = int(os.environ.get("SEQMEL_EXAMPLES", "40"))
CONFIG = tiny_config(events={"hidden_size": 4}, encoder={"name": "gru", "hidden_size": 4}, pooling=["mean", "max"])

TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    st.sampled_from(["", " ", "\0", "a\0b", "אבג", "\u202eabc", "💥", "é", "e\u0301", "NULL", "nan", "1", "1.0", "01", "'", '"', "x" * 5_000]),
)  # fmt: skip
WHOLE = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.integers(-3, 3), st.sampled_from([-(2**63), 2**63 - 1, 2**53 + 1])
)
REAL = st.one_of(
    st.floats(),
    st.sampled_from([0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, -5e-324, 1.7e308, -1.7e308, 1e15, 1e16 + 2]),
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
        st.decimals(-(Decimal(10) ** 27), Decimal(10) ** 27, places=10, allow_nan=False, allow_infinity=False),
    ),
    "text": (pa.string(), TEXT),
    "large text": (pa.large_string(), TEXT),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), TEXT),
    "bool": (pa.bool_(), st.booleans()),
    "binary": (pa.binary(), st.binary(max_size=4)),
    "date": (pa.date32(), st.integers(-(2**31) + 1, 2**31 - 1)),
    "null": (pa.null(), st.none()),
}
IDS = {n: VALUES[n] for n in ("int64", "uint64", "decimal", "text", "dictionary", "bool", "binary", "double")}
IDS["date"] = (pa.date32(), st.integers(-700_000, 2_900_000))  # what Python's dates can say
SECONDS = st.one_of(st.integers(-(10**9), 2 * 10**9), st.integers(-(2**40), 2**40))
TIMES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "ns": (pa.timestamp("ns"), st.integers(-(2**63) + 1, 2**63 - 1)),
    "us": (pa.timestamp("us"), st.one_of(st.integers(-(2**63) + 1, 2**63 - 1), SECONDS.map(lambda s: s * 10**6))),
    "ms": (pa.timestamp("ms"), st.one_of(st.integers(-(2**63) + 1, 2**63 - 1), SECONDS.map(lambda s: s * 10**3))),
    "s": (pa.timestamp("s"), st.one_of(st.integers(-(2**63) + 1, 2**63 - 1), SECONDS)),
    "zoned": (pa.timestamp("us", "America/New_York"), SECONDS.map(lambda s: s * 10**6)),
    "date": (pa.date32(), st.one_of(st.integers(-(2**31) + 1, 2**31 - 1), st.integers(-30_000, 60_000))),
    "int": (pa.int64(), st.one_of(WHOLE, SECONDS)),
    "uint64": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "double": (pa.float64(), st.one_of(REAL, SECONDS.map(float))),
    "text": (pa.string(), st.one_of(TEXT, st.datetimes().map(str))),
}
NAMES = st.one_of(
    st.sampled_from(
        ["client", "type", "order", "length", "time", "Amount", "amount", "AMOUNT", "__row", "__index", "__client", "__code",
         "__client_index", "__key", "__log_unit", "value", "select", 'a"b', "a'b", "a b", "", "é", "💥", "שלום", "emb_0000", "n", "x",
         "text kind", "kind", "client ", "time ", "first", "codes_0", "raw", "events", "clients", "sample"]
    ),
    TEXT,
)  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> tuple[pa.Table, str, str, SchemaOptions]:
    """A table of events, the names of its client and time columns, and what is said of its columns."""
    events = draw(st.integers(1, 12))
    id_type, ids = draw(st.sampled_from(list(IDS.values())))
    pool = draw(st.lists(ids.filter(lambda v: v is not None), min_size=1, max_size=4))
    time_type, times = draw(st.sampled_from(list(TIMES.values())))
    names = draw(st.lists(NAMES, min_size=3, max_size=6, unique=draw(st.integers(0, 9)) > 0))
    columns = [_column(draw, id_type, st.sampled_from(pool), events), _column(draw, time_type, times, events)]
    for _ in names[2:]:
        kind, values = draw(st.sampled_from(list(VALUES.values())))
        some = draw(st.lists(values, min_size=1, max_size=4))
        columns.append(_column(draw, kind, st.sampled_from([*some, None]) if draw(st.booleans()) else values, events))
    said: dict[str, Any] = {"client": names[0], "time": names[1]}
    if draw(st.booleans()):
        roles = draw(
            st.lists(st.sampled_from(["categorical", "numeric", None]), min_size=len(names), max_size=len(names))
        )
        for role in ("categorical", "numeric"):
            said[role] = [n for n, r in zip(names[2:], roles, strict=False) if r == role]
    if draw(st.booleans()):
        said["time_unit"] = draw(st.sampled_from(["timestamp", "day", "second", "millisecond", "microsecond"]))
    return pa.table(columns, names=names), names[0], names[1], SchemaOptions(**said)


def _column(draw: st.DrawFn, kind: pa.DataType, values: st.SearchStrategy[Any], size: int) -> pa.Array:
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
    return [i for ids, _ in parts for i in ids.to_pylist()], torch.cat([vectors for _, vectors in parts]).numpy()


def key(value: Any) -> Any:
    """NaN is equal to itself, and -0.0 to 0.0, as a client."""
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


@given(tables(), st.randoms(use_true_random=False))
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize="SEQMEL_EXAMPLES" not in os.environ,
)
def test_events_of_any_kind_give_a_finite_vector_a_client_or_are_refused(
    made: tuple[pa.Table, str, str, SchemaOptions], chance: Any
) -> None:
    table, client, time, columns = made
    try:
        model = tiny_model(table, columns)
        ids, vectors = embedded(model, table)
    except SeqmelError as error:
        assert "\n" not in str(error)
        return
    given_ids = list(dict.fromkeys(map(key, table[client].to_pylist())))
    assert list(map(key, ids)) == given_ids
    assert vectors.shape == (len(given_ids), model.encoder.output_size)
    assert np.isfinite(vectors).all()
    _, chunks = sequence_chunks(model, table)
    statistics = fit_statistics(next(chunks), model.vocabulary)
    assert statistics.events == len(table)
    assert count_events(statistics, sequence_chunks(model, table)[1])[:2] == (len(given_ids), len(table))
    order = list(range(len(table)))
    chance.shuffle(order)
    shuffled_ids, shuffled = embedded(model, table.take(order))
    assert set(map(key, shuffled_ids)) == set(given_ids)
    if _times_differ(model, table):
        again = {key(i): v for i, v in zip(shuffled_ids, shuffled, strict=True)}
        np.testing.assert_allclose(np.stack([again[i] for i in given_ids]), vectors, rtol=1e-4, atol=1e-5)


def _times_differ(model: Model, table: pa.Table) -> bool:
    """Whether no client has two events in one microsecond: of such the input's order decides."""
    for sequences in sequence_chunks(model, table)[1]:
        for client in range(len(sequences)):
            times = sequences.times(torch.tensor([client]))
            if len(times.unique()) < len(times):
                return False
    return True
