"""Write the tables of the pages, and their pictures, from the raw results in research/data.

    python research/tables.py

replaces what stands between `<!-- table NAME -->` and `<!-- end -->` in the pages of `PAGES`, and
draws docs/pictures/{quality,speed,reliability}.svg. A test checks that nothing would change.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections import Counter
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import yaml
from scipy import stats

ROOT = Path(__file__).parents[1]
DATA = ROOT / "research" / "data"
PAGES = (
    "README.md",
    "docs/results.md",
    "docs/performance.md",
    "docs/reliability.md",
    "docs/how-to/facts.md",
    "docs/how-to/labels.md",
    "docs/how-to/several-tables.md",
)
ORDER, ALONE = "aggregates with order", "embeddings"
AVERAGED = "embeddings: linear, aggregates with order: averaged"
COLUMNS = ["aggregates", ORDER, ALONE, "embeddings: linear"]
METRICS = {"auroc": "AUROC", "r2": "R2", "accuracy": "accuracy"}
SHOWN = [
    ("cards", "gender, AUROC"),
    ("online_retail", "buys_in_holdout, AUROC"),
    ("nafld", "death_5y, AUROC"),
    ("assist2009", "next_same_skill, AUROC"),
    ("physionet2012", "in_hospital_death, AUROC"),
    ("berka", "age_group, accuracy"),
    ("nafld", "hdl_rises, AUROC"),
]
"""What the README shows of the targets."""
FLIGHTS = {
    "year": "year built",
    "airbus": "Airbus",
    "late_next": "late next",
    "next_dest": "next destination of 9",
    "log_hours": "log hours to next",
    "same_origin": "same airport as before",
}
READERS = ("LightGBM", "linear")
READ_BY = [head for reader in READERS for head in (reader, "difference")]
FACTS = {
    "facts": "nafld death_5y, AUROC",
    "facts_physionet2012": "physionet2012 in_hospital_death, AUROC",
}
JOINT = "`finetune --facts`"
BEFORE_FACTS = "aggregates with order: LightGBM"
EVERYTHING = "aggregates with order + facts: LightGBM (everything)"
CHOSEN = ("cards", "berka", "physionet2012", "nafld")
"""The sets that the poolings of what comes next were chosen on."""
Rows = list[list[str]]


def results(name: str) -> pd.DataFrame:
    return pd.read_parquet(DATA / f"{name}.parquet")


def measured(name: str) -> Any:
    return json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))


def number(value: float, *, signed: bool = False) -> str:
    text = f"{value:{'+' if signed else ''}.3f}".replace("0.", ".", 1)
    return ".000" if text in ("-.000", "+.000") else text


def interval(of: list[float] | None, *, signed: bool = False) -> str:
    """Return a mean and half of its 95 % interval; nothing where there is none."""
    return "" if of is None else f"{number(of[0], signed=signed)} ± {number(of[1])}"


def named(row: dict[str, Any], names: dict[str, str] | None = None) -> str:
    """Return the target of a row, by these names, and its metric."""
    return f"{(names or {}).get(row['target'], row['target'])}, {METRICS[row['metric']]}"


def difference(table: pd.DataFrame, better: str) -> str:
    """Return the mean difference to the aggregates with order, with its 95 % interval."""
    return interval(list(_difference(table, better)), signed=True)


def _difference(table: pd.DataFrame, better: str) -> tuple[float, float]:
    base = table[table["features"] == ORDER].groupby("fold")["value"].mean()  # of two machines
    rows = table[table["features"] == better]
    found = np.asarray(rows["value"] - rows["fold"].map(base), dtype=np.float64)
    half = stats.t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found))
    return float(found.mean()), float(half)


def of_targets(name: str) -> list[tuple[str, str, pd.DataFrame]]:
    """Return (set, target with its metric, results), in the order of the plan."""
    table = results(name)
    plan = yaml.safe_load((ROOT / "configs/tables/battery.yaml").read_text(encoding="utf-8"))
    found = []
    for data, options in plan["data"].items():
        for target in options["targets"]:
            rows = table[(table["data"] == data) & (table["target"] == target)]
            if len(rows):
                found.append((data, f"{target}, {METRICS[rows['metric'].iloc[0]]}", rows))
    return found


def battery(role: str) -> Rows:
    plan = yaml.safe_load((ROOT / "configs/tables/battery.yaml").read_text(encoding="utf-8"))
    roles = {data: options["role"] for data, options in plan["data"].items()}
    head = ["set", "target, metric", "aggregates", ORDER, ALONE, "linear", "averaged"]
    rows: Rows = [[*head, "difference"]]
    for data, target, table in of_targets("battery"):
        if roles[data] == role:
            means = table.groupby("features")["value"].mean()
            shown = _best_in_bold([means[name] for name in COLUMNS])
            cells = [*shown, number(means[AVERAGED]), difference(table, ALONE)]
            rows.append([data, target, *cells])
    return _once(rows)


def all_clients() -> Rows:
    rows: Rows = [["set", "clients", "target, metric", "aggregates", ORDER, ALONE, "linear"]]
    for r in measured("all_clients"):
        means = [number(r[name]) for name in ("aggregates", ORDER, ALONE, "linear")]
        means[2] += f" ± {number(r['half'])}"
        rows.append([r["data"], f"{r['clients']:,}", named(r), *means])
    return _once(rows, columns=2)


def flights() -> Rows:
    rows: Rows = [["planes", "target, metric", "aggregates", ORDER, ALONE, "linear", "averaged"]]
    rows[0].append("difference")
    for r in measured("flights"):
        shown = _best_in_bold([r[name] for name in ("aggregates", ORDER, ALONE, "linear")])
        cells = [*shown, number(r["averaged"]), interval(r["difference"], signed=True)]
        rows.append([f"{r['clients']:,}", named(r, FLIGHTS), *cells])
    return _once(rows)


def sketch() -> Rows:
    """Return a row per set, its targets beside each other."""
    rows: Rows = [["target", "sketch", "`AggregateFeatures`"]]
    for data, found in groupby(measured("sketch"), lambda row: row["data"]):
        of_set = list(found)
        cells = [", ".join(number(row[name]) for row in of_set) for name in ("sketch", ORDER)]
        rows.append([f"{data} {', '.join(row['target'] for row in of_set)}", *cells])
    return rows


def few_labels() -> Rows:
    rows: Rows = [["set", "target, metric", "labels", ORDER, ALONE]]
    for r in measured("few_labels"):
        shown = _best_in_bold([*r[ORDER], *r[ALONE]])
        half = len(shown) // 2
        cells = [", ".join(part) for part in (shown[:half], shown[half:])]
        data = "cards (generated)" if r["data"] == "cards" else r["data"]
        target = named(r) + (" (LightGBM alone)" if half == 1 else "")
        rows.append([data, target, f"{r['labels']:,}", *cells])
    return _once(rows, columns=2)


def schema_inference() -> Rows:
    """Return a row per set: the tables made of it together, and columns with another role."""
    rows: Rows = [["set", "tables", "right", "other roles"]]
    found = measured("schema_inference")
    for data, of_set in groupby(found, lambda row: row["table"].split(",")[0]):
        tables = list(of_set)
        other = Counter(f"`{c}` {role}" for row in tables for c, role in row["other"].items())
        names = "; ".join(f"{what} ({count} of {len(tables)})" for what, count in other.items())
        rows.append([data, str(len(tables)), _right(tables), names])
    return [*rows, ["all", str(len(found)), _right(found), ""]]


def _right(tables: list[dict[str, Any]]) -> str:
    columns = sum(row["columns"] for row in tables)
    return f"{columns - sum(len(row['other']) for row in tables)} of {columns}"


def next_events(*, chosen: bool) -> Rows:
    rows: Rows = [["set", "next, metric", ORDER, "without", "with", "with, less aggregates"]]
    for r in measured("next_events"):
        if (r["data"] in CHOSEN) == chosen:
            without, with_ = (", ".join(map(number, r[name])) for name in ("without", "with"))
            cells = [number(r[ORDER]), without, with_, interval(r["difference"], signed=True)]
            rows.append([r["data"], named(r, {"log_hours": "hours until it"}), *cells])
    return _once(rows)


def more_tables() -> Rows:
    rows: Rows = [["table", "target, metric", ORDER, "without", "with", "with, less aggregates"]]
    for r in measured("more_tables"):
        without, with_ = (", ".join(map(number, r[name])) for name in ("without", "with"))
        cells = [number(r[ORDER]), without, with_, interval(r["difference"], signed=True)]
        rows.append([r["data"], named(r), *cells])
    return _once(rows)


def time_series() -> Rows:
    rows: Rows = [["series", "target, metric", ORDER, ALONE, "linear", "difference"]]
    for r in measured("time_series"):
        alone, linear = r["with"]
        cells = [number(r[ORDER]), number(alone), number(linear)]
        rows.append([r["data"], named(r), *cells, interval(r["difference"], signed=True)])
    return rows


def text_columns() -> Rows:
    rows: Rows = [["product as", *READ_BY, "recall@1"]]
    found = measured("columns")
    recalls = _best_in_bold([row["recall@1"] for row in found])
    for row, recall in zip(found, recalls, strict=True):
        rows.append([row["columns"], *_with_differences(row), recall])
    return rows


def facts(name: str) -> Rows:
    rows: Rows = [["features and model", "AUROC", "minus LightGBM on everything"]]
    for r in measured(name):
        rows.append([r["features"], interval(r["auroc"]), interval(r["difference"])])
    return rows


def labels_from_events() -> Rows:
    rows: Rows = [["read by", "AUROC"]]
    for r in measured("labels_from_events"):
        mean, low, high = map(number, r["auroc"])
        rows.append([r["features"], f"{mean} ({low} to {high})"])
    return rows


def several_tables() -> Rows:
    """Return a row per set and events that its model saw."""
    rows: Rows = [["set", "target, metric", "events", *READ_BY]]
    for r in measured("several_tables"):
        rows.append([r["data"], named(r), r["events"], *_with_differences(r)])
    return _once(rows, columns=2)


def _with_differences(row: dict[str, Any]) -> list[str]:
    return [
        cell
        for reader in READERS
        for cell in (
            interval(row[reader]),
            interval(row[f"{reader} difference"], signed=True),
        )
    ]


def parts() -> Rows:
    """Return what each part adds: several tables, text, facts and joint fine-tuning."""
    rows: Rows = [["part", "target, metric", "read by", "without", "with", "difference"]]

    def add(part: str, target: str, read_by: str, without: Any, with_: Any, gain: Any) -> None:
        means = (number(without[0]), number(with_[0]))
        rows.append([part, target, read_by, *means, interval(gain, signed=True)])

    sets = measured("several_tables")
    for one, several in zip(_of(sets, "one table"), _of(sets, "several tables"), strict=True):
        for reader in READERS:
            gain = several[f"{reader} difference"]
            target = f"{one['data']} {named(one)}"
            add("several tables instead of one", target, reader, one[reader], several[reader], gain)
    code, *others = measured("columns")
    texts = {"code and text": "text beside the code", "text": "text instead of the code"}
    for row in others:
        for reader in READERS if row["columns"] in texts else ():
            gain = row[f"{reader} difference"]
            target = "online_retail buys_in_holdout, AUROC"
            add(texts[row["columns"]], target, reader, code[reader], row[reader], gain)
    for name, target in FACTS.items():
        scores = {r["features"]: r for r in measured(name)}
        joint, everything, before = (scores[key] for key in (JOINT, EVERYTHING, BEFORE_FACTS))
        gain = [-before["difference"][0], before["difference"][1]]
        add("facts", target, "LightGBM", before["auroc"], everything["auroc"], gain)
        events = scores["`finetune` without facts"]["auroc"]
        add("facts", target, "`finetune`", events, joint["auroc"], joint["facts add"])
        gain = joint["difference"]
        add("joint instead of LightGBM", target, "", everything["auroc"], joint["auroc"], gain)
    return _once(rows, columns=2)


def _of(rows: list[dict[str, Any]], events: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["events"] == events]


def quality() -> Rows:
    """A few targets for the README, good and bad."""
    rows: Rows = [["set, target, metric", ORDER, ALONE, "difference"]]
    found = {(data, target): table for data, target, table in of_targets("battery")}
    for data, target in SHOWN:
        table = found[data, target]
        means = table.groupby("features")["value"].mean()
        shown = _best_in_bold([means[ORDER], means[ALONE]])
        rows.append([f"{data}, {target}", *shown, difference(table, ALONE)])
    return rows


def speed() -> Rows:
    rows: Rows = [["stage", "times as fast (lowest to highest)"]]
    for stage in measured("speed")["ratios"]:
        low, high = stage["range"]
        rows.append([stage["stage"], f"{stage['ratio']:g} ({low:g} to {high:g})"])
    return rows


def speed_in_short() -> Rows:
    stages = {stage["stage"]: f"{stage['ratio']:g}" for stage in measured("speed")["ratios"]}
    names = ["prepare, 3.1 million events", "training step, same GRU, fp32"]
    names.append("embed to Parquet, same GRU")
    return [names, [f"{stages[name]} times as fast" for name in names]]


def scaling() -> Rows:
    rows: Rows = [["stage", "clients", "events", "seconds", "peak MB"]]
    for stage in measured("speed")["scaling"]:
        peak = f"{stage['peak_mb']:,}" if stage["peak_mb"] else ""
        events = f"{stage['events']:,} million"
        rows.append(
            [stage["stage"], f"{stage['clients']:,}", events, f"{stage['seconds']:,}", peak]
        )
    return rows


def online() -> Rows:
    rows: Rows = [["call", "p50 ms", "p99 ms"]]
    return [
        *rows,
        *([c["call"], str(c["p50"]), str(c["p99"])] for c in measured("speed")["online"]),
    ]


def limits() -> Rows:
    rows: Rows = [["stage", "limit", "share of it reached"]]
    for stage in measured("speed")["limits"]:
        reached = "" if stage["reached"] is None else f"{stage['reached']} %"
        rows.append([stage["stage"], stage["limit"], reached])
    return rows


def kills() -> Rows:
    rows: Rows = [["what", "tried", "ended as it should", "did not"]]
    for trial in measured("reliability"):
        rows.append([trial["what"], f"{trial['tried']:,}", trial["ends"], str(trial["bad"])])
    return rows


def hyperbolic(*, temperatures: bool) -> Rows:
    """Return a row per target: a linear model on the vectors of each kind of space.

    Args:
        temperatures: whether to show the rows with another temperature, or all others.
    """
    table = results("hyperbolic")
    base = "head, unit vectors: linear"
    kinds = [
        name
        for name in table["features"].unique()
        if name != base and ("temperature" in name) == temperatures
    ]
    if temperatures:
        sets = table.loc[table["features"].isin(kinds), "data"].unique()
        table = table[table["data"].isin(sets)]
    kinds.sort(key=lambda name: ("curvature" in name, name.startswith("no head")))
    heads = [name.removesuffix(": linear") for name in kinds]
    rows: Rows = [["set", "target, metric", base.removesuffix(": linear"), *heads]]
    for (data, target), of_target in table.groupby(["data", "target"], sort=False):
        values = {
            name: rows_of.set_index(["seed", "fold"])["value"]
            for name, rows_of in of_target.groupby("features")
        }
        cells = [number(values[base].mean())]
        for name in kinds:
            apart = values[name] - values[base]
            half = stats.t.ppf(0.975, len(apart) - 1) * apart.std(ddof=1) / np.sqrt(len(apart))
            cells.append(interval([float(apart.mean()), float(half)], signed=True))
        rows.append([data, f"{target}, {METRICS[of_target['metric'].iloc[0]]}", *cells])
    return _once(rows)


def safe_negatives() -> Rows:
    """Return a row per set and option: a linear model, what was left out, and copies found."""
    rows: Rows = [["set", "negatives", "AUROC", "difference", "left out", "copy is nearest"]]
    for data, of_set in measured("safe_negatives").items():
        for name, row in of_set.items():
            alone = name == "all negatives"
            rows.append(
                [
                    data,
                    name,
                    interval(row["auroc"]) if alone else number(row["auroc"][0]),
                    "" if alone else interval(row["difference"], signed=True),
                    f"{row['left_out']:.2%}",
                    "" if row["copy"] is None else number(row["copy"]),
                ]
            )
    return _once(rows)


def audit() -> Rows:
    """Return a row per attack and variant, with a column per set of vectors."""
    figures = measured("audit")["figures"]
    sets = list(dict.fromkeys(row["vectors"] for row in figures))
    rows: Rows = [["attack", "variant, metric", *sets, "chance"]]
    for attack in dict.fromkeys(row["attack"] for row in figures):
        for of in dict.fromkeys(row["of"] for row in figures if row["attack"] == attack):
            found = {r["vectors"]: r for r in figures if (r["attack"], r["of"]) == (attack, of)}
            values = [found[name]["figure"] for name in sets]
            cells = [
                interval([v["mean"], max(v["high"] - v["mean"], v["mean"] - v["low"])])
                for v in values
            ]
            first = found[sets[0]]
            name = f"{of}, {METRICS.get(first['metric'], first['metric'])}"
            rows.append([attack, name, *cells, number(first["chance"])])
    return _once(rows)


def hotpp() -> Rows:
    """Return a row per set and forecast with the metrics of HoTPP."""
    rows: Rows = [["set, kinds, horizon", "forecast", "accuracy", "MAE ↓", "OTD ↓", "T-mAP"]]
    for data, found in measured("hotpp").items():
        name = f"{data}, {found['by']}, {found['days']} days"
        for forecast, values in found["rows"].items():
            cells = [interval(values[m]) for m in ("accuracy", "mae", "otd", "t-map")]
            rows.append([name, forecast, *cells])
    return _once(rows)


def ebes() -> Rows:
    """Return a row per model: AUROC of the test."""
    found = measured("ebes")["rows"]
    return [["seqmel, pre-trained without labels", "AUROC"]] + [
        [name, interval(values)] for name, values in found.items()
    ]


def maps() -> Rows:
    """Return a row per set and layout with its scores."""
    rows: Rows = [["set", "layout", "global score", "neighbours kept"]]
    for data, layouts in measured("maps").items():
        for name, scores in layouts.items():
            rows.append([data, name, *map(interval, scores)])
    return _once(rows)


TABLES: dict[str, Callable[[], Rows]] = {
    "quality": quality,
    "all clients": all_clients,
    "flights": flights,
    "sketch": sketch,
    "few labels": few_labels,
    "schema inference": schema_inference,
    "next events, chosen on": lambda: next_events(chosen=True),
    "next events, confirmed on": lambda: next_events(chosen=False),
    "more tables": more_tables,
    "time series": time_series,
    "text": text_columns,
    "facts": lambda: facts("facts"),
    "facts of physionet2012": lambda: facts("facts_physionet2012"),
    "labels from events": labels_from_events,
    "several tables": several_tables,
    "parts": parts,
    "battery of sets to choose by": lambda: battery("choose"),
    "battery of sets to confirm": lambda: battery("confirm"),
    "hyperbolic": lambda: hyperbolic(temperatures=False),
    "hyperbolic, temperatures": lambda: hyperbolic(temperatures=True),
    "audit": audit,
    "hotpp": hotpp,
    "safe negatives": safe_negatives,
    "ebes": ebes,
    "maps": maps,
    "speed": speed,
    "speed in short": speed_in_short,
    "scaling": scaling,
    "online": online,
    "limits": limits,
    "reliability": kills,
}


def _best_in_bold(values: list[float]) -> list[str]:
    best = max(round(value, 3) for value in values)
    return [f"**{number(v)}**" if round(v, 3) == best else number(v) for v in values]


def _once(rows: Rows, columns: int = 1) -> Rows:
    """Blank the first columns of a row where all of them are those of the row above."""
    before: list[str] = []
    for row in rows[1:]:
        same, before = row[:columns] == before, row[:columns]
        if same:
            row[:columns] = [""] * columns
    return rows


def markdown(rows: Rows) -> str:
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def filled(text: str) -> str:
    """Return the text of a page with its tables as the results say."""

    def table(mark: re.Match[str]) -> str:
        return f"{mark[1]}\n\n{markdown(TABLES[mark[2]]())}\n\n<!-- end -->"

    return re.sub(r"(<!-- table (.+?) -->)\n.*?<!-- end -->", table, text, flags=re.DOTALL)


def drawing() -> ModuleType:
    """docs/pictures.py, for its shapes and colours."""
    path = ROOT / "docs" / "pictures.py"
    spec = importlib.util.spec_from_file_location("pictures", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def quality_picture() -> str:
    """Draw embeddings less aggregates with order, with intervals: a row per target."""
    d = drawing()
    found = [(f"{data} {target}", t) for data, target, t in of_targets("battery")]
    zero, scale, top = 430, 3000, 62
    bottom = top + 24 * len(found)
    parts = [
        d.text(
            20, 28, "LightGBM on embeddings less LightGBM on aggregates with order, 95 % intervals"
        ),
        d.line(zero, top - 14, zero, bottom, d.GREY),
        d.text(zero - 8, bottom + 18, "&#9664; aggregates better", anchor="end"),
        d.text(zero + 8, bottom + 18, "embeddings better &#9654;"),
    ]
    for row, (name, table) in enumerate(found):
        mean, half = _difference(table, ALONE)
        y = top + 24 * row
        colour = d.GREY if abs(mean) <= half else d.BLUE if mean > 0 else d.ORANGE
        left, right = (min(680, max(270, zero + scale * x)) for x in (mean - half, mean + half))
        parts.append(d.text(20, y + 4, name))
        parts += [d.line(left, y, right, y, colour), d.dot(zero + scale * mean, y, colour, 5)]
        parts.append(d.text(760, y + 4, number(mean, signed=True), anchor="end"))
    return d.svg(780, bottom + 34, "What embeddings are worth beside aggregates", *parts)


def speed_picture() -> str:
    d = drawing()
    stages = measured("speed")["ratios"]
    zero, scale = 330, 150
    parts = [
        d.text(20, 28, "times as fast as pytorch-lifestream, logarithmic; line: lowest to highest")
    ]
    for row, stage in enumerate(stages):
        y = 62 + 30 * row
        x = [zero + scale * float(np.log10(v)) for v in (stage["ratio"], *stage["range"])]
        parts.append(d.text(20, y + 5, stage["stage"]))
        parts.append(d.bar(zero, y - 9, x[0] - zero, 18, d.BLUE))
        parts += [d.line(x[1], y, x[2], y), d.text(x[2] + 10, y + 5, f"{stage['ratio']:g}")]
    bottom = 62 + 30 * len(stages)
    parts.append(d.line(zero, 44, zero, bottom - 12, d.INK))
    return d.svg(700, bottom, "Speed beside pytorch-lifestream", *parts)


def reliability_picture() -> str:
    d = drawing()
    trials = measured("reliability")
    parts = [d.text(20, 28, "how trials ended; none ended in a wrong or half-written result")]
    for row, trial in enumerate(trials):
        y, x = 66 + 52 * row, 20.0
        parts.append(d.text(20, y, f"{trial['what']}: {trial['tried']:,}"))
        for number_, (name, count) in enumerate(trial["counts"].items()):
            width = 640 * count / trial["tried"]
            parts.append(d.bar(x, y + 8, width, 16, (d.BLUE, d.GREY, d.ORANGE)[number_ % 3]))
            if width > 120:
                parts.append(d.text(x + 6, y + 20, f"{name} {count:,}", fill="white"))
            x += width
    return d.svg(680, 66 + 52 * len(trials), "How trials of reliability ended", *parts)


PICTURES = {
    "quality": quality_picture,
    "speed": speed_picture,
    "reliability": reliability_picture,
}


if __name__ == "__main__":
    for page in PAGES:
        path = ROOT / page
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
    for name, draw in PICTURES.items():
        (ROOT / "docs" / "pictures" / f"{name}.svg").write_text(draw(), encoding="utf-8")
