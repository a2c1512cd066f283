"""One entry point each for embedding and prediction, which picks the way to run.

The ways: all events at once, as of a moment, incrementally, on Spark, or on several devices.
"""

from __future__ import annotations

import datetime as dt
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from seqmel.core.distributed import is_launched
from seqmel.core.errors import ConfigError, did_you_mean, shell_words
from seqmel.core.progress import warn
from seqmel.data.sources.reading import Events
from seqmel.data.tables.labels import Table
from seqmel.data.tables.vector_files import vector_columns
from seqmel.evaluation.watch import InputWatch
from seqmel.inference.as_of import embed_as_of
from seqmel.inference.distributed import embed_shared_to_parquet, predict_shared_to_parquet
from seqmel.inference.embed import embed, embed_to_parquet
from seqmel.inference.options import OF_VECTORS, EmbedOptions
from seqmel.inference.per_event import embed_per_event, predict_per_event
from seqmel.inference.per_source import embed_per_source
from seqmel.inference.predict import predict, predict_as_of, predict_to_parquet
from seqmel.inference.spark.run import embed_spark_to_parquet
from seqmel.inference.update import update_embeddings
from seqmel.model import TrainedModel

__all__ = [
    "Engine",
    "Moments",
    "Per",
    "VectorPer",
    "Written",
    "check_together",
    "embedded",
    "predicted",
    "write_embeddings",
    "write_predictions",
]

Engine: TypeAlias = Literal["duckdb", "spark"]
Per: TypeAlias = Literal["client", "event"]
VectorPer: TypeAlias = Literal["client", "event", "source"]
Moments: TypeAlias = Events | dt.date | int
"""One moment for all clients, or a table of clients and moments."""


@dataclass(frozen=True)
class Written:
    """A Parquet file that was written. It is accepted wherever the path of the file is.

    Attributes:
        path: the path of the file.
        rows: number of rows: one per client, one per client and moment, or one per event.
        dimensions: number of dimensions of the vectors; None for predictions.
        new_clients: after an update, the number of clients that are new in the state; else None.
        known_clients: after an update, the number of clients in the state; else None.
        skipped: after an update, the ids of clients skipped because of late events.
    """

    path: Path
    rows: int
    dimensions: int | None = None
    new_clients: int | None = None
    known_clients: int | None = None
    skipped: tuple[Any, ...] = ()

    def __fspath__(self) -> str:
        return str(self.path)


def check_together(
    *,
    per: str = "client",
    kinds: Sequence[str] = get_args(Per),
    only: object = None,
    as_of: object = None,
    state: object = None,
    shard: object = None,
    engine: str = "duckdb",
    several: bool = False,
    spelled: Callable[[str], str] = str,
) -> None:
    """Raise if two of the given options exclude each other.

    Args:
        per: one of `kinds`.
        kinds: what there can be one row per: client, event, and for vectors also source.
        only: which events, for per event, or None.
        as_of: a moment or a table of moments, or None.
        state: a state file for incremental updates, or None.
        shard: (k, n), or None.
        engine: "duckdb" or "spark".
        several: whether several processes embed together.
        spelled: maps the name of an option to the user's spelling of it, such as `--as-of`.

    Raises:
        ConfigError: an unknown engine, or options that exclude each other.
    """
    if engine not in ("duckdb", "spark"):
        raise ConfigError(
            f"{spelled('engine')} cannot be {engine!r}. Expected one of: duckdb, "
            f"spark.{did_you_mean(engine, ('duckdb', 'spark'))}"
        )
    if per not in kinds:
        raise ConfigError(
            f"{spelled('per')} cannot be {per!r}. Expected one of: {', '.join(kinds)}."
            f"{did_you_mean(per, kinds)}"
        )
    if only is not None and per != "event":
        raise ConfigError(f"{spelled('only')} chooses events. It needs {spelled('per event')}.")
    spark = "engine spark"
    rows = f"per {per}"
    given = {
        rows: per != "client",
        "as_of": as_of is not None,
        "state": state is not None,
        "shard": shard is not None,
        spark: engine == "spark",
    }
    if several:
        for name in (rows, "as_of", "state", spark):
            if given[name]:
                raise ConfigError(
                    f"Several devices cannot be combined with {spelled(name)}. Leave one of "
                    "them out."
                )
    pairs = [("as_of", "state"), ("as_of", spark), ("state", spark), ("shard", spark)]
    pairs += [(rows, name) for name in ("as_of", "state", spark)]
    for one, other in pairs:
        if given[one] and given[other]:
            raise ConfigError(
                f"{spelled(one)} cannot be combined with {spelled(other)}. Leave one of them out."
            )


