"""Which device and precision to work with, by Lightning's names, and what the CPU needs to work well."""

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
    """ "auto" takes a GPU where there is one. Whoever asks is about to compute: torch is kept within `thread_count`.

    Raises:
        ConfigError: a GPU was asked for that is not there.
    """
    limit_torch_threads()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device("cuda" if name == "gpu" else name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = f"{torch.cuda.device_count()} are" if torch.cuda.is_available() else "none is"
        raise ConfigError(
            f"Device {name} was asked for, but no such CUDA GPU is here ({found}). Use --device cpu or auto."
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"Device {name} was asked for, but this machine has no Metal GPU. Use --device cpu or auto.")
    return device


def resolve_precision(name: str, device: torch.device) -> Any:
    """ "auto" takes bf16-mixed where the device computes in bfloat16, else 32-true."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return "bf16-mixed"
    return "32-true"


@contextlib.contextmanager
def disable_tf32(device: torch.device | str) -> Iterator[None]:
    """Within it cuDNN computes in float32 as the CPU does; torch lets it round a GRU's and LSTM's factors to ten bits (TF32)."""
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
    """Have glibc reuse large blocks of memory rather than give them back after every tensor.

    A batch's tensors are tens of megabytes; glibc maps each afresh, and the kernel clears its pages each time: a third of
    a training step on the CPU. Elsewhere than on glibc this does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, 1 << 30)


def limit_onednn_cache(*, recurrent: bool) -> None:
    """Have oneDNN, which computes in bfloat16 on the CPU, keep the code of few shapes and not of thousands.

    Batches are ragged, so nearly every one brings products of shapes that do not come again, and each would leave some
    hundred kilobytes behind: gigabytes in a long epoch. Only the steps of a GRU or LSTM come again, in some 20 shapes.
    Both limits are read once, when they are first used; what the environment says already stays.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, "64" if recurrent else "16")


def with_own_defaults(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function with torch's own defaults, float32 on the CPU, whatever the program around it has set.

    The weights of a model are float32; new tensors of a program that works in float64 would not fit them. What a generator
    yields is computed under these defaults too, and the program has its own again between two values.

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
        with _own_defaults():
            return function(*args, **kwargs)

    return run


@contextlib.contextmanager
def _own_defaults() -> Iterator[None]:
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    moved = torch.device("cpu") if device.type != "cpu" else contextlib.nullcontext()
    torch.set_default_dtype(torch.float32)
    try:
        with moved:
            yield
    finally:
        torch.set_default_dtype(dtype)
