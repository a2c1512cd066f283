"""Set up seqmel in its own virtual environment (.venv) and run something in it.

    python3 bootstrap.py demo      the main job on generated data, about three minutes on two cores
                                   after the install
    python3 bootstrap.py test      the tests; with those of Spark if there is a Java
    python3 bootstrap.py check     lint, format and types, as CI runs them
    python3 bootstrap.py docs      the documentation site, strictly, into build/site
    python3 bootstrap.py audit     known vulnerabilities of what is installed; asks PyPI

It needs only Python >= 3.10.
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

TASKS = {
    "demo": [["-m", "seqmel", "demo", "--overwrite"]],
    "test": [["-m", "pytest", "-n", "auto", "--maxprocesses", "4", "--dist", "loadfile"]],
    "check": [
        ["-m", "ruff", "check", "."],
        ["-m", "ruff", "format", "--check", "."],
        ["-m", "mypy"],
    ],
    "docs": [["-m", "mkdocs", "build", "--strict", "--quiet"]],
    "audit": [["-m", "pip_audit", "--local", "--progress-spinner", "off"]],
}


def run(*arguments: str) -> None:
    """Run the environment's Python; stop with its exit code where it fails."""
    code = subprocess.call([str(PYTHON), *arguments], cwd=ROOT)
    if code:
        sys.exit(code)


def install(extra: str) -> None:
    """Make the environment, once, and install what pyproject.toml asks for."""
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
    run("-m", "pip", "install", "--quiet", "--disable-pip-version-check", TORCH)
    run("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--editable", f".{extra}")


def has_java() -> bool:
    """Return whether Spark can run: a `java` that starts, unlike the placeholder of a Mac."""
    java = shutil.which("java")
    return (
        java is not None and subprocess.run([java, "-version"], capture_output=True).returncode == 0
    )


def main() -> None:
    """Install, then run the task that was named."""
    if sys.version_info < (3, 10):  # noqa: UP036 - it is also started by an older one
        sys.exit(
            "seqmel needs Python 3.10 or newer; this is "
            + sys.version.split()[0]
            + ". Start it as python3.12, say."
        )
    if len(sys.argv) != 2 or sys.argv[1] not in TASKS:
        sys.exit(f"usage: python3 bootstrap.py {' | '.join(TASKS)}")
    extra = {"demo": "", "docs": "[docs]"}.get(sys.argv[1], "[dev]")
    if sys.argv[1] == "test" and has_java():
        extra = "[dev,spark]"
    elif sys.argv[1] == "test":
        print("no Java here: the tests of Spark are skipped", flush=True)
    install(extra)
    for arguments in TASKS[sys.argv[1]]:
        run(*arguments)


if __name__ == "__main__":
    main()
