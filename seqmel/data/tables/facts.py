"""Facts about clients: a table with one row per client, of numbers and categories.

A number becomes its position among quantiles of the training rows: 2.5 is the middle of the third
bin. Positions are clipped to the first and the last quantile, so extreme numbers stay in range.
From positions a network computes piecewise-linear encodings (Gorishniy et al., NeurIPS 2022,
arXiv 2203.05556). A category becomes a code. Code 0 is a missing value. Code 1 is a value that is
rare or absent in training.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, field_validator

from seqmel.core.errors import ConfigError, InputError, SchemaError, did_you_mean, shown
from seqmel.core.progress import Progress
from seqmel.core.units import DAY_US, count_words
from seqmel.data.schema import UNNAMED_INDEX
from seqmel.data.sources.arrow_tables import collected
from seqmel.data.sources.source import ident, type_in_words
from seqmel.data.tables.labels import Table, id_positions, open_features, plain_id, read_by_client
from seqmel.data.tables.meds import static_facts

__all__ = ["CategoryFact", "FactRows", "Facts", "NumberFact", "check_no_target", "read_facts"]

MISSING = 0
UNSEEN = 1
"""The first codes of a category."""

_WIDTH = 1_024  # aimed at: bins of all numbers, and values of all categories
_MOST_BINS = 16
_MOST_VALUES = 256
_FEWEST_VALUES = 8
_MIN_COUNT = 5  # training rows of a value that has a code of its own
_CATEGORY = re.compile(r"VARCHAR|ENUM.*|UUID|BOOLEAN")
_NUMBER = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL.*")
_TIME = re.compile(r"DATE|TIMESTAMP.*")


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NumberFact(_Fact):
    """A fact that is a number, or a date as days since 1970.

    Attributes:
        name: the column.
        edges: increasing quantiles of the training rows, the bounds of the bins.
    """

    name: str
    edges: tuple[float, ...]

    @field_validator("edges")
    @classmethod
    def _increase(cls, edges: tuple[float, ...]) -> tuple[float, ...]:
        if not (np.isfinite(edges).all() and (np.diff(edges) > 0).all()):
            raise ValueError("edges are not increasing numbers")
        return edges

    def positions(self, numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return (N,) positions among the bins, from 0 to their number; NaN for NaN."""
        edges = self.edges or (0.0,)
        found = np.interp(numbers, edges, np.arange(len(edges)))
        return np.where(np.isnan(numbers), np.nan, found)


class CategoryFact(_Fact):
    """A fact that is text or a boolean.

    Attributes:
        name: the column.
        values: the values with a code of their own, from code 2 on.
    """

    name: str
    values: tuple[str, ...]

    @property
    def size(self) -> int:
        """Number of codes."""
        return len(self.values) + 2

    def codes(self, values: pd.Series[Any]) -> npt.NDArray[np.float64]:
        """Return (N,) codes of text; a null is 0."""
        known = pd.Index(self.values, dtype=object).get_indexer(pd.Index(values, dtype=object))
        return np.where(values.isna(), MISSING, np.where(known < 0, UNSEEN, known + 2)).astype(
            np.float64
        )


