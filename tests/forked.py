"""Run commands in forks of a process that has imported what they need, which takes seconds.

This is for what the process of the tests cannot show: kills, several ranks.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

from in_process import Done

__all__ = ["FORKS", "run", "start"]

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "lightgbm",
        "pytorch_lightning",
        "sklearn.linear_model",
        "torch.nn.parallel",
        "seqmel.cli.main",
        "seqmel.evaluation.scoring",
        "seqmel.inference.embed",
        "seqmel.training.run",
    ]
)


def _command(words: list[str], environment: dict[str, str], out: Path, err: Path) -> None:
    from seqmel.cli.main import main

    for descriptor, path in ((1, out), (2, err)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.environ |= environment
    sys.argv = ["seqmel", *words]
    main()


def start(
    *words: object,
    environment: Mapping[str, str] | None = None,
    out: Path = Path(os.devnull),
    err: Path = Path(os.devnull),
) -> BaseProcess:
    """Start the command `seqmel` with these words and, besides the tests', these variables."""
    arguments = ([str(word) for word in words], dict(environment or {}), out, err)
    process = FORKS.Process(target=_command, args=arguments)
    process.start()
    return process


def run(*words: object, environment: Mapping[str, str] | None = None) -> Done:
    """Run the command `seqmel` to its end."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = start(*words, environment=environment, out=out, err=err)
        process.join()
        assert process.exitcode is not None
        return Done(process.exitcode, out.read_text("utf-8"), err.read_text("utf-8"))
