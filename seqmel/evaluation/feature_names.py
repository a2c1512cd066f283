"""Feature names that LightGBM, XGBoost, CatBoost, Parquet and SQL all accept.

They consist of ASCII letters, digits and underscores.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable

__all__ = ["feature_name", "name_part", "unique_names"]

_LONGEST = 63
"""Maximum length of a name; PostgreSQL truncates longer ones."""
_LONGEST_PART = 32
"""Maximum length of the part for a category value, so that the parts after it are not truncated."""


def name_part(text: str, otherwise: str) -> str:
    """Turn a text into part of a name.

    Accents are dropped, and each run of other characters becomes one underscore.

    Args:
        text: a column name or a category value.
        otherwise: the part to use if no character is left, for example of Cyrillic text.

    Returns:
        The part, at most 32 characters of the text.
    """
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return (
        re.sub(r"[^A-Za-z0-9]+", "_", ascii_text).strip("_")[:_LONGEST_PART].strip("_") or otherwise
    )


def feature_name(*parts: str) -> str:
    """Join the non-empty parts with underscores to a name of at most 63 characters.

    A name that would not start with a letter gets the prefix `f_`.

    Args:
        *parts: the parts.

    Returns:
        The name.

    Examples:
        >>> feature_name("amount_sum", "mcc_5411")
        'amount_sum_mcc_5411'
    """
    name = "_".join(part for part in parts if part)
    return (name if name[0].isalpha() else f"f_{name}")[:_LONGEST]


def unique_names(names: Iterable[str]) -> list[str]:
    """Number repeated names. Case is ignored, as in SQL.

    Args:
        names: the names.

    Returns:
        The names in their order, repeated ones with the suffix _2, _3, ...

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
