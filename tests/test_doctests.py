"""The examples in docstrings run as they stand."""

from __future__ import annotations

import copy
import doctest
import functools
import importlib
import inspect
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import seqmel
import seqmel.losses
import seqmel.miners
from seqmel.nn.encoder import SequenceEncoder
from seqmel.objectives.losses import LOSSES
from seqmel.objectives.miners import MINERS

VERBS = ("embed", "predict", "explain", "forecast", "finetune", "evaluate", "save", "export")
ONNX = ("export_onnx", "Model.export")
SPARK = ("embed_spark", "embed_spark_to_parquet", "prepare_spark")


def documented() -> dict[str, Any]:
    """Every public class and function, the verbs of the model, every loss and miner; by name."""
    found = {name: getattr(seqmel, name) for name in seqmel.__all__}
    found |= {f"Model.{name}": getattr(seqmel.Model, name) for name in VERBS}
    found |= {kind.__name__: kind for kind in (*LOSSES.values(), *MINERS.values())}
    found["SequenceEncoder.encode"] = SequenceEncoder.encode
    return {name: thing for name, thing in found.items() if not _is_error(thing)}


def _is_error(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, Exception)


@pytest.fixture
def _trained_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let examples that begin with the same training share copies of its model."""
    monkeypatch.setattr(seqmel, "train", _remembered(seqmel.train))


_MODELS: dict[str, Any] = {}


def _remembered(train: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(train)
    def trained(events: Any, *rest: Any, **options: Any) -> Any:
        if rest or not isinstance(events, pa.Table):
            return train(events, *rest, **options)
        key = f"{len(events)} {sorted(options.items())}"
        if key not in _MODELS:
            _MODELS[key] = train(events, **options)
        return copy.deepcopy(_MODELS[key])

    return trained


def run_example(name: str) -> None:
    """Run the example of a public name in the current folder."""
    doc = inspect.cleandoc(documented()[name].__doc__ or "")
    assert ">>>" in doc, f"{name} has no example"
    example = doctest.DocTestParser().get_doctest(doc, {"__name__": "__main__"}, name, None, 0)
    report: list[str] = []
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    doctest.DocTestRunner(optionflags=flags).run(example, out=report.append)
    assert report == [], "".join(report)


@pytest.mark.parametrize("name", sorted(set(documented()) - set(SPARK)))
def test_the_example_of_a_public_name_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if name != "train":
        request.getfixturevalue("_trained_once")
    if name in ONNX:
        pytest.importorskip("onnx", reason="onnx is not installed")
    monkeypatch.chdir(tmp_path)
    run_example(name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning")
def test_the_examples_of_spark_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sql = pytest.importorskip("pyspark.sql", reason="pyspark is not installed")
    if shutil.which("java") is None:
        pytest.skip("Java is not installed")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)  # not whatever python3 is in the path
    builder = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    session = (
        builder.config("spark.sql.shuffle.partitions", "2")
        .config("spark.driver.memory", "1g")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("OFF")
    for name in SPARK:
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        run_example(name)
    session.stop()


@pytest.mark.parametrize("name", sorted(documented()))
def test_a_public_function_names_its_arguments_and_what_it_returns(name: str) -> None:
    thing = documented()[name]
    doc = inspect.cleandoc(thing.__doc__ or "")
    assert "See the module's text" not in doc
    if isinstance(thing, type):
        return
    for section in ("Args:", "Returns:" if "Yields:" not in doc else "Yields:"):
        assert section in doc or (section == "Returns:" and _returns_nothing(thing)), (
            f"{name} has no {section}"
        )
    for parameter in inspect.signature(thing).parameters:
        assert parameter in ("self",) or parameter in doc, f"{name} does not document {parameter}"


def _returns_nothing(function: Any) -> bool:
    return str(inspect.signature(function).return_annotation) == "None"


@pytest.mark.parametrize("module", ["seqmel.objectives.losses", "seqmel.objectives.miners"])
def test_no_class_of_a_method_sends_the_reader_elsewhere(module: str) -> None:
    home = importlib.import_module(module)
    for name in home.__all__:
        assert "See the module's text" not in (getattr(home, name).__doc__ or "")
