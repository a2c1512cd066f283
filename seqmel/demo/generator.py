"""Card-like clients and transactions with a planted age and gender signal.

A client is a lifestyle, own tastes, own hours, own places, regular payments and habits. Part of age
and gender is in WHAT the client buys (shares and amounts: aggregates see it), part only in ORDER
AND TIMING: which stop of a trip comes first, how soon clothes go back, whether nights out come in
bursts. Aggregates cannot see that part, sequences show it.

From top to bottom: the strengths, the clients, their outings, second stops, refunds and regular
payments, the tables.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from seqmel.core.errors import ConfigError
from seqmel.demo.merchants import (
    CASH_MCC,
    CITIES,
    LIFESTYLES,
    MERCHANTS,
    PAY_MCC,
    PLANS,
    TRANSFER_MCC,
    TRIPS,
    Plan,
    Trip,
)
from seqmel.demo.rhythms import (
    DAY,
    DAYS,
    GROUPS,
    MONTH,
    MONTH_START,
    PAYDAYS,
    RHYTHMS,
    WEEKDAY,
    YEAR,
    Floats,
    Ints,
    cumulative,
    day_table,
    pick,
    quarter_hour_table,
)

__all__ = ["TARGETS", "CardData", "generate_card_data"]

TARGETS = ("gender", "age", "age_group")
"""The labels of the clients."""

Bools = npt.NDArray[np.bool_]

# How strongly a client's tastes and habits depend on gender and age. The rest is noise of unit
# variance. Tuned with benchmarks/demo_calibration.py so that boosting on aggregates scores like
# published results on real card data (gender AUROC 0.87, age_group accuracy 0.63), and clearly
# higher with order and timing.
GENDER_IN_SHARES = 1.4
AGE_IN_SHARES = 4.0
GENDER_IN_ORDER = 0.65
AGE_IN_ORDER = 1.7

# The change of a log share per standard deviation of gender or age, times the merchant's `female`
# or `old`.
GENDER_TILT = 0.6
AGE_TILT = 1.2
OWN_TASTE = 40.0  # Dirichlet concentration: a smaller one concentrates clients on fewer merchants
HABIT_FIRMNESS = 2.5  # makes habits near 0 or 1: a client acts the same way all year
BUSY_MEDIAN, BUSY_SPREAD, BUSY_RANGE = 158.0, 0.66, (5.0, 800.0)  # events per year, lognormal
SECOND_CARD = 0.06  # fraction of clients who hardly use this card
REFUNDED = 0.09  # fraction of clothes purchases that are returned, about one event in a hundred
BURST_GROUPS = ("dining", "night")

GROUP_OF = np.array([GROUPS.index(m.group) for m in MERCHANTS])
INDEX = {m.mcc: i for i, m in enumerate(MERCHANTS)}
REFUND_SOON, IN_BURSTS = len(TRIPS), len(TRIPS) + 1  # columns of the habits, after the trips
HABIT_LEAN = np.array([*((t.female, t.old) for t in TRIPS), (0.0, -1.0), (0.0, -1.0)])


@dataclass(frozen=True)
class CardData:
    """Transactions in time order, and one row of labels per client.

    Attributes:
        events: one row per transaction.
        clients: one row per client: its id and its labels.

    Examples:
        >>> import seqmel
        >>> data = seqmel.generate_card_data(clients=3)
        >>> data.clients.num_rows, data.events.column_names[:2]
        (3, ['client_id', 'event_time'])
    """

    events: pa.Table
    clients: pa.Table

    def write(self, folder: str | Path) -> None:
        """Write `events.parquet` and `clients.parquet` into a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(self.events, folder / "events.parquet")
        pq.write_table(self.clients, folder / "clients.parquet")


