"""A GPU that is not there: tensors that say they lie on a device, worked out on the CPU.

What a real one would refuse is refused here: tensors on the card and on the host in one operation,
a generator of the host for numbers on the card. And every operation that would make the host wait
for the card is written down: what sends a number or a shape back, and a copy to the card that is
not `non_blocking`. Values are those of the CPU, so that results can be compared. Speed, memory, and
kernels of a real GPU are not shown by this.

Importing it names torch's spare device "card" for the whole process, so it is for processes of its
own (`on_card.py`).
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

__all__ = ["CARD", "Card", "OnCard"]


class _Module(_DummyBackendModule):
    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


_setup_privateuseone_for_python_backend("card", backend_module=_Module())
CARD = torch.device("card", 0)
aten = torch.ops.aten

_INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
_WAITING = {
    aten._local_scalar_dense,
    aten.nonzero,
    aten.masked_select,
    aten.equal,
    aten.is_nonzero,
    aten.bincount,
    aten.histc,
    aten._unique2,
    aten.unique_dim,
    aten.unique_consecutive,
    aten.unique_dim_consecutive,
    aten._linalg_svd,
}
_UNORDERED = {
    aten.index_add,
    aten.index_add_,
    aten.scatter_add,
    aten.scatter_add_,
    aten.scatter_reduce,
    aten.scatter_reduce_,
    aten.put_,
    aten.cumsum,
    aten.cumsum_,
    aten.histc,
    aten.segment_reduce,
    aten._segment_reduce_backward,
}
"""Operations that add real numbers in no fixed order on a GPU.

segment_reduce has a wrong gradient for equal values. An accumulating `index_put`, the gradient of
x[index], is not deterministic on a CPU with several threads either.
"""


class OnCard(Tensor):
    """A tensor that says it lies on the card; `value` is what it holds, on the CPU."""

    value: Tensor

    @staticmethod
    def __new__(cls, value: Tensor) -> OnCard:
        return Tensor._make_wrapper_subclass(
            cls,
            value.size(),
            strides=value.stride(),
            storage_offset=value.storage_offset(),
            dtype=value.dtype,
            device=CARD,
        )

    def __init__(self, value: Tensor) -> None:
        self.value = value

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} on the card, outside of `with Card()`")


class Card(TorchDispatchMode):
    """A context with a fake GPU.

    `waits` names what made the host wait for it, and where in seqmel; `unordered` names operations
    that may give other numbers on another run.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.unordered: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), func.overloadpacket
        with self:  # in inference mode operations come that are others put together
            parts = func.decompose(*args, **kwargs)
        if parts is not NotImplemented:
            return parts
        leaves = tree_leaves((args, kwargs))
        held = [x for x in leaves if isinstance(x, OnCard)]
        host = [x for x in leaves if isinstance(x, Tensor) and not isinstance(x, OnCard)]
        asked = kwargs.get("device")
        on_card = bool(held) if asked is None else torch.device(asked).type == "card"
        if asked is not None and on_card:
            kwargs["device"] = torch.device("cpu")
        if name in (aten._to_copy, aten.copy_):
            on_card = self._copy(name, args, kwargs, held, host, on_card)
        elif on_card:
            self._check(name, args, kwargs, leaves, host)
        own = {id(x.value): x for x in held}
        inner_args, inner_kwargs = tree_map_only(OnCard, lambda x: x.value, (args, kwargs))
        out = _CELLS.get(name, func)(*inner_args, **inner_kwargs)
        if not on_card:
            return out
        return tree_map_only(Tensor, lambda x: own[id(x)] if id(x) in own else OnCard(x), out)

    def _copy(
        self, name: Any, args: Any, kwargs: Any, held: list[Any], host: list[Any], on_card: bool
    ) -> bool:
        """Whether the result lies on the card."""
        if name is aten.copy_:
            target, source, *more = args
            on_card = isinstance(target, OnCard)
            comes, goes = (
                on_card and not isinstance(source, OnCard),
                not on_card and isinstance(source, OnCard),
            )
            blocking = not (more and more[0])
        else:
            comes, goes, blocking = (
                on_card and bool(host),
                not on_card and bool(held),
                not kwargs.get("non_blocking"),
            )
        if goes:
            self._wait("a copy to the host")
        elif comes and blocking:
            self._wait("a blocking copy to the card")
        return on_card

    def _check(
        self, name: Any, args: Any, kwargs: Any, leaves: list[Any], host: list[Tensor]
    ) -> None:
        if name in _WAITING or (
            name is aten.repeat_interleave and kwargs.get("output_size") is None
        ):
            self._wait(str(name))
        real = any(isinstance(x, OnCard) and x.is_floating_point() for x in leaves)
        if real and (name in _UNORDERED or (name in _INDEXING and True in args[3:4])):
            self._wait(f"{name} adds in no order", self.unordered)
        if name in _INDEXING:
            indices = [x for x in args[1] if isinstance(x, Tensor)]
            if any(x.dtype == torch.bool for x in indices):
                self._wait(f"{name} by a mask")
            if any(not isinstance(x, OnCard) for x in indices):
                self._wait(f"{name} by an index of the host")
            host = [x for x in host if all(x is not i for i in indices)]
        if any(x.dim() for x in host):
            raise RuntimeError(
                f"{name}: tensors on the card, and on the host of shape "
                f"{[tuple(x.shape) for x in host]}"
            )
        if any(isinstance(x, torch.Generator) for x in leaves):
            raise RuntimeError(f"{name}: a generator of the host for numbers on the card")

    def _wait(self, why: str, found: list[str] | None = None) -> None:
        lines = [
            f"{f.filename}:{f.lineno}"
            for f in traceback.extract_stack()
            if "/seqmel/" in f.filename
        ]
        (self.waits if found is None else found).append(
            f"{why}, {lines[-1] if lines else 'of the gradient'}"
        )


