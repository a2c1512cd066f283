"""A data lake: a folder of hive partitions, read as one table of events.

    python examples/hive_partitions.py

    lake/events/year=2023/month=1/part-0.parquet ...

Partition keys say where rows lie, not what an event is, so they are left out. Files are read by
DuckDB and sorted on disk where they do not fit into `preparation.memory_limit`.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from seqmel import (
    Config,
    EventSequences,
    embed_to_parquet,
    generate_card_data,
    infer_schema,
    load_model,
    open_events,
    train,
)


def write_lake(folder: str) -> None:
    """What an ETL job leaves behind: a folder a month."""
    events = generate_card_data(120, seed=0).events
    keys = {"year": pc.year(events["event_time"]), "month": pc.month(events["event_time"])}
    for name, values in keys.items():
        events = events.append_column(name, values)
    partitioning = ds.partitioning(pa.schema([(name, pa.int64()) for name in keys]), flavor="hive")
    ds.write_dataset(
        events,
        folder,
        format="parquet",
        partitioning=partitioning,
        existing_data_behavior="delete_matching",
    )


def main() -> None:
    """Train on the whole lake, embed from the last months of it."""
    write_lake("lake/events")
    schema = infer_schema(open_events("lake/events"))
    print(f"client {schema.client}, time {schema.time}; left out: {schema.left_out}")

    config = Config.from_dict({"event_encoder": {"hidden_size": 16}, "training": {"epochs": 2}})
    train("lake/events", "model", config=config, overwrite=True)

    # Some partitions: a glob.
    embed_to_parquet(
        load_model("model"),
        "lake/events/year=*/month=1[0-2]/*.parquet",
        "autumn.parquet",
        overwrite=True,
    )

    # In a bucket: the same through a pyarrow data set, for S3 with
    # filesystem=pyarrow.fs.S3FileSystem(...).
    bucket = ds.dataset("lake/events", format="parquet", partitioning="hive")
    print(EventSequences.read(bucket))


if __name__ == "__main__":
    main()