def generate_card_data(clients: int = 3000, *, seed: int = 0) -> CardData:
    """Generate one year of card transactions. The same seed gives the same tables.

    Args:
        clients: The number of clients. Each has some hundred transactions.
        seed: The seed of all random numbers.

    Returns:
        The transactions, and one row of labels per client.

    Raises:
        ConfigError: fewer than one client.

    Examples:
        >>> import seqmel
        >>> data = seqmel.generate_card_data(clients=3, seed=0)
        >>> data.clients.column_names
        ['client_id', 'gender', 'age', 'age_group']
    """
    if clients < 1:
        raise ConfigError(f"clients must be at least 1, got {clients}.")
    rng = np.random.default_rng(seed)
    people = _draw_people(clients, rng)
    regular = _regular_payments(people, rng)
    outings = _outings(people, regular, rng)
    second_stops = _second_stops(people, outings, rng)
    refunds = _refunds(people, outings, rng)
    ids = 10_000_000 + rng.choice(90_000_000, clients, replace=False)
    events = _events_table(people, ids, _join(regular, outings, second_stops, refunds), rng)
    return CardData(events, _clients_table(people, ids))


# ---- clients
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _People:
    """One entry (or row) per client."""

    gender: Floats  # +1 woman, -1 man
    age: Ints
    taste: Floats  # cumulative shares of the merchants
    habits: Floats  # probability of the first form of each habit
    wealth: Floats  # factor on amounts
    hours: Floats  # shift of the daily rhythm
    payday: Ints  # day of month, plus PAYDAYS for those paid twice a month
    busy: Floats  # target number of events in the year
    online: Floats  # tendency to buy online, around 1
    contactless: Floats  # probability that a small payment is contactless

    def __len__(self) -> int:
        return len(self.age)


def _draw_people(n: int, rng: np.random.Generator) -> _People:
    gender = rng.choice([-1.0, 1.0], n)
    age = (18 + 63 * rng.beta(1.5, 2.0, n)).astype(np.int64)
    years = (age - 45) / 15
    woman = (GENDER_IN_SHARES * gender + rng.normal(size=n)) / np.hypot(GENDER_IN_SHARES, 1)
    mature = (AGE_IN_SHARES * years + rng.normal(size=n)) / np.hypot(AGE_IN_SHARES, 1)
    busy = np.clip(BUSY_MEDIAN * np.exp(BUSY_SPREAD * rng.normal(size=n)), *BUSY_RANGE)
    lean = HABIT_LEAN @ np.stack([GENDER_IN_ORDER * gender, AGE_IN_ORDER * years])
    return _People(
        gender=gender,
        age=age,
        taste=_draw_tastes(woman, mature, rng),
        habits=_sigmoid(HABIT_FIRMNESS * (lean.T + rng.normal(size=(n, len(HABIT_LEAN))))),
        wealth=np.exp(0.12 * mature - 0.12 * mature**2 - 0.05 * woman + 0.4 * rng.normal(size=n)),
        hours=0.7 * rng.normal(size=n) - 0.6 * mature,
        payday=rng.integers(0, PAYDAYS, n) + PAYDAYS * (rng.random(n) < 0.3),
        busy=np.where(rng.random(n) < SECOND_CARD, rng.uniform(5, 40, n), busy),
        online=np.exp(0.4 * rng.normal(size=n) - 0.3 * mature),
        contactless=_sigmoid(1.0 + rng.normal(size=n) - 0.9 * mature),
    )


def _draw_tastes(woman: Floats, mature: Floats, rng: np.random.Generator) -> Floats:
    """Draw Dirichlet shares of the merchants, by lifestyle, gender and age."""
    female, old, share = (
        np.array([getattr(m, name) for m in MERCHANTS]) for name in ("female", "old", "share")
    )
    lifestyles = np.array([[style.get(m.group, 1.0) for m in MERCHANTS] for style in LIFESTYLES])
    weights = share * lifestyles[rng.integers(0, len(LIFESTYLES), len(woman))]
    weights *= np.exp(GENDER_TILT * np.outer(woman, female) + AGE_TILT * np.outer(mature, old))
    # Spending on children peaks in the middle of life, which a linear effect of age cannot give.
    weights *= np.where(
        _in_groups(np.arange(len(MERCHANTS)), "kids"), np.exp(0.5 - mature**2)[:, None], 1.0
    )
    weights /= weights.sum(axis=1, keepdims=True)
    return cumulative(rng.standard_gamma(OWN_TASTE * weights))


