"""Lists of dictionaries as tables: one dictionary per client with features, or one per event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from seqmel.core.errors import InputError

__all__ = ["is_records", "records_table"]


def is_records(value: Any) -> bool:
    """Return whether this is a non-empty list or tuple of dictionaries."""
    return isinstance(value, (list, tuple)) and bool(value) and isinstance(value[0], Mapping)


def records_table(records: list[Any] | tuple[Any, ...]) -> pa.Table:
    """Build a table with one row per dictionary and one column per key. Missing keys are null.

    Args:
        records: Dictionaries of single values, lists, numpy arrays or tensors. In a dictionary of a
            client the lists have one value per event.

    Returns:
        The table.

    Raises:
        InputError: An entry is not a dictionary, or the values of a key do not fit one column.
    """
    odd = next((i for i, record in enumerate(records) if not isinstance(record, Mapping)), None)
    if odd is not None:
        raise InputError(
            f"Entry {odd} of the given list is a {type(records[odd]).__name__}. Expected "
            f"dictionaries only."
        )
    names = list(dict.fromkeys(str(name) for record in records for name in record))
    return pa.table(
        {name: _column(name, [record.get(name) for record in records]) for name in names}
    )


def _column(name: str, values: list[Any]) -> pa.Array:
    try:
        return pa.array([_plain(value) for value in values], from_pandas=True)
    except (pa.ArrowException, ValueError, TypeError) as error:
        what = str(error).strip().splitlines()[0]
        raise InputError(
            f"The values of {name!r} in the given dictionaries make no column: {what}. Expected "
            "values of one type, each single or one-dimensional."
        ) from None


def _plain(value: Any) -> Any:
    """Convert tensors to arrays, and arrays without dimensions to numbers."""
    array = value.detach().cpu().numpy() if hasattr(value, "detach") else value
    return (
        array.item() if isinstance(array, (np.ndarray, np.generic)) and array.ndim == 0 else array
    )
