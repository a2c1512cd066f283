"""Memory and time of each miner with its loss, and of each whole-batch loss, on a large batch.

    python benchmarks/mining_memory.py -o FOLDER --clients 4096 --views 5 --width 128

Each case has a process of its own: unit vectors of so many clients, the pairs or triplets mined,
the loss forward and backward, after a small round to load what is loaded once. Memory is the
highest resident size less the size just before, so the vectors themselves do not count, their
gradient does.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

LOSS_OF = {"pairs": "contrastive", "triplets": "triplet"}


def resident(name: str) -> int:
    """Bytes: `VmRSS`, the resident size now, or `VmHWM`, the highest one so far (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("This needs Linux: /proc/self/status has no figures of memory here.")


def measure(case: str, clients: int, views: int, width: int) -> dict[str, float | str]:
    """One case, in this process."""
    import torch
    from torch.nn import functional as F

    from seqmel.core.device import tune_malloc
    from seqmel.objectives.losses import LOSSES
    from seqmel.objectives.miners import MINERS

    tune_malloc()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    miner = MINERS[case](views=views) if case in MINERS else None
    loss = LOSSES[LOSS_OF[miner.gives] if miner else case]()

    def step(count: int) -> None:
        whose = torch.arange(count).repeat_interleave(views)
        drawn = torch.randn(count, 1, width) + torch.randn(count, views, width)
        vectors = F.normalize(drawn.view(-1, width), dim=1).requires_grad_()
        begin["seconds"], begin["bytes"] = time.perf_counter(), resident("VmRSS")
        loss(vectors, *(miner.mine(vectors, whose) if miner else (whose,))).backward()

    begin: dict[str, float] = {}
    step(16)
    Path("/proc/self/clear_refs").write_text("5")  # the highest size begins anew
    step(clients)
    seconds = time.perf_counter() - begin["seconds"]
    kind = f"{case} + {LOSS_OF[miner.gives]}" if miner else case
    return {
        "case": kind,
        "gigabytes": (resident("VmHWM") - begin["bytes"]) / 1e9,
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("-o", "--output", type=Path, help="a folder for memory.json and memory.md")
    parser.add_argument("--clients", type=int, default=4096)
    parser.add_argument("--views", type=int, default=5)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument(
        "--case", action="append", help="a miner or a loss; all where none is named"
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = (options.clients, options.views, options.width)
    if options.one:
        print(json.dumps(measure(options.one, *sizes)))
        return
    from seqmel.objectives.losses import LOSSES
    from seqmel.objectives.miners import MINERS

    batch = sorted(name for name, loss in LOSSES.items() if loss().takes == "batch")
    rows = []
    for case in options.case or [*sorted(MINERS), *batch]:
        words = [
            "--one",
            case,
            "--clients",
            str(sizes[0]),
            "--views",
            str(sizes[1]),
            "--width",
            str(sizes[2]),
        ]
        done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(
                done.stderr.strip().splitlines()[-1]
                if done.stderr.strip()
                else f"{case} was killed"
            )
        rows.append(json.loads(done.stdout))
        print(
            f"{rows[-1]['case']:36s} {rows[-1]['gigabytes']:6.2f} GB {rows[-1]['seconds']:7.1f} s",
            flush=True,
        )
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        found = {"clients": sizes[0], "views": sizes[1], "width": sizes[2], "rows": rows}
        (options.output / "memory.json").write_text(json.dumps(found, indent=1))
        lines = [
            f"| {row['case']} | {row['gigabytes']:.2f} GB | {row['seconds']:.1f} s |"
            for row in rows
        ]
        (options.output / "memory.md").write_text(
            "\n".join(["| what | memory | time |", "|---|---|---|", *lines, ""])
        )


if __name__ == "__main__":
    main()
