"""Kill prepare, train, embed and experiment at random moments, rerun them, and compare.

    python benchmarks/reliability.py [--rounds 10] [--clients 400] [--seed 0] \
      [--kills 8] [--only embed experiment]

Each command is started, killed with SIGKILL after a random time, and started again the way a user
would (train with --resume, an experiment as it was, the others with --overwrite) until it comes
through, or left alone after --kills of them. It runs in a fork of a process that has imported what
it needs, so that the kills meet the work and not the imports. After every kill what lies under the
output's name must be whole or not there, of an experiment each file of its folder; in the end it
must equal, byte for byte of its data, what the undisturbed run gave. Prints a Markdown table; the
exit code is 1 where a result was half-written or differs.

    python benchmarks/reliability.py --fuzz 2000 [--seed 0]

damages a model folder and config files that often instead (bits, lengths, keys, types, huge
numbers, depth; also with the checksums made right again) and prints what became of them: anything
but a refusal in one line, or a model that gives finite vectors, is a bug.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import pyarrow.parquet as pq
from damage import fuzz

from seqmel import SeqmelError, generate_card_data, load_model
from seqmel.data.sequences.prepared import is_prepared, open_prepared

SMALL = [
    "--set",
    "event_encoder.hidden_size=32",
    "--set",
    "training.epochs=6",
    "--set",
    "training.batch_size=32",
]


FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "lightgbm",
        "pytorch_lightning",
        "sklearn.linear_model",
        "seqmel.cli.main",
        "seqmel.experiment.run",
        "seqmel.inference.embed",
        "seqmel.training.run",
    ]
)

NAMES = ("prepare", "train", "embed", "experiment", "experiment --jobs 2")


def seqmel(words: list[str]) -> None:
    """Run the command with these words, in a process of its own and unheard."""
    from seqmel.cli.main import main

    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    sys.argv = ["seqmel", *words]
    main()


@dataclass
class Job:
    """A command, how it is started again, and what of its output counts."""

    name: str
    words: list[str]
    again: list[str]
    output: Path
    whole: Callable[[Path], bool]
    content: Callable[[Path], bytes]
    kills: int = 0
    broken: int = 0
    different: int = 0
    seconds: float = field(default=0.0)

    def start(self, output: Path, *extra: str) -> BaseProcess:
        """Run the command into `output`."""
        process = FORKS.Process(target=seqmel, args=([*self.words, "-o", str(output), *extra],))
        process.start()
        return process

    def undisturbed(self) -> bytes:
        """The content that the run gives when it is left alone."""
        began = time.monotonic()
        process = self.start(self.output)
        process.join()
        if process.exitcode:
            sys.exit(f"{self.name} does not run at all")
        self.seconds = time.monotonic() - began
        return self.content(self.output)

    def disturbed(self, output: Path, most: int, chance: random.Random) -> bytes:
        """The content after as many kills as it takes; after `most` of them it is left alone."""
        for attempt in range(most + 1):
            process = self.start(output, *(self.again if attempt else []))
            process.join(None if attempt == most else chance.uniform(0.05, 1.1) * self.seconds)
            if process.is_alive():
                process.kill()
                process.join()
                self.kills += 1
                self.broken += output.exists() and not self.whole(output)
                continue
            if process.exitcode:
                sys.exit(f"{self.name} ended with {process.exitcode} after a kill")
            return self.content(output)
        raise AssertionError("the last attempt is not killed")


def _whole_prepared(path: Path) -> bool:
    try:
        return is_prepared(path) and len(open_prepared(path).sequences) > 0
    except SeqmelError:
        return False


def _whole_model(path: Path) -> bool:
    try:
        return bool(load_model(path))
    except SeqmelError:
        return False


def _whole_parquet(path: Path) -> bool:
    try:
        return pq.read_table(path).num_rows > 0
    except (OSError, ValueError):
        return False


def _whole_experiment(path: Path) -> bool:
    """Whether what lies in a folder of results under a name of its own can be read as a whole."""
    try:
        for file in path.glob("cells/*.json"):
            json.loads(file.read_text(encoding="utf-8"))["scores"]
        tables = [*path.glob("*.parquet"), *path.glob("prepared/*.parquet")]
        folders = [
            folder
            for folder in path.glob("prepared/*")
            if folder.is_dir() and folder.suffix != ".partial"
        ]
        return all(_whole_parquet(file) for file in tables) and all(
            _whole_prepared(folder) for folder in folders
        )
    except (OSError, ValueError, KeyError):
        return False


def _plan(folder: Path) -> Path:
    """Write a small experiment: aggregates, scores by trees and fine-tuning; two seeds each."""
    small = {
        "event_encoder": {"hidden_size": 8},
        "training": {"epochs": 1, "batch_size": 32},
        "finetuning": {"epochs": 1},
    }
    plan = {
        "data": {
            "cards": {
                "events": "events.parquet",
                "labels": "clients.parquet",
                "targets": ["gender"],
            }
        },
        "base": small,
        "rows": {
            "pooled": {},
            "tuned": {"encoder": {"name": "gru", "hidden_size": 8}, "scored": "finetuned"},
        },
        "seeds": [0, 1],
        "folds": 2,
        "trees": 10,
    }
    (folder / "plan.yaml").write_text(json.dumps(plan), encoding="utf-8")
    return folder / "plan.yaml"


def jobs(folder: Path) -> list[Job]:
    """The commands on the same events."""
    plan = str(_plan(folder))
    events = str(folder / "events.parquet")
    model = folder / "model"
    return [
        Job(
            "prepare",
            ["prepare", events],
            ["--overwrite"],
            folder / "sequences",
            _whole_prepared,
            lambda p: (p / "sequences.arrow").read_bytes() + (p / "vocabulary.json").read_bytes(),
        ),
        Job(
            "train",
            ["train", events, *SMALL],
            ["--resume"],
            model,
            _whole_model,
            lambda p: (p / "model.safetensors").read_bytes() + (p / "vocabulary.json").read_bytes(),
        ),
        Job(
            "embed",
            ["embed", str(model), events],
            ["--overwrite"],
            folder / "vectors.parquet",
            _whole_parquet,
            lambda p: str(pq.read_table(p).to_pydict()).encode(),
        ),
        *(
            Job(
                name,
                ["experiment", plan, *words],
                [],
                folder / name.replace(" ", "-"),
                _whole_experiment,
                lambda p: str(
                    pq.read_table(p / "results.parquet").drop_columns("seconds").to_pydict()
                ).encode(),
            )
            for name, words in ((NAMES[3], []), (NAMES[4], ["--jobs", "2"]))
        ),
    ]


def fuzzed(rounds: int, seed: int) -> None:
    """Print what became of so many damaged folders and configs; exit code 1 where it is a bug."""
    root = Path(__file__).parents[1]
    configs = [path.read_text() for path in sorted((root / "configs").glob("*.yaml"))]
    model = root / "tests" / "formats" / "model_2"
    with tempfile.TemporaryDirectory() as name:
        outcomes = fuzz(
            rounds, model, pq.read_table(model / "events.parquet"), configs, Path(name), seed
        )
    print("| damaged | what became of it | times |\n|---|---|---|")
    for what, counts in outcomes.items():
        for outcome, times in counts.most_common():
            print(f"| {what} | {outcome} | {times:,} |")
    sys.exit(any(outcome.startswith("BUG") for counts in outcomes.values() for outcome in counts))


def main() -> None:
    """Run all rounds and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--clients", type=int, default=400)
    parser.add_argument("--kills", type=int, default=8, help="the most in a round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", nargs="+", choices=NAMES, help="these commands; embed wants train too"
    )
    parser.add_argument("--fuzz", type=int, metavar="N")
    options = parser.parse_args()
    if options.fuzz:
        fuzzed(options.fuzz, options.seed)
    chance = random.Random(options.seed)
    print(
        "| command | undisturbed, s | rounds | kills | half-written results | results that "
        "differ |\n|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = generate_card_data(options.clients, seed=options.seed)
        pq.write_table(data.events, folder / "events.parquet")
        pq.write_table(data.clients, folder / "clients.parquet")
        asked = [job for job in jobs(folder) if options.only is None or job.name in options.only]
        first = FORKS.Process(target=os.getpid)  # has the imports done before anything is timed
        first.start()
        first.join()
        for job in asked:
            expected = hashlib.sha256(job.undisturbed()).digest()
            for round_ in range(options.rounds):
                output = job.output.with_name(f"{job.output.name}-{round_}")
                found = job.disturbed(output, options.kills, chance)
                job.different += hashlib.sha256(found).digest() != expected
            print(
                f"| {job.name} | {job.seconds:.1f} | {options.rounds} | {job.kills} | "
                f"{job.broken} | {job.different} |",
                flush=True,
            )
            left = [
                p.name
                for p in folder.rglob("*")
                if p.name.endswith((".partial", ".old", ".scratch", ".lock"))
            ]
            if left:
                sys.exit(f"left behind: {left}")
    sys.exit(any(job.broken or job.different for job in asked))


if __name__ == "__main__":
    main()
