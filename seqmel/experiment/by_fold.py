"""Scores of rows whose training sees labels: fold by fold, on the clients and folds of the rows whose training does not.

Each fold trains on the labels of its own training part; of the test part only events are seen. To find the best epoch
fine-tuning holds out a share of the training part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from seqmel.config import Config
from seqmel.data.sequences.prepared import PreparedSequences
from seqmel.data.tables.labels import match
from seqmel.evaluation.curves import label_draws
from seqmel.evaluation.downstream import Downstream, Kept, LinearProbe, side_by_side, spread_boosters
from seqmel.evaluation.feature_sets import BASELINES, reference, standard_rows
from seqmel.evaluation.metrics import Floats
from seqmel.evaluation.problem import Measured, Problem, feature_matrix, posed, summarised
from seqmel.evaluation.splits import Places
from seqmel.experiment.cost import Cost, cost, with_cost
from seqmel.experiment.labels import FOLD_SEED, with_share
from seqmel.model import Model

__all__ = ["Fold", "by_features", "by_finetuning", "score_by_fold"]


@dataclass(frozen=True)
class Fold:
    """A fold of a problem.

    Attributes:
        problem: what is predicted.
        number: of the fold.
        y: the labels of all clients that are scored.
        places: where in `y` the labels lie that may be seen.
    """

    problem: Problem
    number: int
    y: pd.Series[Any]
    places: Places

    @property
    def seen(self) -> pd.Series[Any]:
        """The labels that may be seen: of the training part, or a share of these."""
        return self.y.iloc[self.places]

    @property
    def tested(self) -> pd.Index[Any]:
        """The clients of the test part."""
        clients: pd.Index[Any] = self.y.index[self.problem.splits[self.number][1]]
        return clients


Answer: TypeAlias = Callable[[Fold], tuple[dict[str, Floats], Cost]]
"""What a row predicts for a fold's test part, by set of features: (tested, classes) probabilities, or (tested,) quantities; and what
its training cost."""


def score_by_fold(
    y: pd.Series[Any],
    clients: Mapping[str, pd.DataFrame],
    answer: Answer,
    *,
    folds: int,
    shares: Sequence[float] = (1.0,),
) -> dict[str, Any]:
    """Measure what is answered of each fold's test part.

    Args:
        y: one label a client, indexed by client id.
        clients: tables indexed by client id; the clients that all have are scored.
        answer: trains on what a fold may see.
        folds: how many.
        shares: of the training labels; one draw of each where they are not all.

    Returns:
        target, primary and scores, as `Scores.to_json` has them, with the cost of each.

    Raises:
        SeqmelError: what `score` and the training raise.
    """
    problem, scored, _ = posed(y, clients, "auto", folds, FOLD_SEED, None)
    found: list[dict[str, Any]] = []
    for share in shares:
        measured: dict[str, list[Measured]] = {}
        costs = []
        for number in range(folds):
            places = label_draws(problem, number, share, FOLD_SEED)[0]
            predictions, spent = answer(Fold(problem, number, scored, places))
            for name, predicted in predictions.items():
                measured.setdefault(name, []).append(problem.measure(predicted, number))
            costs.append(spent)
        for name, of_folds in measured.items():
            found += with_cost([s.to_json() for s in summarised(with_share(name, share), of_folds)], costs)
    return {"target": str(y.name), "primary": problem.primary, "scores": found}


def by_finetuning(
    name: str, prepared: PreparedSequences, model_for: Callable[[pd.Series[Any]], Model | None], config: Config
) -> Answer:
    """Fine-tune on the labels that may be seen, from the model for them; from scratch where that is None."""

    def answer(fold: Fold) -> tuple[dict[str, Floats], Cost]:
        from seqmel.training.finetuning.finetune import finetuned_model

        labels = {str(fold.y.name): fold.seen}
        tuned = finetuned_model(model_for(fold.seen), prepared, labels, task=fold.problem.task, config=config)
        return {name: _predicted(tuned, prepared, fold.tested)}, cost(tuned.metrics)

    return answer


def by_features(
    features_for: Callable[[pd.Series[Any]], tuple[dict[str, pd.DataFrame], Cost]],
    *,
    trees: int,
    threads: int | None,
    kept: Path,
) -> Answer:
    """Train LightGBM on the features that the labels that may be seen give, and with all labels of the training part the probe
    and the average that `score` has.

    Args:
        features_for: sets of features by their names, and what they cost.
        trees, threads, kept: see `score`.
    """

    def answer(fold: Fold) -> tuple[dict[str, Floats], Cost]:
        sets, spent = features_for(fold.seen)
        whole = len(fold.places) == len(fold.problem.splits[fold.number][0])
        probes, averages = standard_rows(sets) if whole else ({}, {})
        matrices = {name: feature_matrix(match(fold.y, table)[1], name) for name, table in sets.items()}
        booster, workers = spread_boosters(threads, matrices.values(), 1, trees=trees, seed=FOLD_SEED)
        asked: dict[str, tuple[str, Downstream]] = {name: (name, booster) for name in sets if name not in BASELINES}
        baseline = reference(sets)
        asked |= {baseline: (baseline, Kept(booster, kept))} if averages and baseline else {}
        asked |= {name: (of, LinearProbe(FOLD_SEED)) for name, of in probes.items()}
        jobs = [(matrices[of], fold.number, model, fold.places) for of, model in asked.values()]
        found = dict(zip(asked, side_by_side(fold.problem.predict, jobs, workers), strict=True))
        found |= {name: fold.problem.average([found[part] for part in parts]) for name, parts in averages.items()}
        return {name: predicted for name, predicted in found.items() if name not in BASELINES}, spent

    return answer


def _predicted(model: Model, prepared: PreparedSequences, clients: pd.Index[Any]) -> Floats:
    """(clients, classes) probabilities, or (clients,) quantities."""
    import torch

    from seqmel.core.device import resolve_device
    from seqmel.inference.embed import embed_sequences
    from seqmel.inference.predict import predict_outputs

    assert model.heads is not None, "what was fine-tuned has heads"
    ids = pd.Index(prepared.sequences.client_ids.to_pandas())
    test = prepared.sequences.subset(torch.from_numpy(ids.get_indexer(clients)))
    device = resolve_device(model.config.device)
    vectors = embed_sequences(model.encoder.to(device), test, model.config, device=device)
    (outputs,) = predict_outputs(model.heads, vectors)
    (target,) = model.targets
    return target.probabilities(outputs) if target.classes else target.predicted(outputs)
