"""The page: what stands on it, as plain data, and how it becomes one HTML file that asks nobody for anything.

The data is JSON in a block that no browser runs, and the script puts it into the page as text only. Style and script are
allowed by their hashes; the page's own policy forbids everything else.
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
    "Bar", "Client", "Colouring", "Column", "Events", "Explorer", "Fact", "Layout", "Map", "Page", "Quality", "Run",
    "ScoreRow", "Search", "Tone", "render",
]  # fmt: skip

_UNSAFE = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


@dataclass(frozen=True)
class Fact:
    """One thing to know, in words."""

    name: str
    value: str


@dataclass(frozen=True)
class Run:
    """The training.

    Attributes:
        history: one row an epoch, as in `metrics.json`.
        best: the epoch whose weights were kept, None where none is known.
        collapsed: epochs after which the embeddings used fewer than three directions.
    """

    history: list[dict[str, float]]
    best: int | None
    collapsed: list[int]


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram, or one value of a category."""

    name: str
    count: int


@dataclass(frozen=True)
class Column:
    """One column of the events, as the model's vocabulary sees it.

    Attributes:
        role: "categorical" or "numeric", with "within ..." where a number is scaled within a category.
        known: how many values have a code; 0 for a number.
        top: the commonest values with their counts; empty for a number.
        others: events of the known values that are not among `top`.
        unseen: share of events whose value training did not see or saw too rarely.
        nulls: share of null or missing values; None where training saw no null category, since then it counts as unseen.
        clipped: share of numbers beyond ten robust standard deviations.
        quantiles: of the sampled clients' numbers: 5, 25, 50, 75, 95 %.
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
class Events:
    """The events that were given; everything but the quantiles counts all of them."""

    clients: int
    events: int
    first: str
    last: str
    lengths: list[Bar]
    gaps: list[Bar]
    columns: list[Column]


@dataclass(frozen=True)
class ScoreRow:
    """One set of features: for each metric mean, half of the 95 % interval, and both as text."""

    features: str
    means: list[float]
    half_widths: list[float]
    texts: list[str]


@dataclass(frozen=True)
class Quality:
    """The scores of one target."""

    target: str
    caption: str
    metrics: list[str]
    rows: list[ScoreRow]


@dataclass(frozen=True)
class Layout:
    """Where each sampled client is on a map, each axis from 0 to 1,000."""

    name: str
    note: str
    x: list[int]
    y: list[int]


@dataclass(frozen=True)
class Colouring:
    """What the sampled clients are coloured by: a class (its number among `classes`), or a quantity.

    Attributes:
        classes: their names; empty for a quantity.
        values: one a client, None where it has no label.
    """

    name: str
    classes: list[str]
    values: list[float | None]


@dataclass(frozen=True)
class Map:
    """The sampled clients on a plane."""

    layouts: list[Layout]
    colourings: list[Colouring]
    missing: list[str]


@dataclass(frozen=True)
class Tone:
    """The column that the marks of a timeline are coloured by, and its values, the commonest first."""

    column: str
    values: list[str]
    number: str


@dataclass(frozen=True)
class Client:
    """A sampled client.

    Attributes:
        length: events in all.
        times: minutes between its last events, the first one since the beginning of all.
        tones: place of each event's category among the tone's values; one past the end for all others.
        heights: its number, scaled, times ten; None where missing.
        numbers: its number as it came, to four digits.
        near: places of the nearest other clients among the sampled, the nearest first.
        likeness: their cosines.
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
    """One slice looked for among all others.

    Attributes:
        client: whose it is (a place among the sampled).
        rank: at which place the other slice of the same client came, from 1.
        first: whose the nearest slice was that is not of this client.
        own, other: distance to the other slice of the same client, and to that one.
        asked, wanted: minutes from the beginning of all to the first and last event of the two slices.
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
    """Who is near whom, and whether a client is found by a part of its events."""

    facts: list[Fact]
    note: str
    best: list[Search]
    worst: list[Search]


@dataclass(frozen=True)
class Page:
    """Everything on the page, in its order; a part that is None says which option gives it."""

    title: str
    facts: list[Fact]
    options: list[Fact]
    sample: str
    begins: str
    run: Run
    data: Events
    quality: list[Quality]
    map: Map | None
    explorer: Explorer | None
    tone: Tone
    clients: list[Client]


def render(page: Page) -> str:
    """The HTML file. The same page gives the same text."""
    here = files("seqmel.report")
    parts = {name: (here / f"page.{name}").read_text(encoding="utf-8") for name in ("html", "css", "js")}
    data = json.dumps(_finite(asdict(page)), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    policy = (
        f"default-src 'none'; style-src '{_hash(parts['css'])}'; script-src '{_hash(parts['js'])}';"
        " base-uri 'none'; form-action 'none'"
    )
    before, after = parts["html"].split("{data}")
    for name, text in (("policy", policy), ("css", parts["css"])):
        before = before.replace(f"{{{name}}}", text)
    return before + data.translate(_UNSAFE) + after.replace("{js}", parts["js"])


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(v) for name, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return value
