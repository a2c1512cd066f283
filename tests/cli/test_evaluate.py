"""`seqmel evaluate` and `seqmel demo` as commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from in_process import InProcess
from small import card_events

from seqmel.cli import main as command_line
from seqmel.cli.commands.demo import DEMO_OPTIONS
from seqmel.config import Config
from seqmel.evaluation import scoring
from seqmel.evaluation.scoring import score


def refusal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> str:
    """The one line with which the command refuses."""
    monkeypatch.setattr(sys, "argv", ["seqmel", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        command_line.main()
    lines = capsys.readouterr().err.strip().splitlines()
    assert stopped.value.code == 2
    assert len(lines) == 1, lines
    assert lines[0].startswith("seqmel: ")
    return lines[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Events of 60 clients, embeddings that give one label away, and labels in another order."""
    events = card_events(60)
    pq.write_table(events, tmp_path / "events.parquet")
    ids = np.unique(events.column("client_id").to_numpy())
    random = np.random.default_rng(99)
    kind = random.integers(0, 2, len(ids))
    vectors = pd.DataFrame(
        {"client_id": ids, "emb_0000": kind + random.normal(0, 0.1, len(ids)), "emb_0001": 1.0}
    )
    vectors.to_parquet(tmp_path / "embeddings.parquet")
    labels = pd.DataFrame(
        {
            "client_id": ids,
            "kind": np.where(kind == 1, "b", "a"),
            "same": 1,
            "size": random.normal(size=len(ids)),
        }
    )
    labels.sample(frac=1, random_state=1).to_csv(tmp_path / "clients.csv", index=False)
    return tmp_path


def test_evaluate_prints_a_table_and_writes_json(folder: Path, in_process: InProcess) -> None:
    """Labels in CSV and another order, embeddings and aggregates in Parquet: matched by id."""
    done = in_process.seqmel(
        "evaluate",
        folder / "clients.csv",
        "--target",
        "kind",
        "--embeddings",
        folder / "embeddings.parquet",
        "--events",
        folder / "events.parquet",
        "--trees",
        20,
        "--folds",
        3,
        "--json",
        folder / "scores.json",
    )
    assert done.returncode == 0, done.stderr
    assert "embeddings + aggregates with order: " in done.stdout
    (scores,) = json.loads((folder / "scores.json").read_text())
    auroc = {s["features"]: s["mean"] for s in scores["scores"] if s["metric"] == "auroc"}
    assert auroc["embeddings"] > 0.95 > auroc["aggregates"]
    assert scores["clients"] == 60


def test_the_client_column_is_that_of_the_embeddings_whatever_it_is_called(
    folder: Path, in_process: InProcess
) -> None:
    """Ids with leading zeros in CSV, a column that no list of names has, and no --client."""
    names = {"client_id": "Kunde"}
    vectors, labels = (
        pd.read_parquet(folder / "embeddings.parquet"),
        pd.read_csv(folder / "clients.csv"),
    )
    events = pq.read_table(folder / "events.parquet").to_pandas()
    for table in (vectors, labels, events):
        table["client_id"] = table["client_id"].map("{:06d}".format)
    vectors.rename(columns=names).to_parquet(folder / "v.parquet")
    labels.rename(columns=names).to_csv(folder / "l.csv", index=False)
    events.rename(columns=names).to_csv(folder / "e.csv", index=False)
    done = in_process.seqmel(
        "evaluate",
        folder / "l.csv",
        "--target",
        "kind",
        "--embeddings",
        folder / "v.parquet",
        "--events",
        folder / "e.csv",
        "--folds",
        2,
        "--trees",
        2,
    )
    assert done.returncode == 0, done.stderr
    assert "60 clients" in " ".join(done.stdout.split())


