"""The retrieval explorer.

Is a client found by a slice of its events, and who are its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from seqmel.core.embedding_metrics import (
    compared_points,
    distances_between,
    embedding_metrics,
)
from seqmel.core.poincare_ball import PoincareBall
from seqmel.core.units import count_words
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.views import RandomSlices
from seqmel.data.vocabulary import FIRST, Vocabulary
from seqmel.model import TrainedModel
from seqmel.report.events import category_names, decoded
from seqmel.report.page import Client, ColourScale, Explorer, Fact, Search
from seqmel.training.batches import HeldOutBatches

__all__ = ["explore", "nearest", "timelines"]

NEIGHBOURS = 5
_LISTED = 12
_MINUTE_US = 60_000_000
_TONES = 7  # colours of the page for values of a category
# Values with a name on the page. The clients shown decide which of them have a colour.
_NAMED = 3_000
_TIMELINE_EVENTS = 120_000
"""Maximum number of events in all timelines, about 2 MB of the page."""


@dataclass(frozen=True)
class _Slices:
    """V slices of sampled clients. The two slices of a client are consecutive.

    Attributes:
        vectors: (V, D).
        clients: (V,) positions among the sampled clients.
        first: (V,) microseconds, the time of the first event.
        last: (V,) microseconds, the time of the last event.
    """

    vectors: Tensor
    clients: Tensor
    first: Tensor
    last: Tensor


def explore(
    model: TrainedModel,
    sequences: EncodedSequences,
    begins: int,
    *,
    device: torch.device,
    held_out: EncodedSequences | None = None,
) -> Explorer | None:
    """Search every slice among all others.

    Slices and metrics are those that training uses to validate.

    Args:
        model: A model on `device`.
        sequences: The sequences of the sampled clients.
        begins: Microseconds, the time of the first event of all.
        device: Where to compute.
        held_out: The sequences of the validation clients of training, if they are known. The
            metrics are then theirs.

    Returns:
        The explorer, or None if fewer than two clients have two events.
    """
    slices = _slices(model, sequences, device)
    if len(slices.clients) < 4:
        return None
    measured = slices if held_out is None else _slices(model, held_out, device)
    ball = model.config.ball
    metrics = embedding_metrics(measured.vectors, measured.clients, ball=ball)
    found = _searches(slices, begins, ball)
    ranks = [search.rank for search in found]
    facts = [
        Fact("recall@1", f"{metrics['recall_at_1']:.3f}"),
        Fact("recall@10", f"{metrics['recall_at_10']:.3f}"),
        Fact("median rank", f"{float(np.median(ranks)):,.4g} of {len(found) - 1:,}"),
        Fact("effective rank", f"{metrics['effective_rank']:.0f}"),
    ]
    views = model.config.views
    clients = len(measured.clients) // 2
    caveat = (
        (
            "Recall and effective rank are of these clients, and the model may have been trained "
            "on them."
        )
        if held_out is None
        else f"Recall and effective rank are of the {count_words(clients, 'client')} that training "
        "held out."
    )
    note = (
        f"Two random slices of {views.min_length} to {views.max_length} events "
        f"(shorter for short clients) of each of {count_words(len(found) // 2, 'client')}, "
        f"possibly overlapping. Each slice is searched among the other {len(found) - 1:,}. {caveat}"
    )
    ordered = sorted(found, key=lambda s: (s.rank, s.own - s.other))
    return Explorer(facts, note, best=_distinct(ordered), worst=_distinct(ordered[::-1]))


@torch.inference_mode()
def _slices(model: TrainedModel, sequences: EncodedSequences, device: torch.device) -> _Slices:
    clients = RandomSlices.eligible(sequences.lengths).nonzero()[:, 0]
    vectors = [torch.zeros(0, model.encoder.vector_size)]
    owners = [clients[:0]]
    first = [clients[:0]]
    last = [clients[:0]]
    for batch in HeldOutBatches(sequences, clients, model.config):
        vectors.append(model.encoder.encode(batch.sequences.to(device)).float().cpu())
        owners.append(batch.clients)
        first.append(batch.sequences.time[batch.sequences.offsets[:-1]])
        last.append(batch.sequences.time[batch.sequences.offsets[1:] - 1])
    return _Slices(torch.cat(vectors), torch.cat(owners), torch.cat(first), torch.cat(last))


def _searches(slices: _Slices, begins: int, ball: PoincareBall | None) -> list[Search]:
    points = compared_points(slices.vectors, ball)
    partner = torch.arange(len(points)).view(-1, 2).flip(1).reshape(-1)
    spans = ((torch.stack([slices.first, slices.last], 1) - begins) // _MINUTE_US).tolist()
    found = []
    for part in torch.arange(len(points)).split(512):
        apart = distances_between(points[part], points, ball)
        rows = torch.arange(len(part))
        own = apart[rows, partner[part]]
        apart[rows, part] = torch.inf
        apart[rows, partner[part]] = torch.inf
        nearest = apart.min(1)
        rank = 1 + (apart < own.unsqueeze(1)).sum(1)
        columns = (part, rank, slices.clients[nearest.indices], own, nearest.values)
        for i, place, first, near, far in zip(*(c.tolist() for c in columns), strict=True):
            asked = spans[i]
            wanted = spans[int(partner[i])]
            client = int(slices.clients[i])
            found.append(Search(client, place, first, round(near, 4), round(far, 4), asked, wanted))
    return found


def _distinct(ordered: list[Search]) -> list[Search]:
    """Return the first few searches with different clients."""
    first: dict[int, Search] = {}
    for search in ordered:
        first.setdefault(search.client, search)
    return list(first.values())[:_LISTED]


def nearest(vectors: npt.NDArray[np.float32]) -> tuple[list[list[int]], list[list[float]]]:
    """Return the nearest other clients of each client, and their cosines after centring."""
    centred = torch.from_numpy(np.ascontiguousarray(vectors, dtype=np.float32))
    unit = F.normalize(centred - centred.mean(0), dim=1)
    places = []
    cosines = []
    for part in torch.arange(len(unit)).split(512):
        likeness = unit[part] @ unit.T
        likeness[torch.arange(len(part)), part] = -torch.inf
        top = likeness.topk(min(NEIGHBOURS, len(unit) - 1), dim=1)
        places += top.indices.tolist()
        cosines += [[round(v, 3) for v in row] for row in top.values.tolist()]
    return places, cosines


def timelines(
    sequences: EncodedSequences,
    vocabulary: Vocabulary,
    vectors: npt.NDArray[np.float32],
    names: list[str],
    begins: int,
) -> tuple[ColourScale, list[Client]]:
    """Return the sampled clients with their last events and their neighbours.

    All clients have the same maximum number of events, so that the page has a bounded size.

    Args:
        sequences: The sequences of the S sampled clients.
        vocabulary: The vocabulary of the sequences.
        vectors: (S, D) their embeddings.
        names: Their ids as text.
        begins: Microseconds, the time of the first event of all.

    Returns:
        The colour scale and the clients. Events are coloured by the column whose seven most
        frequent values have the largest entropy.
    """
    most = _max_events(sequences.lengths)
    batch = sequences.gather_last(torch.arange(len(sequences)), max_events=most)
    column, codes = _most_informative(batch.columns, vocabulary)
    number = next(
        iter(sorted(vocabulary.numeric, key=lambda name: "amount" not in name.casefold())), ""
    )
    tone = ColourScale(
        column, [category_names(vocabulary, column)[c] for c in codes] if column else [], number
    )
    tones = (
        _code_positions(batch.columns[column], codes)
        if column
        else torch.zeros(batch.events, dtype=torch.int64)
    )
    heights = (batch.columns[number] * 10).round().tolist() if number else []
    numbers = decoded(batch, number, vocabulary.numeric[number]).tolist() if number else []
    minutes = (batch.time - begins) // _MINUTE_US
    steps = minutes.diff(prepend=minutes.new_zeros(1))
    begun = batch.offsets[:-1][batch.lengths > 0]
    steps[begun] = minutes[begun]
    near, likeness = nearest(vectors)
    clients = []
    for i, (a, b) in enumerate(
        zip(batch.offsets.tolist(), batch.offsets[1:].tolist(), strict=False)
    ):
        clients.append(
            Client(
                id=names[i],
                length=int(sequences.lengths[i]),
                times=steps[a:b].tolist(),
                tones=tones[a:b].tolist(),
                heights=[None if h != h else int(h) for h in heights[a:b]],
                numbers=[None if x != x else float(f"{x:.4g}") for x in numbers[a:b]],
                near=near[i],
                likeness=likeness[i],
            )
        )
    return tone, clients


def _max_events(lengths: Tensor) -> int:
    """Return the largest number of events per client with which all timelines fit the page."""
    low = 1
    high = int(lengths.max()) if len(lengths) else 1
    while low < high:
        middle = (low + high + 1) // 2
        fits = int(lengths.clamp(max=middle).sum()) <= _TIMELINE_EVENTS
        low, high = (middle, high) if fits else (low, middle - 1)
    return max(1, low)


def _most_informative(columns: dict[str, Tensor], vocabulary: Vocabulary) -> tuple[str, list[int]]:
    """Return the column whose most frequent codes have the largest entropy, and its codes.

    All other codes count as one. The codes are sorted by frequency.
    """
    found: list[tuple[float, str, list[int]]] = []
    for name, codes in vocabulary.categorical.items():
        counts = torch.bincount(columns[name].long(), minlength=codes.size).double()
        known = [
            int(c) for c in counts.argsort(descending=True, stable=True)[:_NAMED] if counts[c] > 0
        ]
        top = known[:_TONES]
        fractions = torch.cat(
            [counts[top], (counts.sum() - counts[top].sum()).view(1)]
        ) / counts.sum().clamp(min=1)
        found.append((float(torch.special.entr(fractions.clamp(0, 1)).sum()), name, known))
    _, name, codes_ = max(found, key=lambda entry: entry[0], default=(0.0, "", []))
    return name, codes_


def _code_positions(values: Tensor, codes: list[int]) -> Tensor:
    """Return the position of each value among the codes, and one past the end for all others."""
    table = torch.full(
        (max([FIRST, *codes, int(values.max()) if len(values) else 0]) + 1,), len(codes)
    )
    table[torch.tensor(codes, dtype=torch.int64)] = torch.arange(len(codes))
    return table[values.long()]
