"""The main job on the real data sets by the commands: train, embed, evaluate; and untrained.

    python benchmarks/real_data.py DATA_FOLDER -o OUT_FOLDER [--set physionet2012 ...] \
      [--config FILE] [--seed 0]

DATA_FOLDER holds physionet2012/, online_retail/ and berka/, each with events (or transactions) and
clients as Parquet. Leaves models, embeddings, logs and one JSON file of scores a target in
OUT_FOLDER; what is there already is not made again, so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
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
        code = subprocess.call(
            [sys.executable, "-m", "seqmel", *map(str, arguments)], stdout=file, stderr=file
        )
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
    trained = f"embeddings={out / 'model.parquet'}"
    untrained = f"untrained={out / 'untrained.parquet'}"
    for target in TARGETS[name]:
        for what, sets in (("trained", [trained, "--events", events]), ("untrained", [untrained])):
            scores = out / f"{target}-{what}.json"
            if not scores.exists():
                command = [
                    "evaluate",
                    folder / "clients.parquet",
                    "--target",
                    target,
                    "--embeddings",
                    *sets,
                ]
                seqmel(log, *command, "--json", scores)


def table(out: Path, name: str) -> str:
    """Return the scores of a set as Markdown: a row per target, a column per feature set.

    The last columns are the differences to the aggregates.
    """
    columns = ["aggregates", "embeddings", "embeddings + aggregates", "untrained"]
    lines = [
        f"| {name} | " + " | ".join(columns) + " | both - aggregates |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for target in TARGETS[name]:
        files = [
            json.loads((out / f"{target}-{what}.json").read_text())[0]
            for what in ("trained", "untrained")
        ]
        primary = files[0]["primary"]
        scores = {
            s["features"]: s for file in files for s in file["scores"] if s["metric"] == primary
        }
        gains = {d["features"]: d for d in files[0]["differences"]}
        cells = [f"{scores[c]['mean']:.3f} ± {scores[c]['half_width']:.3f}" for c in columns]
        gain = gains["embeddings + aggregates - aggregates"]
        lines.append(
            f"| {target}, {primary} | {' | '.join(cells)} | {gain['mean']:+.3f} ± "
            f"{gain['half_width']:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Read the options and run the sets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--set", action="append", choices=TARGETS, help="one set; all by default")
    parser.add_argument("--config", help="given to seqmel train")
    parser.add_argument("--seed", type=int, default=0, help="of the training")
    options = parser.parse_args()
    extra = ["--seed", str(options.seed), *(["--config", options.config] if options.config else [])]
    for name in options.set or TARGETS:
        run(options.data, options.output / name, name, extra)
        print(table(options.output / name, name), flush=True)


if __name__ == "__main__":
    main()
