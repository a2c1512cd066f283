"""The measuring scripts run and say what they should; how fast anything is, is not tested."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from in_process import Done, InProcess

import seqmel
from seqmel.evaluation.feature_sets import standard_rows

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


Script = Callable[..., Done]


@pytest.fixture
def script(in_process: InProcess, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Return what runs a benchmark as `python benchmarks/NAME ...` does, in this process."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # compare.py sets it
    monkeypatch.syspath_prepend(BENCHMARKS)
    return lambda name, *words: in_process.script(BENCHMARKS / name, *words)


LONG = pytest.mark.skipif(
    "SEQMEL_LONG_TESTS" not in os.environ, reason="takes half a minute: set SEQMEL_LONG_TESTS=1"
)


def own_process(name: str, *words: object) -> Done:
    """The same in a process of its own, for what starts others that call its functions."""
    command = [sys.executable, str(BENCHMARKS / name), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    return Done(done.returncode, done.stdout, done.stderr)


def test_compare_measures_without_the_others_and_says_so(script: Script, tmp_path: Path) -> None:
    stages = ("slices", "loss", "online", "busy embed", "pragmatiq prepare")
    words = [word for stage in stages for word in ("--stage", stage)]
    done = script("compare.py", "--quick", "-o", tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert "No --peer-python: pytorch-lifestream is not measured" in done.stdout
    assert "No --pragmatiq-python: pragmatiq is not measured" in done.stdout
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert [row["stage"] for row in rows] == list(stages)
    assert [row["stage"] for row in rows if row["beside"] == "pragmatiq"] == ["pragmatiq prepare"]
    assert [row["stage"] for row in rows if "limit" not in row] == ["online"]
    assert all(row["ours"]["low"] > 0 and "theirs" not in row for row in rows)
    assert (tmp_path / "table.md").read_text().count("| - |") >= len(rows)
    table = pq.read_table(tmp_path / "data" / "pragmatiq" / "events.parquet")
    events = pd.read_parquet(tmp_path / "data" / "events.parquet").sort_values("client_id")
    first = events["client_id"].unique()[:20]
    assert set(table["user_id"].to_pylist()) == {str(client) for client in first}
    assert len(table) == events["client_id"].isin(first).sum()


def test_what_the_peer_cannot_do_is_a_note_and_not_the_end(script: Script, tmp_path: Path) -> None:
    peer = tmp_path / "bin" / "python"  # this Python, which has no pytorch-lifestream
    peer.parent.mkdir()
    peer.symlink_to(sys.executable)
    done = script(
        "compare.py", "--quick", "-o", tmp_path / "out", "--stage", "loss", "--peer-python", peer
    )
    assert done.returncode == 0, done.stderr
    assert "pytorch-lifestream's loss fails with" in done.stdout


@LONG
def test_the_stages_of_the_gpu_script_run_on_the_cpu(tmp_path: Path) -> None:
    done = own_process(
        "gpu.py",
        "--quick",
        "-o",
        tmp_path,
        "--device",
        "cpu",
        "--batch",
        8,
        "--repeats",
        1,
        "--compiler",
        "eager",
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert [row["what"] for row in rows[:7]] == [
        "slices + batch", "step like", "step own", "step transformer", "step default",
        "step transformer, attention padded to the longest", "step default, compiled",
    ]  # fmt: skip
    assert all(row["rate"]["median"] > 0 for row in rows)


def test_the_gpu_script_refuses_in_one_line_where_there_is_no_gpu(
    script: Script, tmp_path: Path
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    done = script("gpu.py", "-o", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == [
        (
            "No CUDA GPU is here. Run this where there is one; --device cpu tries the same "
            "functions without."
        )
    ]
    assert not (tmp_path / "out").exists()


@LONG
def test_scaling_gives_a_row_a_stage_and_size(tmp_path: Path) -> None:
    small = ["--set", "event_encoder.hidden_size=16", "--set", "device=cpu"]
    done = own_process(
        "scaling.py", "-o", tmp_path, "--clients", 30, 60, "--train-up-to", 30, *small
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "scaling.json").read_text())
    assert [(row["stage"], row["clients"]) for row in rows] == [
        ("prepare", 30), ("train, one epoch", 30), ("embed", 30), ("prepare", 60), ("embed", 60),
    ]  # fmt: skip
    assert all(row["peak_mb"] > 0 for row in rows)


def test_memory_of_mining_is_measured_for_a_miner_and_for_a_loss(
    script: Script, tmp_path: Path
) -> None:
    done = script(
        "mining_memory.py",
        "--clients",
        20,
        "--case",
        "batch_hard",
        "--case",
        "supcon",
        "-o",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "memory.json").read_text())["rows"]
    assert [row["case"] for row in rows] == ["batch_hard + triplet", "supcon"]
    assert (tmp_path / "memory.md").read_text().count(" GB |") == 2


@LONG
def test_prepare_train_and_embed_killed_at_random_give_the_results_of_a_whole_run(
    script: Script,
) -> None:
    done = own_process(
        *("reliability.py", "--rounds", 1, "--clients", 30, "--kills", 3),
        *("--only", "prepare", "train", "embed"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines()[2:]]
    assert [row[0].strip("| ") for row in rows] == ["prepare", "train", "embed"]
    assert sum(int(row[3]) for row in rows) > 0


@LONG
@pytest.mark.slow
def test_an_experiment_killed_at_random_moments_comes_to_what_an_undisturbed_one_gives(
    script: Script,
) -> None:
    done = own_process(
        "reliability.py", "--rounds", 1, "--clients", 40, "--kills", 3, "--only", "experiment"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = (line.split(" | ") for line in done.stdout.splitlines()[2:])
    assert row[0] == "| experiment"
    assert row[4:] == ["0", "0 |"]


def test_reading_csv_is_measured_each_way(script: Script) -> None:
    done = script("reading_csv.py", "--clients", 30, "--repeats", 1)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert [row.split(" | ")[0].strip("| ") for row in rows] == [
        ("DuckDB alone, types by the first "
"rows"), "seqmel", "seqmel, types by a look at all rows", "EventSequences.read",
    ]  # fmt: skip
    assert all(float(row.split(" | ")[1].split()[0]) > 0 for row in rows)


def test_rows_of_what_comes_next_have_the_columns_of_the_files_that_they_replace(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    flights, next_events, rows = map(importlib.import_module, ("flights", "next_events", "rows"))
    draw = np.random.default_rng(0)
    y = pd.Series(np.arange(60) % 2, index=pd.Index(range(60), name="client"), name="late_next")
    names = ("aggregates", "aggregates with order", "embeddings", "without")
    sets = {name: pd.DataFrame({"x": draw.normal(size=60) + y}, index=y.index) for name in names}
    probes, averages = standard_rows(sets)
    scores = seqmel.score(y, sets, probes=probes, averages=averages, folds=2, trees=2)
    found = {"flights": flights.row(scores), "next_events": next_events.row("cards", scores)}
    for name, row in found.items():
        held = json.loads((BENCHMARKS.parent / f"research/data/{name}.json").read_text())
        rows.write_rows(tmp_path / name, [row])
        (written,) = json.loads((tmp_path / name).read_text())
        assert list(written) == list(held[0])
    mean = np.subtract(scores.score("embeddings").folds, scores.score(names[1]).folds).mean()
    assert found["flights"]["difference"][0] == pytest.approx(mean, abs=1e-4)
    assert found["next_events"]["with"][1] == pytest.approx(
        scores.score("embeddings: linear").mean, abs=1e-4
    )


@LONG
def test_the_shifted_start_is_measured_for_every_target_and_kind_of_features(
    script: Script, tmp_path: Path
) -> None:
    done = script(
        "shifted_start.py",
        tmp_path,
        "-o",
        tmp_path / "out",
        "--set",
        "cards",
        "--clients",
        60,
        "--epochs",
        1,
    )
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "out" / "table.md").read_text().splitlines()[2:]
    assert [line.split(" | ")[1:3] for line in lines] == [
        [target, features]
        for target in ("gender", "age_group")
        for features in ("embeddings", "aggregates with order", "embeddings: linear")
    ]
    for line in lines:
        as_is, moved, apart = line.strip("| ").split(" | ")[3:]
        difference = float(apart.split(" ± ")[0])
        assert difference == pytest.approx(float(moved) - float(as_is), abs=2e-3)
