"""Events in partitions, which are opened on the workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from seqmel.core.errors import ConfigError
from seqmel.data.sources.csv_files import Categories
from seqmel.data.sources.parts import Part, PartReader, Shape, parts_of, shape_of
from seqmel.data.sources.reading import open_unread
from seqmel.data.sources.several import event_tables
from seqmel.data.sources.source import ROW, EventSource
from seqmel.inference.spark.session import spark_errors

__all__ = ["PartWork", "SparkEvents", "open_spark"]

PART_ROWS = 1_000_000
"""Maximum number of events per partition.

For rows with list columns, it is a thousandth of that.
"""

_SCAN_ROWS = 2_000_000  # Rows for inferring the roles of columns.

PartWork = Callable[[PartReader], Callable[[EventSource], Iterator[pa.RecordBatch]]]
"""Called once per worker task; the result maps the events of a partition to Arrow batches."""


@dataclass(frozen=True)
class SparkEvents:
    """Events in partitions.

    Attributes:
        spark: the session.
        shape: the common format of all partitions.
        frame: a Spark DataFrame: the events with `__row`, or one row per part of a file.
        of_files: whether `frame` has parts of files.
        memory_limit: memory limit of the engine in a worker.
    """

    spark: Any
    shape: Shape
    frame: Any
    of_files: bool
    memory_limit: str

    def map(self, work: PartWork, schema: pa.Schema) -> Any:
        """Return a DataFrame of the output of `work` on each partition.

        Args:
            work: is called once per worker task, and its result once per partition.
            schema: the columns of the output.
        """
        from pyspark.sql.pandas.types import from_arrow_schema

        shape = self.shape
        of_files = self.of_files
        limit = self.memory_limit

        def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            reader = PartReader(shape, memory_limit=limit)
            step = work(reader)
            for part in _opened(reader, batches, of_files=of_files):
                yield from step(part)

        return self.frame.mapInArrow(run, from_arrow_schema(schema))


def _opened(
    reader: PartReader, batches: Iterator[pa.RecordBatch], *, of_files: bool
) -> Iterator[EventSource]:
    if of_files:
        for batch in batches:
            for part in batch.to_pylist():
                yield reader.file(Part(**part))
        return
    most = PART_ROWS // (1_000 if reader.shape.nested else 1)
    held = list[pa.RecordBatch]()
    for batch in batches:
        held.append(batch)
        if sum(map(len, held)) >= most:
            yield reader.table(pa.Table.from_batches(held))
            held.clear()
    if held:
        yield reader.table(pa.Table.from_batches(held))


def open_spark(
    spark: Any,
    events: Any,
    *,
    client: str | None,
    time: str | None,
    categories: Categories,
    memory_limit: str,
    scan: bool,
) -> tuple[SparkEvents, EventSource]:
    """Open files or a Spark DataFrame. Spark reads URLs such as s3:// as Parquet.

    Args:
        spark: the session.
        events: a path, folder or glob that the driver and all workers can access, or a Spark
            DataFrame.
        client: the client column, if known.
        time: the time column, if known. It tells lists of events from a list in each event.
        categories: see `open_events`.
        memory_limit: memory limit of the engine on workers and driver.
        scan: read events on the driver, to infer a schema.

    Returns:
        The events in partitions, and a source on the driver with their columns; for a DataFrame, it
        also has the first rows.
    """
    if event_tables(events) is not None:
        raise ConfigError(
            "Spark reads one table of events. Leave the engine out, to read several here, or "
            "embed a shard of the clients on each host (--shard 1/8)."
        )
    if isinstance(events, (str, os.PathLike)) and "://" not in os.fspath(events):
        path = os.fspath(events)
        looked_at = open_unread(
            path, client=client, time=time, categories=categories, memory_limit=memory_limit
        )
        rows = PART_ROWS // (1_000 if looked_at.nested else 1)
        # Workers may run in another folder than the driver.
        parts = [vars(part) for part in parts_of(os.path.abspath(path), rows)]
        frame = spark.createDataFrame(
            parts, "number long, file string, begin long, end long"
        ).repartition(len(parts))
        return _events(spark, looked_at, client, frame, memory_limit, of_files=True), looked_at
    from pyspark.sql import functions as F

    with spark_errors(str(events)):
        given = (
            spark.read.parquet(os.fspath(events))
            if isinstance(events, (str, os.PathLike))
            else events
        )
        table = given.limit(_SCAN_ROWS if scan else 1).toArrow()
    looked_at = open_unread(table, client=client, time=time, memory_limit=memory_limit)
    frame = given.withColumn(ROW, F.monotonically_increasing_id())
    return _events(spark, looked_at, client, frame, memory_limit, of_files=False), looked_at


def _events(
    spark: Any,
    looked_at: EventSource,
    client: str | None,
    frame: Any,
    memory_limit: str,
    *,
    of_files: bool,
) -> SparkEvents:
    from seqmel.data.schema import recognise_client

    name = client or recognise_client(looked_at.columns, looked_at.label)
    looked_at.require(name, "Name the client column with --client (schema.client).")
    return SparkEvents(spark, shape_of(looked_at, name), frame, of_files, memory_limit)
