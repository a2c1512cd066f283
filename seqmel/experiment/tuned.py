"""Scores of rows that learn the labels end to end, on the clients and folds of those that LightGBM scores.

Each fold tunes an encoder and a head on its own training part; the test part sees no label. To find the best epoch fine-tuning
holds out a share of the training part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from seqmel.config import Config
from seqmel.data.prepared import PreparedSequences
from seqmel.evaluation.curves import label_draws
from seqmel.evaluation.metrics import Floats
from seqmel.evaluation.problem import posed, summarised
from seqmel.experiment.cost import cost, with_cost
from seqmel.experiment.labels import FOLD_SEED, with_share
from seqmel.model import Model

__all__ = ["score_finetuned"]


def score_finetuned(
    name: str,
    y: pd.Series[Any],
    prepared: PreparedSequences,
    model: Model | None,
    config: Config,
    *,
    folds: int,
    shares: Sequence[float] = (1.0,),
) -> dict[str, Any]:
    """Fine-tune on each fold's training part and score its test part.

    Args:
        name: of the row.
        y: one label a client, indexed by client id.
        prepared: sequences of the clients, with the model's vocabulary.
        model: trained without labels; None trains from scratch.
        config: all options.
        folds: how many.
        shares: of the training labels; one draw of each where they are not all.

    Returns:
        target, primary and scores, as `Scores.to_json` has them, with the cost of each.

    Raises:
        SeqmelError: what `score` and fine-tuning raise.
    """
    from seqmel.training.finetune import finetuned_model

    ids = pd.Index(prepared.sequences.client_ids.to_pandas())
    problem, scored, _ = posed(y, {name: pd.DataFrame(index=ids)}, "auto", folds, FOLD_SEED, None)
    found = []
    for share in shares:
        measured, costs = [], []
        for fold, (_, test) in enumerate(problem.splits):
            part = scored.iloc[label_draws(problem, fold, share, FOLD_SEED)[0]]
            tuned = finetuned_model(model, prepared, {str(y.name): part}, task=problem.task, config=config)
            measured.append(problem.measure(_predicted(tuned, prepared, scored.index[test]), fold))
            costs.append(cost(tuned.metrics))
        rows = [score.to_json() for score in summarised(with_share(name, share), measured)]
        found += with_cost(rows, costs)
    return {"target": str(y.name), "primary": problem.primary, "scores": found}


def _predicted(model: Model, prepared: PreparedSequences, clients: pd.Index[Any]) -> Floats:
    """(clients, classes) probabilities, or (clients,) quantities."""
    import torch

    from seqmel.device import resolve_device
    from seqmel.embedding import embed_sequences
    from seqmel.prediction import predict_outputs

    assert model.heads is not None, "what was fine-tuned has heads"
    ids = pd.Index(prepared.sequences.client_ids.to_pandas())
    test = prepared.sequences.subset(torch.from_numpy(ids.get_indexer(clients)))
    device = resolve_device(model.config.device)
    vectors = embed_sequences(model.encoder.to(device), test, model.config, device=device)
    (outputs,) = predict_outputs(model.heads, vectors)
    (target,) = model.targets
    return target.probabilities(outputs) if target.classes else target.predicted(outputs)
