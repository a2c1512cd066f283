"""Splits into training and test parts: random folds, folds of whole groups, or out of time.

A split is a list of (training, test) positions. A split with a client in both parts is rejected,
unless the user allows it.
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
from seqmel.core.units import count_words
from seqmel.data.sources.times import DAY_OR_MONTH_FIRST

__all__ = ["GroupFolds", "OutOfTime", "Places", "Split", "client_ids", "random_folds"]

Places: TypeAlias = npt.NDArray[np.intp]
_Folds: TypeAlias = tuple[tuple[Places, Places], ...]


@dataclass(frozen=True)
class GroupFolds:
    """Cross-validation that keeps all rows of a group in one fold.

    A group is a country, a branch or a household, for example.

    Attributes:
        groups: one value per row of the labels, with the same index. Messages use its name.

    Examples:
        >>> import pandas as pd
        >>> import seqmel
        >>> branch = pd.Series(["north", "south", "west"] * 4, index=range(12), name="branch")
        >>> split = seqmel.GroupFolds(branch)  # seqmel.score(y, features, folds=3, split=split)
        >>> split.groups.nunique()
        3
    """

    groups: pd.Series[Any]

    def folds(
        self, rows: pd.Index[Any], strata: Places, folds: int, seed: int
    ) -> tuple[_Folds, dict[str, Any]]:
        """Compute the folds.

        Args:
            rows: the scored clients, or clients and moments.
            strata: (rows,) codes to stratify by, as far as the groups allow.
            folds: number of folds.
            seed: seed of the shuffling.

        Returns:
            Training and test positions of each fold, and a description of the split.

        Raises:
            InputError: a row has no group, a client is in several groups, or there are fewer groups
                than folds.
        """
        from sklearn.model_selection import StratifiedGroupKFold

        values = _aligned(self.groups, rows, "group")
        codes, names = pd.factorize(values)
        if len(names) < folds:
            raise InputError(
                f"{folds} folds of whole groups need {folds} groups; {self.groups.name!r} has "
                f"{len(names)}. Give fewer folds (--folds), or another column."
            )
        several = pd.Series(codes).groupby(client_ids(rows)).nunique() > 1
        if several.any():
            raise InputError(
                f"{count_words(int(several.sum()), 'client is', 'clients are')} in several groups "
                f"of {self.groups.name!r}, such as {plain(several.idxmax())!r}, and could be "
                "trained on and tested. Name a column with one value per client."
            )
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        places = tuple(splitter.split(strata, strata, codes))
        about = {"kind": "groups", "column": str(self.groups.name), "groups": len(names)}
        return places, about


@renamed_fields(same_clients="allow_client_overlap", test_fraction="test_fraction")
@dataclass(frozen=True)
class OutOfTime:
    """A split that trains on earlier rows and tests on later ones, as in production.

    Attributes:
        times: one value per row of the labels, with the same index: times, numbers, or text that
            sorts by time.
        test_fraction: fraction of rows in the test part. Rows with equal times stay together, so
            the actual fraction is the nearest possible one.
        allow_client_overlap: whether a client may be in both parts.
        split_clients: split by client too, if clients have rows on both sides. The clients are
            drawn into folds. Each fold trains on the earlier rows of the clients of the others, and
            tests on the later rows of its own.

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
    split_clients: bool = False

    def folds(
        self, rows: pd.Index[Any], folds: int = 5, seed: int = 0
    ) -> tuple[_Folds, dict[str, Any]]:
        """Compute the split.

        Args:
            rows: the scored clients, or clients and moments.
            folds: number of folds of clients, with `split_clients`.
            seed: seed of these folds.

        Returns:
            Training and test positions of the single fold, or of each fold of clients, and a
            description of the split.

        Raises:
            ConfigError: `test_fraction` is not between 0 and 1, or both `allow_client_overlap` and
                `split_clients` are set.
            InputError: a row has no time, all times are equal, text does not sort by time, or a
                client is in both parts without `allow_client_overlap`.
        """
        if not 0 < self.test_fraction < 1:
            raise ConfigError(
                f"test_fraction is {self.test_fraction}. Expected a fraction between 0 and 1, such "
                "as 0.3."
            )
        if self.allow_client_overlap and self.split_clients:
            raise ConfigError(
                "Clients are either split (--split-clients) or may overlap "
                "(--allow-client-overlap). Leave one of them out."
            )
        codes, values = pd.factorize(_aligned(self.times, rows, "time"), sort=True)
        _check_sorts(values, str(self.times.name))
        if len(values) < 2:
            raise InputError(
                f"Column {self.times.name!r} is {values[0]} in all rows that can be scored, so "
                "that none is later. Name a column with different times."
            )
        tested = np.cumsum(np.bincount(codes)[::-1])[::-1] / len(
            codes
        )  # fraction at each time or later
        cut = 1 + int(np.abs(tested[1:] - self.test_fraction).argmin())
        later = codes >= cut
        train = np.flatnonzero(~later)
        test = np.flatnonzero(later)
        shared = client_ids(rows[test]).unique().intersection(client_ids(rows[train]))
        about = {
            "kind": "out_of_time",
            "column": str(self.times.name),
            "cut": str(values[cut]),
            "train": len(train),
            "test": len(test),
            "test_clients": int(client_ids(rows[test]).nunique()),
            "clients_in_both": len(shared),
        }
        if self.split_clients:
            parts = _folds_of_clients(rows, train, test, folds, seed)
            return parts, about | {"kind": "out_of_time_and_clients", "clients_in_both": 0}
        if len(shared) and not self.allow_client_overlap:
            raise InputError(
                f"{count_words(len(shared), 'client has', 'clients have')} rows before "
                f"{values[cut]} and from then on, such as {plain(shared[0])!r}, and would be "
                "trained on and tested. Leave out one side of them, or pass --allow-client-overlap "
                "if they are meant to be."
            )
        return ((train, test),), about


