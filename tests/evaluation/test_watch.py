"""`embed` warns where events are clearly not like those of the training, and only there."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from small import SCHEMA, card_events, fitted, sequences

from seqmel.cli.main import main
from seqmel.data.fitting.statistics import fit_statistics
from seqmel.evaluation import watch as watch_module
from seqmel.evaluation.watch import InputWatch

TRAINING = card_events(200, seed=0)
VOCABULARY = fitted(TRAINING, SCHEMA, min_count=2)
STATISTICS = fit_statistics(sequences(TRAINING, SCHEMA, VOCABULARY), VOCABULARY)
LATER = card_events(60, seed=1)


def warned(table: pa.Table, *, chunks: int = 1) -> str | None:
    watch = InputWatch(STATISTICS, VOCABULARY.time)
    for part in range(chunks):
        clients = pc.equal(pc.bit_wise_and(table.column("client_id"), chunks - 1), part)
        watch.see(sequences(table.filter(clients), SCHEMA, VOCABULARY))
    return watch.warning()


def put(name: str, values: pa.Array) -> pa.Table:
    return LATER.set_column(LATER.column_names.index(name), name, values)


def moved(days: int) -> pa.Table:
    return put("event_time", pc.add(LATER.column("event_time"), pa.scalar(dt.timedelta(days=days))))


def test_other_clients_of_the_same_kind_are_no_warning() -> None:
    assert warned(LATER) is None
    assert warned(LATER, chunks=2) is None


def test_half_a_year_later_is_no_warning_and_years_away_is_one() -> None:
    assert warned(moved(180)) is None
    assert warned(moved(-3000)) == (
        "100% of the times are more than a year, and than the length of the training, from "
        "its times"
    )


def test_a_training_as_long_as_times_can_be_is_near_everything() -> None:
    time = VOCABULARY.time.model_copy(
        update={"span_days": 2.0**63 / 86_400_000_000, "end_us": 2**62}
    )
    watch = InputWatch(STATISTICS, time)
    watch.see(sequences(moved(-3000), SCHEMA, VOCABULARY))
    assert watch.elsewhere == 0


def test_values_that_training_did_not_see_are_named_with_their_share() -> None:
    city = pc.if_else(np.arange(len(LATER)) % 10 < 7, pa.scalar("Tromsø"), LATER.column("city"))
    found = warned(put("city", city))
    assert found is not None
    assert "1 of 4 columns has moved (city: " in found
    assert "unseen values 7" in found


def test_a_number_in_another_unit_is_named() -> None:
    found = warned(put("amount", pc.multiply(LATER.column("amount"), 100.0)))
    assert found is not None
    assert "amount: PSI" in found


def test_fewer_than_thirty_clients_are_not_judged() -> None:
    city = pa.array(["Tromsø"] * len(LATER))
    assert warned(put("city", city)) is not None
    assert (
        warned(put("city", city).filter(pc.less(LATER.column("client_id"), 100 + 7 * 25))) is None
    )


def test_of_a_large_chunk_some_clients_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "_CHUNK_EVENTS", 200)
    given, watch = sequences(TRAINING, SCHEMA, VOCABULARY), InputWatch(STATISTICS, VOCABULARY.time)
    watch.see(given)
    assert given.events / watch.events == pytest.approx(-(-given.events // 200), rel=0.5)
    assert watch.warning() is None or watch.clients >= 30


def test_the_command_says_so_in_one_line_and_writes_all_the_same(
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, table in {"same": card_events(40, seed=3), "other": moved(-3000)}.items():
        pq.write_table(table, tmp_path / f"{name}.parquet")
        words = [
            "embed",
            model_folder,
            tmp_path / f"{name}.parquet",
            "-o",
            tmp_path / f"{name}.out",
        ]
        monkeypatch.setattr(sys, "argv", ["seqmel", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        said = [
            line for line in capsys.readouterr().err.splitlines() if line.startswith("warning:")
        ]
        assert len(said) == (name == "other")
        assert (tmp_path / f"{name}.out").exists()
    assert said[0].endswith(
        f"Look closer: seqmel drift {model_folder} {tmp_path / 'other.parquet'}"
    )
