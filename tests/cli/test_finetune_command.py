"""The commands `seqmel finetune` and `seqmel predict`: files, output, and refusals."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from small import card_events

from seqmel.cli.main import main

EVENTS = card_events()
IDS = np.unique(EVENTS["client_id"].to_numpy())
LABELS = pd.DataFrame(
    {"client_id": IDS, "odd": IDS % 2, "one": 1, "grade": np.arange(24) / 7, "w": 1.5, "bad": -1.0}
)
QUICK = ["--device", "cpu", "--epochs", "1", "--batch-size", "8", "--precision", "32-true"]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in a folder with events and labels; return exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    pq.write_table(EVENTS, "events.parquet")
    LABELS.to_parquet("labels.parquet")

    def called(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["seqmel", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), said.out, said.err

    return called


def test_a_model_is_fine_tuned_and_predicts(run: Run, model_folder: Path) -> None:
    code, out, _ = run(
        "finetune",
        model_folder,
        "events.parquet",
        "labels.parquet",
        "--target",
        "odd",
        "--target",
        "grade",
        "-o",
        "m2",
        "--calibrate",
        "--weight",
        "w",
        *QUICK,
    )
    assert (
        code,
        out.startswith("model in m2 (validation on 2 clients: validation loss "),
        "next: seqmel predict m2 events.parquet" in out,
    ) == (0, True, True)
    code, out, _ = run("predict", "m2", "events.parquet", "-o", "scores.parquet", "--device", "cpu")
    assert (code, out) == (0, "24 clients in scores.parquet: client_id, odd=0, odd=1, odd, grade\n")
    assert pq.read_table("scores.parquet").column_names == [
        "client_id",
        "odd=0",
        "odd=1",
        "odd",
        "grade",
    ]
    assert run("embed", "m2", "events.parquet", "-o", "e.parquet", "--device", "cpu")[0] == 0


def test_without_a_model_it_starts_from_scratch(run: Run) -> None:
    small = ["--set", "event_encoder.hidden_size=16", "--set", "preparation.min_count=2"]
    code, out, _ = run(
        "finetune",
        "events.parquet",
        "labels.parquet",
        "--target",
        "odd",
        "-o",
        "m",
        "--from-scratch",
        *QUICK,
        *small,
    )
    assert (code, out.startswith("model in m")) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["MODEL", "events.parquet", "labels.parquet", "--target", "even"],
            [("No column 'even'"), "labels.parquet"],
        ),
        (
            ["MODEL", "events.parquet", "labels.parquet", "--target", "one"],
            [("one class only, 1"), "two or more"],
        ),
        (
            ["MODEL", "events.parquet", "others.parquet", "--target", "odd"],
            [("No client of the labels has events")],
        ),
        (
            ["MODEL", "events.parquet", "few.parquet", "--target", "odd"],
            [("Only 3 clients have a label")],
        ),
        (
            ["MODEL", "events.parquet", "labels.csv", "--target", "odd"],
            [("No such file or folder: labels.csv")],
        ),
        (
            ["MODEL", "events.parquet", "labels.parquet", "--target", "odd", "--weight", "bad"],
            ["client 100 has -1.0"],
        ),
        (
            ["MODEL", "events.parquet", "labels.parquet", "--target", "odd", "--weight", "grad"],
            ["No column 'grad'", "Did you mean 'grade'?", "Name the column with --weight."],
        ),
        (
            [
                "MODEL",
                "events.parquet",
                "labels.parquet",
                "--target",
                "odd",
                "--weight",
                "client_id",
            ],
            ["is the client column of labels.parquet. Name another with --weight."],
        ),
        (
            ["nothing", "events.parquet", "labels.parquet", "--target", "odd"],
            [("No model folder at nothing")],
        ),
        (
            ["events.parquet", "events.parquet", "labels.parquet", "--target", "odd"],
            [("No model folder at")],
        ),
        (
            ["events.parquet", "labels.parquet", "--target", "odd"],
            [("expects MODEL EVENTS LABELS"), "add --from-scratch"],
        ),
        (
            ["MODEL", "events.parquet", "labels.parquet", "--target", "odd", "--from-scratch"],
            ["expects EVENTS LABELS"],
        ),
        (
            ["MODEL", "events.parquet", "labels.parquet", "--target", "odd", "--unfreeze", "heads"],
            ["finetuning.unfreeze cannot be 'heads'", "Did you mean 'head'"],
        ),
        (
            [
                "MODEL",
                "events.parquet",
                "labels.parquet",
                "--target",
                "odd",
                "--set",
                "training.epochs=3",
            ],
            ["training is for training without labels", "finetuning.*"],
        ),
        (
            [
                "MODEL",
                "events.parquet",
                "labels.parquet",
                "--target",
                "odd",
                "--set",
                "encoder.hidden_size=8",
            ],
            ["encoder.hidden_size cannot be changed by fine-tuning: the model has 16"],
        ),
        (
            [
                "MODEL",
                "events.parquet",
                "labels.parquet",
                "--target",
                "odd",
                "--calibrate",
                "--set",
                "finetuning.validation_fraction=0",
            ],
            ["calibrate needs a validation split"],
        ),
        (
            ["MODEL", "events.parquet", "labels.parquet", "--target", "odd", "--task", "ranking"],
            ["--task cannot be"],
        ),
    ],
)
def test_a_fine_tuning_that_cannot_be_done_is_one_line(
    arguments: list[str], words: list[str], run: Run, model_folder: Path, tmp_path: Path
) -> None:
    LABELS.assign(client_id=IDS + 1).to_parquet("others.parquet")
    LABELS.head(3).to_parquet("few.parquet")
    before = set(tmp_path.iterdir())
    given = [str(model_folder) if word == "MODEL" else word for word in arguments]
    code, out, err = run("finetune", *given, "-o", "out", *QUICK)
    line = [line for line in err.splitlines() if line.startswith("seqmel: ")]
    assert (code, out, len(line)) == (2, "", 1), err
    assert "Traceback" not in err
    assert [word for word in words if word not in line[0]] == [], line[0]
    assert set(tmp_path.iterdir()) == before


def test_a_model_without_heads_cannot_predict(run: Run, model_folder: Path, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    code, out, err = run("predict", model_folder, "events.parquet", "-o", "scores.parquet")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "seqmel finetune MODEL EVENTS LABELS" in err
    assert set(tmp_path.iterdir()) == before
