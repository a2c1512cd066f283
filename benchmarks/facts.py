"""Facts about clients beside events: joint fine-tuning, and LightGBM on everything.

    python benchmarks/facts.py EVENTS CLIENTS --target died --fact age --fact region -o OUT_FOLDER \
      [--clients 2000] [--folds 5] [--epochs 3] [--set finetuning.epochs=3 ...] [--rows joint ...]

A model is trained on the events of the first clients, without labels, as `seqmel train` does by
default. All rows have the same clients and folds. "joint" is `seqmel finetune --facts`. "joint,
aggregates as facts" takes the aggregates with order as further facts. Text is a category for the
joint model, and codes in order of frequency for LightGBM. The interval is over folds, the
difference to LightGBM on everything is paired.

What is in OUT_FOLDER is not made again: remove a row from rows.json to have it anew.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from pyarrow import compute as pc

from seqmel import load_model, prepare, read_labels, score, train
from seqmel.config import read_config
from seqmel.core.progress import console_progress
from seqmel.data.fitting.timeline import open_and_infer
from seqmel.data.sequences.prepared import open_prepared
from seqmel.data.tables.facts import FactRows, read_facts
from seqmel.evaluation.feature_sets import WITH_ORDER, aggregate_sets
from seqmel.evaluation.problem import build_problem, summarised
from seqmel.inference.embed import embed_sequences
from seqmel.inference.predict import predict_outputs
from seqmel.training.finetuning.finetune import finetuned_model

EVERYTHING = "aggregates with order + facts: LightGBM"
EMBEDDED = "embeddings + facts: LightGBM"
WITHOUT = "fine-tuned, no facts"
JOINT = "joint"
ALL_JOINT = "joint, aggregates as facts"


def numbers(facts: pd.DataFrame) -> pd.DataFrame:
    """Return facts as numbers for LightGBM: text as codes in order of frequency."""
    found = facts.copy()
    for name in found:
        if found[name].dtype == object:
            order = {value: i for i, value in enumerate(found[name].value_counts().index)}
            found[name] = found[name].map(order).astype(float)
    return found


def main() -> None:
    """Print a row per method, and write rows.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("events", type=Path)
    parser.add_argument("clients_file", metavar="CLIENTS", type=Path)
    parser.add_argument("--target", required=True)
    parser.add_argument("--fact", action="append", required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--clients", type=int, default=2_000)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--trees", type=int, default=500)
    parser.add_argument("--epochs", type=int, help="of the training without labels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--rows", action="append", default=[])
    asked = parser.parse_args()
    asked.output.mkdir(parents=True, exist_ok=True)
    events = pq.read_table(asked.events)
    client = events.column_names[0]
    ids = pc.unique(events[client])[: asked.clients]
    events = events.filter(pc.is_in(events[client], ids))
    folder = asked.output / "model"
    sequences = asked.output / "sequences"
    if not (folder / "config.json").is_file():
        train(events, folder, epochs=asked.epochs, progress=console_progress())
        prepare(events, sequences, model=load_model(folder))
    model = load_model(folder)
    prepared = open_prepared(sequences)
    facts = read_facts(asked.clients_file, asked.fact, likely=client)
    y = read_labels(asked.clients_file, asked.target, client=client)

    index = pd.Index(prepared.sequences.client_ids.to_pandas(), name=client)
    vectors = embed_sequences(model.encoder, prepared.sequences, model.config)
    embeddings = pd.DataFrame(vectors.numpy(), index).add_prefix("emb_")
    source, schema = open_and_infer(events, model.config.schema)
    aggregates = aggregate_sets(source, schema)[WITH_ORDER]
    coded = numbers(facts)
    sets = {
        "facts: LightGBM": coded.loc[coded.index.isin(index)],
        "aggregates with order: LightGBM": aggregates,
        EVERYTHING: aggregates.join(coded),
        EMBEDDED: embeddings.join(coded),
    }
    probes = {"embeddings + facts: linear": EMBEDDED}
    pair = "averaged pair: linear on embeddings + facts, LightGBM on aggregates + facts"
    averages = {pair: ("embeddings + facts: linear", EVERYTHING)}
    kept = asked.output / "rows.json"
    found: dict[str, Any] = json.loads(kept.read_text("utf-8")) if kept.is_file() else {}
    if not found:
        how: dict[str, Any] = {"folds": asked.folds, "trees": asked.trees, "threads": 1}
        scores = score(y, sets, probes=probes, averages=averages, **how)
        found = {row.features: row.folds for row in scores.rows if row.metric == scores.primary}
        kept.write_text(json.dumps(found, indent=1), encoding="utf-8")

    problem, scored, _ = build_problem(y, sets, "auto", asked.folds, 0, None)
    config = read_config(None, asked.settings, seed=asked.seed, device="cpu")
    rows: dict[str, pd.DataFrame | None] = {
        JOINT: facts,
        WITHOUT: None,
        ALL_JOINT: facts.join(aggregates.astype(float), how="inner"),
    }
    for name, given in rows.items():
        if name in found or (asked.rows and name not in asked.rows):
            continue
        measured = []
        for fold, (seen, test) in enumerate(problem.splits):
            tuned = finetuned_model(
                model,
                prepared,
                {asked.target: scored.iloc[seen]},
                facts=given,
                task=problem.task,
                config=config,
            )
            assert tuned.heads is not None, "what was fine-tuned has heads"
            tested = scored.index[test]
            part = prepared.sequences.subset(torch.from_numpy(index.get_indexer(tested)))
            known = None
            if given is not None and tuned.facts is not None:
                known = FactRows(tuned.facts, given).of(tested)
            outputs = predict_outputs(
                tuned.heads, embed_sequences(tuned.encoder, part, tuned.config), known
            )
            target = tuned.targets[0]
            predicted: Any = (
                target.probabilities(outputs[0]) if target.classes else target.predicted(outputs[0])
            )
            measured.append(problem.measure(predicted, fold))
            losses = [tuned.metrics[part]["validation_loss"] for part in ("frozen", "held_out")]
            score_of = float(measured[-1][problem.primary][0])
            print(f"{name}, fold {fold}: {score_of:.4f}, validation loss {losses}", flush=True)
        found[name] = next(
            row.folds for row in summarised(name, measured) if row.metric == problem.primary
        )
        kept.write_text(json.dumps(found, indent=1), encoding="utf-8")

    print(f"\n{len(scored):,} clients, {problem.primary}, {asked.folds} folds\n")
    print("| features and model | score | minus LightGBM on everything |\n|---|---|---|")
    base = np.array(found[EVERYTHING])
    for name, folds in found.items():
        print(f"| {name} | {_words(np.array(folds))} | {_words(np.array(folds) - base)} |")


def _words(folds: np.ndarray[Any, Any]) -> str:
    """Return the mean and its 95 % interval over folds."""
    from scipy.stats import t

    half = t.ppf(0.975, len(folds) - 1) * folds.std(ddof=1) / len(folds) ** 0.5
    return f"{folds.mean():.3f} ± {half:.3f}"


if __name__ == "__main__":
    main()
