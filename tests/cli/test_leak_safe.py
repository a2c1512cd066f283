"""The splits and curves of `seqmel evaluate`, `drift` and `retrieval`, on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from small import card_events
from typer.testing import CliRunner

from seqmel.cli.main import app
from seqmel.core.errors import SeqmelError


def seqmel(*arguments: object) -> Any:
    """Run the command in this process; what goes wrong unforeseen is raised."""
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def refusal(*arguments: object) -> str:
    """The one line with which the command refuses."""
    with pytest.raises(SeqmelError) as refused:
        seqmel(*arguments)
    line = str(refused.value)
    assert "\n" not in line
    return line


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write embeddings that leak the label, labels with day and branch, and monthly rows."""
    random = np.random.default_rng(0)
    ids, kind = np.arange(90), np.arange(90) % 2
    vectors = pd.DataFrame(
        {"client_id": ids} | {f"emb_{i:04}": kind + random.normal(0, 0.3, 90) for i in range(4)}
    )
    vectors.to_parquet(tmp_path / "vectors.parquet")
    vectors.assign(emb_0001=vectors["emb_0001"] + 3).to_parquet(tmp_path / "moved.parquet")
    vectors.drop(columns="emb_0003").to_parquet(tmp_path / "narrow.parquet")
    day = (pd.Timestamp("2024-01-01") + pd.to_timedelta(random.permutation(90), "D")).astype(str)
    labels = pd.DataFrame(
        {"client_id": ids, "left": kind, "day": day, "branch": ids // 9, "half": ids // 45}
    )
    labels.to_csv(tmp_path / "labels.csv", index=False)
    months = [
        labels.assign(month=pd.Timestamp(2024, m, 1).date(), left=(kind + m) % 2) for m in (1, 2, 3)
    ]
    pd.concat(months).to_parquet(tmp_path / "monthly.parquet")
    as_of = [
        vectors.assign(
            event_time=pd.Timestamp(2024, m, 1), emb_0000=(kind + m) % 2 + random.normal(0, 0.1, 90)
        )
        for m in (3, 1, 2)
    ]
    pd.concat(as_of).rename(columns={"event_time": "month"}).to_parquet(tmp_path / "as_of.parquet")
    return tmp_path


def evaluate(
    folder: Path, *options: object, labels: str = "labels.csv", vectors: str = "vectors.parquet"
) -> list[object]:
    """The arguments of an evaluation that takes a moment."""
    given = ["evaluate", folder / labels, "--target", "left", "--embeddings", folder / vectors]
    return [*given, "--trees", 5, "--folds", 3, *options]


def test_an_out_of_time_evaluation_says_where_it_cut_and_how_its_interval_was_made(
    folder: Path,
) -> None:
    done = seqmel(
        *evaluate(
            folder, "--time-split", "day", "--test-fraction", 0.2, "--json", folder / "s.json"
        )
    )
    said = " ".join(done.stdout.split())
    assert done.exit_code == 0
    assert "bootstrap over the 18 test clients" in said
    (scores,) = json.loads((folder / "s.json").read_text())
    assert scores["split"] == {
        "kind": "out_of_time",
        "column": "day",
        "cut": "2024-03-13",
        "train": 72,
        "test": 18,
        "test_clients": 18,
        "clients_in_both": 0,
    }
    assert {"features", "metric", "mean", "half_width", "folds", "interval"} == set(
        scores["scores"][0]
    )


def test_groups_stay_in_one_fold(folder: Path) -> None:
    done = seqmel(*evaluate(folder, "--group", "branch", "--json", folder / "s.json"))
    assert done.exit_code == 0
    assert "whole groups (10 of branch)" in " ".join(done.stdout.split())


def test_labels_and_embeddings_of_clients_and_moments_are_matched_by_both(folder: Path) -> None:
    monthly = evaluate(
        folder, "--time-column", "month", "--trees", 40, "--json", folder / "s.json",
        labels="monthly.parquet", vectors="as_of.parquet",
    )  # fmt: skip
    assert seqmel(*monthly).exit_code == 0
    (scores,) = json.loads((folder / "s.json").read_text())
    auroc = next(s["mean"] for s in scores["scores"] if s["metric"] == "auroc")
    assert (scores["clients"], scores["split"]["column"]) == (270, "client_id")
    assert auroc > 0.95
    line = refusal(*monthly, "--time-split", "month")
    assert "90 clients" in line
    assert "--allow-client-overlap" in line
    assert seqmel(*monthly, "--time-split", "month", "--allow-client-overlap").exit_code == 0


@pytest.mark.parametrize(("hours", "low", "high"), [(-1, 0.95, 1.0), (0, 0.5, 0.5)])
def test_aggregates_of_clients_and_moments_are_of_the_events_before_the_moment(
    folder: Path, hours: int, low: float, high: float
) -> None:
    """An event gives the label away: an hour before the moment, or at it."""
    labels = pd.read_parquet(folder / "monthly.parquet").iloc[:90]
    labels.to_parquet(folder / "once.parquet")
    moments, ids = pd.to_datetime(labels["month"]), labels["client_id"]
    at = moments + pd.Timedelta(hours=hours)
    telling = pd.DataFrame({"client_id": ids, "at": at, "amount": labels["left"].astype(float)})
    same = pd.DataFrame({"client_id": ids, "at": moments - pd.Timedelta(hours=2), "amount": 5.0})
    pd.concat([telling, same]).to_parquet(folder / "events.parquet")
    done = seqmel(
        "evaluate",
        folder / "once.parquet",
        "--target",
        "left",
        "--events",
        folder / "events.parquet",
        "--time",
        "at",
        "--time-column",
        "month",
        "--trees",
        40,
        "--folds",
        3,
        "--json",
        folder / "s.json",
    )
    assert done.exit_code == 0, done.output
    (scores,) = json.loads((folder / "s.json").read_text())
    auroc = {s["features"]: s["mean"] for s in scores["scores"] if s["metric"] == "auroc"}
    assert scores["clients"] == 90
    assert auroc.keys() == {"aggregates", "aggregates with order"}
    assert all(low <= value <= high for value in auroc.values())


def test_curves_are_printed_written_and_drawn(folder: Path) -> None:
    done = seqmel(
        *evaluate(
            folder, "--label-fractions", "0.1,1", "--dims", "1,2,full", "--dtypes", "float32,int8"
        ),
        "--json",
        folder / "s.json",
        "--plot",
        folder / "curves.png",
    )
    assert done.exit_code == 0
    (scores,) = json.loads((folder / "s.json").read_text())
    rows = ("vectors", "vectors: linear")
    found = [(row["features"], row["share"]) for row in scores["label_curve"]]
    assert found == [(name, share) for name in rows for share in (0.1, 1.0)]
    assert [row["bytes"] for row in scores["compression_curve"]] == [4, 1, 8, 2, 16, 4]
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_drift_of_a_file_from_itself_is_none_and_a_moved_dimension_is_named(folder: Path) -> None:
    vectors = pd.read_parquet(folder / "vectors.parquet")
    pd.concat([vectors, vectors.assign(client_id=vectors["client_id"] + 90)]).to_parquet(
        folder / "twice.parquet", index=False
    )
    for file, verdict in (
        ("vectors.parquet", "Too few vectors to tell"),
        ("twice.parquet", "No drift"),
    ):
        calm = seqmel("drift", folder / file, folder / file, "--fail-on-drift")
        assert (calm.exit_code, f"{verdict}: 0 of 4 dimensions" in calm.stdout) == (0, True)
    sides = folder / "vectors.parquet", folder / "moved.parquet"
    assert seqmel("drift", *sides, "--json", folder / "d.json").exit_code == 0
    assert json.loads((folder / "d.json").read_text())["moved"] == ["emb_0001"]
    failed = seqmel("drift", *sides, "--fail-on-drift")
    assert (failed.exit_code, "largest: emb_0001" in failed.stdout) == (1, True)


def test_retrieval_prints_both_tables_and_whose_figures_they_are(
    model_folder: Path, tmp_path: Path
) -> None:
    pq.write_table(card_events(40, seed=5), tmp_path / "events.parquet")
    pq.write_table(card_events(), tmp_path / "trained.parquet")
    done = seqmel(
        "retrieval",
        model_folder,
        tmp_path / "events.parquet",
        "--min-events",
        4,
        "--trained-on",
        tmp_path / "trained.parquet",
        "--parts",
        "slices",
        "--device",
        "cpu",
        "--json",
        tmp_path / "r.json",
    )
    assert done.exit_code == 0
    assert "Held-out clients: 24 that the model was trained on were left out." in done.stdout
    assert "too few clients" in done.stdout
    assert json.loads((tmp_path / "r.json").read_text())["figures"]["recall@1"]["mean"] >= 0


# --------------------------------------------------------------------------------------------------
# refused


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--time-split", "dya"], "No column 'dya' in .*Did you mean 'day'.*--time-split"),
        (["--group", "brunch"], "No column 'brunch' in .*Did you mean 'branch'.*--group"),
        (["--group", "half"], "3 folds of whole groups need 3 groups; 'half' has 2"),
        (["--time-split", "day", "--group", "branch"], "two ways to split"),
        (["--time-split", "day", "--test-fraction", "1.2"], "test_fraction is 1.2"),
        (["--test-fraction", "0.2"], "--test-fraction has no effect for folds"),
        (["--time-format", "%d"], "--time-format has no effect for embeddings alone"),
        (["--time-split", "left"], "training part .* has no client of class '1'"),
        (["--allow-client-overlap"], "--allow-client-overlap belongs to --time-split"),
        (["--label-fractions", "0.1,2"], "Expected fractions above 0, up to 1"),
        (["--label-fractions", "half"], "--label-fractions cannot be 'half'"),
        (["--label-fractions", "0,1"], "--label-fractions cannot be '0,1'"),
        (["--dims", "big"], "--dims cannot be 'big'"),
        (["--dims", "0"], "--dims cannot be '0'"),
        (["--dims", "4"], "cannot be reduced to 4"),
        (["--dims", "2", "--dtypes", "int4"], "no dtype 'int4'"),
        (["--dtypes", "int8"], "belongs to --dims"),
        (["--plot", "curves.png"], "--plot draws curves"),
        (["--time-column", "month"], "No column 'month'"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_one_line(
    folder: Path, options: list[str], says: str
) -> None:
    with pytest.raises(SeqmelError, match=says) as refused:
        seqmel(*evaluate(folder, *options))
    assert "\n" not in str(refused.value)


def test_rows_of_several_moments_are_refused_where_no_moment_is_named(folder: Path) -> None:
    line = refusal(*evaluate(folder, labels="monthly.parquet"))
    assert "has 3 rows" in line


def test_embeddings_of_other_dimensions_are_not_compared(folder: Path) -> None:
    line = refusal("drift", folder / "vectors.parquet", folder / "narrow.parquet")
    assert "The reference has 4 dimensions, the current vectors 3." in line
    assert "p-value" in refusal(
        "drift", folder / "vectors.parquet", folder / "moved.parquet", "--alpha", 0
    )


def test_retrieval_of_too_few_clients_is_refused(model_folder: Path, tmp_path: Path) -> None:
    pq.write_table(card_events(6), tmp_path / "events.parquet")
    line = refusal(
        "retrieval",
        model_folder,
        tmp_path / "events.parquet",
        "--min-events",
        500,
        "--device",
        "cpu",
    )
    assert "--min-events" in line
    assert "--parts" in refusal(
        "retrieval", model_folder, tmp_path / "events.parquet", "--parts", "thirds"
    )
