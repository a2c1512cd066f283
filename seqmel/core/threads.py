"""How many threads this process may use, and how to keep small work in one of them.

A container or a batch system often grants fewer cores than the machine has. A library that starts a thread for each core of
the machine then makes its threads wait for each other, spinning: hundreds of times slower, with the same result.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "asked_threads",
    "limit_torch_threads",
    "set_threads",
    "solver_threads",
    "thread_count",
    "usable_cores",
]

_CGROUPS = Path("/sys/fs/cgroup")
_FEW_NUMBERS = 20_000_000
_asked: int | None = None


def usable_cores() -> int:
    """The cores that this process may run on: its affinity, within what its control groups grant; at least 1.

    Examples:
        >>> usable_cores() >= 1
        True
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _granted(_CGROUPS)))


def asked_threads() -> int | None:
    """What `set_threads` was given."""
    return _asked


def thread_count(asked: int | None = None) -> int:
    """How many threads to compute with.

    Args:
        asked: as the caller wants; else what `set_threads` was given, else the usable cores, or OMP_NUM_THREADS where that is
            fewer.
    """
    wanted = asked or _asked
    if wanted:
        return wanted
    environment = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return min(usable_cores(), int(environment) or usable_cores()) if environment.isdecimal() else usable_cores()


def set_threads(count: int | None) -> None:
    """Compute with so many threads from now on, in DuckDB, LightGBM, BLAS and torch; None for what `thread_count` says."""
    global _asked
    _asked = count


def limit_torch_threads() -> None:
    """Keep torch within `thread_count`; fewer threads that it was given elsewhere stay."""
    import torch

    count = thread_count()
    if _asked or torch.get_num_threads() > count:
        torch.set_num_threads(count)


@contextlib.contextmanager
def solver_threads(numbers: int) -> Iterator[None]:
    """Within, BLAS and OpenMP solve in one thread where a problem has fewer than 20 million numbers, else in `thread_count`.

    In smaller ones the threads mostly wait for each other, and beside other work they do so for minutes.

    Examples:
        >>> import numpy as np
        >>> with solver_threads(4):
        ...     float(np.linalg.solve(np.eye(2), np.ones(2)).sum())
        2.0
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1 if numbers < _FEW_NUMBERS else thread_count()):
        yield


def _granted(root: Path) -> int:
    """The cores that control groups of version 2 or 1 grant, rounded up; very many where they grant without a limit."""
    cores = 1 << 20
    for folder in _groups(root):
        with contextlib.suppress(OSError, ValueError):  # not there, or "max"
            quota, period = map(int, (folder / "cpu.max").read_text().split())
            cores = min(cores, -(-quota // period))
        with contextlib.suppress(OSError, ValueError):
            quota, period = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
            cores = min(cores, -(-quota // period)) if quota > 0 else cores
    return cores


def _groups(root: Path) -> Iterator[Path]:
    """The folders of the control groups that this process is in, from its own up to the root."""
    own = [""]
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own += [line.split(":", 2)[2].strip("/") for line in lines]
    for top in (root, root / "cpu", root / "cpu,cpuacct"):
        for group in own:
            yield from (top / folder for folder in (Path(group), *Path(group).parents))
