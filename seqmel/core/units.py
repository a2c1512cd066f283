"""Units of time."""

__all__ = ["DAYS_SINCE_MONDAY", "DAY_US"]

DAY_US = 86_400_000_000
"""Microseconds per day; times are int64 microseconds since 1970-01-01."""

DAYS_SINCE_MONDAY = 3
"""Days from the last Monday to 1970-01-01, a Thursday: day d has the weekday (d + 3) % 7."""
