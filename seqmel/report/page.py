"""The content of the page as plain data, and its rendering as one self-contained HTML file.

The data is JSON in a block that browsers do not execute. The script inserts it as text only. Style
and script are allowed by their hashes, and the content security policy forbids everything else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

__all__ = [
    "AttackRow",
    "AttackTable",
    "Bar",
    "Client",
    "ColourScale",
    "Colouring",
    "Column",
    "ColumnReason",
    "EventSummary",
    "Explorer",
    "Fact",
    "Layout",
    "Map",
    "MapClient",
    "MapPage",
    "Moment",
    "Page",
    "PrivacyAudit",
    "Quality",
    "Reason",
    "ScoreRow",
    "Search",
    "TrainingRun",
    "render",
]  # fmt: skip

_UNSAFE = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


@dataclass(frozen=True)
class Fact:
    """A labelled fact."""

    name: str
    value: str


@dataclass(frozen=True)
class TrainingRun:
    """The training run.

    Attributes:
        history: One row per epoch, as in `metrics.json`.
        best: The epoch whose weights were kept, if known.
        collapsed: Epochs whose embeddings use fewer than three directions.
    """

    history: list[dict[str, float]]
    best: int | None
    collapsed: list[int]


@dataclass(frozen=True)
class Bar:
    """A bar of a histogram, or a value of a category."""

    name: str
    count: int


@dataclass(frozen=True)
class Column:
    """A column of the events, as the vocabulary encodes it.

    Attributes:
        name: The name of the column.
        role: "categorical", another kind, or "numeric", with "within ..." if a number is scaled
            within a category.
        known: Number of values with a code. 0 for numbers.
        top: The most frequent values with their counts. Empty for numbers.
        others: Number of events with known values outside `top`.
        unseen: Fraction of events whose value was rare or absent in training.
        nulls: Fraction of nulls. None if training had no nulls, so that they count as unseen.
        clipped: Fraction of numbers beyond ten robust standard deviations.
        quantiles: 5, 25, 50, 75 and 95 % quantiles of the sampled clients' numbers.
    """

    name: str
    role: str
    known: int
    top: list[Bar]
    others: int
    unseen: float
    nulls: float | None
    clipped: float
    quantiles: list[float]


@dataclass(frozen=True)
class EventSummary:
    """The given events. All but the quantiles are computed from all events."""

    clients: int
    events: int
    first: str
    last: str
    lengths: list[Bar]
    gaps: list[Bar]
    columns: list[Column]


@dataclass(frozen=True)
class ScoreRow:
    """Scores of a set of features: mean, half of the 95 % interval, and text for each metric."""

    features: str
    means: list[float]
    half_widths: list[float]
    texts: list[str]


@dataclass(frozen=True)
class Quality:
    """The scores of a target."""

    target: str
    caption: str
    metrics: list[str]
    rows: list[ScoreRow]


@dataclass(frozen=True)
class AttackRow:
    """The success of one attack on one set of vectors.

    Attributes:
        of: The variant: the number of events, the column, or the signal.
        vectors: The set of vectors.
        metric: The metric.
        mean: Its value.
        low: Lower end of the 95 % interval.
        high: Upper end of the interval.
        chance: What a guess without the vectors reaches.
        clients: Number of clients.
    """

    of: str
    vectors: str
    metric: str
    mean: float
    low: float
    high: float
    chance: float
    clients: int


@dataclass(frozen=True)
class AttackTable:
    """The figures of one attack."""

    title: str
    rows: list[AttackRow]


@dataclass(frozen=True)
class PrivacyAudit:
    """What the vectors give away."""

    tables: list[AttackTable]
    remarks: list[str]


@dataclass(frozen=True)
class Layout:
    """Positions of the sampled clients on a map, from 0 to 1,000 on each axis."""

    name: str
    note: str
    x: list[int]
    y: list[int]


@dataclass(frozen=True)
class Colouring:
    """Colours of the sampled clients: by class (an index into `classes`), or by quantity.

    Attributes:
        name: The name of the label.
        classes: Names of the classes. Empty for a quantity.
        values: The value of each client. None is missing.
    """

    name: str
    classes: list[str]
    values: list[float | None]


@dataclass(frozen=True)
class Map:
    """The sampled clients in two dimensions."""

    layouts: list[Layout]
    colourings: list[Colouring]
    missing: list[str]


@dataclass(frozen=True)
class ColourScale:
    """The column that colours the events of a timeline, and its values by descending frequency."""

    column: str
    values: list[str]
    number: str


@dataclass(frozen=True)
class Client:
    """A sampled client.

    Attributes:
        id: The client id as text.
        length: Total number of events.
        times: Minutes between its last events. The first one counts from the first event of all.
        tones: Position of each event's category in the colour scale, or one past its end.
        heights: Scaled number of each event, times ten. None is missing.
        numbers: Original number of each event, to four digits.
        near: Positions of the nearest other sampled clients, the nearest first.
        likeness: Their cosines.
    """

    id: str
    length: int
    times: list[int]
    tones: list[int]
    heights: list[int | None]
    numbers: list[float | None]
    near: list[int]
    likeness: list[float]


@dataclass(frozen=True)
class Search:
    """A search of one slice among all others.

    Attributes:
        client: Position of its client among the sampled clients.
        rank: Rank of the other slice of the same client, from 1.
        first: The client of the nearest slice of another client.
        own: Distance to the other slice of the same client.
        other: Distance to the nearest slice of another client.
        asked: Minutes from the first event of all to the first and last event of this slice.
        wanted: The same for the other slice of the client.
    """

    client: int
    rank: int
    first: int
    own: float
    other: float
    asked: list[int]
    wanted: list[int]


@dataclass(frozen=True)
class Explorer:
    """Nearest neighbours, and searches of slices."""

    facts: list[Fact]
    note: str
    best: list[Search]
    worst: list[Search]


@dataclass(frozen=True)
class Moment:
    """An event of a timeline of reasons.

    Attributes:
        place: Where its time lies between the first and the last one, from 0 to 1.
        time: The time as text.
        score: The score after it.
        values: Its columns and their values, one per line.
    """

    place: float
    time: str
    score: float
    values: str


@dataclass(frozen=True)
class ColumnReason:
    """What a column or fact adds to a score."""

    name: str
    contribution: float


@dataclass(frozen=True)
class Reason:
    """Why a client has its score.

    Attributes:
        client: The client id as text.
        output: What is explained.
        start: The score before the events, with the facts and earlier events.
        score: The score.
        moments: The events in their order.
        columns: The columns that add most, the largest first.
    """

    client: str
    output: str
    start: float
    score: float
    moments: list[Moment]
    columns: list[ColumnReason]


@dataclass(frozen=True)
class Page:
    """The content of the page, in its order. A part that is None names the option that adds it."""

    title: str
    answers: list[Fact]
    facts: list[Fact]
    options: list[Fact]
    sample: str
    begins: str
    run: TrainingRun
    data: EventSummary
    quality: list[Quality]
    audit: PrivacyAudit | None
    map: Map | None
    explorer: Explorer | None
    tone: ColourScale
    clients: list[Client]
    reasons: list[Reason]


@dataclass(frozen=True)
class MapClient:
    """A point of a map alone."""

    id: str


@dataclass(frozen=True)
class MapPage:
    """A page with a map and nothing else."""

    title: str
    sample: str
    map: Map
    clients: list[MapClient]


def render(page: Page | MapPage) -> str:
    """Render the HTML file. It is deterministic."""
    here = files("seqmel.report")
    of = {"frame": "frame.html", "body": "page.html" if isinstance(page, Page) else "map.html"}
    of |= {"css": "page.css", "js": "page.js"}
    parts = {name: (here / file).read_text(encoding="utf-8") for name, file in of.items()}
    data = json.dumps(
        _finite(asdict(page)), ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )
    policy = (
        f"default-src 'none'; style-src '{_hash(parts['css'])}'; script-src '{_hash(parts['js'])}';"
        " base-uri 'none'; form-action 'none'"
    )
    before, after = parts["frame"].split("{data}")
    for name, text in (("policy", policy), ("body", parts["body"]), ("css", parts["css"])):
        before = before.replace(f"{{{name}}}", text)
    return before + data.translate(_UNSAFE) + after.replace("{js}", parts["js"])


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON lacks, by null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(v) for name, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return value
