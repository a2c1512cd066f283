"""The embedder is `train` and `embed`, to the last bit, with scikit-learn's manners."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from small import card_events, nested, tiny_config

from seqmel.config import Config
from seqmel.config.options.network import RecurrentOptions
from seqmel.config.options.training import TrainingOptions
from seqmel.core.errors import (
    ConfigError,
    InputError,
    ModelError,
    OutputError,
    SchemaError,
    SeqmelError,
    TrainingError,
)
from seqmel.data.schema import SourceOptions
from seqmel.estimators.aggregates import AggregateFeatures
from seqmel.estimators.embedder import SequenceEmbedder
from seqmel.estimators.options import PARTS, parameters_of
from seqmel.estimators.sequences import EventSequences
from seqmel.estimators.supervised import SequenceClassifier
from seqmel.inference.embed import embed
from seqmel.model import Model, load_model
from seqmel.training.run import prepare, train_model
from seqmel.training.run import train as train_to_folder

EVENTS = card_events(24)


@pytest.fixture(scope="session")
def vectors(fitted: SequenceEmbedder, train: EventSequences) -> pd.DataFrame:
    return fitted.transform(train)


def weights(embedder: SequenceEmbedder) -> dict[str, torch.Tensor]:
    return embedder.model_.encoder.state_dict()


def same_weights(one: SequenceEmbedder, other: SequenceEmbedder) -> bool:
    return all(torch.equal(value, weights(other)[name]) for name, value in weights(one).items())


# ------------------------------------------------------------------------------- the same as train
# and embed


def test_the_vectors_equal_those_of_train_and_embed_to_the_last_bit(
    vectors: pd.DataFrame, fitted: SequenceEmbedder, model: Model
) -> None:
    ids, numbers = zip(*embed(model, EVENTS, device="cpu"), strict=True)
    assert vectors.index.tolist() == [client for part in ids for client in part.to_pylist()]
    np.testing.assert_array_equal(vectors.to_numpy(), torch.cat(numbers).numpy())
    assert fitted.schema_ == model.schema
    assert fitted.vocabulary_ == model.vocabulary
    assert fitted.history_ == model.metrics["history"]


def test_sequences_and_flat_events_train_equal_models(
    tmp_path: Path, train: EventSequences, model: Model
) -> None:
    folder = train_to_folder(
        train, tmp_path / "model", config=tiny_config(schema={"numeric_by": {"reading": "mcc"}})
    )
    loaded = load_model(folder).encoder.state_dict()
    assert all(
        torch.equal(loaded[name], value) for name, value in model.encoder.state_dict().items()
    )


def test_vectors_are_float32_indexed_by_client_in_numbered_columns(
    vectors: pd.DataFrame, fitted: SequenceEmbedder, train: EventSequences
) -> None:
    assert vectors.index.equals(train.client_ids)
    assert vectors.index.name == "client_id"
    assert vectors.columns[:2].tolist() == ["emb_0000", "emb_0001"]
    assert vectors.columns.tolist() == fitted.get_feature_names_out().tolist()
    assert set(vectors.dtypes) == {np.dtype("float32")}


def test_the_same_random_state_gives_equal_weights_and_another_gives_others(
    fitted: SequenceEmbedder, train: EventSequences
) -> None:
    torch.manual_seed(3)
    assert same_weights(clone(fitted).fit(train), fitted)
    assert not same_weights(clone(fitted).set_params(random_state=1).fit(train), fitted)


def test_a_random_state_of_numpy_gives_its_next_number() -> None:
    embedder = SequenceEmbedder(random_state=np.random.RandomState(5))
    wanted = np.random.RandomState(5).randint(2**31 - 1, size=2).tolist()
    assert [embedder.config().seed, embedder.config().seed] == wanted
    assert len({SequenceEmbedder().config().seed for _ in range(5)}) == 5
    assert SequenceEmbedder(random_state=np.int64(7)).config().seed == 7


# ------------------------------------------------------------------------------------------- what X
# may be


@pytest.mark.parametrize(
    "form",
    ["index", "column", "plain column name", "polars", "arrow", "lists of Python", "dictionaries"],
)
def test_every_table_of_lists_gives_the_vectors_of_the_sequences(
    form: str, train: EventSequences, fitted: SequenceEmbedder, vectors: pd.DataFrame
) -> None:
    frame = train.to_pandas()
    given: dict[str, Any] = {
        "index": frame,
        "column": frame.reset_index(),
        "plain column name": frame.reset_index().rename(columns={"client_id": "who"}),
        "polars": pl.from_arrow(train.to_arrow()),
        "arrow": train.to_arrow(),
        "dictionaries": train.to_arrow().to_pylist(),
        "lists of Python": pd.DataFrame(train.to_arrow().to_pylist()),
    }
    found = fitted.transform(given[form]) if form != "plain column name" else (
        clone_of(fitted).set_params(client="who").transform(given[form])
    )  # fmt: skip
    np.testing.assert_array_equal(found.to_numpy(), vectors.to_numpy())
    wanted = given[form].index if isinstance(given[form], pd.DataFrame) else train.client_ids
    assert found.index.equals(wanted)


def clone_of(fitted: SequenceEmbedder) -> SequenceEmbedder:
    """Fitted still, unlike a clone, and free to be changed."""
    return copy.copy(fitted)


def test_a_table_of_lists_trains_the_same_model(
    tiny: SequenceEmbedder, train: EventSequences, fitted: SequenceEmbedder
) -> None:
    assert same_weights(tiny.fit(train.to_pandas()), fitted)
    assert tiny.feature_names_in_.tolist() == train.columns[1:]
    assert tiny.n_features_in_ == 5


def test_a_slice_of_a_table_gives_the_vectors_of_its_rows(
    train: EventSequences, fitted: SequenceEmbedder, vectors: pd.DataFrame
) -> None:
    frame = train.to_pandas().reset_index()
    for rows in ([3], [7, 2, 20], list(range(10, 24))):
        found = fitted.transform(frame.iloc[rows])
        assert found.index.tolist() == rows
        np.testing.assert_allclose(found.to_numpy(), vectors.to_numpy()[rows], atol=1e-5)


def test_rows_that_come_twice_are_embedded_twice_and_trained_on_once(
    train: EventSequences, fitted: SequenceEmbedder, vectors: pd.DataFrame, tiny: SequenceEmbedder
) -> None:
    rows = [5, 3, 5]
    for given in (train[rows], train.to_pandas().iloc[rows]):
        found = fitted.transform(given)
        assert found.index.tolist() == train.client_ids[rows].tolist()
        np.testing.assert_allclose(found.to_numpy(), vectors.to_numpy()[rows], atol=1e-5)
    again = np.concatenate([np.arange(24), [1, 1, 7]])
    assert same_weights(tiny.fit(train[again]), fitted)


@pytest.mark.parametrize(
    "form", ["frame", "one column", "series", "array", "column array", "list", "index", "polars"]
)
def test_client_ids_are_looked_up(
    form: str, train: EventSequences, fitted: SequenceEmbedder, vectors: Any
) -> None:
    ids = [107, 3, 100, 107]
    frame = pd.DataFrame({"age": [1, 2, 3, 4], "client_id": ids}, index=[9, 8, 7, 6])
    given: dict[str, Any] = {
        "frame": frame,
        "one column": frame[["client_id"]].rename(columns={"client_id": "who"}),
        "series": frame["client_id"],
        "array": np.array(ids),
        "column array": np.array(ids)[:, None].astype(object),
        "list": ids,
        "index": frame.set_index("client_id"),
        "polars": pl.DataFrame({"client_id": ids, "age": [1, 2, 3, 4]}),
    }
    embedder = clone_of(fitted).set_params(events=train)
    found = embedder.transform(given[form])
    assert found.index.tolist() == (
        [9, 8, 7, 6] if form in ("frame", "one column", "series") else ids
    )
    for row in (0, 2, 3):
        np.testing.assert_allclose(
            found.to_numpy()[row], vectors.loc[ids[row]].to_numpy(), atol=1e-5
        )
    assert np.isfinite(found.to_numpy()).all()
    assert np.abs(found.to_numpy()[1] - found.to_numpy()[0]).max() > 1e-3


def test_only_the_clients_of_x_are_trained_on(
    train: EventSequences, tiny: SequenceEmbedder
) -> None:
    ids = pd.Series([*train.client_ids[:12], -1], name="client_id")
    looked_up = clone(tiny).set_params(events=train).fit(ids)
    assert looked_up.model_.metrics["clients"] == 12
    assert same_weights(looked_up, tiny.fit(train[:12]))


def test_events_may_be_a_path_and_ids_may_be_text(
    tmp_path: Path, fitted: SequenceEmbedder, vectors: Any
) -> None:
    pa.parquet.write_table(EVENTS, tmp_path / "events.parquet")
    embedder = clone_of(fitted).set_params(events=str(tmp_path / "events.parquet"))
    np.testing.assert_allclose(
        embedder.transform(np.array(["107"])).to_numpy()[0], vectors.loc[107].to_numpy(), atol=1e-5
    )


def test_clients_of_whom_none_has_events_are_told_of(
    train: EventSequences, fitted: SequenceEmbedder
) -> None:
    embedder = clone_of(fitted).set_params(events=train)
    with pytest.warns(UserWarning, match=r"None of the 2 clients of X, such as 1, 2, has events"):
        found = embedder.transform([1, 2])
    assert np.isfinite(found.to_numpy()).all()
    with pytest.raises(InputError, match="Check that both name the same clients"):
        embedder.fit([1, 2])


@pytest.mark.parametrize(
    "ids",
    [
        [107.0, np.nan],
        ["107", None],
        pd.DataFrame({"client_id": [107, None], "age": [1, 2]}),
        pl.Series([107, None]),
    ],
    ids=["NaN", "None", "frame", "polars"],
)
def test_a_client_id_that_is_null_is_refused(
    ids: Any, train: EventSequences, fitted: SequenceEmbedder
) -> None:
    embedder = clone_of(fitted).set_params(events=train)
    for ask in (embedder.transform, clone(embedder).fit):
        with pytest.raises(
            InputError, match=r"1 of 2 rows of X have no client: the id is null\. Drop or fix"
        ):
            ask(ids)


def test_only_empty_lists_are_embedded(train: EventSequences, fitted: SequenceEmbedder) -> None:
    frame = pd.DataFrame({name: [[], []] for name in train.columns[1:]}, index=[1, 2])
    found = fitted.transform(frame).to_numpy()
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            lambda train: pd.DataFrame({"client_id": [1, 2], "age": [30, 40]}),
            r"time column.* events=\.\.\. set on",
        ),
        (
            lambda train: np.zeros((3, 4)),
            r"Cannot take sequences from a ndarray\. Expected EventSequences",
        ),
        (lambda train: None, "Cannot take sequences from a NoneType"),
        (lambda train: train.to_pandas().drop(columns="mcc"), r"No column 'mcc'"),
    ],
)
def test_an_x_that_holds_no_sequences_is_refused(
    given: Any, words: str, train: EventSequences, fitted: SequenceEmbedder
) -> None:
    with pytest.raises(InputError, match=words):
        fitted.transform(given(train))


def test_no_clients_give_no_vectors_and_are_nothing_to_learn_from(
    vectors: pd.DataFrame, train: EventSequences, tiny: SequenceEmbedder, fitted: SequenceEmbedder
) -> None:
    found = fitted.transform(train[:0])
    assert found.shape == (0, vectors.shape[1])
    assert found.columns.equals(vectors.columns)
    with pytest.raises(InputError, match="has no rows"):
        clone(tiny).fit(train[:0])


def test_a_table_of_events_gives_the_vectors_of_its_clients(
    vectors: pd.DataFrame, tiny: SequenceEmbedder, fitted: SequenceEmbedder
) -> None:
    flat = EVENTS.to_pandas()
    assert fitted.transform(flat).equals(vectors)
    assert fitted.transform(flat.assign(tags=[["a", "b"]] * len(flat))).equals(vectors)
    assert fitted.transform(pl.from_arrow(EVENTS)).equals(vectors)
    assert same_weights(clone(tiny).fit(flat), fitted)


def test_labels_of_a_table_of_events_are_not_taken_by_position(tiny: SequenceEmbedder) -> None:
    flat, ids = EVENTS.to_pandas(), pd.unique(EVENTS["client_id"].to_numpy())
    y = pd.Series(np.arange(len(ids)) % 2, pd.Index(ids, name="client_id"), name="left")
    for bad in (y.to_numpy(), y.reset_index(drop=True), y[::-1]):
        with pytest.raises(InputError, match="X has one row per event, so y cannot be matched"):
            clone(tiny).fit(flat, bad)
    clone(tiny).set_params(epochs=0).fit(flat, y)


def test_an_x_that_contradicts_the_parameters_is_refused(
    train: EventSequences, fitted: SequenceEmbedder
) -> None:
    with pytest.raises(InputError, match=r"X holds its own events, and events=\.\.\. is set too"):
        clone_of(fitted).set_params(events=train).transform(train)
    with pytest.raises(
        SchemaError, match="X has its client in 'client_id', and client='who' is set"
    ):
        clone_of(fitted).set_params(client="who").transform(train)
    with pytest.raises(SchemaError, match=r"No column 'client_id' in X.* It has: age, city"):
        clone_of(fitted).set_params(events=train).transform(pd.DataFrame({"age": [1], "city": [2]}))
    with pytest.raises(InputError, match=r"shape \(2, 3\)"):
        clone_of(fitted).set_params(events=train).transform(np.zeros((2, 3)))


def test_two_rows_of_one_client_in_a_table_of_lists_are_no_training_data(
    tiny: SequenceEmbedder,
) -> None:
    table = nested(EVENTS, "client_id")
    with pytest.raises(SchemaError, match="Expected one row per client"):
        tiny.fit(pa.concat_tables([table, table.slice(0, 1)]))


def test_too_few_clients_are_refused(tiny: SequenceEmbedder, train: EventSequences) -> None:
    with pytest.raises(TrainingError, match="at least two"):
        tiny.fit(train[:1])


# ----------------------------------------------------------------------------------------------
# parameters


def test_the_defaults_are_those_of_a_config() -> None:
    assert SequenceEmbedder(random_state=0).config() == Config()


def test_every_option_of_a_training_is_a_parameter() -> None:
    names = set(inspect.signature(SequenceEmbedder).parameters)
    not_here = {"decimal"}  # X holds numbers
    options = set(TrainingOptions.model_fields) | set(SourceOptions.model_fields)
    assert options - not_here <= names
    sections = {field.alias or name for name, field in Config.model_fields.items()}
    flat = sections - set(PARTS.values()) - {"training", "schema", "seed", "finetuning", "devices"}
    assert flat | set(PARTS) <= names


def test_a_fit_takes_over_the_weights_of_common_columns_from_another_model(
    tiny: SequenceEmbedder, train: EventSequences, tmp_path: Path
) -> None:
    folder = clone(tiny).fit(train).save(tmp_path / "before")
    warm = clone(tiny).set_params(init_from=folder, epochs=0)
    assert pickle.loads(pickle.dumps(clone(warm))).get_params()["init_from"] == folder
    before = load_model(folder).encoder.state_dict()
    after = warm.fit(train).model_.encoder.state_dict()
    cold = clone(tiny).set_params(epochs=0).fit(train).model_.encoder.state_dict()
    assert torch.equal(after["events.table"], before["events.table"])
    assert not torch.equal(cold["events.table"], before["events.table"])
    assert SequenceEmbedder.load(warm.save(tmp_path / "after")).init_from == str(folder)
    with pytest.raises(ConfigError, match="Give one of them"):
        warm.set_params(pretrained=folder).fit(train)


def test_the_constructor_only_stores() -> None:
    options = {
        "encoder": {"name": "nonsense"},
        "epochs": -3,
        "ignore": ["a"],
        "events": "nowhere.parquet",
    }
    embedder = SequenceEmbedder(**options)  # type: ignore[arg-type]
    assert all(getattr(embedder, name) is value for name, value in options.items())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encoder": "grue"}, r"SequenceEmbedder: encoder cannot be 'grue'.* Did you mean 'gru'\?"),
        (
            {"encoder": {"hiden_size": 3}},
            r"unknown option 'encoder.hiden_size'.* Did you mean 'hidden_size' or 'input_size'\?",
        ),
        ({"epochs": -1}, "training.epochs = -1"),
        ({"embedding_dim": 0}, "embedding_dim = 0"),
        ({"miner": "hard_negatives"}, "takes no miner"),
        ({"device": "tpu"}, "device cannot be 'tpu'"),
        ({"random_state": -1}, "random_state is -1"),
        ({"random_state": "x"}, "random_state is 'x'"),
    ],
)
def test_a_wrong_option_is_a_config_error_when_it_is_fitted(
    options: dict[str, Any], words: str, train: EventSequences
) -> None:
    with pytest.raises(ConfigError, match=words):
        SequenceEmbedder(**options).fit(train)


def test_an_option_of_a_part_is_a_parameter(tiny: SequenceEmbedder) -> None:
    assert tiny.get_params()["encoder__hidden_size"] == 16
    assert tiny.get_params()["encoder__layers"] == 1
    assert tiny.get_params()["loss__temperature"] == 0.1
    before = tiny.encoder
    tiny.set_params(encoder__hidden_size=64, views__count=3, preparation__min_count=9)
    assert before == {"name": "gru", "hidden_size": 16}
    config = tiny.config()
    assert config.encoder == RecurrentOptions(name="gru", hidden_size=64)
    assert (config.views.count, config.preparation.min_count, config.preparation.threads) == (
        3,
        9,
        1,
    )


def test_a_part_and_its_options_may_be_set_at_once_in_any_order() -> None:
    for order in (("encoder", "encoder__hidden_size"), ("encoder__hidden_size", "encoder")):
        values = {"encoder": "lstm", "encoder__hidden_size": 8}
        embedder = SequenceEmbedder().set_params(**{name: values[name] for name in order})
        assert embedder.encoder == {"name": "lstm", "hidden_size": 8}


def test_a_miner_comes_with_the_loss_unless_it_is_chosen() -> None:
    assert SequenceEmbedder(loss="contrastive").config().miner.name == "hard_negatives"  # type: ignore[union-attr]
    chosen = SequenceEmbedder(loss="contrastive", miner="random_negatives").set_params(miner__k=3)
    assert chosen.config().miner.model_dump() == {"memory": 0, "name": "random_negatives", "k": 3}  # type: ignore[union-attr]
    assert SequenceEmbedder(miner=None).config().miner is None


def test_numbers_of_numpy_are_taken_as_numbers() -> None:
    embedder = SequenceEmbedder(
        epochs=np.int64(3), learning_rate=np.float32(0.5), encoder={"hidden_size": np.int32(8)}
    )  # type: ignore[arg-type]
    config = embedder.config()
    assert (config.training.epochs, config.training.learning_rate) == (3, 0.5)
    assert config.encoder.hidden_size == 8  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["hidden_size", "epoch", "pooling__size"])
def test_a_parameter_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"SequenceEmbedder has no parameter '{name}'"):
        SequenceEmbedder().set_params(**{name: 3})


def test_a_clone_has_the_parameters_and_no_model(
    fitted: SequenceEmbedder, train: EventSequences
) -> None:
    cloned = clone(clone_of(fitted).set_params(events=train))
    assert cloned.events is train
    assert cloned.get_params() == clone_of(fitted).set_params(events=train).get_params()
    assert not hasattr(cloned, "model_")


def test_the_parameters_of_a_model_leave_out_a_loss_that_did_nothing() -> None:
    options = {"encoder": "gru", "loss": "triplet", "views": {"count": 3}}
    for objective, used in (("cpc", False), ("coles", True)):
        given = parameters_of(Config.from_dict(options | {"objective": objective}, lenient=True))
        assert ("loss" in given, "miner" in given) == (used, used)
        assert SequenceEmbedder(**given).config().views.count == 3


# ----------------------------------------------------------------------------------------- before
# and after


@pytest.mark.parametrize("ask", ["transform", "get_feature_names_out", "save"])
def test_what_needs_a_model_says_so(
    ask: str, tiny: SequenceEmbedder, train: EventSequences, tmp_path: Path
) -> None:
    asked = {"transform": [train], "get_feature_names_out": [], "save": [tmp_path / "model"]}[ask]
    for error in (NotFittedError, ModelError):
        with pytest.raises(error, match="This SequenceEmbedder is not fitted yet"):
            getattr(tiny, ask)(*asked)
    assert list(tmp_path.iterdir()) == []


def test_transform_never_changes_what_was_fitted(
    fitted: SequenceEmbedder, train: EventSequences
) -> None:
    before = copy.deepcopy(weights(fitted)), fitted.vocabulary_.fingerprint()
    fitted.transform(EventSequences.read(card_events(9, seed=4)))
    assert all(torch.equal(value, weights(fitted)[name]) for name, value in before[0].items())
    assert fitted.vocabulary_.fingerprint() == before[1]


def through_joblib(embedder: SequenceEmbedder, folder: Path) -> SequenceEmbedder:
    joblib.dump(embedder, folder / "embedder.joblib")
    loaded: SequenceEmbedder = joblib.load(folder / "embedder.joblib")
    return loaded


@pytest.mark.parametrize(
    "copied",
    [
        lambda embedder, folder: pickle.loads(pickle.dumps(embedder)),
        lambda embedder, folder: copy.deepcopy(embedder),
        through_joblib,
        lambda embedder, folder: SequenceEmbedder.load(embedder.save(folder / "model")),
        lambda embedder, folder: SequenceEmbedder.from_pretrained(
            embedder.save(folder / "model"), device="cpu"
        ),
        lambda embedder, folder: SequenceEmbedder.from_pretrained(embedder.model_),
    ],
    ids=["pickle", "deepcopy", "joblib", "load", "from_pretrained", "from a model"],
)
def test_a_copy_gives_equal_vectors(
    copied: Any, fitted: SequenceEmbedder, train: EventSequences, vectors: Any, tmp_path: Path
) -> None:
    found = copied(fitted, tmp_path).transform(train)
    pd.testing.assert_frame_equal(found, vectors, check_exact=True)


@pytest.mark.parametrize("container", ["pandas", "polars", "default"])
def test_the_container_of_the_output_can_be_set(
    container: str, fitted: SequenceEmbedder, train: Any, vectors: Any
) -> None:
    embedder = clone(fitted).set_output(transform=container)
    embedder._learn(fitted.model_)
    found = embedder.transform(train)
    assert isinstance(found, pl.DataFrame if container == "polars" else pd.DataFrame)
    assert list(found.columns) == vectors.columns.tolist()
    np.testing.assert_array_equal(found.to_numpy(), vectors.to_numpy())
    if container != "polars":
        assert found.index.equals(train.client_ids)


def test_progress_is_told_when_asked(
    tiny: SequenceEmbedder, train: EventSequences, capsys: Any
) -> None:
    tiny.fit(train)
    assert capsys.readouterr() == ("", "")
    tiny.set_params(verbose=True).fit(train)
    told = capsys.readouterr()
    assert told.out == ""
    assert "prepared 410 events of 24 clients" in told.err
    assert "epoch 1/1" in told.err


# -------------------------------------------------------------------------------------------- the
# model folder


def test_save_writes_the_folder_that_train_writes(
    fitted: SequenceEmbedder, model_folder: Path, tmp_path: Path
) -> None:
    folder = fitted.save(tmp_path / "model")
    assert sorted(f.name for f in folder.iterdir()) == sorted(
        f.name for f in model_folder.iterdir()
    )
    for name in ("schema.json", "vocabulary.json", "model.safetensors"):
        assert (folder / name).read_bytes() == (model_folder / name).read_bytes()
    assert [f.name for f in tmp_path.iterdir()] == ["model"]
    loaded = SequenceEmbedder.load(model_folder)
    assert loaded.config().model_copy(update={"device": "cpu"}) == load_model(model_folder).config
    again = loaded.save(tmp_path / "again")
    assert json.loads((again / "metrics.json").read_text()) == json.loads(
        (model_folder / "metrics.json").read_text()
    )


def test_a_folder_that_exists_is_replaced_only_when_asked(
    fitted: SequenceEmbedder, tmp_path: Path
) -> None:
    folder = fitted.save(tmp_path / "model")
    with pytest.raises(
        OutputError, match=r"exists\. Name another output, or pass overwrite=True\."
    ):
        fitted.save(folder)
    assert fitted.save(folder, overwrite=True) == folder
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    with pytest.raises(OutputError, match="did not write"):
        fitted.save(tmp_path / "precious", overwrite=True)


def test_a_folder_without_a_model_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No model folder"):
        SequenceEmbedder.load(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="No model folder"):
        SequenceEmbedder(pretrained=tmp_path / "nowhere").fit(EventSequences.read(EVENTS))


# ----------------------------------------------------------------------------------------------
# going on


NEW = card_events(16, seed=3)


def test_a_warm_start_goes_on_from_the_weights_with_the_same_vocabulary(
    fitted: SequenceEmbedder, train: EventSequences
) -> None:
    warm = copy.deepcopy(fitted).set_params(warm_start=True, epochs=0)
    assert same_weights(warm.fit(EventSequences.read(NEW)), fitted)
    assert warm.vocabulary_ == fitted.vocabulary_
    warm.set_params(epochs=1, learning_rate=1e-6).fit(EventSequences.read(NEW))
    assert warm.vocabulary_ == fitted.vocabulary_
    assert warm.model_.metrics["clients"] == 16
    moved = max(
        float((value - weights(fitted)[name]).abs().max()) for name, value in weights(warm).items()
    )
    assert 0 < moved < 1e-4
    cold = copy.deepcopy(fitted).fit(EventSequences.read(NEW))
    assert cold.vocabulary_ != fitted.vocabulary_


def test_every_fit_goes_on_from_a_pretrained_model_also_that_of_a_clone(
    fitted: SequenceEmbedder, train: EventSequences, tmp_path: Path
) -> None:
    folder = fitted.save(tmp_path / "model")
    for model in (folder, str(folder), fitted.model_, fitted):
        pretrained = SequenceEmbedder.from_pretrained(model, epochs=0)
        assert same_weights(clone(pretrained).fit(EventSequences.read(NEW)), fitted)
        assert clone(pretrained).fit(EventSequences.read(NEW)).vocabulary_ == fitted.vocabulary_


def test_the_model_that_training_goes_on_from_stays_as_it_is(fitted: SequenceEmbedder) -> None:
    before = copy.deepcopy(weights(fitted))
    SequenceEmbedder.from_pretrained(fitted.model_, device="cpu").fit(EventSequences.read(NEW))
    assert all(torch.equal(value, weights(fitted)[name]) for name, value in before.items())


def test_a_fitted_embedder_may_be_the_parameter_itself(
    fitted: SequenceEmbedder, tiny: SequenceEmbedder
) -> None:
    on = tiny.set_params(pretrained=fitted, epochs=0)
    assert same_weights(on.fit(EventSequences.read(NEW)), fitted)
    for error in (NotFittedError, ModelError):
        with pytest.raises(
            error, match="The SequenceEmbedder to continue from is not fitted, or was cloned"
        ):
            clone(on).fit(EventSequences.read(NEW))


@pytest.mark.parametrize("kind", [SequenceEmbedder, SequenceClassifier])
def test_a_model_to_go_on_from_that_is_none_is_refused(kind: Any, fitted: SequenceEmbedder) -> None:
    with pytest.raises(
        NotFittedError, match=r"to continue from is not fitted.*pretrained=embedder\.model_"
    ):
        kind.from_pretrained(clone(fitted))
    for wrong, name in (
        (AggregateFeatures(), "AggregateFeatures"),
        (fitted.model_.encoder, "SequenceEncoder"),
        (3, "int"),
    ):
        with pytest.raises(
            ConfigError, match=f"Cannot continue from a {name}.* or a fitted SequenceEmbedder"
        ):
            kind.from_pretrained(wrong)
        with pytest.raises(ConfigError, match=f"Cannot continue from a {name}"):
            kind(pretrained=wrong).fit(EventSequences.read(NEW), [0, 1] * 8)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encoder__hidden_size": 32}, r"another shape \(encoder\.hidden_size: 16 there, 32 now\)"),
        ({"pooling": "last"}, "another shape"),
        ({"embedding_dim": 7}, r"embedding_dim: None there, 7 now"),
        ({"event_encoder__hidden_size": 32}, r"event_encoder\.hidden_size"),
        ({"recency_features": False}, "recency_features: True there, False now"),
    ],
)
def test_training_does_not_go_on_with_an_encoder_of_another_shape(
    options: dict[str, Any], words: str, fitted: SequenceEmbedder, train: EventSequences
) -> None:
    with pytest.raises(ConfigError, match=words):
        SequenceEmbedder.from_pretrained(fitted.model_, **options).fit(train)


def test_training_goes_on_with_sequences_that_were_prepared_for_the_model(
    fitted: SequenceEmbedder, tmp_path: Path
) -> None:
    config = fitted.config()
    prepare(NEW, tmp_path / "for it", config=config, model=fitted.model_)
    prepare(NEW, tmp_path / "others", config=config)
    on = train_model(tmp_path / "for it", config=config, initial=fitted.model_)
    wanted = train_model(NEW, config=config, initial=fitted.model_)
    assert all(
        torch.equal(v, wanted.encoder.state_dict()[n]) for n, v in on.encoder.state_dict().items()
    )
    with pytest.raises(ModelError, match="another vocabulary"):
        train_model(tmp_path / "others", config=config, initial=fitted.model_)


def test_an_unknown_parameter_of_a_pretrained_embedder_is_refused(fitted: SequenceEmbedder) -> None:
    with pytest.raises(
        SeqmelError, match=r"no parameter 'epoch'.* Did you mean 'epochs' or 'step_epochs'\?"
    ):
        SequenceEmbedder.from_pretrained(fitted.model_, epoch=3)
