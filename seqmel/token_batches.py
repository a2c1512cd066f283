"""Work on many clients without a gradient: batches of like length, several at once on the CPU."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from seqmel.config import EmbeddingOptions

__all__ = ["over_batches", "token_batches"]

Result = TypeVar("Result")

_ON_CPU, _ON_GPU = 16_384, 131_072  # events a batch; a step of a GRU over more of them fills a GPU better
_MOST_AT_ONCE = 4  # batches in memory; and Python hands out the work of one at a time


def token_batches(lengths: Tensor, batch_events: int) -> Iterator[Tensor]:
    """Positions of clients, in batches of like length with at most `batch_events` events, or one client.

    Args:
        lengths: (N,) int64.
        batch_events: the budget; a client with more events than that is a batch of its own.
    """
    order = torch.argsort(lengths, stable=True)
    begin, held = 0, 0
    for end, length in enumerate(lengths[order].tolist()):
        if end > begin and held + length > batch_events:
            yield order[begin:end]
            begin, held = end, 0
        held += max(1, length)
    if len(order) > begin:
        yield order[begin:]


def over_batches(
    work: Callable[[Tensor], Result], lengths: Tensor, options: EmbeddingOptions, device: torch.device | str
) -> Generator[tuple[Tensor, Result]]:
    """Do something with all clients, a batch at a time and without a gradient: yields the positions and what came of them.

    On the CPU several batches are worked on at once, each by a thread with its share of the cores: they need not wait for
    one another at every operation, as threads that share a batch do.

    Where there are no clients, there is one batch of none.

    Args:
        work: gets the positions of the clients of a batch, longer ones first; is called from several threads.
        lengths: (N,) int64, events of each client.
        options: how many events a batch holds.
        device: where the work is done.
    """
    on_cpu = torch.device(device).type == "cpu"
    parts = list(token_batches(lengths, options.batch_events or (_ON_CPU if on_cpu else _ON_GPU)))[::-1] or [
        torch.arange(0)
    ]
    inferred: Callable[[Tensor], Result] = torch.inference_mode()(work)
    cores = torch.get_num_threads()
    at_once = min(cores, len(parts), _MOST_AT_ONCE) if on_cpu else 1
    if at_once < 2:
        yield from ((part, inferred(part)) for part in parts)
        return
    pool = ThreadPoolExecutor(at_once, initializer=partial(torch.set_num_threads, cores // at_once))
    waiting: deque[tuple[Tensor, Future[Result]]] = deque()
    try:
        for part in parts:
            waiting.append((part, pool.submit(inferred, part)))
            if len(waiting) > 2 * at_once:
                yield _first_of(waiting)
        while waiting:
            yield _first_of(waiting)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(cores)  # what a thread sets is what threads made later begin with


def _first_of(waiting: deque[tuple[Tensor, Future[Result]]]) -> tuple[Tensor, Result]:
    part, done = waiting.popleft()
    return part, done.result()
