"""Answers at the top of the report: did it learn, are the vectors worth it, is the data odd."""

from __future__ import annotations

from collections.abc import Sequence

from seqmel.core.errors import shown
from seqmel.core.units import count_words
from seqmel.evaluation.results import TITLES, Score, Scores
from seqmel.model import TrainedModel
from seqmel.report.page import Column, EventSummary, Fact, TrainingRun

__all__ = ["answers"]

_BY_CHANCE = 3.0
"""Recall below this multiple of chance is hardly any."""
_OFTEN = 0.1
_ALMOST_ALL = 0.98
_SHORT = ("0", "1", "2")  # names of bars of the lengths
_MOST_ODD = 4


def answers(
    model: TrainedModel, run: TrainingRun, scores: Sequence[Scores], data: EventSummary
) -> list[Fact]:
    """Answer the three questions of a reader in a sentence or two each.

    Args:
        model: The model.
        run: Its training.
        scores: What `evaluate --json` wrote, if anything.
        data: The summary of the events.
    """
    return [
        Fact("Did it learn?", _learned(model, run)),
        Fact("What are the vectors worth?", _worth(scores)),
        Fact("Is anything odd in the data?", _odd(data)),
    ]


def _learned(model: TrainedModel, run: TrainingRun) -> str:
    if model.heads is not None and model.metrics.get("held_out"):
        return _finetuned(model)
    if not run.history:
        return "It was not trained: the weights are random."
    epochs = len(run.history)
    kept = next((row for row in run.history if row["epoch"] == run.best), None)
    if kept is None:
        first = run.history[0].get("loss")
        last = run.history[-1].get("loss")
        loss = (
            ""
            if first is None or last is None
            else f" The loss went from {first:.3g} to {last:.3g}."
        )
        return f"No client was held out, so this cannot be told.{loss}"
    held = kept.get("clients_held_out", 0.0)
    recall = kept["recall_at_1"]
    chance = 1 / max(held, 1.0)
    verdict = "Yes" if recall >= _BY_CHANCE * chance else "Hardly"
    if run.best in run.collapsed:
        verdict = "No, the vectors have collapsed to a few directions"
    words = (
        f"{verdict}. One slice of a client finds another first in {recall:.0%} of "
        f"{count_words(held, 'client', spec=',.0f')} held out, against about {chance:.0%} by "
        f"chance; the vectors use {kept['effective_rank']:.0f} directions."
    )
    if epochs > 2 and run.best == epochs:
        words += " The last epoch was the best: more epochs may help."
    return words


def _finetuned(model: TrainedModel) -> str:
    """Compare the model with its encoder before fine-tuning, by the first metric that both have."""
    before = model.metrics.get("frozen", {})
    after = model.metrics["held_out"]
    name = next((n for n in after if n.endswith(("auroc", "r2")) and n in before), None)
    name = name or next(iter(after))
    then = f"; before fine-tuning it was {before[name]:.3f}" if name in before else ""
    return f"On the clients held out, {name.replace('_', ' ')} is {after[name]:.3f}{then}."


def _worth(scores: Sequence[Scores]) -> str:
    if not scores:
        return (
            "Not known yet. Score them with seqmel evaluate --json FILE, and give --scores FILE "
            "here."
        )
    return " ".join(map(_worth_for, scores))


def _worth_for(scores: Scores) -> str:
    title = TITLES[scores.primary]
    others = [name for name in scores.matched if not name.startswith("aggregates")]
    if not others or scores.reference in others:
        best = _best(scores, list(scores.matched))
        return f"{scores.target}: {title} {scores.score(best)} with {best}."
    best = _best(scores, others)
    difference = scores.difference(best, scores.reference)
    low, high = difference.interval
    sign = -1 if "↓" in title else 1
    verdict = "more than" if sign * difference.mean > 0 else "less than"
    if low * high <= 0:
        verdict = "not distinguishable from"
    return (
        f"{scores.target}: {title} {scores.score(best)} with {best}, {verdict} "
        f"{scores.score(scores.reference)} with {scores.reference}."
    )


def _best(scores: Scores, names: list[str]) -> str:
    sign = -1 if "↓" in TITLES[scores.primary] else 1

    def value(score: Score) -> float:
        return sign * score.mean

    return max(names, key=lambda name: value(scores.score(name)))


def _odd(data: EventSummary) -> str:
    found = [words for column in data.columns for words in _of_column(column)]
    short = sum(bar.count for bar in data.lengths if bar.name in _SHORT)
    if short > data.clients / 2:
        found.append(f"{short / data.clients:.0%} of the clients have fewer than three events")
    together = next((bar.count for bar in data.gaps if bar.name == "same time"), 0)
    if together > data.events / 2:
        found.append(
            f"{together / data.events:.0%} of the events are at the time of the one before"
        )
    if data.first and not "1970" <= data.first <= data.last < "2101":
        found.append(f"the times go from {data.first} to {data.last}")
    if not found:
        return "No: nearly all values were seen in training, and no column is constant or empty."
    return f"Yes: {shown(found, _MOST_ODD)}."


def _of_column(column: Column) -> list[str]:
    """Say what is odd in a column."""
    if column.unseen > _OFTEN:
        return [f"{column.unseen:.0%} of {column.name} were rare or absent in training"]
    if column.nulls is not None and column.nulls > 0.5:
        return [f"{column.nulls:.0%} of {column.name} are missing"]
    if column.clipped > _OFTEN:
        return [f"{column.clipped:.0%} of {column.name} lie far outside the range of training"]
    counts = [bar.count for bar in column.top]
    total = sum(counts) + column.others
    if counts and counts[0] > _ALMOST_ALL * total:
        return [f"{column.name} is nearly always {column.top[0].name}"]
    if column.quantiles and column.quantiles[0] == column.quantiles[-1]:
        return [f"{column.name} is nearly always {column.quantiles[0]:g}"]
    return []
