"""What the documents show in Python runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from seqmel.demo.generator import generate_card_data

ROOT = Path(__file__).parents[1]


def python_blocks(document: str, passage: str = "") -> list[str]:
    """The Python blocks of a document, or of the passage under one of its headings."""
    text = (ROOT / document).read_text(encoding="utf-8")
    if passage:
        text = text.split(f"## {passage}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize(("document", "passage"), [("README.md", ""), ("docs/guide.md", "In scikit-learn")])
def test_the_python_of_a_document_runs_from_top_to_bottom(
    document: str, passage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = generate_card_data(40, seed=1)
    pq.write_table(data.events, tmp_path / "events.parquet")
    pq.write_table(data.clients, tmp_path / "clients.parquet")
    monkeypatch.chdir(tmp_path)
    blocks = python_blocks(document, passage)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, document, "exec"), names)
    assert (tmp_path / "model").exists() or (tmp_path / "gru-model").exists()


@pytest.mark.slow
def test_the_example_of_a_pipeline_runs() -> None:
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / "sklearn_pipeline.py"), "60"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^(\w+) +AUROC [01]\.\d{3}", done.stdout, re.MULTILINE) == ["embeddings", "aggregates", "both"]
