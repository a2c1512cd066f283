"""Encode the events of one client, given as Python values, without a query engine.

It gives what `encode` gives for a table of the same values, for the types that services exchange:
text, whole numbers, floats, booleans and null; and for times also `datetime`, `date` and numpy's
datetimes. Other values raise `NotPlainError`: they are left to `encode`, which also reports what
is wrong with them.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from seqmel.core.progress import EventsWarning
from seqmel.data.kinds.registry import kind_of
from seqmel.data.schema import EventSchema, StatedZone
from seqmel.data.sources.checking import FARTHEST_US, MICROS_PER_UNIT
from seqmel.data.sources.times import zone_words
from seqmel.data.vocabulary import CLIP, FIRST, NULL, UNSEEN, NumericScales, Vocabulary

__all__ = ["EncodedValues", "NotPlainError", "ValueEncoding"]

_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d)(:\d\d)?(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?", re.ASCII
)
_PLAIN_ISO = re.compile(r"[1-9]\d{3}-\d\d-\d\d([ T]\d\d:\d\d:\d\d(\.\d{1,6})?)?", re.ASCII)
_FORMAT = re.compile(r"(%[dmYHMS]|[^%A-Za-z0-9])+")
_ZONE = re.compile(r"(Z|[+-]\d\d:?\d\d)$", re.ASCII)
_EPOCH = dt.datetime(1970, 1, 1)
_MICROSECOND = dt.timedelta(microseconds=1)
_NONE = type(None)
_WHOLE = 1e15
"""Floats from here on are written with an exponent."""

_Numbers: TypeAlias = npt.NDArray[np.float64]


class NotPlainError(Exception):
    """Some values have a type or a form that only `encode` understands."""


@dataclass(frozen=True)
class EncodedValues:
    """The encoded events of one client, sorted by time.

    Attributes:
        time: (E,) int64, microseconds.
        columns: feature -> (E,) int32 codes or float32 scaled numbers.
    """

    time: npt.NDArray[np.int64]
    columns: dict[str, npt.NDArray[Any]]


class ValueEncoding:
    """Encodes values with a vocabulary. The look-up tables are built once.

    Args:
        schema: the role of each column.
        vocabulary: fitted in training.
    """

    def __init__(self, schema: EventSchema, vocabulary: Vocabulary) -> None:
        self.schema = schema
        self._warned_of_zone = False
        self._known = {
            name: {None: codes.null_code} | {text: FIRST + i for i, text in enumerate(codes.values)}
            for name, codes in vocabulary.categorical.items()
        }
        self._whole = {name: _whole_numbers(known) for name, known in self._known.items()}
        self._scales = {name: _scales_of(s) for name, s in vocabulary.numeric.items()}
        self._others = {name: vocabulary.features[name] for name in schema.kinds}
        self._by = {name: scales.by for name, scales in vocabulary.numeric.items()}
        self._tables = {
            name: ValueEncoding(schema.of_source(name), _of_source(vocabulary, schema, name))
            for name in schema.sources
        }

    def encode(self, events: Any) -> EncodedValues:
        """Encode the events of one client.

        Args:
            events: dictionaries, one per event; or a pandas DataFrame or a dictionary of lists,
                one row per event. For several tables, name -> events; a table may be missing.

        Returns:
            The events, sorted by time. Events at the same time keep their order, and that of the
            tables.

        Raises:
            NotPlainError: a column is missing or of another kind, or some values are not plain.
        """
        schema = self.schema
        if self._tables:
            return self._encode_tables(events)
        read = self.read(events)
        time = self._micros(read[schema.time])
        columns: dict[str, npt.NDArray[Any]] = {
            name: self.codes(name, read[name]) for name in schema.categorical
        }
        for name in schema.numeric:
            by = self._by[name]
            columns[name] = self._scaled(name, read[name], None if by is None else columns[by])
        for name, fitted in self._others.items():
            encoded = kind_of(schema, name).encode_values(fitted, read[name])
            if encoded is None:  # only SQL says what these values become
                raise NotPlainError
            columns[name] = encoded
        return _sorted(time, columns)

    def _encode_tables(self, events: Any) -> EncodedValues:
        """Encode the events of each table, and merge them."""
        schema = self.schema
        parts = []
        for name, given in self.tables(events):
            encoding = self._tables[name]
            encoded = encoding.encode(given)
            names = schema.sources[name].columns
            found = {names[own]: values for own, values in encoded.columns.items()}
            absent = [column for column in schema.features if column not in found]
            parts.append((encoded.time, found | self._absent(absent, name, len(encoded.time))))
        columns = {
            column: np.concatenate([found[column] for _, found in parts])
            for column in schema.features
        }
        return _sorted(np.concatenate([time for time, _ in parts]), columns)

    def tables(self, events: Any) -> list[tuple[str, Any]]:
        """Return the events of each of several tables, in the order of the model.

        Args:
            events: see `encode`.

        Raises:
            NotPlainError: there is another table, or the tables are of several clients.
        """
        if not isinstance(events, Mapping) or not set(events) <= set(self._tables):
            raise NotPlainError
        found = [(name, events.get(name, [])) for name in self._tables]
        clients = set[Any]()
        for name, given in found:
            column = self._tables[name].schema.client
            if isinstance(given, (pd.DataFrame, Mapping)):
                clients |= set(given[column]) if column in given else set()
            elif isinstance(given, Sequence):
                clients |= {one.get(column) for one in given if isinstance(one, Mapping)}
        if len(clients - {None}) > 1:
            raise NotPlainError
        return found

    def _absent(self, columns: Sequence[str], name: str, size: int) -> dict[str, npt.NDArray[Any]]:
        """Return what `encode` gives for columns that the events of a table do not have."""
        found: dict[str, npt.NDArray[Any]] = {}
        for column in columns:
            if column == self.schema.source:
                found[column] = np.full(size, self._known[column][name], np.int32)
            elif column in self._known:
                found[column] = np.full(size, NULL, np.int32)
            elif column in self._scales:
                found[column] = np.full(size, np.nan, np.float32)
            else:
                kind = kind_of(self.schema, column)
                values = kind.encode_values(self._others[column], [None] * size)
                if values is None:
                    raise NotPlainError
                found[column] = values
        return found

    def read(self, events: Any) -> dict[str, Any]:
        """Return the columns of the schema but the client, a list or an array of E values each.

        Args:
            events: see `encode`.

        Raises:
            NotPlainError: a column is missing or not plain, or the events have several clients.
        """
        names = (self.schema.time, *self.schema.features)
        try:
            if isinstance(events, pd.DataFrame):
                if self.schema.client in events and events[self.schema.client].nunique() > 1:
                    raise NotPlainError
                self._warn_of_zone(events[self.schema.time])
                return {name: _of_series(events[name]) for name in names}
            if isinstance(events, Mapping) and _is_single(events[self.schema.time]):
                events = [events]
            if isinstance(events, Mapping):
                found = {name: list(events[name]) for name in names}
                clients = events.get(self.schema.client, ())
                size = len(found[names[0]])
                if any(len(values) != size for values in found.values()):
                    raise NotPlainError
            elif isinstance(events, Sequence) and not isinstance(events, (str, bytes)):
                found = {name: [event[name] for event in events] for name in names}
                clients = [event.get(self.schema.client) for event in events]
            else:
                raise NotPlainError
            if isinstance(clients, (str, bytes)) or len(set(clients)) > 1:
                raise NotPlainError
            return found
        except (KeyError, TypeError, AttributeError):
            raise NotPlainError from None

    def unseen(self, events: Any) -> dict[str, list[Any]]:
        """Return the values of categories that have no code of their own.

        Args:
            events: see `encode`.

        Returns:
            Column -> its values without a code, each once; columns without any are left out.

        Raises:
            NotPlainError: see `encode`.
        """
        found: dict[str, list[Any]] = {}
        if self._tables:
            for table, given in self.tables(events):
                for own, values in self._tables[table].unseen(given).items():
                    joint = self.schema.sources[table].columns[own]
                    found[joint] = list(dict.fromkeys([*found.get(joint, []), *values]))
            return found
        read = self.read(events)
        for name in self.schema.categorical:
            codes = self.codes(name, read[name])
            values = [read[name][i] for i in np.flatnonzero(codes == UNSEEN).tolist()]
            found[name] = list(dict.fromkeys(v for v in values if v is not None and v == v))
        return {name: values for name, values in found.items() if values}

    def codes(self, name: str, values: Sequence[Any]) -> npt.NDArray[np.int32]:
        """Return (E,) int32 codes of the values of a category.

        Args:
            name: the column.
            values: E values.

        Raises:
            NotPlainError: some values are not plain.
        """
        kinds = set(map(type, values))
        known: dict[Any, int] = self._known[name]
        if kinds <= {int, _NONE}:
            known = self._whole[name]
        elif not kinds <= {str, _NONE}:
            values = [_text(value) for value in values]
        return np.fromiter(map(known.get, values, repeat(UNSEEN)), np.int32, len(values))

    def _scaled(
        self, name: str, values: Any, codes: npt.NDArray[np.int32] | None
    ) -> npt.NDArray[np.float32]:
        """Return (E,) float32 scaled numbers. `codes` are those of the category they depend on."""
        x = values if isinstance(values, np.ndarray) else _numbers(values, self.schema.decimal)
        unit, center, scale = self._scales[name]
        if codes is not None:
            unit = unit[codes]
            center = center[codes]
            scale = scale[codes]
        with np.errstate(over="ignore", invalid="ignore"):
            log = np.sign(x) * np.log(1 + np.abs(x) / unit)
            z = (np.where(np.isnan(unit), x, log) - center) / scale
        return np.clip(z, -CLIP, CLIP).astype(np.float32)

    def _warn_of_zone(self, times: Any) -> None:
        """Warn if times state a zone and those of training did not, or the reverse."""
        before = self.schema.stated_zone
        if before is None or self._warned_of_zone:
            return
        if isinstance(times, pd.Series):
            kind = times.dtype
            zoned = {isinstance(kind, pd.DatetimeTZDtype)} if kind.kind == "M" else set()
        else:
            # a zone is in the last six characters, and most times of a client share them
            ends = {time[-6:] for time in times if isinstance(time, str) and ":" in time}
            zoned = {_ZONE.search(end) is not None for end in ends} | {
                time.tzinfo is not None for time in times if isinstance(time, dt.datetime)
            }
        if zoned:  # as of a table, one with a zone counts
            found: StatedZone = "present" if any(zoned) else "absent"
            words = zone_words(found, before, repr(self.schema.time))
            if words is not None:
                self._warned_of_zone = True  # once, not at each call
                warnings.warn(words, EventsWarning, stacklevel=6)

    def _micros(self, values: Any) -> npt.NDArray[np.int64]:
        """Return (E,) int64 microseconds."""
        if isinstance(values, np.ndarray):
            if values.dtype.kind != "M" or self.schema.time_unit != "timestamp":
                raise NotPlainError
            found = values.astype("datetime64[us]").astype(np.int64)
        elif self.schema.time_unit == "timestamp":
            form = self.schema.time_format
            if form is not None and not _FORMAT.fullmatch(form):
                form = ""  # only `encode` reads such text
            found = _micros_together(values, form)
            self._warn_of_zone(values)
        else:
            unit = MICROS_PER_UNIT[self.schema.time_unit]
            if unit < 1 or not set(map(type, values)) <= {int}:
                raise NotPlainError
            moments = [value * int(unit) for value in values]
            if any(abs(moment) > FARTHEST_US for moment in moments):
                raise NotPlainError
            found = np.array(moments, np.int64)
        if len(found) and bool((np.abs(found) > FARTHEST_US).any() or (found == -(2**63)).any()):
            raise NotPlainError
        return found


def _sorted(time: npt.NDArray[np.int64], columns: dict[str, npt.NDArray[Any]]) -> EncodedValues:
    """Return the events in the order of time; those at the same time keep their order."""
    if len(time) > 1 and bool((time[1:] < time[:-1]).any()):
        order = np.argsort(time, kind="stable")
        time = time[order]
        columns = {name: values[order] for name, values in columns.items()}
    return EncodedValues(time, columns)


def _of_source(vocabulary: Vocabulary, schema: EventSchema, name: str) -> Vocabulary:
    """Return the vocabulary of one of several tables, with its own names of columns."""
    names = schema.sources[name].columns
    own = {joint: column for column, joint in names.items()}
    numeric = {
        own[joint]: scales.model_copy(update={"by": own.get(scales.by or "")})
        for joint, scales in vocabulary.numeric.items()
        if joint in own
    }
    return Vocabulary(
        categorical={own[j]: codes for j, codes in vocabulary.categorical.items() if j in own},
        numeric=numeric,
        kinds={
            role: {own[joint]: fitted for joint, fitted in columns.items() if joint in own}
            for role, columns in vocabulary.kinds.items()
        },
        time=vocabulary.time.model_copy(
            update={"zones": {}, "zone_column": None, "holidays_of": {}}
        ),
    )


def _is_single(value: Any) -> bool:
    """Return whether this is the value of one event rather than a column."""
    return not hasattr(value, "__len__") or isinstance(value, (str, bytes))


def _whole_numbers(known: Mapping[Any, int]) -> dict[Any, int]:
    """Return the codes of the texts of whole numbers, by number, without texts such as "05"."""
    found: dict[Any, int] = {None: known[None]}
    for text, code in known.items():
        if text is not None and _NUMBER.fullmatch(text) and text.lstrip("-").isdigit():
            number = int(text) if len(text) < 100 else None
            if str(number) == text:
                found[number] = code
    return found


def _scales_of(scales: NumericScales) -> tuple[_Numbers, ...]:
    """Return log unit (NaN if none), center and scale: (K,) for K codes, or scalars."""
    if scales.by is None:
        one = scales.overall
        return np.array(one.log_unit or np.nan), np.array(one.center), np.array(one.scale)
    rows = scales.rows
    return (
        np.array([row.log_unit or np.nan for row in rows]),
        np.array([row.center for row in rows]),
        np.array([row.scale for row in rows]),
    )


def _of_series(column: pd.Series[Any]) -> Any:
    """Return an array of times or numbers, or a list of Python values."""
    kind = column.dtype
    if isinstance(kind, pd.DatetimeTZDtype):
        return column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
    if isinstance(kind, np.dtype) and kind.kind == "M":
        return column.to_numpy()
    if isinstance(kind, np.dtype) and kind.kind in "iufb" and kind != np.float16:
        if kind == np.float32:  # its text is shorter than that of a double
            return [np.float32(x) for x in column.to_numpy()]
        return column.tolist()
    if isinstance(column, pd.Series):
        return column.tolist()
    raise NotPlainError  # two columns of one name


def _text(value: Any) -> str | None:
    """Return the text of a category, as `category_text` does."""
    kind = type(value)
    if kind is str or value is None:
        return None if value is None else str(value)
    if kind is int or isinstance(value, np.integer):
        return str(int(value))
    if kind is bool or kind is np.bool_:
        return "true" if value else "false"
    if kind is float or kind is np.float64 or (kind is np.float32 and value == np.trunc(value)):
        number = float(value)
        if math.isnan(number):
            return None
        whole = abs(number) < _WHOLE and number == math.trunc(number)
        return str(int(number)) if whole else repr(number)
    if value is pd.NA:
        return None
    raise NotPlainError


def _numbers(values: Sequence[Any], decimal: str) -> _Numbers:
    kinds = set(map(type, values))
    if kinds <= {float, int, np.float32}:
        return np.array(values, np.float64)
    return np.array([_number(value, decimal) for value in values], np.float64)


def _number(value: Any, decimal: str) -> float:
    if value is None or value is pd.NA:
        return math.nan
    if isinstance(value, (float, int, np.integer, np.floating, np.bool_)):
        return float(value)
    if type(value) is str and decimal == "." and _NUMBER.fullmatch(value):
        return float(value)
    raise NotPlainError


def _micros_together(values: Sequence[Any], form: str | None) -> npt.NDArray[np.int64]:
    """Return (E,) microseconds of times, together where numpy understands all of them."""
    kinds = set(map(type, values))
    if kinds <= {dt.datetime, pd.Timestamp} and {value.tzinfo for value in values} <= {None}:
        if kinds == {dt.datetime}:  # numpy takes six times as long
            return np.array([(value - _EPOCH) // _MICROSECOND for value in values], np.int64)
        moments = [np.datetime64(v) if type(v) is dt.datetime else v.asm8 for v in values]
        return np.array(moments, "datetime64[us]").astype(np.int64)
    if kinds == {str} and form is None and all(map(_PLAIN_ISO.fullmatch, values)):
        try:
            return np.array(values, "datetime64[us]").astype(np.int64)
        except ValueError:  # the 31st of February
            raise NotPlainError from None
    return np.array([_moment(value, form) for value in values], np.int64)


def _moment(value: Any, form: str | None) -> int:
    """Return the microseconds of a time.

    Args:
        value: a timestamp or date, or text.
        form: the format of text that is not ISO 8601; None if there is none, "" if unknown here.
    """
    if value is pd.NaT:
        raise NotPlainError
    if isinstance(value, pd.Timestamp):
        return int(value.value // 1000) if value.unit == "ns" else _micros_of(value)
    if isinstance(value, dt.datetime):
        return _micros_of(value)
    if isinstance(value, np.datetime64):
        return int(value.astype("datetime64[us]").astype(np.int64))
    if isinstance(value, dt.date):
        return _micros_of(dt.datetime(value.year, value.month, value.day))
    if type(value) is not str or form == "":
        raise NotPlainError
    iso = _ISO.fullmatch(value)
    try:
        if iso is not None and form is None:
            day, clock, second, fraction, zone = iso.groups(default="")
            text = f"{day}T{clock or '00:00'}{second or ':00'}{(fraction or '.').ljust(7, '0')}"
            if (zone and not clock) or (fraction and not second) or day < "0100":
                raise NotPlainError
            return _micros_of(dt.datetime.fromisoformat(text + zone.replace("Z", "+00:00")))
        if form is not None and value[:1].isdigit() and value[-1:].isdigit():
            return _micros_of(dt.datetime.strptime(value, form))
    except ValueError:
        pass
    raise NotPlainError


def _micros_of(moment: dt.datetime) -> int:
    if moment.tzinfo is not None:
        moment = moment.astimezone(dt.timezone.utc).replace(tzinfo=None)
    return (moment - _EPOCH) // _MICROSECOND
