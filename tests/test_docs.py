"""What the documents show exists: commands, links, tables and pictures.

That it runs is tested in test_docs_commands.py.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import test_docs_commands
import typer
import yaml

from seqmel.cli.main import app
from seqmel.config import Config

ROOT = Path(__file__).parents[1]


WRITTEN = sorted(p for p in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_every_page_with_python_is_run() -> None:
    with_python = {page for page in WRITTEN if "```python" in page.read_text(encoding="utf-8")}
    assert with_python <= set(test_docs_commands.PAGES)


@pytest.mark.parametrize("page", WRITTEN, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_and_flags_of_a_page_exist(page: Path) -> None:
    group: Any = typer.main.get_command(app)
    for command, flags in commands_on(page.read_text(encoding="utf-8")):
        assert command in group.commands, f"{page.name}: seqmel {command}"
        options = (*group.params, *group.commands[command].params)
        known = {name for parameter in options for name in parameter.opts}
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


@pytest.mark.parametrize("page", WRITTEN, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_of_the_repository_that_a_page_names_exist(page: Path) -> None:
    folders = "benchmarks|configs|docs|examples|research|tests"
    named = re.findall(rf"(?<![\w/.])((?:{folders})/[\w./-]*\w)", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", WRITTEN, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_yaml_of_a_page_is_a_config_or_a_part_of_a_plan(page: Path) -> None:
    for text in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        block = yaml.safe_load(text)
        if not {"data", "rows"} & set(block):
            block.pop("events", None)  # the tables of the command
            Config.from_dict(block)


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
