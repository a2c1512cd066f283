"""Several processes that train one model or embed with it, each on its own device: who is which, and what is computed over all.

The processes are started by `torchrun`, or by `--devices N` of a command on one host; the environment says of each which it
is. Outside of `process_group()` there is one process, and all that stands here does nothing.

A batch is split over the ranks. What compares all views of a batch sees the views of all ranks (`all_gather_with_grad`); what sums over
events divides by the number on all ranks (`all_reduce_mean`). Each is such that the mean over ranks of the gradients,
which is what distributed data parallel training takes, is the gradient of one process with the whole batch.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import gc
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from seqmel.core.errors import ConfigError, OutputError, SeqmelError

__all__ = [
    "Rank",
    "all_gather_with_grad",
    "all_reduce_mean",
    "all_reduce_sum",
    "barrier",
    "broadcast_from_rank0",
    "current_rank",
    "is_distributed",
    "is_launched",
    "local_shard",
    "process_group",
    "raise_on_all_ranks",
    "rank_zero_first",
]

_TIMEOUT = dt.timedelta(hours=24)  # the others wait while the first prepares the events


def is_launched() -> bool:
    """Whether this process is one of several that `torchrun` or `--devices` started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


@dataclass(frozen=True)
class Rank:
    """Which process this is.

    Attributes:
        index, count: of all processes.
        local_index, local_count: of those on this host.
    """

    index: int = 0
    count: int = 1
    local_index: int = 0
    local_count: int = 1

    @property
    def first(self) -> bool:
        """Whether this one prepares, reports and writes."""
        return self.index == 0


def is_distributed() -> bool:
    """Whether several processes work together now."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def current_rank() -> Rank:
    """Which process this is, now."""
    if not is_distributed():
        return Rank()
    count = dist.get_world_size()
    local = (
        int(os.environ.get(name, default)) for name, default in (("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", str(count)))
    )
    return Rank(dist.get_rank(), count, *local)


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[Rank]:
    """Join the other processes, where there are any; on leaving, wait for nobody.

    Args:
        device: its type says how they talk: NCCL between GPUs, gloo between CPUs.

    Raises:
        ConfigError: more processes on this host than GPUs.
    """
    joins = is_launched() and not is_distributed()
    if joins:
        local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        if device.type == "cuda" and local > torch.cuda.device_count():
            raise ConfigError(
                f"{local} processes were started here for {torch.cuda.device_count()} GPUs. Start as many."
            )
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield current_rank()
    finally:
        if joins:
            gc.collect()  # what still holds the group must go before it: its threads must not outlive it
            dist.destroy_process_group()


def barrier() -> None:
    """Until all processes are here."""
    if is_distributed():
        dist.all_reduce(torch.zeros(1))  # on the CPU, whatever the devices are


@contextlib.contextmanager
def rank_zero_first() -> Iterator[None]:
    """What stands within is done by the first process, and then by the others."""
    first = current_rank().first
    if not first:
        barrier()
    yield
    if first:
        barrier()


@contextlib.contextmanager
def raise_on_all_ranks() -> Iterator[None]:
    """Leave when all processes leave; a `SeqmelError` within one of them is raised on all of them.

    Raises:
        OutputError: a process ended within.
    """
    failure: SeqmelError | None = None
    try:
        yield
    except SeqmelError as error:
        failure = error
    if is_distributed():
        failures: list[SeqmelError | None] = [None] * current_rank().count
        try:
            dist.all_gather_object(failures, failure)
        except RuntimeError:  # gloo's, of a connection that was closed
            failure = failure or OutputError(
                "Nothing was written: one of the processes that work together has ended before its part was done (out of"
                " memory, or killed). Run it again, with fewer --devices where memory is short."
            )
        failure = failure or next((found for found in failures if found is not None), None)
    if failure is not None:
        raise failure from None


def local_shard(clients: Tensor) -> Tensor:
    """This rank's part of a batch of clients: contiguous, and as large as those of the others but for one."""
    rank = current_rank()
    return torch.tensor_split(clients, rank.count)[rank.index]


def broadcast_from_rank0(values: Tensor) -> Tensor:
    """The values that the first process has, on all of them; of the same shape, on the CPU.

    For what each computes alike and that must not differ in the last bit, such as an order.
    """
    if is_distributed():
        values = values.clone()
        dist.broadcast(values, 0)
    return values


def all_reduce_sum(counts: Tensor) -> Tensor:
    """The sum of all ranks' tensors of one shape, the same on every rank; without a gradient."""
    if is_distributed():
        counts = counts.detach().clone()
        dist.all_reduce(counts)
    return counts


def all_gather_with_grad(rows: Tensor) -> Tensor:
    """(N, ...) rows of this rank -> those of all ranks in the order of ranks, however many each has.

    The gradient comes back to this rank's rows alone, times the number of ranks: every rank computes the same of all rows,
    and gradients of the weights are averaged over ranks.
    """
    if not is_distributed():
        return rows
    found: Tensor = _Gather.apply(rows)  # type: ignore[no-untyped-call]
    return found


def all_reduce_mean(total: Tensor, count: int) -> Tensor:
    """Sum of all ranks' totals over the sum of their counts (1 at least): a scalar, the same on every rank.

    The gradient is that of this rank's total, times the number of ranks; see `all_gather_with_grad`.

    Args:
        total: a scalar.
        count: of what it is the sum.
    """
    if not is_distributed():
        return total / max(1, count)
    found: Tensor = _Mean.apply(total, count)  # type: ignore[no-untyped-call]
    return found


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        rank = current_rank()
        sizes = torch.zeros(rank.count, dtype=torch.int64)
        sizes[rank.index] = len(rows)
        dist.all_reduce(sizes)  # on the CPU: known there, and nobody waits for a GPU
        counts = sizes.tolist()
        padded = rows.new_zeros((max(counts), *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        begin = sum(counts[: rank.index])
        ctx.own, ctx.count = slice(begin, begin + len(rows)), rank.count
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        own: Tensor = gradients[0][ctx.own] * ctx.count
        return own


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, total: Tensor, count: int) -> Tensor:
        both = torch.stack([total.detach().double(), torch.full_like(total, count, dtype=torch.float64)])
        dist.all_reduce(both)
        counted = both[1].clamp(min=1)
        ctx.factor = (dist.get_world_size() / counted).to(total.dtype)
        return (both[0] / counted).to(total.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None
