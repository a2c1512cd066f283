"""Units of time, and the words of numbers, durations and rates."""

__all__ = [
    "DAYS_SINCE_MONDAY",
    "DAY_US",
    "count_words",
    "duration_words",
    "rate_words",
    "task_words",
]

DAY_US = 86_400_000_000
"""Microseconds per day; times are int64 microseconds since 1970-01-01."""

DAYS_SINCE_MONDAY = 3
"""Days from the last Monday to 1970-01-01, a Thursday: day d has the weekday (d + 3) % 7."""


def count_words(number: float, singular: str, plural: str | None = None, *, spec: str = ",") -> str:
    """Return a number with its noun, such as "1 event" or "1,200 events".

    Args:
        number: how many.
        singular: the noun for one. A verb may follow it.
        plural: the noun for any other number. By default the singular with an s.
        spec: the format of the number.

    Examples:
        >>> count_words(1, "event"), count_words(1200, "event has", "events have")
        ('1 event', '1,200 events have')
    """
    noun = singular if number == 1 else f"{singular}s" if plural is None else plural
    return f"{number:{spec}} {noun}"


def duration_words(seconds: float) -> str:
    """Return a duration in the largest unit that it fills at least twice, such as "3 min"."""
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {name}"
    return f"{seconds:,.0f} s"


def rate_words(rate: float, unit: str) -> str:
    """Return a rate with two digits, and no more than whole numbers, such as 12 events/s."""
    return f"{rate:,.0f} {unit}/s" if rate >= 9.5 or not rate else f"{rate:.2g} {unit}/s"


def task_words(
    name: str, done: int, total: int | None, unit: str, seconds: float, note: str
) -> str:
    """Return the state of a task in a line: what is done, for how long, how fast, what is left."""
    rate = done / seconds if seconds else 0.0
    of = f" of {total:,}" if total else ""
    counted = unit.removesuffix("s") if (total or done) == 1 else unit
    left = f", {(total - done) / rate:.0f} s left" if total and rate and done < total else ""
    note = f", {note}" if note else ""
    return f"{name}: {done:,}{of} {counted}, {seconds:.1f} s, {rate_words(rate, unit)}{left}{note}"
