"""Compare each stage of seqmel with pytorch-lifestream, pragmatiq, and the limits of the machine.

    python benchmarks/compare.py --peer-python ptls/bin/python [--pragmatiq-python \
      pragmatiq/bin/python] -o OUT [--stage slices ...] [--repeats 5]

Every side is a process of its own that waits; they take turns (A B A B ...), so that whatever else
the machine does falls on all of them. Prints a Markdown table of medians with the smallest and the
largest, writes it with all figures and the machine to OUT (table.md, figures.json, ratios.png).
Ratios are taken within a round, by the clock and by the CPU time of all threads; the latter holds
also where others use the same cores. Without the Python of another library only seqmel and the
limits are measured. A stage named "busy" runs beside a process that keeps one core busy.
`--quick` is for seeing that everything runs: its figures mean nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# a folder in the peer's environment with the version whose preparation imports
PEER_FALLBACK = "lifestream-0.6.0"
LIFESTREAM, PRAGMATIQ = "pytorch-lifestream", "pragmatiq"
SCRIPTS = {LIFESTREAM: "stages_lifestream.py", PRAGMATIQ: "stages_pragmatiq.py"}
SIZES = {
    "clients": 6000,
    "count": 5,
    "shortest": 25,
    "longest": 200,
    "batch": 64,
    "hidden": 256,
    "event": 64,
    "views": 320,
    "width": 800,
    "steps": 6,
    "few": 500,
}
QUICK = {
    "clients": 150,
    "batch": 16,
    "hidden": 16,
    "event": 16,
    "views": 40,
    "width": 32,
    "steps": 1,
    "few": 20,
}


@dataclass(frozen=True)
class Comparison:
    """One row to be: what seqmel runs, what the other side runs, and what limits both.

    Attributes:
        stage: the name that --stage takes; several rows may share it.
        title, unit: for the table.
        ours, theirs, limit: names of runs on the three sides; no limit where none is known.
        target: how many times faster than the other side seqmel is to be.
        work: how the limit's rate becomes one in units of the row: "same", or the widths of the
            network whose operations a unit costs, (event layers, encoder, training).
        beside: the other library.
    """

    stage: str
    title: str
    unit: str
    ours: str
    theirs: str
    limit: str | None
    target: float | None
    work: tuple[int, str, bool] | None = None
    beside: str = LIFESTREAM


COMPARISONS = (
    Comparison("prepare", "prepare", "events/s", "prepare", "prepare", "sort", 20),
    Comparison("slices", "slices + batch", "events/s", "slices", "slices", "gather", 20),
    Comparison(
        "step", ("training step, GRU, same widths, "
"fp32"), "clients/s", "step like fp32", "step", "product fp32", 3, (1, "gru", True)
    ),
    Comparison(
        "step", ("training step, GRU, same widths, "
"bf16"), "clients/s", "step like bf16", "step", "product bf16", None, (1, "gru", True)
    ),
    Comparison(
        "step", ("training step, GRU in seqmel's network, "
"fp32"), "clients/s", "step own fp32", "step", "product fp32", None, (2, "gru", True)
    ),
    Comparison(
        "step", ("training step, seqmel's default, "
"fp32"), "clients/s", "step default fp32", "step", "product fp32", None, (2, "none", True)
    ),
    Comparison(
        "step", ("training step, seqmel's default, "
"bf16"), "clients/s", "step default bf16", "step", "product bf16", None, (2, "none", True)
    ),
    Comparison("loss", "loss and mining", "calls/s", "loss", "loss", "product loss", 50),
    Comparison("embed", ("embed, GRU, same "
"widths"), "events/s", "embed like", "embed", "product fp32", 6, (1, "gru", False)),
    Comparison("embed", ("embed, GRU, from unsorted "
"events"), "events/s", "embed events", "embed", "product fp32", None, (1, "gru", False)),
    Comparison("embed", ("embed, seqmel's "
"default"), "events/s", "embed default", "embed", "product fp32", None, (2, "none", False)),
    Comparison(
        "online", ("one client of 200 events online, seqmel's "
"default"), "calls/s", "online", "online", None, None
    ),
    Comparison(
        "busy step", ("training step, seqmel's default, one core "
"busy"), "clients/s", "step default fp32", "step", "product fp32", None, (2, "none", True)
    ),
    Comparison(
        "busy embed", ("embed, seqmel's default, one core "
"busy"), "events/s", "embed default", "embed", "product fp32", None, (2, "none", False)
    ),
    Comparison(
        "pragmatiq prepare", "prepare", "events/s", "prepare", "prepare", "sort", None,
        beside=PRAGMATIQ,
    ),
    Comparison(
        "pragmatiq train", "training, seqmel's default", "events/s", "train events", "train", None,
        None, beside=PRAGMATIQ,
    ),
    Comparison(
        "pragmatiq embed", "embed, seqmel's default", "events/s", "embed default", "embed",
        "product fp32", None, (2, "none", False), PRAGMATIQ,
    ),
)  # fmt: skip
STARTS = {
    "seqmel --help": (sys.executable, ["-m", "seqmel", "--help"], 0.3),
    "import seqmel, a config": (sys.executable, ["-c", "from seqmel import Config; Config()"], 0.5),
    "import of what trains": (
        sys.executable,
        ["-c", "import seqmel.training.run, seqmel.training.fit"],
        None,
    ),
    "limit: python alone": (sys.executable, ["-c", "pass"], None),
    "limit: import torch": (sys.executable, ["-c", "import torch"], None),
    "lifestream: import ptls.frames.coles": (None, ["-c", "import ptls.frames.coles"], None),
}
STAGES = (*dict.fromkeys(c.stage for c in COMPARISONS), "memory", "start")


class Side:
    """A process that answers requests; a side without a Python is absent."""

    def __init__(
        self, python: str | None, script: str, threads: int, *, path: Path | None = None
    ) -> None:
        self.python = python
        self.script = script
        self.environment = os.environ | {
            "OMP_NUM_THREADS": str(threads),
            "PYTHONWARNINGS": "ignore",
        }
        found = [str(path)] if path else [] if script in SCRIPTS.values() else [str(HERE.parent)]
        self.environment["PYTHONPATH"] = os.pathsep.join(found)
        self._process: subprocess.Popen[str] | None = None

    def ask(self, stage: str, folder: Path, group: str) -> dict[str, Any]:
        """Run once and return the answer of `serving.serve`; runs of a group are ready together."""
        if self.python is None:
            return {"error": "not there"}
        if self._process is None:
            self._process = subprocess.Popen(
                [self.python, str(HERE / self.script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=self.environment,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(
                json.dumps({"stage": stage, "folder": str(folder), "group": group}) + "\n"
            )
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer: dict[str, Any] = (
            json.loads(line) if line else {"error": f"{self.script} ended without an answer"}
        )
        return answer

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.communicate()
            self._process = None


@dataclass
class Sides:
    """All sides; pytorch-lifestream's preparation may be another version of it."""

    peer: str | None
    pragmatiq: str | None
    threads: int
    ours: Side = field(init=False)
    theirs: dict[str, Side] = field(init=False)
    limit: Side = field(init=False)

    def __post_init__(self) -> None:
        self.ours = Side(sys.executable, "stages_seqmel.py", self.threads)
        self.limit = Side(sys.executable, "stages_limits.py", self.threads)
        pythons = {LIFESTREAM: self.peer, PRAGMATIQ: self.pragmatiq}
        self.theirs = {
            name: Side(python, SCRIPTS[name], self.threads) for name, python in pythons.items()
        }

    def older(self) -> Side | None:
        """The other library in the version beside its environment, where there is one."""
        folder = Path(self.peer).parent.parent / PEER_FALLBACK if self.peer else None
        if folder is None or not folder.is_dir():
            return None
        return Side(self.peer, "stages_lifestream.py", self.threads, path=folder)

    def close(self) -> None:
        """End all processes."""
        for side in (self.ours, *self.theirs.values(), self.limit):
            side.close()


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def compare(stage: str, sides: Sides, folder: Path, repeats: int) -> list[dict[str, Any]]:
    """Return the rows of a stage: a warm-up round, then `repeats` rounds with alternating runs."""
    rows = [c for c in COMPARISONS if c.stage == stage]
    theirs, notes = _able(sides, rows[0], folder)
    runs = {("theirs", rows[0].theirs): theirs} | {("ours", c.ours): sides.ours for c in rows}
    runs |= {("limit", c.limit): sides.limit for c in rows if c.limit is not None}
    answers: dict[tuple[str, str], list[dict[str, Any]]] = {run: [] for run in runs}
    with _busy_core() if stage.startswith("busy") else contextlib.nullcontext():
        for turn in range(1 + repeats):
            for run, side in runs.items():
                answer = side.ask(run[1], folder, stage)
                if "error" in answer and run[0] != "theirs":
                    sys.exit(f"{run[0]} {run[1]}: {answer['error']}")
                if turn and "error" not in answer:
                    answers[run].append(answer)
    if theirs not in sides.theirs.values():
        theirs.close()
    load = os.getloadavg()[0]
    return [_row(c, answers, folder) | {"load": load, "notes": notes} for c in rows]


