"""Models side by side: their figures, and only the options that differ."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from in_process import InProcess
from small import card_events, tiny_config

from seqmel.core.errors import InputError, ModelError
from seqmel.model import load_model
from seqmel.training.finetuning.finetune import finetune
from seqmel.training.run import train
from seqmel.training.runs import compare_runs

EVENTS = card_events()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models that differ in the seed and the pooling, and a fine-tuned one."""
    folder = tmp_path_factory.mktemp("models")
    train(EVENTS, folder / "a", config=tiny_config())
    train(EVENTS, folder / "b", config=tiny_config(seed=3, pooling=["mean", "max"]))
    labels = pd.DataFrame({"client_id": sorted(set(EVENTS["client_id"].to_pylist()))})
    labels["kind"] = ["x", "y"] * 12
    finetune(load_model(folder / "a"), EVENTS, labels, folder / "tuned", targets=("kind",))
    return folder


def test_figures_and_differing_options_are_shown(models: Path) -> None:
    found = compare_runs([models / "a", models / "b"])
    assert found.index.tolist() == [str(models / "a"), str(models / "b")]
    assert found["clients"].tolist() == [24, 24]
    kept = load_model(models / "b").metrics["history"][0]
    row = found.loc[str(models / "b")]
    assert (row["epochs"], row["kept"], row["recall_at_1"]) == (1, 1, kept["recall_at_1"])
    assert {"seed", "pooling"} <= set(found)
    assert "training.batch_size" not in found
    assert row["seed"] == 3


def test_all_models_of_a_folder_are_listed_once(models: Path) -> None:
    found = compare_runs([models, models / "a"])
    assert [Path(name).name for name in found.index] == ["a", "b", "tuned"]
    assert found["log_loss"].notna().tolist() == [False, False, True]


def test_the_command_prints_the_table_and_writes_csv(models: Path, in_process: InProcess) -> None:
    done = in_process.seqmel("runs", models)
    assert done.returncode == 0, done.stderr
    assert "recall_at_1" in done.stdout
    done = in_process.seqmel("runs", models, "-o", models / "runs.csv")
    assert done.returncode == 0, done.stderr
    assert len(pd.read_csv(models / "runs.csv")) == 3


def test_what_is_no_model_is_refused(models: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No model folder in"):
        compare_runs([tmp_path])
    with pytest.raises(InputError, match="No folder at"):
        compare_runs([tmp_path / "absent"])
    (tmp_path / "copy").mkdir()
    for file in (models / "a").iterdir():
        (tmp_path / "copy" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "copy" / "metrics.json").write_text("{}")
    with pytest.raises(ModelError, match=r"metrics\.json differ"):
        compare_runs([tmp_path])
