"""Names of features that LightGBM, XGBoost, CatBoost, Parquet and SQL all take: ASCII letters, digits and underscores."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable

__all__ = ["feature_name", "name_part", "unique_names"]

_LONGEST = 63
"""Characters of a name; PostgreSQL cuts longer ones."""
_LONGEST_PART = 32
"""Characters of a part that is a value of a category, so that what stands behind it is not cut off."""


def name_part(text: str, otherwise: str) -> str:
    """A text as part of a name: accents are dropped, each run of other characters becomes one underscore.

    Args:
        text: a name of a column or a value of a category.
        otherwise: the part where nothing of the text is left, as of one in Cyrillic letters.
    """
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9]+", "_", ascii_text).strip("_")[:_LONGEST_PART].strip("_") or otherwise


def feature_name(*parts: str) -> str:
    """The parts that are not empty with underscores between, at most 63 characters, a letter first.

    Examples:
        >>> feature_name("amount_sum", "mcc_5411")
        'amount_sum_mcc_5411'
    """
    name = "_".join(part for part in parts if part)
    return (name if name[0].isalpha() else f"f_{name}")[:_LONGEST]


def unique_names(names: Iterable[str]) -> list[str]:
    """Number the names that come again; SQL does not tell capitals from small letters, so neither does this.

    Examples:
        >>> unique_names(["fast_food", "Fast_food", "fast_food_2"])
        ['fast_food', 'Fast_food_2', 'fast_food_2_2']
    """
    seen: dict[str, str] = {}
    for name in names:
        numbered = (f"{name[: _LONGEST - 1 - len(str(k))]}_{k}" for k in itertools.count(2))
        free = next(n for n in itertools.chain([name], numbered) if n.casefold() not in seen)
        seen[free.casefold()] = free
    return list(seen.values())
