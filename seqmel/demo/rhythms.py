"""When clients buy: the calendar, and hours, weekdays and seasons of each group of merchants."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

YEAR = "2023-01-01"
DAYS = 365
DAY = 86_400
MONTH_DAYS = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
MONTH_START: Ints = np.cumsum(MONTH_DAYS) - MONTH_DAYS
MONTH = np.repeat(np.arange(12), MONTH_DAYS)
WEEKDAY = (np.arange(DAYS) + 6) % 7  # Monday 0; 2023 began on a Sunday
PAYDAYS = 28


class Rhythm(NamedTuple):
    """The times of a group: (hour, width, weight) peaks, and weights of weekdays and months."""

    hours: tuple[tuple[float, float, float], ...]
    week: tuple[float, ...]
    year: tuple[float, ...]


_EVEN_WEEK = (1.0,) * 7
_WORK_WEEK = (1.2, 1.2, 1.2, 1.2, 1.2, 0.5, 0.3)
_SHOP_WEEK = (0.8, 0.8, 0.8, 0.9, 1.1, 1.7, 1.1)
_NIGHT_WEEK = (0.5, 0.5, 0.6, 0.9, 1.8, 2.1, 0.8)
_EVEN_YEAR = (1.0,) * 12
_GIFT_YEAR = (0.7, 0.9, 0.8, 0.9, 0.9, 0.9, 0.8, 0.8, 0.9, 1.0, 1.5, 2.6)
_SUMMER_YEAR = (0.7, 0.8, 0.8, 1.1, 1.1, 1.6, 2.3, 2.4, 1.2, 0.8, 0.6, 1.1)
_GARDEN_YEAR = (0.2, 0.4, 1.2, 2.2, 2.4, 1.8, 1.2, 0.9, 0.8, 0.6, 0.3, 0.3)
_WINTER_YEAR = (1.3, 1.3, 1.1, 1.0, 0.9, 0.8, 0.7, 0.7, 0.9, 1.1, 1.3, 1.3)

RHYTHMS = {
    "food": Rhythm(
        ((11, 1.9, 1.0), (17.8, 1.7, 1.6)), (0.9, 0.9, 0.9, 1.0, 1.2, 1.4, 0.8), _EVEN_YEAR
    ),
    "dining": Rhythm(((13, 1.0, 0.8), (19.7, 1.2, 1.6)), _NIGHT_WEEK, _EVEN_YEAR),
    "snack": Rhythm(((8.7, 1.0, 1.0), (12.8, 0.9, 1.2), (18, 2.0, 0.7)), _WORK_WEEK, _EVEN_YEAR),
    "night": Rhythm(((21.5, 1.6, 1.0), (18, 1.5, 0.3)), _NIGHT_WEEK, _EVEN_YEAR),
    "auto": Rhythm(((8.2, 1.2, 1.0), (17.6, 1.6, 1.3), (12.5, 2.0, 0.5)), _EVEN_WEEK, _EVEN_YEAR),
    "transit": Rhythm(((8.1, 0.9, 1.4), (17.8, 1.1, 1.3), (13, 2.5, 0.4)), _WORK_WEEK, _EVEN_YEAR),
    "clothes": Rhythm(((13.5, 2.0, 1.0), (17.5, 1.4, 0.8)), _SHOP_WEEK, _GIFT_YEAR),
    "beauty": Rhythm(((12.5, 2.2, 1.0), (17.5, 1.3, 1.0)), _SHOP_WEEK, _EVEN_YEAR),
    "health": Rhythm(((10.8, 1.6, 1.3), (16.5, 1.6, 0.8)), _WORK_WEEK, _WINTER_YEAR),
    "home": Rhythm(((11.5, 2.0, 1.0), (16, 1.8, 0.8)), _SHOP_WEEK, _EVEN_YEAR),
    "garden": Rhythm(((11.5, 2.0, 1.0),), _SHOP_WEEK, _GARDEN_YEAR),
    "gifts": Rhythm(((13.5, 2.2, 1.0), (18, 1.8, 0.9)), _SHOP_WEEK, _GIFT_YEAR),
    "kids": Rhythm(((10.5, 1.6, 1.0), (16, 1.5, 1.0)), _EVEN_WEEK, _GIFT_YEAR),
    "screen": Rhythm(((21, 1.9, 1.4), (13, 2.5, 0.7)), _EVEN_WEEK, _WINTER_YEAR),
    "travel": Rhythm(((11, 2.5, 1.0), (19, 2.2, 1.0)), _EVEN_WEEK, _SUMMER_YEAR),
    "cash": Rhythm(
        ((12.5, 2.2, 1.0), (17.5, 1.8, 1.0)), (1.0, 0.9, 0.9, 1.0, 1.4, 1.2, 0.6), _EVEN_YEAR
    ),
    "office": Rhythm(((10.5, 1.5, 1.0), (14.5, 1.5, 0.8)), _WORK_WEEK, _EVEN_YEAR),
}

GROUPS = list(RHYTHMS)


def cumulative(weights: Floats) -> Floats:
    """Convert rows of weights to cumulative fractions, for `pick`."""
    total: Floats = np.cumsum(weights, axis=-1)
    return total / total[..., -1:]


def pick(cumulative: Floats, row: Ints, uniform: Floats) -> Ints:
    """Sample a column of each `row` by inverse transform of `uniform`, with a single search."""
    rows, columns = cumulative.shape
    flat = (cumulative + np.arange(rows)[:, None]).ravel()
    found = np.searchsorted(flat, row + uniform, side="right") - row * columns
    column: Ints = np.minimum(found, columns - 1)
    return column


def day_table() -> Floats:
    """Return cumulative weights of the days of the year, one row per group and payday."""
    week = np.array([RHYTHMS[g].week for g in GROUPS])[:, WEEKDAY]
    year = np.array([RHYTHMS[g].year for g in GROUPS])[:, MONTH]
    since = (np.arange(DAYS) - MONTH_START[MONTH] - np.arange(PAYDAYS)[:, None]) % 30
    payday = 1 + 0.8 * np.exp(-np.concatenate([since, since % 15]) / 4)  # spending rises after pay
    weights = (week * year)[:, None] * payday
    weights[..., [0, DAYS - 7]] *= 0.25  # 1 January and 25 December
    return cumulative(weights.reshape(-1, DAYS))


def quarter_hour_table() -> Floats:
    """Return cumulative weights of the quarter hours of the day, a row per group of merchants."""
    quarter = np.arange(96) / 4
    table = np.zeros((len(GROUPS), 96))
    for row, group in enumerate(GROUPS):
        for hour, width, weight in RHYTHMS[group].hours:
            table[row] += weight / width * np.exp(-0.5 * ((quarter - hour) / width) ** 2)
    return cumulative(table)
