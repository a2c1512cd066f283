"""A training is a function of its events and options: also after it was stopped in the middle."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import forked
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from small import card_events, tiny_config

import seqmel.training.run
from seqmel.config import Config
from seqmel.core.errors import InputError, OutputError, SchemaError, TrainingError
from seqmel.core.progress import silent
from seqmel.data.fitting import timeline
from seqmel.model import load_model
from seqmel.training import module
from seqmel.training.run import prepare, train

EVENTS = card_events(24)


def config(epochs: int = 4, **changes: Any) -> Config:
    """With dropout, so that a resumed run must find torch's random state where it was."""
    sections = {
        "encoder": {"name": "gru", "hidden_size": 16, "layers": 2, "dropout": 0.2},
        "event_encoder": {"hidden_size": 16, "dropout": 0.1, "category_dropout": 0.1},
        "training": {"epochs": epochs, "batch_size": 8, "validation_fraction": 0.3},
    }
    return tiny_config(**(sections | changes))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(str(folder / "model.safetensors"))


def assert_equal_models(one: Path, other: Path) -> None:
    """Bit for bit, weights and history."""
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert history(one) == history(other)
    for name in ("schema.json", "vocabulary.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def history(folder: Path) -> list[dict[str, float]]:
    return list(json.loads((folder / "metrics.json").read_text())["history"])


class Stop:
    """A Progress that stops the run, as Ctrl-C would, when so many clients of an epoch are done."""

    def __init__(self, epoch: int, clients: int) -> None:
        self.where = (epoch, clients)
        self.epoch = self.done = 0

    def say(self, line: str) -> None:
        pass

    @contextlib.contextmanager
    def task(
        self, name: str, total: int | None, unit: str, *, quiet: bool = False
    ) -> Iterator[Stop]:
        self.epoch, self.done = self.epoch + name.startswith("epoch"), 0
        yield self

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.done += amount
        if self.epoch == self.where[0] and self.done >= self.where[1]:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(EVENTS, tmp_path_factory.mktemp("undisturbed") / "model", config=config())


def test_the_same_seed_gives_equal_weights_twice(undisturbed: Path, tmp_path: Path) -> None:
    torch.manual_seed(123)
    torch.rand(7)  # what happened before does not matter
    assert_equal_models(train(EVENTS, tmp_path / "model", config=config()), undisturbed)


def test_another_seed_gives_other_weights(undisturbed: Path, tmp_path: Path) -> None:
    other = weights(train(EVENTS, tmp_path / "model", config=config(seed=1)))
    assert any(not torch.equal(other[name], value) for name, value in weights(undisturbed).items())


def test_training_leaves_torchs_random_state_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(EVENTS, tmp_path / "model", config=config(1))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("data", ["memory", "memory_map", "device"])
def test_where_the_sequences_lie_changes_nothing(
    data: str, undisturbed: Path, tmp_path: Path
) -> None:
    options = {"epochs": 4, "batch_size": 8, "validation_fraction": 0.3, "storage": data}
    assert_equal_models(
        train(EVENTS, tmp_path / "model", config=config(training=options)), undisturbed
    )


@pytest.mark.parametrize("precision", get_args(Config.model_fields["precision"].annotation))
def test_every_precision_that_is_offered_trains(precision: str, tmp_path: Path) -> None:
    assert (
        len(history(train(EVENTS, tmp_path / "model", config=config(1, precision=precision)))) == 1
    )


def test_prepared_sequences_train_the_same_model(undisturbed: Path, tmp_path: Path) -> None:
    prepare(EVENTS, tmp_path / "prepared", config=config())
    assert_equal_models(
        train(tmp_path / "prepared", tmp_path / "model", config=config()), undisturbed
    )


@pytest.mark.parametrize(("epoch", "clients"), [(1, 8), (2, 8), (3, 16), (4, 8)])
def test_an_interrupted_run_that_is_resumed_equals_the_undisturbed_one(
    epoch: int, clients: int, undisturbed: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    with pytest.raises(KeyboardInterrupt):
        train(EVENTS, model, config=config(), progress=Stop(epoch, clients))
    assert not model.exists()
    assert_equal_models(train(EVENTS, model, config=config(), resume=True), undisturbed)
    assert list(tmp_path.iterdir()) == [model]


def test_a_run_interrupted_twice_can_be_resumed(undisturbed: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    for epoch in (2, 2):
        with pytest.raises(KeyboardInterrupt):
            train(EVENTS, model, config=config(), resume=True, progress=Stop(epoch, 8))
    assert_equal_models(train(EVENTS, model, config=config(), resume=True), undisturbed)


def test_a_run_without_validation_can_be_resumed(tmp_path: Path) -> None:
    options = config(training={"epochs": 3, "batch_size": 8, "validation_fraction": 0.0})
    whole = train(EVENTS, tmp_path / "whole", config=options)
    with pytest.raises(KeyboardInterrupt):
        train(EVENTS, tmp_path / "model", config=options, progress=Stop(3, 8))
    assert_equal_models(train(EVENTS, tmp_path / "model", config=options, resume=True), whole)
    parts = {"loss_coles", "loss_event_prediction"}
    assert set(history(whole)[0]) == {"epoch", "steps", "loss", "learning_rate"} | parts


def test_an_interrupt_keeps_ctrl_c_working(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(EVENTS, tmp_path / "model", config=config(), progress=Stop(1, 8))
    assert signal.getsignal(signal.SIGINT) is before


def test_an_unfinished_run_is_neither_overwritten_nor_continued_unasked(tmp_path: Path) -> None:
    model = tmp_path / "model"
    with pytest.raises(KeyboardInterrupt):
        train(EVENTS, model, config=config(), progress=Stop(2, 8))
    with pytest.raises(
        OutputError, match=r"unfinished run is in .*model\.partial.*--resume.*--overwrite"
    ):
        train(EVENTS, model, config=config())
    with pytest.raises(OutputError, match=r"other options \(seed: 0 there, 3 now\)"):
        train(EVENTS, model, config=config(seed=3), resume=True)
    train(EVENTS, model, config=config(2, seed=3), overwrite=True)
    assert len(history(model)) == 2


@pytest.mark.parametrize(
    "how", [{}, {"resume": True}, {"overwrite": True}, {"resume": True, "overwrite": True}]
)
def test_a_run_is_not_joined_by_another_one_with_the_same_output(
    how: dict[str, bool], tmp_path: Path
) -> None:
    class Join:
        """A progress during which the same is asked for again."""

        def __getattr__(self, name: str) -> Any:
            return getattr(silent, name)

        def say(self, line: str) -> None:
            with pytest.raises(OutputError, match=r"Another run is writing .*model just now"):
                train(EVENTS, tmp_path / "model", config=config(1), **how)
            said.append(line)

    said: list[str] = []
    train(EVENTS, tmp_path / "model", config=config(1), progress=Join())
    assert said
    assert len(history(tmp_path / "model")) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_run_is_not_resumed_with_other_events(tmp_path: Path) -> None:
    model, events = tmp_path / "model", tmp_path / "events.parquet"
    pq.write_table(EVENTS, events)
    with pytest.raises(KeyboardInterrupt):
        train(events, model, config=config(), progress=Stop(2, 8))
    pq.write_table(card_events(30), events)
    with pytest.raises(
        OutputError, match=r"has other events \(events\.parquet of [\d,]+ bytes, .*--overwrite"
    ):
        train(events, model, config=config(), resume=True)
    train(events, model, config=config(), overwrite=True)
    assert json.loads((model / "metrics.json").read_text())["clients"] == 30


def test_every_epoch_is_kept_also_where_none_is_better_than_the_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    figures = dict.fromkeys(
        ("recall_at_1", "positive_distance", "negative_distance", "effective_rank"), 0.5
    )
    monkeypatch.setattr(module, "embedding_metrics", lambda *_, **__: figures)
    with pytest.raises(KeyboardInterrupt):
        train(EVENTS, tmp_path / "model", config=config(), progress=Stop(4, 8))
    kept = torch.load(tmp_path / "model.partial" / "checkpoints" / "last.ckpt", weights_only=True)
    assert len(kept["history"]) == 3


def test_resume_leaves_a_finished_model_as_it_is(undisturbed: Path) -> None:
    before = (undisturbed / "model.safetensors").stat().st_mtime_ns
    train(EVENTS, undisturbed, config=config(), resume=True)
    assert (undisturbed / "model.safetensors").stat().st_mtime_ns == before


def test_resume_and_overwrite_together_go_on_with_the_same_run_and_replace_all_else(
    undisturbed: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    for options in (config(6), config()):
        with pytest.raises(KeyboardInterrupt):
            train(EVENTS, model, config=options, resume=True, overwrite=True, progress=Stop(2, 8))
    begun = (tmp_path / "model.partial" / "options.json").stat().st_mtime_ns
    with pytest.raises(KeyboardInterrupt):
        train(EVENTS, model, config=config(), resume=True, overwrite=True, progress=Stop(3, 8))
    assert (tmp_path / "model.partial" / "options.json").stat().st_mtime_ns == begun
    assert_equal_models(
        train(EVENTS, model, config=config(), resume=True, overwrite=True), undisturbed
    )
    train(EVENTS, model, config=config(1), resume=True, overwrite=True)
    assert len(history(model)) == 1


def test_a_model_that_exists_is_replaced_only_when_asked(tmp_path: Path) -> None:
    model = train(EVENTS, tmp_path / "model", config=config(1))
    with pytest.raises(OutputError, match="exists"):
        train(EVENTS, model, config=config(2))
    assert len(history(model)) == 1
    train(EVENTS, model, config=config(2), overwrite=True)
    assert len(history(model)) == 2
    assert list(tmp_path.iterdir()) == [model]


@pytest.mark.parametrize(
    ("events", "error"),
    [
        (EVENTS.drop_columns("client_id"), SchemaError),
        (EVENTS.set_column(1, "event_time", pa.nulls(len(EVENTS), pa.timestamp("us"))), InputError),
        (EVENTS.filter(pc.equal(EVENTS["client_id"], 100)), TrainingError),
    ],
)
def test_events_that_cannot_be_trained_on_leave_nothing_behind(
    events: Any, error: Any, tmp_path: Path
) -> None:
    with pytest.raises(error):
        train(events, tmp_path / "model", config=config())
    assert list(tmp_path.iterdir()) == []


def test_the_history_has_a_row_an_epoch_with_loss_rate_and_validation(undisturbed: Path) -> None:
    rows = history(undisturbed)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert all(
        {"loss", "learning_rate", "recall_at_1", "effective_rank"} <= set(row) for row in rows
    )
    assert rows[-1]["learning_rate"] < rows[1]["learning_rate"]


def test_the_weights_of_the_best_epoch_are_kept(tmp_path: Path) -> None:
    options = {"epochs": 5, "batch_size": 8, "validation_fraction": 0.3, "schedule": "constant"}
    five = train(EVENTS, tmp_path / "five", config=config(training=options))
    recalls = [row["recall_at_1"] for row in history(five)]
    best = recalls.index(max(recalls)) + 1
    short = train(EVENTS, tmp_path / "short", config=config(training=options | {"epochs": best}))
    assert history(short) == history(five)[:best]
    assert all(torch.equal(weights(short)[name], value) for name, value in weights(five).items())


def test_patience_ends_a_training_that_gets_no_better(tmp_path: Path) -> None:
    options = {
        "epochs": 20,
        "batch_size": 8,
        "validation_fraction": 0.3,
        "patience": 1,
        "learning_rate": 1e-9,
    }
    assert len(history(train(EVENTS, tmp_path / "model", config=config(training=options)))) == 2


@pytest.mark.parametrize(("patience", "epochs"), [(1, 20), (2, 20), (None, 3)])
def test_a_run_that_was_killed_after_its_last_epoch_is_resumed_without_another(
    patience: int | None, epochs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = {"learning_rate": 1e-9} if patience else {}
    stopping = {
        "epochs": epochs,
        "batch_size": 8,
        "validation_fraction": 0.3,
        "patience": patience,
    } | rate
    whole = train(EVENTS, tmp_path / "whole", config=config(training=stopping))
    assert len(history(whole)) == (patience + 1 if patience else epochs)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(seqmel.training.run, "write_model", killed)
        with pytest.raises(KeyboardInterrupt):
            train(EVENTS, tmp_path / "model", config=config(training=stopping))
    assert_equal_models(
        train(EVENTS, tmp_path / "model", config=config(training=stopping), resume=True), whole
    )


@pytest.mark.parametrize(
    ("rate", "found"),
    [(1e30, r"nan and began at \d\d\."), (1000.0, r"[\d.]+e\+\d+ and began at \d\d\.")],
)
def test_a_loss_out_of_all_bounds_ends_the_training_in_words(
    rate: float, found: str, tmp_path: Path
) -> None:
    options = {"epochs": 3, "batch_size": 8, "learning_rate": rate, "schedule": "constant"}
    message = (
        rf"diverged by step \d \(epoch 1\): the loss is {found}.*Lower "
        rf"training\.learning_rate \(it is (1000|1e\+30)\)"
    )
    with pytest.raises(TrainingError, match=message):
        train(EVENTS, tmp_path / "model", config=config(training=options))
    assert list(tmp_path.iterdir()) == []


def test_a_model_folder_carries_all_that_it_was_trained_with(undisturbed: Path) -> None:
    model = load_model(undisturbed)
    assert sorted(file.name for file in undisturbed.iterdir()) == [
        "README.md",
        "config.json",
        "curves.png",
        "metrics.json",
        "model.safetensors",
        "schema.json",
        "statistics.json",
        "vocabulary.json",
    ]
    assert model.schema.client == "client_id"
    assert set(model.vocabulary.categorical) | set(model.vocabulary.numeric) == set(
        model.schema.features
    )
    assert (model.metrics["clients"], model.metrics["events"]) == (24, len(EVENTS))
    assert model.config.views.max_length is not None
    card, rows = (undisturbed / "README.md").read_text(), history(undisturbed)
    assert "`client_id`" in card
    kept = max(rows, key=lambda row: row["recall_at_1"])
    assert f"| epoch {kept['epoch']:.0f} of {len(rows)}, which was kept | |" in card
    assert f"| clients held out | 7 |\n| recall at 1 | {kept['recall_at_1']:.4g} |" in card


def test_no_training_at_all_gives_the_untrained_encoder(tmp_path: Path) -> None:
    none = train(EVENTS, tmp_path / "none", config=config(0))
    assert history(none) == []
    assert weights(none).keys() == weights(train(EVENTS, tmp_path / "one", config=config(1))).keys()


def test_a_process_killed_in_the_middle_is_resumed(tmp_path: Path) -> None:
    pq.write_table(EVENTS, tmp_path / "events.parquet")
    model = tmp_path / "model"
    words: list[object] = ["train", tmp_path / "events.parquet", "-o", model, "--resume"]
    words += ["--device", "cpu", "--precision", "32-true", "--epochs", "12", "--batch-size", "8"]
    words += ["--set", "encoder.hidden_size=16", "--set", "event_encoder.hidden_size=16"]
    words += ["--set", "training.validation_fraction=0.3"]
    running = forked.start(*words)
    checkpoint = tmp_path / "model.partial" / "checkpoints" / "last.ckpt"
    while not checkpoint.exists() and running.is_alive():
        time.sleep(0.005)
    running.kill()
    running.join()
    assert running.exitcode == -signal.SIGKILL
    assert not model.exists()
    done = forked.run(*words)
    assert done.returncode == 0, done.stderr
    assert "epoch 1/12" not in done.stderr
    assert [row["epoch"] for row in history(model)] == list(range(1, 13))


def test_prepare_may_spill_to_disk_while_columns_are_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recognised = timeline.explain_schema
    spilled = []

    def after_a_sort(source: Any, options: Any) -> Any:
        source.rows(
            "SELECT hash(i) h, hash(h) FROM range(5_000_000) t(i) ORDER BY h LIMIT 1 OFFSET "
            "4_000_000"
        )
        spilled.append((tmp_path / "s.partial" / "sorting").exists())
        return recognised(source, options)

    monkeypatch.setattr(timeline, "explain_schema", after_a_sort)
    config = Config.from_dict({"preparation": {"memory_limit": "100MB"}})
    prepare(card_events(5), tmp_path / "s", config=config)
    assert spilled == [True]
    assert not (tmp_path / "s" / "sorting").exists()


@pytest.mark.parametrize(("name", "there"), [("client", "client_id"), ("time", "event_time")])
def test_sequences_are_not_trained_on_with_the_name_of_another_column(
    name: str, there: str, tmp_path: Path
) -> None:
    prepare(EVENTS, tmp_path / "s", config=config(1))
    with pytest.raises(
        SchemaError,
        match=rf"was prepared with the {name} column '{there}', not 'other'\. .*--{name}",
    ):
        train(tmp_path / "s", tmp_path / "model", config=config(1, schema={name: "other"}))
    train(tmp_path / "s", tmp_path / "model", config=config(1, schema={name: there}))


def test_a_program_that_works_in_float64_trains_the_same_weights(
    undisturbed: Path, tmp_path: Path
) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert_equal_models(train(EVENTS, tmp_path / "model", config=config()), undisturbed)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("tasks", ["1", "4"])
def test_one_process_of_a_slurm_allocation_trains_as_anywhere_else(
    tasks: str, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = {
        "JOB_ID": "1",
        "JOB_NAME": "night",
        "NTASKS": tasks,
        "PROCID": "0",
        "LOCALID": "0",
        "NODELIST": "n1",
    }
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert_equal_models(train(EVENTS, tmp_path / "model", config=config()), undisturbed)
