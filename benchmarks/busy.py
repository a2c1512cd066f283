"""Training and embedding on an idle machine and beside a process that keeps one core busy.

    python benchmarks/busy.py -o OUT [--clients 2000] [--rounds 3]

Each run is a process of its own. They take turns: as `seqmel` starts torch, and with the time that
libgomp spins by default (GOMP_SPINCOUNT=300000). Seconds are those of one epoch of the default
model, and of embedding the same clients from memory, without the start of Python. Prints a table of
medians, with the least and the most, and writes all figures to OUT/busy.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

TIMED = """
import sys, time, warnings
warnings.simplefilter("ignore")
import seqmel
events = seqmel.generate_card_data(int(sys.argv[1]), seed=0).events
config = {"training": {"epochs": 1, "validation_fraction": 0.05}, "pca_dim": None}
began = time.perf_counter()
model = seqmel.train(events, config=config)
trained = time.perf_counter()
rows = sum(len(ids) for ids, _ in seqmel.embed(model, events))
assert rows == int(sys.argv[1])
print(trained - began, time.perf_counter() - trained)
"""
SPINS = {"seqmel": None, "libgomp's default": "300000"}
BUSY = "while True: pass"


def seconds(clients: int, spins: str | None) -> list[float]:
    """Seconds of training and of embedding in a fresh process."""
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT",)}
    if spins is not None:
        environment["GOMP_SPINCOUNT"] = spins
    command = [sys.executable, "-c", TIMED, str(clients)]
    found = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return [float(word) for word in found.stdout.split()[-2:]]


def main() -> None:
    """Measure and write down."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    print("| machine | threads wait as by | train, s | embed, s |\n|---|---|---|---|")
    rows = []
    for machine in ("idle", "one core busy"):
        busy = subprocess.Popen([sys.executable, "-c", BUSY]) if machine != "idle" else None
        try:
            found: dict[str, list[list[float]]] = {name: [] for name in SPINS}
            for _ in range(options.rounds):
                for name, spins in SPINS.items():
                    found[name].append(seconds(options.clients, spins))
        finally:
            if busy is not None:
                busy.kill()
        for name, rounds in found.items():
            rows.append({"machine": machine, "waits": name, "seconds": rounds})
            cells = [
                f"{statistics.median(stage):.1f} ({min(stage):.1f} to {max(stage):.1f})"
                for stage in zip(*rounds, strict=True)
            ]
            print(f"| {machine} | {name} | {' | '.join(cells)} |", flush=True)
    (options.output / "busy.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
