"""Search for better options of a training with Optuna (Akiba et al., arXiv 1907.10902).

The first trial is the options as they are, so that the gain of the search is known.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from seqmel.config import Config, parse_yaml, read_config, to_yaml
from seqmel.core.atomic_files import atomic_write, exclusive_lock
from seqmel.core.errors import (
    ConfigError,
    InputError,
    OutputError,
    SeqmelError,
    TrainingError,
    shown,
)
from seqmel.core.progress import Progress, Reporting, as_progress, silent
from seqmel.core.units import count_words
from seqmel.data.sequences.prepared import is_prepared, open_prepared
from seqmel.data.sources.reading import Events
from seqmel.data.tables.labels import (
    Table,
    align,
    likely_client,
    read_labels,
    read_observed,
    say_undated,
)
from seqmel.data.tables.targets import TargetTask
from seqmel.evaluation.downstream import LinearProbe
from seqmel.evaluation.metrics import Floats
from seqmel.evaluation.problem import Problem, feature_matrix, signed_labels
from seqmel.inference.embed import embed
from seqmel.model import TrainedModel
from seqmel.training.run import prepare, train_model, write_model

if TYPE_CHECKING:
    import optuna

__all__ = ["DEFAULT_SPACE", "Tuned", "read_space", "tune"]

DEFAULT_SPACE: dict[str, Any] = {
    "training.learning_rate": {"low": 3e-4, "high": 3e-3, "log": True},
    "training.batch_size": [32, 64, 128],
    "event_encoder.hidden_size": [64, 128, 256],
    "event_encoder.dropout": {"low": 0.0, "high": 0.3},
    "event_encoder.category_dropout": {"low": 0.0, "high": 0.1},
    "loss.temperature": {"low": 0.05, "high": 0.3, "log": True},
}
"""Option -> its values, or the range of its numbers."""

_FIXED = ("schema", "preparation", "seed", "device", "devices", "precision")
_OF_RECALL = ("views", "training.validation_fraction", "training.min_events")
_DATED = "Give labels of clients, or events before the moments: a search has no --time-column."
_TEST_FRACTION = 0.25
_FOLDS = 3
_PRUNED_AFTER = 4  # finished trials that a running one is compared with
_LOWER_IS_BETTER = ("log_loss", "brier", "calibration_error", "rmse", "mae")


@dataclass(frozen=True)
class Tuned:
    """What a search has found.

    Attributes:
        metric: The score: "recall_at_1", or that of the labels.
        trials: One row per trial: its number, state, score, `test` on the labelled clients that
            chose nothing, seconds, and options.
        importance: Option -> fraction of the variance of the scores that it explains (fANOVA);
            empty after fewer than four complete trials.
    """

    metric: str
    trials: pd.DataFrame
    importance: dict[str, float]

    @property
    def best(self) -> pd.Series[Any]:
        """The complete trial with the best score."""
        complete = self.trials[self.trials["state"] == "complete"]
        lowest = self.metric in _LOWER_IS_BETTER
        place = complete["score"].idxmin() if lowest else complete["score"].idxmax()
        best: pd.Series[Any] = complete.loc[place]
        return best

    def summary(self) -> str:
        """Describe the best trial, what it gained, and what mattered."""
        best = self.best
        first = self.trials.iloc[0]
        states = self.trials["state"].value_counts()
        lines = [", ".join(f"{count} {state}" for state, count in states.items()) + " trials"]
        for name, row in (("as they were", first), (f"best, trial {best['trial']}", best)):
            test = "" if pd.isna(row["test"]) else f", on the test clients {row['test']:.4f}"
            score = "-" if pd.isna(row["score"]) else f"{row['score']:.4f}"
            lines.append(f"{name}: {self.metric} {score}{test}")
        options = best.drop(["trial", "state", "score", "test", "seconds"]).dropna()
        lines += [f"  {name}: {_shown(value)}" for name, value in options.items()]
        if self.importance:
            lines.append("what mattered (fraction of the variance of the scores):")
            lines += [f"  {share:.2f}  {name}" for name, share in self.importance.items()]
        return "\n".join(lines)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def read_space(path: str | Path) -> dict[str, Any]:
    """Read a search space from YAML: option -> values, or {low, high, log}.

    Raises:
        ConfigError: It cannot be read, or is no such mapping.
    """
    try:
        space = parse_yaml(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"No such search space: {path}.") from None
    except OSError as error:
        raise ConfigError(
            f"The search space {path} cannot be read: {error.strerror or error}."
        ) from None
    except ValueError:
        raise ConfigError(f"The search space {path} is not text in UTF-8.") from None
    except Exception as error:  # of yaml, which only the config imports
        line = str(error).splitlines()[0]
        raise ConfigError(f"The search space {path} is not valid YAML: {line}") from None
    if not isinstance(space, dict) or not space:
        raise ConfigError(f"{path} holds no options. Expected lines such as {_EXAMPLE}.")
    return space


_EXAMPLE = "training.learning_rate: {low: 0.0003, high: 0.003, log: true}"


def tune(
    events: Events,
    output: str | Path,
    *,
    labels: Table | None = None,
    target: str | None = None,
    client: str | None = None,
    task: TargetTask = "auto",
    observed: str | None = None,
    metric: str | None = None,
    space: Mapping[str, Any] | None = None,
    trials: int | None = None,
    minutes: float | None = None,
    config_path: str | Path | None = None,
    settings: tuple[str, ...] = (),
    flags: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Reporting = None,
) -> Tuned:
    """Train with many options, and keep the best model in `<output>/model`.

    With labels the score is that of a linear probe on the vectors, cross-validated on three
    quarters of the labelled clients; the other quarter is the test, which chooses nothing. Without
    labels it is the recall@1 of the validation clients, and trials that fall behind the median of
    the others are stopped early.

    Args:
        events: See `open_events`, or a folder of prepared sequences.
        output: The folder to write.
        labels: A table with one row per client.
        target: The column of the labels.
        client: The client column of the labels; None recognises it.
        task: The task of the target, see `score`. "survival" takes times to an event, which may be
            censored.
        observed: With the task "survival", the column of the labels that says whether the event was
            observed; None takes TARGET_observed.
        metric: The metric of the target; None takes AUROC, accuracy, R2 or concordance.
        space: Option -> list of values, or {"low", "high", "log"}; None takes `DEFAULT_SPACE`.
        trials: Number of trials in all, with those before a resume; 20 if no budget is given.
        minutes: Stop after this time; the trial that runs then ends with its epoch.
        config_path: A YAML file with the options that are not searched.
        settings: Further options as `name=value`.
        flags: Further options by dotted name.
        resume: Continue a search with the same inputs, if there is one.
        overwrite: Replace existing output.
        progress: Where to report progress.

    Returns:
        All trials, and what mattered.

    Raises:
        ConfigError: Optuna is missing, or an option is invalid or cannot be searched.
        InputError: The events or labels cannot be used.
        OutputError: The output exists, or is of another search.
    """
    optuna = _import()
    output = Path(output)
    reporter = as_progress(progress)
    space = dict(DEFAULT_SPACE if space is None else space)
    trials = 20 if trials is None and minutes is None else trials
    _check_budget(trials, minutes)

    def config_of(chosen: Mapping[str, Any]) -> Config:
        said = [f"{name}={json.dumps(value)}" for name, value in chosen.items()]
        return read_config(config_path, [*settings, *said], **(flags or {}))

    _check_space(space, config_of, labelled=labels is not None)
    if metric is not None and labels is None:
        raise ConfigError(
            f"metric is {metric!r}, and there are no labels to measure it on. Give labels and a "
            "target; without them trials are compared by recall_at_1."
        )
    y = _labels(labels, target, client, config_of({}), task, observed)
    asked = {
        "space": space,
        "options": config_of({}).to_dict(),
        "target": target,
        "metric": metric,
        "labels": None if y is None else int(pd.util.hash_pandas_object(y).sum()),
    }
    if task != "auto":
        asked["task"] = task
    with exclusive_lock(output.with_name(output.name + ".partial"), output):
        _check_folder(output, asked, resume=resume, overwrite=overwrite)
        study = None
        try:
            prepared = events if is_prepared(events) else output / "prepared"
            if not is_prepared(prepared):
                shutil.rmtree(output / "prepared", ignore_errors=True)
                prepare(events, output / "prepared", config=config_of({}), progress=reporter)
            if labels is not None:
                time_column = open_prepared(prepared).schema.time
                say_undated(labels, time_column, reporter, hint=_DATED)
            scoring = None if y is None else _Scoring.of(y, prepared, metric, config_of({}), task)
            name = "recall_at_1" if scoring is None else scoring.metric
            search = _Search(optuna, output, space, config_of, prepared, scoring, name)
            study = search.study()
            _run(search, study, trials, minutes, reporter)
        except SeqmelError:
            if study is None or not any(trial.value is not None for trial in study.trials):
                shutil.rmtree(output)  # there is nothing to continue
            raise
        return _finish(search, study)


def _import() -> Any:
    try:
        import optuna
    except ImportError:
        raise ConfigError(
            "Tuning needs the package optuna. Install it: pip install 'seqmel[tune]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _check_budget(trials: int | None, minutes: float | None) -> None:
    if trials is not None and trials < 1:
        raise ConfigError(f"trials is {trials}. Expected a whole number of at least 1.")
    if minutes is not None and not 0 < minutes < math.inf:
        raise ConfigError(f"minutes is {minutes}. Expected a number above 0.")


def _check_space(
    space: Mapping[str, Any], config_of: Callable[[Mapping[str, Any]], Config], *, labelled: bool
) -> None:
    """Check each option with its first and its last value, before any work."""
    fixed = _FIXED if labelled else _FIXED + _OF_RECALL
    for name, values in space.items():
        if any(name == part or name.startswith(f"{part}.") for part in fixed):
            why = (
                "it is the same for all trials"
                if name.split(".")[0] in _FIXED
                else "it changes what recall@1 measures, so give labels"
            )
            raise ConfigError(f"{name} cannot be searched: {why}. Leave it out of the space.")
        if isinstance(values, list) and values:
            tried = values
        elif isinstance(values, dict) and {"low", "high"} <= set(values) <= {"low", "high", "log"}:
            tried = [values["low"], values["high"]]
            if not all(type(value) in (int, float) for value in tried) or tried[0] >= tried[1]:
                raise ConfigError(f"{name}: low must be a number below high, found {values}.")
            if values.get("log") and tried[0] <= 0:
                raise ConfigError(f"{name}: a range with log begins above 0, found {tried[0]}.")
        else:
            raise ConfigError(
                f"{name} has {values!r}. Expected a list of values, or a range such as {_EXAMPLE}."
            )
        for value in tried:
            config_of({name: value})


def _labels(
    labels: Table | None,
    target: str | None,
    client: str | None,
    config: Config,
    task: TargetTask,
    observed: str | None,
) -> pd.Series[Any] | None:
    """Return the labels, times to an event as signed numbers; None without labels."""
    if (labels is None) != (target is None):
        raise ConfigError("Labels and target belong together. Give both (--labels, --target).")
    if labels is None or target is None:
        if task != "auto" or observed is not None:
            raise ConfigError(
                "A task and its column (--task, --observed) are of labels. Give them, with --labels"
                " and --target."
            )
        return None
    of_events = config.schema.client
    client = client or (likely_client(labels, of_events) if of_events else None)
    y = read_labels(labels, target, client=client).dropna()
    happened = read_observed(labels, target, task, observed, client=client)
    return signed_labels(
        y, task, happened, config.finetuning.time_edges if happened is not None else None
    )


def _check_folder(output: Path, asked: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
    """Make the folder of the search, or check that the one that is there can be resumed."""
    file = output / "search.json"
    written = json.loads(json.dumps(asked))
    if output.exists() and overwrite and not resume:
        if not file.is_file():
            raise OutputError(f"{output} is not the folder of a search. Name another folder.")
        shutil.rmtree(output)
    if output.exists():
        if not resume:
            raise OutputError(
                f"{output} exists. Continue the search with --resume, or replace it with "
                "--overwrite."
            )
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise OutputError(
                f"{output} is not the folder of a search. Name another folder."
            ) from None
        changed = [name for name in written if before.get(name) != written[name]]
        if changed:
            raise OutputError(
                f"The search in {output} has another {shown(changed)}. Continue it with the same, "
                "or replace it with --overwrite."
            )
    output.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as partial:
        partial.write_text(json.dumps(written), encoding="utf-8")


@dataclass(frozen=True)
class _Scoring:
    """Scores vectors by labels: by folds of one part, and by the test part."""

    y: pd.Series[Any]
    folds: Problem
    test: Problem
    metric: str
    tuning: Any
    seed: int

    @classmethod
    def of(
        cls, y: pd.Series[Any], prepared: Any, metric: str | None, config: Config, task: TargetTask
    ) -> _Scoring:
        """Split the labelled clients that have events."""
        if metric == "calibration":
            raise ConfigError(
                "metric cannot be calibration, which is best at 1. Take calibration_error."
            )
        seed, edges = config.seed, config.finetuning.time_edges
        ids = pd.Index(open_prepared(prepared).sequences.client_ids.to_pandas())
        y = align(y, pd.DataFrame(index=ids))[0]
        whole = Problem.of(y, task, round(1 / _TEST_FRACTION), seed, edges=edges)
        train, test = whole.splits[0]
        if len(train) < 2 * _FOLDS:
            raise InputError(
                f"Only {count_words(len(y), 'client has', 'clients have')} a label and events: too "
                "few to tune."
            )
        tuning = y.iloc[train]
        folds = Problem.of(tuning, whole.task, _FOLDS, seed, edges=whole.edges or None)
        split = dataclasses.replace(whole, splits=((train, test),), about={})
        return cls(y, folds, split, whole.chosen(metric), train, seed)

    def score(self, model: TrainedModel, prepared: Any) -> tuple[float, float]:
        """Return the score by folds and that of the test part."""
        parts = [
            pd.DataFrame(vectors.numpy(), index=pd.Index(clients.to_pandas()))
            for clients, vectors in embed(model, prepared, progress=silent)
        ]
        x = feature_matrix(align(self.y, pd.concat(parts))[1], "vectors")
        probe = LinearProbe(self.seed)
        own = x[self.tuning]
        found = [
            self.folds.measure(self.folds.predict(own, fold, probe), fold)[self.metric][0]
            for fold in range(_FOLDS)
        ]
        return float(np.mean(found)), self._of_test(x, probe)

    def _of_test(self, x: Floats, probe: LinearProbe) -> float:
        return float(self.test.measure(self.test.predict(x, 0, probe), 0)[self.metric][0])


@dataclass(frozen=True)
class _Search:
    """What all trials share."""

    optuna: Any
    output: Path
    space: Mapping[str, Any]
    config_of: Callable[[Mapping[str, Any]], Config]
    prepared: Any
    scoring: _Scoring | None
    metric: str

    @property
    def direction(self) -> str:
        return "minimize" if self.metric in _LOWER_IS_BETTER else "maximize"

    def study(self) -> optuna.Study:
        """Create or load the study, of which the first trial is the options as they are."""
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        storage = JournalStorage(JournalFileBackend(str(self.output / "trials.log")))
        before = sum(study.n_trials for study in self.optuna.get_all_study_summaries(storage))
        seed = self.config_of({}).seed  # another one after a resume, or it draws the same again
        study: optuna.Study = self.optuna.create_study(
            storage=storage,
            study_name="seqmel",
            direction=self.direction,
            load_if_exists=True,
            sampler=self.optuna.samplers.TPESampler(seed=(seed + before) % 2**32),
            pruner=self.optuna.pruners.MedianPruner(n_startup_trials=_PRUNED_AFTER),
        )
        return study

    def choose(self, trial: optuna.Trial) -> dict[str, Any]:
        """Return the options of a trial; none of the first."""
        if trial.number == 0:
            return {}
        chosen = {}
        for name, values in self.space.items():
            if isinstance(values, list):
                place = trial.suggest_categorical(name, [json.dumps(value) for value in values])
                chosen[name] = json.loads(place)
            else:
                log = bool(values.get("log", False))
                whole = all(type(values[end]) is int for end in ("low", "high"))
                suggest = trial.suggest_int if whole else trial.suggest_float
                chosen[name] = suggest(name, values["low"], values["high"], log=log)
        return chosen


class _Watch:
    """The progress of one trial: reports each epoch to Optuna, which may end the trial."""

    def __init__(self, search: _Search, trial: optuna.Trial, deadline: float) -> None:
        self.search = search
        self.trial = trial
        self.deadline = deadline
        self.best = -math.inf

    def say(self, line: str) -> None:
        """Warnings of single trials are not shown."""

    def task(self, name: str, total: int | None, unit: str, *, quiet: bool = False) -> Any:
        """Show no bars of single trials."""
        return silent.task(name, total, unit, quiet=quiet)

    def record(self, event: str, figures: Mapping[str, Any]) -> None:
        """Report an epoch."""
        if event != "epoch":
            return
        if time.monotonic() > self.deadline and self.trial.number > 0:
            raise self.search.optuna.TrialPruned("out of time")
        if self.search.scoring is None and "recall_at_1" in figures:
            self.best = max(self.best, float(figures["recall_at_1"]))
            self.trial.report(self.best, int(figures["epoch"]))
            if self.trial.number > 0 and self.trial.should_prune():
                raise self.search.optuna.TrialPruned("behind the median")


def _run(
    search: _Search,
    study: optuna.Study,
    trials: int | None,
    minutes: float | None,
    progress: Progress,
) -> None:
    """Run trials until the budget is used up."""
    states = search.optuna.trial.TrialState
    done = sum(trial.state.is_finished() for trial in study.trials)
    left = None if trials is None else max(0, trials - done)
    deadline = time.monotonic() + 60 * minutes if minutes is not None else math.inf

    def objective(trial: optuna.Trial) -> float:
        began = time.monotonic()
        config = search.config_of(search.choose(trial))
        watch = _Watch(search, trial, deadline)
        try:
            model = train_model(search.prepared, config=config, progress=watch)
        except TrainingError as error:
            if trial.number == 0:  # of the options as they are; it ends the search
                raise InputError(str(error)) from None
            raise
        if search.scoring is None:
            score = _best_recall(model)
            test = math.nan
        else:
            score, test = search.scoring.score(model, search.prepared)
        trial.set_user_attr("test", test)
        trial.set_user_attr("seconds", round(time.monotonic() - began, 1))
        if _is_best(study, score):
            with atomic_write(search.output / "model") as partial:
                write_model(partial, model)
        return score

    with progress.task("tune", left, "trials") as bar:

        def report(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
            note = "" if trial.value is None else f"{search.metric} {trial.value:.4f}"
            bar.advance(1, note if trial.state == states.COMPLETE else "stopped early")
            if time.monotonic() > deadline:
                study.stop()

        if left != 0:
            study.optimize(objective, n_trials=left, callbacks=[report], catch=(TrainingError,))


def _best_recall(model: TrainedModel) -> float:
    rows = model.metrics["history"]
    if not rows or "recall_at_1" not in rows[0]:
        raise InputError(
            "There are no validation clients to score by. Raise training.validation_fraction or "
            "the epochs, or give labels."
        )
    return max(float(row["recall_at_1"]) for row in rows)


def _is_best(study: optuna.Study, score: float) -> bool:
    try:
        before = study.best_value
    except ValueError:  # no trial is complete
        return True
    return score < before if study.direction.name == "MINIMIZE" else score > before


def _finish(search: _Search, study: optuna.Study) -> Tuned:
    """Write the table of trials and the best options."""
    rows = [
        {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            "score": trial.value if trial.state.name == "COMPLETE" else None,
            "test": trial.user_attrs.get("test"),
            "seconds": trial.user_attrs.get("seconds"),
            **{name: _plain(search, name, value) for name, value in trial.params.items()},
        }
        for trial in study.trials
        if trial.state.is_finished()
    ]
    columns = ["trial", "state", "score", "test", "seconds", *search.space]
    table = pd.DataFrame(rows, columns=columns)
    if not (table["state"] == "complete").any():
        raise InputError("No trial is complete. Give more minutes or trials, and --resume.")
    tuned = Tuned(search.metric, table, _importance(search, study))
    best = study.best_trial.params
    chosen = {name: _plain(search, name, value) for name, value in best.items()}
    with atomic_write(search.output / "trials.csv") as partial:
        table.to_csv(partial, index=False)
    with atomic_write(search.output / "best.yaml") as partial:
        partial.write_text(to_yaml(search.config_of(chosen)), encoding="utf-8")
    return tuned


def _plain(search: _Search, name: str, value: Any) -> Any:
    return json.loads(value) if isinstance(search.space[name], list) else value


def _importance(search: _Search, study: optuna.Study) -> dict[str, float]:
    complete = [t for t in study.trials if t.state.name == "COMPLETE" and t.params]
    if len(complete) < _PRUNED_AFTER or len({t.value for t in complete}) < 2:
        return {}
    evaluator = search.optuna.importance.FanovaImportanceEvaluator(seed=0)
    found = search.optuna.importance.get_param_importances(
        study, evaluator=evaluator, params=list(search.space)
    )
    return {name: float(value) for name, value in found.items()}
