"""A search for options: what it may vary, its budget, its score, resuming, and what it writes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from in_process import InProcess
from small import card_events

from seqmel.config import read_config
from seqmel.core.errors import ConfigError, InputError, OutputError
from seqmel.experiment import tuning as home
from seqmel.experiment.tuning import Tuned, read_space, tune
from seqmel.model import load_model

pytest.importorskip("optuna")

EVENTS = card_events(40)
IDS = np.unique(EVENTS["client_id"].to_numpy())
ODD = np.where(IDS % 3 > 0, (IDS - 100) // 7 % 4 % 2, IDS % 2)  # the events tell some of it
LABELS = pd.DataFrame({"client_id": IDS, "odd": ODD})
SETTINGS = (
    "encoder=none",
    "event_encoder.hidden_size=8",
    "training.batch_size=8",
    "training.epochs=1",
    "training.validation_fraction=0.3",
    "preparation.threads=1",
    "objective=coles",
    "pooling=[mean]",
    "recency_features=false",
    "device=cpu",
    "precision=32-true",
)
SPACE: dict[str, Any] = {
    "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "event_encoder.hidden_size": [4, 8],
}


def search(folder: Path, **options: Any) -> Tuned:
    return tune(EVENTS, folder, **{"settings": SETTINGS, "space": SPACE, "trials": 3} | options)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tuned]:
    folder = tmp_path_factory.mktemp("tune") / "study"
    return folder, search(folder, labels=LABELS, target="odd", trials=5)


def test_the_first_trial_is_the_options_as_they_are(labelled: tuple[Path, Tuned]) -> None:
    _, found = labelled
    assert found.metric == "auroc"
    assert found.trials["state"].tolist() == ["complete"] * 5
    assert found.trials.loc[0, list(SPACE)].isna().all()
    assert found.trials.loc[1:, "training.learning_rate"].between(1e-4, 1e-2).all()
    assert set(found.trials.loc[1:, "event_encoder.hidden_size"]) <= {4, 8}
    assert found.trials[["score", "test"]].stack().between(0, 1).all()
    assert found.best["score"] == found.trials["score"].max()


def test_times_to_an_event_are_searched_by_concordance(tmp_path: Path) -> None:
    times = LABELS.assign(days=10.0 + 20 * ODD + IDS % 5, seen=IDS % 3 > 0)
    given: dict[str, Any] = {"labels": times, "target": "days", "task": "survival"}
    found = search(tmp_path / "study", **given, observed="seen", trials=1)
    assert found.metric == "concordance"
    assert 0.4 < found.best["score"] <= 1
    assert 0.4 < found.best["test"] <= 1
    for more, words in (
        ({"observed": "seen", "metric": "calibration"}, "best at 1"),
        ({"observed": "seen", "task": "auto"}, "belongs to the task survival"),
        ({"observed": "seen", "labels": None, "target": None}, "are of labels"),
    ):
        with pytest.raises(ConfigError, match=words):
            search(tmp_path / "none", **(given | more))
    assert not (tmp_path / "none").exists()


def test_the_model_and_the_options_are_those_of_the_best_trial(
    labelled: tuple[Path, Tuned],
) -> None:
    folder, found = labelled
    best, config = found.best, read_config(folder / "best.yaml")
    assert load_model(folder / "model").config.training.learning_rate == pytest.approx(
        config.training.learning_rate
    )
    if best["trial"] > 0:
        assert config.training.learning_rate == pytest.approx(best["training.learning_rate"])
    table = pd.read_csv(folder / "trials.csv")
    assert table["score"].tolist() == pytest.approx(found.trials["score"].tolist())


def test_what_mattered_adds_up_to_one(labelled: tuple[Path, Tuned]) -> None:
    found = labelled[1]
    assert set(found.importance) == set(SPACE)
    assert sum(found.importance.values()) == pytest.approx(1)
    words = found.summary()
    assert words.startswith("5 complete trials\nas they were: auroc ")
    assert "what mattered" in words


def test_a_search_is_resumed_up_to_the_number_of_trials(labelled: tuple[Path, Tuned]) -> None:
    folder, before = labelled
    with pytest.raises(OutputError, match="Continue the search with --resume"):
        search(folder, labels=LABELS, target="odd")
    with pytest.raises(OutputError, match="has another space"):
        search(folder, labels=LABELS, target="odd", resume=True, space={"loss.temperature": [1]})
    found = search(folder, labels=LABELS, target="odd", resume=True, trials=6)
    assert len(found.trials) == 6
    drawn = found.trials["training.learning_rate"]
    assert drawn[:5].tolist()[1:] == before.trials["training.learning_rate"].tolist()[1:]
    assert drawn[5] not in drawn[1:5].tolist()


def test_without_labels_the_score_is_recall_and_the_time_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = search(tmp_path / "study", trials=None, minutes=1e-9)
    assert found.metric == "recall_at_1"
    assert found.trials["state"].tolist() == ["complete"]  # the first is finished in any case
    model = load_model(tmp_path / "study" / "model")
    recalls = [row["recall_at_1"] for row in model.metrics["history"]]
    assert found.best["score"] == max(recalls)
    assert not found.importance


class Pruning:
    """A trial that counts its reports and is to be pruned."""

    number = 1

    def __init__(self) -> None:
        self.reports: list[tuple[float, int]] = []

    def report(self, value: float, step: int) -> None:
        self.reports.append((value, step))

    def should_prune(self) -> bool:
        return len(self.reports) > 1


def test_a_trial_behind_the_others_is_stopped_after_an_epoch() -> None:
    import optuna

    search: Any = type("S", (), {"optuna": optuna, "scoring": None})
    trial: Any = Pruning()
    watch = home._Watch(search, trial, math.inf)
    watch.record("epoch", {"epoch": 1.0, "recall_at_1": 0.5})
    with pytest.raises(optuna.TrialPruned):
        watch.record("epoch", {"epoch": 2.0, "recall_at_1": 0.4})
    assert trial.reports == [(0.5, 1), (0.5, 2)]
    assert watch.task("epoch", 1, "clients") is not None
    with pytest.raises(optuna.TrialPruned, match="out of time"):
        home._Watch(search, trial, 0.0).record("epoch", {"epoch": 3.0})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"space": {"training.learning_rat": [1]}}, "learning_rate"),
        ({"space": {"training.learning_rate": [-1]}}, "training.learning_rate"),
        ({"space": {"training.learning_rate": 3}}, "has 3. Expected a list of values, or a range"),
        ({"space": {"training.learning_rate": {"low": 2, "high": 1}}}, "low must be a number"),
        ({"space": {"event_encoder.dropout": {"low": 0, "high": 0.5, "log": True}}}, "begins abo"),
        ({"space": {"schema.client": ["a"]}}, "the same for all trials"),
        ({"space": {"views.count": [2, 3]}}, "so give labels"),
        ({"trials": 0}, "trials is 0"),
        ({"trials": None, "minutes": -1.0}, "minutes is -1.0"),
        ({"labels": LABELS}, "belong together"),
        ({"metric": "auroc"}, "metric is 'auroc', and there are no labels to measure it on"),
        ({"labels": LABELS, "target": "odd", "metric": "aurok"}, "Did you mean 'auroc'"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        search(tmp_path / "study", **options)
    assert not (tmp_path / "study").exists()


def test_events_that_cannot_be_trained_on_end_the_search_with_their_reason(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Found 1 of 1 client"):
        tune(card_events(1), tmp_path / "study", settings=SETTINGS, space=SPACE, trials=2)
    assert not (tmp_path / "study").exists()


def test_a_space_is_read_from_yaml(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE))
    assert read_space(tmp_path / "space.yaml") == SPACE
    for text, message in (("[1]", "holds no options"), ("a: [", "not valid YAML")):
        (tmp_path / "space.yaml").write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_space(tmp_path / "space.yaml")
    with pytest.raises(ConfigError, match="No such search space"):
        read_space(tmp_path / "nothing.yaml")


def test_the_command_tells_what_it_found(tmp_path: Path, in_process: InProcess) -> None:
    pq.write_table(EVENTS, tmp_path / "events.parquet")
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE))
    words = [word for setting in SETTINGS for word in ("--set", setting)]
    done = in_process.seqmel(
        "tune", tmp_path / "events.parquet", "-o", tmp_path / "study",
        "--trials", 1, "--space", tmp_path / "space.yaml", *words,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1 complete trials\nas they were: recall_at_1 0." in done.stdout
    assert done.stdout.endswith(f"options in {tmp_path / 'study' / 'best.yaml'}\n")
