"""The vocabulary: category codes and numeric scales.

It is fitted once on the training events, then never changed.

Codes: 0 is null, 1 is "unseen or rare", and from 2 on come the values by falling frequency. Null
has a code of its own only if training saw nulls. Otherwise a null is as unseen as any new value and
gets code 1.

Numbers are scaled robustly, after a signed logarithm if the tail is heavy. Null and NaN stay
missing (NaN). Infinities are clipped like any other extreme value. Within a category
(`numeric_by`), every category has a scale of its own.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

from seqmel.data.schema import EventSchema, dump_without

__all__ = [
    "NULL",
    "UNSEEN",
    "CategoryCodes",
    "NumericScale",
    "NumericScales",
    "SourceColumns",
    "TimeScale",
    "Vocabulary",
]

NULL = 0
UNSEEN = 1
FIRST = 2
CLIP = 10.0
"""Scaled numbers lie in [-CLIP, CLIP], in robust standard deviations."""


Finite = Annotated[float, Field(allow_inf_nan=False)]
AboveZero = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CategoryCodes(_Data):
    """The known values of one column, most frequent first.

    They are in text form: 5411 and 5411.0 are both "5411".
    """

    values: tuple[str, ...]
    null: bool
    """Whether training saw nulls."""

    @model_validator(mode="after")
    def _known_once(self) -> CategoryCodes:
        if len(set(self.values)) < len(self.values):
            raise ValueError("a category has two codes")
        return self

    @property
    def size(self) -> int:
        """Number of codes: null, unseen or rare, and the known values."""
        return FIRST + len(self.values)

    @property
    def null_code(self) -> int:
        """The code of a null."""
        return NULL if self.null else UNSEEN


class NumericScale(_Data):
    """The scale z = clip((y - center) / scale).

    Here y is x, or sign(x) ln(1 + |x| / log_unit) for a heavy tail.
    """

    log_unit: AboveZero | None
    center: Finite
    scale: AboveZero


class NumericScales(_Data):
    """The scales of one numeric column.

    With `by`, there is one for each code of that column, and `overall` for codes that are too rare.
    """

    overall: NumericScale
    by: str | None = None
    within: tuple[NumericScale | None, ...] = ()

    def of_code(self, code: int) -> NumericScale:
        """Return the scale used for events with this code of the column `by`.

        Args:
            code: a code of the category.
        """
        return self.within[code] or self.overall


class TimeScale(_Data):
    """Cycles and typical gap of the times.

    Attributes:
        daily: whether every time is a whole day, so there is no time of day.
        span_days: days from the first to the last of all events.
        end_us: time of the last of all events, in microseconds; None if an older vocabulary lacks
            it.
        gap_center, gap_scale: median and robust deviation of ln(1 + gap in seconds) over non-zero
            gaps.
    """

    daily: bool
    span_days: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    gap_center: Finite
    gap_scale: AboveZero
    end_us: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None


class SourceColumns(_Data):
    """One of several event tables: the columns that its events have, and the gaps between them.

    Attributes:
        columns: features that events of the table have; for others they are absent.
        gap_center, gap_scale: as in `TimeScale`, of gaps between events of the table.
    """

    columns: tuple[str, ...]
    gap_center: Finite
    gap_scale: AboveZero


class Vocabulary(_Data):
    """Everything that was fitted on the training events.

    Attributes:
        categorical: column -> its codes.
        numeric: column -> its scales.
        time: cycles and typical gap.
        source: the category that names the table of an event; None for one table.
        sources: name -> the columns of one of several tables; empty for one table.

    Examples:
        >>> import seqmel
        >>> data = seqmel.generate_card_data(20)
        >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
        >>> list(model.vocabulary.categorical)
        ['mcc', 'city', 'channel']
    """

    categorical: dict[str, CategoryCodes]
    numeric: dict[str, NumericScales]
    time: TimeScale
    source: str | None = None
    sources: dict[str, SourceColumns] = {}

    @model_serializer(mode="wrap")
    def _dump(self, dump: Any) -> dict[str, Any]:
        return dump_without(dump, self, "source", "sources")

    @model_validator(mode="after")
    def _sources_have_codes(self) -> Vocabulary:
        codes = None if self.source is None else self.categorical.get(self.source)
        if set(self.sources) != set(codes.values if codes else ()):
            raise ValueError("the sources are not the values of the column that names them")
        known = {*self.categorical, *self.numeric}
        for name, source in self.sources.items():
            if not known.issuperset(source.columns):
                raise ValueError(f"the source {name} has columns that the vocabulary lacks")
        return self

    def source_code(self, name: str) -> int:
        """Return the code of one of several tables."""
        assert self.source is not None, "there are several tables"
        return FIRST + self.categorical[self.source].values.index(name)

    def present_in(self, column: str) -> tuple[int, ...] | None:
        """Return the codes of the tables that have a column; None if every event has it.

        Args:
            column: a feature.
        """
        if column == self.source or all(column in s.columns for s in self.sources.values()):
            return None
        return tuple(self.source_code(n) for n, s in self.sources.items() if column in s.columns)

    @model_validator(mode="after")
    def _scales_have_their_codes(self) -> Vocabulary:
        for name, scales in self.numeric.items():
            codes = self.categorical[scales.by].size if scales.by in self.categorical else 0
            if scales.by is not None and len(scales.within) != codes:
                raise ValueError(
                    f"{name} has {len(scales.within)} scales for {codes} codes of {scales.by}"
                )
        return self

    def check_fits(self, schema: EventSchema) -> None:
        """Check that the vocabulary was fitted on the columns of this schema.

        Args:
            schema: the roles of the columns.

        Raises:
            ValueError: it was not.
        """
        by = {name: scales.by for name, scales in self.numeric.items() if scales.by is not None}
        names = (tuple(self.categorical), tuple(self.numeric), by)
        columns = {name: {*s.columns} for name, s in self.sources.items()}
        sources = {name: {*s.columns.values()} for name, s in schema.sources.items()}
        if (*names, columns, self.source) != (
            schema.categorical, schema.numeric, schema.numeric_by, sources, schema.source,
        ):  # fmt: skip
            raise ValueError("the vocabulary was fitted on other columns than the schema names")

    def fingerprint(self) -> str:
        """Return a digest that identifies the vocabulary."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    def describe(self) -> dict[str, Any]:
        """Return column -> a short description for people."""
        words: dict[str, Any] = {
            name: f"{len(codes.values):,} categories" + (", nulls" if codes.null else "")
            for name, codes in self.categorical.items()
        }
        for name, scales in self.numeric.items():
            tail = "signed log" if scales.overall.log_unit else "linear"
            words[name] = f"within {scales.by}" if scales.by else tail
        return words
