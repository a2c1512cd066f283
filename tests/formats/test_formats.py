"""A model folder that an earlier version wrote gives the vectors that it gave then."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from small import resealed

from seqmel.core.errors import ModelError
from seqmel.inference.embed import embed_to_parquet
from seqmel.model import FORMAT, load_model

HERE = Path(__file__).parent
FORMATS = range(1, FORMAT + 1)


@pytest.mark.parametrize("number", FORMATS)
def test_a_model_of_each_format_gives_the_vectors_that_it_gave_when_it_was_written(
    number: int, tmp_path: Path
) -> None:
    folder = HERE / f"model_{number}"
    assert json.loads((folder / "config.json").read_text())["format"] == number
    embed_to_parquet(
        load_model(folder), folder / "events.parquet", tmp_path / "vectors.parquet", device="cpu"
    )
    expected, found = (pq.read_table(f / "vectors.parquet").to_pandas() for f in (folder, tmp_path))
    assert expected["client_id"].tolist() == found["client_id"].tolist()
    assert expected.columns.tolist() == found.columns.tolist()
    np.testing.assert_allclose(
        found.iloc[:, 1:].to_numpy(), expected.iloc[:, 1:].to_numpy(), rtol=1e-5, atol=1e-5
    )


def test_a_model_of_format_1_has_no_statistics_and_one_of_the_present_format_has() -> None:
    assert load_model(HERE / "model_1").statistics is None
    assert load_model(HERE / f"model_{FORMAT}").statistics is not None


@pytest.mark.parametrize("number", FORMATS)
def test_a_kept_model_is_small(number: int) -> None:
    assert sum(file.stat().st_size for file in (HERE / f"model_{number}").iterdir()) < 100_000


@pytest.mark.parametrize("number", [0, -1, 1.0, "2", True, None])
def test_a_number_that_is_no_format_is_refused(number: object, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(HERE / f"model_{FORMAT}", tmp_path / "model"))
    described = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(described | {"format": number}))
    resealed(folder)
    with pytest.raises(ModelError, match=r"config\.json is not what seqmel wrote"):
        load_model(folder)


def test_the_present_format_does_not_pass_for_an_older_one_that_is_checked_less(
    tmp_path: Path,
) -> None:
    folder = Path(shutil.copytree(HERE / f"model_{FORMAT}", tmp_path / "model"))
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace(f'"format": {FORMAT}', '"format": 1'))
    with pytest.raises(ModelError, match=r"is damaged: config\.json"):
        load_model(folder)
