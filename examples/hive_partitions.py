"""A data lake: a folder of hive partitions, read as one table of events.

    python examples/hive_partitions.py

Partition keys say where rows are stored, so they are not used as features. DuckDB reads the files,
and sorts on disk what does not fit into `preparation.memory_limit`.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

import seqmel


def write_lake(folder: str) -> None:
    """Write one folder per month, as an ETL job does."""
    events = seqmel.generate_card_data(120, seed=0).events
    time = events["event_time"]
    events = events.append_column("year", pc.year(time)).append_column("month", pc.month(time))
    keys = pa.schema({"year": pa.int64(), "month": pa.int64()})
    ds.write_dataset(
        events,
        folder,
        format="parquet",
        partitioning=ds.partitioning(keys, flavor="hive"),
        existing_data_behavior="delete_matching",
    )


def main() -> None:
    """Train on the whole lake, then embed its last months."""
    write_lake("lake/events")
    schema = seqmel.infer_schema(seqmel.open_events("lake/events"))
    print(f"client {schema.client}, time {schema.time}; left out: {schema.left_out}")
    model = seqmel.train(
        "lake/events", "model", epochs=2, event_encoder={"hidden_size": 16}, overwrite=True
    )

    # A glob selects partitions.
    autumn = "lake/events/year=*/month=1[0-2]/*.parquet"
    model.embed(autumn, "autumn.parquet", overwrite=True)

    # A pyarrow data set reads a bucket; for S3 with filesystem=pyarrow.fs.S3FileSystem(...).
    bucket = ds.dataset("lake/events", format="parquet", partitioning="hive")
    print(seqmel.EventSequences.read(bucket))


if __name__ == "__main__":
    main()
