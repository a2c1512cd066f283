"""Imports go one way; each layer knows only what stands before its name here."""

from __future__ import annotations

import ast
import functools
import itertools
import re
from pathlib import Path

import pytest

import seqmel

LAYERS: dict[str, str] = {
    "core": "",
    "data": "core",
    "config": "core data",
    "nn": "core data config",
    "objectives": "core data config nn",
    "losses": "objectives",
    "miners": "objectives",
    "errors": "core",
    "model": "core data config nn",
    "inference": "core data config nn model",
    "training": "core data config nn objectives model inference",
    "evaluation": "core data model inference",
    "export": "core data nn model",
    "demo": "core evaluation",
    "api": "core data config nn objectives model inference training evaluation export",
    "estimators": "core data config model inference training evaluation api",
    "report": "core data model inference training evaluation",
    "experiment": "core data config model inference training evaluation demo",
    "cli": "core data config model inference training evaluation export demo api report experiment",
    "__main__": "cli",
}
"""A part of the package, and all other parts that it may import; none that comes later."""

SPECIAL: dict[str, str] = {
    "duckdb": "data",
    "lightgbm": "evaluation",
    "matplotlib": "training evaluation experiment demo",
    "pyspark": "inference",
    "pytorch_lightning": "training",
    "pytorch_metric_learning": "core",
    "rich": "core evaluation cli",
    "safetensors": "model",
    "sklearn": "core training evaluation estimators demo",
    "typer": "cli",
    "yaml": "config experiment",
}
"""A library that was chosen for one job, and the only parts that may import it."""

PACKAGE = Path(seqmel.__file__).parent


@functools.cache
def imported(path: Path) -> set[str]:
    """Return dotted names of all imports of a file, also within functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            names |= (
                {f"seqmel.{alias.name}" for alias in node.names} if base == "seqmel" else {base}
            )
    return names


def files() -> dict[Path, str]:
    """Each file of the package but the front door, and its layer."""
    found = {
        path: path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for path in PACKAGE.rglob("*.py")
    }
    del found[PACKAGE / "__init__.py"]
    return found


def within(names: set[str]) -> set[str]:
    """The layers among these imports."""
    return {name.split(".")[1] for name in names if name.startswith("seqmel.")} - {"__version__"}


@functools.cache
def uses() -> dict[str, set[str]]:
    """Layer -> the other layers that it imports."""
    found: dict[str, set[str]] = {layer: set() for layer in LAYERS}
    for path, layer in files().items():
        found[layer] |= within(imported(path)) - {layer}
    return found


def test_every_file_belongs_to_a_layer() -> None:
    assert set(files().values()) == set(LAYERS)


def test_a_layer_is_allowed_only_what_comes_before_it() -> None:
    before: set[str] = set()
    for layer, allowed in LAYERS.items():
        assert set(allowed.split()) <= before, layer
        before.add(layer)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_what_it_is_allowed_and_nothing_is_allowed_in_vain(layer: str) -> None:
    assert uses()[layer] == set(LAYERS[layer].split())


def test_imports_are_absolute() -> None:
    assert [
        str(path) for path in files() if any(name.startswith(".") for name in imported(path))
    ] == []


@pytest.mark.parametrize("library", SPECIAL)
def test_a_library_stays_with_the_job_it_was_chosen_for(library: str) -> None:
    users = {
        layer
        for path, layer in files().items()
        if library in {name.split(".")[0] for name in imported(path)}
    }
    assert users == set(SPECIAL[library].split())


def test_no_module_of_a_layer_imports_another_in_a_circle() -> None:
    graph = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(
            ".__init__"
        ): imported(path)
        for path in files()
    }
    reached = {name: targets & set(graph) for name, targets in graph.items()}
    for middle, start in itertools.product(graph, graph):
        if middle in reached[start]:
            reached[start] |= reached[middle]
    assert [name for name in graph if name in reached[name]] == []


def test_the_architecture_page_names_every_layer() -> None:
    page = (Path(seqmel.__file__).parents[1] / "docs" / "architecture.md").read_text(
        encoding="utf-8"
    )
    table = page.split("| part | its one job |")[1]
    named = [
        name
        for line in table.splitlines()
        for name in re.findall(r"`(\w+)`", line.split("|")[1] if "|" in line else "")
    ]
    assert set(named) - {"__main__"} == set(LAYERS) - {"__main__"}