@contextlib.contextmanager
def _busy_core() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _able(sides: Sides, row: Comparison, folder: Path) -> tuple[Side, list[str]]:
    """The other side, or its older version where it cannot do the stage, with the reason."""
    side = sides.theirs[row.beside]
    if side.python is None:
        return side, []
    answer = side.ask(row.theirs, folder, row.stage)
    if "error" not in answer:
        return side, []
    older = sides.older() if row.beside == LIFESTREAM else None
    note = f"{row.beside}'s {row.theirs} fails with {answer['error']!r}"
    return (older, [f"{note}; measured with {PEER_FALLBACK}"]) if older else (side, [note])


def _row(
    c: Comparison, answers: dict[tuple[str, str], list[dict[str, Any]]], folder: Path
) -> dict[str, Any]:
    ours = answers["ours", c.ours]
    theirs = answers["theirs", c.theirs]
    rates = {
        name: [a["units"] / a["seconds"] for a in part]
        for name, part in (("ours", ours), ("theirs", theirs))
    }
    found: dict[str, Any] = {
        "stage": c.stage,
        "title": c.title,
        "unit": c.unit,
        "beside": c.beside,
        "target": c.target,
        "ours": spread(rates["ours"]),
        "peak_mb": ours[-1]["peak_mb"],
    }
    if c.limit is not None:
        best = _limit(c, ours, answers["limit", c.limit], folder)
        found |= {"limit": spread(best), "limit_is": c.limit}
        found["share"] = found["ours"]["median"] / found["limit"]["median"]
    if theirs:
        ratios = [a / b for a, b in zip(rates["ours"], rates["theirs"], strict=True)]
        used = [
            b["cpu_seconds"] / b["units"] / a["cpu_seconds"] * a["units"]
            for a, b in zip(ours, theirs, strict=True)
        ]
        found["cpu_ratio"] = spread(used)
        found |= {
            "theirs": spread(rates["theirs"]),
            "ratio": spread(ratios),
            "their_peak_mb": theirs[-1]["peak_mb"],
        }
    return found


