"""What `seqmel drift` compares is of one kind."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest
from small import card_events, tiny_config
from typer.testing import CliRunner

from seqmel.cli.main import app
from seqmel.core.errors import InputError
from seqmel.data.tables.vector_files import VectorLayout, models_of, write_vectors
from seqmel.inference.embed import embed_to_parquet
from seqmel.training.run import train_model

Type = Literal["float32", "float16", "int8", "binary"]
VECTORS = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)


def written(folder: Path, name: str, dtype: Type = "float32", model: str | None = None) -> Path:
    path = folder / f"{name}.parquet"
    write_vectors(
        path, pa.table({"client_id": range(200)}), VECTORS, VectorLayout(dtype=dtype, model=model)
    )
    return path


@pytest.mark.parametrize(
    ("one", "other"), [("float32", "int8"), ("int8", "binary"), ("binary", "float16")]
)
def test_files_of_other_number_types_are_not_compared(
    one: Type, other: Type, tmp_path: Path
) -> None:
    done = CliRunner().invoke(
        app, ["drift", str(written(tmp_path, "a", one)), str(written(tmp_path, "b", other))]
    )
    assert isinstance(done.exception, InputError)
    assert "rounding alone would look like drift. Write both with the same --dtype." in str(
        done.exception
    )


@pytest.mark.parametrize(("one", "other"), [("float32", "float16"), ("int8", "int8")])
def test_files_of_like_number_types_are(one: Type, other: Type, tmp_path: Path) -> None:
    words = [
        "drift",
        str(written(tmp_path, "a", one)),
        str(written(tmp_path, "b", other)),
        "--fail-on-drift",
    ]
    assert CliRunner().invoke(app, words).exit_code == 0


def test_vectors_of_other_models_are_not_compared(tmp_path: Path) -> None:
    a, b = written(tmp_path, "a", model="0a"), written(tmp_path, "b", model="0b")
    done = CliRunner().invoke(app, ["drift", str(a), str(b)])
    assert isinstance(done.exception, InputError)
    assert f"{a} (0a) and {b} (0b). Their dimensions cannot be compared" in str(done.exception)


def test_a_glob_of_vectors_of_several_models_is_not_compared(tmp_path: Path) -> None:
    for name, model in (("a-1", "0a"), ("a-2", "0b")):
        written(tmp_path, name, model=model)
    done = CliRunner().invoke(
        app, ["drift", str(tmp_path / "a-*.parquet"), str(written(tmp_path, "b"))]
    )
    assert isinstance(done.exception, InputError)
    assert "(0a, 0b)" in str(done.exception)
    assert "(unknown)" in str(done.exception)


@pytest.mark.parametrize("model", ["0a", None])
def test_vectors_of_one_model_are_compared_as_are_those_of_which_one_side_does_not_say(
    model: str | None, tmp_path: Path
) -> None:
    words = [
        "drift",
        str(written(tmp_path, "a", model="0a")),
        str(written(tmp_path, "b", model=model)),
    ]
    assert CliRunner().invoke(app, words).exit_code == 0


def test_vectors_say_which_model_made_them(tmp_path: Path) -> None:
    model = train_model(card_events(), config=tiny_config(training={"epochs": 0}))
    for dtype in ("float32", "int8"):
        path = tmp_path / f"{dtype}.parquet"
        embed_to_parquet(model, card_events(), path, dtype=dtype)
        assert models_of([str(path)]) == {model.fingerprint()}
