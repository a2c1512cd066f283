"""What is released holds what it needs and says what it is."""

from __future__ import annotations

import email.parser
import importlib.util
import re
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import seqmel

ROOT = Path(__file__).parents[1]
NO_HATCHLING = "hatchling is not installed; the dev extra has it"
TAG = "1.2.3"
"""The version that a tag would give."""


@pytest.fixture(scope="module", autouse=True)
def _built_from_a_tag() -> Iterator[None]:
    """Let builds find a tag, and no name of the repository."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SETUPTOOLS_SCM_PRETEND_VERSION", TAG)
        patch.delenv("GITHUB_REPOSITORY", raising=False)
        yield


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built in this process as pip has it built."""
    wheels = pytest.importorskip("hatchling.builders.wheel", reason=NO_HATCHLING)
    pytest.importorskip("hatch_vcs", reason="hatch-vcs is not installed; the dev extra has it")
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
    about = f"seqmel-{TAG}.dist-info/"
    assert {name for name in wheel.namelist() if not name.startswith(about)} == files
    assert f"{about}licenses/LICENSE" in wheel.namelist()


def test_the_wheel_brings_the_command_and_a_description_that_renders(
    wheel: zipfile.ZipFile,
) -> None:
    about = f"seqmel-{TAG}.dist-info/"
    entry = wheel.read(f"{about}entry_points.txt").decode()
    assert "seqmel = seqmel.__main__:main" in entry
    metadata = email.parser.Parser().parsestr(wheel.read(f"{about}METADATA").decode("utf-8"))
    assert metadata["Name"] == "seqmel"
    assert metadata["Version"] == TAG
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload() == (ROOT / "README.md").read_text(encoding="utf-8")
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert {re.split(r"[><=]", line)[0] for line in required} >= {"torch", "duckdb", "pyarrow"}


def test_the_source_release_can_build_and_be_tested(tmp_path: Path) -> None:
    sources = pytest.importorskip("hatchling.builders.sdist", reason=NO_HATCHLING)
    pytest.importorskip("hatch_vcs", reason="hatch-vcs is not installed; the dev extra has it")
    (built,) = sources.SdistBuilder(str(ROOT)).build(directory=str(tmp_path))
    top = f"seqmel-{TAG}/"
    with tarfile.open(built) as archive:
        names = {name.removeprefix(top) for name in archive.getnames()}
    needed = {"pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "CHANGELOG.md"}
    needed |= {"tests/conftest.py", "PKG-INFO"}
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
    jobs = workflow("release.yml")["jobs"]
    checkout, *steps = jobs["build"]["steps"]
    assert checkout["with"]["fetch-depth"] == 0  # with the tags
    ran = [step.get("run", "") for step in steps]
    assert 'test -f "dist/seqmel-${GITHUB_REF_NAME#v}-py3-none-any.whl"' in ran
    assert "twine check --strict dist/*" in ran
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert "secrets." not in text


def test_a_checkout_without_tags_and_sources_without_git_have_a_version() -> None:
    pytest.importorskip("packaging")
    from packaging.version import Version

    assert Version(seqmel.__version__) >= Version("0.1.dev0")
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'fallback-version = "0.1.dev0"' in settings
    assert "ARG VERSION=0.1.dev0" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture
def hook() -> ModuleType:
    """hatch_build.py."""
    pytest.importorskip("hatchling", reason=NO_HATCHLING)
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_on_pypi_every_link_and_picture_of_the_readme_is_absolute(hook: ModuleType) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    text, repository = hook.with_absolute_links(
        readme, {"GITHUB_REPOSITORY": "me/seqmel", "GITHUB_REF_NAME": "v1.2.3"}
    )
    assert repository == "https://github.com/me/seqmel"
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert len(links) == len(re.findall(r"\]\(([^)]*)\)", readme)) > 10
    assert [link for link in links if not link.startswith("https://")] == []
    assert f"]({repository}/raw/v1.2.3/docs/demo.png)" in text
    assert f"]({repository}/blob/v1.2.3/docs/results.md)" in text


def test_the_image_is_built_of_files_that_are_there_and_not_ignored() -> None:
    copied = re.findall(r"^COPY (.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    names = [name for line in copied for name in line.split()]
    kept = (ROOT / ".dockerignore").read_text().split()
    assert names
    for name in names:
        assert (ROOT / name).exists()
        assert f"!{name}" in kept


def test_the_citation_is_that_of_this_package() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["title"].startswith("seqmel")
    assert cited["license"] == "Apache-2.0"


@pytest.mark.parametrize("form", ["bug", "idea"])
def test_an_issue_form_asks_questions_of_its_own(form: str) -> None:
    path = ROOT / ".github" / "ISSUE_TEMPLATE" / f"{form}.yml"
    asked = yaml.safe_load(path.read_text(encoding="utf-8"))
    ids = [part["id"] for part in asked["body"]]
    assert len(set(ids)) == len(ids) > 0
    assert all(part["attributes"]["label"].endswith("?") for part in asked["body"])
