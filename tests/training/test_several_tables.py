"""A model of several event tables, from training to embedding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from small import TINY, card_events, two_tables
from typer.testing import CliRunner

import seqmel
from seqmel.cli.main import app, main
from seqmel.core.progress import EventsWarning
from seqmel.data.fitting.timeline import open_and_infer, open_for_schema
from seqmel.data.schema import SchemaOptions
from seqmel.evaluation.input_drift import input_drift
from seqmel.inference.embed import sequence_chunks
from seqmel.training.finetuning.finetune import finetune

HALF = pd.Timestamp("1970-06-01")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of `two_tables`, and the tables as files beside it."""
    folder = tmp_path_factory.mktemp("several")
    tables = two_tables()
    tables["cards"].to_parquet(folder / "cards.parquet")
    tables["clicks"].to_csv(folder / "clicks.csv", index=False)
    seqmel.train(tables, folder / "model", config=TINY, progress=False)
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> seqmel.Model:
    return seqmel.load(folder / "model")


@pytest.fixture(scope="module")
def vectors(model: seqmel.Model) -> pd.DataFrame:
    return model.embed(two_tables(), progress=False)


def test_files_and_tables_in_any_order_give_the_same_model_and_vectors(
    folder: Path, model: seqmel.Model, vectors: pd.DataFrame
) -> None:
    files = {"cards": folder / "cards.parquet", "clicks": str(folder / "clicks.csv")}
    again = seqmel.train(files, config=TINY, progress=False)
    assert again.fingerprint() == model.fingerprint()
    found = model.embed(dict(reversed(files.items())))
    pd.testing.assert_frame_equal(found, vectors, check_index_type=False)


def test_batch_mates_and_the_order_of_clients_never_change_a_vector(
    model: seqmel.Model, vectors: pd.DataFrame
) -> None:
    few = vectors.index[[5, 2]]
    tables = two_tables()
    part = {
        "cards": tables["cards"][tables["cards"]["client_id"].isin(few)],
        "clicks": tables["clicks"][tables["clicks"]["user"].isin(few)],
    }
    found = model.embed(part)
    np.testing.assert_allclose(found, vectors.loc[found.index], rtol=1e-5, atol=1e-6)


def test_one_named_table_gives_the_model_of_the_table_to_the_bit() -> None:
    plain = seqmel.train(card_events(), config=TINY, progress=False)
    named = seqmel.train({"cards": card_events()}, config=TINY, progress=False)
    assert plain.fingerprint() == named.fingerprint()
    assert plain.schema == named.schema
    pd.testing.assert_frame_equal(
        plain.embed(card_events()), plain.embed({"anything": card_events()})
    )


def test_updates_in_two_parts_give_the_vectors_of_all_events(
    model: seqmel.Model, vectors: pd.DataFrame, tmp_path: Path
) -> None:
    cards, clicks = two_tables().values()
    when = pd.to_datetime(clicks["ts"], unit="s")
    parts = [
        {"cards": cards[cards["event_time"] < HALF], "clicks": clicks[when < HALF]},
        {"cards": cards[cards["event_time"] >= HALF], "clicks": clicks[when >= HALF]},
    ]
    for part in parts:
        found = model.embed(part, state=tmp_path / "state.parquet", progress=False)
    assert len(found) > 20
    np.testing.assert_allclose(found, vectors.loc[found.index], rtol=1e-4, atol=1e-5)


def test_a_missing_table_is_named_in_a_warning(model: seqmel.Model) -> None:
    cards = {"cards": two_tables()["cards"]}
    with pytest.warns(EventsWarning, match=r"No events of the source clicks are given"):
        found = model.embed(cards)
    none = two_tables() | {"clicks": two_tables()["clicks"].iloc[:0]}
    pd.testing.assert_frame_equal(found, model.embed(none))


