"""Smaller vectors: usable prefixes, and quantized numbers that are read back as they were."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from small import batch_of, card_events, tiny_config, vocabulary_of

from seqmel.cli.main import main
from seqmel.config import Config
from seqmel.core.errors import ConfigError, InputError
from seqmel.data.tables.labels import read_embeddings
from seqmel.data.tables.number_types import Scales
from seqmel.evaluation.compression import read_back
from seqmel.inference.as_of import embed_as_of
from seqmel.inference.embed import embed_to_parquet
from seqmel.inference.update import update_embeddings
from seqmel.model import Model, load_model, save_model
from seqmel.nn.encoder import SequenceEncoder
from seqmel.objectives import Encoded, Objective, ViewBatch
from seqmel.training.finetuning.finetune import finetune
from seqmel.training.run import train, train_model

EVENTS = card_events()
SIZES: dict[str, Any] = {"embedding_dim": 12, "matryoshka": [3, 6]}


@pytest.fixture(scope="module")
def nested(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model of 12 numbers, with the trained prefixes 3 and 6."""
    return load_model(
        train(EVENTS, tmp_path_factory.mktemp("nested") / "model", config=tiny_config(**SIZES))
    )


def vectors(model: Model, path: Path, **options: Any) -> pd.DataFrame:
    embed_to_parquet(model, EVENTS, path, device="cpu", overwrite=True, **options)
    return read_embeddings(path)


# ------------------------------------------------------------------------------------------- nested
# sizes


def test_the_loss_is_the_mean_of_those_of_all_beginnings() -> None:
    torch.manual_seed(0)
    config = tiny_config(views={"min_length": 2, "max_length": 9}, **SIZES)
    encoder = SequenceEncoder(config, vocabulary_of())
    objective = Objective(config, vocabulary_of(), encoder)
    batch = ViewBatch.of(batch_of([5, 9, 2, 7]), torch.tensor([3, 3, 8, 8]))
    losses = objective.losses(encoder, batch)
    whole = encoder.embed(batch.sequences)
    for name, part in objective.parts.items():
        each = []
        for size, inner in zip((3, 6, 12), part.parts, strict=True):
            encoded = Encoded(encoder, batch)
            encoded.__dict__["vectors"] = whole[:, :size]
            each.append(inner(encoded))
        torch.testing.assert_close(losses[name], sum(each) / 3)


def test_what_learns_from_states_is_not_nested() -> None:
    config = tiny_config(
        objective=["coles", "next_event"], views={"min_length": 2, "max_length": 9}, **SIZES
    )
    parts = Objective(config, vocabulary_of(), SequenceEncoder(config, vocabulary_of())).parts
    assert [hasattr(part, "sizes") for part in parts.values()] == [True, False]


def test_a_vector_as_wide_as_the_pooled_states_is_projected_too() -> None:
    config = tiny_config(embedding_dim=32, matryoshka=[4], pooling="mean")
    assert SequenceEncoder(config, vocabulary_of()).project is not None


def test_a_beginning_is_the_beginning_of_the_whole_vector(nested: Model, tmp_path: Path) -> None:
    whole = vectors(nested, tmp_path / "whole.parquet")
    assert whole.shape[1] == 12
    for size in (3, 6, 12):
        for layout in ("columns", "list"):
            part = vectors(nested, tmp_path / "part.parquet", dim=size, layout=layout)
            pd.testing.assert_frame_equal(part, whole.iloc[:, :size])
    moment = {"client_id": [100, 107], "event_time": pd.to_datetime(["2023-01-01"] * 2)}
    embed_as_of(
        nested, EVENTS, pd.DataFrame(moment), tmp_path / "as_of.parquet", dim=3, device="cpu"
    )
    for named in ("event_time", "time_of_the_labels"):
        found = read_embeddings(tmp_path / "as_of.parquet", time_column=named)
        assert found.shape == (2, 3)
        assert found.index.names == ["client_id", "event_time"]
    done = update_embeddings(
        nested,
        EVENTS,
        tmp_path / "state",
        tmp_path / "new.parquet",
        dim=6,
        dtype="int8",
        device="cpu",
    )
    assert done.dimensions == read_embeddings(tmp_path / "new.parquet").shape[1] == 6


