"""CSV has no types: ids stay as written, and categories are those of the training."""

from __future__ import annotations

import csv
import os
import tempfile
from pathlib import Path
from typing import Any, Literal

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small import card_events, tiny_config

from seqmel import AggregateFeatures, EventSequences, SequenceEmbedder
from seqmel.core.errors import InputError
from seqmel.data.fitting.schema_inference import infer_schema
from seqmel.data.schema import SchemaOptions
from seqmel.data.sources import csv_files
from seqmel.data.sources.checking import category_text
from seqmel.data.sources.csv_files import Categories
from seqmel.data.sources.reading import open_events, open_unread
from seqmel.data.sources.source import connect
from seqmel.data.tables.labels import read_embeddings, read_labels
from seqmel.data.vocabulary import CategoryCodes
from seqmel.inference.embed import embed
from seqmel.model import Model, load_model
from seqmel.training.run import train

EXAMPLES = int(os.environ.get("SEQMEL_EXAMPLES", "20"))
IDS = {
    "decimals": ["1.1", "1.10"],
    "exponents": ["2E3", "20E2"],
    "20 digits": ["12345678901234567168", "12345678901234567169"],
    "uint64": ["18446744073709551615", "7"],
    "clock": ["10:30", "7:05"],
    "hexadecimal": ["0x10", "0x20"],
    "zeros": ["-0", "0"],
    "truth": ["True", "true"],
    "days": ["2023-1-1", "2023-01-01"],
}