def write_embeddings(
    model: TrainedModel,
    events: Events,
    output: str | Path,
    options: EmbedOptions,
    *,
    per: VectorPer = "client",
    only: str | None = None,
    as_of: Moments | None = None,
    state: str | Path | None = None,
    history: Events | None = None,
    skipped: str | Path | None = None,
    engine: Engine = "duckdb",
) -> Written:
    """Write a file of vectors; the implementation of `Model.embed` with `output`."""
    check_together(
        per=per,
        kinds=get_args(VectorPer),
        only=only,
        as_of=as_of,
        state=state,
        shard=options.shard,
        engine=engine,
        several=is_launched(),
    )
    if state is None and (history is not None or skipped is not None):
        raise ConfigError(
            "history and skipped belong to a state: they are for clients with late events."
        )
    path = Path(output)
    given = options.given
    if per == "event":
        return Written(path, *embed_per_event(model, events, path, only=only, **given))
    if per == "source":
        return Written(path, *embed_per_source(model, events, path, **given))
    if as_of is not None:
        rows, size = embed_as_of(model, events, _moments(as_of), path, **given)
        return Written(path, rows, size)
    if state is not None:
        done = update_embeddings(
            model, events, state, path, history=history, skipped=skipped, **given
        )
        return Written(path, done.clients, done.dimensions, done.new, done.known, done.skipped)
    if engine == "spark":
        return Written(
            path,
            *embed_spark_to_parquet(
                model, events, path, **{k: given[k] for k in given if k != "shard"}
            ),
        )
    if is_launched():
        return Written(path, *embed_shared_to_parquet(model, events, path, **given))
    with _watched(model, events, options) as watch:
        return Written(path, *embed_to_parquet(model, events, path, watch=watch, **given))