def _in_groups(merchant: Ints, *names: str) -> Bools:
    return np.isin(GROUP_OF[merchant], [GROUPS.index(name) for name in names])


def _sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


# ---- events
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rows:
    """Events: client and merchant by index, seconds since the start of the year."""

    client: Ints
    merchant: Ints
    when: Floats
    amount: Floats
    online: Bools


def _join(*parts: _Rows) -> _Rows:
    return _Rows(
        *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(_Rows))
    )


def _outings(people: _People, regular: _Rows, rng: np.random.Generator) -> _Rows:
    """Draw free purchases: merchants by taste, times by the rhythm of the group.

    Their number fills the client's target beside the regular payments.
    """
    # Some outings get a second stop.
    room = (people.busy - np.bincount(regular.client, minlength=len(people))) / 1.15
    client = np.repeat(np.arange(len(people)), np.maximum(room, BUSY_RANGE[0]).astype(np.int64))
    merchant = pick(people.taste, client, rng.random(len(client)))
    share = np.array([m.online for m in MERCHANTS])[merchant]
    # A power keeps 0 and 1.
    online = rng.random(len(client)) < share ** (1 / people.online[client])
    when = DAY * _days(people, client, merchant, rng) + _seconds(people, client, merchant, rng)
    return _Rows(client, merchant, when, _amounts(people, client, merchant, rng), online)


def _days(people: _People, client: Ints, merchant: Ints, rng: np.random.Generator) -> Floats:
    """Draw days by weekday, season and payday. Bursts have the same seasons as even spending."""
    dice = rng.random(len(client))
    centres = rng.random((len(people), len(GROUPS), 4))
    group = GROUP_OF[merchant]
    burst = _in_groups(merchant, *BURST_GROUPS) & (
        rng.random(len(client)) < people.habits[client, IN_BURSTS]
    )
    near = centres[client, group, rng.integers(0, 4, len(client))] + 0.008 * rng.normal(
        size=len(client)
    )
    row = group * 2 * PAYDAYS + people.payday[client]
    return pick(day_table(), row, np.where(burst, near % 1, dice)).astype(np.float64)


def _seconds(people: _People, client: Ints, merchant: Ints, rng: np.random.Generator) -> Floats:
    """Draw seconds of the day: the peaks of the group's rhythm, shifted by the client."""
    quarter = pick(quarter_hour_table(), GROUP_OF[merchant], rng.random(len(client)))
    hours = (quarter + rng.random(len(client))) / 4
    return ((hours + people.hours[client]) % 24) * 3600


def _amounts(people: _People, client: Ints, merchant: Ints, rng: np.random.Generator) -> Floats:
    """Draw lognormal amounts by merchant and wealth.

    Spending is negative, a third of transfers positive.
    """
    median, spread = (
        np.array([getattr(m, name) for m in MERCHANTS])[merchant] for name in ("amount", "spread")
    )
    amount = median * people.wealth[client] * np.exp(spread * rng.normal(size=len(client)))
    amount = np.where(merchant == INDEX[CASH_MCC], np.ceil(amount / 10) * 10, amount)
    incoming = (merchant == INDEX[TRANSFER_MCC]) & (rng.random(len(client)) < 0.33)
    return np.where(incoming, amount, -amount)


def _second_stops(people: _People, outings: _Rows, rng: np.random.Generator) -> _Rows:
    return _join(
        *(_second_stop(people, outings, trip, habit, rng) for habit, trip in enumerate(TRIPS))
    )


