"""The vocabulary: what codes and scales mean, and that they never change once fitted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from small import column, fitted, rows

from seqmel.core.errors import InputError, SchemaError
from seqmel.data.encoding.event_encoding import encode
from seqmel.data.schema import EventSchema
from seqmel.data.sources.reading import open_events
from seqmel.data.vocabulary import CategoryCodes, Vocabulary

KIND = EventSchema(client="client", time="day", time_unit="day", categorical=("kind",))
SIZE = EventSchema(client="client", time="day", time_unit="day", numeric=("size",))
BOTH = KIND.model_copy(update={"numeric": ("size",), "numeric_by": {"size": "kind"}})


def one_client(**columns: Any) -> pa.Table:
    """All events of one client, in order."""
    events = len(next(iter(columns.values())))
    return pa.table({"client": ["c"] * events, "day": range(events), **columns})


def kinds(values: Any, **options: Any) -> CategoryCodes:
    return fitted(one_client(kind=values), KIND, **options).categorical["kind"]


def sized(values: Any, vocabulary: Vocabulary | None = None) -> list[Any]:
    table = one_client(size=pa.array(values, pa.float64()))
    return column(table, SIZE, vocabulary or fitted(table, SIZE), "size")


# ------------------------------------------------------------------------------------------------
# categories


def test_codes_go_by_falling_frequency_and_ties_by_value() -> None:
    assert kinds(list("bbbccaadddd")).values == ("d", "b", "a", "c")


def test_values_seen_less_than_min_count_have_no_code_of_their_own() -> None:
    assert kinds(list("aaabbc"), min_count=2).values == ("a", "b")


def test_no_more_than_max_categories_have_a_code_of_their_own() -> None:
    assert kinds(list("aaabbc"), max_categories=2).values == ("a", "b")


def test_null_is_0_rare_and_unseen_are_1_and_the_rest_follow() -> None:
    table = one_client(kind=["a", "a", "a", "b", "b", "rare", None])
    vocabulary = fitted(table, KIND, min_count=2)
    assert column(table, KIND, vocabulary, "kind") == [2, 2, 2, 3, 3, 1, 0]
    assert column(one_client(kind=["b", "new", None, "rare"]), KIND, vocabulary, "kind") == [
        3,
        1,
        0,
        1,
    ]


def test_a_null_that_training_never_saw_is_unseen() -> None:
    vocabulary = fitted(one_client(kind=["a", "a", "b"]), KIND)
    assert column(one_client(kind=[None, "a"]), KIND, vocabulary, "kind") == [1, 2]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([5411, 5812], pa.int16()),
        pa.array([5411, 5812], pa.uint64()),
        pa.array([5411.0, 5812.0]),
        pa.array([5411.0, 5812.0], pa.float32()),
        pa.array([5411, 5812]).cast(pa.decimal128(21, 2)),
        pa.array(["5411", "5812"]),
        pa.array(["5411", "5812"]).dictionary_encode(),
    ],
    ids=str,
)
def test_a_category_is_the_same_as_integer_float_decimal_and_text(values: pa.Array) -> None:
    for trained in (
        pa.array([5411, 5411, 5812]),
        pa.array(["5411", "5411", "5812"]),
        pa.array([5411.0, 5411, 5812]),
    ):
        vocabulary = fitted(one_client(kind=trained), KIND)
        assert vocabulary.categorical["kind"].values == ("5411", "5812")
        assert column(one_client(kind=values.slice(0, 2)), KIND, vocabulary, "kind") == [2, 3]


def test_texts_that_only_look_alike_as_numbers_stay_apart() -> None:
    vocabulary = fitted(one_client(kind=["05", "05", "5", "5.4"]), KIND)
    assert vocabulary.categorical["kind"].values == ("05", "5", "5.4")
    assert column(one_client(kind=[5, 5, 6]), KIND, vocabulary, "kind") == [3, 3, 1]


def test_whole_floats_beyond_what_integers_hold_exactly_are_still_encoded() -> None:
    values = [1e18, 1e18, 2.5, float("inf"), float("nan")]
    vocabulary = fitted(one_client(kind=values), KIND)
    assert len(vocabulary.categorical["kind"].values) == 3
    assert sorted(column(one_client(kind=values), KIND, vocabulary, "kind")) == [0, 2, 2, 3, 4]


def test_booleans_are_categories() -> None:
    table = one_client(kind=[True, True, False, None])
    assert column(table, KIND, fitted(table, KIND), "kind") == [2, 2, 3, 0]


def test_nan_in_a_category_is_null() -> None:
    table = one_client(kind=pa.array([1.0, 1.0, float("nan"), None]))
    assert column(table, KIND, fitted(table, KIND), "kind") == [2, 2, 0, 0]


def test_words_like_integer_types_are_categories_like_others() -> None:
    table = one_client(kind=pa.array(["PRINT", "POINT", "PRINT"]).dictionary_encode())
    assert column(table, KIND, fitted(table, KIND), "kind") == [2, 3, 2]


# --------------------------------------------------------------------------------------------------
# numbers


def test_numbers_are_scaled_by_median_and_interquartile_range() -> None:
    values = np.random.default_rng(0).normal(50, 7, 4_000)
    scaled = np.array(sized(values))
    q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75])
    np.testing.assert_allclose(
        scaled, (values - median) / ((q3 - q1) / 1.349), rtol=1e-4, atol=1e-5
    )


def test_null_and_nan_stay_missing_and_infinities_are_extremes() -> None:
    vocabulary = fitted(one_client(size=[float(i) for i in range(100)]), SIZE)
    given = [None, math.nan, math.inf, -math.inf, 1e300, -1e300, 49.5]
    assert sized(given, vocabulary) == ["NaN", "NaN", 10.0, -10.0, 10.0, -10.0, 0.0]


def test_infinities_and_missing_values_do_not_move_the_scale() -> None:
    plain = [float(i) for i in range(100)]
    mixed = [*plain, math.inf, -math.inf, math.nan, None]
    scales = [
        fitted(one_client(size=pa.array(v, pa.float64())), SIZE).numeric["size"]
        for v in (plain, mixed)
    ]
    assert scales[0].overall == scales[1].overall
    assert [s.missing for s in scales] == [0.0, round(2 / 104, 4)]


def test_numbers_further_apart_than_a_double_can_say_still_have_a_scale() -> None:
    found = sized([-1.7e308] * 20 + [0.0] * 20 + [1.7e308] * 20)
    assert np.isfinite(found).all()
    assert found[0] < found[30] < found[-1]


def test_a_heavy_tail_gets_a_signed_logarithm() -> None:
    random = np.random.default_rng(1)
    values = np.exp(random.normal(3, 2.5, 4_000)) * random.choice([-1, 1], 4_000, p=[0.2, 0.8])
    scale = fitted(one_client(size=values), SIZE).numeric["size"].overall
    assert scale.log_unit == pytest.approx(np.median(np.abs(values)))
    logs = np.sign(values) * np.log1p(np.abs(values) / scale.log_unit)
    expected = np.clip((logs - scale.center) / scale.scale, -10, 10)
    np.testing.assert_allclose(sized(values), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected).max() < 10


@pytest.mark.parametrize("draw", ["normal", "uniform", "exponential"])
def test_an_ordinary_tail_stays_linear(draw: str) -> None:
    values = getattr(np.random.default_rng(2), draw)(size=4_000)
    assert fitted(one_client(size=values), SIZE).numeric["size"].overall.log_unit is None


@pytest.mark.parametrize("common", [0.9, 0.97, 1.0])
def test_a_number_that_is_nearly_always_the_same_still_has_a_scale(common: float) -> None:
    values = [5.0 if i < 1_000 * common else float(i) for i in range(1_000)]
    scale = fitted(one_client(size=values), SIZE).numeric["size"].overall
    assert scale.scale > 0
    assert all(math.isfinite(v) for v in sized(values))


@pytest.mark.parametrize(
    "kind", [pa.int8(), pa.uint64(), pa.float32(), pa.decimal128(21, 2), pa.bool_()], ids=str
)
def test_every_kind_of_number_can_be_numeric(kind: pa.DataType) -> None:
    whole = pa.array([0, 1, 1, 0, 1])
    table = one_client(size=whole.cast(kind))
    assert column(table, SIZE, fitted(one_client(size=whole), SIZE), "size") == sized(
        [0, 1, 1, 0, 1]
    )


def test_a_number_within_a_category_is_scaled_by_the_values_of_its_category() -> None:
    random = np.random.default_rng(3)
    large, small = random.normal(1_000, 50, 200), random.normal(0, 0.1, 300)
    table = one_client(kind=["large"] * 200 + ["small"] * 300, size=np.concatenate([large, small]))
    vocabulary = fitted(table, BOTH)
    apart = column(table, BOTH, vocabulary, "size")
    assert apart[:200] == pytest.approx(sized(large), abs=1e-5)
    assert apart[200:] == pytest.approx(sized(small), abs=1e-5)


def test_a_category_too_rare_for_a_scale_of_its_own_and_a_new_one_take_the_overall_scale() -> None:
    table = one_client(kind=["a"] * 50 + ["b"] * 19, size=[float(i) for i in range(69)])
    vocabulary = fitted(table, BOTH)
    scales = vocabulary.numeric["size"]
    assert scales.within[2] is not None
    assert (scales.within[3], scales.of_code(3), scales.of_code(1)) == (
        None,
        scales.overall,
        scales.overall,
    )
    new = one_client(kind=["b", "new", None], size=[3.0, 3.0, 3.0])
    assert column(new, BOTH, vocabulary, "size") == pytest.approx(
        sized([3.0] * 3, fitted(table, SIZE))
    )


def test_the_null_category_has_a_scale_of_its_own() -> None:
    table = one_client(kind=pa.array([None] * 30 + ["b"] * 30), size=[float(i) for i in range(60)])
    vocabulary = fitted(table, BOTH)
    assert vocabulary.numeric["size"].within[0] is not None
    assert column(table, BOTH, vocabulary, "size")[:30] == pytest.approx(
        sized([float(i) for i in range(30)]), abs=1e-5
    )


# -------------------------------------------------------------------------------------------------
# the whole


def test_encoding_new_events_never_changes_the_vocabulary() -> None:
    vocabulary = fitted(one_client(kind=list("aab") * 30, size=[1.0, 2.0, 3.0] * 30), BOTH)
    before = vocabulary.model_dump_json()
    new = one_client(kind=list("zzzb") * 30, size=[1e6, 2e6, 3e6, 3.0] * 30)
    first, second = rows(new, BOTH, vocabulary), rows(new, BOTH, vocabulary)
    assert (first, vocabulary.model_dump_json()) == (second, before)
    assert first[0]["kind"][:4] == [1, 1, 1, 3]
    assert first[0]["size"][0] == 10.0


def test_the_order_of_the_rows_does_not_change_the_vocabulary() -> None:
    random = np.random.default_rng(4)
    events = 500
    table = pa.table({
        "client": random.integers(0, 40, events), "day": random.permutation(events),
        "kind": random.choice(list("abcdef"), events), "size": random.normal(size=events),
    })  # fmt: skip
    assert fitted(table, BOTH) == fitted(table.take(random.permutation(events)), BOTH)


def test_a_vocabulary_comes_back_from_json_as_it_was() -> None:
    table = one_client(
        kind=pa.array(['ä, "x"', None, "5411"] * 30), size=np.exp(np.arange(90.0) / 3)
    )
    vocabulary = fitted(table, BOTH)
    again = Vocabulary.model_validate_json(vocabulary.model_dump_json())
    assert again == vocabulary
    assert again.fingerprint() == vocabulary.fingerprint()
    assert rows(table, BOTH, again) == rows(table, BOTH, vocabulary)


def test_fingerprints_tell_vocabularies_apart() -> None:
    first, second = (fitted(one_client(kind=list(text)), KIND) for text in ("aab", "abb"))
    assert first.fingerprint() != second.fingerprint()


@pytest.mark.parametrize(
    ("schema", "columns", "message"),
    [
        (KIND, {"kind": pa.nulls(3, pa.string())}, "'kind' .* holds only nulls"),
        (SIZE, {"size": pa.nulls(3, pa.float64())}, "'size' .* holds no finite number"),
        (SIZE, {"size": [math.nan, math.inf, None]}, "'size' .* holds no finite number"),
    ],
)
def test_a_feature_without_values_is_refused(
    schema: EventSchema, columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(SchemaError, match=message):
        fitted(one_client(**columns), schema)


def test_text_where_the_model_learnt_numbers_is_refused() -> None:
    vocabulary = fitted(one_client(size=[1.0, 2.0]), SIZE)
    source = open_events(one_client(size=["1", "much"]))
    with pytest.raises(
        InputError, match=r"1 value in column 'size' .* is not a number, such as 'much'"
    ):
        list(encode(source, SIZE, vocabulary))


def test_numbers_written_as_text_are_numbers() -> None:
    vocabulary = fitted(one_client(size=[1.0, 2.0, 3.0]), SIZE)
    assert column(one_client(size=["1", "2.0", "3e0"]), SIZE, vocabulary, "size") == sized(
        [1, 2, 3], vocabulary
    )


@pytest.mark.parametrize("client", ["c", "d", "e", "f"])
def test_a_sample_of_clients_is_never_empty(client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One client with more events than the sample takes, whatever its hash is."""
    events = one_client(size=pa.array(np.arange(100.0))).set_column(
        0, "client", pa.array([client] * 100)
    )
    whole = fitted(events, SIZE)
    monkeypatch.setattr("seqmel.data.fitting.vocabulary_fitting._SAMPLE_ROWS", 10)
    assert fitted(events, SIZE) == whole


def test_the_usual_gap_of_many_events_is_that_of_some_clients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    days = np.concatenate([np.cumsum(np.full(20, 1 + c % 3)) for c in range(200)])
    events = pa.table(
        {"client": np.repeat(np.arange(200), 20), "day": days, "size": days.astype(float)}
    )
    whole = fitted(events, SIZE).time
    monkeypatch.setattr("seqmel.data.fitting.vocabulary_fitting._GAP_ROWS", 1_000)
    assert fitted(events, SIZE).time.gap_center == pytest.approx(whole.gap_center, abs=0.5)
