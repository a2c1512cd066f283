"""Estimators equal commands to the last bit: vectors, aggregates and scores of real clients.

Of those in the data, the first five hundred.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from in_process import InProcess

from seqmel import AggregateFeatures, EventSequences, SequenceEmbedder, read_labels
from seqmel.evaluation.feature_sets import standard_rows, with_both
from seqmel.evaluation.scoring import score

SET = (
    Path(os.environ.get("SEQMEL_DATA", Path(__file__).parents[3] / "shared" / "data"))
    / "online_retail"
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not SET.is_dir(), reason=f"no {SET}; name the folder of data in SEQMEL_DATA"
    ),
]


def test_a_pipeline_gives_the_vectors_and_scores_of_the_commands(
    tmp_path: Path, in_process: InProcess
) -> None:
    def command(*words: object) -> None:
        done = in_process.seqmel(*words)
        assert done.returncode == 0, done.stderr

    events, labels = tmp_path / "events.parquet", tmp_path / "clients.parquet"
    some = pd.read_parquet(SET / labels.name)["client_id"].head(500)
    for path in (events, labels):
        pd.read_parquet(SET / path.name, filters=[("client_id", "in", set(some))]).to_parquet(path)
    command(
        "train",
        events,
        "-o",
        tmp_path / "model",
        "--epochs",
        1,
        "--set",
        "event_encoder.hidden_size=16",
    )
    command("embed", tmp_path / "model", events, "-o", tmp_path / "vectors.parquet")
    given = [
        "--target",
        "buys_in_holdout",
        "--embeddings",
        f"embeddings={tmp_path / 'vectors.parquet'}",
    ]
    counts = ["--trees", 10, "--folds", 3]
    command(
        "evaluate", labels, *given, "--events", events, *counts, "--json", tmp_path / "scores.json"
    )

    sequences = EventSequences.read(str(events))
    embedder = SequenceEmbedder(epochs=1, event_encoder={"hidden_size": 16}, random_state=0)
    vectors = embedder.fit_transform(sequences)
    aggregates = {
        "aggregates": AggregateFeatures(order=False).fit_transform(sequences),
        "aggregates with order": AggregateFeatures().fit_transform(sequences),
    }
    sets = with_both({"embeddings": vectors}, aggregates)
    probes, averages = standard_rows(sets)
    y = read_labels(labels, "buys_in_holdout")
    scores = score(y, sets, probes=probes, averages=averages, folds=3, trees=10)

    written = pd.read_parquet(tmp_path / "vectors.parquet").set_index("client_id")
    np.testing.assert_array_equal(vectors.loc[written.index], written)
    (told,) = json.loads((tmp_path / "scores.json").read_text())
    for row in told["scores"]:
        assert row["folds"] == list(scores.score(row["features"], row["metric"]).folds)
    assert {row["features"] for row in told["scores"]} == set(scores.matched)
