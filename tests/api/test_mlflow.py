"""A model in MLflow scores a DataFrame, and a run read back has options, metrics and the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small import TINY, card_events

import seqmel
from seqmel.core.errors import OutputError
from seqmel.training.trackers import make_loggers

mlflow = pytest.importorskip(
    "mlflow", reason="mlflow is not installed: pip install 'seqmel[mlflow]'"
)
EVENTS = card_events(24).to_pandas()


@pytest.fixture
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "runs").as_uri())
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.mark.usefixtures("_store")
@pytest.mark.filterwarnings("ignore")  # of MLflow's own dependencies
def test_a_run_read_back_has_the_options_the_metrics_and_a_model_that_scores(
    tmp_path: Path,
) -> None:
    loggers = make_loggers(["mlflow"], tmp_path / "cards")
    model = seqmel.train(EVENTS, config=TINY, epochs=2, loggers=loggers, progress=False)
    seqmel.log_mlflow_model(model, loggers)

    client = mlflow.MlflowClient((tmp_path / "runs").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("seqmel").experiment_id])
    assert run.data.params["training.epochs"] == "2"
    history = [row["recall_at_1"] for row in model.metrics["history"]]
    logged = client.get_metric_history(run.info.run_id, "recall_at_1")
    assert [row.value for row in logged] == pytest.approx(history)

    folder = client.download_artifacts(run.info.run_id, "model", str(tmp_path))
    scored = mlflow.pyfunc.load_model(folder).predict(EVENTS).set_index("client_id")
    expected = model.embed(EVENTS, progress=False)
    pd.testing.assert_index_equal(scored.index, expected.index)
    np.testing.assert_array_equal(scored.to_numpy(), expected.to_numpy())


@pytest.mark.usefixtures("_store")
@pytest.mark.filterwarnings("ignore")  # of MLflow's own dependencies
def test_a_fine_tuned_model_predicts_in_mlflow(model_folder: Path, tmp_path: Path) -> None:
    ids = EVENTS["client_id"].unique()
    labels = pd.DataFrame({"client_id": ids, "kind": np.resize(["a", "b"], len(ids))})
    tuned = seqmel.load(model_folder).finetune(
        EVENTS, labels, target="kind", epochs=1, device="cpu", progress=False
    )
    seqmel.save_mlflow_model(tuned, tmp_path / "kinds")
    scored = mlflow.pyfunc.load_model(str(tmp_path / "kinds")).predict(EVENTS)
    assert list(scored) == ["client_id", "kind=a", "kind=b", "kind"]
    expected = tuned.predict(EVENTS, progress=False)
    assert scored["kind"].tolist() == expected["kind"].tolist()
    with pytest.raises(OutputError, match="exists"):
        seqmel.save_mlflow_model(tuned, tmp_path / "kinds")
    seqmel.save_mlflow_model(tuned, tmp_path / "kinds", overwrite=True)
