"""Privacy audit: three attacks on the vectors of clients, beside plain aggregates and chance.

- Re-identification: the attacker has a few consecutive events of a client, and looks for the client
  among vectors of all other events. Four purchases single out most people of a card data set (de
  Montjoye et al., Science 347, 2015).
- Attribute inference: the attacker knows a column for some clients, and predicts it for others from
  their vectors (Song and Raghunathan, CCS 2020, arXiv 2004.00053).
- Membership inference: was the client in training (Shokri et al., S&P 2017, arXiv 1610.05820)? The
  signals are those of EncoderMI (Liu et al., CCS 2021, arXiv 2108.11023).

A figure is what these attackers reach, and so a lower bound of what is possible.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from seqmel.core.device import resolve_device, tune_malloc, with_own_defaults
from seqmel.core.errors import ConfigError, InputError, plain
from seqmel.core.progress import Progress, Reporting, as_progress
from seqmel.core.units import count_words
from seqmel.data.sequences.prepared import is_prepared
from seqmel.data.sources.reading import Events
from seqmel.data.tables.labels import id_positions
from seqmel.evaluation.aggregates import AggregatePlan
from seqmel.evaluation.audit_attacks import (
    Weakener,
    Weakening,
    find_clients,
    similarities,
    tell_apart,
)
from seqmel.evaluation.audit_parts import EMBEDDINGS, ClientParts, Matrix, count_events
from seqmel.evaluation.audit_results import Audit, AuditFigure
from seqmel.evaluation.feature_sets import AGGREGATES
from seqmel.evaluation.problem import check_counts
from seqmel.evaluation.retrieval_metrics import Figure
from seqmel.evaluation.scoring import score
from seqmel.inference.embed import embed, open_events_for
from seqmel.model import AnyModel, TrainedModel, as_model

__all__ = ["Members", "audit"]

_KNOWN = (5, 10, 20)
_FEWEST = 20  # clients; with fewer, an interval covers nearly everything
_SLICES = 4  # of each client, for membership; EncoderMI takes 10


@dataclass(frozen=True)
class Members:
    """Who was in training.

    Attributes:
        members: ids of clients that the model was trained on, as text.
        neither: ids of clients of the training events that are left out, because they have too few
            events to be trained on. All others were not in training.
    """

    members: Collection[str]
    neither: Collection[str] = ()


@with_own_defaults
def audit(
    model: AnyModel,
    events: Events,
    *,
    sensitive: Sequence[pd.Series[Any]] = (),
    quality: Sequence[pd.Series[Any]] = (),
    members: Members | None = None,
    weaken: Sequence[str] = (),
    known: Sequence[int] | None = None,
    clients: int = 2_000,
    folds: int = 5,
    trees: int = 500,
    seed: int = 0,
    device: str = "auto",
    progress: Reporting = None,
) -> Audit:
    """Attack the vectors of clients; the implementation of `Model.audit`.

    Args:
        model: a model folder or a `Model`.
        events: the events; see `open_events`. Prepared sequences have no aggregates.
        sensitive: columns that should not be known, indexed by client id.
        quality: targets that the vectors are for, indexed by client id.
        members: who was in training; None leaves out membership inference.
        weaken: what else to attack: weakened embeddings, see `Weakening.parse`.
        known: numbers of events that the attacker has of a client; None takes those of 5, 10 and 20
            that enough clients have twice.
        clients: maximum number of clients whose parts are embedded; for membership of each kind.
        folds: number of cross-validation folds.
        trees: number of LightGBM trees.
        seed: seed of all random choices.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        progress: where to report to.

    Returns:
        The figures of all attacks.

    Raises:
        ConfigError: an option is out of range.
        InputError: too few clients, or the events cannot be read.
    """
    check_counts(clients=(clients, _FEWEST), seed=(seed, 0), folds=(folds, 2), trees=(trees, 1))
    given = [Weakening.parse(text) for text in weaken]
    if known is not None and (not known or min(known) < 1):
        raise ConfigError(
            f"An attacker cannot hold {[plain(k) for k in known]} events. Expected numbers of at "
            "least 1, such as 5,10,20."
        )
    if is_prepared(events):
        raise InputError(
            f"{events} holds prepared sequences, of which there are no aggregates. Give the events "
            "that they were prepared from."
        )
    work = _Work.begin(as_model(model), events, given, seed, device, as_progress(progress))
    how = {"folds": folds, "trees": trees, "seed": seed, "progress": work.progress}
    lengths = _lengths(work, known)
    both = None if members is None else work.kinds(members, clients)
    found = list(work.reidentified(lengths, clients))
    for y in sensitive:
        found += _inferred("attribute", str(y.name), y, work.vectors, **how)
    if both is not None:
        found += work.members_found(both, how)
    else:
        work.remarks.append(
            "Membership inference was left out: a model folder does not hold who was in training. "
            "Give the training events (--trained-on) or the ids of the clients (--members)."
        )
    if not found:
        raise InputError("Nothing could be audited. " + " ".join(work.remarks))
    for y in quality:
        found += _inferred("quality", str(y.name), y, work.vectors, **how)
    return Audit(tuple(found), tuple(work.remarks), seed)


@dataclass(eq=False)
class _Work:
    """What the attacks share.

    Attributes:
        model: the model.
        events: the events.
        counts: the number of events per client.
        plan: the aggregates.
        vectors: feature set -> one row per client of all events: aggregates, embeddings, and
            weakened embeddings.
        weakeners: name -> weakening, fitted on the embeddings.
        seed, device, progress: see `audit`.
        remarks: what was left out.
    """

    model: TrainedModel
    events: Events
    counts: pd.Series[int]
    plan: AggregatePlan
    vectors: dict[str, pd.DataFrame]
    weakeners: dict[str, Weakener]
    seed: int
    device: torch.device
    progress: Progress
    remarks: list[str]

    @classmethod
    def begin(
        cls,
        model: TrainedModel,
        events: Events,
        weaken: Sequence[Weakening],
        seed: int,
        device: str,
        progress: Progress,
    ) -> _Work:
        """Embed and aggregate all clients."""
        tune_malloc()
        source = open_events_for(model, events)
        plan = AggregatePlan.fit(source, model.schema)
        aggregates = plan.compute(source).loc[:, plan.plain_columns]
        counts = count_events(source, model.schema.client)
        source.connection.close()
        ids: list[Any] = []
        parts = []
        for some, vectors in embed(model, events, device=device, progress=progress):
            ids += some.to_pandas().tolist()
            parts.append(vectors.numpy())
        embeddings = pd.DataFrame(
            np.concatenate(parts), index=pd.Index(ids, name=model.schema.client)
        )
        if len(embeddings) < _FEWEST:
            raise InputError(
                f"An audit needs {_FEWEST} clients, and better hundreds. Found: "
                f"{len(embeddings):,}."
            )
        fitted = {how.name: how.fit(embeddings.to_numpy(np.float32), seed) for how in weaken}
        sets = {AGGREGATES: aggregates, EMBEDDINGS: embeddings}
        for name, weakener in fitted.items():
            weak = weakener(embeddings.to_numpy(np.float32))
            sets[name] = pd.DataFrame(weak, index=embeddings.index)
        return cls(
            model, events, counts, plan, sets, fitted, seed, resolve_device(device), progress, []
        )

    def parts_of(self, counts: pd.Series[int]) -> ClientParts:
        """The parts of the events of some clients."""
        source = open_events_for(self.model, self.events)
        return ClientParts.of(self.model, self.plan, source, counts, self.device)

    def drawn(self, counts: pd.Series[int], most: int) -> pd.Series[int]:
        """Draw at most so many clients."""
        random = np.random.default_rng(self.seed)
        return counts.iloc[np.sort(random.permutation(len(counts))[:most])]

    def published(self, sets: Mapping[str, Matrix], *, own: bool = False) -> dict[str, Matrix]:
        """Add the weakened embeddings to feature sets."""
        weak = {
            name: weakener(sets[EMBEDDINGS], own=own) for name, weakener in self.weakeners.items()
        }
        return {**sets, **weak}

    def reidentified(self, lengths: Sequence[int], most: int) -> Iterator[AuditFigure]:
        """Re-identify clients by a few of their events."""
        if not lengths:
            return
        counts = self.drawn(self.counts[self.counts >= 2 * max(lengths)], most)
        parts = self.parts_of(counts)
        random = np.random.default_rng(self.seed)
        with self.progress.task("re-identify clients", len(lengths), "lengths") as task:
            for length in lengths:
                each = np.full(len(counts), length)
                starts = parts.slices(random, each)
                held = self.published(parts.sets(starts, each), own=True)
                rest = self.published(parts.sets(starts, each, rest=True))
                for name, vectors in held.items():
                    yield AuditFigure(
                        "re-identification",
                        f"{length} events",
                        name,
                        "recall@1",
                        find_clients(vectors, rest[name], self.seed, scale=name == AGGREGATES),
                        1 / len(counts),
                        len(counts),
                    )
                task.advance(1)
        parts.source.connection.close()

    def kinds(self, given: Members, most: int) -> list[pd.Series[int]]:
        """Draw members and other clients, with their numbers of events.

        Raises:
            InputError: there are too few of a kind.
        """
        member = _among(self.counts.index, given.members)
        able = (self.counts.to_numpy() >= 2) & ~_among(self.counts.index, given.neither)
        both = [self.drawn(self.counts[who & able], most) for who in (member, ~member)]
        for counts, what in zip(both, ("were in", "were not in"), strict=True):
            if len(counts) < _FEWEST:
                raise InputError(
                    f"{len(counts):,} of {count_words(len(self.counts), 'client')} of the events "
                    f"{what} training. Membership inference needs {_FEWEST} of each kind with two "
                    "events or more. Give events of both, or the ids of the members (--members)."
                )
        return both

    def members_found(
        self, both: Sequence[pd.Series[int]], how: dict[str, Any]
    ) -> Iterator[AuditFigure]:
        """Tell members of the training from other clients."""
        counts = pd.concat(both)
        members = np.repeat([True, False], [len(one) for one in both])
        parts = self.parts_of(counts)
        random = np.random.default_rng(self.seed)
        slices: dict[str, list[Matrix]] = {}
        with self.progress.task("slices of members and others", _SLICES, "slices") as task:
            for _ in range(_SLICES):
                lengths = _slice_lengths(parts.counts, self.model, random)
                starts = parts.slices(random, lengths)
                for name, vectors in self.published(parts.sets(starts, lengths)).items():
                    slices.setdefault(name, []).append(vectors)
                task.advance(1)
        parts.source.connection.close()
        alike = {name: similarities(of_set) for name, of_set in slices.items()}
        for name, values in alike.items():
            yield AuditFigure(
                "membership",
                "similarity",
                name,
                "auroc",
                tell_apart(values.mean(axis=1), members, self.seed),
                0.5,
                len(counts),
            )
        sets = {
            name: pd.DataFrame(
                np.column_stack([table.loc[counts.index].to_numpy(np.float32), alike[name]]),
                index=counts.index,
            )
            for name, table in self.vectors.items()
        }
        y = pd.Series(members, index=counts.index, name="classifier")
        yield from _inferred("membership", "classifier", y, sets, **how)


def _inferred(
    attack: str, of: str, y: pd.Series[Any], sets: Mapping[str, pd.DataFrame], **how: Any
) -> Iterator[AuditFigure]:
    """Predict a column from each feature set: the better of LightGBM and a linear model."""
    probes = {f"{name}: linear": name for name in sets}
    scores = score(y, sets, probes=probes, **how)
    metric = scores.primary
    chance = 0.0
    if scores.classes:
        chance = 0.5 if metric == "auroc" else max(scores.classes.values()) / scores.clients
    for name in sets:
        both = {"LightGBM": name, "linear": f"{name}: linear"}
        measured = {model: scores.score(of_set) for model, of_set in both.items()}
        best = max(measured, key=lambda model: measured[model].mean)
        figure = Figure(measured[best].mean, *measured[best].interval)
        yield AuditFigure(attack, of, name, metric, figure, chance, scores.clients, best)


def _lengths(work: _Work, known: Sequence[int] | None) -> list[int]:
    """Return the numbers of events of the attacker, of which enough clients have twice as many.

    Raises:
        InputError: too few clients have twice as many as were asked for.
    """
    enough = {k: int((work.counts >= 2 * k).sum()) for k in known or _KNOWN}
    found = [k for k, count in enough.items() if count >= _FEWEST]
    short = [k for k in enough if k not in found]
    if known is not None and short:
        raise InputError(
            f"Only {enough[max(short)]} clients have {2 * max(short)} events or more, twice the "
            f"{max(short)} that the attacker holds. Expected {_FEWEST} such clients. Give fewer "
            "events (known, --known)."
        )
    if short:
        what = f"with {', '.join(map(str, short))} events" if found else ""
        work.remarks.append(
            f"Re-identification {what} was left out: fewer than {_FEWEST} clients have twice as "
            "many events.".replace("  ", " ")
        )
    return found


def _slice_lengths(
    counts: npt.NDArray[np.int64], model: TrainedModel, random: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Draw lengths of slices as in training."""
    views = model.config.views
    longest = np.minimum(counts, views.max_length or model.config.embedding.max_events)
    shortest = np.minimum(longest, views.min_length or 1)
    return np.asarray(random.integers(shortest, longest + 1), np.int64)


def _among(index: pd.Index[Any], ids: Collection[str]) -> npt.NDArray[np.bool_]:
    """(C,) whether each client is among the ids."""
    return np.asarray(id_positions(index, pd.Index(list(ids))) >= 0)
