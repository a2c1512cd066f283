"""The number of threads that this process may use, and a limit for small problems.

Containers and batch systems often grant fewer cores than the machine has. A library with one thread
per core of the machine then lets its threads spin and wait for each other. The result is the same,
but hundreds of times slower.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

__all__ = [
    "asked_threads",
    "control_groups",
    "engine_threads",
    "limit_spinning",
    "limit_torch_threads",
    "map_in_threads",
    "set_threads",
    "solver_threads",
    "thread_count",
    "usable_cores",
]

_CGROUPS = Path("/sys/fs/cgroup")
_FEW_NUMBERS = 20_000_000
_SPINS = 4_000  # libgomp's own default is 300,000
_MOST_AT_ONCE = 8  # batches in memory
_asked: int | None = None
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def usable_cores() -> int:
    """Return the number of cores that affinity and control groups grant this process, at least 1.

    Examples:
        >>> usable_cores() >= 1
        True
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(1, min(cores, _granted(_CGROUPS)))


def asked_threads() -> int | None:
    """Return the argument of `set_threads`."""
    return _asked


def engine_threads(asked: int | None = None) -> int:
    """Return the number of threads of DuckDB.

    OMP_NUM_THREADS does not apply: it limits libraries whose threads spin, and DuckDB's do not.

    Args:
        asked: The caller's choice. None uses that of `set_threads`, else the usable cores.
    """
    return asked or _asked or usable_cores()


def thread_count(asked: int | None = None) -> int:
    """Return the number of threads to compute with.

    Args:
        asked: The caller's choice. None uses that of `set_threads`, else the usable cores, limited
            by OMP_NUM_THREADS.
    """
    wanted = asked or _asked
    if wanted:
        return wanted
    environment = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return (
        min(usable_cores(), int(environment) or usable_cores())
        if environment.isdecimal()
        else usable_cores()
    )


def set_threads(count: int | None) -> None:
    """Set the number of threads of DuckDB, LightGBM, BLAS and torch. None restores the default."""
    global _asked
    _asked = count


def limit_torch_threads() -> None:
    """Limit torch to `thread_count`. A lower limit set elsewhere is kept."""
    import torch

    count = thread_count()
    if _asked or torch.get_num_threads() > count:
        torch.set_num_threads(count)


def limit_spinning() -> None:
    """Let threads of OpenMP that wait for each other sleep soon, unless the environment says how.

    By default they spin for so long that a training step beside another busy process takes four to
    fifteen times its time. Works only before torch is imported. See `research/performance.md`.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(_SPINS))


def map_in_threads(
    function: Callable[[_Item], _Result], items: Iterable[_Item]
) -> Iterator[_Result]:
    """Yield `function(item)` for each item in order, while torch computes several on the CPU.

    Each item has one thread of torch, or a few where there are many. That is faster than all
    threads for one item after the other, and threads that need not wait for each other lose little
    beside other processes.

    Args:
        function: Runs in several threads at once, with the gradient mode of the caller.
        items: The items. All are read first.

    Examples:
        >>> list(map_in_threads(abs, [-1, 2, -3]))
        [1, 2, 3]
    """
    from concurrent.futures import ThreadPoolExecutor

    import torch

    items = list(items)
    threads = torch.get_num_threads()
    at_once = min(threads, len(items), _MOST_AT_ONCE)
    if at_once < 2:
        yield from map(function, items)
        return
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def run(item: _Item) -> _Result:
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
            return function(item)

    pool = ThreadPoolExecutor(at_once, "seqmel", torch.set_num_threads, (threads // at_once,))
    try:
        yield from pool.map(run, items)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # the pool has changed the default of new threads


@contextlib.contextmanager
def solver_threads(numbers: int) -> Iterator[None]:
    """Let BLAS and OpenMP use one thread for small problems, else `thread_count`.

    Below 20 million numbers, threads mostly wait for each other, for minutes on a busy machine.

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
    """Return the cores granted by control groups of version 1 or 2, rounded up.

    Unlimited is 2^20.
    """
    cores = 1 << 20
    for folder in control_groups(root, "cpu", "cpu,cpuacct"):
        with contextlib.suppress(OSError, ValueError):  # missing, or "max"
            quota, period = map(int, (folder / "cpu.max").read_text().split())
            cores = min(cores, -(-quota // period))
        with contextlib.suppress(OSError, ValueError):
            quota, period = (
                int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period")
            )
            cores = min(cores, -(-quota // period)) if quota > 0 else cores
    return cores


def control_groups(root: Path, *controllers: str) -> Iterator[Path]:
    """Yield the control group folders of this process, from its own up to the root.

    Args:
        root: Where control groups are mounted.
        controllers: Names of the folders of version 1.
    """
    own = [""]
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own += [line.split(":", 2)[2].strip("/") for line in lines]
    for top in (root, *(root / name for name in controllers)):
        for group in own:
            yield from (top / folder for folder in (Path(group), *Path(group).parents))
