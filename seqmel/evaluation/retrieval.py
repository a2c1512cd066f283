"""Client retrieval: two disjoint parts of each client are embedded, one to find the other.

Figures on clients that the model was trained on are too optimistic, so the user should name the
training events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from seqmel.core.device import resolve_device, tune_malloc, with_own_defaults
from seqmel.core.embedding_metrics import unit_vectors
from seqmel.core.errors import ConfigError, InputError, plain
from seqmel.core.poincare_ball import PoincareBall
from seqmel.core.progress import Reporting, as_progress
from seqmel.core.random_streams import Stream, generator
from seqmel.core.units import count_words
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.sequences.prepared import is_prepared, open_prepared
from seqmel.data.sources.reading import Events
from seqmel.data.views import Views
from seqmel.data.views.watched import watched_numbers, watched_slices
from seqmel.evaluation.retrieval_metrics import (
    Figure,
    Verification,
    relevant_ranks,
    retrieval_figures,
    verification,
)
from seqmel.inference.embed import map_batches, open_events_for, sequence_chunks, token_batches
from seqmel.model import AnyModel, TrainedModel, as_model

__all__ = ["Parts", "Retrieval", "evaluate_retrieval", "halves", "two_slices"]

_LEAST_EVENTS = 20

Parts: TypeAlias = Literal["views", "halves", "slices"]


@dataclass(frozen=True)
class Retrieval:
    """Results of retrieval and verification.

    Attributes:
        parts: "views", two random slices, each searched for among all others, as training measures
            recall; "halves", with the earlier half as gallery and the later half as query; or
            "slices", two random disjoint slices.
        clients: number of clients in the evaluation.
        too_short: number of clients left out because they have too few events.
        trained_on: number of clients left out because the model was trained on them.
        held_out: True if the training clients were left out, False if the events are those of
            training, None if it is unknown.
        figures: recall@k, precision@k, cmc@k and map.
        verification: results of deciding whether two vectors belong to the same client.
        seed: seed of the choice of clients, the slices, the calibration split and the bootstrap.
    """

    parts: Parts
    clients: int
    too_short: int
    trained_on: int
    held_out: bool | None
    figures: dict[str, Figure]
    verification: Verification
    seed: int

    @property
    def clients_in_words(self) -> str:
        """A line about whether the model was trained on these clients."""
        if self.held_out:
            return (
                f"Held-out clients: {self.trained_on:,} that the model was trained on were "
                "left out."
            )
        if self.held_out is None:
            return (
                "Whether the model was trained on these clients is not known; name its events "
                "with --trained-on."
            )
        return (
            "TRAINING CLIENTS: these are the events that the model was trained on; the "
            "figures are too good."
        )

    def to_json(self) -> dict[str, Any]:
        """Return all results as values for JSON."""
        names = ("parts", "clients", "too_short", "trained_on", "held_out", "seed")
        return {
            **{name: getattr(self, name) for name in names},
            "figures": {name: figure.to_json() for name, figure in self.figures.items()},
            "verification": self.verification.to_json(),
        }


@with_own_defaults
def evaluate_retrieval(
    model: AnyModel,
    events: Events,
    *,
    clients: int = 2_000,
    parts: Parts = "views",
    min_events: int | None = None,
    trained_on: Events | None = None,
    at: Sequence[int] = (1, 5, 10, 50, 100),
    seed: int = 0,
    device: str = "auto",
    progress: Reporting = None,
) -> Retrieval:
    """Embed two disjoint parts of each client, and retrieve one part by the other.

    The similarity is the cosine of the centred vectors. For a model with `curvature` and without a
    projection head it is minus the hyperbolic cosine of the hyperbolic distance.

    Args:
        model: a model folder or a `Model`.
        events: a Parquet or CSV file, a folder, a glob, a pandas, polars or Arrow table,
            `EventSequences`, or sequences that `prepare` wrote with this model's vocabulary.
        clients: maximum number of clients, drawn at random. Recall depends on this number, so
            compare results for equal numbers only.
        parts: "views", the validation slices of training; "halves", the earlier and the later half
            of the sequence; or "slices", two random disjoint slices with the lengths of training
            views. With "views" each slice is searched for among all others; this is the recall of
            training and reports. With the other two, one part is searched for among the other
            parts.
        min_events: clients with fewer events are left out; None takes the value of training for
            "views", and 20 for the others.
        trained_on: the events that the model was trained on; their clients are left out.
        at: the values of k of recall, precision and CMC; values above the number of clients are
            ignored.
        seed: seed of all random choices.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        progress: None shows progress on a terminal and in a notebook, True everywhere, False
            nowhere; or a `Progress`.

    Returns:
        Recall, precision and CMC at each k, mean average precision, and the error rates of
        verification.

    Raises:
        ConfigError: an option is out of range.
        InputError: fewer than four clients are left, or the events cannot be read or lack a column
            that the model was trained with.
        ModelError: the folder holds no valid model.

    Examples:
        >>> import seqmel
        >>> data = seqmel.generate_card_data(20)
        >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
        >>> found = seqmel.evaluate_retrieval(model, data.events, min_events=2)
        >>> found.clients
        20
    """
    model = as_model(model)
    if min_events is None:
        min_events = max(2, model.config.training.min_events) if parts == "views" else _LEAST_EVENTS
    _check(clients, parts, min_events, at, seed)
    known = None if trained_on is None else _client_texts(trained_on, model)
    drawn = _Drawn(clients)
    counts = {"short": 0, "known": 0, "clients": 0, "events": 0}
    random = torch.Generator().manual_seed(seed)
    watched = generator(model.config.seed, Stream.VALIDATION_VIEWS)
    placed = resolve_device(device)
    tune_malloc()
    total, chunks = sequence_chunks(model, events)
    with as_progress(progress).task("embed two parts", total, "clients") as task:
        for sequences in chunks:
            trained = _among(sequences, known)
            able = (sequences.lengths >= min_events) & ~trained
            counts["clients"] += len(sequences)
            counts["events"] += sequences.events
            counts["known"] += int(trained.sum())
            counts["short"] += int((~able & ~trained).sum())
            keys = torch.rand(len(sequences), generator=random, dtype=torch.float64)
            chosen = drawn.wanted(keys, able)
            if parts == "views":
                vectors = _embed_watched(
                    model, sequences, chosen, watched_numbers(len(sequences), watched), placed
                )
            else:
                views = _views(parts, chosen, sequences.lengths[chosen], model, random)
                vectors = [_embed_views(model, sequences, view, placed) for view in views]
            drawn.add(keys[chosen], *vectors)
            task.advance(len(sequences))
    if len(drawn.keys) < 4:
        raise InputError(
            f"Only {count_words(len(drawn.keys), 'client is', 'clients are')} left of "
            f"{counts['clients']:,} ({counts['known']:,} trained on, {counts['short']:,} with "
            f"fewer than {min_events} events). Retrieval needs four or more; see --min-events."
        )
    queries, galleries = drawn.comparable(model.config.ball)
    query, gallery = queries[0], galleries[1]
    who = np.arange(len(query))
    each = [k for k in at if k <= len(who)]
    if parts == "views":
        owners = np.concatenate([who, who])
        ranks = relevant_ranks(
            np.concatenate(queries),
            np.concatenate(galleries),
            owners,
            owners,
            without_itself=True,
        )
        figures = retrieval_figures(ranks, each, seed=seed, queries=2)
    else:
        figures = retrieval_figures(relevant_ranks(query, gallery, who, who), each, seed=seed)
    return Retrieval(
        parts=parts,
        clients=len(query),
        too_short=counts["short"],
        trained_on=counts["known"],
        held_out=True if known is not None else _not_the_same(model, counts),
        figures=figures,
        verification=verification(query, gallery, seed=seed),
        seed=seed,
    )


def halves(clients: Tensor, lengths: Tensor) -> tuple[Views, Views]:
    """Split the events of each client into a later and an earlier half.

    With an odd number of events the later half has one more.

    Args:
        clients: (B,) positions of the clients.
        lengths: (B,) numbers of events, at least two.

    Returns:
        The later and the earlier halves, B views each.
    """
    earlier = lengths // 2
    return Views(clients, earlier, lengths - earlier), Views(
        clients, torch.zeros_like(earlier), earlier
    )


def two_slices(
    clients: Tensor,
    lengths: Tensor,
    *,
    min_length: int,
    max_length: int,
    generator: torch.Generator,
) -> tuple[Views, Views]:
    """Draw two disjoint random slices per client, in random order.

    Args:
        clients: (B,) positions of the clients.
        lengths: (B,) numbers of events, at least two.
        min_length: minimum length of a slice, capped at half of the client's events.
        max_length: maximum length of a slice, capped at half of the client's events.
        generator: random generator on the CPU.

    Returns:
        The first and the second slices, B views each.
    """
    longest = (lengths // 2).clamp(max=max_length)
    shortest = longest.clamp(max=min_length)
    u = torch.rand((5, len(lengths)), generator=generator, dtype=torch.float64)
    first, second = (shortest + (u[i] * (longest - shortest + 1)).long() for i in range(2))
    spare = lengths - first - second
    before = (u[2] * (spare + 1)).long()
    between = (u[3] * (spare - before + 1)).long()
    views = (before, first), (before + first + between, second)
    swap = u[4] < 0.5
    mixed = [
        [torch.where(swap, b, a) for a, b in zip(*pair, strict=True)]
        for pair in (views, views[::-1])
    ]
    (start_a, length_a), (start_b, length_b) = mixed
    return Views(clients, start_a, length_a), Views(clients, start_b, length_b)


class _Drawn:
    """A uniform sample of a stream of unknown length: the clients with the smallest keys."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.keys = torch.empty(0, dtype=torch.float64)
        self.parts: tuple[Tensor, ...] = ()

    def wanted(self, keys: Tensor, able: Tensor) -> Tensor:
        """The increasing positions of the clients of a chunk that enter the current sample.

        Args:
            keys: (N,) random keys of the clients.
            able: (N,) bool, whether a client may be drawn.
        """
        limit = float(self.keys.max()) if len(self.keys) == self.most else torch.inf
        positions = (able & (keys < limit)).nonzero()[:, 0]
        return positions[keys[positions].argsort()[: self.most]].sort().values

    def add(self, keys: Tensor, *parts: Tensor) -> None:
        """Add clients, and drop those with the largest keys above the size of the sample.

        Args:
            keys: (S,) random keys of the clients.
            *parts: (S, D) vectors of each part.
        """
        keys = torch.cat([self.keys, keys])
        joined = (
            parts
            if not self.parts
            else tuple(torch.cat(pair) for pair in zip(self.parts, parts, strict=True))
        )
        keep = keys.argsort()[: self.most].sort().values
        self.keys, self.parts = keys[keep], tuple(part[keep] for part in joined)

    def comparable(
        self, ball: PoincareBall | None
    ) -> tuple[list[npt.NDArray[np.float32]], list[npt.NDArray[np.float32]]]:
        """The parts as queries and as a gallery, so that inner products are similarities.

        They are unit vectors, after centring on the mean of all vectors, or points of a ball.
        """
        vectors = torch.cat(self.parts)
        sides = (unit_vectors(vectors),) * 2 if ball is None else ball.as_products(vectors)
        queries, galleries = ([part.numpy() for part in s.chunk(len(self.parts))] for s in sides)
        return queries, galleries