def _second_stop(
    people: _People, outings: _Rows, trip: Trip, habit: int, rng: np.random.Generator
) -> _Rows:
    """Add a second purchase to some outings, at two times. The habit decides only their order.

    So merchants, amounts, hours and gaps have the same distribution either way, and their
    aggregates do not reveal the habit. An outing that comes second is moved in place.
    """
    asked = (outings.merchant == INDEX[trip.first]) & ~outings.online
    chosen = np.flatnonzero(asked & (rng.random(len(asked)) < trip.chance))
    client = outings.client[chosen]
    early = outings.when[chosen]
    late = early + 60 * trip.minutes * np.exp(0.4 * rng.normal(size=len(chosen)))
    merchant = np.full(len(chosen), INDEX[trip.second])
    amount = _amounts(people, client, merchant, rng)
    swap = rng.random(len(chosen)) >= people.habits[client, habit]
    if trip.by_amount:
        swap ^= np.abs(amount) < np.abs(outings.amount[chosen])
    outings.when[chosen] = np.where(swap, late, early)
    when: Floats = np.where(swap, early, late)
    return _Rows(client, merchant, when, amount, np.zeros(len(chosen), dtype=bool))


def _refunds(people: _People, outings: _Rows, rng: np.random.Generator) -> _Rows:
    """Draw refunds of clothes, in full or in part, within days or after weeks by habit."""
    clothes = _in_groups(outings.merchant, "clothes")
    back = np.flatnonzero(clothes & (rng.random(len(clothes)) < REFUNDED))
    client = outings.client[back]
    soon = rng.random(len(back)) < people.habits[client, REFUND_SOON]
    days = np.where(soon, rng.integers(1, 6, len(back)), rng.integers(12, 29, len(back)))
    part = np.where(rng.random(len(back)) < 0.7, 1.0, rng.uniform(0.3, 0.9, len(back)))
    when = outings.when[back] + DAY * days + rng.normal(0, 1800, len(back))
    return _Rows(
        client, outings.merchant[back], when, -part * outings.amount[back], outings.online[back]
    )


def _regular_payments(people: _People, rng: np.random.Generator) -> _Rows:
    return _join(*(_regular_payment(people, plan, rng) for plan in PLANS))


def _regular_payment(people: _People, plan: Plan, rng: np.random.Generator) -> _Rows:
    """Draw one plan.

    Owners with their own price, day and hour. Busy cards are more likely to have it.
    """
    owner = np.flatnonzero(
        rng.random(len(people)) < plan.owners * np.clip(people.busy / 150 - 0.3, 0, 1.5)
    )
    days = _plan_days(plan, people.payday[owner], rng)
    client = np.repeat(owner, days.shape[1])
    merchant = np.full(len(owner), INDEX[plan.mcc])
    price = np.repeat(_amounts(people, owner, merchant, rng), days.shape[1])
    clock = np.repeat(_seconds(people, owner, merchant, rng), days.shape[1]) + rng.normal(
        0, 600, len(client)
    )
    when = np.clip(clock, 0, DAY - 1)  # stays on the same day
    when += DAY * days.ravel()
    amount = (
        price
        * np.exp(plan.wobble * rng.normal(size=len(client)))
        * (-1 if plan.mcc == PAY_MCC else 1)
    )
    kept = (days.ravel() >= 0) & (rng.random(len(client)) < plan.kept)
    online = np.full(len(client), MERCHANTS[INDEX[plan.mcc]].online == 1)
    return _Rows(
        client[kept],
        np.repeat(merchant, days.shape[1])[kept],
        when[kept],
        amount[kept],
        online[kept],
    )