def _limit(
    c: Comparison, ours: list[dict[str, Any]], answers: list[dict[str, Any]], folder: Path
) -> list[float]:
    """Rates of the limit in units of the row."""
    from stages_limits import flops_per_event

    rates = [a["units"] / a["seconds"] for a in answers]
    if c.work is None:
        return rates
    sizes = json.loads((folder / "sizes.json").read_text(encoding="utf-8"))
    layers, encoder, training = c.work
    event = sizes["event"] if layers == 1 else 256
    cost = flops_per_event(
        event, sizes["hidden"], layers=layers, encoder=encoder, training=training
    )
    events = statistics.mean(a.get("events", a["units"]) / a["units"] for a in ours)
    return [rate / (cost * events) for rate in rates]


def start_up(peer: str | None, repeats: int) -> list[dict[str, Any]]:
    """Seconds from the call of a process to its end, by the clock and of the CPU."""
    rows = [
        {"title": title, "target": target, "seconds": [], "cpu_seconds": []}
        for title, (_, _, target) in STARTS.items()
    ]
    for turn in range(1 + repeats):
        for row in rows:
            python, arguments, _ = STARTS[row["title"]]
            if (program := python or peer) is None:
                continue
            environment = os.environ | {"PYTHONPATH": str(HERE.parent) if python else ""}
            began = time.perf_counter()
            process = subprocess.Popen(
                [program, *arguments],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
            _, status, usage = os.wait4(process.pid, 0)
            if turn and not status:
                row["seconds"].append(time.perf_counter() - began)
                row["cpu_seconds"].append(usage.ru_utime + usage.ru_stime)
    summed = {"load": os.getloadavg()[0]}
    return [
        {
            **row,
            "seconds": spread(row["seconds"]),
            "cpu_seconds": spread(row["cpu_seconds"]),
            **summed,
        }
        for row in rows
        if row["seconds"]
    ]


def memory(sides: Sides, small: Path, large: Path) -> list[dict[str, Any]]:
    """Peak memory of a fresh process that embeds so many clients, and four times as many."""
    rows = []
    names = {"seqmel, from unsorted events": ("stages_seqmel.py", "embed events", sys.executable)}
    names[LIFESTREAM] = (SCRIPTS[LIFESTREAM], "embed", sides.peer)
    for title, (script, stage, python) in names.items():
        if python is None:
            continue
        peaks = {}
        for folder in (small, large):
            side = Side(python, script, sides.threads)
            answer = side.ask(stage, folder, "memory")
            side.close()
            events = json.loads((folder / "sizes.json").read_text(encoding="utf-8"))["events"]
            peaks[str(events)] = answer.get("peak_mb")
        rows.append({"title": title, "peak_mb": peaks})
    return rows


def machine(threads: int) -> dict[str, Any]:
    """What the figures come from."""
    import torch

    info = Path("/proc/cpuinfo")
    names = (
        [x.split(":")[1].strip() for x in info.read_text().splitlines() if "model name" in x]
        if info.exists()
        else []
    )
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16_products": torch.cpu._is_avx512_bf16_supported(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "began": time.strftime("%Y-%m-%d %H:%M"),
        "load_before": os.getloadavg()[0],
    }