def lines(path: Path, header: str, *rows: str) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.mark.parametrize("encoding", ["latin-1", "cp1251"])
def test_text_in_an_old_encoding_is_refused_in_plain_words(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    city = {"latin-1": "Z\u00fcrich", "cp1251": "\u041a\u0430\u0437\u0430\u043d\u044c"}[encoding]
    path.write_text(f"client_id,time,city\n1,2023-01-01,Oslo\n1,2023-01-02,{city}\n", encoding)
    words = r"events\.csv is not text in UTF-8.*\. Save it again as CSV in UTF-8\.$"
    with pytest.raises(InputError, match=words):
        open_events(path)


@pytest.mark.parametrize(
    "read", [open_events, open_unread, lambda path: read_labels(path, "amount")]
)
@pytest.mark.parametrize(
    ("encoding", "found"),
    [
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16"),
        ("utf-16-be", "UTF-16"),
        ("utf-32", "UTF-32"),
        ("utf-32-be", "UTF-32"),
    ],
)
def test_text_in_another_unicode_than_utf_8_is_named(
    encoding: str, found: str, read: Any, tmp_path: Path
) -> None:
    path = tmp_path / "events.CSV"
    path.write_text("client_id,amount\n1,2.5\n", encoding=encoding)
    with pytest.raises(
        InputError,
        match=rf"events\.CSV is text in {found}\. Expected UTF-8: save it again as CSV in UTF-8\.",
    ):
        read(path)


@pytest.mark.parametrize("name", ["events.csv", "events.csv.gz"])
def test_utf_8_is_read_with_its_mark_too_and_compressed(name: str, tmp_path: Path) -> None:
    pd.DataFrame({"client_id": [1], "amount": [2.5]}).to_csv(
        tmp_path / name, index=False, encoding="utf-8-sig"
    )
    assert open_events(tmp_path / name).columns == {"client_id": "BIGINT", "amount": "DOUBLE"}


@pytest.mark.parametrize("opened", [open_events, open_unread])
@pytest.mark.parametrize("name", ["client_id", "Kunde"])
@pytest.mark.parametrize("ids", IDS.values(), ids=IDS)
def test_ids_that_a_number_does_not_give_back_are_text(
    ids: list[str], name: str, opened: Any, tmp_path: Path
) -> None:
    path = lines(tmp_path / "events.csv", f"{name},amount", *(f"{client},1.5" for client in ids))
    source = opened(path, client=None if name == "client_id" else name)
    assert source.rows(f"SELECT {name} FROM events ORDER BY __row") == [(client,) for client in ids]


@pytest.mark.parametrize("opened", [open_events, open_unread])
def test_ids_that_are_whole_numbers_are_numbers(opened: Any, tmp_path: Path) -> None:
    source = opened(
        lines(
            tmp_path / "events.csv", "client_id,amount", "12,1.5", "-7,2", "9223372036854775807,3"
        )
    )
    assert source.columns == {"client_id": "BIGINT", "amount": "DOUBLE"}
    assert source.row("SELECT max(client_id) FROM events") == (2**63 - 1,)


@pytest.mark.parametrize("ids", IDS.values(), ids=IDS)
def test_labels_and_vectors_have_the_ids_of_their_files(ids: list[str], tmp_path: Path) -> None:
    for header, client in (("client_id,x", None), ("Kunde,x", "Kunde")):
        path = lines(
            tmp_path / "labels.csv", header, *(f"{client},{i}" for i, client in enumerate(ids))
        )
        assert read_labels(path, "x", client=client).index.tolist() == ids
    vectors = lines(
        tmp_path / "vectors.csv", "Kunde,emb_0000", *(f"{client},0.5" for client in ids)
    )
    assert read_embeddings(vectors, client="Kunde").index.tolist() == ids


@pytest.mark.parametrize("name", ["decimals", "20 digits", "clock", "truth", "days"])
def test_the_first_column_of_vectors_is_an_id_by_any_name(name: str, tmp_path: Path) -> None:
    vectors = lines(
        tmp_path / "vectors.csv", "Kunde,emb_0000", *(f"{client},0.5" for client in IDS[name])
    )
    assert read_embeddings(vectors).index.tolist() == IDS[name]


def test_labels_keep_their_words(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "labels.csv", "client_id,bought,sign,flag", "1,yes,t,True", "2,no,f,False"
    )
    assert read_labels(path, "bought").tolist() == ["yes", "no"]
    assert read_labels(path, "sign").tolist() == ["t", "f"]
    assert read_labels(path, "flag").tolist() == [True, False]


def test_whole_numbers_of_any_size_are_exact(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "events.csv",
        "client_id,code",
        "1,12345678901234567168",
        "2,12345678901234567169",
    )
    assert open_events(path).row("SELECT count(DISTINCT code) FROM events") == (2,)


CODES = {
    "what is named, and all text": (None, "1.50 2.0 3E5", "1.50 2.0 3E5"),
    "what is named, as pandas writes whole numbers beside nulls": (None, "12.0 7.0", "12 7"),
    "what is named, whole numbers": (None, "12 7", "12 7"),
    "what is named, and begins with a zero": (None, "012 7", "012 7"),
    "what was text": (["A", "2.0"], "1.50 2.0", "1.50 2.0"),
    "what was text that may look like numbers": (["1.50", "2.0"], "2.0 2.0", "2.0 2.0"),
    "what was text of many digits": (
        ["12345678901234567168"],
        "12345678901234567168 1.0",
        "12345678901234567168 1.0",
    ),
    "what may have been numbers": (["12", "1.5"], "12.0 1.50", "12 1.5"),
    "what may have been booleans": (["true", "false"], "True False", "true false"),
    "what was text beside booleans": (["True", "False", "unknown"], "True False", "True False"),
}


@pytest.mark.parametrize(("known", "there", "expected"), CODES.values(), ids=CODES)
def test_a_category_has_the_text_that_it_had_in_training(
    known: list[str] | None, there: str, expected: str, tmp_path: Path
) -> None:
    codes = None if known is None else CategoryCodes(values=tuple(known), null=False)
    categories: Categories = {"kind": codes, "elsewhere": codes}
    path = lines(
        tmp_path / "events.csv", "client_id,kind", *(f"1,{value}" for value in there.split())
    )
    for opened in (open_events, open_unread):
        source = opened(path, categories=categories)
        found = source.rows(f"SELECT {category_text(source, 'kind')} FROM events ORDER BY __row")
        assert " ".join(value for (value,) in found) == expected


WORDS = {
    "bought": ["yes", "no", "unknown"],
    "sign": ["t", "f", "?"],
    "version": ["1.50", "1.5", "2.0", "3E5", "none"],
    "hour": ["10:30", "9:00", "never"],
}


def told(events: pa.Table, *, ordinary: bool) -> pa.Table:
    """The events with columns of words; ordinary days have none of the last words."""
    for name, words in WORDS.items():
        some = words[:-1] if ordinary else words
        events = events.append_column(
            name, pa.array([some[i % len(some)] for i in range(len(events))])
        )
    truth = pa.array([i % 3 == 0 for i in range(len(events))])
    return events.append_column("truth", truth)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("told")
    config = tiny_config(training={"epochs": 0, "batch_size": 8, "validation_fraction": 0.3})
    pq.write_table(told(card_events(12), ordinary=False), folder / "events.parquet")
    return load_model(train(folder / "events.parquet", folder / "model", config=config))


def test_the_csv_of_a_day_gives_the_vectors_of_its_parquet(model: Model, tmp_path: Path) -> None:
    day = told(card_events(12), ordinary=True)
    assert {*WORDS, "truth"} <= {*model.schema.categorical}
    pq.write_table(day, tmp_path / "day.parquet")
    frame: pd.DataFrame = day.to_pandas()
    frame.to_csv(tmp_path / "day.csv", index=False)  # booleans as True and False
    expected, found = (
        {
            c: v.tolist()
            for ids, vs in embed(model, tmp_path / name, device="cpu")
            for c, v in zip(ids.to_pylist(), vs, strict=True)
        }
        for name in ("day.parquet", "day.csv")
    )
    assert found == expected


def test_a_model_of_csv_knows_its_named_categories_again(tmp_path: Path) -> None:
    """Versions that are numbers in every file, and differ as text."""
    rows = [
        f"{i % 8},2023-01-{1 + i // 8:02},{('1.1', '1.10', '2.0')[i % 3]},{i}.5" for i in range(160)
    ]
    path = lines(tmp_path / "events.csv", "client_id,event_time,version,amount", *rows)
    config = tiny_config(
        training={"epochs": 0, "batch_size": 8, "validation_fraction": 0.3},
        schema={"categorical": ["version"]},
    )
    known = load_model(train(path, tmp_path / "model", config=config))
    assert {*known.vocabulary.categorical["version"].values} == {"1.1", "1.10", "2.0"}


def stored(day: pa.Table, folder: Path) -> list[Path]:
    """As Parquet and as CSV."""
    pq.write_table(day, folder / "day.parquet")
    frame: pd.DataFrame = day.to_pandas()
    frame.to_csv(folder / "day.csv", index=False)
    return [folder / "day.parquet", folder / "day.csv"]


def assert_same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found, expected, check_exact=True, check_index_type=False)


