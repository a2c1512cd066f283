"""Which clients are trained on and which are tested: random folds, folds of whole groups, or earlier against later.

A split is a list of (training, test) places. Whatever would let a test client be known from training is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from seqmel.core.errors import ConfigError, InputError, plain
from seqmel.core.renames import renamed_fields
from seqmel.data.sources.times import DAY_OR_MONTH_FIRST

__all__ = ["GroupFolds", "OutOfTime", "Places", "Split", "client_ids", "random_folds"]

Places: TypeAlias = npt.NDArray[np.intp]
_Folds: TypeAlias = tuple[tuple[Places, Places], ...]


@dataclass(frozen=True)
class GroupFolds:
    """Cross-validation that keeps all rows of a group (a country, a branch, a household) in one fold.

    Attributes:
        groups: one value a row of the labels, indexed as they are; its name says what it is in messages.

    Examples:
        >>> import pandas as pd
        >>> import seqmel
        >>> branch = pd.Series(["north", "south", "west"] * 4, index=range(12), name="branch")
        >>> split = seqmel.GroupFolds(branch)  # seqmel.score(y, features, folds=3, split=split)
        >>> split.groups.nunique()
        3
    """

    groups: pd.Series[Any]

    def folds(self, rows: pd.Index[Any], strata: Places, folds: int, seed: int) -> tuple[_Folds, dict[str, Any]]:
        """The places of each fold, and what to say of the split.

        Args:
            rows: the clients, or clients and moments, that are scored.
            strata: (rows,) codes that are to be as frequent in each fold, as far as groups allow.
            folds: how many.
            seed: of the shuffling.

        Raises:
            InputError: a row without a group, fewer groups than folds, or a client in several groups.
        """
        from sklearn.model_selection import StratifiedGroupKFold

        values = _aligned(self.groups, rows, "group")
        codes, names = pd.factorize(values)
        if len(names) < folds:
            raise InputError(
                f"{folds} folds of whole groups need {folds} groups; {self.groups.name!r} has {len(names)}."
                " Give fewer folds (--folds), or another column."
            )
        several = pd.Series(codes).groupby(client_ids(rows)).nunique() > 1
        if several.any():
            raise InputError(
                f"{int(several.sum()):,} clients are in several groups of {self.groups.name!r}, such as"
                f" {plain(several.idxmax())!r}, and could be trained on and tested. Name a column that is one value a client."
            )
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        places = tuple(splitter.split(strata, strata, codes))
        about = {"kind": "groups", "column": str(self.groups.name), "groups": len(names)}
        return places, about


@renamed_fields(same_clients="allow_client_overlap", test_fraction="test_fraction")
@dataclass(frozen=True)
class OutOfTime:
    """Train on the earlier rows and test on the later ones, as in use: what comes later is not known yet.

    Attributes:
        times: one value a row of the labels, indexed as they are: times, numbers, or text that sorts by time.
        test_fraction: of the rows that are tested; the cut is between two values, as near to this as there is one.
        allow_client_overlap: let a client of the training part come again in the test part.

    Examples:
        >>> import pandas as pd
        >>> import seqmel
        >>> month = pd.Series([1, 1, 2, 2, 3, 3], index=range(6), name="month")
        >>> split = seqmel.OutOfTime(month)  # seqmel.score(y, features, split=split)
        >>> int(split.times.max())
        3
    """

    times: pd.Series[Any]
    test_fraction: float = 0.3
    allow_client_overlap: bool = False

    def folds(self, rows: pd.Index[Any]) -> tuple[_Folds, dict[str, Any]]:
        """One fold, and what to say of the split.

        Raises:
            ConfigError: a share that is not between 0 and 1.
            InputError: a row without a time, only one time, text that does not sort by time, or a client on both sides that is not asked for.
        """
        if not 0 < self.test_fraction < 1:
            raise ConfigError(f"test_fraction is {self.test_fraction}. Expected a share between 0 and 1, such as 0.3.")
        codes, values = pd.factorize(_aligned(self.times, rows, "time"), sort=True)
        _check_sorts(values, str(self.times.name))
        if len(values) < 2:
            raise InputError(
                f"Column {self.times.name!r} is {values[0]} in all rows that can be scored, so that none is later."
                " Name a column with different times."
            )
        tested = np.cumsum(np.bincount(codes)[::-1])[::-1] / len(codes)  # share at each value or later
        cut = 1 + int(np.abs(tested[1:] - self.test_fraction).argmin())
        later = codes >= cut
        train, test = np.flatnonzero(~later), np.flatnonzero(later)
        shared = client_ids(rows[test]).unique().intersection(client_ids(rows[train]))
        if len(shared) and not self.allow_client_overlap:
            raise InputError(
                f"{len(shared):,} clients, such as {plain(shared[0])!r}, have rows before {values[cut]} and from then on, and would"
                " be trained on and tested. Leave out one side of them, or pass --allow-client-overlap if they are meant to be."
            )
        about = {
            "kind": "out_of_time",
            "column": str(self.times.name),
            "cut": str(values[cut]),
            "train": len(train),
            "test": len(test),
            "test_clients": int(client_ids(rows[test]).nunique()),
            "clients_in_both": len(shared),
        }
        return ((train, test),), about


Split: TypeAlias = GroupFolds | OutOfTime
"""How to split where random folds of clients are not wanted."""


def random_folds(strata: Places | None, count: int, folds: int, seed: int) -> _Folds:
    """Shuffled folds of `count` rows, stratified where there are strata."""
    from sklearn.model_selection import KFold, StratifiedKFold

    if strata is None:
        return tuple(KFold(folds, shuffle=True, random_state=seed).split(np.zeros(count)))
    return tuple(StratifiedKFold(folds, shuffle=True, random_state=seed).split(strata, strata))


def client_ids(rows: pd.Index[Any]) -> pd.Index[Any]:
    """The client of each row, where rows are clients, or clients and moments."""
    ids: pd.Index[Any] = rows.get_level_values(0) if rows.nlevels > 1 else rows
    return ids


def _check_sorts(values: Any, column: str) -> None:
    """Text with the day or the month first sorts by letters, and not by time."""
    odd = next((v for v in values if isinstance(v, str) and re.match(DAY_OR_MONTH_FIRST, v)), None)
    if odd is not None:
        raise InputError(
            f"Column {column!r} holds text such as {odd!r}, which does not sort by time. Write it as 2023-01-31, or as dates."
        )


def _aligned(values: pd.Series[Any], rows: pd.Index[Any], what: str) -> pd.Series[Any]:
    found = values.reindex(rows)
    missing = int(found.isna().sum())
    if missing:
        raise InputError(
            f"{missing:,} of the {len(rows):,} rows that can be scored have no {what} (column {values.name!r})."
            " Fill it in, or leave these rows out."
        )
    return found
