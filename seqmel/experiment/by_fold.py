"""Scores, fold by fold, of rows whose training uses labels.

Each fold trains on the labels of its own training split, and uses only the events of its test
split. Fine-tuning takes its validation split from the training split.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from seqmel.config import Config
from seqmel.data.sequences.prepared import PreparedSequences
from seqmel.data.tables.facts import FactRows
from seqmel.data.tables.labels import align
from seqmel.evaluation.curves import label_draws
from seqmel.evaluation.downstream import (
    CachedPredictor,
    Downstream,
    LinearProbe,
    side_by_side,
    spread_boosters,
)
from seqmel.evaluation.feature_sets import standard_rows
from seqmel.evaluation.metrics import Floats
from seqmel.evaluation.problem import Measured, Problem, feature_matrix, summarised
from seqmel.evaluation.splits import Places, Split
from seqmel.experiment.cost import Cost, cost, with_cost
from seqmel.experiment.labels import FOLD_SEED, TargetLabels, with_fraction
from seqmel.model import TrainedModel
from seqmel.training.finetuning.samples import Samples

__all__ = ["Fold", "by_features", "by_finetuning", "score_by_fold"]


@dataclass(frozen=True)
class Fold:
    """A fold of a problem.

    Attributes:
        problem: What is predicted.
        number: The number of the fold.
        y: The labels of all scored clients.
        places: Positions in `y` of the labels that training may use.
    """

    problem: Problem
    number: int
    y: pd.Series[Any]
    places: Places

    @property
    def seen(self) -> pd.Series[Any]:
        """The labels that training may use: those of the training split, or a fraction of them."""
        return self.y.iloc[self.places]

    @property
    def tested(self) -> pd.Index[Any]:
        """The clients of the test split."""
        clients: pd.Index[Any] = self.y.index[self.problem.splits[self.number][1]]
        return clients


Answer: TypeAlias = Callable[[Fold], tuple[dict[str, Floats], Cost]]
"""Trains on a fold. Returns its predictions for the test split by set of features, which are
(tested, classes) probabilities or (tested,) quantities, and the cost of training."""


def score_by_fold(
    labels: TargetLabels,
    clients: Mapping[str, pd.DataFrame],
    answer: Answer,
    *,
    folds: int,
    fractions: Sequence[float] = (1.0,),
    split: Split | None = None,
) -> dict[str, Any]:
    """Score a row on each fold.

    Args:
        labels: Labels indexed by client id, or by client id and moment.
        clients: Tables indexed by client id. The clients that all tables have are scored.
        answer: Trains on a fold and predicts its test split.
        folds: The number of folds.
        fractions: Fractions of the training labels. A fraction below 1 is drawn once.
        split: See `score`.

    Returns:
        Target, primary metric and scores, like `Scores.to_json`, with the cost of each.

    Raises:
        SeqmelError: See `score`. Training can raise it too.
    """
    problem, scored = labels.problem(clients, folds, split)
    found: list[dict[str, Any]] = []
    for fraction in fractions:
        measured: dict[str, list[Measured]] = {}
        costs = []
        for number in range(folds):
            places = label_draws(problem, number, fraction, FOLD_SEED)[0]
            predictions, spent = answer(Fold(problem, number, scored, places))
            for name, predicted in predictions.items():
                measured.setdefault(name, []).append(problem.measure(predicted, number))
            costs.append(spent)
        for name, of_folds in measured.items():
            found += with_cost(
                [s.to_json() for s in summarised(with_fraction(name, fraction), of_folds)], costs
            )
    return {"target": str(scored.name), "primary": problem.primary, "scores": found}


def by_finetuning(
    name: str,
    prepared: PreparedSequences,
    model_for: Callable[[pd.Series[Any]], TrainedModel | None],
    config: Config,
    samples: Samples | None = None,
    facts: pd.DataFrame | None = None,
) -> Answer:
    """Fine-tune on the labels of a fold, from the model for them or from scratch (None).

    With facts about the clients, heads learn from both.
    """
    known = Samples.of_clients(prepared.sequences) if samples is None else samples

    def answer(fold: Fold) -> tuple[dict[str, Floats], Cost]:
        from seqmel.training.finetuning.finetune import finetuned_model

        labels = {str(fold.y.name): fold.seen}
        edges = fold.problem.edges or config.finetuning.time_edges
        options = config.finetuning.model_copy(update={"time_edges": edges})
        tuned = finetuned_model(
            model_for(fold.seen),
            prepared,
            labels,
            samples=samples,
            facts=facts,
            task=fold.problem.task,
            config=config.model_copy(update={"finetuning": options}),
        )
        predicted = _predicted(tuned, prepared, known, fold.tested, facts)
        return {name: predicted}, cost(tuned.metrics)

    return answer


def by_features(
    features_for: Callable[[pd.Series[Any]], tuple[dict[str, pd.DataFrame], Cost]],
    baselines: Collection[str],
    *,
    trees: int,
    threads: int | None,
    kept: Path,
) -> Answer:
    """Train LightGBM on features that depend on the labels of a fold.

    With all labels of the training split, the linear probe and the average of `score` are added.

    Args:
        features_for: Returns sets of features by name, and their cost.
        baselines: Sets that other rows have too, and that are not scored here.
        trees: See `score`.
        threads: See `score`.
        kept: See `score`.
    """

    def answer(fold: Fold) -> tuple[dict[str, Floats], Cost]:
        sets, spent = features_for(fold.seen)
        whole = len(fold.places) == len(fold.problem.splits[fold.number][0])
        probes, averages = standard_rows(sets) if whole else ({}, {})
        matrices = {
            name: feature_matrix(align(fold.y, table)[1], name) for name, table in sets.items()
        }
        booster, workers = spread_boosters(
            threads, matrices.values(), 1, trees=trees, seed=FOLD_SEED
        )
        asked: dict[str, tuple[str, Downstream]] = {
            name: (name, booster) for name in sets if name not in baselines
        }
        cached = CachedPredictor(booster, kept)
        asked |= {of: (of, cached) for _, of in averages.values()}
        asked |= {name: (of, LinearProbe(FOLD_SEED)) for name, of in probes.items()}
        jobs = [(matrices[of], fold.number, model, fold.places) for of, model in asked.values()]
        found = dict(zip(asked, side_by_side(fold.problem.predict, jobs, workers), strict=True))
        found |= {
            name: fold.problem.average([found[part] for part in parts])
            for name, parts in averages.items()
        }
        return {
            name: predicted for name, predicted in found.items() if name not in baselines
        }, spent

    return answer


def _predicted(
    model: TrainedModel,
    prepared: PreparedSequences,
    samples: Samples,
    tested: pd.Index[Any],
    facts: pd.DataFrame | None = None,
) -> Floats:
    """Return predictions, shaped as those of `Problem.predict`."""
    import torch

    from seqmel.core.device import resolve_device
    from seqmel.inference.embed import embed_sequences
    from seqmel.inference.predict import predict_outputs

    assert model.heads is not None, "what was fine-tuned has heads"
    places = torch.from_numpy(samples.keys.get_indexer(tested))
    test = samples.cut(prepared.sequences).subset(places)
    device = resolve_device(model.config.device)
    vectors = embed_sequences(model.encoder.to(device), test, model.config, device=device)
    encoded = None
    if model.facts is not None and facts is not None:
        encoded = FactRows(model.facts, facts, strict=False).of(tested.get_level_values(0))
    (outputs,) = predict_outputs(model.heads, vectors, encoded)
    (target,) = model.targets
    if target.edges:
        return target.survival(outputs)
    return target.probabilities(outputs) if target.classes else target.predicted(outputs)
