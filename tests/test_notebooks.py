"""The notebooks run from a clean start, and hold what they showed when they last ran so."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.pyplot as plt
import pytest

NOTEBOOKS = Path(__file__).parents[1] / "examples" / "notebooks"
FILES = sorted(NOTEBOOKS.glob("*.ipynb"))


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    """examples/notebooks/run.py."""
    spec = importlib.util.spec_from_file_location("run_notebooks", NOTEBOOKS / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(path: Path) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def kinds(cell: dict[str, Any]) -> list[str]:
    """What a cell shows: the types of its outputs and of their content."""
    return [
        " ".join([output["output_type"], *sorted(output.get("data", {}))])
        for output in cell.get("outputs", [])
    ]


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_holds(
    path: Path, runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    held = read(path)
    shown = runner.run(held)
    assert [kinds(cell) for cell in shown["cells"]] == [kinds(cell) for cell in held["cells"]]
    assert [c.get("execution_count") for c in shown["cells"]] == [
        c.get("execution_count") for c in held["cells"]
    ]
    assert any("image/png" in kind for cell in held["cells"] for kind in kinds(cell))


def test_every_notebook_is_in_the_index_and_its_links_lead_somewhere() -> None:
    index = (NOTEBOOKS.parent / "README.md").read_text(encoding="utf-8")
    assert {path.name for path in FILES} == set(re.findall(r"\(notebooks/(\S+\.ipynb)\)", index))
    for path in FILES:
        text = "".join(
            "".join(cell["source"])
            for cell in read(path)["cells"]
            if cell["cell_type"] == "markdown"
        )
        for target in re.findall(r"\]\(([^)#\s]+)\)", text):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
