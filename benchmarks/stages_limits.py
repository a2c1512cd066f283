"""Limits of the machine: matrix products of the same shapes, gathers, reading and sorting."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import duckdb
import torch
from made_data import CATEGORIES, NUMBERS
from serving import Run, Stage, serve, sizes_of

from seqmel.data.sequences.prepared import open_prepared
from seqmel.nn.products import uses_onednn

__all__ = ["STAGES", "flops_per_event", "product"]

_GATHERS = 20


def flops_per_event(
    event: int, hidden: int, *, layers: int, encoder: str, training: bool, length: float = 0.0
) -> float:
    """Return floating-point operations per event, without the gradients, which take twice as many.

    Args:
        event: width of an encoded event.
        hidden: width of the encoder.
        layers: of the event network; the first is a sum of rows and has no product.
        encoder: "none", "gru", or "transformer" with its two layers.
        training: count the gradients too.
        length: events that an event is attended to by, for a Transformer.
    """
    encoders = {
        "none": 0.0,
        "gru": 2.0 * 3 * hidden * (event + hidden),
        "transformer": 2.0 * event * hidden
        + 2 * (2.0 * 12 * hidden * hidden + 4.0 * hidden * length),
    }
    forward = 2.0 * event * event * (layers - 1) + encoders[encoder]
    return forward * (3 if training else 1)


def product(
    rows: int, inner: int, columns: int, *, dtype: torch.dtype, device: str = "cpu", times: int = 8
) -> Run:
    """(rows, inner) x (inner, columns), several times; units are floating-point operations.

    On the CPU with packed weights by oneDNN where that is how `seqmel.nn.products` does it, and so
    few rows at a time that
    they stay in the cache: the fastest way there is known to be.
    """
    left = torch.randn(rows, inner, device=device).to(dtype)
    right = torch.randn(inner, columns, device=device).to(dtype)
    packed = None
    if device == "cpu" and (dtype == torch.bfloat16 or uses_onednn()):
        packed = torch.ops.mkldnn._reorder_linear_weight(right.t().contiguous())

    def run() -> dict[str, float]:
        for _ in range(times):
            for part in left.split(2048 if device == "cpu" else rows):
                if packed is None:
                    torch.mm(part, right)
                else:
                    torch.ops.mkldnn._linear_pointwise(part, packed, None, "none", [], "")
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        return {"units": 2.0 * rows * inner * columns * times}

    return run


def _events_product(folder: Path, *, dtype: torch.dtype) -> Run:
    """All events of a batch at once, as the products outside the recurrence are."""
    sizes = sizes_of(folder)
    events = sizes["views"] * (sizes["shortest"] + sizes["longest"]) // 2
    return product(events, sizes["hidden"], 3 * sizes["hidden"], dtype=dtype)


def _step_product(folder: Path) -> Run:
    """One step of the recurrence: all slices of a batch."""
    sizes = sizes_of(folder)
    return product(
        sizes["views"], sizes["hidden"], 3 * sizes["hidden"], dtype=torch.float32, times=200
    )


def _loss_product(folder: Path) -> Run:
    """All similarities of the vectors of a batch; units are products."""
    sizes = sizes_of(folder)
    run = product(sizes["views"], sizes["width"], sizes["views"], dtype=torch.float32, times=50)
    return lambda: run() | {"units": 50.0}


def gather(folder: Path) -> Run:
    """Gather the events of a batch from flat columns by known indices; units are events."""
    sizes = sizes_of(folder)
    sequences = open_prepared(folder / "prepared").sequences
    torch.manual_seed(0)
    length = (sizes["shortest"] + sizes["longest"]) // 2
    starts = torch.randint(0, max(1, sequences.events - length), (sizes["views"],))
    index = (starts.unsqueeze(1) + torch.arange(length)).flatten()
    columns = [torch.zeros(sequences.events, dtype=torch.int64)]
    columns += [torch.zeros(sequences.events, dtype=torch.int32) for _ in (*CATEGORIES, *NUMBERS)]

    def run() -> dict[str, float]:
        for _ in range(_GATHERS):
            for column in columns:
                column.index_select(0, index)
        return {"units": _GATHERS * len(index)}

    return run


def sort(folder: Path) -> Run:
    """Read the same columns and sort them by client and time, nothing else; units are events."""
    sizes = sizes_of(folder)
    columns = ", ".join(("client_id", "event_time", *CATEGORIES, *NUMBERS))

    def run() -> dict[str, float]:
        connection = duckdb.connect()
        connection.execute(f"SET threads = {sizes['threads']}; SET enable_progress_bar = false")
        query = (
            f"SELECT {columns} FROM '{folder / 'events.parquet'}' ORDER BY client_id, event_time"
        )
        rows = sum(len(batch) for batch in connection.sql(query).to_arrow_reader(1_000_000))
        connection.close()
        return {"units": rows}

    return run


STAGES: dict[str, Stage] = {
    "product fp32": partial(_events_product, dtype=torch.float32),
    "product bf16": partial(_events_product, dtype=torch.bfloat16),
    "product step": _step_product,
    "product loss": _loss_product,
    "gather": gather,
    "sort": sort,
}

if __name__ == "__main__":
    serve(STAGES)
