"""The report begins with answers, and they are those of the figures below them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small import card_events

from seqmel.evaluation.results import Score, Scores
from seqmel.model import Model
from seqmel.report.answers import answers
from seqmel.report.page import Bar, Column, EventSummary, TrainingRun
from seqmel.report.writing import write_report

COLUMN = Column("mcc", "categorical", 3, [Bar("a", 60), Bar("b", 30)], 10, 0.0, 0.0, 0.0, [])
LENGTHS, GAPS = [Bar("1", 2), Bar("5–9", 8)], [Bar("same time", 3), Bar("under 1 h", 60)]
DATA = EventSummary(10, 100, "2023-01-01 00:00", "2023-12-31 00:00", LENGTHS, GAPS, [COLUMN])


def run(
    recall: float, *, epochs: int = 3, best: int = 2, collapsed: tuple[int, ...] = ()
) -> TrainingRun:
    """A training with 20 clients held out."""
    row = {"recall_at_1": recall, "effective_rank": 7.2, "clients_held_out": 20.0, "loss": 2.0}
    history = [row | {"epoch": float(i + 1)} for i in range(epochs)]
    return TrainingRun(history, best, list(collapsed))


def scores(ours: float, primary: str = "auroc", spread: float = 0.01) -> Scores:
    """Scores of vectors beside aggregates of .7."""
    around = (-spread, 0.0, spread)
    rows = tuple(
        Score(name, primary, tuple(value + x * turn for x in around))
        for name, value, turn in (("aggregates", 0.7, 0), ("embeddings", ours, 1))
    )
    matched = {"aggregates": 24, "embeddings": 24}
    return Scores(
        "kind", "classification", primary, rows, 24, 24, matched, {"a": 12, "b": 12}, 0, 10
    )


@pytest.mark.parametrize(
    ("trained", "words"),
    [
        (run(0.83), "Yes. One slice of a client finds another first in 83% of 20 clients held out, "
                    "against about 5% by chance; the vectors use 7 directions."),
        (run(0.10), "Hardly. "),
        (run(0.83, collapsed=(2,)), "No, the vectors have collapsed"),
        (run(0.83, best=3), "more epochs may help"),
        (TrainingRun([], None, []), "It was not trained"),
        (TrainingRun([{"epoch": 1, "loss": 9.0}, {"epoch": 2, "loss": 4.5}], None, []),
         "No client was held out, so this cannot be told. The loss went from 9 to 4.5."),
    ],
)  # fmt: skip
def test_whether_it_learned(trained: TrainingRun, words: str, model: Model) -> None:
    assert words in answers(model, trained, [], DATA)[0].value


def test_a_fine_tuned_model_is_compared_with_its_encoder(model: Model) -> None:
    figures = {"frozen": {"auroc": 0.6}, "held_out": {"accuracy": 0.5, "auroc": 0.75}}
    tuned = replace(model, heads=object(), metrics=figures)  # type: ignore[arg-type]
    said = answers(tuned, run(0.8), [], DATA)[0].value
    assert said == "On the clients held out, auroc is 0.750; before fine-tuning it was 0.600."


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (scores(0.8), "kind: AUROC 0.800 ± 0.025 with embeddings, more than 0.700"),
        (scores(0.6), "less than 0.700"),
        (scores(0.71, spread=0.1), "not distinguishable from 0.700"),
        (scores(0.6, "log_loss"), "more than 0.700"),
    ],
)
def test_what_the_vectors_are_worth(found: Scores, words: str, model: Model) -> None:
    assert words in answers(model, run(0.8), [found], DATA)[1].value


def test_without_scores_the_way_to_them_is_said(model: Model) -> None:
    assert "seqmel evaluate --json FILE" in answers(model, run(0.8), [], DATA)[1].value


ODD: dict[str, tuple[dict[str, Any], str]] = {
    "unseen": ({"columns": [replace(COLUMN, unseen=0.4)]}, "40% of mcc were rare or absent"),
    "missing": ({"columns": [replace(COLUMN, nulls=0.7)]}, "70% of mcc are missing"),
    "clipped": ({"columns": [replace(COLUMN, clipped=0.2)]}, "20% of mcc lie far outside"),
    "constant": ({"columns": [replace(COLUMN, top=[Bar("a", 99)], others=1)]}, "nearly always a"),
    "number": (
        {"columns": [replace(COLUMN, top=[], others=0, quantiles=[2.0] * 5)]},
        "mcc is nearly always 2",
    ),
    "short": (
        {"lengths": [Bar("1", 6), Bar("5–9", 4)]},
        "60% of the clients have fewer than three",
    ),
    "at once": ({"gaps": [Bar("same time", 60)]}, "60% of the events are at the time of the one"),
    "years": ({"first": "1899-01-01 00:00"}, "the times go from 1899-01-01 00:00 to 2023-12-31"),
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_is_named(name: str, model: Model) -> None:
    change, words = ODD[name]
    said = answers(model, run(0.8), [], replace(DATA, **change))[2].value
    assert said.startswith("Yes: ")
    assert words in said


def test_usual_data_are_not_odd(model: Model) -> None:
    assert answers(model, run(0.8), [], DATA)[2].value.startswith("No: ")


def test_the_page_holds_the_answers_before_all_else(model: Model, tmp_path: Path) -> None:
    write_report(model, card_events(), tmp_path / "a.html", device="cpu")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="page">(.*?)</script>', text, re.S)
    assert found
    page = json.loads(found[1])
    assert [fact["name"] for fact in page["answers"]] == [
        "Did it learn?",
        "What are the vectors worth?",
        "Is anything odd in the data?",
    ]
    assert text.index('id="answers"') < text.index('id="facts"')
