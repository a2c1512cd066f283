"""The row of a client and table is the vector of this table's events alone."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from in_process import InProcess
from small import TINY, card_events

import seqmel
from seqmel.core.errors import ConfigError

FRAME = card_events(12, most=40).to_pandas()
ONLINE = np.arange(len(FRAME)) % 3 == 0
IDS = FRAME["client_id"].unique()
BANK: dict[str, Any] = {
    "cards": FRAME[~ONLINE & (FRAME["client_id"] != IDS[0])],
    "orders": FRAME[ONLINE].rename(columns={"amount": "price"}),
}


@pytest.fixture(scope="module")
def held() -> seqmel.Model:
    config = TINY | {"encoder": {"name": "gru", "hidden_size": 8}}
    return seqmel.train(BANK, config=config, progress=False)


def alone(model: seqmel.Model, name: str) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No events of the source")
        return model.embed({name: BANK[name]}, progress=False)


def test_a_row_is_the_vector_of_a_table_given_alone(held: seqmel.Model) -> None:
    found = held.embed(BANK, per="source", progress=False)
    assert found.index.names == ["client_id", "source"]
    for name, events in BANK.items():
        rows = found.xs(name, level="source")
        assert set(rows.index) == set(events["client_id"])
        np.testing.assert_allclose(rows, alone(held, name).loc[rows.index], rtol=1e-5, atol=1e-5)


def test_the_last_events_of_a_table_are_embedded_if_it_has_too_many() -> None:
    config = TINY | {"embedding": {"max_events": 4}}
    model = seqmel.train(BANK, config=config, progress=False)
    rows = model.embed(BANK, per="source", progress=False).xs("cards", level="source")
    np.testing.assert_allclose(rows, alone(model, "cards").loc[rows.index], rtol=1e-5, atol=1e-5)


def test_prepared_events_and_shards_give_the_same_rows(held: seqmel.Model, tmp_path: Path) -> None:
    prepared = tmp_path / "prepared"
    seqmel.prepare(BANK, prepared, model=held, progress=False)
    whole = held.embed(BANK, per="source", progress=False).sort_index()
    of_prepared = held.embed(prepared, per="source", progress=False).sort_index()
    pd.testing.assert_frame_equal(of_prepared, whole, rtol=1e-5, atol=1e-5)
    parts = [held.embed(BANK, per="source", shard=(k, 2), progress=False) for k in (1, 2)]
    pd.testing.assert_frame_equal(pd.concat(parts).sort_index(), whole, rtol=1e-5, atol=1e-5)


def test_no_events_give_no_rows(held: seqmel.Model) -> None:
    none = {name: events.head(0) for name, events in BANK.items()}
    assert held.embed(none, per="source", progress=False).shape == (0, held.encoder.output_size)


def test_the_command_writes_a_row_per_client_and_source(
    held: seqmel.Model, tmp_path: Path, in_process: InProcess
) -> None:
    held.save(tmp_path / "model")
    paths = []
    for name, events in BANK.items():
        events.to_parquet(tmp_path / f"{name}.parquet")
        paths.append(f"{name}={tmp_path / name}.parquet")
    output = tmp_path / "vectors.parquet"
    done = in_process.seqmel(
        "embed", str(tmp_path / "model"), *paths, "--per", "source", "-o", output
    )
    table = pq.read_table(output)
    assert f"{len(table)} clients and sources x" in done.stdout
    assert table.column_names[:3] == ["client_id", "source", "emb_0000"]


def test_what_cannot_be_per_source_is_refused(held: seqmel.Model, model_folder: Path) -> None:
    with pytest.raises(ConfigError, match="was trained on one event table"):
        seqmel.load(model_folder).embed(FRAME, per="source")
    with pytest.raises(ConfigError, match="per source cannot be combined with as_of"):
        held.embed(BANK, per="source", as_of="2024-01-01")
    with pytest.raises(ConfigError, match="Expected one of: client, event, source"):
        held.embed(BANK, per="table")  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match=r"Expected one of: client, event\."):
        held.predict(BANK, per="source")  # type: ignore[call-overload]
