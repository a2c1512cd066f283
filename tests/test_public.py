"""The front door: what it offers is there, and opening it costs nothing."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import seqmel
from seqmel.cli.main import app

MODULES = sorted(module.name for module in pkgutil.walk_packages(seqmel.__path__, "seqmel."))
HEAVY = [
    "torch",
    "pandas",
    "numpy",
    "pyarrow",
    "duckdb",
    "matplotlib",
    "lightgbm",
    "sklearn",
    "pydantic",
    "typer",
    "rich",
]


def modules_after(statement: str) -> set[str]:
    """Which top-level modules a fresh Python holds after a statement."""
    code = (
        f"import sys\n{statement}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_every_module_imports_and_says_what_it_is_for(name: str) -> None:
    assert (importlib.import_module(name).__doc__ or "").strip()


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_every_name_that_a_module_offers_is_there(name: str) -> None:
    module = importlib.import_module(name)
    offered = list(getattr(module, "__all__", []))
    assert [missing for missing in offered if not hasattr(module, missing)] == []
    assert len(set(offered)) == len(offered)


def test_importing_seqmel_imports_nothing_heavy() -> None:
    assert modules_after("import seqmel") & set(HEAVY) == set()


def test_the_command_starts_without_torch() -> None:
    loaded = modules_after("import seqmel.cli.main")
    assert (
        loaded
        & {"torch", "pandas", "pytorch_lightning", "matplotlib", "lightgbm", "sklearn", "duckdb"}
        == set()
    )


def test_a_config_is_checked_without_torch() -> None:
    assert (
        modules_after("from seqmel import Config; Config()")
        & {"torch", "pandas", "duckdb", "lightgbm"}
        == set()
    )


def test_only_a_loss_of_the_other_library_imports_it_and_torch_where_a_config_is_read() -> None:
    pytest.importorskip(
        "pytorch_metric_learning", reason="pytorch-metric-learning is not installed"
    )
    both = {"torch", "pytorch_metric_learning"}
    read = (
        "import warnings; warnings.simplefilter('ignore'); from seqmel.config import "
        "read_config; read_config(None, ['loss={}'])"
    )
    assert modules_after(read.format("triplet")) & both == set()
    assert modules_after(read.format("pml/CircleLoss")) & both == both


def test_training_and_embedding_import_neither_lightgbm_nor_plotting() -> None:
    loaded = modules_after("from seqmel import embed, load_model, prepare, train")
    assert loaded & {"lightgbm", "sklearn", "matplotlib", "typer"} == set()


def test_the_public_names_are_sorted_and_are_all_there_is() -> None:
    assert seqmel.__all__ == sorted(seqmel.__all__)
    assert set(seqmel.__all__) == set(seqmel._HOME)
    assert set(seqmel.__all__) <= set(dir(seqmel))


@pytest.mark.parametrize("name", seqmel.__all__)
def test_a_public_name_is_that_of_its_home_and_documented(name: str) -> None:
    home = importlib.import_module(f"seqmel.{seqmel._HOME[name]}")
    assert getattr(seqmel, name) is getattr(home, name)
    assert name in home.__all__
    assert (getattr(seqmel, name).__doc__ or "").strip()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'seqmel' has no attribute 'fit_predict'"):
        seqmel.fit_predict  # noqa: B018


def test_all_errors_are_public() -> None:
    from seqmel.core import errors

    kinds = {
        kind.__name__
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    }
    assert kinds <= set(seqmel.__all__)
    assert seqmel.errors.InputError is seqmel.InputError


@pytest.mark.parametrize("words", [["--version"], ["version"]])
def test_the_command_says_which_version_it_is(words: list[str]) -> None:
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.output) == (0, f"{seqmel.__version__}\n")
