"""Run the command in several local processes, as `torchrun` does.

If one fails, all end with its exit code.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import IO

import typer

from seqmel.core.threads import asked_threads, usable_cores

__all__ = ["first_process", "launch", "launch_others"]

_GRACE_SECONDS = 10.0  # for the others to say what went wrong, once one has failed


def launch_others(devices: int | None) -> None:
    """Run the command once per device, then exit; do nothing for one device or under a launcher."""
    from seqmel.core.distributed import is_launched

    if (devices or 1) > 1 and not is_launched():
        raise typer.Exit(launch(devices or 1, sys.argv[1:]))


def first_process() -> bool:
    """Whether this process prints and logs: rank 0, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def launch(count: int, arguments: Sequence[str]) -> int:
    """Run `seqmel` with these arguments `count` times, one per rank; return the exit code.

    What the first prints is shown. Of the others only what was said by one that failed while the
    first had nothing to say.
    """
    with tempfile.TemporaryFile() as said:
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "seqmel", *arguments],
                env=_environment(rank, count, port),
                stdout=None if rank == 0 else subprocess.DEVNULL,
                stderr=None if rank == 0 else said,
            )
            for port in (_free_port(),)
            for rank in range(count)
        ]
        try:
            codes = _ended(processes)
        except KeyboardInterrupt:
            for process in processes:
                process.wait()
            return 130
        if codes[0] in (None, 0) and any(codes):
            _show(said)
    return next((abs(code) for code in codes if code), 0)


def _environment(rank: int, count: int, port: int) -> dict[str, str]:
    place = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": count,
        "LOCAL_WORLD_SIZE": count,
        "GROUP_RANK": 0,
    }
    defaults = {"OMP_NUM_THREADS": str(max(1, (asked_threads() or usable_cores()) // count))}
    defaults["TORCH_CPP_LOG_LEVEL"] = (
        "ERROR"  # torch advises on parameters that are unused in some objectives only
    )
    master = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return defaults | os.environ | master | {name: str(value) for name, value in place.items()}


def _free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


def _ended(processes: list[subprocess.Popen[bytes]]) -> list[int | None]:
    """Return the exit codes; None for a process that was ended because another one failed."""
    while any(p.poll() is None for p in processes) and not any(p.returncode for p in processes):
        time.sleep(0.05)
    until = time.monotonic() + _GRACE_SECONDS
    failed = any(p.returncode for p in processes)
    while failed and time.monotonic() < until and any(p.poll() is None for p in processes):
        if processes[0].returncode is not None:
            break
        time.sleep(0.05)
    codes: list[int | None] = [p.poll() for p in processes]
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
    return codes


def _show(said: IO[bytes]) -> None:
    said.seek(0)
    sys.stderr.write(said.read().decode("utf-8", "replace"))
