"""Prepare and embed with Spark, with the same results as without it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from seqmel.config import Config, as_config
from seqmel.core.atomic_files import atomic_write, check_output
from seqmel.core.device import resolve_device
from seqmel.core.errors import ConfigError
from seqmel.core.progress import Reporting, as_progress, warn
from seqmel.core.units import count_words
from seqmel.data.fitting.holidays import with_holidays
from seqmel.data.fitting.schema_inference import infer_schema
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.sequences.prepared import PreparedSequences, open_prepared, write_prepared
from seqmel.data.sources.reading import is_paths
from seqmel.data.tables.vector_files import VectorLayout
from seqmel.inference.embed import embed_sequences, write_tables
from seqmel.inference.options import EmbedOptions
from seqmel.inference.spark.encoding import SequenceWork, encode_spark, sequence_batches
from seqmel.inference.spark.fitting import count_events, fit_vocabulary_spark
from seqmel.inference.spark.session import spark_errors, spark_session
from seqmel.inference.spark.source import open_spark
from seqmel.model import AnyModel, TrainedModel, as_model

__all__ = ["embed_spark", "embed_spark_to_parquet", "prepare_spark"]

_broadcast: dict[tuple[str, str], Any] = {}
"""(Spark application, model fingerprint) -> the broadcast model."""


def prepare_spark(
    events: Any,
    output: str | Path,
    *,
    config: Config | Mapping[str, Any] | None = None,
    model: AnyModel | None = None,
    overwrite: bool = False,
    progress: Reporting = None,
) -> PreparedSequences:
    """Prepare sequences with Spark.

    The result equals that of `seqmel.prepare`, including its order.

    Args:
        events: a path, folder or glob that the driver and all workers can access, a URL of Parquet
            that Spark can read, or a Spark DataFrame, with columns as in `open_events`.
            Simultaneous events of a DataFrame keep the order of Spark.
        output: the folder to write.
        config: options, of which the schema and `preparation` are used.
        model: prepare for this model, with its schema and vocabulary.
        overwrite: replace an existing folder.
        progress: where to report to.

    Returns:
        The prepared sequences.

    Raises:
        SeqmelError: see `seqmel.prepare`.
        ConfigError: pyspark or Java is missing.

    Examples:
        >>> import seqmel
        >>> seqmel.generate_card_data(3).write("card")
        >>> len(seqmel.prepare_spark("card/events.parquet", "prepared").sequences)
        3
    """
    output = Path(output)
    config = as_config(config)
    model = None if model is None else as_model(model)
    check_output(output, overwrite=overwrite, folder=True, reads=(events,))
    progress = as_progress(progress)
    options = config.preparation
    began = time.monotonic()
    spark = spark_session()
    client = model.schema.client if model else config.schema.client
    opened, source = open_spark(
        spark, events, client=client, time=model.schema.time if model else config.schema.time,
        memory_limit=options.memory_limit, scan=model is None,
        categories=model.vocabulary.texts if model else config.schema.categories,
    )  # fmt: skip
    schema = (
        model.schema if model else with_holidays(infer_schema(source, config.schema), config.schema)
    )
    if model is None and not is_paths(events):
        schema = schema.model_copy(update={"stated_zone": None})  # Spark's times are all instants
    with count_events(opened, source, schema, categories=model is None) as counted:
        vocabulary = (
            model.vocabulary
            if model
            else fit_vocabulary_spark(
                opened,
                source,
                schema,
                counted,
                min_count=options.min_count,
                max_categories=options.max_categories,
            )
        )
    frame, out = encode_spark(opened, source, schema, vocabulary, rows=counted.rows, ordered=True)
    with atomic_write(output) as partial, spark_errors(source.label):
        write_prepared(
            partial,
            _collected(frame, out, lambda batch: batch),
            schema=schema,
            vocabulary=vocabulary,
        )
    counts = json.loads((output / "prepared.json").read_text(encoding="utf-8"))
    progress.say(
        f"prepared {count_words(counts['events'], 'event')} of "
        f"{count_words(counts['clients'], 'client')} in {time.monotonic() - began:.1f} s "
        f"({', '.join(f'{c}: {w}' for c, w in vocabulary.describe().items())})"
    )
    if model is None and schema.loses_columns:
        warn(progress, schema.left_out_words)
    elif model is None and schema.left_out_words:
        progress.say(schema.left_out_words)
    return open_prepared(output)


def embed_spark(
    model: AnyModel,
    events: Any,
    **options: Any,
) -> Any:
    """Return a Spark DataFrame with one row per client, unordered: the id, then the vector.

    Args:
        model: a model folder, or a `Model` from `load_model`. It is broadcast to each executor
            once.
        events: see `prepare_spark`.
        **options: layout, dtype, dim, scales, device: see `EmbedOptions`. Spark has no float16, so
            it becomes float32. int8 and binary need the scales of an earlier file.

    Returns:
        The Spark DataFrame.

    Raises:
        InputError: the events cannot be read, or lack a column that the model was trained with.

    Examples:
        >>> import seqmel
        >>> data = seqmel.generate_card_data(20)
        >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
        >>> data.write("card")
        >>> frame = seqmel.embed_spark(model, "card/events.parquet")
        >>> frame.count()
        20
    """
    asked = EmbedOptions.of(options, without=("shard", "overwrite", "progress"))
    model = as_model(model)
    from pyspark.sql.pandas.types import from_arrow_schema

    how = _streamed(asked.vector_layout(model))
    frame, out, vectors = _embedding(model, events, how, asked.device, ordered=False)
    empty = how.table(pa.table({}), np.zeros((0, model.encoder.output_size), np.float32)).schema
    fields = [pa.field(f.name, _spark_numbers(f.type)) for f in empty]
    kind = _spark_kind(out.field(0).type)
    schema = pa.schema([pa.field(model.schema.client, kind), *fields])

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in sequence_batches(batches, out):
            found = vectors(batch)
            arrays = [
                _as_kind(found.column(0), kind),
                *(found.column(f.name).cast(f.type) for f in fields),
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    return frame.mapInArrow(run, from_arrow_schema(schema))


def embed_spark_to_parquet(
    model: AnyModel,
    events: Any,
    output: str | Path,
    **options: Any,
) -> tuple[int, int]:
    """Embed with Spark into the same file as `embed_to_parquet`, in the same order of clients.

    The driver writes it in chunks.

    Args:
        model: a model or its folder.
        events: events as for `prepare_spark`.
        output: the Parquet file to write.
        **options: layout, dtype, dim, scales, device, overwrite, progress: see `EmbedOptions`; int8
            and binary need the scales of an earlier file.

    Returns:
        The number of clients and the embedding dimension.

    Raises:
        ConfigError: int8 or binary lack scales. Fitting them would need all vectors at once.

    Examples:
        >>> import seqmel
        >>> data = seqmel.generate_card_data(20)
        >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
        >>> data.write("card")
        >>> seqmel.embed_spark_to_parquet(model, "card/events.parquet", "vectors.parquet")[0]
        20
    """
    asked = EmbedOptions.of(options, without=("shard",))
    model = as_model(model)
    check_output(
        Path(output),
        overwrite=asked.overwrite,
        folder=False,
        reads=(events, asked.quantization_from),
    )
    how = _streamed(asked.vector_layout(model))
    frame, out, vectors = _embedding(model, events, how, asked.device, ordered=True)

    def tables() -> Iterator[pa.Table]:
        with asked.reporter.task("embed", None, "clients") as task:
            for batch in _collected(frame, out, vectors):
                yield pa.Table.from_batches([batch])
                task.advance(len(batch))

    with spark_errors(str(events)):
        return write_tables(
            output, tables(), overwrite=asked.overwrite
        ), how.dim or model.encoder.output_size


def _embedding(
    model: TrainedModel, events: Any, how: VectorLayout, device: str, *, ordered: bool
) -> tuple[Any, pa.Schema, SequenceWork]:
    """Return a DataFrame of encoded sequences, their schema, and the function that embeds them."""
    resolve_device(device)
    spark = spark_session()
    schema = model.schema
    opened, source = open_spark(
        spark, events, client=schema.client, time=schema.time, categories=model.vocabulary.texts,
        memory_limit=model.config.preparation.memory_limit, scan=False,
    )  # fmt: skip
    with count_events(opened, source, schema, categories=False) as counted:
        rows = counted.rows
    frame, out = encode_spark(opened, source, schema, model.vocabulary, rows=rows, ordered=ordered)
    place = (spark.sparkContext.applicationId, model.fingerprint())
    if place not in _broadcast:
        _broadcast[place] = spark.sparkContext.broadcast(model)
    shared = _broadcast[place]

    def vectors(batch: pa.RecordBatch) -> pa.RecordBatch:
        held = shared.value
        placed = resolve_device(device)
        sequences = EncodedSequences.from_batches([batch], time=held.schema.time)
        found = embed_sequences(
            held.encoder.to(placed).eval(), sequences, held.config, device=placed
        )
        table = how.table(pa.table({batch.schema.names[0]: batch.column(0)}), found.numpy())
        return pa.RecordBatch.from_arrays(
            [c.combine_chunks() for c in table.columns], schema=table.schema
        )

    return frame, out, vectors


def _collected(frame: Any, out: pa.Schema, work: SequenceWork) -> Iterator[pa.RecordBatch]:
    """Yield the results of `work` on sequences, in the order of the frame.

    All are computed first and kept on the workers' disks. Then they are fetched one partition at a
    time, each batch as the bytes of an Arrow stream.
    """
    from pyspark import StorageLevel

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in sequence_batches(batches, out):
            done = work(batch)
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, done.schema) as writer:
                writer.write_batch(done)
            yield pa.RecordBatch.from_pydict(
                {"bytes": pa.array([sink.getvalue().to_pybytes()], pa.binary())}
            )

    made = frame.mapInArrow(run, "bytes binary").persist(StorageLevel.DISK_ONLY)
    try:
        made.count()
        for row in made.toLocalIterator(prefetchPartitions=True):
            yield from pa.ipc.open_stream(pa.py_buffer(row[0]))
    finally:
        made.unpersist()


def _streamed(how: VectorLayout) -> VectorLayout:
    if not how.streams:
        raise ConfigError(
            f"Spark makes vectors part by part, and {how.dtype} has scales of all of them. Give "
            "those of an earlier file (--quantization-from FILE), or leave --engine spark out."
        )
    return how


def _spark_numbers(kind: pa.DataType) -> pa.DataType:
    """Return the Spark type of a vector column: Spark has no float16 and no fixed-size types."""
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_spark_numbers(kind.value_type))
    if pa.types.is_fixed_size_binary(kind):
        return pa.binary()
    return pa.float32() if kind == pa.float16() else kind


def _spark_kind(kind: pa.DataType) -> pa.DataType:
    """Return the Spark type of an id: Spark has no unsigned integers and one text type."""
    if kind == pa.uint64():
        return pa.decimal128(20, 0)
    return pa.int64() if pa.types.is_unsigned_integer(kind) else kind


def _as_kind(ids: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_decimal(kind) and pa.types.is_integer(ids.type):
        return pa.array([Decimal(x) for x in ids.to_pylist()], kind)
    return ids.cast(kind)