def test_sequences_of_the_csv_of_a_day_give_the_vectors_of_its_parquet(
    model: Model, tmp_path: Path
) -> None:
    files = stored(told(card_events(12), ordinary=True), tmp_path)
    expected, found = map(EventSequences.read, files)
    assert found.columns == expected.columns
    embedder = SequenceEmbedder.from_pretrained(model, device="cpu")
    for key in (slice(None), slice(None, None, -2), [3, 3, 1]):
        assert_same(embedder.transform(found[key]), embedder.transform(expected[key]))
    ids = [112345, *expected.client_ids[::3]]  # the first has no events
    assert_same(*(embedder.set_params(events=file).transform(ids) for file in files))


NAMED = ["version", "hour", "truth", "zeros"]


def test_sequences_of_csv_teach_named_categories_as_the_file_does(tmp_path: Path) -> None:
    zeros = pa.array([("12.0", "7.0")[i % 2] for i in range(len(card_events(12)))])
    _, file = stored(told(card_events(12), ordinary=True).append_column("zeros", zeros), tmp_path)
    config = tiny_config(
        training={"epochs": 0, "batch_size": 8, "validation_fraction": 0.3},
        schema={"categorical": NAMED},
    )
    expected, found = (
        load_model(train(events, tmp_path / f"model{i}", config=config)).vocabulary
        for i, events in enumerate((file, EventSequences.read(file)))
    )
    assert found == expected
    assert {"1.50", "1.5", "2.0"} <= {*found.categorical["version"].values}
    assert {*found.categorical["zeros"].values} == {"12", "7"}