def _check(clients: int, parts: str, min_events: int, at: Sequence[int], seed: int) -> None:
    if parts not in get_args(Parts):
        raise ConfigError(f"parts is {parts!r}. Expected one of: {', '.join(get_args(Parts))}.")
    for name, value, least in (
        ("clients", clients, 4),
        ("min_events", min_events, 2),
        ("seed", seed, 0),
    ):
        if value < least:
            raise ConfigError(f"{name} is {value}. Expected {least} or more.")
    if not at or min(at) < 1:
        raise ConfigError(
            f"Cannot compute recall at {[plain(k) for k in at]}. Expected numbers of at least 1."
        )


def _views(
    parts: Parts, clients: Tensor, lengths: Tensor, model: TrainedModel, generator: torch.Generator
) -> tuple[Views, Views]:
    if parts == "halves":
        return halves(clients, lengths)
    views = model.config.views
    shortest = views.min_length or 1
    longest = views.max_length or model.config.embedding.max_events
    return two_slices(
        clients, lengths, min_length=shortest, max_length=longest, generator=generator
    )


@torch.inference_mode()
def _embed_watched(
    model: TrainedModel,
    sequences: EncodedSequences,
    clients: Tensor,
    numbers: Tensor,
    device: torch.device,
) -> list[Tensor]:
    """The vectors of the two validation slices of each client: two (S, D) float32 on the CPU."""
    encoder = model.encoder.to(device).eval()
    vectors = torch.empty(2, len(clients), encoder.vector_size)
    lengths = sequences.lengths[clients].clamp(max=model.config.views.max_length or 1) * 2

    def vectors_of(part: Tensor) -> Tensor:
        chosen = clients[part]
        batch, _ = watched_slices(sequences, chosen, numbers[chosen], **model.config.views.watched)
        found: Tensor = encoder.encode(batch.to(device)).float().cpu()
        return found.view(len(chosen), 2, -1).transpose(0, 1)

    parts = token_batches(lengths, model.config.events_at_a_time)
    for part, found in map_batches(vectors_of, parts, encoder, device=device):
        vectors[:, part] = found
    return list(vectors)