def test_a_name_can_be_given_to_a_file_of_embeddings(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two files of the same name are distinguished by it, and refused without."""
    given = [
        "--embeddings",
        folder / "embeddings.parquet",
        "--embeddings",
        folder / "embeddings.parquet",
    ]
    line = refusal(
        capsys, monkeypatch, "evaluate", folder / "clients.csv", "--target", "kind", *given
    )
    assert "NAME=" in line


def test_labels_of_other_clients_are_refused_with_both_numbers(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is joined by position, so labels that match nobody are an error."""
    pd.DataFrame({"client_id": [900_001, 900_002], "kind": ["a", "b"]}).to_csv(
        folder / "others.csv", index=False
    )
    line = refusal(
        capsys,
        monkeypatch,
        "evaluate",
        folder / "others.csv",
        "--target",
        "kind",
        "--embeddings",
        folder / "embeddings.parquet",
    )
    assert "900001" in line
    assert "2" in line
    assert "60" in line


def test_a_target_of_one_class_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to tell apart."""
    line = refusal(
        capsys,
        monkeypatch,
        "evaluate",
        folder / "clients.csv",
        "--target",
        "same",
        "--embeddings",
        folder / "embeddings.parquet",
    )
    assert "one class" in line or "only" in line


def test_a_target_that_is_missing_offers_the_nearest(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelt column costs nothing."""
    line = refusal(
        capsys,
        monkeypatch,
        "evaluate",
        folder / "clients.csv",
        "--target",
        "kin",
        "--embeddings",
        folder / "embeddings.parquet",
    )
    assert "'kind'" in line


def test_nothing_to_evaluate_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither embeddings nor events."""
    assert "--embeddings" in refusal(
        capsys, monkeypatch, "evaluate", folder / "clients.csv", "--target", "kind"
    )


def test_the_demo_runs_and_leaves_everything_to_look_at(
    tmp_path: Path, in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run the whole demo with few clients, an epoch and few trees; it ends with the next steps."""
    monkeypatch.setitem(DEMO_OPTIONS["training"], "epochs", 1)
    monkeypatch.setattr(scoring, "score", lambda *a, **k: score(*a, **(k | {"trees": 5})))
    done = in_process.seqmel("demo", "-o", tmp_path / "demo", "--clients", 200)
    assert done.returncode == 0, done.stderr
    assert "seqmel train" in done.stdout
    left = {path.name for path in (tmp_path / "demo").iterdir()}
    assert left == {"clients.parquet", "demo.png", "embeddings.parquet", "events.parquet", "model"}
    assert (tmp_path / "demo" / "demo.png").read_bytes().startswith(b"\x89PNG")
    Config.from_dict(DEMO_OPTIONS)


def test_facts_are_scored_alone_and_beside_the_other_sets(
    folder: Path, in_process: InProcess
) -> None:
    labels = pd.read_csv(folder / "clients.csv")
    facts = labels[["client_id"]].assign(
        region=np.where(labels["kind"] == "a", "north", "south"), age=1e300
    )
    facts[:-2].to_parquet(folder / "facts.parquet")
    given = ["--facts", folder / "facts.parquet", "--fact-column", "region"]
    given += ["--fact-column", "age"]
    asked = ["--target", "kind", "--embeddings", folder / "embeddings.parquet", "--trees", 5]
    written = ["--json", folder / "scores.json", "--folds", 2]
    done = in_process.seqmel("evaluate", folder / "clients.csv", *asked, *given, *written)
    assert done.returncode == 0, done.stderr
    (scores,) = json.loads((folder / "scores.json").read_text())
    assert set(scores["matched"].items()) >= {("facts", 60), ("embeddings + facts", 60)}
    assert "embeddings + facts: linear" not in scores["matched"]
    (auroc,) = [
        row["mean"]
        for row in scores["scores"]
        if (row["features"], row["metric"]) == ("facts", "auroc")
    ]
    assert auroc > 0.9


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--facts", "clients.csv"], "'kind' is a column of the labels"),
        (["--fact-column", "age"], "--fact-column has no effect"),
    ],
)
def test_facts_that_would_give_the_target_away_are_refused(
    given: list[str],
    words: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    asked = ["evaluate", "clients.csv", "--target", "kind", "--embeddings", "embeddings.parquet"]
    assert words in refusal(capsys, monkeypatch, *asked, *given)