class Facts(_Fact):
    """The facts of a model: what `facts.json` holds.

    Attributes:
        numbers: facts that are numbers.
        categories: facts that are text or booleans.
    """

    numbers: tuple[NumberFact, ...] = ()
    categories: tuple[CategoryFact, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The columns, numbers first."""
        return (
            *(fact.name for fact in self.numbers),
            *(fact.name for fact in self.categories),
        )

    @property
    def bins(self) -> int:
        """The largest number of bins of a number."""
        return max((len(fact.edges) - 1 for fact in self.numbers if fact.edges), default=0)

    @classmethod
    def fit(cls, rows: pd.DataFrame) -> Facts:
        """Fit quantiles and values on the facts of the training rows, as `read_facts` gives them.

        A column that is the same for all rows is left out.

        Args:
            rows: (N, columns) float64 numbers and text, with NaN and None for nulls.

        Returns:
            The facts.
        """
        numbers = [name for name in rows if pd.api.types.is_float_dtype(rows[name])]
        categories = [name for name in rows if name not in numbers]
        bins = int(np.clip(_WIDTH // max(1, len(numbers)), 1, _MOST_BINS))
        values = int(np.clip(_WIDTH // max(1, len(categories)), _FEWEST_VALUES, _MOST_VALUES))
        found = cls(
            numbers=tuple(
                NumberFact(name=name, edges=_edges(rows[name].to_numpy(), bins)) for name in numbers
            ),
            categories=tuple(
                CategoryFact(name=name, values=_frequent(rows[name], values)) for name in categories
            ),
        )
        encoded = found.encode(rows)
        varies = {
            name: bool(np.nanmax(column) > np.nanmin(column)) or bool(np.isnan(column).any())
            for name, column in zip(found.names, encoded.T, strict=True)
            if not np.isnan(column).all()
        }
        return cls(
            numbers=tuple(fact for fact in found.numbers if varies.get(fact.name)),
            categories=tuple(fact for fact in found.categories if varies.get(fact.name)),
        )

    def encode(self, rows: pd.DataFrame) -> npt.NDArray[np.float32]:
        """Return (N, facts) positions of the numbers, NaN for nulls, then codes of the categories.

        Args:
            rows: the columns of these facts, as `read_facts` gives them.
        """
        columns = [fact.positions(rows[fact.name].to_numpy(np.float64)) for fact in self.numbers]
        columns += [fact.codes(rows[fact.name]) for fact in self.categories]
        return np.stack(columns, axis=1).astype(np.float32)

    def of_records(self, records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        """Return the facts of N clients from dictionaries, as `read_facts` reads them from a table.

        Args:
            records: column -> value of each client. A missing value is None.

        Raises:
            SchemaError: a column is missing, or a number is something else.
        """
        for record in records:
            for name in self.names:
                if name not in record:
                    raise SchemaError(
                        f"The facts lack {name!r}, which the model was fine-tuned with. They have: "
                        f"{shown(record)}."
                    )
        found = {}
        for fact in self.numbers:
            values = [_days(record[fact.name]) for record in records]
            try:
                found[fact.name] = as_numbers(pd.Series(values, dtype=object))
            except (TypeError, ValueError):
                raise SchemaError(
                    f"The fact {fact.name!r} is a number in the model; found "
                    f"{shown(map(repr, values), 3)}."
                ) from None
        for name in (fact.name for fact in self.categories):
            found[name] = as_texts(pd.Series([record[name] for record in records], dtype=object))
        frame: pd.DataFrame = pd.DataFrame(found)
        return frame

    def typical(self) -> npt.NDArray[np.float32]:
        """Return (1, facts) the encoded facts of a typical client.

        They are the middle of the bins of a number, and the most frequent value of a category.
        """
        row = [(len(fact.edges) - 1) / 2 if fact.edges else 0.0 for fact in self.numbers]
        row += [float(min(2, fact.size - 1)) for fact in self.categories]
        return np.array([row], np.float32)

    def nothing(self, count: int) -> npt.NDArray[np.float32]:
        """Return (count, facts) the encoded facts of clients of whom nothing is known."""
        row = [np.nan] * len(self.numbers) + [float(MISSING)] * len(self.categories)
        return np.tile(np.array(row, np.float32), (count, 1))


def _edges(numbers: npt.NDArray[np.float64], bins: int) -> tuple[float, ...]:
    """Return quantiles as bounds of bins, or the distinct values if these are few."""
    known = numbers[np.isfinite(numbers)]
    distinct = np.unique(known)
    if len(distinct) <= bins + 1:
        return tuple(distinct.tolist())
    return tuple(np.unique(np.quantile(known, np.linspace(0, 1, bins + 1))).tolist())


def _frequent(values: pd.Series[Any], most: int) -> tuple[str, ...]:
    """Return the most frequent values, those of few rows left out."""
    counts = values.value_counts()
    counts = counts[counts >= _MIN_COUNT].sort_index().sort_values(ascending=False, kind="stable")
    return tuple(counts.index[:most])


def read_facts(
    table: Table,
    columns: Sequence[str] | None = None,
    *,
    client: str | None = None,
    likely: str | None = None,
    known: Facts | None = None,
) -> pd.DataFrame:
    """Read facts about clients: numbers as float64, text and booleans as text.

    Dates become days since 1970, infinite numbers the largest finite ones. A null is NaN or None.

    Args:
        table: a table with one row per client, or a DataFrame indexed by client id. Of a MEDS data
            set the static rows are read, see `static_facts`.
        columns: the columns to read. None reads all but the client column.
        client: the client column. None recognises it.
        likely: the client column if `client` is None and the table has it.
        known: the facts of a model. Their columns are read, as the kinds that they have there.

    Returns:
        The facts, indexed by client id.

    Raises:
        SchemaError: a column is missing, holds neither numbers nor text, or has the name of another
            but for its case.
        InputError: the table cannot be read or has no rows, or a client has no id or two rows.
    """
    table = collected(table)
    _check_spelling(table)
    static = static_facts(table)
    source, client = open_features(table if static is None else static, client, likely)
    wanted = _wanted(source.columns, client, columns, known, source.label)
    kinds = {name: _kind(source.columns[name], name, source.label) for name in wanted}
    for fact in known.numbers if known is not None else ():
        if kinds[fact.name] == "category":
            raise SchemaError(
                f"The fact {fact.name!r} is a number in the model, and "
                f"{type_in_words(source.columns[fact.name])} in {source.label}. Expected numbers."
            )
    numbers = {name for name in wanted if kinds[name] != "category"}
    if known is not None:
        numbers -= {fact.name for fact in known.categories}
    days = {name: f"epoch_us({ident(name)}::TIMESTAMP) / {DAY_US}.0" for name in wanted}
    selected = [
        f"{days[name] if kinds[name] == 'time' else ident(name)} AS {ident(name)}"
        for name in wanted
    ]
    read, ids = read_by_client(source, selected, client)
    found = {
        name: as_numbers(column.to_pandas()) if name in numbers else as_texts(column.to_pandas())
        for name, column in zip(wanted, read.columns, strict=True)
    }
    frame: pd.DataFrame = pd.DataFrame(found, copy=False).set_axis(ids, axis=0)
    return frame


def _check_spelling(table: Table) -> None:
    """Refuse a table in memory with names that differ in their case only, which SQL cannot hold."""
    names = [str(name) for name in getattr(table, "column_names", getattr(table, "columns", ()))]
    folded = [name.casefold() for name in names]
    twice = [name for name in names if folded.count(name.casefold()) > 1]
    if twice:
        raise SchemaError(
            f"The given {type(table).__name__} has the columns {shown(map(repr, twice))}, which "
            "differ only in case, if at all. Rename one."
        )


def check_no_target(facts: pd.DataFrame, others: Sequence[str]) -> None:
    """Refuse facts that hold a target, or the weights or moments of the labels.

    Args:
        facts: the facts, as `read_facts` gives them.
        others: columns of the labels.

    Raises:
        ConfigError: one of these columns is among the facts.
    """
    among = [name for name in others if name in facts]
    if among:
        raise ConfigError(
            f"{among[0]!r} is a column of the labels that is learnt from, and among the facts. "
            "Name the columns that are facts: --fact-column (fact_columns=)."
        )


def _wanted(
    has: dict[str, str],
    client: str,
    columns: Sequence[str] | None,
    known: Facts | None,
    label: str,
) -> list[str]:
    if known is not None:
        missing = [name for name in known.names if name not in has]
        if missing:
            raise SchemaError(
                f"{label} lacks the facts {shown(map(repr, missing))}, which the model was "
                f"fine-tuned with. It has: {shown(has)}."
            )
        return list(known.names)
    if columns is None:
        found = [name for name in has if name != client and not UNNAMED_INDEX.fullmatch(name)]
        if not found:
            raise SchemaError(f"{label} has no column but the client column {client!r}.")
        return found
    for name in columns:
        if name == client:
            raise SchemaError(f"{name!r} is the client column of {label}, and no fact.")
        if name not in has:
            raise SchemaError(
                f"{label} has no column {name!r}. It has: {shown(has)}.{did_you_mean(name, has)}"
            )
    twice = [name for name in columns if list(columns).count(name) > 1]
    if twice or not columns:
        raise SchemaError(
            f"The fact {twice[0]!r} is named twice." if twice else "No fact is named."
        )
    return list(columns)


def _kind(kind: str, name: str, label: str) -> str:
    for word, pattern in (("category", _CATEGORY), ("number", _NUMBER), ("time", _TIME)):
        if pattern.fullmatch(kind):
            return word
    raise SchemaError(
        f"The column {name!r} of {label} holds {type_in_words(kind)}. Expected numbers, text, "
        "booleans or dates. Name the columns to use with --fact-column (fact_columns=)."
    )


def as_numbers(values: pd.Series[Any]) -> pd.Series[Any]:
    """Return float64; nulls become NaN, infinite numbers the largest finite ones."""
    numbers = pd.to_numeric(values, errors="raise").to_numpy(np.float64, na_value=np.nan)
    largest = np.finfo(np.float64).max
    clipped: pd.Series[Any] = pd.Series(np.clip(numbers, -largest, largest))
    return clipped


def as_texts(values: pd.Series[Any]) -> pd.Series[Any]:
    """Return text: whole numbers without a point, dates as 2024-01-31; nulls become None."""
    texts = [None if pd.isna(value) else _text(value) for value in values]
    return pd.Series(texts, dtype=object)


def _days(value: Any) -> Any:
    """Return dates and timestamps as days since 1970, and all else unchanged."""
    if not isinstance(value, dt.date) or pd.isna(value):
        return value
    moment = pd.Timestamp(value)
    moment = moment.tz_convert("UTC").tz_localize(None) if moment.tzinfo else moment
    return (moment - pd.Timestamp(0)) / pd.Timedelta(days=1)


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, dt.date) else plain_id(value)


class FactRows:
    """Encoded facts, looked up by client id.

    Args:
        facts: the facts of a model.
        rows: their columns, indexed by client id.
        label: the name of the table in messages.
        strict: whether `report` raises if no client has facts.
    """

    def __init__(
        self, facts: Facts, rows: pd.DataFrame, *, label: str = "the facts", strict: bool = True
    ) -> None:
        self._strict = strict
        self._ids = rows.index
        self._encoded = facts.encode(rows)
        self._nothing = facts.nothing(1)
        self._label = label
        self._asked = self._found = 0
        self._example: Any = None

    def of(self, ids: pd.Index[Any]) -> npt.NDArray[np.float32]:
        """Return (N, facts) for N clients. A client without a row has nulls.

        Args:
            ids: (N,) client ids, possibly repeated.
        """
        place = id_positions(ids, self._ids)
        self._asked += len(ids)
        self._found += int((place >= 0).sum())
        if self._example is None and len(ids):
            self._example = ids[:1].tolist()[0]
        return np.where((place < 0)[:, None], self._nothing, self._encoded[place])

    def report(self, progress: Progress) -> None:
        """Say how many of the clients asked for have no row.

        Raises:
            InputError: none has one, and `strict`.
        """
        if self._strict and self._asked and not self._found:
            raise InputError(
                f"No client of the events has a row in {self._label}. The events have clients such "
                f"as {self._example!r}, {self._label} such as {self._ids[:1].tolist()[0]!r}. Check "
                "that both use the same client ids. If nothing is known of these clients, give "
                "rows of nulls."
            )
        if self._found < self._asked:
            progress.say(
                f"not in {self._label}: the clients of {self._asked - self._found:,} of "
                f"{count_words(self._asked, 'row')}; their facts count as nulls"
            )
