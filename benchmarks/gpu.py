"""The stages on a GPU, and what share of the card's measured peak they reach.

    python benchmarks/gpu.py -o OUT [--clients 6000] [--batch 64 512 4096] [--repeats 5] [--device
    cuda]

All events lie on the card (training.storage: device) and products are in bfloat16. For each batch
size: slices, a training step of each variant (that with a Transformer also with padded attention,
the default also compiled), its share of the product rate that the same run measures, and the memory
that the card gave; then embedding, with the writing of the file. Steps run under
`torch.cuda.set_sync_debug_mode("error")`: a step that waits for the card is an error, and the table
says so. `--device cpu` runs the same functions without a GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from compare import QUICK, SIZES, quantity
from made_data import write_data
from serving import Run, sizes_of
from stages_limits import flops_per_event, product
from stages_seqmel import embed, loss, slices, step
from torch._dynamo.exc import TorchDynamoException

from seqmel.data.sequences.batch import SequenceBatch
from seqmel.nn.attention import Attend, grouped
from seqmel.nn.encoders import transformer

VARIANTS = {
    "like": (1, "gru"),
    "own": (2, "gru"),
    "transformer": (2, "transformer"),
    "default": (2, "none"),
}
"""Variant -> layers of the event network, and the encoder."""


@contextlib.contextmanager
def without_waiting(device: str) -> Iterator[None]:
    """Within it, an operation that makes the host wait for the card raises."""
    if not device.startswith("cuda"):
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def timed(run: Run, repeats: int) -> dict[str, float]:
    """Return rates after a warm-up run: median, smallest, largest; and events per unit."""
    run()
    rates = []
    events = 1.0
    for _ in range(repeats):
        began = time.perf_counter()
        done = run()
        rates.append(done["units"] / (time.perf_counter() - began))
        events = done.get("events", done["units"]) / done["units"]
    return {
        "median": statistics.median(rates),
        "low": min(rates),
        "high": max(rates),
        "events": events,
    }


def peak(device: str, repeats: int, rows: int) -> dict[str, float]:
    """Return floating-point operations per second of large square products, by dtype."""
    types = {"bf16": torch.bfloat16, "fp32": torch.float32}
    return {
        name: timed(product(rows, rows, rows, dtype=dtype, device=device), repeats)["median"]
        for name, dtype in types.items()
    }


def measure_step(
    folder: Path,
    variant: str,
    device: str,
    repeats: int,
    best: float,
    *,
    compiled: str | None = None,
) -> dict[str, Any]:
    """Return the row of a training step, without waits for the GPU; if that fails, with them."""
    layers, encoder = VARIANTS[variant]
    sizes = sizes_of(folder)
    row: dict[str, Any] = {
        "what": f"step {variant}",
        "batch": sizes["batch"],
        "unit": "clients/s",
        "waits": "no",
    }
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    make = partial(
        step, folder, variant=variant, precision="bf16", device=device, compiled=compiled
    )
    try:
        make()()  # cuDNN, cuBLAS and a compiler may wait when they begin
        row["rate"] = timed(make(around=partial(without_waiting, device)), repeats)
    except torch.OutOfMemoryError:
        return row | {"waits": "does not fit"}
    except TorchDynamoException as error:
        return row | {"waits": f"does not compile: {str(error).splitlines()[0]}"}
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
        row |= {"waits": str(error).splitlines()[0], "rate": timed(make(), repeats)}
    event = sizes["event"] if variant == "like" else 256
    length = (sizes["shortest"] + sizes["longest"]) / 2
    cost = flops_per_event(
        event, sizes["hidden"], layers=layers, encoder=encoder, training=True, length=length
    )
    row["share"] = row["rate"]["median"] * row["rate"]["events"] * cost / best
    row["card_mb"] = (
        torch.cuda.max_memory_allocated(device) / 2**20 if device.startswith("cuda") else None
    )
    return row


def padded(batch: SequenceBatch, size: int, *, causal: bool) -> Attend:
    """Attention as it is where there is no kernel for sequences of variable length."""
    return grouped(batch, causal=causal)


def measure(
    folder: Path, device: str, batches: list[int], repeats: int, best: float, compiler: str
) -> list[dict[str, Any]]:
    """All rows."""
    rows: list[dict[str, Any]] = []
    described = folder / "sizes.json"
    asked = json.loads(described.read_text(encoding="utf-8"))
    try:
        for batch in batches:
            size = min(batch, asked["clients"])
            sizes = asked | {
                "batch": size,
                "steps": max(1, min(asked["steps"], asked["clients"] // size)),
            }
            described.write_text(json.dumps(sizes), encoding="utf-8")
            rate = timed(slices(folder, device=device), repeats)
            rows.append({"what": "slices + batch", "batch": size, "unit": "events/s", "rate": rate})
            rows += [measure_step(folder, variant, device, repeats, best) for variant in VARIANTS]
            with patch.object(transformer, "attention_over", padded):
                row = measure_step(folder, "transformer", device, repeats, best)
            rows.append(row | {"what": "step transformer, attention padded to the longest"})
            row = measure_step(folder, "default", device, repeats, best, compiled=compiler)
            rows.append(row | {"what": "step default, compiled"})
    finally:
        described.write_text(json.dumps(asked), encoding="utf-8")
    rows.append(
        {
            "what": "loss and mining",
            "unit": "calls/s",
            "rate": timed(loss(folder, device=device), repeats),
        }
    )
    for variant in VARIANTS:
        rate = timed(embed(folder, variant=variant, device=device), repeats)
        rows.append({"what": f"embed {variant}", "unit": "events/s", "rate": rate})
    return rows


def table(about: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """All figures as Markdown."""
    lines = [
        f"{about['device']}, torch {about['torch']}; products: "
        + ", ".join(
            f"{name} {rate / 1e12:.3g} TFLOP/s" for name, rate in about["products"].items()
        ),
        "",
        (
            "| what | clients per batch | unit | rate | share of the bf16 product | card MB | "
            "waits for the card |"
        ),
        "|---" * 7 + "|",
    ]
    for row in rows:
        rate = row.get("rate")
        shown = (
            f"{quantity(rate['median'])} ({quantity(rate['low'])}..{quantity(rate['high'])})"
            if rate
            else "-"
        )
        share = f"{row['share']:.2%}" if "share" in row else "-"
        card = f"{row['card_mb']:,.0f}" if row.get("card_mb") else "-"
        lines.append(
            f"| {row['what']} | {row.get('batch', '-')} | {row['unit']} | {shown} | {share} | "
            f"{card} | {row.get('waits', '-')} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and write down."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument(
        "--clients", type=int, help="generated clients; 6,000 are about a million events"
    )
    parser.add_argument(
        "--batch", type=int, nargs="+", default=[64, 512, 4096], help="clients per batch"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--compiler",
        default="inductor",
        help="torch.compile's backend; eager looks through the step alone",
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes: whether it runs, not how fast"
    )
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit(
            "No CUDA GPU is here. Run this where there is one; --device cpu tries the same "
            "functions without."
        )
    sizes = (
        SIZES | (QUICK if options.quick else {"steps": 20}) | {"threads": torch.get_num_threads()}
    )
    sizes["clients"] = options.clients or sizes["clients"]
    folder = options.output / "data"
    write_data(folder, sizes)
    products = peak(options.device, options.repeats, 64 if options.quick else 8192)
    name = (
        torch.cuda.get_device_name(options.device)
        if options.device.startswith("cuda")
        else options.device
    )
    about = {
        "device": name,
        "torch": torch.__version__,
        "products": products,
        "sizes": sizes_of(folder),
    }
    rows = measure(
        folder, options.device, options.batch, options.repeats, products["bf16"], options.compiler
    )
    (options.output / "gpu.json").write_text(
        json.dumps({"machine": about, "rows": rows}, indent=1), encoding="utf-8"
    )
    (options.output / "gpu.md").write_text(table(about, rows) + "\n", encoding="utf-8")
    print(table(about, rows))


if __name__ == "__main__":
    main()
