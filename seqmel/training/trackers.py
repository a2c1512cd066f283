"""Trackers of experiments for `train --logger`: Lightning's loggers with the options of a run.

csv            metrics.csv in `<model>.logs`
tensorboard    event files in `<model>.logs`
mlflow         a run of the experiment "seqmel" at MLFLOW_TRACKING_URI, or in the folder mlruns;
               with the model, see `seqmel.log_mlflow_model`
wandb          a run of the project "seqmel"; its own environment variables apply
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from seqmel.config import Config
from seqmel.core.errors import ConfigError, did_you_mean

__all__ = ["TRACKERS", "flat_options", "make_loggers"]


def _csv(folder: Path, name: str) -> Any:
    from pytorch_lightning.loggers import CSVLogger

    return CSVLogger(str(folder), name="", version="", flush_logs_every_n_steps=1)


def _tensorboard(folder: Path, name: str) -> Any:
    from pytorch_lightning.loggers import TensorBoardLogger

    return TensorBoardLogger(str(folder), name="", version="", default_hp_metric=False)


def _mlflow(folder: Path, name: str) -> Any:
    from pytorch_lightning.loggers import MLFlowLogger

    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:  # newer versions write to a folder only if they are allowed to
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        uri = Path("mlruns").resolve().as_uri()
    return MLFlowLogger("seqmel", run_name=name, tracking_uri=uri)


def _wandb(folder: Path, name: str) -> Any:
    from pytorch_lightning.loggers import WandbLogger

    folder.mkdir(parents=True, exist_ok=True)
    return WandbLogger(name, save_dir=str(folder), project="seqmel")


TRACKERS: dict[str, Callable[[Path, str], Any]] = {
    "csv": _csv,
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
    "wandb": _wandb,
}
"""Name -> builds a logger from a folder for its files and the name of the run."""


def make_loggers(names: list[str], output: str | Path) -> list[Any]:
    """Build the loggers of a training. They write nothing yet.

    Args:
        names: names of `TRACKERS`.
        output: the model folder; the run is named after it.

    Returns:
        Lightning loggers, for `Hooks`.

    Raises:
        ConfigError: a name does not exist, or the package of a tracker is not installed.
    """
    output = Path(output)
    found = []
    for name in dict.fromkeys(names):
        if name not in TRACKERS:
            raise ConfigError(
                f"logger cannot be {name!r}. Expected one of: {', '.join(TRACKERS)}."
                f"{did_you_mean(name, TRACKERS)}"
            )
        try:
            found.append(TRACKERS[name](output.with_name(output.name + ".logs"), output.name))
        except ModuleNotFoundError:
            raise ConfigError(
                f"The logger {name} needs a package that is not installed: pip install "
                f"'seqmel[{name}]'"
            ) from None
    return found


def flat_options(config: Config) -> dict[str, Any]:
    """Return all options as trackers want them: `training.epochs` -> 5."""
    return dict(_flat(config.to_dict()))


def _flat(options: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in options.items():
        if isinstance(value, Mapping) and value:
            found += _flat(value, f"{before}{name}.")
        else:
            plain = value is None or isinstance(value, (bool, int, float, str))
            found.append((f"{before}{name}", value if plain else str(value)))
    return found
