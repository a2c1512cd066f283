"""Tables with intervals from files of `seqmel evaluate --json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from seqmel.core.errors import InputError, shell_words
from seqmel.evaluation.results import Score, Scores
from seqmel.report.page import Quality, ScoreRow

__all__ = ["read_scores", "tables"]


def read_scores(path: str | Path) -> list[Scores]:
    """Read a file of `seqmel evaluate --json`: the scores of one or more targets.

    Raises:
        InputError: There is no such file, or it has other content.
    """
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(entries, list) or not entries:
            raise ValueError
        return [_scores(entry) for entry in entries]
    except FileNotFoundError:
        raise InputError(
            f"No such file: {path}. Write one: seqmel evaluate LABELS --target T ... --json "
            f"{shell_words(path)}"
        ) from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise InputError(
            f"{path} is not what `seqmel evaluate --json` writes. Write one: seqmel evaluate "
            "LABELS --target T ... --json FILE"
        ) from None


def _scores(entry: dict) -> Scores:  # type: ignore[type-arg]
    rows = tuple(
        Score(str(row["features"]), str(row["metric"]), tuple(float(v) for v in row["folds"]))
        for row in entry["scores"]
    )
    found = Scores(
        target=str(entry["target"]),
        task=str(entry["task"]),
        primary=str(entry["primary"]),
        rows=rows,
        clients=int(entry["clients"]),
        labelled=int(entry["labelled"]),
        matched={str(name): int(n) for name, n in entry["matched"].items()},
        classes={str(name): int(n) for name, n in entry["classes"].items()},
        seed=int(entry["seed"]),
        trees=int(entry["trees"]),
    )
    found.markdown()  # raises if a set lacks a metric, or a metric is unknown
    return found


def tables(found: Sequence[Scores]) -> list[Quality]:
    """Return one table per target, with a row per set of features and a column per metric."""
    return [_table(scores) for scores in found]


def _table(scores: Scores) -> Quality:
    metrics = list(dict.fromkeys([scores.primary, *(row.metric for row in scores.rows)]))
    rows = []
    for name in scores.matched:
        cells = [scores.score(name, metric) for metric in metrics]
        rows.append(
            ScoreRow(
                name,
                [c.mean for c in cells],
                [c.half_width for c in cells],
                [str(c) for c in cells],
            )
        )
    return Quality(scores.target, scores.caption, metrics, rows)