def test_a_beginning_that_was_not_trained_is_refused(
    nested: Model, model: Model, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="trained for 3, 6 or all 12 numbers, not for 4"):
        vectors(nested, tmp_path / "e.parquet", dim=4)
    with pytest.raises(
        ConfigError,
        match=r"first 4 numbers of this model's vectors are of no use alone.*matryoshka=\[4\]",
    ):
        vectors(model, tmp_path / "e.parquet", dim=4)
    with pytest.raises(ConfigError, match=r"dim is 0\. Expected a whole number of at least 1"):
        vectors(model, tmp_path / "e.parquet", dim=0)
    with pytest.raises(ConfigError, match=r"numbers, not 100,000\."):
        vectors(model, tmp_path / "e.parquet", dim=100_000)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"matryoshka": [3]}, "matryoshka needs embedding_dim, such as 256"),
        (
            {"matryoshka": [6, 3], "embedding_dim": 12},
            r"matryoshka is \[6, 3\]; expected growing sizes below embedding_dim",
        ),
        (
            {"matryoshka": [12], "embedding_dim": 12},
            r"expected growing sizes below embedding_dim, which is 12",
        ),
        ({"matryoshka": [0, 2], "embedding_dim": 12}, "matryoshka = 0"),
        (
            {"matryoshka": [3], "embedding_dim": 12, "objective": "next_event", "encoder": "gru"},
            "matryoshka needs a part of the objective that trains embeddings",
        ),
    ],
)
def test_sizes_that_cannot_be_trained_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Config.from_dict(options)


def test_from_labels_alone_no_beginning_is_trained(tmp_path: Path) -> None:
    labels = pd.DataFrame({"client_id": np.unique(EVENTS["client_id"].to_numpy())}).assign(
        odd=np.arange(24) % 2
    )
    config = tiny_config(**SIZES, finetuning={"epochs": 0})
    tuned = load_model(
        finetune(None, EVENTS, labels, tmp_path / "tuned", targets=["odd"], config=config)
    )
    assert tuned.config.matryoshka == ()


# ------------------------------------------------------------------------------------------ smaller
# numbers


@pytest.mark.parametrize("layout", ["columns", "list"])
@pytest.mark.parametrize("dtype", ["float16", "int8", "binary"])
def test_what_is_read_from_a_file_is_what_curves_measure(
    model: Model, tmp_path: Path, dtype: Any, layout: Any
) -> None:
    whole = vectors(model, tmp_path / "whole.parquet")
    read = vectors(model, tmp_path / "small.parquet", dtype=dtype, layout=layout)
    wanted = read_back(whole.to_numpy(), whole.to_numpy(), dtype)
    pd.testing.assert_frame_equal(read, pd.DataFrame(wanted, whole.index, whole.columns))
    from_arrow = read_embeddings(pq.read_table(tmp_path / "small.parquet"))
    pd.testing.assert_frame_equal(from_arrow, read)