def test_a_night_without_a_table_keeps_what_the_states_have(
    model: seqmel.Model, tmp_path: Path
) -> None:
    cards = {"cards": two_tables()["cards"]}
    with pytest.warns(EventsWarning, match=r"Clients keep what their states have of it"):
        model.embed(cards, state=tmp_path / "state.parquet", progress=False)


def test_drift_counts_a_column_in_events_of_its_table_only(model: seqmel.Model) -> None:
    tables = two_tables()
    more = tables | {"clicks": pd.concat([tables["clicks"]] * 3)}
    _, chunks = sequence_chunks(model, more)
    assert model.statistics is not None
    found = input_drift(model.statistics, chunks)
    assert found.columns["source"].psi > 0.1
    assert found.columns["cards.mcc"].psi == 0.0
    assert found.columns["clicks.page"].psi == pytest.approx(0.0, abs=1e-2)
    assert found.columns["cards.amount"].missing == (0.0, 0.0)


def test_aggregates_of_a_number_are_within_categories_of_its_own_table() -> None:
    source, schema = open_and_infer(two_tables(), SchemaOptions())
    plan = seqmel.AggregatePlan.fit(source, schema)
    names = plan.columns
    assert "cards_amount_mean" in names
    assert any(name.startswith("cards_amount_mean_cards_mcc") for name in names)
    assert not any("clicks_amount" in name and "cards_mcc" in name for name in names)
    found = plan.compute(source)
    clicks = two_tables()["clicks"].groupby("user").size().reindex(found.index, fill_value=0)
    assert found["count_source_clicks"].tolist() == clicks.tolist()


