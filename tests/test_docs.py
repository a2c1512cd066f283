"""What the documents show in Python runs."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from seqmel.cli.main import main
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
def test_the_commands_at_the_top_of_the_readme_run_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## ", 1)[0]
    commands = re.findall(r"^    seqmel (.*)$", text, re.MULTILINE)
    commands += re.findall(r"`seqmel ((?:finetune|predict)\s.*?)`", text, re.DOTALL)
    assert [command.split()[0] for command in commands] == ["train", "embed", "evaluate", "finetune", "predict"]
    data = generate_card_data(40, seed=1)
    pq.write_table(data.events, tmp_path / "events.parquet")
    pq.write_table(data.clients, tmp_path / "clients.parquet")
    monkeypatch.chdir(tmp_path)
    for command in commands:
        monkeypatch.setattr(sys, "argv", ["seqmel", *shlex.split(command)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, capsys.readouterr().err
    assert len(pq.read_table("embeddings.parquet")) == len(pq.read_table("scores.parquet")) == 40
