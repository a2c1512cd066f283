"""How fast the products of the networks are in float32, by each library that torch carries.

    python benchmarks/products.py [-o OUT] [--threads 1]

Rows times weights of a GRU of 256 (the steps of a recurrence, and many events at once), of the
event network, and a weight gradient: torch.mm, which torch gives to MKL where it was built with it,
and oneDNN with packed weights, as `seqmel.nn.products` uses it. Prints a Markdown table of GFLOP/s,
medians of several turns in which both take part; writes it to OUT.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from seqmel.nn.products import Product, add_product, uses_onednn

_SHAPES = (
    ("a step of 64 sequences", 64, 256, 768),
    ("a step of 320 sequences", 320, 256, 768),
    ("2,048 events to gates", 2048, 256, 768),
    ("2,048 events, event network", 2048, 256, 256),
)
_OPERATIONS = 2e9  # a turn
_TURNS = 9


def rate(run: Callable[[], object], operations: float) -> float:
    """GFLOP/s of one turn."""
    times = max(1, round(_OPERATIONS / operations))
    began = time.perf_counter()
    for _ in range(times):
        run()
    return operations * times / (time.perf_counter() - began) / 1e9


def compared(runs: tuple[Callable[[], object], ...], operations: float) -> list[float]:
    """The median rate of each, in turns; the first turn does not count."""
    turns = [[rate(run, operations) for run in runs] for _ in range(1 + _TURNS)][1:]
    return [statistics.median(rates) for rates in zip(*turns, strict=True)]


def table() -> str:
    """The Markdown table."""
    lines = [
        "| product | rows | inner | columns | torch.mm | here | ratio |",
        "|---|---|---|---|---|---|---|",
    ]

    def add(name: str, shape: tuple[int, int, int], found: list[float]) -> None:
        numbers = (
            [f"{n:,}" for n in shape]
            + [f"{value:.0f}" for value in found]
            + [f"{found[1] / found[0]:.2f}"]
        )
        lines.append(f"| {name} | {' | '.join(numbers)} |")

    for name, rows, inner, columns in _SHAPES:
        left = torch.randn(rows, inner)
        right = torch.randn(inner, columns)
        out = torch.zeros(rows, columns)
        product = Product(right, rows, None)
        runs = (
            lambda a=left, b=right, o=out: o.addmm_(a, b),
            lambda p=product, a=left, o=out: p(o, a),
        )
        add(name, (rows, inner, columns), compared(runs, 2.0 * rows * inner * columns))
    states = torch.randn(2048, 256)
    slopes = torch.randn(2048, 768)
    total = torch.zeros(256, 768)
    gradient = (
        lambda: total.addmm_(states.t(), slopes),
        lambda: add_product(total, states.t(), slopes),
    )
    add(
        "weight gradient of 2,048 events",
        (256, 2048, 768),
        compared(gradient, 2.0 * 256 * 2048 * 768),
    )
    return "\n".join(lines)


def main() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    about = (
        f"GFLOP/s, {arguments.threads} threads, torch {torch.__version__}, "
        f"{torch.backends.cpu.get_cpu_capability()}"
    )
    text = f"{about}; here: {'oneDNN' if uses_onednn() else 'as torch does'}\n\n{table()}\n"
    print(text)
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "products.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
