"""One timeline of several event tables: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from small import two_tables

from seqmel.core.errors import InputError, SchemaError
from seqmel.data.encoding.event_encoding import encode
from seqmel.data.fitting.timeline import open_and_infer, open_for_schema
from seqmel.data.fitting.vocabulary_fitting import fit_vocabulary
from seqmel.data.schema import EventSchema, SchemaOptions
from seqmel.data.sources.several import event_tables, named_events
from seqmel.data.vocabulary import NULL


def options(**given: Any) -> SchemaOptions:
    return SchemaOptions.model_validate(given)


def test_columns_of_one_name_are_separate_unless_shared() -> None:
    _, schema = open_and_infer(two_tables(), options())
    assert schema.categorical == ("source", "cards.mcc", "clicks.page")
    assert schema.numeric == ("cards.amount", "clicks.amount")
    assert (schema.client, schema.time) == ("client_id", "event_time")
    assert schema.sources["clicks"].client == "user"
    _, shared = open_and_infer(two_tables(), options(share=("amount",)))
    assert shared.numeric == ("amount",)
    assert shared.sources_of("amount") == ("cards", "clicks")


def test_a_number_is_missing_where_its_own_table_lacks_it() -> None:
    tables = two_tables()
    cards = tables["cards"]
    tables["cards"] = cards.assign(amount=cards["amount"].where(cards.index != cards.index[0]))
    source, schema = open_and_infer(tables, options())
    numeric = fit_vocabulary(source, schema, min_count=1).numeric
    assert numeric["cards.amount"].missing == round(1 / len(cards), 4)
    assert numeric["clicks.amount"].missing == 0


def test_events_are_those_of_the_tables_with_nulls_for_columns_of_others() -> None:
    tables = two_tables()
    source, _ = open_and_infer(tables, options())
    found = source.connection.sql("FROM events ORDER BY __row").df()
    cards, clicks = tables["cards"], tables["clicks"]
    assert found["source"].tolist() == ["cards"] * len(cards) + ["clicks"] * len(clicks)
    assert found["client_id"].tolist() == [*cards["client_id"], *clicks["user"]]
    assert found["cards.amount"].tolist()[: len(cards)] == cards["amount"].tolist()
    assert found["cards.amount"].iloc[len(cards) :].isna().all()
    seconds = pd.to_datetime(clicks["ts"], unit="s").tolist()
    assert found["event_time"].iloc[len(cards) :].tolist() == seconds


def test_events_at_one_time_are_in_the_order_in_which_the_tables_are_named() -> None:
    day = pd.Timestamp("2024-01-01")
    one = pd.DataFrame({"client_id": [1, 1, 2], "event_time": day, "kind": ["a", "b", "a"]})
    two = one.assign(kind=["x", "y", "x"])
    for names in (("one", "two"), ("two", "one")):
        tables = dict(zip(names, (one, two) if names[0] == "one" else (two, one), strict=True))
        source, schema = open_and_infer(tables, options())
        vocabulary = fit_vocabulary(source, schema, min_count=1)
        for given in (tables, dict(reversed(tables.items()))):
            again = open_for_schema(given, schema, vocabulary.categorical)
            (batch,) = encode(again, schema, vocabulary)
            codes = [vocabulary.source_code(name) for name in names]
            assert batch.column("source")[0].as_py() == [codes[0]] * 2 + [codes[1]] * 2


def test_the_vocabulary_of_a_table_is_that_of_its_own_events() -> None:
    tables = two_tables()
    source, schema = open_and_infer(tables, options())
    joint = fit_vocabulary(source, schema, min_count=2)
    alone, own = open_and_infer({"cards": tables["cards"]}, options())
    fitted = fit_vocabulary(alone, own, min_count=2)
    assert joint.categorical["cards.mcc"] == fitted.categorical["mcc"]
    assert not joint.categorical["cards.mcc"].null  # only clicks have none
    assert joint.numeric["cards.amount"] == fitted.numeric["amount"]
    scale = joint.sources["cards"]
    assert scale.columns == ("cards.mcc", "cards.amount")
    assert scale.gap_center == pytest.approx(fitted.time.gap_center)
    assert joint.time.gap_center < fitted.time.gap_center


def test_absent_categories_have_the_code_of_null_and_a_rare_table_has_a_code() -> None:
    tables = two_tables()
    tables["clicks"] = tables["clicks"].iloc[:3].assign(user=100)
    source, schema = open_and_infer(tables, options())
    vocabulary = fit_vocabulary(source, schema, min_count=50)
    (batch,) = encode(source, schema, vocabulary)
    rows = pa.table(
        {name: batch.column(name).values for name in ("source", "cards.mcc", "clicks.page")}
    ).to_pylist()
    clicks = [row for row in rows if row["source"] == vocabulary.source_code("clicks")]
    assert len(clicks) == 3
    assert {row["cards.mcc"] for row in clicks} == {NULL}


def test_a_lazy_frame_may_be_one_of_several_tables() -> None:
    tables = two_tables()
    lazy = tables | {"cards": pl.from_pandas(tables["cards"]).lazy()}
    found, wanted = (open_and_infer(events, options()) for events in (lazy, tables))
    assert found[1] == wanted[1]
    count = "SELECT count(*) FROM events"
    assert found[0].row(count) == wanted[0].row(count)


def test_ids_of_a_csv_file_are_text_where_others_are(tmp_path: Path) -> None:
    tables = two_tables()
    tables["clicks"].to_csv(tmp_path / "clicks.csv", index=False)
    tables["cards"]["client_id"] = tables["cards"]["client_id"].astype(str)
    mixed = {"cards": tables["cards"], "clicks": tmp_path / "clicks.csv"}
    source, _ = open_and_infer(mixed, options())
    assert source.columns["client_id"] == "VARCHAR"
    with pytest.raises(InputError, match=r"ids are text in the source cards and whole numbers in"):
        open_and_infer(two_tables() | {"cards": tables["cards"]}, options())
    tables["cards"]["client_id"] = tables["cards"]["client_id"].astype(float)
    with pytest.raises(InputError, match=r"ids are numbers that may have fractions \(double\) in"):
        open_and_infer(two_tables() | {"cards": tables["cards"]}, options())


def test_times_stay_numbers_where_all_tables_count_in_one_unit() -> None:
    days = {"client_id": [1, 1, 2, 2], "day": [1, 5, 3, 9], "kind": ["a", "b", "a", "b"]}
    one = pd.DataFrame(days)
    source, schema = open_and_infer({"one": one, "two": one}, options())
    assert schema.time_unit == "day"
    assert source.columns["day"] == "BIGINT"


def other_ids() -> dict[str, Any]:
    tables = two_tables()
    tables["clicks"]["user"] += 10_000
    return tables


BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a table without a client of any other": (
        other_ids(), {},
        r"No client of the source cards is in another source\. Its column 'client_id' has ids",
    ),
    "a table without rows": (
        two_tables() | {"clicks": two_tables()["clicks"].iloc[:0]}, {},
        r"Source clicks: the given DataFrame has no rows",
    ),
    "a table without a time": (
        two_tables() | {"clicks": two_tables()["clicks"].drop(columns="ts")}, {},
        r"Source clicks: .*\(schema\.sources\.clicks\.time\)",
    ),
    "a column without a table": (
        two_tables(), {"categorical": ["mcc"]},
        r"schema\.categorical does not say for which source\. Write schema\.sources\.cards",
    ),
    "options of a table that is not there": (
        two_tables(), {"sources": {"card": {"time": "ts"}}},
        r"schema\.sources names 'card', .*Did you mean 'cards'",
    ),
    "a shared column of one table": (
        two_tables(), {"share": ["mcc"]}, r"schema\.share names 'mcc', which only cards has",
    ),
    "a shared column of two roles": (
        two_tables(), {"share": ["amount"], "sources": {"clicks": {"categorical": ["amount"]}}},
        r"shared column 'amount' is numeric in cards, categorical in clicks",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_tables_that_cannot_be_joined_are_refused_in_one_line(case: str) -> None:
    tables, given, line = BAD[case]
    with pytest.raises((InputError, SchemaError), match=line) as raised:
        open_and_infer(tables, options(**given))
    assert "\n" not in str(raised.value)


def schema_of_both() -> EventSchema:
    return open_and_infer(two_tables(), options())[1]


def test_a_model_takes_the_sources_that_it_knows_by_name() -> None:
    schema, tables = schema_of_both(), two_tables()
    with pytest.raises(InputError, match=r"no source 'card'\. Did you mean 'cards'\?"):
        open_for_schema({"card": tables["cards"]}, schema, {})
    with pytest.raises(InputError, match=r"trained on the sources cards, clicks\. Name those"):
        open_for_schema(tables["cards"], schema, {})
    _, one = open_and_infer(tables["cards"], options())
    with pytest.raises(InputError, match=r"trained on one table of events; found the sources"):
        open_for_schema(tables, one, {})


def test_a_missing_table_has_no_events() -> None:
    schema, tables = schema_of_both(), two_tables()
    source = open_for_schema({"clicks": tables["clicks"]}, schema, {})
    assert source.row("SELECT count(*), count(\"cards.mcc\") FROM events") == (
        len(tables["clicks"]), 0,
    )  # fmt: skip


def test_lists_of_clients_and_rows_of_events_stand_beside_each_other() -> None:
    tables = two_tables()
    lists = tables["cards"].groupby("client_id", sort=False).agg(list).reset_index()
    empty = {"client_id": 999, "event_time": [], "mcc": [], "amount": []}
    lists.loc[len(lists)] = empty
    source, schema = open_and_infer(tables | {"cards": lists}, options())
    plain, same = open_and_infer(tables, options())
    vocabulary = fit_vocabulary(plain, same, min_count=2)
    (nested,), (flat,) = (list(encode(s, schema, vocabulary)) for s in (source, plain))
    clients = nested.column(0).to_pylist()
    assert 999 in clients
    rows = [clients.index(client) for client in flat.column(0).to_pylist()]
    assert nested.take(pa.array(rows)).column("source").equals(flat.column("source"))


def test_several_tables_are_told_from_the_columns_of_one() -> None:
    frame = two_tables()["cards"]
    assert event_tables({"a": frame, "b": "b.csv"}) is not None
    assert event_tables({"a": pa.table({"x": [1]}), "b": [{"client": 1}]}) is not None
    assert event_tables({"client": [1, 2], "kind": ["a", "b"]}) is None
    assert event_tables({"client": frame["mcc"], "kind": "web"}) is None
    with pytest.raises(InputError, match=r"'my cards' cannot name a source"):
        event_tables({"my cards": frame})


def test_arguments_of_commands_are_paths_or_named_paths(tmp_path: Path) -> None:
    assert named_events(["a.parquet"]) == "a.parquet"
    assert named_events(["cards=a.parquet"]) == {"cards": "a.parquet"}
    assert named_events(["cards=a", "clicks=b"]) == {"cards": "a", "clicks": "b"}
    there = tmp_path / "year=2024"
    there.mkdir()
    assert named_events([str(there)]) == str(there)
    with pytest.raises(InputError, match=r"source cards is named twice: a and b"):
        named_events(["cards=a", "cards=b"])
    with pytest.raises(InputError, match=r"b\.csv has no name\..* cards=b\.csv"):
        named_events(["cards=a", "b.csv"])