@torch.inference_mode()
def _embed_views(
    model: TrainedModel, sequences: EncodedSequences, views: Views, device: torch.device
) -> Tensor:
    """(S, D) float32 vectors of views, on the CPU; long views are cut to their last events."""
    most = model.config.embedding.max_events
    encoder = model.encoder.to(device).eval()
    lengths = views.lengths.clamp(max=most)
    starts = views.starts + views.lengths - lengths
    vectors = torch.empty(len(lengths), encoder.vector_size)

    def vectors_of(part: Tensor) -> Tensor:
        batch = sequences.gather(views.clients[part], starts[part], lengths[part]).to(device)
        return encoder.encode(batch).float().cpu()

    parts = token_batches(lengths, model.config.events_at_a_time)
    for part, found in map_batches(vectors_of, parts, encoder, device=device):
        vectors[part] = found
    return vectors


def _client_texts(events: Events, model: TrainedModel) -> pa.Array:
    """The client ids of events as text, so that 12 and "12" match."""
    if is_prepared(events):
        ids = open_prepared(events).sequences.client_ids
    else:
        client = model.schema.client
        source = open_events_for(model, events)
        source.require(client, "The model was trained with that column.")
        ids = source.stream(
            f"SELECT client FROM ({source.clients_sql(client)})", 65_536
        ).read_all()[0]
    return ids.cast(pa.string()).combine_chunks()


def _among(sequences: EncodedSequences, known: pa.Array | None) -> Tensor:
    """(N,) bool, whether each client is among the known ones."""
    if known is None:
        return torch.zeros(len(sequences), dtype=torch.bool)
    return torch.from_numpy(
        pc.is_in(sequences.client_ids.cast(pa.string()), value_set=known).to_numpy()
    )


def _not_the_same(model: TrainedModel, counts: dict[str, int]) -> bool | None:
    """False if the numbers of clients and events equal those of training; else None, unknown."""
    same = all(model.metrics.get(name) == counts[name] for name in ("clients", "events"))
    return False if same else None
