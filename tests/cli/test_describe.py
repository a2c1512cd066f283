"""`seqmel describe` shows the columns a model would learn from, whatever they are called."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small import card_events, nested

from seqmel.cli.main import main

EVENTS = card_events(10)


@pytest.fixture
def described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[str, dict[str, Any]]]:
    """What is printed, and what is written as JSON."""

    def run(table: pa.Table, *options: str) -> tuple[str, dict[str, Any]]:
        pq.write_table(table, tmp_path / "events.parquet")
        words = [
            "seqmel",
            "describe",
            str(tmp_path / "events.parquet"),
            "--json",
            str(tmp_path / "facts.json"),
            *options,
        ]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return capsys.readouterr().out, json.loads((tmp_path / "facts.json").read_text())

    return run


def test_counts_roles_and_reasons_are_shown(
    described: Callable[..., tuple[str, dict[str, Any]]],
) -> None:
    table = EVENTS.append_column("country", pa.array(["NO"] * len(EVENTS)))
    text, facts = described(table)
    assert f"{len(EVENTS)} events of 10 clients (one row per event)" in " ".join(text.split())
    assert all(
        word in text
        for word in ("mcc", "categorical", "amount", "numeric", "country", "left out", "constant")
    )
    assert (facts["events"], facts["clients"]) == (len(EVENTS), 10)
    assert facts["columns"]["mcc"]["distinct"] == 6
    missing = sum(value is None or value != value for value in EVENTS["amount"].to_pylist())
    assert facts["columns"]["amount"]["nulls"] == missing


@pytest.mark.parametrize(
    ("ids", "kind", "shown"),
    [
        (pa.array([7, 7, 12, 3, 9]), "whole numbers", "7, 12, 3"),
        (pa.array(["007", "007", "[b]", "3", "9"]), "text", "'007', '[b]', '3'"),
        (pa.array([0.5, 0.5, 2.0, 3.0, 4.0]), "numbers", "0.5, 2.0, 3.0"),
    ],
)
def test_client_ids_are_shown_with_their_type(
    ids: pa.Array, kind: str, shown: str, described: Callable[..., tuple[str, dict[str, Any]]]
) -> None:
    text, facts = described(
        pa.table({"client_id": ids, "day": [0, 40, 5, 6, 7], "size": [1.0, 2, 3, 4, 5]}),
        "--time",
        "day",
    )
    assert f"{kind}, such as {shown}" in text
    assert facts["client_ids"] == {"type": kind, "first": list(dict.fromkeys(ids.to_pylist()))[:3]}


def test_lengths_and_gaps_are_those_of_the_clients(
    described: Callable[..., tuple[str, dict[str, Any]]],
) -> None:
    table = pa.table(
        {"client_id": [1, 1, 1, 2, 2], "day": [0, 10, 11, 5, 6], "size": [1.0, 2, 3, 4, 5]}
    )
    _, facts = described(table, "--time", "day")
    assert (facts["events_per_client"]["0.0"], facts["events_per_client"]["1.0"]) == (2, 3)
    assert (facts["gap_seconds"]["0.0"], facts["gap_seconds"]["1.0"]) == (86_400.0, 864_000.0)


def test_the_first_and_the_last_day_are_shown_where_the_time_has_a_date(
    described: Callable[..., tuple[str, dict[str, Any]]],
) -> None:
    table = pa.table(
        {
            "client_id": [1, 1],
            "day": [0, 40],
            "seconds": [1_600_000_000, 1_700_000_000],
            "size": [1.0, 2],
        }
    )
    assert (
        "1970-01-01 to 1970-02-10 (40 d, counted from 1970-01-01)"
        in described(table, "--time", "day")[0]
    )
    assert (
        "2020-09-13 to 2023-11-14 (1,157 d, counted from 1970-01-01)"
        in described(table, "--time", "seconds")[0]
    )


def test_nested_events_are_described_like_flat_ones(
    described: Callable[..., tuple[str, dict[str, Any]]],
) -> None:
    _, flat = described(EVENTS)
    text, found = described(nested(EVENTS, "client_id"))
    assert "one row per client, list columns" in " ".join(text.split())
    assert found | {"nested": False} == flat


def test_clients_without_events_are_counted(
    described: Callable[..., tuple[str, dict[str, Any]]],
) -> None:
    table = nested(EVENTS, "client_id")
    empty = pa.table(
        {"client_id": [1]} | {name: [[]] for name in table.column_names[1:]}, schema=table.schema
    )
    _, facts = described(pa.concat_tables([table, empty]))
    assert facts["clients"] == 11
    assert facts["events_per_client"]["0.0"] == 0


@pytest.mark.parametrize(
    "name", ["n", "t", "c", "r", "gap", "client", "events", "[red]", "a [b] c"]
)
@pytest.mark.parametrize("place", [0, 1, 2, 4])
def test_any_column_name_can_be_described(
    name: str, place: int, described: Callable[..., tuple[str, dict[str, Any]]]
) -> None:
    names = [name if i == place else old for i, old in enumerate(EVENTS.column_names)]
    text, facts = described(EVENTS.rename_columns(names), "--client", names[0], "--time", names[1])
    assert name in text
    assert facts["events"] == len(EVENTS)


def test_numbers_without_a_finite_value_are_described(
    described: Callable[..., tuple[str, dict[str, Any]]],
) -> None:
    infinite = pa.array(
        [float("inf"), -float("inf")] * (len(EVENTS) // 2) + [float("inf")] * (len(EVENTS) % 2)
    )
    _, facts = described(EVENTS.set_column(4, "amount", infinite), "--set", "schema.numeric_by={}")
    assert facts["columns"]["amount"]["nulls"] == len(EVENTS)


def test_one_event_can_be_described(described: Callable[..., tuple[str, dict[str, Any]]]) -> None:
    text, facts = described(EVENTS.slice(0, 1), "--set", "schema.categorical=[mcc]")
    assert facts["gap_seconds"] is None
    assert "1 event of 1 client" in " ".join(text.split())


def test_the_format_of_the_times_is_shown_and_can_be_said(
    described: Callable[..., tuple[str, dict[str, Any]]],
) -> None:
    table = pa.table(
        {
            "client_id": [1, 1, 2],
            "day": ["04.05.2023", "06.07.2023", "08.09.2023"],
            "size": [1.0, 2, 3],
        }
    )
    for form, period in (
        ("%d.%m.%Y", "2023-05-04 to 2023-09-08"),
        ("%m.%d.%Y", "2023-04-05 to 2023-08-09"),
    ):
        text, _ = described(table, "--time", "day", "--time-format", form)
        assert f"time: day (timestamp, {form}), {period}" in text


def test_the_decimal_mark_of_csv_is_asked_for_where_it_is_open_and_can_be_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, facts = tmp_path / "events.csv", tmp_path / "facts.json"
    path.write_text(
        "client_id;day;amount;kind\n1;2023-12-24;1,234;a\n1;2023-12-25;2,500;b\n2;2023-12-26;3,250;a\n"
    )
    words = ["seqmel", "describe", str(path), "--json", str(facts)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit, match="0"):
        main()
    assert "--decimal ," in " ".join(capsys.readouterr().out.split())
    monkeypatch.setattr(sys, "argv", [*words, "--decimal", ","])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert json.loads(facts.read_text())["columns"]["amount"]["quantiles"]["1.0"] == 3.25