def _plan_days(plan: Plan, payday: Ints, rng: np.random.Generator) -> Ints:
    """Return days of the year, one row per owner. -1 is no payment."""
    if plan.every == "payday":
        half = np.where(
            payday[:, None] >= PAYDAYS, MONTH_START + (payday[:, None] + 15) % PAYDAYS, -1
        )
        return np.concatenate([MONTH_START + payday[:, None] % PAYDAYS, half], axis=1)
    if plan.every == "month":
        return MONTH_START + rng.integers(0, PAYDAYS, (len(payday), 1))
    if plan.every == "week":
        return 7 * np.arange(52) + rng.integers(0, 7, (len(payday), 1))
    return np.tile(np.flatnonzero(WEEKDAY < 5), (len(payday), 1))


# ---- tables
# --------------------------------------------------------------------------------------------------


def _events_table(people: _People, ids: Ints, rows: _Rows, rng: np.random.Generator) -> pa.Table:
    """Build the table of all events in time order. Events after the year are dropped."""
    order = np.argsort(rows.when, kind="stable")
    order = order[: np.searchsorted(rows.when[order], DAYS * DAY)]
    rows = _Rows(*(getattr(rows, f.name)[order] for f in fields(_Rows)))
    seconds = np.datetime64(YEAR, "s") + rows.when.astype(np.int64)
    columns = {
        "client_id": pa.array(ids[rows.client]),
        "event_time": pa.array(seconds, pa.timestamp("s")),
        "mcc": pa.array(np.array([m.mcc for m in MERCHANTS])[rows.merchant]),
        "amount": pa.array(np.round(rows.amount, 2)),
        "city": _cities(len(people), rows, rng),
        "channel": _channels(people, rows, rng),
    }
    return pa.table(columns)


def _cities(n: int, rows: _Rows, rng: np.random.Generator) -> pa.Array:
    """One city a day.

    Home, on some days a second one, on a few journeys a third. Online shops mostly have none.
    """
    season = np.array(RHYTHMS["travel"].year)[MONTH]
    weights = np.array(list(CITIES.values()))
    journeys = np.where(weights == 0, 4, 1)  # abroad more often than to any one city at home
    home, second = rng.choice(len(weights), (2, n), p=weights / weights.sum()).astype(np.int8)
    there = rng.random((n, DAYS), dtype=np.float32) < rng.beta(0.6, 6.0, (n, 1))
    city = np.where(there, second[:, None], home[:, None])
    for _ in range(3):
        start = rng.choice(DAYS, (n, 1), p=season / season.sum())
        length = rng.integers(2, 15, (n, 1)) * (rng.random((n, 1)) < 0.45)
        away = (np.arange(DAYS) >= start) & (np.arange(DAYS) < start + length)
        where = rng.choice(len(weights), (n, 1), p=journeys / journeys.sum()).astype(np.int8)
        city = np.where(away, where, city)
    codes = city[rows.client, (rows.when // DAY).astype(np.int64)]
    nowhere = rows.online & (rng.random(len(codes)) < 0.85)
    codes = np.where(
        rows.online, np.int8(np.argmax(weights)), codes
    )  # the rest are booked at the head office
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=nowhere), list(CITIES)).cast(
        pa.string()
    )


def _channels(people: _People, rows: _Rows, rng: np.random.Generator) -> pa.Array:
    names = ["chip", "contactless", "online", "atm"]
    small = np.abs(rows.amount) < 100  # the limit of a payment without PIN
    codes = np.where(small & (rng.random(len(small)) < people.contactless[rows.client]), 1, 0)
    codes = np.where(rows.online, 2, codes)
    codes = np.where(rows.merchant == INDEX[CASH_MCC], 3, codes).astype(np.int8)
    return pa.DictionaryArray.from_arrays(pa.array(codes), names).cast(pa.string())


def _clients_table(people: _People, ids: Ints) -> pa.Table:
    quarters = np.quantile(people.age, [0.25, 0.5, 0.75])
    known = (
        np.where(people.gender > 0, "F", "M").tolist(),
        people.age,
        np.searchsorted(quarters, people.age, side="right"),
    )
    return pa.table(
        {"client_id": pa.array(ids)} | dict(zip(TARGETS, map(pa.array, known), strict=True))
    )
