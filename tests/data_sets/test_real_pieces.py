"""Real sets cut into several event tables: each table is learned as it is alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small import TINY

import seqmel
from seqmel.data.fitting.timeline import open_and_infer
from seqmel.data.fitting.vocabulary_fitting import fit_vocabulary
from seqmel.data.schema import SchemaOptions
from seqmel.data.vocabulary import NumericScales

DATA = Path(os.environ.get("SEQMEL_DATA", Path(__file__).parents[3] / "shared" / "data"))
VITALS = ("HR", "NIDiasABP", "NISysABP", "NIMAP", "RespRate", "Temp", "GCS", "Urine", "Weight")
Tables = dict[str, pd.DataFrame]


def read(file: str, clients: int) -> pd.DataFrame:
    """The events of the first clients of a set."""
    path = DATA / file
    if not path.is_file():
        pytest.skip(f"no {path}; name the folder of data in SEQMEL_DATA")
    ids = pd.read_parquet(path, columns=["client_id"])["client_id"]
    last = int(ids.drop_duplicates().iloc[clients])
    return pd.read_parquet(path, filters=[("client_id", "<", last)])


def online_retail() -> Tables:
    """Purchases and cancellations, with other columns each."""
    events = read("online_retail/events.parquet", 60)
    bought = ["client_id", "event_time", "stock_code", "quantity", "unit_price"]
    returned = ["client_id", "event_time", "stock_code", "amount"]
    cancelled = events["is_cancel"]
    return {
        "purchases": events.loc[~cancelled, bought],
        "cancellations": events.loc[cancelled, returned],
    }


def berka() -> Tables:
    """Credits and debits of accounts."""
    events = read("berka/transactions.parquet", 60)
    credit = events.pop("type") == "PRIJEM"
    return {"credits": events[credit], "debits": events[~credit]}


def physionet2012() -> Tables:
    """Vital signs and laboratory values, which mean something with their parameter only."""
    events = read("physionet2012/events.parquet", 40)
    vital = events["parameter"].isin(VITALS)
    return {"vitals": events[vital], "laboratory": events[~vital]}


@pytest.mark.parametrize("cut", [online_retail, berka, physionet2012])
def test_each_table_of_a_real_set_has_the_vocabulary_that_it_has_alone(
    cut: Callable[[], Tables],
) -> None:
    tables = cut()
    joint = fit_vocabulary(*open_and_infer(tables, SchemaOptions()))
    for name, table in tables.items():
        alone = fit_vocabulary(*open_and_infer(table, SchemaOptions()))
        for column, codes in alone.categorical.items():
            assert joint.categorical[f"{name}.{column}"] == codes
        for column, scales in alone.numeric.items():
            found = joint.numeric[f"{name}.{column}"]
            by = None if scales.by is None else f"{name}.{scales.by}"
            assert found == NumericScales(overall=scales.overall, by=by, within=scales.within)
        assert joint.sources[name].gap_center == pytest.approx(alone.time.gap_center)


def test_the_values_of_a_parameter_are_scaled_within_it_in_each_table() -> None:
    _, schema = open_and_infer(physionet2012(), SchemaOptions())
    assert schema.numeric_by == {
        "vitals.value": "vitals.parameter",
        "laboratory.value": "laboratory.parameter",
    }


def test_a_night_of_a_real_set_continues_the_vectors(tmp_path: Path) -> None:
    tables = online_retail()
    model = seqmel.train(tables, config=TINY, progress=False)
    whole = model.embed(tables, progress=False)
    night = pd.Timestamp("2011-06-01")
    for late in (False, True):
        part = {name: t[(t["event_time"] >= night) == late] for name, t in tables.items()}
        found = model.embed(part, state=tmp_path / "state.parquet", progress=False)
    assert len(found) > 10
    np.testing.assert_allclose(found, whole.loc[found.index], rtol=1e-4, atol=1e-4)
