"""Devices and precisions by Lightning's names, and settings of the CPU."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar, cast

import torch

from seqmel.core.errors import ConfigError
from seqmel.core.threads import limit_torch_threads

__all__ = [
    "disable_tf32",
    "limit_onednn_cache",
    "resolve_device",
    "resolve_precision",
    "tune_malloc",
    "with_own_defaults",
]

P = ParamSpec("P")
R = TypeVar("R")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


def resolve_device(name: str) -> torch.device:
    """Return the device of a name. "auto" takes a GPU if there is one.

    The caller is about to compute, so this also limits torch to `thread_count` threads.

    Raises:
        ConfigError: There is no such device.
    """
    limit_torch_threads()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device("cuda" if name == "gpu" else name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = f"{torch.cuda.device_count()} are" if torch.cuda.is_available() else "none is"
        raise ConfigError(
            f"Device {name} was asked for, but no such CUDA GPU is here ({found}). Use --device "
            f"cpu or auto."
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(
            f"Device {name} was asked for, but this machine has no Metal GPU. Use --device cpu "
            f"or auto."
        )
    return device


def resolve_precision(name: str, device: torch.device) -> Any:
    """Return the precision of a name, by Lightning's names.

    "auto" takes bf16-mixed if the device computes in bfloat16, else 32-true.
    """
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return "bf16-mixed"
    return "32-true"


@contextlib.contextmanager
def disable_tf32(device: torch.device | str) -> Iterator[None]:
    """Make cuDNN compute in full float32. By default torch lets GRU and LSTM use TF32."""
    if torch.device(device).type != "cuda":
        yield
        return
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def tune_malloc() -> None:
    """Make glibc keep large blocks of memory instead of returning them to the system.

    The tensors of a batch have tens of megabytes. glibc would map each anew, and the kernel would
    clear its pages each time, which is a third of a training step on the CPU. Without glibc this
    does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, 1 << 30)


def limit_onednn_cache(*, recurrent: bool) -> None:
    """Limit the cache of compiled kernels of oneDNN, which computes in bfloat16 on the CPU.

    Batches are ragged, so nearly every batch has shapes that do not recur. Each would leave some
    hundred kilobytes, gigabytes in a long epoch. Only the steps of a GRU or LSTM recur, in about 20
    shapes. The limits are read once, on first use. Values of the environment have precedence.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, "64" if recurrent else "16")


def with_own_defaults(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function with torch's own defaults: float32 on the CPU.

    The weights of a model are float32; new tensors of a program that works in float64 would not fit
    them. What a generator yields is computed under these defaults too, and the program has its own
    again between two values.

    Examples:
        >>> torch.set_default_dtype(torch.float64)
        >>> with_own_defaults(torch.zeros)(1).dtype
        torch.float32
        >>> torch.get_default_dtype()
        torch.float64
        >>> torch.set_default_dtype(torch.float32)
    """
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def generate(*args: P.args, **kwargs: P.kwargs) -> Iterator[Any]:
            with contextlib.closing(function(*args, **kwargs)) as values:
                while True:
                    with _own_defaults():
                        try:
                            value = next(values)
                        except StopIteration:
                            return
                    yield value

        return cast("Callable[P, R]", generate)

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if _has_own_defaults():
            return function(*args, **kwargs)
        with _own_defaults():
            return function(*args, **kwargs)

    return run


def _has_own_defaults() -> bool:
    return torch.get_default_dtype() is torch.float32 and torch.get_default_device().type == "cpu"


@contextlib.contextmanager
def _own_defaults() -> Iterator[None]:
    dtype = torch.get_default_dtype()
    device = torch.get_default_device()
    moved = torch.device("cpu") if device.type != "cpu" else contextlib.nullcontext()
    torch.set_default_dtype(torch.float32)
    try:
        with moved:
            yield
    finally:
        torch.set_default_dtype(dtype)
