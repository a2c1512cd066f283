"""What the documents show in Python runs."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

from seqmel.cli.main import app, main
from seqmel.demo.generator import generate_card_data
from seqmel.training import batches
from seqmel.training.finetuning import fit_labels

ROOT = Path(__file__).parents[1]


def write_cards(folder: Path) -> None:
    """Write events.parquet, the last sixty of each of 40 clients, and clients.parquet."""
    data = generate_card_data(40, seed=1)
    events = data.events.to_pandas().groupby("client_id", sort=False).tail(60)
    pq.write_table(pa.Table.from_pandas(events, preserve_index=False), folder / "events.parquet")
    pq.write_table(data.clients, folder / "clients.parquet")


def python_blocks(page: str) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


PAGES = (
    "README.md",
    "docs/index.md",
    "docs/get-started.md",
    "docs/how-to/scikit-learn.md",
    "docs/how-to/online.md",
)
WRITTEN = sorted(p for p in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs_from_top_to_bottom(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cards(tmp_path)
    monkeypatch.chdir(tmp_path)
    blocks = python_blocks(page)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    assert (tmp_path / "model").exists() or (tmp_path / "gru-model").exists()


def test_every_page_with_python_is_run() -> None:
    with_python = {
        str(p.relative_to(ROOT)) for p in WRITTEN if "```python" in p.read_text(encoding="utf-8")
    }
    assert with_python == set(PAGES)


@pytest.mark.parametrize("page", WRITTEN, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_and_flags_of_a_page_exist(page: Path) -> None:
    group: Any = typer.main.get_command(app)
    for command, flags in commands_on(page.read_text(encoding="utf-8")):
        assert command in group.commands, f"{page.name}: seqmel {command}"
        known = {name for parameter in group.commands[command].params for name in parameter.opts}
        assert set(flags) <= known | {"--help"}, (
            f"{page.name}: seqmel {command} {set(flags) - known}"
        )


@pytest.mark.parametrize("page", WRITTEN, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    generated = {"commands.md", "configuration.md", "changelog.md", "contributing.md"}
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if (
            not target.startswith(("http:", "https:", "mailto:"))
            and Path(target).name not in generated
        ):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def script(path: str) -> ModuleType:
    """Load a script of the repository as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_and_pictures_are_those_of_the_raw_results() -> None:
    tables, concepts = script("research/tables.py"), script("docs/pictures.py")
    written = {page: (ROOT / page).read_text(encoding="utf-8") for page in tables.PAGES}
    assert {page: tables.filled(text) for page, text in written.items()} == written
    marks = re.findall("<!-- table (.+?) -->", "".join(written.values()))
    assert sorted(marks) == sorted(tables.TABLES)
    held = {p.stem: p.read_text(encoding="utf-8") for p in concepts.FOLDER.glob("*.svg")}
    drawn = tables.PICTURES | concepts.PICTURES
    assert held == {name: draw() for name, draw in drawn.items()}


def commands_on(text: str) -> list[tuple[str, list[str]]]:
    """Return command and flags of each indented `seqmel ...` line; a trailing \\ continues it."""
    found = []
    for line in re.findall(r"^    (?:\S+ -m )?seqmel ((?:.*\\\n)*.*)$", text, re.MULTILINE):
        words = line.replace("\\\n", " ").split()
        found.append(
            (words[0], [word.split("=")[0] for word in words[1:] if re.match(r"--[a-z]", word)])
        )
    return found


@pytest.mark.slow
def test_the_commands_at_the_top_of_the_readme_run_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## What it reaches")[0]
    commands = re.findall(r"^    seqmel (.*)$", text, re.MULTILINE)
    commands += re.findall(r"`seqmel ((?:finetune|predict)\s.*?)`", text, re.DOTALL)
    assert [command.split()[0] for command in commands] == [
        "train",
        "embed",
        "evaluate",
        "finetune",
        "predict",
    ]
    write_cards(tmp_path)
    monkeypatch.chdir(tmp_path)
    for home in (batches, fit_labels):  # the commands as printed, the trainings cut short
        monkeypatch.setattr(home, "_MAX_EPOCHS", 2)
    for command in commands:
        monkeypatch.setattr(sys, "argv", ["seqmel", *shlex.split(command)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, capsys.readouterr().err
    assert len(pq.read_table("embeddings.parquet")) == len(pq.read_table("scores.parquet")) == 40