def embedded(
    model: TrainedModel,
    events: Events,
    options: EmbedOptions,
    *,
    per: VectorPer = "client",
    only: str | None = None,
    as_of: Moments | None = None,
    state: str | Path | None = None,
    history: Events | None = None,
    skipped: str | Path | None = None,
    engine: Engine = "duckdb",
) -> pd.DataFrame:
    """Embed into a (rows, D) DataFrame, indexed by client id (and moment, source, or event)."""
    _no_overwrite(options)
    plain = per == "client" and only is as_of is state is history is skipped is None
    if plain and engine == "duckdb":
        check_together(several=False)
        return _in_memory(model, events, options)
    with tempfile.TemporaryDirectory(prefix="seqmel-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "vectors.parquet"
        more: dict[str, Any] = {
            "per": per,
            "only": only,
            "as_of": as_of,
            "state": state,
            "history": history,
            "skipped": skipped,
            "engine": engine,
        }
        write_embeddings(model, events, path, options, **more)
        keys = {"event": 3, "source": 2}.get(per, 1 if as_of is None else 2)
        return _frame(pq.read_table(path), keys=keys)


def write_predictions(
    model: TrainedModel,
    events: Events,
    output: str | Path,
    options: EmbedOptions,
    *,
    per: Per = "client",
    only: str | None = None,
    as_of: Moments | None = None,
    facts: Table | None = None,
) -> Written:
    """Write a file of predictions; the implementation of `Model.predict` with `output`."""
    check_together(per=per, only=only, as_of=as_of, several=is_launched())
    given = {name: value for name, value in options.given.items() if name not in OF_VECTORS}
    given["facts"] = facts
    if per == "event":
        return Written(Path(output), predict_per_event(model, events, output, only=only, **given))
    if as_of is not None:
        return Written(Path(output), predict_as_of(model, events, _moments(as_of), output, **given))
    run = predict_shared_to_parquet if is_launched() else predict_to_parquet
    return Written(Path(output), run(model, events, output, **given))


def predicted(
    model: TrainedModel,
    events: Events,
    options: EmbedOptions,
    *,
    per: Per = "client",
    only: str | None = None,
    as_of: Moments | None = None,
    facts: Table | None = None,
) -> pd.DataFrame:
    """Predict into a DataFrame, indexed by client id (and moment, or time and event)."""
    _no_overwrite(options)
    if as_of is only is None and per == "client":
        tables = predict(
            model,
            events,
            facts=facts,
            shard=options.shard,
            device=options.device,
            progress=options.progress,
        )
        return _frame(pa.concat_tables(tables), keys=1)
    with tempfile.TemporaryDirectory(prefix="seqmel-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "predictions.parquet"
        write_predictions(
            model, events, path, options, per=per, only=only, as_of=as_of, facts=facts
        )
        return _frame(pq.read_table(path), keys=3 if per == "event" else 2)


def _in_memory(model: TrainedModel, events: Events, options: EmbedOptions) -> pd.DataFrame:
    how = options.vector_layout(model)
    with _watched(model, events, options) as watch:
        parts = embed(
            model,
            events,
            shard=options.shard,
            device=options.device,
            progress=options.progress,
            watch=watch,
        )
        ids, vectors = zip(*((ids, part[:, : how.dim].numpy()) for ids, part in parts), strict=True)
    keys = pa.table({model.schema.client: pa.chunked_array(ids)})
    numbers = np.concatenate(vectors)
    if how.layout == "list":
        return _frame(how.table(keys, numbers), keys=1)
    coded = how.encode(numbers)
    frame: pd.DataFrame = pd.DataFrame(coded, columns=vector_columns(coded.shape[1]), copy=False)
    frame.index = _index(keys)
    return frame


@contextmanager
def _watched(
    model: TrainedModel, events: Events, options: EmbedOptions
) -> Iterator[Callable[..., object] | None]:
    """Yield a callback for the embedded sequences; warn at the end if they drift from training."""
    watch = InputWatch(model.statistics, model.vocabulary.time) if model.statistics else None
    yield watch.see if watch else None
    warning = watch.warning() if watch else None
    if warning:
        folder = getattr(model, "folder", None) or "MODEL"
        path = events if isinstance(events, (str, os.PathLike)) else "EVENTS"
        line = f"{warning}. Look closer: seqmel drift {shell_words(folder, path)}"
        warn(options.reporter, line)


def _no_overwrite(options: EmbedOptions) -> None:
    if options.overwrite:
        raise ConfigError(
            "overwrite is for an output file, and none is named. Leave it out, or give output."
        )


def _moments(as_of: Moments) -> Events:
    """Turn a date or number into the text of a moment; return a table unchanged."""
    if isinstance(as_of, dt.date):  # also datetime and pandas' Timestamp
        return as_of.isoformat()
    return str(as_of) if isinstance(as_of, (int, np.integer)) else as_of


def _frame(table: pa.Table, *, keys: int) -> pd.DataFrame:
    """Convert an Arrow table to pandas, with its first `keys` columns as the index."""
    names = table.column_names[:keys]
    frame: pd.DataFrame = table.drop_columns(names).to_pandas()
    frame.index = _index(table.select(names))
    return frame


def _index(keys: pa.Table) -> pd.Index[Any]:
    columns = [column.to_pandas() for column in keys.columns]
    if len(columns) > 1:
        both: pd.Index[Any] = pd.MultiIndex.from_arrays(columns, names=keys.column_names)
        return both
    ids: pd.Index[Any] = pd.Index(columns[0], name=keys.column_names[0])
    return ids