OBJECTIVES: dict[str, dict[str, Any]] = {
    "next_event": {"objective": ["coles", "next_event"]},
    "masked_events": {"objective": ["coles", "masked_events"]},
    "replaced_token": {"objective": ["coles", "replaced_token"]},
    "transformer": {"encoder": {"name": "transformer", "hidden_size": 16, "layers": 1}},
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_and_encoders_train_on_several_tables(name: str) -> None:
    model = seqmel.train(two_tables(), config=TINY | OBJECTIVES[name], progress=False)
    assert np.isfinite(model.embed(two_tables()).to_numpy()).all()


def test_aggregates_and_labels_work_with_several_tables(
    model: seqmel.Model, vectors: pd.DataFrame, tmp_path: Path
) -> None:
    labels = pd.DataFrame({"client_id": vectors.index, "y": vectors.index % 2})
    options = {**TINY, "finetuning": {"epochs": 1, "batch_size": 8}}
    finetune(model, two_tables(), labels, tmp_path / "tuned", targets=["y"], config=options)
    assert len(seqmel.load(tmp_path / "tuned").predict(two_tables())) == len(vectors)
    scores = model.evaluate(labels, target="y", events=two_tables(), folds=2, trees=5)
    assert scores is not None


def test_the_vector_of_an_onnx_file_is_that_of_the_model(
    model: seqmel.Model, vectors: pd.DataFrame, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    source = open_for_schema(two_tables(), model.schema, model.vocabulary.categorical)
    order = "ORDER BY min(__row) OVER (PARTITION BY client_id), event_time, __row"
    events = source.connection.sql(f"FROM events {order}").df()
    lengths = events.groupby("client_id", sort=False).size()
    given = {name: events[name].fillna("").to_numpy(str) for name in model.schema.categorical}
    given |= {name: events[name].to_numpy(np.float64) for name in model.schema.numeric}
    given["event_time"] = events["event_time"].astype("datetime64[us]").astype("int64").to_numpy()
    given["offsets"] = np.concatenate([[0], lengths.cumsum()])
    seqmel.export_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (found,) = session.run(["embedding"], given)
    assert lengths.index.tolist() == vectors.index.tolist()
    np.testing.assert_allclose(found, vectors.to_numpy(), rtol=1e-4, atol=2e-4)


def test_commands_take_named_tables(folder: Path, tmp_path: Path) -> None:
    cards, clicks = f"cards={folder / 'cards.parquet'}", f"clicks={folder / 'clicks.csv'}"
    run = CliRunner().invoke

    def ok(*arguments: object) -> str:
        done = run(app, [str(a) for a in arguments])
        assert done.exit_code == 0, done.output
        return done.output

    said = ok("describe", cards, clicks)
    assert "clicks.page" in said
    vectors = tmp_path / "vectors.parquet"
    ok("embed", folder / "model", clicks, cards, "-o", vectors)
    ids = pd.read_parquet(vectors)["client_id"]
    pd.DataFrame({"client_id": ids, "y": ids % 2}).to_csv(tmp_path / "labels.csv", index=False)
    ok("drift", folder / "model", cards, clicks)
    ok("report", folder / "model", cards, clicks, "-o", tmp_path / "report.html")
    ok(
        "evaluate", tmp_path / "labels.csv", "--target", "y", "--embeddings", vectors,
        "--events", cards, "--events", clicks, "--folds", 2, "--trees", 5,
    )  # fmt: skip
    ok(
        "finetune", folder / "model", cards, clicks, tmp_path / "labels.csv", "--target", "y",
        "-o", tmp_path / "tuned", "--epochs", 1,
    )  # fmt: skip
    ok("predict", tmp_path / "tuned", cards, clicks, "-o", tmp_path / "scores.parquet")
    ok(
        "embed",
        folder / "model",
        cards,
        clicks,
        "--as-of",
        "1970-06-01",
        "-o",
        tmp_path / "at.parquet",
    )


BAD = {
    "twice": (["cards=a.parquet", "cards=b.parquet"], "source cards is named twice"),
    "without a name": (["cards=a.parquet", "b.csv"], "b.csv has no name"),
    "unknown": (["cards={0}/cards.parquet", "click={0}/clicks.csv"], "no source 'click'"),
    "one table": (["{0}/cards.parquet"], "trained on the sources cards, clicks"),
}


@pytest.mark.parametrize("case", BAD)
def test_sources_that_are_not_those_of_the_model_are_refused(
    case: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    events, line = BAD[case]
    output = tmp_path / "vectors.parquet"
    given = ["embed", str(folder / "model"), *(e.format(folder) for e in events)]
    monkeypatch.setattr("sys.argv", ["seqmel", *given, "-o", str(output)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert line in said
    assert not output.exists()


def test_a_config_file_names_the_tables_and_their_columns(
    folder: Path, vectors: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = TINY | {
        "events": {
            "cards": str(folder / "cards.parquet"),
            "clicks": {"path": str(folder / "clicks.csv"), "time": "ts", "client": "user"},
        }
    }
    (tmp_path / "bank.yaml").write_text(yaml.safe_dump(written))
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke
    trained = run(app, ["train", "-c", "bank.yaml", "-o", "model"])
    assert trained.exit_code == 0
    assert f"embed model cards={folder / 'cards.parquet'} clicks=" in trained.output
    pd.testing.assert_frame_equal(seqmel.load("model").embed(two_tables()), vectors)
    assert seqmel.read_config("bank.yaml").schema.sources["clicks"].time == "ts"


def test_no_events_at_all_and_events_of_a_config_file_that_cannot_be_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bank.yaml").write_text("events: {cards: {path: a.parquet, tiem: at}}")
    for given, words in (
        (["train", "-o", "model"], "No events are named."),
        (["train", "-c", "bank.yaml", "-o", "model"], "unknown option 'events.cards.tiem'"),
    ):
        monkeypatch.setattr("sys.argv", ["seqmel", *given])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 2
        assert words in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["bank.yaml"]


def test_events_of_a_config_file_may_still_be_the_options_of_the_event_encoder(
    tmp_path: Path,
) -> None:
    (tmp_path / "old.yaml").write_text("events: {hidden_size: 16}")
    with pytest.warns(Warning, match="event_encoder"):
        assert seqmel.read_config(tmp_path / "old.yaml").event_encoder.hidden_size == 16
