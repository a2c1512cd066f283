"""What `seqmel drift` compares is of one kind."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from seqmel.cli.main import app
from seqmel.data.vector_files import VectorLayout, write_vectors
from seqmel.errors import InputError

Type = Literal["float32", "float16", "int8", "binary"]
VECTORS = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)


def written(folder: Path, name: str, dtype: Type) -> Path:
    path = folder / f"{name}.parquet"
    write_vectors(path, pa.table({"client_id": range(200)}), VECTORS, VectorLayout(dtype=dtype))
    return path


@pytest.mark.parametrize(("one", "other"), [("float32", "int8"), ("int8", "binary"), ("binary", "float16")])
def test_files_of_other_number_types_are_not_compared(one: Type, other: Type, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["drift", str(written(tmp_path, "a", one)), str(written(tmp_path, "b", other))])
    assert isinstance(done.exception, InputError)
    assert "the steps alone would be drift. Write both with the same --dtype." in str(done.exception)


@pytest.mark.parametrize(("one", "other"), [("float32", "float16"), ("int8", "int8")])
def test_files_of_like_number_types_are(one: Type, other: Type, tmp_path: Path) -> None:
    words = ["drift", str(written(tmp_path, "a", one)), str(written(tmp_path, "b", other)), "--fail-on-drift"]
    assert CliRunner().invoke(app, words).exit_code == 0
