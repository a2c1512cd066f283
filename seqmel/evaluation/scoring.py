"""Score sets of features against one target: LightGBM, the same clients and the same folds for every set.

The protocol is that of CoLES (Babaev et al., arXiv 2002.08232): stratified folds, gradient boosting on the vector as it
is, mean over the folds with a 95 % interval. Since the folds are shared, two sets are compared by their difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from seqmel.data.labels import Task, check_classes, match, recognise_task, to_quantities
from seqmel.errors import ConfigError, InputError, shown
from seqmel.evaluation.results import Score, Scores

__all__ = ["Progress", "Task", "score"]

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called after each fold: name of the features, how many folds of all sets are done, and how many there are."""

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Places: TypeAlias = npt.NDArray[np.intp]

_MIN_IN_LEAF = 50
_PARAMETERS = {
    "learning_rate": 0.02,
    "max_depth": 6,
    "num_leaves": 31,
    "bagging_fraction": 0.75,
    "bagging_freq": 1,
    "feature_fraction": 0.25,
    "lambda_l1": 1.0,
    "lambda_l2": 1.0,
    "deterministic": True,
    "force_col_wise": True,  # which way is faster is else found by trial, and the two differ in the last digits
    "verbosity": -1,
}


def score(
    y: pd.Series[Any],
    features: Mapping[str, pd.DataFrame],
    *,
    averages: Mapping[str, Sequence[str]] | None = None,
    task: Task = "auto",
    folds: int = 5,
    seed: int = 0,
    trees: int = 500,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Cross-validate LightGBM on every set of features.

    Args:
        y: one label a client, indexed by client id, as from `read_labels`; clients whose label is null are left out.
        features: name -> one row a client, numbers only, indexed by client id; NaN is missing. A client that one set
            lacks is left out of all.
        averages: name -> sets of features whose own models are averaged, with no further training: the geometric mean
            of their probabilities, or the mean of their quantities.
        task: "auto" takes a number with more than 20 different values as a quantity and all else as classes.
        folds: how many; stratified by class.
        seed: of the folds and of LightGBM: the same seed and clients give the same scores, in any order of the rows.
        trees: how many trees LightGBM grows.
        threads: how many threads it may use; all cores where None.
        progress: called after each fold.

    Raises:
        ConfigError: no features, an unknown task, folds below 2, trees or threads below 1, a negative seed.
        InputError: no client in common, fewer than two clients a fold, one class, a class with fewer clients than
            folds, or a target or feature that is not numeric where it has to be.
    """
    _check_options(features, task, folds, seed, trees, threads)
    y = y.dropna()
    matched = {name: match(y, table)[1] for name, table in features.items()}
    clients = _common(y, matched, folds)
    problem = _Problem.of(y.loc[clients], task, folds, seed)
    parameters = problem.parameters | {"seed": seed, "num_threads": threads or 0}
    predicted: dict[str, list[Floats]] = {name: [] for name in matched}
    for name, table in matched.items():
        x = _matrix(table.loc[clients], name)
        for fold in range(folds):
            predicted[name].append(problem.predict(x, fold, parameters, trees))
            if progress:
                progress(name, sum(map(len, predicted.values())), folds * len(matched))
    for name, parts in (averages or {}).items():
        predicted[name] = [problem.average([predicted[part][fold] for part in parts]) for fold in range(folds)]
    rows: list[Score] = []
    for name, of_folds in predicted.items():
        found = [problem.measure(values, fold) for fold, values in enumerate(of_folds)]
        rows += [Score(name, metric, tuple(values[metric] for values in found)) for metric in found[0]]
    return Scores(
        target=str(y.name),
        task="classification" if problem.classes else "regression",
        primary=problem.primary,
        rows=tuple(rows),
        clients=len(clients),
        labelled=len(y),
        matched={name: len(matched[name]) if name in matched else len(clients) for name in predicted},
        classes=problem.class_counts,
        seed=seed,
        trees=trees,
    )


def _check_options(
    features: Mapping[str, pd.DataFrame], task: str, folds: int, seed: int, trees: int, threads: int | None
) -> None:
    if not features:
        raise ConfigError("No features to score. Give embeddings, or events for the hand-crafted aggregates.")
    if task not in get_args(Task):
        raise ConfigError(f"task is {task!r}. Expected one of: {', '.join(get_args(Task))}.")
    for name, value, least in (("folds", folds, 2), ("trees", trees, 1), ("threads", threads, 1), ("seed", seed, 0)):
        if value is not None and not least <= value < 2**31:
            raise ConfigError(f"{name} is {value}. Expected {least} or more, below 2**31.")


def _common(y: pd.Series[Any], matched: Mapping[str, pd.DataFrame], folds: int) -> pd.Index[Any]:
    """The clients that every set has, ordered by their text, so that the order of the rows changes nothing."""
    in_all = np.logical_and.reduce([y.index.isin(table.index) for table in matched.values()])
    clients = y.index[in_all]
    if len(clients) < 2 * folds:
        each = ", ".join(f"{name} {len(table):,}" for name, table in matched.items())
        raise InputError(
            f"{folds} folds need at least {2 * folds} clients with a label and all features; there are {len(clients)}"
            f" (labels: {len(y):,}; with features: {each}). Give more labels, or fewer folds (--folds)."
        )
    text = np.array([str(client) for client in clients])
    ordered: pd.Index[Any] = clients[np.argsort(text, kind="stable")]
    return ordered


@dataclass(frozen=True)
class _Problem:
    """What is predicted, and on which folds.

    Attributes:
        target: (clients,) codes of the classes, or quantities.
        classes: their names by code; empty for a quantity.
        splits: for each fold the places to train on and to test on.
    """

    target: npt.NDArray[Any]
    classes: tuple[str, ...]
    splits: tuple[tuple[Places, Places], ...]

    @classmethod
    def of(cls, y: pd.Series[Any], task: Task, folds: int, seed: int) -> _Problem:
        from sklearn.model_selection import KFold, StratifiedKFold

        if (recognise_task(y) if task == "auto" else task) == "regression":
            quantities = to_quantities(y)
            splitter = KFold(folds, shuffle=True, random_state=seed)
            return cls(quantities, (), tuple(splitter.split(quantities)))
        classes, codes = np.unique(y.to_numpy(), return_inverse=True)
        _check_folds(y, folds)
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
        return cls(codes, tuple(str(c) for c in classes), tuple(splitter.split(codes, codes)))

    @property
    def primary(self) -> str:
        return ("auroc" if len(self.classes) == 2 else "accuracy") if self.classes else "r2"

    @property
    def class_counts(self) -> dict[str, int]:
        return {name: int((self.target == code).sum()) for code, name in enumerate(self.classes)}

    @property
    def parameters(self) -> dict[str, object]:
        """LightGBM's parameters; smaller leaves where clients are few, or there would be no split at all."""
        train = len(self.splits[0][0])
        objective: dict[str, object] = {"objective": "regression"}
        if self.classes:
            objective = {"objective": "binary"}
        if len(self.classes) > 2:
            objective = {"objective": "multiclass", "num_class": len(self.classes)}
        return _PARAMETERS | objective | {"min_data_in_leaf": min(_MIN_IN_LEAF, max(1, train // 20))}

    def predict(self, x: Floats, fold: int, parameters: dict[str, object], trees: int) -> Floats:
        """Train on a fold's training part, and predict its test part: (clients, classes), or (clients,) quantities."""
        import lightgbm

        train, test = self.splits[fold]
        data = lightgbm.Dataset(x[train], self.target[train])
        predicted = np.asarray(lightgbm.train(parameters, data, trees).predict(x[test]))
        one_column = bool(self.classes) and predicted.ndim == 1
        return np.stack([1 - predicted, predicted], axis=1) if one_column else predicted

    def average(self, predictions: Sequence[Floats]) -> Floats:
        """Of several models' predictions of the same clients one: see `score`."""
        if not self.classes:
            return np.asarray(np.mean(predictions, axis=0))
        logs = np.mean([np.log(np.clip(p, 1e-7, 1)) for p in predictions], axis=0)
        shares = np.exp(logs)
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    def measure(self, predicted: Floats, fold: int) -> dict[str, float]:
        """How good predictions of a fold's test part are."""
        target = self.target[self.splits[fold][1]]
        metrics = _classification_metrics if self.classes else _regression_metrics
        return metrics(target, predicted)


def _check_folds(y: pd.Series[Any], folds: int) -> None:
    check_classes(y)
    counts = y.value_counts()
    rare = [f"{name!r} has {n}" for name, n in zip(counts.index.tolist(), counts.tolist(), strict=True) if n < folds]
    if rare:
        raise InputError(
            f"{folds} folds need {folds} clients of every class of the target {y.name!r}; class {shown(rare)}."
            " Join or leave out rare classes, or give fewer folds (--folds)."
        )


def _matrix(table: pd.DataFrame, name: str) -> Floats:
    wrong = [str(c) for c, kind in table.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]
    if wrong or table.columns.empty:
        found = f"columns that hold no numbers: {shown(wrong)}" if wrong else "no columns"
        raise InputError(f"The features {name!r} have {found}. Expected numbers only, and the client id as the index.")
    return table.to_numpy(np.float32)


def _classification_metrics(y: npt.NDArray[np.intp], probabilities: Floats) -> dict[str, float]:
    """y: (clients,) codes; probabilities: (clients, classes). AUROC of several classes: one against the rest, macro."""
    from sklearn.metrics import log_loss, roc_auc_score

    classes = probabilities.shape[1]
    ranked = {"y_score": probabilities[:, 1]} if classes == 2 else {"y_score": probabilities, "multi_class": "ovr"}
    return {
        "accuracy": float((probabilities.argmax(1) == y).mean()),
        "auroc": float(roc_auc_score(y, **ranked)),
        "log_loss": float(log_loss(y, probabilities, labels=range(classes))),
    }


def _regression_metrics(y: Floats, predicted: Floats) -> dict[str, float]:
    from sklearn.metrics import r2_score

    error = predicted - y
    return {
        "r2": float(r2_score(y, predicted)),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae": float(np.abs(error).mean()),
        "spearman": _spearman(y, predicted),
    }


def _spearman(a: Floats, b: Floats) -> float:
    """Rank correlation; 0 where one side is constant, since it then orders nothing."""
    from scipy.stats import rankdata

    ranks = rankdata(a), rankdata(b)
    return 0.0 if min(r.std() for r in ranks) == 0 else float(np.corrcoef(*ranks)[0, 1])
