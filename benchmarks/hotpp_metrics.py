"""Forecasts of seqmel by the metrics of HoTPP, beside its simplest baselines.

    pip install --no-deps hotpp-benchmark
    python benchmarks/hotpp_metrics.py DATA_FOLDER -o hotpp.json

HoTPP (Karpukhin et al., arXiv 2406.14341; package `hotpp-benchmark` 0.7.0) scores forecasts of the
next event and of all events within a horizon. Its data sets are not in DATA_FOLDER, so its metrics
are computed, by its own code, on others: generated cards, berka and nafld. A model is trained on
the first three quarters of the events; all that follows is the target. HoTPP forecasts from many
positions of each sequence of other clients; here it is one moment for all clients, who are in
training too. MAE and OTD are in horizons, and a time that is not forecast is one horizon away.

A row of `seqmel` or `own rates` is a Poisson rate per kind. It becomes a list of events: the j-th
of `SLOTS` slots has a kind with the probability that it occurs j times or more (T-mAP), and events
follow each other evenly, kinds in proportion (OTD). "most popular" and "last" are the baselines of
HoTPP: the fractions of the kinds so far at the mean gap, and the last events once more.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import types
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rows import interval
from scipy import stats
from scipy.optimize import linear_sum_assignment

import seqmel

DAYS = {"cards": 7, "berka": 30, "nafld": 365}  # the horizon
KINDS = {"cards": "mcc", "berka": "operation", "nafld": "kind"}
TOP = 10  # most frequent kinds; the others are one
DELTAS = (2 / 28, 4 / 28, 8 / 28)  # of the horizon: how late a match of T-mAP may be
COST = 1 / 7  # of the horizon, for an insertion or deletion of OTD
STEPS = 5  # events that OTD compares
SLOTS = 16
GROUPS = 5  # of clients, for the intervals


@dataclass
class Cut:
    """The events of each client before and after a moment; times in days from it."""

    kinds: list[str]
    past: list[tuple[np.ndarray, np.ndarray]]
    future: list[tuple[np.ndarray, np.ndarray]]


@dataclass
class Predicted:
    """What is predicted of C clients, of K kinds; times in days from the moment."""

    next_scores: np.ndarray  # (C, K)
    next_time: np.ndarray  # (C,)
    slot_times: np.ndarray  # (C, SLOTS), for T-mAP
    slot_scores: np.ndarray  # (C, SLOTS, K)
    times: np.ndarray  # (C, STEPS), for OTD
    labels: np.ndarray  # (C, STEPS)


def metrics() -> types.SimpleNamespace:
    """Import the metrics of HoTPP without the rest of the package, which needs much more."""
    spec = find_spec("hotpp")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("Install HoTPP: pip install --no-deps hotpp-benchmark")
    root = Path(spec.submodule_search_locations[0])
    for name, folder in (("hotpp", root), ("hotpp.metrics", root / "metrics")):
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
    if find_spec("torch_linear_assignment") is None:
        assignment = types.ModuleType("torch_linear_assignment")
        assignment.batch_linear_assignment = _assign  # type: ignore[attr-defined]
        sys.modules["torch_linear_assignment"] = assignment
    found = {
        name: getattr(importlib.import_module(f"hotpp.metrics.{module}"), name)
        for module, name in (
            ("next_item", "NextItemMetric"),
            ("tmap", "TMAPMetric"),
            ("otd", "OTDMetric"),
        )
    }
    return types.SimpleNamespace(**found)


def _assign(costs: torch.Tensor) -> torch.Tensor:
    """Return (B, N) for each row its column in the cheapest assignment, or -1."""
    found = torch.full(costs.shape[:2], -1, dtype=torch.int64)
    for i, cost in enumerate(costs.numpy()):
        rows, columns = linear_sum_assignment(cost)
        found[i, rows] = torch.from_numpy(columns)
    return found


def events_of(name: str, folder: Path, clients: int) -> pd.DataFrame:
    """Return the events of at most so many clients: their ids, times, and all other columns."""
    if name == "cards":
        found = seqmel.generate_card_data(clients, seed=3).events
        found = found if isinstance(found, pd.DataFrame) else found.to_pandas()
    else:
        file = "transactions.parquet" if name == "berka" else "events.parquet"
        found = pd.read_parquet(folder / name / file)
    client, time = found.columns[0], found.select_dtypes("datetime").columns[0]
    ids = pd.Series(found[client].unique())
    found = found[found[client].isin(ids.sample(min(clients, len(ids)), random_state=0))]
    return found.rename(columns={client: "client_id", time: "event_time"})


def cut(events: pd.DataFrame, moment: pd.Timestamp, by: str, kinds: list[str], ids: Any) -> Cut:
    """Cut the events of the clients `ids` at a moment, in their order."""
    code = {kind: i for i, kind in enumerate(kinds)}
    table = pd.DataFrame(
        {
            "client": events["client_id"],
            "day": (events["event_time"] - moment) / pd.Timedelta(days=1),
            "kind": events[by].astype(str).map(code).fillna(code.get("others", 0)).astype(int),
        }
    ).sort_values(["client", "day"], kind="stable")
    groups = dict(list(table.groupby("client")))
    past, future = [], []
    for client in ids:
        day, kind = groups[client]["day"].to_numpy(), groups[client]["kind"].to_numpy()
        before = day < 0
        past.append((day[before], kind[before]))
        future.append((day[~before], kind[~before]))
    return Cut(kinds, past, future)


def by_rates(rates: np.ndarray, days: int, following: Any = None, time: Any = None) -> Predicted:
    """Turn (C, K) expected numbers of events within the horizon into predicted events."""
    clients, kinds = rates.shape
    total = np.maximum(rates.sum(1), 1e-3)
    place = np.array([int(f"{i:04b}"[::-1], 2) for i in range(SLOTS)])  # spread out, first to last
    slots = np.broadcast_to((place + 0.5) / SLOTS * days, (clients, SLOTS)).copy()
    often = np.arange(1, SLOTS + 1)[:, None]
    scores = stats.poisson.logsf(often - 1, np.maximum(rates, 1e-6)[:, None, :])
    following = rates if following is None else following
    time = np.log(2) / total * days if time is None else time
    labels = np.empty((clients, STEPS), int)
    had = np.zeros((clients, kinds))
    for step in range(STEPS):
        missing = following if step == 0 else rates / total[:, None] * (step + 1) - had
        labels[:, step] = missing.argmax(1)
        had[np.arange(clients), labels[:, step]] += 1
    times = time[:, None] + np.arange(STEPS) * (days / total)[:, None]
    return Predicted(np.log(following + 1e-9), time, slots, np.maximum(scores, -99), times, labels)


def own_rates(of: Cut, days: int) -> Predicted:
    """Predict that each client goes on at its own rates."""
    rates = np.stack(
        [np.bincount(kind, minlength=len(of.kinds)) / -day[0] * days for day, kind in of.past]
    )
    return by_rates(rates, days)


def most_popular(of: Cut) -> Predicted:
    """Predict the fractions of the kinds of each client so far, at its mean gap."""
    gap = np.array([(day[-1] - day[0]) / max(1, len(day) - 1) for day, _ in of.past])
    last = np.array([day[-1] for day, _ in of.past])
    fractions = np.stack(
        [np.bincount(kind, minlength=len(of.kinds)) / len(kind) for _, kind in of.past]
    )
    times = last[:, None] + np.arange(1, SLOTS + 1) * gap[:, None]
    scores = np.repeat(np.log(fractions + 1e-9)[:, None], SLOTS, 1)
    labels = np.repeat(fractions.argmax(1)[:, None], STEPS, 1)
    return Predicted(scores[:, 0], times[:, 0], times, scores, times[:, :STEPS], labels)


def last_events(of: Cut) -> Predicted:
    """Predict the last events of each client once more, with their gaps."""
    times, labels = [], []
    for day, kind in of.past:
        gaps = np.diff(day, prepend=day[0])
        again = np.arange(SLOTS) % min(SLOTS, len(day)) - min(SLOTS, len(day))
        times.append(day[-1] + gaps[again].cumsum())
        labels.append(kind[again])
    when, what = np.stack(times), np.stack(labels)
    scores = np.eye(len(of.kinds))[what]
    return Predicted(scores[:, 0], when[:, 0], when, scores, when[:, :STEPS], what[:, :STEPS])


def measure(found: Predicted, of: Cut, days: int, hotpp: Any, who: np.ndarray) -> dict[str, float]:
    """Return the metrics of HoTPP on some clients."""
    after = [of.future[i] for i in who]
    some = np.array([len(day) > 0 for day, _ in after])
    at = who[some]
    target = [(day[0], kind[0]) for day, kind in after if len(day)]
    day, kind = (torch.tensor(np.array(x)) for x in zip(*target, strict=True))
    logits = torch.from_numpy(found.next_scores[at]).float()
    item = hotpp.NextItemMetric(max_time_delta=days)
    one_row = torch.ones(1, len(at), dtype=torch.bool)  # the clients as places of one sequence
    item.update(
        one_row,
        day[None],
        kind[None],
        torch.from_numpy(found.next_time[at])[None],
        logits.argmax(1)[None],
        logits[None],
    )
    most = max(1, *(int((day < days).sum()) for day, _ in after))
    times = np.full((len(after), most), 2.0 * days)
    kinds = np.zeros((len(after), most), int)
    for row, (when, what) in enumerate(after):
        count = int((when < days).sum())
        times[row, :count], kinds[row, :count] = when[:count], what[:count]
    tmap = hotpp.TMAPMetric(horizon=days, time_delta_thresholds=[d * days for d in DELTAS])
    tmap.update(
        torch.zeros(len(after)),
        torch.from_numpy(times < days),
        torch.from_numpy(times),
        torch.from_numpy(kinds),
        torch.ones(len(after), SLOTS, dtype=torch.bool),
        torch.from_numpy(found.slot_times[who]),
        torch.from_numpy(found.slot_scores[who]).float(),
    )
    long = np.array([len(when) >= STEPS for when, _ in after])
    enough = [one for one, keep in zip(after, long, strict=True) if keep]
    otd = hotpp.OTDMetric(insert_cost=COST * days, delete_cost=COST * days)
    otd.update(
        torch.tensor(np.stack([when[:STEPS] for when, _ in enough])),
        torch.tensor(np.stack([what[:STEPS] for _, what in enough])),
        torch.from_numpy(found.times[who[long]]),
        torch.from_numpy(found.labels[who[long]]),
    )
    next_item = item.compute()
    return {
        "accuracy": next_item["next-item-accuracy"],
        "mae": next_item["next-item-mae"] / days,
        "otd": otd.compute()["optimal-transport-distance"] / days,
        "t-map": tmap.compute()["T-mAP"],
    }


def seqmel_forecast(
    events: pd.DataFrame, moment: pd.Timestamp, days: int, by: str
) -> tuple[pd.DataFrame, list[str]]:
    """Train on the events before a moment, forecast, and return the table and the kinds."""
    before = events[events["event_time"] < moment]
    model = seqmel.train(before, config={"seed": 0}, progress=False)
    within = f"{days}d"
    found = model.forecast(before, within=within, by=by, top=TOP, as_of=str(moment)).table
    kinds = [name.removeprefix("count=") for name in found if name.startswith("count=")]
    return found, kinds


def main() -> None:
    """Measure all sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--sets", nargs="*", default=list(DAYS), choices=list(DAYS))
    parser.add_argument("--clients", type=int, default=2_000)
    given = parser.parse_args()
    hotpp, results = metrics(), {}
    for name in given.sets:
        days, by = DAYS[name], KINDS[name]
        events = events_of(name, given.folder, given.clients)
        moment = events["event_time"].quantile(0.75).floor("D")
        table, kinds = seqmel_forecast(events, moment, days, by)
        of = cut(events, moment, by, kinds, table.index)
        time = table["days_to_next"].fillna(days).to_numpy()
        counts, following = (
            table[[f"{part}={kind}" for kind in kinds]].to_numpy() for part in ("count", "next")
        )
        rows = {
            "most popular": most_popular(of),
            "last": last_events(of),
            "own rates": own_rates(of, days),
            "seqmel": by_rates(counts, days, following, time),
        }
        groups = np.array_split(np.random.default_rng(0).permutation(len(table)), GROUPS)
        results[name] = {"days": days, "by": by, "clients": len(table), "rows": {}}
        for row, predicted in rows.items():
            parts = [measure(predicted, of, days, hotpp, group) for group in groups]
            results[name]["rows"][row] = {m: interval([p[m] for p in parts]) for m in parts[0]}
        print(name, json.dumps(results[name]), flush=True)
        given.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
