"""Tables of other shapes: embeddings by default beside aggregates with order.

    pip install --no-deps recbole lifetimes retentioneering==3.3.0 aeon==1.6.0
    python benchmarks/more_tables.py DATA_FOLDER -o OUT_FOLDER [--trees 100]
    [--tables ratings,hours,matches,shop,clicks,vowels,power,leaves]
    [--without missing_numbers,code_fractions,category_components]

- ratings: MovieLens 100K (a sample file of `recbole`), 943 people who rated 1,682 films. Targets
  are gender, age, and whether they are students.
- hours: physionet2012 as a wide table, a row per hour with 19 numbers of which most are missing,
  cut at a random hour. Targets are means and sums of the next six hours.
- matches: simulated tennis, a row per point, cut at a random point. Targets are the winner of the
  match, and the winner and the server of the next point.
- shop: CDNOW (a file of `lifetimes`), purchases of 6,000 new clients from January to September
  1997. Targets are the purchases of the nine months after.
- clicks: events in a shop (a file of `retentioneering`) of 2,928 visitors, each history cut at a
  random event. Targets are the next event, the time to it, and whether the visitor pays or returns
  on another day.
- vowels, power, leaves: time series (JapaneseVowels, ItalyPowerDemand and OSULeaf of the UCR and
  UEA archives, sample files of `aeon`), a row per value, training and test sets together: 640
  pairs of vowels by nine speakers (12 numbers), 1,096 days of power demand by season, and 442
  outlines of leaves of six species. The target is the class.

No default was chosen on them before the poolings `missing_numbers` (chosen on hours),
`code_fractions` (matches) and `category_components` (ratings), and none on the others.
--without trains a second model per table without these poolings. OUT_FOLDER/more_tables.json has
the rows of the table: with --without, it can replace research/data/more_tables.json.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from flights import of_package
from next_events import compare_tables, options

HOURLY = (
    "HR", "MAP", "SysABP", "DiasABP", "NIMAP", "NISysABP", "Temp", "RespRate", "GCS", "Urine",
    "FiO2", "K", "Na", "Glucose", "HCT", "WBC", "Creatinine", "pH", "PaO2", "MechVent",
)  # fmt: skip
POINTS = ("0", "15", "30", "40")
Table = tuple[pd.DataFrame, pd.DataFrame]


def ratings(data: Path) -> Table:
    """Return ratings of films, and people."""
    stem = "dataset_example/ml-100k/ml-100k."
    events = pd.read_csv(of_package("recbole", stem + "inter"), sep="\t")
    events.columns = pd.Index(["client_id", "film", "rating", "event_time"])
    events["event_time"] = pd.to_datetime(events["event_time"], unit="s")
    people = pd.read_csv(of_package("recbole", stem + "user"), sep="\t")
    people.columns = pd.Index(["client_id", "age", "gender", "occupation", "zip"])
    labels = people[["client_id", "gender"]].assign(
        log_age=np.log(people["age"]), student=(people["occupation"] == "student").astype(int)
    )
    return events.sort_values(["client_id", "event_time"], kind="stable"), labels


def hours(data: Path) -> Table:
    """Return a wide row per hour of 3,000 stays, and the six hours after a random one."""
    events = pd.read_parquet(data / "physionet2012" / "events.parquet")
    stays = np.random.default_rng(3).choice(events["client_id"].unique(), 3_000, replace=False)
    events = events[events["client_id"].isin(stays) & events["parameter"].isin(HOURLY)]
    events = events.assign(event_time=events["event_time"].dt.floor("h"))
    wide = events.pivot_table(
        index=["client_id", "event_time"], columns="parameter", values="value", aggfunc="mean"
    )
    wide = wide[list(HOURLY)].reset_index()
    begins = wide.groupby("client_id")["event_time"].transform("min")
    hour = (wide["event_time"] - begins) // pd.Timedelta(hours=1)
    random = np.random.default_rng(0)
    histories = []
    labels = []
    for client, stay in wide.groupby("client_id", sort=True):
        place = hour.loc[stay.index]
        if place.max() < 20:
            continue
        at = int(random.integers(10, min(place.max() - 6, 41)))
        later = stay[(place >= at) & (place < at + 6)]
        pressure = later["MAP"].fillna(later["NIMAP"])
        if (place < at).sum() < 5:
            continue
        histories.append(stay[place < at])
        labels.append({
            "client_id": client,
            "hr_next6": later["HR"].mean(),
            "map_next6": pressure.mean(),
            "low_map_next6": None if pressure.isna().all() else int(pressure.min() < 60),
            "log_urine_next6": np.log1p(later["Urine"].sum()),
            "temp_next6": later["Temp"].mean(),
        })  # fmt: skip
    return pd.concat(histories, ignore_index=True), pd.DataFrame(labels)


def matches(data: Path) -> Table:
    """Return points of 2,500 simulated matches up to a random one, and what follows."""
    random = np.random.default_rng(0)
    histories = []
    labels = []
    for match in range(2_500):
        points, winner = match_of_tennis(random)
        at = int(random.integers(20, len(points) - 4))
        day = pd.Timestamp("2020-01-01") + pd.Timedelta(days=int(random.integers(700)))
        columns = ["second", "score_1", "score_2", "server", "won_by", "rally", "how"]
        seen = pd.DataFrame(points[:at], columns=columns)
        seen.insert(0, "client_id", match)
        seen.insert(1, "event_time", day + pd.to_timedelta(seen.pop("second"), unit="s"))
        histories.append(seen)
        _, _, _, server, won_by, _, _ = points[at]
        labels.append((match, winner, won_by, server))
    names = ["client_id", "winner", "next_point", "next_server"]
    return pd.concat(histories, ignore_index=True), pd.DataFrame(labels, columns=names)


def match_of_tennis(random: np.random.Generator) -> tuple[list[tuple[object, ...]], str]:
    """Return the points of a match of three sets, and its winner.

    Players differ in how often they win a point that they serve, and win more after points won.
    """
    serves = 0.63 + random.normal(0, 0.05, 2)
    form = 0.0
    sets, games = [0, 0], [0, 0]
    server = int(random.integers(2))
    points: list[tuple[object, ...]] = []
    second = 0
    while max(sets) < 2:
        score = [0, 0]
        while not (max(score) >= 4 and abs(score[0] - score[1]) >= 2):
            chance = serves[server] + 0.02 * (form if server == 0 else -form)
            winner = server if random.random() < chance else 1 - server
            form = 0.9 * form + (0.2 if winner == 0 else -0.2)
            second += int(random.integers(15, 45))
            short = random.random() < 0.1
            how = ("ace" if winner == server else "double fault") if short else "rally"
            said = [POINTS[min(points_won, 3)] for points_won in score]
            players = f"player {server + 1}", f"player {winner + 1}"
            points.append((second, *said, *players, int(random.geometric(0.25)), how))
            score[winner] += 1
        games[int(score[1] > score[0])] += 1
        server = 1 - server
        if (max(games) >= 6 and abs(games[0] - games[1]) >= 2) or max(games) == 7:
            sets[int(games[1] > games[0])] += 1
            games = [0, 0]
    return points, f"player {1 + int(sets[1] > sets[0])}"


def shop(data: Path) -> Table:
    """Return first purchases of 6,000 clients, and those of the nine months after."""
    file = of_package("lifetimes", "datasets/CDNOW_master.txt")
    columns = ["client_id", "event_time", "discs", "amount"]
    events = pd.read_csv(file, sep=r"\s+", header=0, names=columns)
    events["event_time"] = pd.to_datetime(events["event_time"].astype(str), format="%Y%m%d")
    early = events["event_time"] <= "1997-09-30"
    clients = np.random.default_rng(0).choice(
        events.loc[early, "client_id"].unique(), 6_000, replace=False
    )
    later = events[~early].groupby("client_id")["amount"].agg(["size", "sum"])
    later = later.reindex(clients).fillna(0)
    labels = pd.DataFrame({
        "client_id": clients,
        "buys_again": (later["size"] > 0).astype(int).to_numpy(),
        "log_purchases": np.log1p(later["size"]).to_numpy(),
        "log_amount": np.log1p(later["sum"]).to_numpy(),
    })  # fmt: skip
    return events[early & events["client_id"].isin(clients)], labels


def clicks(data: Path) -> Table:
    """Return the clicks of visitors with three or more, up to a random one, and what follows."""
    file = of_package("retentioneering", "datasets/data/simple-onlineshop.csv")
    events = pd.read_csv(file, parse_dates=["timestamp"])
    events = events.rename(columns={"user_id": "client_id", "timestamp": "event_time"})
    events = events.sort_values(["client_id", "event_time"], kind="stable")
    random = np.random.default_rng(0)
    histories = []
    labels = []
    for client, visits in events.groupby("client_id", sort=True):
        if len(visits) < 3:
            continue
        at = int(random.integers(2, len(visits)))
        history, later = visits[:at], visits[at:]
        seconds = (later["event_time"] - history["event_time"].iloc[-1]).dt.total_seconds()
        histories.append(history)
        labels.append({
            "client_id": client,
            "next_event": later["event"].iloc[0],
            "log_seconds_to_next": np.log1p(seconds.iloc[0]),
            "pays": int((later["event"] == "payment_done").any()),
            "returns": int((seconds > 86_400).any()),
        })  # fmt: skip
    found = pd.DataFrame(labels)
    frequent = found.groupby("next_event")["client_id"].transform("size") >= 40
    found["next_event"] = found["next_event"].where(frequent, "other")
    return pd.concat(histories, ignore_index=True), found


def series(name: str, data: Path) -> Table:
    """Return the values of a set of time series, one a minute, and their classes."""
    folder = of_package("aeon", f"datasets/data/{name}")
    values = []
    labels = []
    for part in ("TRAIN", "TEST"):
        text = (folder / f"{name}_{part}.ts").read_text(encoding="utf-8", errors="replace")
        lines = [line.strip() for line in text.splitlines()]
        start = [line.lower() for line in lines].index("@data") + 1
        for line in filter(None, lines[start:]):
            *dimensions, label = line.split(":")
            numbers = np.array([d.split(",") for d in dimensions], dtype=float).T
            frame = pd.DataFrame(numbers, columns=[f"x{i}" for i in range(numbers.shape[1])])
            minutes = pd.to_timedelta(np.arange(len(frame)), unit="min")
            frame.insert(0, "event_time", pd.Timestamp("2020-01-01") + minutes)
            frame.insert(0, "client_id", len(labels))
            values.append(frame)
            labels.append((len(labels), label))
    return pd.concat(values, ignore_index=True), pd.DataFrame(
        labels, columns=["client_id", "class"]
    )


TABLES: dict[str, Callable[[Path], Table]] = {
    "ratings": ratings,
    "hours": hours,
    "matches": matches,
    "shop": shop,
    "clicks": clicks,
    "vowels": partial(series, "JapaneseVowels"),
    "power": partial(series, "ItalyPowerDemand"),
    "leaves": partial(series, "OSULeaf"),
}


def main() -> None:
    """Read the options and compare on each table."""
    parser = options(__doc__)
    parser.add_argument("--tables", default=",".join(TABLES))
    given = parser.parse_args()
    tables = ((name, *TABLES[name](given.data)) for name in given.tables.split(","))
    compare_tables(tables, given, "more_tables.json")


if __name__ == "__main__":
    main()