def quantity(value: float) -> str:
    """Three digits, with k or M."""
    for size, name in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{name}"
    return f"{value:.3g}"


def _cell(found: dict[str, float] | None) -> str:
    return (
        f"{quantity(found['median'])} ({quantity(found['low'])}..{quantity(found['high'])})"
        if found
        else "-"
    )


def table(figures: dict[str, Any]) -> str:
    """All figures as Markdown."""
    lines = list(_tables(figures))
    about = figures["machine"]
    head = ", ".join(f"{name.replace('_', ' ')} {about[name]}" for name in about)
    return "\n".join([f"Machine: {head}, load after {figures['load_after']:.1f}", "", *lines])


def _tables(figures: dict[str, Any]) -> Iterator[str]:
    if figures["rows"]:
        yield (
            "| stage | unit | beside | its rate | seqmel | ratio | by CPU time | to reach | "
            "limit | of it | load |"
        )
        yield "|---" * 11 + "|"
    for row in figures["rows"]:
        target = f"{row['target']:g}x" if row["target"] else "-"
        share = f"{row['share']:.0%}" if "share" in row else "-"
        yield (
            f"| {row['title']} | {row['unit']} | {row['beside']} | {_cell(row.get('theirs'))} | "
            f"{_cell(row['ours'])} | {_cell(row.get('ratio'))} | {_cell(row.get('cpu_ratio'))} | "
            f"{target} | {_cell(row.get('limit'))} | {share} | {row['load']:.1f} |"
        )
    for note in dict.fromkeys(note for row in figures["rows"] for note in row["notes"]):
        yield f"\n{note}."
    if figures["memory"]:
        yield (
            "\n| peak MB of embed | "
            + " | ".join(f"{int(n):,} events" for n in figures["memory"][0]["peak_mb"])
            + " |"
        )
        yield "|---|---|---|"
    for row in figures["memory"]:
        yield (
            f"| {row['title']} | "
            + " | ".join(f"{mb:,.0f}" if mb else "fails" for mb in row["peak_mb"].values())
            + " |"
        )
    if figures["start"]:
        yield "\n| start | seconds | of the CPU | to reach | load |\n|---|---|---|---|---|"
    for row in figures["start"]:
        yield (
            f"| {row['title']} | {_cell(row['seconds'])} | {_cell(row['cpu_seconds'])} | "
            f"{row['target'] or '-'} | {row['load']:.1f} |"
        )