def test_aggregates_of_the_csv_of_a_day_are_those_of_its_parquet(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"categorical": [*WORDS, "truth"], "numeric": ["amount"]}
    fitted = AggregateFeatures(**columns).fit(
        EventSequences.read(told(card_events(12), ordinary=False))
    )
    files = stored(told(card_events(12), ordinary=True), tmp_path)
    assert_same(*(fitted.transform(EventSequences.read(file)) for file in files))


FIELDS = {
    "whole": st.integers(-9, 10**6).map(str),
    "real": st.floats(-1e6, 1e6, allow_nan=False).map(repr),
    "text": st.text(
        st.characters(codec="utf-8", exclude_characters="\0\r", exclude_categories=["Cs"]),
        max_size=5,
    ),
    "date": st.dates().map(str),
    "moment": st.datetimes().map(lambda x: x.isoformat(" ", "seconds")),
    "odd": st.sampled_from(
        [
            "05",
            "+5",
            " 5",
            "5 ",
            "1_000",
            "inf",
            "nan",
            "-0",
            "1.",
            ".5",
            "1,5",
            "1e400",
            "0x10",
            "1E-3",
            "'5'",
            "'a",
            "a\\b",
            "TRUE",
            "12345678901234567890",
            "1" * 40,
            "12:30",
            "true",
            "",
        ]
    ),
}


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    data=st.data(),
    delimiter=st.sampled_from([",", ";", "\t"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_is_read_as_text_is_what_a_look_at_all_rows_for_the_types_makes_of_it(
    data: st.DataObject, delimiter: str, quoting: Literal[0, 1]
) -> None:
    n = data.draw(st.integers(1, 12))
    columns = []
    for name in data.draw(st.lists(st.sampled_from(sorted(FIELDS)), min_size=2, max_size=4)):
        field = st.one_of(
            *data.draw(
                st.sampled_from(
                    [[FIELDS[name]], [FIELDS[name], st.just("")], [FIELDS[name], FIELDS["odd"]]]
                )
            )
        )
        columns.append(data.draw(st.lists(field, min_size=n, max_size=n)))
    categories = data.draw(st.sampled_from([None, {"c1": None}]))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "events.csv"
        with file.open("w", newline="", encoding="utf-8") as opened:
            writer = csv.writer(opened, delimiter=delimiter, quoting=quoting)
            writer.writerow([f"c{i}" for i in range(len(columns))])
            writer.writerows(zip(*columns, strict=True))
        quick, slow = (
            table_of([str(file)], categories, as_text=as_text) for as_text in (True, False)
        )
    assert quick == slow


def table_of(files: list[str], categories: Categories | None, *, as_text: bool) -> Any:
    """Types and rows of the table, or that it cannot be read."""
    connection = connect()
    with pytest.MonkeyPatch.context() as patch:
        if not as_text:
            patch.setattr(csv_files, "read_as_text", lambda *_, **__: None)
        try:
            csv_files.register_csv(connection, files, client="c0", categories=categories, read=True)
        except duckdb.Error as error:
            return type(error)
    return connection.execute("DESCRIBE raw").fetchall(), repr(
        connection.execute("FROM raw").fetchall()
    )


@pytest.mark.parametrize("opened", [open_events, open_unread])
@pytest.mark.parametrize("mark", ["NA", "N/A", "NULL", "null", "None", "nan", "<NA>"])
@pytest.mark.parametrize("late", [False, True], ids=["among the first rows", "later"])
def test_a_number_that_is_marked_as_not_known_is_null(
    late: bool, mark: str, opened: Any, tmp_path: Path
) -> None:
    known = [f"{i % 40},{i % 7}.5,{i % 90},{i % 3}x" for i in range(20_000 if late else 50)]
    path = lines(
        tmp_path / "events.csv", "client_id,amount,items,kind", *known, f"1,{mark},{mark},{mark}"
    )
    source = opened(path)
    assert source.columns == {
        "client_id": "BIGINT",
        "amount": "DOUBLE",
        "items": "DOUBLE",
        "kind": "VARCHAR",
    }
    wanted = (1, len(known), len(known), mark)
    counts = "count(*) FILTER (amount IS NULL AND items IS NULL), count(amount), count(items)"
    assert source.row(f"SELECT {counts}, last(kind ORDER BY __row) FROM events") == wanted


def test_marks_alone_and_numbers_with_zeros_before_them_stay_text(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "events.csv", "client_id,none,code", "1,NA,NA", "2,NA,00123", "2,NULL,00124"
    )
    source = open_events(path)
    assert source.columns == {"client_id": "BIGINT", "none": "VARCHAR", "code": "VARCHAR"}


def test_a_category_that_is_known_keeps_its_text(tmp_path: Path) -> None:
    path = lines(tmp_path / "events.csv", "client_id,code", "1,NA", "2,12", "2,1.50")
    source = open_events(
        path, categories={"code": CategoryCodes(values=("12", "NA", "1.50"), null=False)}
    )
    assert source.rows("SELECT code FROM events ORDER BY __row") == [("NA",), ("12",), ("1.50",)]


COMMAS = (
    "client;when;amount;kind\n"
    "1;24.12.2023;12,50;a\n"
    "1;25.12.2023;1.234,5;b\n"
    "2;31.01.2024;-7;a\n"
    "2;01.02.2024;1.234;b\n"
)


def amounts(path: Path, **options: Any) -> list[float]:
    source = open_events(path, client="client", **options)
    return [amount for (amount,) in source.rows("SELECT amount FROM events ORDER BY __row")]


def test_decimal_commas_beside_semicolons_and_day_first_dates_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "bank.csv").write_text(COMMAS)
    assert amounts(tmp_path / "bank.csv") == [12.5, 1234.5, -7.0, 1234.0]
    schema = infer_schema(
        open_events(tmp_path / "bank.csv", client="client"), SchemaOptions(numeric=("amount",))
    )
    assert (schema.decimal, schema.time_format, schema.numeric) == (",", "%d.%m.%Y", ("amount",))


def test_a_model_of_decimal_commas_reads_thousands_of_a_day_without_commas(tmp_path: Path) -> None:
    (tmp_path / "day.csv").write_text(
        "client;when;amount;kind\n1;24.12.2023;1.234;a\n2;25.12.2023;2.500;b\n"
    )
    assert amounts(tmp_path / "day.csv") == [1.234, 2.5]
    assert amounts(tmp_path / "day.csv", decimal=",") == [1234.0, 2500.0]


def test_a_comma_that_may_stand_between_thousands_is_no_decimal_mark_unless_it_is_said(
    tmp_path: Path,
) -> None:
    (tmp_path / "e.csv").write_text(
        "client;when;amount;kind\n1;2023-12-24;1,234;a\n2;2023-12-25;2,500;b\n"
    )
    assert amounts(tmp_path / "e.csv") == ["1,234", "2,500"]
    assert amounts(tmp_path / "e.csv", decimal=",") == [1.234, 2.5]
    assert amounts(tmp_path / "e.csv", decimal=".") == ["1,234", "2,500"]


def test_points_are_not_taken_for_thousands_where_nothing_says_so(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text(
        "client,when,amount,kind\n1,2023-12-24,1.234,a\n2,2023-12-25,NA,b\n"
    )
    assert amounts(tmp_path / "e.csv") == [1.234, None]
