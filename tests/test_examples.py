"""The examples run as they stand, without a warning, and leave what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from in_process import InProcess

EXAMPLES = Path(__file__).parents[1] / "examples"

SAYS: dict[str, str] = {
    "quickstart": r"200 clients x 1023 numbers\nAUROC 0\.\d{3}\n",
    "sklearn_pipeline": r"([a-z +]+ AUROC [01]\.\d{3} ± 0\.\d{3} over folds\n){3}",
    "grid_search": r"(AUROC 0\.\d{3}  \[.*\]\n){4}\d+ of 150 are predicted to be 45 or older\n",
    "few_labels": r"AUROC 0\.[5-9]\d\d on 200 clients without a label\n",
    "churn_as_of": r"\d+ later rows, of which \d+% go quiet\nAUROC out of time 0\.\d{3}\n",
    "several_tables": (
        r"columns: source, mcc, shops\.city, shops\.amount, orders\.total\n"
        r"120 clients x \d+ numbers\n"
    ),
    "bank": (
        r"\d+ labels; the highest of 150 scores is 0\.\d\d\ncolumn\n"
        r"age .*\ncards\.amount .*\n(\S+ +-?0\.\d\d\n)+"
    ),
    "from_lifestream": r"120 clients x 67 numbers\n",
    "hive_partitions": r"client client_id, time event_time; left out: \{'month': .*, 'year': .*\}\n"
    r"EventSequences\(120 clients, [\d,]+ events: client_id, event_time, mcc, amount, city, "
    r"channel\)\n",
    "nightly_scoring": (
        r"(2023-12-\d\d: \d+ events of \d+ clients\. Too few vectors to tell: "
        r".*\n){2}200 clients are known\n"
    ),
}
"""Example -> what it prints."""

LEAVES: dict[str, list[str]] = {
    "quickstart": ["events.parquet", "clients.parquet", "model/config.json", "embeddings.parquet"],
    "few_labels": ["older-model/config.json"],
    "several_tables": ["model/config.json"],
    "bank": ["model/config.json"],
    "from_lifestream": ["model/config.json", "ptls.parquet"],
    "hive_partitions": ["model/config.json", "autumn.parquet"],
    "nightly_scoring": [
        "model/config.json",
        "state.parquet",
        "scores-2023-12-29.parquet",
        "scores-2023-12-30.parquet",
    ],
}
"""Example -> files that it writes."""


@pytest.mark.slow
@pytest.mark.parametrize("name", SAYS)
def test_an_example_runs_and_leaves_what_it_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_process: InProcess
) -> None:
    small = ["60"] if name == "sklearn_pipeline" else []
    monkeypatch.chdir(tmp_path)
    # a second run must not be misled by the state of the first
    runs = 2 if name == "nightly_scoring" else 1
    for _ in range(runs):
        done = in_process.script(EXAMPLES / f"{name}.py", *small)
        assert done.returncode == 0, done.stderr
    assert re.fullmatch(SAYS[name], done.stdout), done.stdout
    assert [file for file in LEAVES.get(name, []) if not (tmp_path / file).exists()] == []
    for file in tmp_path.glob("scores-*.parquet"):
        assert pd.read_parquet(file)["F"].between(0, 1).all()


def test_every_example_is_run_and_is_in_the_index() -> None:
    files = {path.stem for path in EXAMPLES.glob("*.py")}
    assert files == set(SAYS)
    assert files == set(
        re.findall(r"\[(\w+)\.py\]", (EXAMPLES / "README.md").read_text(encoding="utf-8"))
    )
