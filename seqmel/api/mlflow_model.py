"""Models as MLflow's pyfunc, which scores a DataFrame without knowing seqmel.

    seqmel.save_mlflow_model(model, "cards")
    mlflow.pyfunc.load_model("cards").predict(events)    # a DataFrame: client, vector or scores

The folder holds the model folder and names seqmel as its loader, so nothing is pickled. `train
--logger mlflow` puts the same into the run, as `runs:/<run>/model`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from seqmel.api.model import Model, load
from seqmel.core.atomic_files import atomic_write, check_output
from seqmel.core.errors import ConfigError, ModelError, shown
from seqmel.core.version import __version__
from seqmel.model import AnyModel

__all__ = ["log_mlflow_model", "save_mlflow_model"]

_LOADER = "seqmel.api.mlflow_model"


def save_mlflow_model(model: AnyModel, output: str | Path, *, overwrite: bool = False) -> Path:
    """Write a folder that `mlflow.pyfunc.load_model` reads and `mlflow models serve` serves.

    Its `predict` takes a DataFrame of events of any number of clients, and returns one row per
    client: the client column, then the columns of `Model.predict` for a fine-tuned model, else
    those of `Model.embed`.

    Args:
        model: A model folder, or a `Model`.
        output: The folder to write.
        overwrite: Replace an existing folder of this kind.

    Returns:
        The folder.

    Raises:
        ConfigError: MLflow is missing.
        ModelError: There is no model, or it predicts with facts about clients.
        OutputError: The output exists or cannot be written.

    Examples:
        >>> import seqmel
        >>> seqmel.save_mlflow_model("model", "cards")  # doctest: +SKIP
        PosixPath('cards')
    """
    mlflow = _import()
    output = Path(output)
    loaded = load(model)
    if loaded.facts is not None:
        raise ModelError(
            "MLflow's pyfunc takes one DataFrame, and this model predicts with facts about "
            f"clients: {shown(map(repr, loaded.facts.names))}. Call its predict(events, facts)."
        )
    check_output(output, overwrite=overwrite, folder=True, option="overwrite=True")
    with atomic_write(output) as partial, TemporaryDirectory(prefix="seqmel-") as scratch:
        folder = loaded.save(Path(scratch) / "model").folder
        mlflow.pyfunc.save_model(
            partial,
            loader_module=_LOADER,
            data_path=str(folder),
            pip_requirements=[f"seqmel=={__version__}"],
        )
    return output


def log_mlflow_model(model: AnyModel, loggers: Sequence[Any]) -> None:
    """Put a model into the runs of Lightning's MLflow loggers, as their artifact "model".

    Args:
        model: A model folder, or a `Model`.
        loggers: Loggers; those of other trackers are left alone.

    Raises:
        ModelError: See `save_mlflow_model`.

    Examples:
        >>> import seqmel
        >>> from pytorch_lightning.loggers import MLFlowLogger  # doctest: +SKIP
        >>> seqmel.log_mlflow_model("model", [MLFlowLogger()])  # doctest: +SKIP
    """
    model = load(model)
    for logger in loggers:
        if type(logger).__name__ == "MLFlowLogger":
            with TemporaryDirectory(prefix="seqmel-") as scratch:
                folder = save_mlflow_model(model, Path(scratch) / "model")
                logger.experiment.log_artifacts(logger.run_id, str(folder), "model")


class _Scorer:
    """What MLflow holds of a model."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def predict(self, events: pd.DataFrame, params: Any = None) -> pd.DataFrame:  # noqa: ARG002 as MLflow calls it
        """Return one row per client: its id, and its prediction or vector."""
        score = self.model.predict if self.model.targets else self.model.embed
        found: pd.DataFrame = score(events, progress=False).reset_index()
        return found


def _load_pyfunc(path: str) -> _Scorer:
    """Called by MLflow with the path of the model folder."""
    return _Scorer(load(path))


def _import() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of MLflow, about types of its own
            import mlflow.pyfunc
    except ImportError:
        raise ConfigError(
            "A model for MLflow needs its package. Install it: pip install 'seqmel[mlflow]'"
        ) from None
    return mlflow
