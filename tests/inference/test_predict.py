"""A prediction depends only on the client: not on batch mates, order or batch size."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from small import card_events, nested, tiny_config
from typer.testing import CliRunner

from seqmel.cli.main import app
from seqmel.core.errors import ConfigError, ModelError, OutputError, SchemaError
from seqmel.inference.as_of import embed_as_of
from seqmel.inference.embed import embed
from seqmel.inference.predict import predict, predict_as_of, predict_outputs, predict_to_parquet
from seqmel.model import Model, load_model
from seqmel.training.finetuning.finetune import finetune

EVENTS = card_events()
IDS = np.unique(EVENTS["client_id"].to_numpy())
LABELS = pd.DataFrame(
    {"client_id": IDS, "habit": [f"h{i % 3}" for i in range(24)], "spends": np.arange(24) ** 0.5}
)


@pytest.fixture(scope="module")
def folder(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = tiny_config(finetuning={"epochs": 1, "batch_size": 8})
    output = tmp_path_factory.mktemp("finetuned") / "model"
    return finetune(model, EVENTS, LABELS, output, targets=["habit", "spends"], config=options)


@pytest.fixture(scope="module")
def finetuned(folder: Path) -> Model:
    return load_model(folder)


def predicted(model: Model, events: Any) -> pd.DataFrame:
    tables = list(predict(model, events, device="cpu"))
    return pa.concat_tables(tables).to_pandas().set_index("client_id")


def assert_same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(one, other.loc[one.index], rtol=1e-4, atol=1e-5)


def test_a_file_of_predictions_has_ids_of_their_own_type_and_columns_by_target(
    finetuned: Model, tmp_path: Path
) -> None:
    path = tmp_path / "scores.parquet"
    assert predict_to_parquet(finetuned, EVENTS, path, device="cpu") == 24
    table = pq.read_table(path)
    assert {field.name: field.type for field in table.schema} == {
        "client_id": pa.int32(),
        "habit=h0": pa.float32(),
        "habit=h1": pa.float32(),
        "habit=h2": pa.float32(),
        "habit": pa.string(),
        "spends": pa.float64(),
    }
    first_seen = pd.unique(EVENTS["client_id"].to_pandas())
    assert table["client_id"].to_pylist() == first_seen.tolist()
    frame = table.to_pandas()
    shares = frame[["habit=h0", "habit=h1", "habit=h2"]]
    assert ("habit=" + frame["habit"]).tolist() == shares.idxmax(axis=1).tolist()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("scored", "remark"),
    [
        (LABELS, "TRAINING CLIENTS: the model learnt from the labels of these very clients"),
        (LABELS[:12], "The model learnt from the labels of 24 clients. If some"),
    ],
)
def test_scores_say_whether_the_model_was_trained_on_the_clients(
    scored: pd.DataFrame, remark: str, finetuned: Model, tmp_path: Path
) -> None:
    path = tmp_path / "scores.parquet"
    predict_to_parquet(finetuned, EVENTS, path, device="cpu")
    scored.to_csv(tmp_path / "labels.csv", index=False)
    words = ["score", str(path), str(tmp_path / "labels.csv"), "--target", "habit"]
    done = CliRunner().invoke(app, [*words, "--json", str(tmp_path / "s.json")])
    assert remark in " ".join(done.stdout.split())
    (found,) = json.loads((tmp_path / "s.json").read_text())
    assert found["remarks"][0].startswith(remark)


def test_mates_and_order_change_nothing(finetuned: Model) -> None:
    whole = predicted(finetuned, EVENTS)
    some = EVENTS.filter(pc.is_in(EVENTS["client_id"], pa.array(IDS[::5], pa.int32())))
    assert_same(predicted(finetuned, some), whole)
    assert_same(predicted(finetuned, nested(EVENTS, "client_id").slice(7)), whole)


@pytest.mark.parametrize("batch_events", [1, 64])
def test_the_size_of_a_batch_changes_nothing(batch_events: int, finetuned: Model) -> None:
    config = finetuned.config
    smaller = config.model_copy(
        update={"embedding": config.embedding.model_copy(update={"batch_events": batch_events})}
    )
    assert_same(predicted(replace(finetuned, config=smaller), EVENTS), predicted(finetuned, EVENTS))


def test_predictions_are_what_the_heads_make_of_the_embeddings(finetuned: Model) -> None:
    ((_, vectors),) = embed(finetuned, EVENTS, device="cpu")
    assert finetuned.heads is not None
    outputs = predict_outputs(finetuned.heads, vectors)
    assert [out.shape for out in outputs] == [(24, 3), (24, 1)]
    spends = finetuned.targets[1].predicted(outputs[1])
    np.testing.assert_allclose(predicted(finetuned, EVENTS)["spends"], spends)


def test_predictions_of_moments_are_what_the_heads_make_of_their_embeddings(
    folder: Path, tmp_path: Path
) -> None:
    moments = EVENTS.select(["client_id", "event_time"]).slice(0, 50)
    assert predict_as_of(folder, EVENTS, moments, tmp_path / "p.parquet", device="cpu") == 50
    embed_as_of(folder, EVENTS, moments, tmp_path / "v.parquet", device="cpu")
    found, read = pq.read_table(tmp_path / "p.parquet"), pq.read_table(tmp_path / "v.parquet")
    assert found.column_names == [
        "client_id",
        "event_time",
        "habit=h0",
        "habit=h1",
        "habit=h2",
        "habit",
        "spends",
    ]
    assert found.select([0, 1]).equals(read.select([0, 1]))
    vectors = torch.from_numpy(
        np.stack([read[n].to_numpy() for n in read.column_names[2:]], axis=1)
    )
    model = load_model(folder)
    assert model.heads is not None
    shares = model.targets[0].probabilities(predict_outputs(model.heads, vectors)[0])
    np.testing.assert_allclose(found["habit=h1"].to_numpy(), shares[:, 1], atol=1e-6)


def test_the_command_predicts_at_a_moment_and_what_happens_later_changes_nothing(
    folder: Path, tmp_path: Path
) -> None:
    moment = EVENTS["event_time"].to_pandas().sort_values().iloc[len(EVENTS) // 2]
    earlier = EVENTS.filter(pc.less(EVENTS["event_time"], pa.scalar(moment, pa.timestamp("us"))))
    found = {}
    for name, events in {"all": EVENTS, "earlier": earlier}.items():
        pq.write_table(events, tmp_path / f"{name}.parquet")
        words = [
            "predict",
            str(folder),
            str(tmp_path / f"{name}.parquet"),
            "--device",
            "cpu",
            "--as-of",
            str(moment),
        ]
        done = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "p.parquet"), "--overwrite"])
        assert (
            f"clients and moments in {tmp_path / 'p.parquet'}: client_id, event_time, habit=h0, "
            in done.output
        )
        found[name] = pq.read_table(tmp_path / "p.parquet").to_pandas().set_index("client_id")
        assert (found[name].pop("event_time") == moment).all()
    assert_same(found["earlier"], found["all"])
    several = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "q.parquet"), "--devices", "2"])
    assert isinstance(several.exception, ConfigError)


def test_a_target_with_the_name_of_the_time_column_has_no_predictions_of_moments(
    folder: Path, tmp_path: Path
) -> None:
    model = load_model(folder)
    clash = replace(
        model,
        targets=(model.targets[0].model_copy(update={"name": "event_time"}), *model.targets[1:]),
    )
    with pytest.raises(SchemaError, match="two columns named 'event_time'"):
        predict_as_of(clash, EVENTS, "2024-01-31", tmp_path / "p.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_heads_says_to_fine_tune_it_first(model: Model, tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"trained without labels.*seqmel finetune MODEL EVENTS LABELS --target T"
    ):
        predict_to_parquet(model, EVENTS, tmp_path / "scores.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_exists_is_replaced_only_when_asked(finetuned: Model, tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    path.touch()
    with pytest.raises(OutputError, match="exists"):
        predict_to_parquet(finetuned, EVENTS, path, device="cpu")
    assert predict_to_parquet(finetuned, EVENTS, path, device="cpu", overwrite=True) == 24


# ------------------------------------------------------------------------------------------------
# the model folder


def test_a_fine_tuned_folder_comes_back_with_heads_and_targets(
    folder: Path, finetuned: Model
) -> None:
    assert [target.name for target in finetuned.targets] == ["habit", "spends"]
    assert finetuned.heads is not None
    assert not finetuned.heads.training
    assert {"targets.json", "heads.safetensors"} <= {file.name for file in folder.iterdir()}


@pytest.mark.parametrize("name", ["targets.json", "heads.safetensors"])
def test_heads_that_are_missing_or_changed_are_refused(
    name: str, folder: Path, tmp_path: Path
) -> None:
    import shutil

    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    (copy / name).write_bytes((copy / name).read_bytes() + b" ")
    with pytest.raises(ModelError, match=f"damaged: {name} differ"):
        load_model(copy)
    (copy / name).unlink()
    with pytest.raises(ModelError, match=f"incomplete: {name} missing"):
        load_model(copy)


def test_a_fine_tuned_model_can_be_fine_tuned_again(finetuned: Model, tmp_path: Path) -> None:
    labels = LABELS.assign(other=np.arange(24) % 2)
    options = tiny_config(finetuning={"unfreeze": "head"})
    again = load_model(
        finetune(finetuned, EVENTS, labels, tmp_path / "m", targets=["other"], config=options)
    )
    assert [target.name for target in again.targets] == ["other"]
    one, other = finetuned.encoder.state_dict(), again.encoder.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
