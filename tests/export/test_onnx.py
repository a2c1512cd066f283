"""An exported model gives, from raw values, what the model gives from the same events."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from small import SCHEMA, card_events, fitted, tiny_config
from typer.testing import CliRunner

from seqmel.core.errors import ModelError, OutputError
from seqmel.data.tables.targets import Target
from seqmel.export import export_onnx
from seqmel.inference.embed import embed
from seqmel.inference.predict import predict
from seqmel.model import Model, save_model
from seqmel.nn.encoder import SequenceEncoder
from seqmel.nn.heads import Heads

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

TRAINED_ON = card_events(24)
VOCABULARY = fitted(TRAINED_ON, SCHEMA, min_count=2)
ENCODERS: dict[str, Any] = {
    "none": "none",
    "gru": {"name": "gru", "hidden_size": 12, "layers": 2},
    "lstm": {"name": "lstm", "hidden_size": 12, "layers": 2},
    "states apart": {
        "name": "gru",
        "hidden_size": 12,
        "input_size": 6,
        "pooling": ["last", "mean", "std"],
    },
}


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the small categories of this file components, too."""
    monkeypatch.setattr("seqmel.nn.category_components.LEAST", 2)


def made(encoder: Any, **changes: Any) -> Model:
    pooling = {
        "pooling": [
            "last",
            "mean",
            "max",
            "std",
            "log_sum",
            "category_mean",
            "last_event",
            "recent",
            "category_recent",
            "transitions",
            "code_fractions",
            "category_components",
            "rhythm",
            "known_numbers",
            "missing_numbers",
            "last_ranks",
        ],
        "category_mean": {"values": 3},
    }
    if isinstance(encoder, dict) and "pooling" in encoder:
        changes["objective"] = ["coles", "next_event"]
    config = tiny_config(
        encoder=encoder, **(changes if "pooling" in changes else pooling | changes)
    )
    torch.manual_seed(0)
    encoder_ = SequenceEncoder(config, VOCABULARY).eval()
    if encoder_.recent is not None and encoder_.recent.transitions is not None:
        table = encoder_.recent.transitions
        table.set_components(torch.randn(table.slots * (table.slots - 1) // 2, table.output_size))
    if encoder_.recent is not None and encoder_.recent.components is not None:
        for values in encoder_.recent.components.buffers():
            values.normal_()
    return Model(config, SCHEMA, VOCABULARY, encoder_, {})


def strange_events() -> pa.Table:
    """Events with unseen and null categories, missing, infinite and huge numbers."""
    table = card_events(15, seed=7)
    amount = table["amount"].to_numpy().copy()
    amount[:4] = [np.nan, np.inf, -np.inf, 1e30]
    mcc = table["mcc"].to_pylist()
    mcc[5] = 1234
    city = table["city"].to_pylist()
    city[6] = "Atlantis"
    table = table.set_column(table.column_names.index("amount"), "amount", pa.array(amount))
    table = table.set_column(table.column_names.index("mcc"), "mcc", pa.array(mcc, pa.int64()))
    return table.set_column(table.column_names.index("city"), "city", pa.array(city))


def inputs(events: pa.Table, order: list[int]) -> dict[str, Any]:
    """What a caller feeds: events of each client together, by time; then a client with none."""
    frame = events.to_pandas().sort_values("event_time", kind="stable")
    parts = [frame[frame["client_id"] == client] for client in order]
    joined = [part.index for part in parts]
    rows = frame.loc[np.concatenate(joined)]
    text = {
        n: np.array(["" if v is None or v != v else str(v) for v in rows[n]], dtype=object)
        for n in ("mcc", "city")
    }
    lengths = [len(part) for part in parts] + [0]
    return {
        "event_time": rows["event_time"].to_numpy().astype("datetime64[us]").astype(np.int64),
        "amount": rows["amount"].to_numpy(np.float64),
        "reading": rows["reading"].to_numpy(np.float64),
        "offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        **text,
    }


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("embedding_dim", [None, 8])
def test_raw_values_in_give_the_vectors_of_the_model(
    encoder: str, embedding_dim: int | None, tmp_path: Path
) -> None:
    model, events = made(ENCODERS[encoder], embedding_dim=embedding_dim), strange_events()
    export_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(
        str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    ((ids, expected),) = embed(model, events, device="cpu")
    (found,) = session.run(["embedding"], inputs(events, ids.to_pylist()))
    assert found.shape == (len(ids) + 1, model.encoder.output_size)
    np.testing.assert_allclose(found[:-1], expected.numpy(), rtol=1e-4, atol=2e-4)
    assert np.isfinite(found).all()


def test_what_has_no_counterpart_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    for model, words in (
        (made({"name": "transformer", "hidden_size": 16, "heads": 2}), "transformer"),
        (made("none", pooling=["attention"]), "attention"),
    ):
        with pytest.raises(ModelError, match=words):
            export_onnx(model, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "model.onnx").write_text("mine")
    with pytest.raises(OutputError):
        export_onnx(made("none"), tmp_path / "model.onnx")


def test_the_command_exports(tmp_path: Path) -> None:
    from seqmel.cli.main import app

    save_model(tmp_path / "model", made("none"), card="", curves=None)
    done = CliRunner().invoke(
        app, ["export", str(tmp_path / "model"), "-o", str(tmp_path / "model.onnx")]
    )
    assert done.exit_code == 0, done.output
    assert "model.onnx" in done.output


def test_the_heads_of_a_fine_tuned_model_are_outputs_of_the_graph(tmp_path: Path) -> None:
    bare, events = made("gru"), strange_events()
    targets = (
        Target(name="gender", classes=("F", "M", "X"), temperature=1.7),
        Target(name="amount", center=50.0, scale=20.0),  # also a column of the events
        Target(name="spent", center=4.0, scale=0.5, log=True, factor=1.3),
        Target(name="visits", scale=3.0, loss="poisson"),
        Target(name="churn", edges=(30.0, 60.0, 90.0)),
    )
    heads = Heads(bare.encoder.output_size, [target.size for target in targets])
    torch.nn.init.normal_(heads.linear.weight)
    heads.fit_scale(torch.randn(30, bare.encoder.output_size))
    model = replace(bare, heads=heads.eval(), targets=targets)
    export_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    order = list(dict.fromkeys(events["client_id"].to_pylist()))
    names = ["gender", "amount_", "spent", "visits", "churn"]
    gender, amount, spent, visits, churn = session.run(names, inputs(events, order))
    expected = pa.concat_tables(predict(model, events))
    shares = np.stack([expected[f"gender={c}"].to_numpy() for c in "FMX"], axis=1)
    np.testing.assert_allclose(gender[:-1], shares, atol=1e-4)
    np.testing.assert_allclose(amount[:-1], expected["amount"].to_numpy(), rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(spent[:-1], expected["spent"].to_numpy(), rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(visits[:-1], expected["visits"].to_numpy(), rtol=1e-3, atol=1e-2)
    later = np.stack([expected[f"churn>{edge}"].to_numpy() for edge in (30, 60, 90)], axis=1)
    np.testing.assert_allclose(churn[:-1], later, atol=1e-4)
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["seqmel.targets"])[-1]["edges"] == [30, 60, 90]
    assert json.loads(about["seqmel.targets"])[0] == {
        "name": "gender",
        "output": "gender",
        "classes": ["F", "M", "X"],
    }
    assert about["seqmel.fingerprint"] == model.fingerprint()


@pytest.mark.parametrize("name", ["offsets", "embedding", "v3", "c0", "/v3"])
def test_a_column_named_like_a_value_of_the_graph_gives_the_same_vectors(
    name: str, tmp_path: Path
) -> None:
    events = TRAINED_ON.rename_columns({"amount": name})
    schema = SCHEMA.model_copy(update={"numeric": (name, "reading")})
    config = tiny_config(encoder="none")
    model = Model(config, schema, fitted(events, schema, min_count=2), None, {})  # type: ignore[arg-type]
    torch.manual_seed(0)
    model = replace(model, encoder=SequenceEncoder(config, model.vocabulary).eval())
    export_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    order = list(dict.fromkeys(events["client_id"].to_pylist()))
    given = inputs(events.rename_columns({name: "amount"}), order)
    renamed = json.loads(session.get_modelmeta().custom_metadata_map["seqmel.inputs"])
    given[renamed[name]] = given.pop("amount")
    (found,) = session.run(["embedding"], given)
    ((_, expected),) = embed(model, events)
    np.testing.assert_allclose(found[:-1], expected.numpy(), atol=1e-4)
