"""Set up seqmel in its own virtual environment (.venv) and run one or more tasks in it.

    python3 bootstrap.py demo      the main job on generated data, about six minutes on two cores
                                   after the install
    python3 bootstrap.py test      the tests; with those of Spark if there is a Java
    python3 bootstrap.py check     lint, format and types, as CI runs them
    python3 bootstrap.py docs      the documentation site, strictly, into build/site
    python3 bootstrap.py audit     known vulnerabilities of what is installed; asks PyPI

Several tasks, as in `python3 bootstrap.py check test`, share one install. It needs only
Python >= 3.10.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
TORCH = "torch==2.13.0"  # first, alone and exact: a range may bring gigabytes of another build
# in the order of their names: files of few tests, which xdist would keep for last, take longest
BY_FILE = ["--dist", "loadfile", "--no-loadscope-reorder"]

TASKS = {
    "demo": [["-m", "seqmel", "demo", "--overwrite"]],
    "test": [["-m", "pytest", "-n", "auto", "--maxprocesses", "4", *BY_FILE]],
    "check": [
        ["-m", "ruff", "check", "."],
        ["-m", "ruff", "format", "--check", "."],
        ["-m", "mypy"],
    ],
    "docs": [["-m", "mkdocs", "build", "--strict", "--quiet"]],
    "audit": [["-m", "pip_audit", "--local", "--progress-spinner", "off"]],
}
EXTRAS = {"demo": [], "docs": ["docs"]}  # of any other task: dev


def run(*arguments: str) -> None:
    """Run the environment's Python; stop with its exit code where it fails.

    It may keep what it compiles, or each process of the tests would compile seqmel again.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    code = subprocess.call([str(PYTHON), *arguments], cwd=ROOT, env=environment)
    if code:
        sys.exit(code)


def install(extras: list[str]) -> None:
    """Make the environment, once, and install what pyproject.toml asks for with these extras.

    Modules are compiled when they are first imported: of most, that is never.
    """
    if not PYTHON.exists():
        print(f"making {ENVIRONMENT}", flush=True)
        try:
            venv.create(ENVIRONMENT, with_pip=True)
        except subprocess.CalledProcessError:
            shutil.rmtree(ENVIRONMENT)
            sys.exit(
                "This Python cannot make a virtual environment. On Debian and Ubuntu: apt "
                "install python3-venv"
            )
    print("installing what seqmel needs, about 2 GB and some minutes the first time", flush=True)
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    run(*pip, TORCH)
    run(*pip, "--editable", f".[{','.join(extras)}]" if extras else ".")


def has_java() -> bool:
    """Return whether Spark can run: a `java` that starts, unlike the placeholder of a Mac."""
    java = shutil.which("java")
    return (
        java is not None and subprocess.run([java, "-version"], capture_output=True).returncode == 0
    )


def main() -> None:
    """Install, then run the tasks that were named."""
    if sys.version_info < (3, 10):  # noqa: UP036 - it is also started by an older one
        sys.exit(
            "seqmel needs Python 3.10 or newer; this is "
            + sys.version.split()[0]
            + ". Start it as python3.12, say."
        )
    tasks = sys.argv[1:]
    if not tasks or not set(tasks) <= set(TASKS):
        sys.exit(f"usage: python3 bootstrap.py TASK [TASK ...], of {', '.join(TASKS)}")
    extras = {extra for task in tasks for extra in EXTRAS.get(task, ["dev"])}
    if "test" in tasks and has_java():
        extras.add("spark")
    elif "test" in tasks:
        print("no Java here: the tests of Spark are skipped", flush=True)
    install(sorted(extras))
    for task in tasks:
        for arguments in TASKS[task]:
            run(*arguments)


if __name__ == "__main__":
    main()
