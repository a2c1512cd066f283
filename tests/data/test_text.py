"""Columns of the kind `text`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from small import TINY, card_events

import seqmel
from seqmel.core.errors import InputError, ModelError, SchemaError
from seqmel.core.progress import EventsWarning
from seqmel.data.encoding.event_encoding import encode
from seqmel.data.fitting.statistics import ColumnBins, count_events
from seqmel.data.kinds.category import shortened
from seqmel.data.kinds.text import TextColumn, TextKind, words_of
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.sources.reading import open_events
from seqmel.evaluation.drift import psi_of_counts
from seqmel.report.events import describe

THINGS = ["RED LAMP", "white t-light holder", "Box of 12 candles", "café 4821", "?", None]


def with_texts(events: pd.DataFrame) -> pd.DataFrame:
    """The events with a column of short texts, some null and some without a word."""
    chosen = np.random.default_rng(0).integers(0, len(THINGS), len(events))
    return events.assign(description=[THINGS[i] for i in chosen])


@pytest.fixture(scope="module")
def events() -> pd.DataFrame:
    return with_texts(card_events().to_pandas())


@pytest.fixture(scope="module")
def model(events: pd.DataFrame) -> seqmel.Model:
    objective = [
        "coles",
        {"name": "event_prediction", "weight": 0.1},
        {"name": "replaced_token", "weight": 0.1},
    ]
    config = TINY | {"schema": {"kinds": {"description": "text"}}, "objective": objective}
    return seqmel.train(events, config=config)


def encoded(*texts: str | None) -> torch.Tensor:
    return torch.from_numpy(TextKind().encode_texts(TextColumn(), pa.array(texts, pa.string())))


def vectors(*texts: str | None, rows: int = 4_096) -> torch.Tensor:
    """The vectors of texts in a random table."""
    kind, column = TextKind(), TextColumn(rows=rows)
    table = torch.randn(rows + 1, 64, generator=torch.Generator().manual_seed(0))
    layout = kind.layout({"a": column}, {}, {"a": 0})
    (sums,) = kind.embed_wide([encoded(*texts)], layout, torch.float)
    found = (table[sums.rows] * sums.weights.unsqueeze(2)).sum(1)
    assert sums.index is not None
    return found[sums.index]


def test_words_are_lower_case_in_compatible_characters_with_numbers_as_zero() -> None:
    assert words_of("  ＳＨＯＰ*Café\t№ 4821, t-light_x") == [
        "shop",
        "café",
        "no",
        "0",
        "t",
        "light",
        "x",
    ]


def test_a_text_is_the_sum_of_its_words_and_their_parts_on_the_scale_of_one_row() -> None:
    kind, column = TextKind(), TextColumn(rows=50)
    layout = kind.layout({"a": column}, {}, {"a": 100})
    (sums,) = kind.embed_wide([encoded("lamp", "?", None)], layout, torch.float)
    assert sums.index is not None
    known = sums.weights[sums.index] > 0
    # <lamp>, <lam, lamp, amp>
    assert known.sum(1).tolist() == [4, 1, 1]
    rows = sums.rows[sums.index]
    assert rows[1:, 0].tolist() == [150, 150], "a text without a word has the row of null"
    assert bool(((rows[0, :4] >= 100) & (rows[0, :4] < 150)).all())
    torch.testing.assert_close(sums.weights.square().sum(1), torch.ones(len(sums.weights)))


def test_writing_and_order_do_not_matter_and_another_number_neither() -> None:
    found = vectors("Red LAMP 7", "ｌａｍｐ, red 12345", "green lamp 7")
    torch.testing.assert_close(found[0], found[1])
    assert not torch.allclose(found[0], found[2])


def test_a_new_word_is_near_the_word_it_is_made_of() -> None:
    found = torch.nn.functional.normalize(vectors("candlestick", "candlesticks", "umbrella"))
    assert float(found[0] @ found[1]) > 0.5
    assert abs(float(found[0] @ found[2])) < 0.4


def test_a_very_long_text_is_read_up_to_32_words() -> None:
    words = [f"word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(40)]
    assert torch.equal(encoded(" ".join(words)), encoded(" ".join(words[:32])))
    assert not torch.equal(encoded(" ".join(words)), encoded(" ".join(words[:31])))


def test_the_vectors_are_the_same_in_files_frames_and_shards(
    model: seqmel.Model, events: pd.DataFrame, tmp_path: Path
) -> None:
    found = model.embed(events)
    model.save(tmp_path / "model")
    events.to_csv(tmp_path / "events.csv", index=False)
    events.to_parquet(tmp_path / "events.parquet")
    # Text instead of times is read by SQL, and not as whole columns.
    events.assign(event_time=events["event_time"].astype(str)).to_parquet(tmp_path / "sql.parquet")
    loaded = seqmel.load(tmp_path / "model")
    for name in ("events.csv", "events.parquet", "sql.parquet"):
        again = loaded.embed(tmp_path / name)
        np.testing.assert_array_equal(again.loc[found.index.astype(again.index.dtype)], found)
    shards = pd.concat([model.embed(events, shard=(i, 2)) for i in (1, 2)])
    np.testing.assert_allclose(shards.loc[found.index], found, atol=1e-6)


def test_an_update_continues_a_state(
    model: seqmel.Model, events: pd.DataFrame, tmp_path: Path
) -> None:
    ordered = events.sort_values("event_time")
    state = tmp_path / "state.parquet"
    for part in (ordered[:200], ordered[200:]):
        model.embed(part, tmp_path / "vectors.parquet", state=state, overwrite=True)
    found = pd.read_parquet(tmp_path / "vectors.parquet").set_index("client_id")
    expected = model.embed(events).loc[found.index]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_one_client_is_scored_as_in_the_batch(model: seqmel.Model, events: pd.DataFrame) -> None:
    client = events["client_id"].iloc[0]
    own = events[events["client_id"] == client]
    for given in (own, own.to_dict("records")):
        vector = model.scorer().embed(given)
        np.testing.assert_allclose(vector, model.embed(events).loc[client], atol=1e-5)


def test_sequences_in_several_chunks_and_in_memory_are_the_same(
    model: seqmel.Model, events: pd.DataFrame
) -> None:
    source = open_events(events)

    def sequences(chunk_events: int) -> EncodedSequences:
        batches = encode(source, model.schema, model.vocabulary, chunk_events=chunk_events)
        return EncodedSequences.from_batches(batches, time=model.schema.time)

    whole, parts = sequences(10**6), sequences(50)
    everyone = torch.arange(len(whole))
    expected = whole.gather_last(everyone, max_events=5)
    assert expected.columns["description"].shape == (expected.events, 16)
    for other in (parts, parts.in_memory()):
        found = other.gather_last(everyone, max_events=5)
        for name, values in expected.columns.items():
            assert torch.equal(found.columns[name].nan_to_num(), values.nan_to_num()), name


def test_a_text_has_aggregates_bins_and_a_place_in_the_report(
    model: seqmel.Model, events: pd.DataFrame
) -> None:
    aggregates = seqmel.AggregateFeatures(client="client_id", kinds={"description": "text"})
    found = aggregates.set_output(transform="pandas").fit_transform(events)
    length = events.assign(n=events["description"].str.len()).groupby("client_id")["n"].mean()
    expected = length.loc[found.index].to_numpy()
    np.testing.assert_allclose(found["description_length"], expected, rtol=1e-6)
    batches = encode(open_events(events), model.schema, model.vocabulary)
    sequences = EncodedSequences.from_batches(batches, time=model.schema.time)
    missing = int((events["description"].isna() | (events["description"] == "?")).sum())
    *_, counts = count_events(model.statistics, [sequences])
    assert counts["description"][0] == missing
    assert counts["description"].sum() == len(events)
    summary = describe(sequences, model.vocabulary, torch.arange(2))
    (column,) = [column for column in summary.columns if column.role == "text"]
    assert column.nulls == pytest.approx(missing / len(events))


def test_a_column_without_text_is_a_warning(model: seqmel.Model, events: pd.DataFrame) -> None:
    with pytest.warns(EventsWarning, match="'description' has no text in 100% of the events"):
        list(seqmel.embed(model, events.assign(description="???")))


def test_several_tables_may_have_texts(events: pd.DataFrame) -> None:
    tables = {"cards": events[::2], "visits": events[1::2].drop(columns="description")}
    schema = {"sources": {"cards": {"kinds": {"description": "text"}}}}
    model = seqmel.train(tables, config=TINY | {"schema": schema})
    found = model.embed(tables)
    other = tables | {"cards": tables["cards"].assign(description="another")}
    assert not np.allclose(model.embed(other), found)


@pytest.mark.parametrize(
    ("values", "words"),
    [(b"\xff\xfe", "holds bytes, not text"), (1.5, "holds numbers, not text")],
)
def test_what_is_no_text_is_refused(
    model: seqmel.Model, events: pd.DataFrame, values: object, words: str
) -> None:
    with pytest.raises(SchemaError, match=words):
        seqmel.train(
            events.assign(description=[values] * len(events)), kinds={"description": "text"}
        )


def test_a_model_refuses_bytes_and_bytes_that_call_themselves_text(
    model: seqmel.Model, events: pd.DataFrame, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="holds bytes, and the model was trained with text"):
        model.embed(events.assign(description=[b"\xff"] * len(events)))
    table = pa.Table.from_pandas(events)
    place = table.schema.get_field_index("description")
    broken = pa.array([b"\xff"] * len(events)).view(pa.string())
    pa.parquet.write_table(table.set_column(place, "description", broken), tmp_path / "e.parquet")
    with pytest.raises(InputError, match="Cannot read"):
        model.embed(tmp_path / "e.parquet")


def test_onnx_refuses_a_text_and_says_what_to_do(model: seqmel.Model, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    with pytest.raises(
        ModelError, match=r"'description' of this one is text\. Train a model without"
    ):
        seqmel.export_onnx(model, tmp_path / "model.onnx")


def test_python_values_are_encoded_with_every_kind_of_null_and_others_are_left_to_sql() -> None:
    kind, column = TextKind(), TextColumn()
    found = kind.encode_values(column, ["red", None, float("nan"), pd.NA])
    assert found is not None
    assert (found != 0).any(axis=1).tolist() == [True, False, False, False]
    assert kind.encode_values(column, ["red", 5]) is None


def test_long_texts_are_shortened_in_descriptions() -> None:
    assert shortened("two\n lines") == "two lines"
    assert shortened("x" * 60) == "x" * 60
    assert shortened("word " * 5000) == "word " * 11 + "wo..."


def test_drift_sees_every_word_and_models_of_the_first_word_keep_their_bins() -> None:
    random = np.random.default_rng(0)
    words = [f"{a}lamp{b}" for a in "bcdfghjk" for b in "aeiou"]

    def counts(texts: list[str], size: int) -> np.ndarray:
        bins = ColumnBins(edges=None, counts=(0,) * size, kind="text")
        return bins.count(encoded(*texts).numpy())

    def payments(known: list[str]) -> list[str]:
        return [f"pay {' '.join(random.choice(known, 3))}" for _ in range(2_000)]

    size, _ = TextKind().bins(TextColumn(), [])
    before, same, other = payments(words), payments(words), payments(words[:4])
    assert psi_of_counts(counts(before, size), counts(same, size)) < 0.1
    assert psi_of_counts(counts(before, size), counts(other, size)) > 0.25
    of_first = counts(other, 33)
    assert sorted(of_first.tolist()) == [0] * 32 + [2_000]
    assert counts(["?", "a b c"], size)[0] == 1
