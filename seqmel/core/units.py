"""Units of time."""

__all__ = ["DAY_US"]

DAY_US = 86_400_000_000
"""Microseconds per day; times are int64 microseconds since 1970-01-01."""
