"""The model that users hold: its verbs give what the commands write, to the bit."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from small import Recorded, card_events, tiny_config
from typer.testing import CliRunner

import seqmel
from seqmel.cli.main import app
from seqmel.core.errors import ConfigError, InputError, ModelError, OutputError
from seqmel.inference.options import EmbedOptions

EVENTS = card_events()
LABELS = pd.DataFrame(
    {"client_id": np.arange(24) * 7 + 100, "habit": [f"h{i % 2}" for i in range(24)]}
)
MOMENT = "1970-05-01"
OPTIONS: dict[str, Any] = {
    "event_encoder": {"hidden_size": 16},
    "encoder": {"name": "gru", "hidden_size": 16},
    "epochs": 1,
    "batch_size": 8,
    "validation_fraction": 0.3,
    "preparation": {"min_count": 2, "threads": 1},
    "device": "cpu",
    "precision": "32-true",
}
"""The options of `tiny_config`, as keywords."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> seqmel.Model:
    return seqmel.train(
        EVENTS, tmp_path_factory.mktemp("api") / "model", config=tiny_config(**sized())
    )


def sized() -> dict[str, Any]:
    """Options of a model whose vectors can be cut to 4 dimensions."""
    return {"embedding_dim": 8, "matryoshka": [4]}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the events as a file."""
    folder = tmp_path_factory.mktemp("files")
    pq.write_table(EVENTS, folder / "events.parquet")
    return folder


def test_metrics_call_the_width_of_the_vector_dimensions(trained: seqmel.Model) -> None:
    assert trained.metrics["dimensions"] == trained.encoder.output_size
    assert "embedding_dim" not in trained.metrics


def by_command(trained: seqmel.Model, files: Path, output: Path, *flags: str) -> pd.DataFrame:
    """What the command writes, unread."""
    command = [
        "embed",
        str(trained.folder),
        str(files / "events.parquet"),
        "-o",
        str(output),
        *flags,
    ]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    return pd.read_parquet(output)


def assert_same(frame: pd.DataFrame, written: pd.DataFrame, keys: list[str]) -> None:
    """Equal ids, names and types, and equal numbers to the bit."""
    pd.testing.assert_frame_equal(frame, written.set_index(keys), check_exact=True)


# --------------------------------------------------------------------------------------------------
# embed


@pytest.mark.parametrize(
    ("keywords", "flags"),
    [
        ({}, []),
        ({"dtype": "float16"}, ["--dtype", "float16"]),
        ({"dtype": "int8"}, ["--dtype", "int8"]),
        ({"dtype": "binary"}, ["--dtype", "binary"]),
        ({"dim": 4}, ["--dim", "4"]),
        ({"dim": 4, "dtype": "int8"}, ["--dim", "4", "--dtype", "int8"]),
        ({"shard": (1, 2)}, ["--shard", "1/2"]),
    ],
)
def test_embed_returns_the_numbers_that_the_command_writes(
    trained: seqmel.Model, files: Path, tmp_path: Path, keywords: dict[str, Any], flags: list[str]
) -> None:
    written = by_command(trained, files, tmp_path / "vectors.parquet", *flags)
    assert_same(trained.embed(EVENTS, **keywords), written, ["client_id"])


def test_a_shard_without_clients_is_an_empty_frame_of_the_same_columns(
    trained: seqmel.Model,
) -> None:
    found = trained.embed(EVENTS, shard=(1, 1000))
    assert (found.shape, found.index.name, found.columns.tolist()) == (
        (0, 8),
        "client_id",
        seqmel_columns(8),
    )


def seqmel_columns(size: int) -> list[str]:
    return [f"emb_{i:04d}" for i in range(size)]


def test_embed_as_lists_returns_the_lists_that_the_command_writes(
    trained: seqmel.Model, files: Path, tmp_path: Path
) -> None:
    written = by_command(
        trained, files, tmp_path / "vectors.parquet", "--layout", "list"
    ).set_index("client_id")
    found = trained.embed(EVENTS, layout="list")
    assert found.columns.tolist() == ["embedding"]
    assert found.index.equals(written.index)
    assert np.array_equal(
        np.stack(found["embedding"].tolist()), np.stack(written["embedding"].tolist())
    )


@pytest.mark.parametrize("moment", [MOMENT, pd.Timestamp(MOMENT), pd.Timestamp(MOMENT).date()])
def test_embed_as_of_returns_one_row_per_client_and_moment(
    trained: seqmel.Model, files: Path, tmp_path: Path, moment: Any
) -> None:
    written = by_command(trained, files, tmp_path / "vectors.parquet", "--as-of", MOMENT)
    found = trained.embed(EVENTS, as_of=moment)
    assert_same(found, written, ["client_id", "event_time"])
    assert set(found.index.get_level_values("event_time")) == {pd.Timestamp(MOMENT)}


def test_embed_with_a_state_returns_the_clients_with_new_events(
    trained: seqmel.Model, tmp_path: Path
) -> None:
    times = np.asarray(EVENTS["event_time"])
    cut = np.sort(times)[-3]
    before = trained.embed(EVENTS.filter(times < cut), state=tmp_path / "state.parquet")
    after = trained.embed(EVENTS.filter(times >= cut), state=tmp_path / "state.parquet")
    assert len(before) == 24
    assert set(after.index) == set(np.asarray(EVENTS["client_id"])[times >= cut])
    np.testing.assert_allclose(
        after.to_numpy(), trained.embed(EVENTS).loc[after.index].to_numpy(), atol=1e-5
    )


def test_embed_into_a_file_says_what_it_wrote_and_stands_for_its_path(
    trained: seqmel.Model, files: Path, tmp_path: Path
) -> None:
    done = trained.embed(
        files / "events.parquet", tmp_path / "vectors.parquet", state=tmp_path / "state.parquet"
    )
    assert (done.rows, done.dimensions, done.new_clients, done.known_clients) == (24, 8, 24, 24)
    assert os.fspath(done) == str(tmp_path / "vectors.parquet")
    assert seqmel.read_embeddings(done).shape == (24, 8)
    with pytest.raises(OutputError, match=r"vectors\.parquet"):
        trained.embed(EVENTS, tmp_path / "vectors.parquet")
    assert trained.embed(EVENTS, tmp_path / "vectors.parquet", overwrite=True).rows == 24


def test_progress_is_reported_where_one_is_given_and_lines_are_shown_on_request(
    trained: seqmel.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Recorded()
    trained.embed(EVENTS, progress=progress)
    assert (progress.tasks, progress.done) == ([("embed", None, "clients")], 24)
    trained.embed(EVENTS)
    trained.embed(EVENTS, progress=False)
    assert capsys.readouterr().err == ""  # no terminal, no notebook
    trained.embed(EVENTS, progress=True)
    assert capsys.readouterr().err.startswith("embed: 24 clients")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"as_of": MOMENT, "state": "s"}, "as_of cannot be combined with state"),
        ({"as_of": MOMENT, "engine": "spark"}, "as_of cannot be combined with engine spark"),
        ({"state": "s", "engine": "spark"}, "state cannot be combined with engine spark"),
        ({"shard": (1, 2), "engine": "spark"}, "shard cannot be combined with engine spark"),
        (
            {"engine": "sparc"},
            "engine cannot be 'sparc'. Expected one of: duckdb, spark. Did you mean 'spark'?",
        ),
        ({"layout": "rows"}, "layout cannot be 'rows'. Expected one of: columns, list."),
        ({"dim": 5}, "was trained for 4 or all 8 numbers, not for 5"),
        ({"overwrite": True}, "overwrite is for an output file, and none is named"),
        (
            {"progress": "yes"},
            "progress is a str. Expected True, False, None, or an object with the methods",
        ),
    ],
)
def test_options_that_cannot_be_are_refused_in_a_line(
    trained: seqmel.Model, options: Any, line: str
) -> None:
    with pytest.raises(ConfigError) as error:
        trained.embed(EVENTS, **options)
    assert line in str(error.value)


def test_an_option_that_a_function_does_not_have_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(
        ConfigError, match=r"no option 'dtpe' here. Did you mean 'dtype'\? There are: layout, dtype"
    ):
        EmbedOptions.of({"dtpe": "int8"})
    with pytest.raises(ConfigError, match="no option 'layout' here"):
        seqmel.predict_to_parquet("model", EVENTS, "out.parquet", layout="list")


# -------------------------------------------------------------------------------------------------
# train, load, save


def test_train_without_an_output_returns_the_model_that_is_written_with_one(
    trained: seqmel.Model,
) -> None:
    found = seqmel.train(EVENTS, **OPTIONS, **sized())
    assert found.folder is None
    assert found.config == trained.config
    assert found.fingerprint() == trained.fingerprint()


def test_options_go_over_the_config_that_they_stand_beside() -> None:
    found = seqmel.train(EVENTS, config=tiny_config(), epochs=0, encoder="none")
    assert (
        found.config.encoder.name,
        found.config.training.epochs,
        found.config.training.batch_size,
    ) == ("none", 0, 8)


@pytest.mark.parametrize("function", ["train", "finetune"])
def test_an_option_that_does_not_exist_is_refused_with_the_nearest_name(function: str) -> None:
    call: Any = getattr(seqmel, function)
    arguments = (EVENTS,) if function == "train" else (None, EVENTS, LABELS)
    target = {} if function == "train" else {"target": "habit"}
    with pytest.raises(
        ConfigError, match=rf"{function} has no option 'epoch'. Did you mean 'epochs'"
    ):
        call(*arguments, **target, epoch=3)


@pytest.mark.parametrize("option", ["resume", "overwrite"])
def test_what_is_for_a_folder_is_refused_without_one(option: str) -> None:
    with pytest.raises(ConfigError, match=f"{option} is for an output folder, and none is named"):
        seqmel.train(EVENTS, **{option: True})


def test_a_saved_model_is_loaded_as_it_was_and_stands_for_its_folder(
    trained: seqmel.Model, tmp_path: Path
) -> None:
    saved = seqmel.Model.of(trained).save(tmp_path / "copy")
    loaded = seqmel.load(tmp_path / "copy")
    assert loaded.folder == saved.folder == tmp_path / "copy"
    assert loaded.fingerprint() == trained.fingerprint()
    assert type(seqmel.load_model(saved)) is seqmel.Model
    assert seqmel.load(loaded) is loaded
    assert os.fspath(saved) == str(tmp_path / "copy")
    assert (saved / "config.json").is_file()
    assert len(list(seqmel.embed(tmp_path / "copy", EVENTS))) == 1
    with pytest.raises(OutputError, match="overwrite=True"):
        trained.save(tmp_path / "copy")
    assert trained.save(tmp_path / "copy", overwrite=True).folder == tmp_path / "copy"


def test_a_model_in_memory_has_no_path_and_says_how_to_get_one() -> None:
    model = seqmel.train(EVENTS, **OPTIONS)
    with pytest.raises(ModelError, match=r"in memory only. Save it first: model.save\(folder\)"):
        os.fspath(model)
    again = pickle.loads(pickle.dumps(model))
    pd.testing.assert_frame_equal(again.embed(EVENTS), model.embed(EVENTS), check_exact=True)


# -------------------------------------------------------------------------------------- finetune,
# predict, evaluate


def test_finetune_predict_and_evaluate_are_verbs_of_the_model(
    trained: seqmel.Model, tmp_path: Path
) -> None:
    tuned = trained.finetune(EVENTS, LABELS, target="habit", epochs=1, unfreeze="head")
    assert tuned.folder is None
    assert tuned.config.finetuning.unfreeze == "head"
    predicted = tuned.predict(EVENTS)
    assert predicted.columns.tolist() == ["habit=h0", "habit=h1", "habit"]
    done = tuned.predict(EVENTS, tmp_path / "predictions.parquet")
    assert (done.rows, done.dimensions) == (24, None)
    assert_same(predicted, pd.read_parquet(done), ["client_id"])
    at = tuned.predict(EVENTS, as_of=MOMENT)
    assert at.index.names == ["client_id", "event_time"]
    saved = tuned.save(tmp_path / "tuned")
    pd.testing.assert_frame_equal(seqmel.load(saved).predict(EVENTS), predicted, check_exact=True)
    with pytest.raises(ModelError, match="cannot predict"):
        trained.predict(EVENTS)


def test_evaluate_scores_the_vectors_beside_the_aggregates(trained: seqmel.Model) -> None:
    scores = trained.evaluate(LABELS, target="habit", events=EVENTS, folds=2, trees=5)
    assert [name for name in scores.matched if ":" not in name] == [
        "aggregates",
        "aggregates with order",
        "embeddings",
        "embeddings + aggregates with order",
    ]
    assert scores.clients == 24
    alone = trained.evaluate(
        LABELS, target="habit", events=EVENTS, aggregates=False, folds=2, trees=5
    )
    assert list(alone.matched) == ["embeddings", "embeddings: linear"]
    assert alone.score("embeddings") == scores.score("embeddings")


def test_evaluate_of_other_clients_is_an_error_of_one_line(trained: seqmel.Model) -> None:
    others = LABELS.assign(client_id=LABELS["client_id"] + 1)
    with pytest.raises(InputError, match="No client of the labels has features"):
        trained.evaluate(others, target="habit", events=EVENTS, folds=2)


# --------------------------------------------------------------------------------------------------
# shown


def test_a_model_says_what_it_is(trained: seqmel.Model) -> None:
    shown = repr(trained)
    for words in (
        "Model(encoder: gru",
        "8 dimensions",
        "client_id",
        "events of 24 clients",
        str(trained.folder),
    ):
        assert words in shown
    page = trained._repr_html_()
    assert page.startswith("<b>Model</b><table>")
    assert "client_id" in page


def test_scores_and_estimators_show_themselves_in_a_notebook(trained: seqmel.Model) -> None:
    scores = trained.evaluate(
        LABELS, target="habit", events=EVENTS, aggregates=False, folds=2, trees=5
    )
    page = scores._repr_html_()
    assert "<table>" in page
    assert "AUROC" in page
    assert "embeddings" in page
    assert "habit" in repr(scores)
    assert seqmel.SequenceEmbedder()._repr_html_()


def test_the_model_of_an_estimator_has_the_verbs(trained: seqmel.Model) -> None:
    embedder = seqmel.SequenceEmbedder.load(trained)
    pd.testing.assert_frame_equal(
        embedder.model_.embed(EVENTS), trained.embed(EVENTS), check_exact=True
    )
