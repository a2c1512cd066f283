"""Run the notebooks from a clean start and keep what they show.

    python examples/notebooks/run.py [NOTEBOOK ...]

It needs no Jupyter: a cell is Python, and what it shows is its text, its last value and its
figures; a semicolon at its end hides the value. Each notebook runs in a folder of its own, which
is gone afterwards.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent


def run(notebook: dict[str, Any]) -> dict[str, Any]:
    """Return the notebook with the outputs of its cells, run in this folder one after another."""
    names: dict[str, Any] = {"__name__": "__main__"}
    cells = []
    number = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            number += 1
            shown = _outputs("".join(cell["source"]), names, number)
            cell = cell | {"execution_count": number, "outputs": shown}
        cells.append(cell)
    return notebook | {"cells": cells}


def _outputs(source: str, names: dict[str, Any], number: int) -> list[dict[str, Any]]:
    body = ast.parse(source).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(ast.Module(body, []), f"<cell {number}>", "exec"), names)
        value = None
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), f"<cell {number}>", "eval"), names)
    found: list[dict[str, Any]] = []
    if text := printed.getvalue():
        found.append({"name": "stdout", "output_type": "stream", "text": _lines(text)})
    if value is not None and not source.rstrip().endswith(";"):
        data = {"text/plain": _lines(repr(value))}
        if callable(html := getattr(value, "_repr_html_", None)):
            data["text/html"] = _lines(html())
        about = {"execution_count": number, "metadata": {}, "output_type": "execute_result"}
        found.append({"data": data} | about)
    for figure in plt.get_fignums():
        image = io.BytesIO()
        plt.figure(figure).savefig(image, dpi=72, bbox_inches="tight", metadata={"Software": None})
        picture = base64.b64encode(image.getvalue()).decode()
        data = {"image/png": picture, "text/plain": ["<Figure>"]}
        found.append({"data": data, "metadata": {}, "output_type": "display_data"})
    plt.close("all")
    return found


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main(paths: list[Path]) -> None:
    """Run each and write it back."""
    plt.switch_backend("agg")
    for path in paths:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            done = run(notebook)
            os.chdir(HERE)
        path.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(path.name, flush=True)


if __name__ == "__main__":
    main([Path(word).resolve() for word in sys.argv[1:]] or sorted(HERE.glob("*.ipynb")))