def test_the_file_holds_the_small_numbers(model: Model, tmp_path: Path) -> None:
    types = {
        ("int8", "columns"): {pa.int8()},
        ("int8", "list"): {pa.list_(pa.field("element", pa.int8()), model.encoder.output_size)},
        ("binary", "columns"): {pa.bool_()},
        ("binary", "list"): {pa.binary(-(-model.encoder.output_size // 8))},
    }
    for (dtype, layout), wanted in types.items():
        vectors(model, tmp_path / "e.parquet", dtype=dtype, layout=layout)
        assert set(pq.read_schema(tmp_path / "e.parquet").types[1:]) == wanted


def test_scales_of_an_earlier_file_keep_the_meaning_of_the_numbers(
    model: Model, tmp_path: Path
) -> None:
    few = EVENTS.filter(pa.compute.less(EVENTS["client_id"], 150))
    for dtype in ("int8", "binary"):
        all_clients = vectors(model, tmp_path / "all.parquet", dtype=dtype)
        scales = tmp_path / "all.parquet"
        embed_to_parquet(
            model,
            few,
            tmp_path / "few.parquet",
            dtype=dtype,
            quantization_from=scales,
            device="cpu",
            overwrite=True,
        )
        read = read_embeddings(tmp_path / "few.parquet")
        pd.testing.assert_frame_equal(read.sort_index(), all_clients.loc[read.index].sort_index())


def test_scales_that_do_not_fit_are_refused(model: Model, nested: Model, tmp_path: Path) -> None:
    vectors(model, tmp_path / "int8.parquet", dtype="int8")
    vectors(model, tmp_path / "float.parquet")
    cases: list[tuple[dict[str, Any], str]] = [
        (
            {"dtype": "binary", "quantization_from": tmp_path / "int8.parquet"},
            "numbers of type int8. Expected embeddings of .* binary",
        ),
        ({"dtype": "int8", "quantization_from": tmp_path / "float.parquet"}, "has no scales"),
        (
            {"dtype": "int8", "quantization_from": tmp_path / "none.parquet"},
            "Cannot read scales from",
        ),
    ]
    for options, told in cases:
        with pytest.raises(InputError, match=told):
            vectors(model, tmp_path / "e.parquet", **options)
    with pytest.raises(InputError, match="Expected embeddings of 12 numbers"):
        vectors(
            nested,
            tmp_path / "e.parquet",
            dtype="int8",
            quantization_from=tmp_path / "int8.parquet",
        )
    with pytest.raises(ConfigError, match="Numbers of type float16 have no scales"):
        vectors(
            model,
            tmp_path / "e.parquet",
            dtype="float16",
            quantization_from=tmp_path / "int8.parquet",
        )
    assert not (tmp_path / "e.parquet").exists()


def test_files_of_different_scales_are_not_read_as_one(tmp_path: Path) -> None:
    for place, shift in enumerate((0.0, 5.0)):
        x = np.arange(8, dtype=np.float32).reshape(4, 2) + shift
        scales = Scales.fit(x, "int8")
        codes = scales.encode(x)
        table = pa.table(
            {"uid": np.arange(4) + 4 * place, "emb_0000": codes[:, 0], "emb_0001": codes[:, 1]}
        )
        pq.write_table(
            table.replace_schema_metadata(scales.to_metadata()), tmp_path / f"{place}.parquet"
        )
    assert read_embeddings(tmp_path / "0.parquet").shape == (4, 2)
    with pytest.raises(InputError, match="have different scales"):
        read_embeddings(tmp_path)


def test_a_column_that_is_gone_is_missed(tmp_path: Path) -> None:
    scales = Scales.fit(np.ones((2, 2), np.float32), "int8")
    table = pa.table({"uid": [1, 2], "emb_0000": pa.array([1, 2], pa.int8())})
    with pytest.raises(InputError, match="has vectors of 1 dimension and scales for 2"):
        read_embeddings(table.replace_schema_metadata(scales.to_metadata()))
    with pytest.raises(InputError, match="scales that cannot be read"):
        read_embeddings(table.replace_schema_metadata({b"seqmel_scales": b"{}"}))


def test_nested_sizes_can_be_added_to_a_trained_model_unless_it_has_no_projection(
    model: Model,
) -> None:
    wide = model.encoder.pooling.output_size
    for size in (12, wide):
        before = train_model(EVENTS, config=tiny_config(embedding_dim=size))
        config = tiny_config(embedding_dim=size, matryoshka=[3])
        if size == wide:
            with pytest.raises(ConfigError, match=r"matryoshka: \[\] there, \[3\] now"):
                train_model(EVENTS, config=config, initial=before)
        else:
            assert train_model(EVENTS, config=config, initial=before).config.matryoshka == (3,)


def test_the_command_writes_short_and_small_vectors(
    nested: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(EVENTS, "events.parquet")
    save_model(tmp_path / "model", nested, card="", curves=None)

    def run(*options: str) -> tuple[int, str]:
        monkeypatch.setattr(
            sys, "argv", ["seqmel", "embed", "model", "events.parquet", "-o", "e.parquet", *options]
        )
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().err

    assert run("--dim", "5", "--device", "cpu") == (
        2, "seqmel: The model was trained for 3, 6 or all 12 numbers, not for 5.\n"
    )  # fmt: skip
    assert not (tmp_path / "e.parquet").exists()
    assert run("--dim", "3", "--dtype", "binary", "--device", "cpu")[0] == 0
    assert read_embeddings("e.parquet").isin([0, 1]).all(axis=None)
