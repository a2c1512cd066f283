"""A list of dictionaries as a table: feature dictionaries, one a client, or plain records, one an event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from seqmel.core.errors import InputError

__all__ = ["is_records", "records_table"]


def is_records(value: Any) -> bool:
    """Whether this is a list or tuple of dictionaries; an empty one is none."""
    return isinstance(value, (list, tuple)) and bool(value) and isinstance(value[0], Mapping)


def records_table(records: list[Any] | tuple[Any, ...]) -> pa.Table:
    """One row a dictionary, a column for each key of any of them; a key that a dictionary lacks is null there.

    Args:
        records: dictionaries of single values, lists, numpy arrays or tensors. In a dictionary of a client all of those
            are one value an event.

    Raises:
        InputError: an entry that is no dictionary, or values of one key that make no column.
    """
    odd = next((i for i, record in enumerate(records) if not isinstance(record, Mapping)), None)
    if odd is not None:
        raise InputError(
            f"Entry {odd} of the given list is a {type(records[odd]).__name__}. Expected dictionaries only."
        )
    names = list(dict.fromkeys(str(name) for record in records for name in record))
    return pa.table({name: _column(name, [record.get(name) for record in records]) for name in names})


def _column(name: str, values: list[Any]) -> pa.Array:
    try:
        return pa.array([_plain(value) for value in values], from_pandas=True)
    except (pa.ArrowException, ValueError, TypeError) as error:
        what = str(error).strip().splitlines()[0]
        raise InputError(
            f"The values of {name!r} in the given dictionaries make no column: {what}. Expected values of one type, each"
            " single or one-dimensional."
        ) from None


def _plain(value: Any) -> Any:
    """Tensors as arrays, and an array of one number without dimension as the number."""
    array = value.detach().cpu().numpy() if hasattr(value, "detach") else value
    return array.item() if isinstance(array, (np.ndarray, np.generic)) and array.ndim == 0 else array
