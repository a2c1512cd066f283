"""How much memory the engine that reads events may use."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from seqmel.core.errors import ConfigError
from seqmel.core.threads import control_groups

__all__ = ["memory_bytes", "usable_memory"]

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SHARE = 0.8
"""Part of the machine's memory that is used where no limit is given."""


def usable_memory() -> int:
    """Return the bytes of memory that the machine and control groups grant this process.

    Examples:
        >>> usable_memory() > 2**20
        True
    """
    if not hasattr(os, "sysconf"):  # Windows does not say
        return 2**33
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for folder in control_groups(Path("/sys/fs/cgroup"), "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(OSError, ValueError):  # missing, or "max"
                found = min(found, int((folder / name).read_text()))
    return found


def memory_bytes(limit: str | None) -> int:
    """Return a limit such as "4GB" or "512MiB" in bytes; None is 80 % of the usable memory.

    Raises:
        ConfigError: It is no amount of memory.

    Examples:
        >>> memory_bytes("1.5GB"), memory_bytes("512MiB")
        (1500000000, 536870912)
    """
    if limit is None:
        return int(_SHARE * usable_memory())
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B", limit.strip(), re.IGNORECASE)
    if match is None:
        raise ConfigError(
            f"preparation.memory_limit cannot be {limit!r}. Expected a size such as 4GB."
        )
    number, unit, binary = match.groups()
    return int(float(number) * (_BINARY if binary else _UNITS)[unit.upper()])
