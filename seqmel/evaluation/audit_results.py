"""Results of a privacy audit, as tables and JSON; `audit` computes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seqmel.evaluation.retrieval_metrics import Figure

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Audit", "AuditFigure"]

_TITLES = {
    "re-identification": "Re-identification: clients found by a few events",
    "attribute": "Attribute inference: what the vectors tell of a column",
    "membership": "Membership inference: was the client in training?",
    "quality": "Quality: the score that the vectors are for",
}


@dataclass(frozen=True)
class AuditFigure:
    """The success of one attack on one set of vectors, or the quality of these vectors.

    Attributes:
        attack: "re-identification", "attribute", "membership" or "quality".
        of: the variant: the number of events, the column, or the signal.
        vectors: "embeddings", "aggregates", or a weakening of the embeddings, such as "int8".
        metric: the metric.
        figure: its value, with the 95 % interval.
        chance: what a guess without the vectors reaches.
        clients: number of clients.
        model: the better attack model, "LightGBM" or "linear"; None where there is one attack.
    """

    attack: str
    of: str
    vectors: str
    metric: str
    figure: Figure
    chance: float
    clients: int
    model: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return values for JSON."""
        return {**vars(self), "figure": self.figure.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> AuditFigure:
        """Return the figure of which `to_json` gave these values.

        Raises:
            LookupError, TypeError, ValueError: the values are of something else.
        """
        figure = Figure(**{end: float(values["figure"][end]) for end in ("mean", "low", "high")})
        if values["attack"] not in _TITLES:
            raise ValueError(values["attack"])
        return cls(
            attack=values["attack"],
            of=str(values["of"]),
            vectors=str(values["vectors"]),
            metric=str(values["metric"]),
            figure=figure,
            chance=float(values["chance"]),
            clients=int(values["clients"]),
            model=None if values["model"] is None else str(values["model"]),
        )


@dataclass(frozen=True, repr=False)
class Audit:
    """What vectors give away, beside plain aggregates and chance.

    Attributes:
        figures: one per attack, variant and set of vectors.
        remarks: what was left out and why, and cautions, one sentence each.
        seed: seed of all random choices.

    Examples:
        >>> import seqmel
        >>> data = seqmel.generate_card_data(30)
        >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
        >>> found = model.audit(data.events, known=[5])
        >>> [row.vectors for row in found.figures]
        ['aggregates', 'embeddings']
    """

    figures: tuple[AuditFigure, ...]
    remarks: tuple[str, ...]
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Return all results as values for JSON."""
        return {
            "figures": [row.to_json() for row in self.figures],
            "remarks": list(self.remarks),
            "seed": self.seed,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Audit:
        """Return the audit of which `to_json` gave these values.

        Raises:
            LookupError, TypeError, ValueError: the values are of something else.
        """
        figures = tuple(AuditFigure.from_json(row) for row in values["figures"])
        if not figures:
            raise ValueError("an audit without figures")
        return cls(figures, tuple(map(str, values["remarks"])), int(values["seed"]))

    def attacks(self) -> dict[str, list[AuditFigure]]:
        """Return title -> figures of each attack, and of the quality if it was asked for."""
        found = {
            title: [row for row in self.figures if row.attack == attack]
            for attack, title in _TITLES.items()
        }
        return {title: rows for title, rows in found.items() if rows}

    def tables(self) -> Iterable[Table]:
        """Yield a table for each attack, and one for the quality if it was asked for."""
        from rich.markup import escape
        from rich.table import Table

        for title, rows in self.attacks().items():
            table = Table(
                "", "vectors", "metric", "value", "95 % interval", "chance",
                title=title, box=None, pad_edge=False, title_justify="left",
            )  # fmt: skip
            before = None
            for row in rows:
                low, high = row.figure.low, row.figure.high
                table.add_row(
                    "" if row.of == before else escape(row.of),
                    escape(row.vectors),
                    row.metric,
                    f"{row.figure.mean:.3f}",
                    f"{low:.3f} to {high:.3f}",
                    f"{row.chance:.3f}",
                )
                before = row.of
            yield table

    def __repr__(self) -> str:
        lines = [
            f"{row.attack}, {row.of}, {row.vectors}: {row.metric} {row.figure}, chance "
            f"{row.chance:.3f}"
            for row in self.figures
        ]
        return "\n".join([*lines, *self.remarks])
