"""Distributed training and embedding: ranks and collective operations.

The processes are started by `torchrun`, or by `--devices N` of a command on one host. The
environment gives each its rank. Outside of `process_group()` there is a single process, and all
functions here do nothing.

A batch is split over the ranks. A loss that compares views gets those of all ranks
(`all_gather_with_grad`). A sum over events is divided by the count on all ranks
(`all_reduce_mean`). Distributed data parallel training averages gradients over ranks, and with
these functions the average equals the gradient of a single process with the whole batch.
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

_TIMEOUT = dt.timedelta(hours=24)  # the other ranks wait while rank 0 prepares the events


def is_launched() -> bool:
    """Return whether this process was started by `torchrun` or `--devices`, with others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


@dataclass(frozen=True)
class Rank:
    """The rank of this process.

    Attributes:
        index: Rank among all processes.
        count: World size.
        local_index: Rank among the processes of this host.
        local_count: Number of processes of this host.
    """

    index: int = 0
    count: int = 1
    local_index: int = 0
    local_count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which prepares, reports and writes."""
        return self.index == 0


def is_distributed() -> bool:
    """Return whether a process group of several ranks is active."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def current_rank() -> Rank:
    """Return the current rank."""
    if not is_distributed():
        return Rank()
    count = dist.get_world_size()
    local = (
        int(os.environ.get(name, default))
        for name, default in (("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", str(count)))
    )
    return Rank(dist.get_rank(), count, *local)


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[Rank]:
    """Join the process group if there is one, and leave it at the end without a barrier.

    Args:
        device: Its type decides the backend: NCCL between GPUs, gloo between CPUs.

    Raises:
        ConfigError: There are more processes than GPUs on this host.
    """
    joins = is_launched() and not is_distributed()
    if joins:
        local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        if device.type == "cuda" and local > torch.cuda.device_count():
            raise ConfigError(
                f"{local} processes were started here for {torch.cuda.device_count()} GPUs. "
                f"Start as many."
            )
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT
        )
    try:
        yield current_rank()
    finally:
        if joins:
            gc.collect()  # objects that still hold the group must be freed before it
            dist.destroy_process_group()


def barrier() -> None:
    """Wait for all ranks."""
    if is_distributed():
        dist.all_reduce(torch.zeros(1))  # on the CPU, for any device


@contextlib.contextmanager
def rank_zero_first() -> Iterator[None]:
    """Run the block on rank 0 first, and then on the other ranks."""
    first = current_rank().first
    if not first:
        barrier()
    yield
    if first:
        barrier()


@contextlib.contextmanager
def raise_on_all_ranks() -> Iterator[None]:
    """Wait for all ranks at the end, and raise an error of one rank on all ranks.

    Raises:
        OutputError: A process died within the block.
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
        except RuntimeError:  # raised by gloo if a connection was closed
            failure = failure or OutputError(
                "Nothing was written: one of the processes that work together has ended before its "
                "part was done (out of memory, or killed). Run it again, with fewer --devices "
                "where memory is short."
            )
        failure = failure or next((found for found in failures if found is not None), None)
    if failure is not None:
        raise failure from None


def local_shard(clients: Tensor) -> Tensor:
    """Return the contiguous part of a batch of clients for this rank.

    Sizes differ by at most one.
    """
    rank = current_rank()
    return torch.tensor_split(clients, rank.count)[rank.index]


def broadcast_from_rank0(values: Tensor) -> Tensor:
    """Return the values of rank 0, which have the same shape on all ranks and are on the CPU.

    For results that all ranks compute, and that must agree to the last bit, such as an order.
    """
    if is_distributed():
        values = values.clone()
        dist.broadcast(values, 0)
    return values


def all_reduce_sum(counts: Tensor) -> Tensor:
    """Sum tensors of one shape over ranks, without a gradient."""
    if is_distributed():
        counts = counts.detach().clone()
        dist.all_reduce(counts)
    return counts


def all_gather_with_grad(rows: Tensor) -> Tensor:
    """Concatenate the rows (N, ...) of all ranks in the order of ranks. N may differ.

    The gradient of this rank's rows is multiplied by the number of ranks. Every rank computes the
    same loss of all rows, and gradients of the weights are averaged over ranks.
    """
    if not is_distributed():
        return rows
    found: Tensor = _Gather.apply(rows)  # type: ignore[no-untyped-call]
    return found


def all_reduce_mean(total: Tensor, count: int) -> Tensor:
    """Divide the sum of all totals by the sum of all counts, on all ranks.

    The gradient of this rank's total is multiplied by the number of ranks, see
    `all_gather_with_grad`.

    Args:
        total: A scalar.
        count: The number of terms in the total.
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
        dist.all_reduce(sizes)  # on the CPU, to avoid waiting for the GPU

        counts = sizes.tolist()
        padded = rows.new_zeros((max(counts), *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        begin = sum(counts[: rank.index])
        ctx.own = slice(begin, begin + len(rows))
        ctx.count = rank.count
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        own: Tensor = gradients[0][ctx.own] * ctx.count
        return own


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, total: Tensor, count: int) -> Tensor:
        both = torch.stack(
            [total.detach().double(), torch.full_like(total, count, dtype=torch.float64)]
        )
        dist.all_reduce(both)
        counted = both[1].clamp(min=1)
        ctx.factor = (dist.get_world_size() / counted).to(total.dtype)
        return (both[0] / counted).to(total.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None
