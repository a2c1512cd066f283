"""Fine-tuning by the number of labels: LightGBM on embeddings, fine-tuned, and from scratch.

    python benchmarks/finetuning.py DATA_FOLDER -o OUT_FOLDER [--target physionet2012/gender ...] \
      [--labels 100 --labels all] [--draws 10] [--set finetuning.epochs=5 ...] [--methods ...]

DATA_FOLDER holds physionet2012/ and online_retail/, each with events and clients as Parquet. A
model is trained on the events of all clients, without labels, as `seqmel train` does by default;
from scratch the same encoder begins untrained. In each draw a third of the clients is the test
part, whose labels nobody sees; so many labels are drawn from the others, stratified, the same for
every method; the validation split is a fraction of them. Intervals are over draws:
their test parts overlap, so that they tell of the luck of the draw, and are narrow as statements
about other clients. "default" is `seqmel finetune` as it comes. What is in OUT_FOLDER/scores.jsonl
is not made again: an interrupted run goes on.

The default is online_retail with ten draws: about ten minutes on two idle cores, one of them for
the model. physionet2012 has longer sequences and four times the clients: name it with --target, and
with fewer --draws.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import torch
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from seqmel import load_model, prepare, read_labels, train
from seqmel.config import read_config
from seqmel.core.progress import console_progress
from seqmel.data.sequences.prepared import PreparedSequences, open_prepared
from seqmel.inference.embed import embed_sequences
from seqmel.inference.predict import predict_outputs
from seqmel.model import Model
from seqmel.training.finetuning.finetune import finetuned_model

TARGETS = [
    "physionet2012/gender",
    "physionet2012/in_hospital_death",
    "online_retail/buys_in_holdout",
]
METHODS = [
    "lightgbm",
    "default",
    "head",
    "gradual",
    "discriminative",
    "all",
    "scratch",
    "scratch head",
]
TREES = {
    "objective": "binary",
    "learning_rate": 0.02,
    "max_depth": 6,
    "num_leaves": 31,
    "bagging_fraction": 0.75,
    "bagging_freq": 1,
    "feature_fraction": 0.25,
    "lambda_l1": 1.0,
    "lambda_l2": 1.0,
    "deterministic": True,
    "force_col_wise": True,
    "verbosity": -1,
    "num_threads": 1,
}


def opened(data: Path, out: Path, name: str) -> tuple[Model, PreparedSequences]:
    """Return the unsupervised model of a set and its sequences; make both if missing."""
    model = out / name / "model"
    sequences = out / name / "sequences"
    if not (model / "config.json").is_file():
        train(str(data / name / "events.parquet"), model, progress=console_progress(), resume=True)
    if not sequences.exists():
        prepare(str(data / name / "events.parquet"), sequences, model=load_model(model))
    return load_model(model), open_prepared(sequences)


def auroc(
    method: str,
    model: Model,
    prepared: PreparedSequences,
    vectors: np.ndarray[Any, Any],
    y: pd.Series[Any],
    parts: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]],
    settings: list[str],
    seed: int,
) -> float:
    """Learn from the first part of the labels, and measure on the second."""
    train_part, test_part = parts
    ids = pd.Index(prepared.sequences.client_ids.to_pandas())
    place = ids.get_indexer(y.index)
    codes = np.unique(y.to_numpy(), return_inverse=True)[1]
    if method == "lightgbm":
        leaf = min(50, max(1, len(train_part) // 20))
        data = lightgbm.Dataset(vectors[place[train_part]], codes[train_part])
        trees = lightgbm.train({**TREES, "seed": seed, "min_data_in_leaf": leaf}, data, 500)
        return float(roc_auc_score(codes[test_part], trees.predict(vectors[place[test_part]])))
    _, _, unfreeze = method.rpartition(" ")
    scratch = "scratch" in method
    learns = {"scratch": "all", "default": "auto"}.get(unfreeze, unfreeze)
    options = {"finetuning.unfreeze": learns, "seed": seed}
    config = read_config(None, settings, **options)
    if scratch:  # the encoder's options as in the model
        config = model.config.model_copy(
            update={n: getattr(config, n) for n in ("finetuning", "seed")}
        )
    found = finetuned_model(
        None if scratch else model,
        prepared,
        {"y": y.iloc[train_part]},
        config=config,
        progress=console_progress(),
    )
    assert found.heads is not None
    test = prepared.sequences.subset(torch.from_numpy(place[test_part]))
    outputs = predict_outputs(found.heads, embed_sequences(found.encoder, test, found.config))[0]
    return float(roc_auc_score(codes[test_part], found.targets[0].probabilities(outputs)[:, 1]))


def run(data: Path, out: Path, which: str, options: argparse.Namespace) -> None:
    """All methods on all draws of a target, a line of the file of scores each."""
    name, target = which.split("/")
    model, prepared = opened(data, out, name)
    with torch.inference_mode():
        vectors = embed_sequences(model.encoder, prepared.sequences, model.config).numpy()
    y = read_labels(str(data / name / "clients.parquet"), target)
    y = y[y.index.isin(prepared.sequences.client_ids.to_pandas())]
    done = {tuple(row[:4]) for row in scores(out)}
    for draw in range(options.draws):
        places = np.arange(len(y))
        train_part, test_part = train_test_split(
            places, test_size=1 / 3, stratify=y, random_state=draw
        )
        for labels in options.labels:
            part = train_part
            if labels != "all":
                part = train_test_split(
                    train_part,
                    train_size=int(labels),
                    stratify=y.iloc[train_part],
                    random_state=draw,
                )[0]
            for method in options.methods:
                if (which, labels, method, draw) in done:
                    continue
                began = time.monotonic()
                value = auroc(
                    method, model, prepared, vectors, y, (part, test_part), options.set, draw
                )
                seconds = round(time.monotonic() - began, 1)
                with (out / "scores.jsonl").open("a") as file:
                    file.write(json.dumps([which, labels, method, draw, value, seconds]) + "\n")


def scores(out: Path) -> list[list[Any]]:
    """Target, labels, method, draw, AUROC, seconds."""
    path = out / "scores.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(out: Path) -> str:
    """Mean ± 95 % interval over the draws, a row a target and number of labels."""
    rows = pd.DataFrame(
        scores(out), columns=["target", "labels", "method", "draw", "auroc", "seconds"]
    )
    methods = [method for method in METHODS if method in set(rows["method"])]
    lines = ["| target | labels | " + " | ".join(methods) + " |", "|---" * (len(methods) + 2) + "|"]
    for (target, labels), part in rows.groupby(["target", "labels"], sort=False):
        cells = []
        for method in methods:
            values = part.loc[part["method"] == method, "auroc"].to_numpy()
            width = (
                student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
                if len(values) > 1
                else np.nan
            )
            cells.append(f"{values.mean():.3f} ± {width:.3f}" if len(values) else "")
        lines.append(f"| {target} | {labels} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Read the options and run the targets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument(
        "--target",
        action="append",
        choices=TARGETS,
        help="a target, repeatable; the last of them by default",
    )
    parser.add_argument(
        "--labels", action="append", help="all, or so many; 100, 300, 1000 and all by default"
    )
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=["lightgbm", "default", "all", "scratch"]
    )
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--set", action="append", default=[], help="an option of the fine-tuning")
    options = parser.parse_args()
    options.labels = options.labels or ["100", "300", "1000", "all"]
    options.output.mkdir(parents=True, exist_ok=True)
    for which in options.target or TARGETS[-1:]:
        run(options.data, options.output, which, options)
        print(table(options.output), flush=True)


if __name__ == "__main__":
    main()
