"""Time zones: how far local time is from UTC, and when that changes."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from functools import lru_cache

from seqmel.core.errors import did_you_mean

__all__ = ["checked_time_zone", "utc_offsets"]

_FIRST = dt.date(1900, 1, 1)
_LAST = dt.date(2100, 1, 1)
_DAY = 86_400
_SECOND_US = 1_000_000


def checked_time_zone(name: str) -> str:
    """Return the name of a time zone.

    Args:
        name: such as Europe/Paris.

    Raises:
        ValueError: there is no such zone.
    """
    known = zoneinfo.available_timezones()
    if name not in known:
        raise ValueError(
            f"{name!r} is not a time zone.{did_you_mean(name, known)} Expected a name such as "
            "Europe/Paris"
        )
    return name


@lru_cache(maxsize=64)
def utc_offsets(name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return when local time changes against UTC from 1900 to 2100, and by how much it differs.

    Args:
        name: of the time zone.

    Returns:
        The T times of the changes, and the T + 1 offsets before, between and after them, all in
        microseconds.

    Examples:
        >>> changes, offsets = utc_offsets("Europe/Paris")
        >>> offsets[-1] // 3_600_000_000
        1
    """
    zone = zoneinfo.ZoneInfo(name)

    def offset(seconds: int) -> int:
        moment = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc) + dt.timedelta(seconds=seconds)
        found = moment.astimezone(zone).utcoffset()
        assert found is not None, "zones know their offset"
        return round(found.total_seconds())

    epoch = dt.date(1970, 1, 1)
    days = range((_FIRST - epoch).days * _DAY, (_LAST - epoch).days * _DAY, _DAY)
    changes = []
    offsets = [offset(days[0])]
    for day in days:
        if offset(day + _DAY) == offsets[-1]:
            continue
        low = day
        high = day + _DAY
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset(middle) == offsets[-1] else (low, middle)
        changes.append(high * _SECOND_US)
        offsets.append(offset(high))
    return tuple(changes), tuple(x * _SECOND_US for x in offsets)
