"""The language is that of the glossary in CONTRIBUTING.md: none of the old dialect."""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

CHECKED = ["seqmel", "examples", "tests", "benchmarks", "data", "docs", "research", "*.md", "*.py"]
"""All folders and pages."""

NOT_CHECKED = ("test_language.py", "tests/formats/model_")
"""This file quotes the dialect; folders of models of earlier versions stay as they were written."""

RATES = (
    "row|vector|event|number|label|value|view|byte|bit|client|line|feature|dimension|triplet|pair|"
    "code|step|epoch"
)
UNITS = (
    "client|event|batch|day|epoch|vector|number|line|user|dimension|anchor|view|segment|group|"
    "column|step|moment"
)

DIALECT = {
    r"\bfore(tell|tells|told)\b": "predict",
    r"\btold (of|apart|before|from)\b": "warned about, distinguished, known",
    r"\bevened out\b": "weighted by inverse frequency",
    r"\bheld (down|out to)\b": "regularised, validation split",
    r"\b(go|goes|going|gone|went) on with\b": "continue, resume",
    r"\bof use alone\b": "usable",
    r"\bstands? for itself\b": "is used as it is",
    r"\bin the light of\b": "in context",
    r"\bbrought up to date\b": "updated",
    r"\bsaid of\b": "known about",
    r"\bwhose \w[^.\n]*\bwhose \w": "two sentences",
    r"\bhow many (there|of them) (is|are) of\b": "the number of",
    rf"\b({RATES})s?\b,? an? ({UNITS})\b(?! (of|that|with|whose|from|is|and)\b)": "per",
    r"\bone an? (client|event|batch|row)\b": "one per",
    r"\bposed\b": "built, defined",
    r"\b(is|are) to be (gone|heard|had|told|said)\b": "must be",
}
"""Pattern of the old dialect -> what to write instead."""


def _files() -> list[Path]:
    found = []
    for name in CHECKED:
        for path in [ROOT / name] if (ROOT / name).is_dir() else sorted(ROOT.glob(name)):
            found += sorted(path.rglob("*")) if path.is_dir() else [path]
    return [
        path
        for path in found
        if path.suffix in (".py", ".md", ".yaml", ".js")
        and not any(part in path.relative_to(ROOT).as_posix() for part in NOT_CHECKED)
    ]


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_has_none_of_the_old_dialect(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.name == "CONTRIBUTING.md":  # the last column of the glossary lists what to avoid
        text = re.sub(r"^\|.*\|$", "", text, flags=re.M)
    found = {
        f"line {text.count(chr(10), 0, match.start()) + 1}: {match[0]!r}; write: {instead}"
        for pattern, instead in DIALECT.items()
        for match in re.finditer(pattern, text, flags=re.I)
    }
    assert not found, f"{path.relative_to(ROOT)}: {sorted(found)}"


@pytest.mark.parametrize(
    "text",
    [
        "the events that it foretells",
        "one row a client",
        "numbers a client",
        "it is told of",
        "clients a batch",
        "the rates are evened out",
        "a client whose model, whose weights",
        "to be gone on with",
        "one an event",
        "a problem that is posed",
        "it is to be said",
    ],
)
def test_the_dialect_is_found(text: str) -> None:
    assert any(re.search(pattern, text, flags=re.I) for pattern in DIALECT)


@pytest.mark.parametrize(
    "text",
    [
        "one vector per client",
        "it predicts the events of a client",
        "a row with a client id",
        "the value of a column",
        "predicted from an event",
        "warned about a column",
    ],
)
def test_plain_english_is_left_alone(text: str) -> None:
    assert not any(re.search(pattern, text, flags=re.I) for pattern in DIALECT)


COUNTED = re.compile(
    r" (events|clients|rows|times|moments|values|labels|columns|files|epochs|models|vectors)\b"
)
NEVER_ONE = {"_MOST_CLASSES", "_RECENT_EVENTS", "fitted.rows"}
"""Expressions that are two or more."""


def _counts_before_a_plural(source: str) -> list[str]:
    """Lengths, and what is shown as a number with commas, before a noun."""
    strings = [
        node.values for node in ast.walk(ast.parse(source)) if isinstance(node, ast.JoinedStr)
    ]
    return [
        ast.unparse(number.value)
        for values in strings
        for number, text in itertools.pairwise(values)
        if isinstance(number, ast.FormattedValue)
        and isinstance(text, ast.Constant)
        and (number.format_spec is not None or ast.unparse(number.value).startswith("len("))
        and COUNTED.match(str(text.value))
    ]


def test_no_message_says_1_events() -> None:
    assert _counts_before_a_plural('f"{n:,} " f"events of {len(m)} rows, {k} x"') == ["n", "len(m)"]
    found = {
        f"{path.relative_to(ROOT)}: {number}"
        for path in sorted((ROOT / "seqmel").rglob("*.py"))
        for number in _counts_before_a_plural(path.read_text())
        if number not in NEVER_ONE
    }
    assert not found, "use seqmel.core.units.count_words"
