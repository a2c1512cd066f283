"""The vocabulary: category codes and numeric scales.

It is fitted once on the training events, then never changed.

What is fitted of a column depends on its kind; see `seqmel.data.kinds`.
"""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    field_validator,
    model_serializer,
    model_validator,
)

from seqmel.core.units import count_words
from seqmel.data.kinds.base import ColumnKind, Fitted
from seqmel.data.kinds.category import FIRST, NULL, UNSEEN, CategoryCodes
from seqmel.data.kinds.number import CLIP, AboveZero, Finite, NumericScale, NumericScales
from seqmel.data.kinds.registry import KINDS
from seqmel.data.schema import EventSchema, TimeZone, dump_without

__all__ = [
    "CLIP",
    "FIRST",
    "NULL",
    "UNSEEN",
    "CategoryCodes",
    "NumericScale",
    "NumericScales",
    "SourceColumns",
    "TimeScale",
    "Vocabulary",
]


_FARTHEST_DAY = 4_000_000  # beyond any date


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TimeScale(_Data):
    """Cycles and typical gap of the times.

    Attributes:
        daily: whether every time is a whole day, so there is no time of day.
        span_days: days from the first to the last of all events.
        end_us: time of the last of all events, in microseconds; None if an older vocabulary lacks
            it.
        gap_center, gap_scale: median and robust deviation of ln(1 + gap in seconds) over non-zero
            gaps.
        time_zone: zone in which the calendar is read; None for UTC.
        zones: with several tables, the zone of each that has one, by its code, if they differ.
        zone_column: the category that names the table of an event, for `zones` and `holidays_of`.
        holidays: public holidays in local time, as increasing days since 1970.
        holidays_of: with several tables, the holidays of each that has its own, by its code.
    """

    daily: bool
    span_days: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    gap_center: Finite
    gap_scale: AboveZero
    end_us: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    time_zone: TimeZone | None = None
    zones: dict[Annotated[int, Field(ge=FIRST, lt=1_000)], TimeZone] = {}
    zone_column: str | None = None
    holidays: tuple[int, ...] = ()
    holidays_of: dict[Annotated[int, Field(ge=FIRST, lt=1_000)], tuple[int, ...]] = {}

    @model_serializer(mode="wrap")
    def _dump(self, dump: Any) -> dict[str, Any]:
        return dump_without(
            dump, self, "time_zone", "zones", "zone_column", "holidays", "holidays_of"
        )

    @field_validator("holidays")
    @classmethod
    def _increase(cls, days: tuple[int, ...]) -> tuple[int, ...]:
        increase = all(day < later for day, later in pairwise(days))
        if not increase or any(abs(day) > _FARTHEST_DAY for day in days):
            raise ValueError("holidays are not increasing days")
        return days

    @field_validator("holidays_of")
    @classmethod
    def _each_increase(cls, own: dict[int, tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
        return {code: cls._increase(days) for code, days in own.items()}


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
        kinds: another kind -> its columns -> what was fitted of each.
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
    kinds: dict[str, dict[str, SerializeAsAny[Fitted]]] = {}
    time: TimeScale
    source: str | None = None
    sources: dict[str, SourceColumns] = {}

    @model_serializer(mode="wrap")
    def _dump(self, dump: Any) -> dict[str, Any]:
        return dump_without(dump, self, "kinds", "source", "sources")

    @field_validator("kinds", mode="before")
    @classmethod
    def _fitted_by_kind(cls, given: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        unknown = sorted({*given} - {*KINDS})
        if unknown:
            raise ValueError(f"this version has no columns of the kind {unknown[0]}")
        return {
            role: {c: KINDS[role].fitted.model_validate(fitted) for c, fitted in columns.items()}
            for role, columns in given.items()
        }

    @model_validator(mode="after")
    def _sources_have_codes(self) -> Vocabulary:
        codes = None if self.source is None else self.categorical.get(self.source)
        if set(self.sources) != set(codes.values if codes else ()):
            raise ValueError("the sources are not the values of the column that names them")
        known = {*self.features}
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
    def _zones_are_of_tables(self) -> Vocabulary:
        own = self.time.zones or self.time.holidays_of
        if self.time.zone_column != (self.source if own else None):
            raise ValueError("time zones or holidays of other tables than the vocabulary's")
        return self

    @model_validator(mode="after")
    def _scales_have_their_codes(self) -> Vocabulary:
        for name, scales in self.numeric.items():
            codes = self.categorical[scales.by].size if scales.by in self.categorical else 0
            if scales.by is not None and len(scales.within) != codes:
                raise ValueError(
                    f"{name} has {len(scales.within)} scales for {count_words(codes, 'code')} of "
                    f"{scales.by}"
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
        kinds = {name: role for role, of in self.kinds.items() for name in of}
        if (*names, kinds, columns, self.source) != (
            schema.categorical, schema.numeric, schema.numeric_by, schema.kinds, sources,
            schema.source,
        ):  # fmt: skip
            raise ValueError("the vocabulary was fitted on other columns than the schema names")

    def fingerprint(self) -> str:
        """Return a digest that identifies the vocabulary."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @property
    def features(self) -> dict[str, Fitted]:
        """Column -> what was fitted."""
        return {name: one for columns in self.by_kind.values() for name, one in columns.items()}

    @property
    def by_kind(self) -> dict[ColumnKind[Any], dict[str, Any]]:
        """Kind -> its columns, of the kinds that there are."""
        given: dict[str, dict[str, Any]] = {**self.kinds}
        given |= {"categorical": {**self.categorical}, "numeric": {**self.numeric}}
        return {kind: given[role] for role, kind in KINDS.items() if given.get(role)}

    @property
    def texts(self) -> dict[str, CategoryCodes | None]:
        """The columns whose text is kept when events are read, with codes if they have any."""
        others = (name for columns in self.kinds.values() for name in columns)
        return {**self.categorical, **dict.fromkeys(others)}

    def describe(self) -> dict[str, Any]:
        """Return column -> a short description for people."""
        return {
            name: kind.about(fitted)
            for kind, columns in self.by_kind.items()
            for name, fitted in columns.items()
        }
