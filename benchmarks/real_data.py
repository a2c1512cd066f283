"""The main job on the real sets, through the commands that a user types: train, embed, evaluate, and an untrained encoder.

    python benchmarks/real_data.py DATA_FOLDER -o OUT_FOLDER [--set physionet2012 ...] [--config FILE] [--seed 0]

DATA_FOLDER holds physionet2012/, online_retail/ and berka/, each with events (or transactions) and clients as Parquet.
Leaves models, embeddings, logs and one JSON file of scores a target in OUT_FOLDER; what is there already is not made
again, so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

TARGETS = {
    "physionet2012": ["gender", "in_hospital_death", "age_group"],
    "online_retail": ["buys_in_holdout"],
    "berka": ["age_group", "gender"],
}


def seqmel(log: Path, *arguments: object) -> None:
    """Run a command, its words kept in a log with the seconds that it took."""
    began = time.monotonic()
    with log.open("a") as file:
        file.write(f"$ seqmel {' '.join(map(str, arguments))}\n")
        file.flush()
        code = subprocess.call([sys.executable, "-m", "seqmel", *map(str, arguments)], stdout=file, stderr=file)
        file.write(f"[exit {code}, {time.monotonic() - began:.0f} s]\n\n")
    if code:
        sys.exit(f"seqmel {arguments[0]} failed; see {log}")


def run(data: Path, out: Path, name: str, extra: list[str]) -> None:
    """All commands for one set."""
    folder = data / name
    events = folder / ("transactions.parquet" if name == "berka" else "events.parquet")
    out.mkdir(parents=True, exist_ok=True)
    log = out / "log.txt"
    for model, epochs in (("model", []), ("untrained", ["--epochs", 0])):
        if not (out / model).exists():
            seqmel(log, "train", events, "-o", out / model, "--resume", *extra, *epochs)
        if not (out / f"{model}.parquet").exists():
            seqmel(log, "embed", out / model, events, "-o", out / f"{model}.parquet")
    trained, untrained = f"embeddings={out / 'model.parquet'}", f"untrained={out / 'untrained.parquet'}"
    for target in TARGETS[name]:
        for what, sets in (("trained", [trained, "--events", events]), ("untrained", [untrained])):
            scores = out / f"{target}-{what}.json"
            if not scores.exists():
                command = ["evaluate", folder / "clients.parquet", "--target", target, "--embeddings", *sets]
                seqmel(log, *command, "--json", scores)


def main() -> None:
    """Read the options and run the sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--set", action="append", choices=TARGETS, help="one set; all by default")
    parser.add_argument("--config", help="given to seqmel train")
    parser.add_argument("--seed", type=int, default=0, help="of the training")
    options = parser.parse_args()
    extra = ["--seed", str(options.seed), *(["--config", options.config] if options.config else [])]
    for name in options.set or TARGETS:
        run(options.data, options.output / name, name, extra)


if __name__ == "__main__":
    main()
