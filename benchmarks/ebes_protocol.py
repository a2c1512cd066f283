"""physionet2012 by the protocol of EBES (Osin et al., KDD 2025, arXiv 2410.03399).

    python benchmarks/ebes_protocol.py DATA_FOLDER -o ebes.json [--epochs 3] [--hidden-size 64]

As in its configuration of physionet2012: set a of the challenge is split at random into 70 % to
train, 15 % to stop early by, and 15 % to choose hyperparameters by; set b is the test; the metric
is the AUROC of in-hospital death, over several seeds of the split. Models may see the admission's
age, gender, height, type of unit and weight.

What differs: the rows of set a are in order of the patient's id before they are shuffled by pandas
with the seed of the split, as EBES shuffles its rows, whose order is that of its files. Patients
without events are not there. seqmel learns from the events of the training part without labels,
with its default and no search; the part for hyperparameters is not used. The part for early
stopping chooses the number of LightGBM's trees.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import seqmel

TARGET = "in_hospital_death"
STATIC = ["age", "height_cm", "weight_kg"]
SHARES = (0.7, 0.15, 0.15)
EBES_SEED = 42


def parts(ids: pd.Series[Any], seed: int) -> list[pd.Index[Any]]:
    """Split clients as EBES does: shuffled by pandas, then cut."""
    mixed = pd.Index(ids.sample(frac=1, random_state=seed))
    bounds = np.ceil(np.cumsum([0, *SHARES]) * len(mixed)).astype(int)
    return [mixed[a:b] for a, b in pairwise(bounds)]


def boosted(
    x: dict[str, npt.NDArray[np.float32]], y: dict[str, npt.NDArray[np.int64]], seed: int
) -> npt.NDArray[np.float64]:
    """Predict the test by LightGBM, with as many trees as the second part wants."""
    model = lightgbm.LGBMClassifier(
        n_estimators=500,
        learning_rate=0.02,
        subsample=0.5,
        subsample_freq=1,
        colsample_bytree=0.5,
        random_state=seed,
        n_jobs=1,
        verbose=-1,
    )
    model.fit(
        x["train"],
        y["train"],
        eval_set=[(x["stop"], y["stop"])],
        eval_metric="auc",
        callbacks=[lightgbm.early_stopping(50, verbose=False)],
    )
    return np.asarray(model.predict_proba(x["test"])[:, 1])


def linear(
    x: dict[str, npt.NDArray[np.float32]], y: dict[str, npt.NDArray[np.int64]]
) -> npt.NDArray[np.float64]:
    """Predict the test by logistic regression."""
    model = make_pipeline(
        SimpleImputer(), StandardScaler(), LogisticRegression(C=0.01, max_iter=500)
    )
    return np.asarray(model.fit(x["train"], y["train"]).predict_proba(x["test"])[:, 1])


def half(y: npt.NDArray[np.int64], scores: npt.NDArray[np.float64]) -> float:
    """Return half of the 95 % interval of the AUROC, by bootstrap over patients."""
    random = np.random.default_rng(0)
    drawn = (random.integers(0, len(y), len(y)) for _ in range(200))
    return float(1.96 * np.std([roc_auc_score(y[rows], scores[rows]) for rows in drawn]))


def main() -> None:
    """Print and write the AUROC of each row, with its interval over patients."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--hidden-size", type=int, help="of the event encoder")
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    events = pd.read_parquet(given.folder / "physionet2012" / "events.parquet")
    clients = pd.read_parquet(given.folder / "physionet2012" / "clients.parquet")
    clients = clients[clients["client_id"].isin(events["client_id"].unique())]
    clients = clients.sort_values("client_id").set_index("client_id", drop=False)
    units = pd.get_dummies(clients[["gender", "icu_type"]].astype(str), dtype=float)
    static = pd.concat([clients[STATIC].astype(float), units], axis=1)
    of_set = clients["set"]
    found: dict[str, list[float]] = {}
    halves: dict[str, list[float]] = {}
    for seed in range(given.seeds):
        train, stop, _ = parts(clients["client_id"][of_set == "a"], EBES_SEED + seed)
        test = clients.index[of_set == "b"]
        who = {"train": train, "stop": stop, "test": test}
        y = {part: clients.loc[ids, TARGET].to_numpy() for part, ids in who.items()}
        training = {} if given.epochs is None else {"epochs": given.epochs}
        network = {} if given.hidden_size is None else {"hidden_size": given.hidden_size}
        model = seqmel.train(
            events[events["client_id"].isin(train)],
            config={"seed": seed, "training": training, "event_encoder": network},
            progress=True,
        )
        known = events[events["client_id"].isin(train.union(stop).union(test))]
        vectors = model.embed(known, progress=False)
        for words, more in (("embeddings", None), ("embeddings and admission", static)):
            x = {
                part: (
                    vectors.loc[ids] if more is None else vectors.loc[ids].join(more.loc[ids])
                ).to_numpy(np.float32)
                for part, ids in who.items()
            }
            trees, line = boosted(x, y, seed), linear(x, y)
            for name, scores in (
                ("LightGBM", trees),
                ("linear", line),
                ("averaged", trees.argsort().argsort() + line.argsort().argsort()),
            ):
                score = float(roc_auc_score(y["test"], scores))
                found.setdefault(f"{words}: {name}", []).append(score)
                halves.setdefault(f"{words}: {name}", []).append(half(y["test"], scores))
                print(seed, words, name, f"{score:.4f}", flush=True)
        rows = {
            row: [float(np.mean(values)), float(np.mean(halves[row]))]
            for row, values in found.items()
        }
        about = {
            "seeds": seed + 1,
            "epochs": given.epochs,
            "hidden_size": given.hidden_size,
            "test": len(test),
            "rows": rows,
        }
        given.output.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
