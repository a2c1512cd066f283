"""What is released holds what it needs and says what it is."""

from __future__ import annotations

import email.parser
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from seqmel import __version__

ROOT = Path(__file__).parents[1]
NO_HATCHLING = "hatchling is not installed; the dev extra has it"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built in this process as pip has it built."""
    wheels = pytest.importorskip("hatchling.builders.wheel", reason=NO_HATCHLING)
    folder = tmp_path_factory.mktemp("wheel")
    (built,) = wheels.WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return zipfile.ZipFile(built)


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "seqmel").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"seqmel/py.typed", "seqmel/report/page.css", "seqmel/report/page.js"} <= files
    about = f"seqmel-{__version__}.dist-info/"
    assert {name for name in wheel.namelist() if not name.startswith(about)} == files
    assert f"{about}licenses/LICENSE" in wheel.namelist()


def test_the_wheel_brings_the_command_and_a_description_that_renders(
    wheel: zipfile.ZipFile,
) -> None:
    about = f"seqmel-{__version__}.dist-info/"
    entry = wheel.read(f"{about}entry_points.txt").decode()
    assert "seqmel = seqmel.cli.main:main" in entry
    metadata = email.parser.Parser().parsestr(wheel.read(f"{about}METADATA").decode("utf-8"))
    assert metadata["Name"] == "seqmel"
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload() == (ROOT / "README.md").read_text(encoding="utf-8")
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert {re.split(r"[><=]", line)[0] for line in required} >= {"torch", "duckdb", "pyarrow"}


def test_the_source_release_can_build_and_be_tested(tmp_path: Path) -> None:
    sources = pytest.importorskip("hatchling.builders.sdist", reason=NO_HATCHLING)
    (built,) = sources.SdistBuilder(str(ROOT)).build(directory=str(tmp_path))
    top = f"seqmel-{__version__}/"
    with tarfile.open(built) as archive:
        names = {name.removeprefix(top) for name in archive.getnames()}
    needed = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "tests/conftest.py"}
    assert needed | {"seqmel/py.typed", "seqmel/report/page.js"} <= names
    assert not any(re.match(r"(research|build|dist|\.venv|\.ci)/", name) for name in names)


def workflow(name: str) -> Any:
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))


def test_public_ci_runs_what_ci_runs_here_and_every_python_that_is_promised() -> None:
    jobs = workflow("ci.yml")["jobs"]
    assert any(step.get("run") == ".ci/run" for step in jobs["all"]["steps"])
    promised = re.findall(
        r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text()
    )
    assert jobs["python"]["strategy"]["matrix"]["python-version"] == promised


def test_the_oldest_dependencies_are_installed_as_contributors_are_told() -> None:
    steps = workflow("ci.yml")["jobs"]["oldest-dependencies"]["steps"]
    found = next(step["run"] for step in steps if "sed" in step.get("run", ""))
    described = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for words in ("torch==2.13.0", "click==8.1.8", *re.findall(r"'s/.*?p'|grep -v .* umap", found)):
        assert words in described


def test_a_release_is_published_only_from_its_own_tag_and_without_a_token() -> None:
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    (pattern,) = re.findall(r"sed -n 's/(\S+ = \S+)/\\1/p'", text)
    version = (ROOT / "seqmel" / "core" / "version.py").read_text(encoding="utf-8")
    basic = pattern.replace(r"\(", "(").replace(r"\)", ")")  # sed's basic form
    assert re.findall(basic, version, re.MULTILINE) == [__version__]
    jobs = workflow("release.yml")["jobs"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert "secrets." not in text


def test_the_image_is_built_of_files_that_are_there_and_not_ignored() -> None:
    copied = re.findall(r"^COPY (.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    names = [name for line in copied for name in line.split()]
    kept = (ROOT / ".dockerignore").read_text().split()
    assert names
    for name in names:
        assert (ROOT / name).exists()
        assert f"!{name}" in kept


def test_the_citation_names_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(cited["version"]) == __version__
    assert cited["license"] == "Apache-2.0"


@pytest.mark.parametrize("form", ["bug", "idea"])
def test_an_issue_form_asks_questions_of_its_own(form: str) -> None:
    path = ROOT / ".github" / "ISSUE_TEMPLATE" / f"{form}.yml"
    asked = yaml.safe_load(path.read_text(encoding="utf-8"))
    ids = [part["id"] for part in asked["body"]]
    assert len(set(ids)) == len(ids) > 0
    assert all(part["attributes"]["label"].endswith("?") for part in asked["body"])
