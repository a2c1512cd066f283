"""Units of time."""

__all__ = ["DAYS_SINCE_MONDAY", "DAY_US", "duration_words"]

DAY_US = 86_400_000_000
"""Microseconds per day; times are int64 microseconds since 1970-01-01."""

DAYS_SINCE_MONDAY = 3
"""Days from the last Monday to 1970-01-01, a Thursday: day d has the weekday (d + 3) % 7."""


def duration_words(seconds: float) -> str:
    """Return a duration in the largest unit that it fills at least twice, such as "3 min"."""
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {name}"
    return f"{seconds:,.0f} s"