def draw(figures: dict[str, Any], path: Path) -> None:
    """Plot the ratios and their spread on a logarithmic axis, with a tick at each target."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in figures["rows"] if "ratio" in row][::-1]
    if not rows:
        return
    figure = Figure(figsize=(8, 0.9 + 0.4 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axis: Any = figure.subplots()
    for place, row in enumerate(rows):
        ratio = row["ratio"]
        axis.barh(place, ratio["median"], color="#2a6f97", height=0.6)
        axis.plot([ratio["low"], ratio["high"]], [place, place], color="black", linewidth=1)
        if row["target"]:
            axis.plot([row["target"]] * 2, [place - 0.4, place + 0.4], color="#d1495b", linewidth=2)
    titles = [
        row["title"] if row["beside"] == LIFESTREAM else f"{row['title']}, {row['beside']}"
        for row in rows
    ]
    axis.set_yticks(range(len(rows)), titles)
    axis.set_xscale("log")
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set_xlabel(
        "times as fast as pytorch-lifestream, or as named (line: smallest to largest; red: to "
        "reach)"
    )
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def write_down(figures: dict[str, Any], out: Path) -> None:
    """All figures so far: after each stage, so that a run that is stopped leaves what it has."""
    figures["load_after"] = os.getloadavg()[0]
    out.mkdir(parents=True, exist_ok=True)
    (out / "figures.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    (out / "table.md").write_text(table(figures) + "\n", encoding="utf-8")
    draw(figures, out / "ratios.png")


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--peer-python",
        help="Python of an environment with pytorch-lifestream 0.7.0; see README.md",
    )
    parser.add_argument(
        "--pragmatiq-python", help="Python of an environment with pragmatiq; see README.md"
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="a folder for data and figures"
    )
    parser.add_argument(
        "--stage", action="append", choices=STAGES, help="one stage, repeatable; all by default"
    )
    parser.add_argument(
        "--clients", type=int, help="generated clients; 6,000 are about a million events"
    )
    parser.add_argument("--repeats", type=int, default=5, help="rounds that count")
    parser.add_argument("--steps", type=int, help="training steps a round; 6 by default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, one round: whether it runs, not how fast"
    )
    options = parser.parse_args()
    options.threads = 1 if options.quick else options.threads
    for name in ("peer_python", "pragmatiq_python"):
        if (python := getattr(options, name)) is not None:
            python = os.path.abspath(python)  # not resolved: a venv's is a link
            if not os.path.exists(python):
                parser.error(f"no such Python: {python}")
            setattr(options, name, python)
    return options


def main() -> None:
    """Measure what was asked for and write it down."""
    from made_data import write_data

    options = read_options()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    stages = options.stage or STAGES
    repeats = 1 if options.quick else options.repeats
    sizes = SIZES | (QUICK if options.quick else {}) | {"threads": options.threads}
    sizes |= {name: value for name in ("clients", "steps") if (value := getattr(options, name))}
    for flag, name in (("peer", LIFESTREAM), ("pragmatiq", PRAGMATIQ)):
        asked = any(c.beside == name for c in COMPARISONS if c.stage in stages)
        if asked and getattr(options, f"{flag}_python") is None:
            print(
                f"No --{flag}-python: {name} is not measured; benchmarks/README.md says how to "
                "add it."
            )
    figures: dict[str, Any] = {
        "machine": machine(options.threads),
        "sizes": sizes,
        "rows": [],
        "memory": [],
        "start": [],
    }
    folder = options.output / "data"
    if set(stages) != {"start"}:
        write_data(folder, sizes)
        figures["sizes"] = json.loads((folder / "sizes.json").read_text(encoding="utf-8"))
    sides = Sides(options.peer_python, options.pragmatiq_python, options.threads)
    try:
        for stage in stages:
            print(f"{stage} ...", file=sys.stderr, flush=True)
            if stage == "start":
                figures["start"] = start_up(options.peer_python, repeats)
            elif stage == "memory":
                large = options.output / "data-4"
                write_data(large, sizes | {"clients": 4 * sizes["clients"]})
                figures["memory"] = memory(sides, folder, large)
            else:
                figures["rows"] += compare(stage, sides, folder, repeats)
            write_down(figures, options.output)
    finally:
        sides.close()
    print(table(figures))


if __name__ == "__main__":
    main()
