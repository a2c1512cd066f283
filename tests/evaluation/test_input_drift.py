"""Events are compared with those of the training by what the model keeps of them."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from small import SCHEMA, card_events, fitted, sequences

from seqmel.cli.main import main
from seqmel.core.errors import ConfigError, InputError
from seqmel.data.fitting import statistics as statistics_module
from seqmel.data.fitting.statistics import ColumnBins, Statistics, count_events, fit_statistics
from seqmel.evaluation.input_drift import InputDrift, input_drift
from seqmel.model import load_model

TRAINING = card_events(400, seed=0)
VOCABULARY = fitted(TRAINING, SCHEMA, min_count=2)


def encoded(table: pa.Table):  # type: ignore[no-untyped-def]
    return sequences(table, SCHEMA, VOCABULARY)


STATISTICS = fit_statistics(encoded(TRAINING), VOCABULARY)


def compared(table: pa.Table, **options: float) -> InputDrift:
    return input_drift(STATISTICS, [encoded(table)], **options)


def put(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def test_the_counts_are_those_of_a_plain_loop() -> None:
    given = encoded(TRAINING)
    batch = given.gather_last(torch.arange(len(given)), max_events=10**6)
    codes, numbers = batch.columns["mcc"].tolist(), batch.columns["amount"].tolist()
    mcc, amount = STATISTICS.columns["mcc"], STATISTICS.columns["amount"]
    assert list(mcc.counts) == [sum(code == c for code in codes) for c in range(len(mcc.counts))]
    assert amount.edges is not None
    bins = [-np.inf, *amount.edges, np.inf]
    loop = [sum(low <= x < high for x in numbers) for low, high in itertools.pairwise(bins)]
    assert list(amount.counts) == [*loop, sum(x != x for x in numbers)]
    assert max(loop) < 1.3 * min(loop)


def test_of_many_values_the_last_bin_holds_all_but_the_most_frequent() -> None:
    bins = ColumnBins(edges=None, counts=(0,) * 5)
    assert bins.count(np.array([0, 1, 2, 3, 4, 5, 99], np.int32)).tolist() == [1, 1, 1, 1, 3]


def test_parts_of_the_events_are_counted_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics_module, "_PART_EVENTS", 50)
    assert fit_statistics(encoded(TRAINING), VOCABULARY) == STATISTICS
    clients, events, counts = count_events(STATISTICS, [encoded(TRAINING)])
    assert (clients, events) == (400, len(TRAINING))
    assert all(tuple(counts[name]) == bins.counts for name, bins in STATISTICS.columns.items())


def test_of_large_data_a_sample_of_whole_clients_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(statistics_module, "_SAMPLE_EVENTS", len(TRAINING) // 3)
    sample = fit_statistics(encoded(TRAINING), VOCABULARY)
    assert sample.clients in (100, 134)
    assert sample.events < len(TRAINING) / 2
    assert compared(TRAINING).psi_by_chance < input_drift(sample, [encoded(TRAINING)]).psi_by_chance


def test_other_clients_of_the_same_kind_have_not_moved() -> None:
    found = compared(card_events(300, seed=5))
    assert not found.drifted
    assert found.verdict.startswith("No drift: none of 4 columns has moved")
    assert max(column.psi for column in found.columns.values()) < 0.05


def test_a_number_that_grew_is_named() -> None:
    later = card_events(300, seed=5)
    found = compared(put(later, "amount", pc.multiply(later["amount"], 5.0)))
    assert found.moved == ("amount",)
    assert found.verdict.startswith("Drift: 1 of 4 columns has moved (amount: PSI ")


def test_values_that_the_model_does_not_know_are_named() -> None:
    later = card_events(300, seed=5)
    city = [f"new {i}" if i % 12 == 0 else v for i, v in enumerate(later["city"].to_pylist())]
    found = compared(put(later, "city", pa.array(city)))
    unseen = found.columns["city"].unseen
    assert unseen is not None
    assert unseen[0] == 0.0
    assert unseen[1] == pytest.approx(1 / 12, rel=0.02)
    assert found.moved == ("city",)
    assert "unseen values 8." in found.verdict
    assert (
        compared(put(later, "city", pa.array(city)), unseen_threshold=0.2, psi_threshold=2.0).moved
        == ()
    )


def test_values_that_are_missing_now_are_counted() -> None:
    later = card_events(300, seed=5)
    found = compared(put(later, "amount", pa.nulls(len(later), pa.float64())))
    assert found.columns["amount"].missing[1] == 1.0
    assert 0.02 < found.columns["amount"].missing[0] < 0.08
    assert found.moved[0] == "amount"


def test_a_handful_of_clients_is_not_called_drift_by_chance() -> None:
    later = card_events(4, seed=5)
    assert not compared(later).drifted
    assert compared(later).psi_by_chance > 1


def test_thresholds_out_of_range_and_no_events_are_refused() -> None:
    for options in ({"psi_threshold": 0.0}, {"unseen_threshold": 0.0}, {"unseen_threshold": 1.5}):
        with pytest.raises(ConfigError, match="The thresholds are"):
            compared(TRAINING, **options)
    with pytest.raises(InputError, match="no events to compare"):
        input_drift(STATISTICS, [])


def test_statistics_of_other_columns_are_refused() -> None:
    columns = {name: bins for name, bins in STATISTICS.columns.items() if name != "city"}
    with pytest.raises(ValueError, match="other columns"):
        Statistics(clients=1, events=1, columns=columns).check_fits(VOCABULARY)


# -------------------------------------------------------------------------------------------------
# the command


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["seqmel", "drift", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_command_compares_events_with_the_training_and_can_fail(
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    same, other = card_events(), card_events()
    other = put(other, "amount", pc.multiply(other["amount"], 1000.0))
    pq.write_table(same, tmp_path / "same.parquet")
    pq.write_table(other, tmp_path / "other.parquet")
    assert run(monkeypatch, model_folder, tmp_path / "same.parquet", "--fail-on-drift") == 0
    assert "No drift" in capsys.readouterr().out
    given = [model_folder, tmp_path / "other.parquet", "--json", tmp_path / "drift.json"]
    assert run(monkeypatch, *given) == 0
    assert run(monkeypatch, *given, "--fail-on-drift") == 1
    assert "amount: PSI" in capsys.readouterr().out
    written = json.loads((tmp_path / "drift.json").read_text())
    assert (written["drifted"], written["moved"], set(written["columns"])) == (
        True, ["amount"], {"mcc", "city", "amount", "reading"},
    )  # fmt: skip


@pytest.mark.parametrize(
    "option", [("--bins", 5), ("--alpha", 0.1), ("--seed", 1), ("--client", "c")]
)
def test_an_option_that_says_nothing_of_events_is_refused(
    option: tuple[str, object],
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, model_folder, "events.parquet", *option) == 2
    assert f"{option[0]} has no effect for a model and events" in capsys.readouterr().err


def test_a_model_without_statistics_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(__file__).parents[1] / "formats" / "model_1"
    assert load_model(folder).statistics is None
    assert run(monkeypatch, folder, folder / "events.parquet") == 2
    assert (
        "has model format 1, which has no statistics of the training events"
        in capsys.readouterr().err
    )
