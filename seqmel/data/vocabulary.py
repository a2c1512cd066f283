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

from pydantic import BaseModel, ConfigDict, Field, model_validator

from seqmel.data.schema import EventSchema

__all__ = [
    "NULL",
    "UNSEEN",
    "CategoryCodes",
    "NumericScale",
    "NumericScales",
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


class Vocabulary(_Data):
    """Everything that was fitted on the training events.

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
        if names != (schema.categorical, schema.numeric, schema.numeric_by):
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
