"""`seqmel info`: what is installed and what this machine has, for a report of a fault."""

from __future__ import annotations

import typer

__all__ = ["info"]

_PACKAGES = (
    "torch pytorch-lightning duckdb pyarrow pandas numpy scikit-learn lightgbm pydantic".split()
)
_EXTRAS = {
    "onnx": ("onnx", "onnxruntime"),
    "pml": ("pytorch-metric-learning",),
    "polars": ("polars",),
    "delta": ("deltalake",),
    "spark": ("pyspark",),
    "faiss": ("faiss-cpu",),
    "usearch": ("usearch",),
    "umap": ("umap-learn",),
    "trimap": ("trimap",),
    "pacmap": ("pacmap",),
    "tune": ("optuna",),
    "hub": ("huggingface-hub",),
    "tensorboard": ("tensorboardX",),
    "mlflow": ("mlflow-skinny",),
    "wandb": ("wandb",),
}


def info() -> None:
    """Show versions, devices, threads and memory, and which extras are installed."""
    import platform

    from seqmel.core.device import resolve_device
    from seqmel.core.threads import thread_count
    from seqmel.core.version import __version__

    rows = {
        "seqmel": __version__,
        "Python": f"{platform.python_version()} on {platform.platform()}",
        **{name: _version(name) or "missing" for name in _PACKAGES},
    }
    for extra, names in _EXTRAS.items():
        found = [f"{name} {version}" for name in names if (version := _version(name))]
        rows[f"seqmel[{extra}]"] = ", ".join(found) or "not installed"
    rows["threads"] = f"{thread_count()} (--threads, OMP_NUM_THREADS)"
    rows["device"] = f"{resolve_device('auto')} (auto); {_devices()}"
    width = max(map(len, rows))
    for name, value in rows.items():
        typer.echo(f"{name:<{width}}  {value}")


def _version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> str:
    """Describe the devices that torch sees."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(count)]
    if torch.backends.mps.is_available():
        found.append("mps")
    capability = torch.backends.cpu.get_cpu_capability()
    return ", ".join([*found, f"cpu with {capability}"])
