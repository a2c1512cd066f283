"""Is it worth leaving look-alikes out of the negatives?

    python benchmarks/safe_negatives.py DATA_FOLDER -o safe_negatives.json

Clients of physionet2012, online_retail and generated cards, and cards in which each client has a
near-duplicate: its events under a new id, a twentieth of them with the category of another event.
A model learns by CoLES alone with each row of `ROWS`; logistic regression then predicts a label of
the original clients from the vectors, in five folds. "copy" is the fraction of clients that have
their near-duplicate as the nearest of all. "left out" is the fraction of negatives, last epoch.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rows import interval
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import seqmel

CHANGED = 0.05  # fraction of the events of a near-duplicate with another category
OFFSET = 10**12  # from the id of a client to that of its near-duplicate
TARGETS = {
    "cards": "gender",
    "cards with near-duplicates": "gender",
    "online_retail": "buys_in_holdout",
    "physionet2012": "in_hospital_death",
}
ROWS: dict[str, dict[str, Any]] = {
    "all negatives": {},
    "duplicates 0.5": {"leave_out": {"duplicates": 0.5}},
    "cosine 0.8": {"leave_out": {"cosine": 0.8}},
    "cosine 1 to 0.8": {"leave_out": {"cosine": 0.8, "cosine_start": 1.0}},
    "earlier vectors 0.9": {"leave_out": {"vectors": "earlier.parquet", "vectors_cosine": 0.9}},
    "debias 0.05": {"loss": {"name": "infonce", "debias": 0.05}},
}


def with_copies(events: pd.DataFrame, client: str) -> pd.DataFrame:
    """Return the events and those of a near-duplicate of each client."""
    random = np.random.default_rng(0)
    copies = events.assign(**{client: events[client] + OFFSET})
    moved = random.random(len(events)) < CHANGED
    drawn = random.integers(0, len(events), int(moved.sum()))
    column = copies.columns.get_loc("mcc")
    copies.iloc[np.flatnonzero(moved), column] = events["mcc"].to_numpy()[drawn]
    return pd.concat([events, copies], ignore_index=True)


def data(name: str, folder: Path, clients: int) -> tuple[pd.DataFrame, pd.Series[Any]]:
    """Return events and labels of at most `clients` clients."""
    if name.startswith("cards"):
        made = seqmel.generate_card_data(clients, seed=1)
        events, labels = made.events, made.clients
        events, labels = (
            table if isinstance(table, pd.DataFrame) else table.to_pandas()
            for table in (events, labels)
        )
    else:
        events, labels = (
            pd.read_parquet(folder / name / f"{part}.parquet") for part in ("events", "clients")
        )
    labels = labels.dropna(subset=[TARGETS[name]])
    kept = labels.sample(min(clients, len(labels)), random_state=0)
    y = kept.set_index("client_id")[TARGETS[name]]
    events = events[events["client_id"].isin(y.index)]
    y = y[y.index.isin(events["client_id"])]  # some patients have no events
    return (with_copies(events, "client_id") if "near" in name else events), y


def copies_found(vectors: pd.DataFrame) -> float | None:
    """Return the fraction of clients that have their near-duplicate as the nearest of all."""
    if vectors.index.max() < OFFSET:
        return None
    found = seqmel.similar(vectors - vectors.mean(), k=1)
    originals = found[found["client_id"] < OFFSET]
    return float((originals["similar"] == originals["client_id"] + OFFSET).mean())


def main() -> None:
    """Measure all rows on all sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--clients", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=list(TARGETS), choices=list(TARGETS))
    given = parser.parse_args()
    results: dict[str, Any] = {}
    for name in given.only:
        events, y = data(name, given.folder, given.clients)
        scores: dict[str, list[float]] = {}
        rows: dict[str, dict[str, Any]] = {}
        with tempfile.TemporaryDirectory() as folder:
            earlier = Path(folder) / "earlier.parquet"
            for seed in range(given.seeds):
                for row, options in ROWS.items():
                    leave_out = dict(options.get("leave_out", {}))
                    if "vectors" in leave_out:
                        leave_out["vectors"] = str(earlier)
                    config = {
                        "seed": seed,
                        "objective": {"name": "coles", "leave_out": leave_out},
                        "loss": options.get("loss", "infonce"),
                        "embedding_dim": 32,
                        "event_encoder": {"hidden_size": 32},
                        "training": {"epochs": given.epochs, "batch_size": 64},
                    }
                    model = seqmel.train(events, config=config, progress=False)
                    vectors = model.embed(events, progress=False)
                    if row == "all negatives":
                        vectors.reset_index().to_parquet(earlier)
                    x = vectors.loc[y.index].to_numpy()
                    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
                    folds = StratifiedKFold(5, shuffle=True, random_state=0)
                    found = cross_val_score(linear, x, y, cv=folds, scoring="roc_auc")
                    scores.setdefault(row, []).extend(found.tolist())
                    history = model.metrics["history"]
                    rows.setdefault(row, {"left_out": [], "copy": []})
                    rows[row]["left_out"].append(history[-1].get("left_out", 0.0))
                    rows[row]["copy"].append(copies_found(vectors))
        base = np.array(scores["all negatives"])
        results[name] = {
            row: {
                "auroc": interval(scores[row]),
                "difference": interval((np.array(scores[row]) - base).tolist()),
                "left_out": float(np.mean(found["left_out"])),
                "copy": None if None in found["copy"] else float(np.mean(found["copy"])),
            }
            for row, found in rows.items()
        }
        print(name, json.dumps(results[name]), flush=True)
        given.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
