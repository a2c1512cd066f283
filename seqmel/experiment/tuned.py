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
from seqmel.evaluation.problem import Task, posed, summarised
from seqmel.experiment.labels import FOLD_SEED
from seqmel.model import Model

__all__ = ["score_finetuned", "with_share"]


def with_share(name: str, share: float) -> str:
    """What a row is called with a share of the labels."""
    return name if share == 1 else f"{name}, {share:.3g} of the labels"


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
        target, primary and scores, as `Scores.to_json` has them.

    Raises:
        SeqmelError: what `score` and fine-tuning raise.
    """
    ids = pd.Index(prepared.sequences.client_ids.to_pandas())
    problem, scored, _ = posed(y, {name: pd.DataFrame(index=ids)}, "auto", folds, FOLD_SEED, None)
    found = []
    for share in shares:
        measured = []
        for fold in range(len(problem.splits)):
            part = label_draws(problem, fold, share, FOLD_SEED)[0]
            predicted = _predicted(
                prepared, model, config, scored.iloc[part], problem.task, scored.index[problem.splits[fold][1]]
            )
            measured.append(problem.measure(predicted, fold))
        found += [score.to_json() for score in summarised(with_share(name, share), measured)]
    return {"target": str(y.name), "primary": problem.primary, "scores": found}


def _predicted(
    prepared: PreparedSequences,
    model: Model | None,
    config: Config,
    y: pd.Series[Any],
    task: Task,
    tested: pd.Index[Any],
) -> Floats:
    """(tested, classes) probabilities, or (tested,) quantities, from labels of other clients."""
    import torch

    from seqmel.device import resolve_device
    from seqmel.embedding import embed_sequences
    from seqmel.prediction import predict_outputs
    from seqmel.training.finetune import finetuned_model

    tuned = finetuned_model(model, prepared, {str(y.name): y}, task=task, config=config)
    assert tuned.heads is not None, "what was fine-tuned has heads"
    ids = pd.Index(prepared.sequences.client_ids.to_pandas())
    test = prepared.sequences.subset(torch.from_numpy(ids.get_indexer(tested)))
    device = resolve_device(config.device)
    vectors = embed_sequences(tuned.encoder.to(device), test, tuned.config, device=device)
    (outputs,) = predict_outputs(tuned.heads, vectors)
    (target,) = tuned.targets
    return target.probabilities(outputs) if target.classes else target.predicted(outputs)
