"""Infer the roles of the columns of events: categorical, numeric, or left out."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from seqmel.core.errors import SchemaError, did_you_mean, shown
from seqmel.core.units import count_words
from seqmel.data.fitting.category_scaling import infer_within
from seqmel.data.fitting.column_order import OrderEvidence, order_evidence, read_sample
from seqmel.data.kinds.registry import KINDS
from seqmel.data.schema import (
    AN_ID,
    AS_ASKED,
    NOT_NAMED,
    UNNAMED_INDEX,
    EventSchema,
    Role,
    SourceOptions,
    TimeFormat,
    TimeUnit,
    recognise_client,
    recognise_time,
)
from seqmel.data.sources.source import (
    EventSource,
    ident,
    is_integer,
    is_real,
    literal,
    type_in_words,
)
from seqmel.data.sources.times import (
    DATE_TEXT,
    DAY_OR_MONTH_FIRST,
    ISO_DATE,
    infer_time_format,
    stated_zone,
    text_time_sql,
)

__all__ = ["ColumnFacts", "explain_schema", "find_time", "infer_schema", "infer_times"]

_SCAN_ROWS = 2_000_000
_ID_SHARE = 0.9  # A column is an id if this fraction of its values belongs to one client each.
# Maximum number of values of a category within which numbers are scaled.
_WITHIN_CATEGORIES = 1_000
_LOOKED_AT = 10_000
_MOST_FILES = 64  # Maximum number of files opened to check that they are of one table.
_FIRST_ROWS = 1_000
# Whole numbers within these bounds may be dates. As counts of a unit they would lie in the 1970s.
_DATES_AS_NUMBERS: tuple[tuple[int, int, str], ...] = (
    (1_900, 2_100, "%Y"),
    (190_001, 210_053, "%Y%m"),
    (19_000_101, 21_001_231, "%Y%m%d"),
    (190_001_010_000, 210_012_312_359, "%Y%m%d%H%M"),
    (19_000_101_000_000, 21_001_231_235_959, "%Y%m%d%H%M%S"),
)
_UNITS: tuple[tuple[float, TimeUnit, float], ...] = (
    (1e5, "day", 1.0),
    (1e11, "second", 1 / 86_400),
    (1e14, "millisecond", 1e-3 / 86_400),
    (1e17, "microsecond", 1e-6 / 86_400),
    (math.inf, "nanosecond", 1e-9 / 86_400),
)
"""(bound, unit, days per unit): times below the bound in absolute value have this unit."""
_LAST_DAY = 47_482  # 2100-01-01, in days since 1970
_FREE_TEXT_VALUES = 200
_MISSING = -1  # A frequent mark of missing codes.
_FEW = 9  # With so few distinct values, there are too few neighbours.
_FEWEST = 5  # Fewer values are in order by chance too often.
_MANY = 200
_RANKED = 0.93
# With this many distinct texts that are all numbers, some with fractions, they are amounts.
_DECIMALS_AS_TEXT = 100
_CODE_WORDS = set(
    (
        "code mcc type kind group category categorie class channel currency id terminal store "
        "shop dept segment status"
    ).split()
)
_NUMBER_WORDS = set(
    "amount amt sum qty quantity price cost value balance count cnt age duration total rur rub "
    "usd eur gbp fee tax discount rate ratio share percent pct score points steps size length "
    "width height weight distance speed temperature temp volume bytes kb mb km kg cents minutes "
    "seconds hours days items units".split()
)
_CODE = re.compile(r"(code|mcc|type|category|currency|terminal|status|[a-z]{4}id)s?$")
_NUMBER = re.compile(r"(amount|quantity|price|cost|balance|duration)s?$")
_NUMBERS = (
    "bool_and(regexp_full_match({0}, '[-+]?([0-9]+|[0-9]{{1,3}}([ .,][0-9]{{3}})+)([.,][0-9]+)?'))"
)
_DECIMALS = _NUMBERS + " AND bool_or({0} SIMILAR TO '.*[.,].*')"


@dataclass(frozen=True)
class ColumnFacts:
    """Facts of one scan about a column, such as the number of values and of distinct values."""

    kind: str
    known: int
    rows: int
    distinct: int
    pairs: int
    low: str | None
    high: str | None
    words: float
    whole: bool
    decimals: bool
    comma: str | None
    dates: bool

    @property
    def text(self) -> bool:
        """Whether the values are text."""
        return self.kind.startswith(("VARCHAR", "ENUM", "UUID"))

    @property
    def comparable(self) -> bool:
        """Whether the values can be compared as categories or numbers."""
        return self.text or self.integer or self.real or self.kind == "BOOLEAN"

    @property
    def integer(self) -> bool:
        """Whether the values are integers."""
        return is_integer(self.kind)

    @property
    def real(self) -> bool:
        """Whether the values are floats or decimals."""
        return is_real(self.kind)


def infer_schema(source: EventSource, options: SourceOptions | None = None) -> EventSchema:
    """Infer the roles of the columns that the user did not set.

    Args:
        source: opened events.
        options: the roles that the user set; the others are inferred from names, types and values.

    Returns:
        The role of each column, and the reasons why others are left out.

    Raises:
        SchemaError: a named column is missing, has the wrong type or only nulls, or no feature is
            left.

    Examples:
        >>> import seqmel
        >>> schema = seqmel.infer_schema(seqmel.open_events(seqmel.generate_card_data(3).events))
        >>> schema.time_unit, schema.numeric
        ('timestamp', ('amount',))
    """
    return explain_schema(source, options)[0]


def explain_schema(
    source: EventSource, options: SourceOptions | None = None
) -> tuple[EventSchema, dict[str, str]]:
    """Return the schema of `infer_schema`, and feature -> why it is a category or a number.

    Args:
        source: opened events.
        options: as for `infer_schema`.

    Raises:
        SchemaError: see `infer_schema`.
    """
    options = options or SourceOptions()
    client, time = _client_and_time(source, options)
    given = _given(source, options, client, time)
    open_columns = [
        c for c in source.columns if c not in given and c not in (client, time, *options.ignore)
    ]
    left_out = {c: why for c, why in source.left_out.items() if c not in given}
    left_out |= {
        c: "an index that pandas wrote" for c in open_columns if UNNAMED_INDEX.fullmatch(c)
    }
    left_out |= {c: AS_ASKED for c in options.ignore if c in source.columns}
    if not options.is_open("categorical") and not options.is_open("numeric"):
        left_out |= {c: NOT_NAMED for c in open_columns if c not in left_out}
    open_columns = [c for c in open_columns if c not in left_out]
    seen = _seen(source, [*given])
    for column in given:
        _check_given(source, column, given[column], seen)
    # To infer within which category a number is scaled.
    counted = given if options.numeric_by is None else {}
    lists = {c: _list_role(source, c) for c in open_columns if source.columns[c].endswith("]")}
    facts = _facts(source, client, [c for c in (*counted, *open_columns) if c not in lists])
    reasons = dict.fromkeys(given, "as asked")
    evidence = _evidence(source, client, facts)
    for column in open_columns:
        role, why = lists.get(column) or _infer_role(column, facts[column], evidence.get(column))
        named: Role = "numeric" if role in ("numeric", "vector") else "categorical"
        if role is not None and options.is_open(named):
            given[column], reasons[column] = role, why
        else:
            left_out[column] = f"not among the {named} columns named" if role else why
    categorical = tuple(c for c in source.columns if given.get(c) == "categorical")
    numeric = tuple(c for c in source.columns if given.get(c) == "numeric")
    kinds = {c: given[c] for c in source.columns if c in given and c not in categorical + numeric}
    if not categorical and not numeric and not kinds:
        why = "; ".join(f"{c}: {w}" for c, w in left_out.items())
        raise SchemaError(
            f"No column of {source.label} is left to learn from "
            f"({why or 'only client and time are there'}). Name columns in schema.categorical or "
            "schema.numeric."
        )
    numeric_by = options.numeric_by
    if numeric_by is None:
        within = [
            c for c in categorical
            if facts[c].distinct <= _WITHIN_CATEGORIES
            and not (c in evidence and _is_number(c, facts[c], evidence[c])[0])
        ]  # fmt: skip
        numeric_by = infer_within(
            source, within, [n for n in numeric if facts[n].low != facts[n].high]
        )
    unit, time_format = _infer_kind_of_time(source, time, options)
    schema = EventSchema(
        client=client,
        time=time,
        time_unit=unit,
        time_format=time_format,
        time_zone=options.time_zone,
        decimal=options.decimal or source.decimal,
        categorical=categorical,
        numeric=numeric,
        numeric_by=numeric_by,
        kinds=kinds,
        left_out=left_out,
    )
    schema = schema.model_copy(update={"stated_zone": stated_zone(source, schema)})
    return schema, {c: reasons[c] for c in schema.features}


def infer_times(source: EventSource, options: SourceOptions | None = None) -> EventSchema:
    """Infer the client column, the time column and how times are written, and no features.

    Args:
        source: opened events.
        options: what the user set.

    Raises:
        SchemaError: see `infer_schema`.
    """
    options = options or SourceOptions()
    client, time = _client_and_time(source, options)
    unit, time_format = _infer_kind_of_time(source, time, options)
    return EventSchema(client=client, time=time, time_unit=unit, time_format=time_format)


def _client_and_time(source: EventSource, options: SourceOptions) -> tuple[str, str]:
    client = options.client or source.client or recognise_client(source.columns, source.label)
    time = options.time or source.time or find_time(source)
    source.require(client, "Name the client column with --client (schema.client).")
    source.require(time, "Name the time column with --time (schema.time).")
    if client == time:
        raise SchemaError(
            f"Client and time are the same column, {client!r}, in {source.label}. Name two columns."
        )
    return client, time


def find_time(source: EventSource) -> str:
    """Return the time column: by type or name, else the only text column of timestamps only.

    Args:
        source: opened events.

    Raises:
        SchemaError: there is none, or more than one.
    """
    try:
        return recognise_time(source.columns, source.label)
    except SchemaError:
        _check_one_table(source)
        texts = [column for column, kind in source.columns.items() if kind == "VARCHAR"]
        dated = [column for column in texts if _is_time(source, column)]
        if len(dated) > 1:
            raise SchemaError(
                f"Several columns of {source.label} hold times: {shown(dated)}. Name one with "
                "--time (schema.time)."
            ) from None
        if not dated:
            raise
        return dated[0]


def _check_one_table(source: EventSource) -> None:
    """Check that all files have the same columns.

    Raises:
        SchemaError: two files have different columns, and may be two tables.
    """
    first, *others = (
        (set(source.columns_of(file)) for file in source.files[:_MOST_FILES])
        if source.files
        else [set()]
    )
    other = next((i for i, names in enumerate(others, 1) if names != first), None)
    if other is not None:
        apart = [
            (source.files[0], first - others[other - 1]),
            (source.files[other], others[other - 1] - first),
        ]
        alone = " and ".join(
            f"{file} alone has {shown(sorted(names)) or 'nothing'}" for file, names in apart
        )
        raise SchemaError(
            f"The files of {source.label} have different columns: {alone}. Name the files of one "
            "table, or the time with --time (schema.time)."
        )


def _is_time(source: EventSource, column: str) -> bool:
    name = ident(column)
    known, iso, other = source.row(
        f"SELECT count({name}), count(*) FILTER (regexp_matches({name}, {literal(ISO_DATE)}) AND "
        f"{text_time_sql(name, None)} IS NOT NULL), count(*) FILTER (regexp_matches({name}, "
        f"{literal(DAY_OR_MONTH_FIRST)})) FROM (SELECT {name} FROM events LIMIT {_LOOKED_AT})"
    )
    return bool(known and known in (iso, other))


def _given(source: EventSource, options: SourceOptions, client: str, time: str) -> dict[str, str]:
    roles: dict[str, str] = {}
    kinds = options.kinds or {}
    named = [(name, "categorical", "categorical") for name in options.named("categorical")]
    named += [(name, "numeric", "numeric") for name in options.named("numeric")]
    named += [(name, kind, "kinds") for name, kind in kinds.items()]
    for name, role, option in named:
        source.require(name, f"Mend schema.{option}.")
        if role not in KINDS:
            raise SchemaError(
                f"schema.kinds gives column {name!r} the kind {role!r}, which there is not."
                f"{did_you_mean(role, KINDS)} There are: {shown(KINDS)}."
            )
        if roles.setdefault(name, role) != role:
            raise SchemaError(
                f"Column {name!r} is named as {roles[name]} and as {role}. Name it once."
            )
    for number, kind in (options.numeric_by or {}).items():
        source.require(number, "Mend schema.numeric_by.")
        source.require(kind, "Mend schema.numeric_by.")
        if (
            roles.setdefault(number, "numeric") != "numeric"
            or roles.setdefault(kind, "categorical") != "categorical"
        ):
            raise SchemaError(
                f"schema.numeric_by wants {{numeric: categorical}}; {{{number}: {kind}}} is not "
                "that."
            )
    for name, role in roles.items():
        if name in (client, time):
            raise SchemaError(
                f"Column {name!r} is the client or the time and cannot be {role} too. Name it once."
            )
        if name in options.ignore:
            raise SchemaError(
                f"Column {name!r} is named as {role} and in schema.ignore. Name it once."
            )
    return roles


def _seen(source: EventSource, columns: list[str]) -> set[str]:
    """Return the columns that have a value in the first rows, in one query."""
    if not columns:
        return set()
    names = [ident(column) for column in columns]
    counts = source.row(
        f"SELECT {', '.join(f'count({name})' for name in names)}"
        f" FROM (SELECT {', '.join(names)} FROM events LIMIT {_FIRST_ROWS})"
    )
    return {column for column, count in zip(columns, counts, strict=True) if count}


def _check_given(source: EventSource, column: str, role: str, seen: set[str]) -> None:
    if column not in seen and not source.rows(
        f"SELECT 1 FROM events WHERE {ident(column)} IS NOT NULL LIMIT 1"
    ):
        option = role if role in ("categorical", "numeric") else "kinds"
        raise SchemaError(
            f"Column {column!r} of {source.label} holds only nulls. Leave it out of "
            f"schema.{option}."
        )
    KINDS[role].check_given(source, column)


def _facts(source: EventSource, client: str, columns: list[str]) -> dict[str, ColumnFacts]:
    """Scan the first rows of all columns once.

    Slow statistics are computed only for columns with an open role.
    """
    if not columns:
        return {}
    numbers, dates = _like_numbers_and_dates(
        source, [c for c in columns if source.columns[c] == "VARCHAR"]
    )
    parts = []
    for column in columns:
        name = ident(column)
        kind = source.columns[column]
        parts += [
            f"count({name})",
            f"approx_count_distinct({name})",
            f"approx_count_distinct(hash({ident(client)}, {name}))",
            f"min({name})::VARCHAR",
            f"max({name})::VARCHAR",
            f"avg(length({name}) - length(replace({name}, ' ', '')) + 1)"
            if kind == "VARCHAR"
            else "0.0",
            f"bool_and({name} = trunc({name}))" if is_real(kind) else "true",
            _DECIMALS.format(name) if column in numbers else "false",
            f"min({name}) FILTER (contains({name}, ','))" if kind == "VARCHAR" else "NULL",
            f"bool_and(regexp_matches({name}, {literal(DATE_TEXT)}))"
            if column in dates
            else "false",
        ]
    rows, *found = source.row(
        f"SELECT count(*), {', '.join(parts)} FROM (SELECT * FROM events LIMIT {_SCAN_ROWS})"
    )
    facts = {}
    for column in columns:
        known, distinct, pairs, low, high, words, whole, decimals, comma, dated = found[:10]
        del found[:10]
        facts[column] = ColumnFacts(
            source.columns[column],
            known,
            rows,
            distinct,
            pairs,
            low,
            high,
            words or 0.0,
            whole,
            bool(decimals),
            comma,
            bool(dated),
        )
    return facts


def _like_numbers_and_dates(source: EventSource, texts: list[str]) -> tuple[set[str], set[str]]:
    """Return the text columns that hold only numbers, and only dates, in the first rows."""
    if not texts:
        return set(), set()
    parts = [_NUMBERS.format(ident(c)) for c in texts]
    parts += [f"bool_and(regexp_matches({ident(c)}, {literal(DATE_TEXT)}))" for c in texts]
    found = source.row(f"SELECT {', '.join(parts)} FROM (SELECT * FROM events LIMIT {_LOOKED_AT})")
    numbers, dates = found[: len(texts)], found[len(texts) :]  # None if there are only nulls.
    open_for = [
        {c for c, all_are in zip(texts, alike, strict=True) if all_are is not False}
        for alike in (numbers, dates)
    ]
    return open_for[0], open_for[1]


def _evidence(
    source: EventSource, client: str, facts: dict[str, ColumnFacts]
) -> dict[str, OrderEvidence]:
    """Return the evidence about the order of each integer column, from a sample."""
    asked = [
        c
        for c in facts
        if facts[c].known and facts[c].whole and (facts[c].integer or facts[c].real)
    ]
    if not asked:
        return {}
    sample = read_sample(
        source, client, [c for c in facts if facts[c].known and facts[c].comparable]
    )
    with np.errstate(over="ignore", invalid="ignore"):  # of numbers near the largest
        return {column: order_evidence(sample, column) for column in asked}


def _list_role(source: EventSource, column: str) -> tuple[str | None, str]:
    """Return the role of a column with a list in each event, and the reason."""
    kind = source.columns[column]
    name = ident(column)
    element = kind[: kind.rindex("[")]
    if not kind.endswith("[]"):
        numbers = is_integer(element) or is_real(element)
        return ("vector", "lists of numbers of one length") if numbers else _no_use(kind)
    if not element.endswith("]") and (
        element.startswith(("VARCHAR", "ENUM", "UUID")) or is_integer(element)
    ):
        return "set", "lists of names"
    if not is_real(element):
        return _no_use(kind)
    shortest, longest = source.row(f"SELECT min(len({name})), max(len({name})) FROM events")
    if not longest:
        return None, "only nulls"
    if shortest == longest:
        return "vector", "lists of numbers of one length"
    return None, f"lists of {shortest} to {count_words(longest, 'number')}: a vector has one length"


def _no_use(kind: str) -> tuple[None, str]:
    return None, f"a column of {type_in_words(kind)} cannot be used"


def _infer_role(
    column: str, facts: ColumnFacts, evidence: OrderEvidence | None
) -> tuple[str | None, str]:
    """Return the role of a column, None if it is left out, and the reason."""
    if facts.known == 0:
        return None, "only nulls"
    if facts.low == facts.high and facts.known == facts.rows:
        return None, "constant"
    if facts.kind == "BOOLEAN":
        return "categorical", "true or false"
    if facts.dates or facts.kind.startswith(("TIMESTAMP", "DATE", "TIME")):
        return None, "a second time column"
    if facts.text and facts.decimals and (facts.comma or facts.distinct > _DECIMALS_AS_TEXT):
        example = facts.comma or facts.high
        mark = ", say that a comma stands before decimals (--decimal ,)" if facts.comma else ""
        return (
            None,
            (
                f"numbers written as text, such as {example!r}: write them as 1234.50{mark}, or "
                "name the column categorical"
            ),
        )
    if facts.text and facts.distinct > _FREE_TEXT_VALUES and facts.words >= 3:
        return "text", f"free text: {count_words(facts.words, 'word', spec='.0f')} per value"
    if facts.text:
        return (None, AN_ID) if _is_id(facts) else ("categorical", "text")
    if not (facts.integer or facts.real):
        return _no_use(facts.kind)
    if not facts.whole:
        return "numeric", "has fractions"
    assert evidence is not None
    number, why = _is_number(column, facts, evidence)
    if (
        facts.integer
        and (evidence.even or not number)
        and _is_called(column) != "number"
        and _is_id(facts)
    ):
        return None, AN_ID
    return ("numeric" if number else "categorical"), why


def _is_id(facts: ColumnFacts) -> bool:
    """Return whether few clients share a value."""
    return facts.distinct > 100 and facts.distinct >= _ID_SHARE * facts.pairs


def _is_number(column: str, facts: ColumnFacts, evidence: OrderEvidence) -> tuple[bool, str]:
    """Return whether the order of integers has a meaning, and the evidence.

    Points for and against are added; two points make a number. The name is one sign among others.
    """
    least = float(facts.low or 0)
    if least < 0 and least != _MISSING:
        return True, "has negative values"
    if evidence.distinct <= 2:
        return False, "two values"
    signs = _signs(column, evidence)
    number = sum(points for points, _ in signs) >= 2
    telling = [words for points, words in signs if (points > 0) == number]
    return number, ", ".join(telling) or "nothing says that its order means something"


def _signs(column: str, e: OrderEvidence) -> list[tuple[int, str]]:
    """Return points for a number, negative for a code, each with an explanation."""
    signs = []
    by_frequency = e.ranked > _RANKED
    named = _is_called(column)
    if named is not None:
        signs.append((3, "named like a number") if named == "number" else (-2, "named like a code"))
    # V ** 0.5 is what V values that agree can reach.
    certain = e.certainty >= min(3.0, 0.7 * e.distinct**0.5)
    if e.distinct < _FEW:
        signs.append((-1, f"only {count_words(e.distinct, 'value')}"))
        if e.distinct >= _FEWEST and e.alike >= 0.5 and certain:
            signs.append((3, f"neighbouring values are alike ({e.alike:.2f})"))
        return signs
    if e.alike >= 0.8 and certain:
        signs.append((3, f"neighbouring values are alike ({e.alike:.2f})"))
    elif e.alike >= 0.5 and certain:
        signs.append((2, f"neighbouring values are alike ({e.alike:.2f})"))
    elif e.alike >= 0.3 and e.certainty >= 4:
        signs.append((1, f"neighbouring values are somewhat alike ({e.alike:.2f})"))
    else:
        signs.append((0, "neighbouring values are not alike"))
    if e.distinct > _MANY and e.even and named != "number":
        signs.append((-2, "spread evenly, as running numbers are"))
    if by_frequency:
        signs.append((0, "in order of frequency"))
        return signs
    if e.smooth >= 0.4:
        signs.append((1, "neighbouring values are as frequent"))
    if e.tail >= 20:
        signs.append((2 if e.tail >= 100 else 1, "a long tail"))
    elif e.dense < 0.3:
        signs.append((-1, "far between"))
    if e.distinct > _MANY and e.spread < 0.2:
        signs.append((1, "most values lie close together"))
    return signs


def _is_called(column: str) -> Literal["code", "number"] | None:
    """Return what the name suggests.

    Its last word decides, else earlier words (price_cents, n_items), else its ending.
    """
    words = [w.casefold() for w in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", column)]
    words = [w if w in _NUMBER_WORDS | _CODE_WORDS else w.removesuffix("s") for w in words]
    if not words:
        return None
    if words[-1] in _CODE_WORDS or _CODE.search(column.casefold()):
        return "code"
    if (
        words[0] in ("n", "nb", "num", "number")
        or _NUMBER_WORDS.intersection(words)
        or _NUMBER.search(column.casefold())
    ):
        return "number"
    return None


def _infer_kind_of_time(
    source: EventSource, time: str, options: SourceOptions
) -> tuple[TimeUnit, TimeFormat | None]:
    said = options.time_format or source.time_format
    if said is not None:
        return "timestamp", said
    unit = options.time_unit or _infer_unit(source, time)
    text = unit == "timestamp" and source.columns[time] == "VARCHAR"
    return unit, infer_time_format(source, time) if text else None


def _infer_unit(source: EventSource, time: str) -> TimeUnit:
    """Infer the unit of numeric times.

    Numbers up to 100,000 are days, then seconds, milliseconds, microseconds and nanoseconds of the
    present century.

    Raises:
        SchemaError: there are no times, or none between 1970 and 2100 in the most likely unit.
    """
    kind = source.columns[time]
    if kind.startswith(("TIMESTAMP", "DATE")):
        return "timestamp"
    if kind == "VARCHAR":
        if not _all_digits(source, time):
            return "timestamp"
    elif not (is_integer(kind) or is_real(kind)):
        raise SchemaError(
            f"The time column {time!r} of {source.label} holds {type_in_words(kind)}. Expected "
            "timestamps, dates, text or numbers."
        )
    # An infinite time says nothing about the unit; reading refuses it in a line.
    low, high = source.row(
        f"SELECT min(x), max(x) FROM (SELECT TRY_CAST({ident(time)} AS DOUBLE) AS x FROM events) "
        "WHERE isfinite(x)"
    )
    low = low or 0
    high = high or 0
    written = next(
        (
            written
            for first, last, written in _DATES_AS_NUMBERS
            if low >= first and high <= last and _all_dates(source, time, written)
        ),
        None,
    )
    if written in ("%Y", "%Y%m"):
        raise SchemaError(
            f"The time column {time!r} of {source.label} seems to hold years or months, such as "
            f"{low:.0f}, which do not say when in them an event was. Name a column of dates with "
            "--time (schema.time), or set schema.time_unit if the numbers count something."
        )
    if written is not None:
        raise SchemaError(
            f"The time column {time!r} of {source.label} seems to hold dates written as numbers, "
            f"such as {low:.0f}. Say so with --time-format {written} (schema.time_format), or set "
            "schema.time_unit if they do count something."
        )
    unit, days = next((unit, days) for limit, unit, days in _UNITS if max(-low, high) < limit)
    if low < 0 or high * days >= _LAST_DAY:
        first, last = (f"{1970 + bound * days / 365.2425:,.0f}" for bound in (low, high))
        raise SchemaError(
            f"The times in column {time!r} of {source.label}, {low:.15g} to {high:.15g}, would lie "
            f"in the years {first} to {last} if they count {unit}s since 1970. Say what they "
            f"count: schema.time_unit, one of {', '.join(unit for _, unit, _ in _UNITS)}."
        )
    return unit


def _all_digits(source: EventSource, time: str) -> bool:
    """Return whether the first texts are all numbers without a sign."""
    name = ident(time)
    (digits,) = source.row(
        f"SELECT bool_and(regexp_full_match({name}, '[0-9]+([.][0-9]+)?')) FROM (SELECT {name} "
        f"FROM events WHERE {name} IS NOT NULL LIMIT {_LOOKED_AT})"
    )
    return bool(digits)


def _all_dates(source: EventSource, time: str, written: str) -> bool:
    """Return whether all numbers are whole and dates in this format, such as 20240131.

    Years with the number of a week (202453) count as years with a month.
    """
    number = f"TRY_CAST({ident(time)} AS DOUBLE)"
    date = (
        f"{number} % 100 BETWEEN 1 AND 53"
        if written == "%Y%m"
        else f"try_strptime({number}::BIGINT::VARCHAR, {literal(written)}) IS NOT NULL"
    )
    (all_dates,) = source.row(
        f"SELECT bool_and({number} = trunc({number}) AND {date}) FROM events WHERE "
        f"isfinite({number})"
    )
    return bool(all_dates)
