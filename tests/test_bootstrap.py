"""bootstrap.py installs once for all the tasks that it is asked for, and then runs them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def bootstrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script, as if its environment were made and a Java were here."""
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "PYTHON", tmp_path)
    monkeypatch.setattr(module, "has_java", lambda: True)
    return module


def asked(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, *tasks: str) -> list[list[str]]:
    """What Python is run with."""
    ran: list[list[str]] = []
    monkeypatch.setattr(bootstrap, "run", lambda *words: ran.append(list(words)))
    monkeypatch.setattr(sys, "argv", ["bootstrap.py", *tasks])
    bootstrap.main()
    return ran


def test_the_tasks_of_ci_share_one_install(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    (line,) = [
        line for line in (ROOT / ".ci" / "run").read_text().splitlines() if "bootstrap.py" in line
    ]
    tasks = line.split("bootstrap.py")[1].split()
    assert set(tasks) == {"check", "audit", "docs", "test"}
    torch, seqmel, *rest = asked(bootstrap, monkeypatch, *tasks)
    assert torch[-1].startswith("torch==")
    assert seqmel[-2:] == ["--editable", ".[dev,docs,spark]"]
    assert rest == [words for task in tasks for words in bootstrap.TASKS[task]]


@pytest.mark.parametrize(
    ("task", "what"), [("demo", "."), ("docs", ".[docs]"), ("check", ".[dev]")]
)
def test_a_task_alone_installs_no_more_than_it_needs(
    task: str, what: str, bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asked(bootstrap, monkeypatch, task)[1][-1] == what


@pytest.mark.parametrize("tasks", [(), ("tests",), ("test", "lint")])
def test_an_unknown_task_is_refused_before_anything_is_installed(
    tasks: tuple[str, ...], bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match=r"usage: .* of demo, test, check, docs, audit"):
        asked(bootstrap, monkeypatch, *tasks)


def test_what_is_run_may_keep_what_it_compiles_and_a_failure_ends_it(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    environments = []

    def call(words: list[str], *, cwd: Path, env: dict[str, str]) -> int:
        environments.append(env)
        return 3

    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setattr(subprocess, "call", call)
    with pytest.raises(SystemExit) as ended:
        bootstrap.run("-m", "pytest")
    assert ended.value.code == 3
    assert "PYTHONDONTWRITEBYTECODE" not in environments[0]
