"""Static rows of a MEDS data set, those without a time, as facts with one row per subject.

A code such as `GENDER//F` is the value F of the fact GENDER, a code with a number is a number under
the name of the code, and any other code is true for the subjects that have it.

Source:
    https://github.com/Medical-Event-Data-Standard/meds
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from seqmel.core.errors import InputError
from seqmel.data.sources.folders import is_meds
from seqmel.data.sources.reading import event_files, is_paths, paths_label
from seqmel.data.sources.source import reading

__all__ = ["static_facts"]

_COLUMNS = ["subject_id", "code", "numeric_value"]


def static_facts(table: Any) -> pa.Table | None:
    """Return the static rows of a MEDS data set as facts; None if this is none.

    Several values of a subject are joined in the order of the alphabet; of several numbers the mean
    is taken.

    Args:
        table: a path or a table.

    Returns:
        One row per subject with a static row: `subject_id`, and a column per fact.

    Raises:
        InputError: the files cannot be read, or no row is static.
    """
    rows = _static_rows(table)
    if rows is None:
        return None
    if rows.empty:
        label = paths_label(table) if is_paths(table) else "The table"
        raise InputError(
            f"{label} is a MEDS data set without static facts: every row has a time. Leave the"
            " facts out."
        )
    code = rows["code"].astype(str)
    parts = code.str.split("//", n=1, expand=True).reindex(columns=[0, 1])
    number = rows["numeric_value"].notna()
    named = parts[1].notna() & ~number
    found = []
    for chosen, names, values, joined in (
        (number, code, rows["numeric_value"], "mean"),
        (named, parts[0], parts[1], _joined),
        (~number & ~named, code, pd.Series("true", rows.index), "first"),
    ):
        if chosen.any():
            keys = [rows.loc[chosen, "subject_id"], names[chosen].rename("fact")]
            found.append(values[chosen].groupby(keys).agg(joined).unstack("fact"))
    facts = pd.concat(found, axis=1).T.groupby(level=0, sort=True).first().T
    for name in facts:
        numbers = pd.to_numeric(facts[name], errors="coerce")
        if numbers.notna().sum() == facts[name].notna().sum() and name in set(code[number]):
            facts[name] = numbers
    return pa.Table.from_pandas(facts.reset_index(), preserve_index=False)


def _joined(values: pd.Series[Any]) -> str:
    return ", ".join(sorted(set(values)))


def _static_rows(table: Any) -> pd.DataFrame | None:
    """Return the rows without a time, None if these are no events of MEDS."""
    if is_paths(table):
        files = event_files(table)
        if not files[0].lower().endswith((".parquet", ".pq", ".parq")):
            return None
        with reading(paths_label(table)):
            source = ds.dataset(files)
            if not is_meds(source.schema.names):
                return None
            static = source.to_table(_COLUMNS, filter=ds.field("time").is_null())
            of_files: pd.DataFrame = static.to_pandas()
            return of_files
    names = [str(name) for name in getattr(table, "column_names", getattr(table, "columns", ()))]
    if not is_meds(names):
        return None
    frame = table.to_pandas() if hasattr(table, "to_pandas") else pd.DataFrame(table)
    rows: pd.DataFrame = frame.loc[frame["time"].isna(), _COLUMNS]
    return rows