def _gru(
    by_input: Tensor, by_state: Tensor, h: Tensor, b_in: Any = None, b_state: Any = None
) -> tuple[Tensor, ...]:
    if b_in is not None:
        by_input, by_state = by_input + b_in, by_state + b_state
    (i_r, i_z, i_n), (h_r, h_z, h_n) = by_input.chunk(3, 1), by_state.chunk(3, 1)
    r, z = (i_r + h_r).sigmoid(), (i_z + h_z).sigmoid()
    n = (i_n + r * h_n).tanh()
    return n + z * (h - n), torch.cat([r, z, n, h, h_n], 1)


def _gru_back(d: Tensor, kept: Tensor, bias: bool) -> tuple[Tensor | None, ...]:
    r, z, n, h, h_n = kept.chunk(5, 1)
    d_n = d * (1 - z) * (1 - n * n)
    d_r, d_z = d_n * h_n * r * (1 - r), d * (h - n) * z * (1 - z)
    by_input, by_state = torch.cat([d_r, d_z, d_n], 1), torch.cat([d_r, d_z, d_n * r], 1)
    return (
        by_input,
        by_state,
        d * z,
        by_input.sum(0) if bias else None,
        by_state.sum(0) if bias else None,
    )


def _lstm(
    by_input: Tensor, by_state: Tensor, c: Tensor, b_in: Any = None, b_state: Any = None
) -> tuple[Tensor, ...]:
    gates = by_input + by_state + (0 if b_in is None else b_in + b_state)
    i, f, g, o = gates.chunk(4, 1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    after = f * c + i * g
    return o * after.tanh(), after, torch.cat([i, f, g, o], 1)


def _lstm_back(
    d: Tensor | None, d_after: Tensor | None, c: Tensor, after: Tensor, kept: Tensor, bias: bool
) -> tuple[Tensor | None, ...]:
    i, f, g, o = kept.chunk(4, 1)
    d, t = torch.zeros_like(c) if d is None else d, after.tanh()
    d_c = d * o * (1 - t * t) + (0 if d_after is None else d_after)
    gates = [
        d_c * g * i * (1 - i),
        d_c * c * f * (1 - f),
        d_c * i * (1 - g * g),
        d * t * o * (1 - o),
    ]
    slopes = torch.cat(gates, 1)
    return slopes, d_c * f, slopes.sum(0) if bias else None


_CELLS: dict[Any, Callable[..., Any]] = {
    aten._thnn_fused_gru_cell: _gru,
    aten._thnn_fused_gru_cell_backward: _gru_back,
    aten._thnn_fused_lstm_cell: _lstm,
    aten._thnn_fused_lstm_cell_backward_impl: _lstm_back,
}
"""What torch has for devices alone."""
