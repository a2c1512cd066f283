"""Threads that work side by side, each with its share of the cores, and need not wait for one another at every operation."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["MOST_THREADS", "side_by_side", "thread_pool"]

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_THREADS = 4
"""More are of little use: Python hands out the work of one at a time."""


def thread_pool(threads: int) -> ThreadPoolExecutor:
    """So many threads that share the cores torch may use here. They are kept for the next who asks.

    Gradients are computed in them as in any new thread, unless the work says otherwise.
    """
    return _pool(os.getpid(), threads, max(1, torch.get_num_threads() // threads))


@functools.cache
def _pool(process: int, threads: int, cores: int) -> ThreadPoolExecutor:
    """A process that was forked off has none of its parent's threads."""
    all_started = threading.Barrier(threads + 1)

    def start() -> None:
        torch.set_num_threads(cores)
        all_started.wait()

    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="seqmel", initializer=start)
    for _ in range(threads):
        pool.submit(int)
    all_started.wait()
    torch.set_num_threads(before)  # what a thread sets is what threads made later begin with
    return pool


def side_by_side(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """The results of the items, in their order, each worked on by a thread of its own and without a gradient."""
    if len(items) == 1:
        return [work(items[0])]
    return list(thread_pool(len(items)).map(torch.no_grad()(work), items))
