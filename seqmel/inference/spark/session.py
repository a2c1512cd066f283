"""The Spark session, and one-line errors from Spark."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import seqmel.core.errors
from seqmel.core.errors import ConfigError, InputError, SeqmelError

__all__ = ["spark_errors", "spark_session"]

_RAISED = re.compile(r"^\w*(?:Error|Exception): .*$", re.MULTILINE)
_OURS = re.compile(r"^seqmel\.core\.errors\.(\w+): (.*)$", re.MULTILINE)


def spark_session() -> Any:
    """Return the active session, or create one.

    A new one is configured by `spark-submit` or the environment, else it uses all local cores.

    Raises:
        ConfigError: pyspark or Java is missing.
    """
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError:
        raise ConfigError(
            "The engine spark needs pyspark. Install it: pip install 'seqmel[spark]'"
        ) from None
    active = SparkSession.getActiveSession()
    if active is not None:
        return active
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    # This package does not use pandas on Spark.
    warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")
    builder = SparkSession.builder.appName("seqmel").config("spark.ui.showConsoleProgress", "false")
    try:
        session = builder.getOrCreate()
        session.sparkContext.setLogLevel("OFF")  # Errors are raised instead.
        return session
    except PySparkException as error:
        raise ConfigError(
            f"Spark does not start ({_first_line(error)}). It needs Java 17 or newer."
        ) from None


@contextlib.contextmanager
def spark_errors(label: str) -> Iterator[None]:
    """Raise errors of workers as if they were local, and Spark's own errors as `InputError`.

    Args:
        label: name of the input, for the message.

    Raises:
        SeqmelError: the same error that the worker raised.
        InputError: Spark itself failed.
    """
    from pyspark.errors import PySparkException

    try:
        yield
    except PySparkException as error:
        ours = _OURS.search(str(error))
        kind = getattr(seqmel.core.errors, ours[1], None) if ours else None
        if ours and isinstance(kind, type) and issubclass(kind, SeqmelError):
            raise kind(ours[2]) from None
        raise InputError(f"Spark cannot read {label}: {_first_line(error)}") from None


def _first_line(error: BaseException) -> str:
    """Return the first line, and the last line of a worker's traceback if there is one."""
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    raised = _RAISED.findall(str(error))
    return f"{first} {raised[-1]}" if raised else first