def _folds_of_clients(
    rows: pd.Index[Any], train: Places, test: Places, folds: int, seed: int
) -> _Folds:
    """Return per fold the earlier rows of other clients, and the later rows of its own."""
    codes, ids = pd.factorize(client_ids(rows))
    fold = (np.random.default_rng(seed).permutation(len(ids)) % folds)[codes]
    return tuple((train[fold[train] != k], test[fold[test] == k]) for k in range(folds))


Split: TypeAlias = GroupFolds | OutOfTime
"""A split other than random folds of clients."""


def random_folds(strata: Places | None, count: int, folds: int, seed: int) -> _Folds:
    """Compute shuffled folds.

    Args:
        strata: (count,) codes to stratify by; None does not stratify.
        count: number of rows.
        folds: number of folds.
        seed: seed of the shuffling.

    Returns:
        Training and test positions of each fold.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    if strata is None:
        return tuple(KFold(folds, shuffle=True, random_state=seed).split(np.zeros(count)))
    return tuple(StratifiedKFold(folds, shuffle=True, random_state=seed).split(strata, strata))


def client_ids(rows: pd.Index[Any]) -> pd.Index[Any]:
    """Return the client of each row.

    Args:
        rows: (rows,) clients, or clients and moments.

    Returns:
        (rows,) client ids.
    """
    ids: pd.Index[Any] = rows.get_level_values(0) if rows.nlevels > 1 else rows
    return ids


def _check_sorts(values: Any, column: str) -> None:
    """Raise for dates as text with the day or month first, which do not sort by time."""
    odd = next((v for v in values if isinstance(v, str) and re.match(DAY_OR_MONTH_FIRST, v)), None)
    if odd is not None:
        raise InputError(
            f"Column {column!r} holds text such as {odd!r}, which does not sort by time. Write it "
            "as 2023-01-31, or as dates."
        )


def _aligned(values: pd.Series[Any], rows: pd.Index[Any], what: str) -> pd.Series[Any]:
    found = values.reindex(rows)
    missing = int(found.isna().sum())
    if missing:
        raise InputError(
            f"{missing:,} of {count_words(len(rows), 'row')} that can be scored have no {what} "
            f"(column {values.name!r}). Fill it in, or leave these rows out."
        )
    return found
