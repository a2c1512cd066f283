"""The Spark session, and Spark's errors in one line."""

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
    """The session that is active, or a new one: as `spark-submit` or the environment says, else on all cores here.

    Raises:
        ConfigError: pyspark or Java is missing.
    """
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError:
        raise ConfigError("The engine spark needs pyspark. Install it: pip install 'seqmel[spark]'") from None
    active = SparkSession.getActiveSession()
    if active is not None:
        return active
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")  # it is not used here
    builder = SparkSession.builder.appName("seqmel").config("spark.ui.showConsoleProgress", "false")
    try:
        session = builder.getOrCreate()
        session.sparkContext.setLogLevel("OFF")  # what goes wrong is raised
        return session
    except PySparkException as error:
        raise ConfigError(f"Spark does not start ({_first_line(error)}). It needs Java 17 or newer.") from None


@contextlib.contextmanager
def spark_errors(label: str) -> Iterator[None]:
    """What goes wrong in a worker as it would have been raised here; what Spark itself cannot do as an `InputError`."""
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
    """The first line, and what a worker's Python ended with, where it did: the rest is how it came there."""
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    raised = _RAISED.findall(str(error))
    return f"{first} {raised[-1]}" if raised else first
