"""The attacks of a privacy audit, and the weakened vectors that they are tried on.

Each is written for numbers of any origin, so that embeddings and plain aggregates are attacked in
the same way.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from seqmel.core.errors import ConfigError
from seqmel.core.units import count_words
from seqmel.data.tables.number_types import NumberType, Scales, check_number_types
from seqmel.evaluation.audit_parts import Matrix
from seqmel.evaluation.compression import Components
from seqmel.evaluation.downstream import standardiser
from seqmel.evaluation.metrics import Floats, Ranking
from seqmel.evaluation.retrieval_metrics import Figure, relevant_ranks, retrieval_figures

__all__ = ["Weakener", "Weakening", "find_clients", "similarities", "tell_apart"]

_COMPONENTS = 32
_PENALTIES = (1.0, 10.0, 100.0, 1_000.0, 10_000.0)
_RESAMPLES = 500
_MOST_FITTED = 50_000


def find_clients(held: Matrix, published: Matrix, seed: int, *, scale: bool = False) -> Figure:
    """Look up each client's part among the vectors of all clients.

    The attacker knows both parts of half of the clients, and learns a linear map from one to the
    other (ridge regression, with the penalty of the least leave-one-out error) on the first
    principal components of the published vectors, scaled to equal variance. With it, each client of
    the other half is looked up among all clients by cosine similarity; then the halves change
    places. The map matters: a few events give another vector, and quite other sums, than a whole
    history.

    Args:
        held: (C, D) numbers of the events that the attacker has.
        published: (C, D) numbers of other events of the same clients.
        seed: seed of the halves and of the bootstrap over clients.
        scale: standardise the columns first, which have units of their own.

    Returns:
        Recall@1: the fraction of clients that are found at the first place. Chance is 1 / C.
    """
    from sklearn.linear_model import RidgeCV

    held, published = (_standardised(x) if scale else x for x in (held, published))
    size = min(_COMPONENTS, max(1, len(held) // 8), published.shape[1])
    components = Components.fit(published)
    x, y = (
        _standardised(components.project(of_part - of_part.mean(axis=0) + components.mean, size))
        for of_part in (held, published)
    )
    first = np.random.default_rng(seed).permutation(len(x)) < len(x) // 2
    guessed = np.empty_like(y)
    for known in (first, ~first):
        guessed[~known] = RidgeCV(_PENALTIES).fit(x[known], y[known]).predict(x[~known])
    clients = np.arange(len(x))
    ranks = relevant_ranks(_unit(guessed), _unit(y), clients, clients)
    return retrieval_figures(ranks, [1], seed=seed)["recall@1"]


def similarities(parts: Sequence[Matrix]) -> Floats:
    """Return the cosines of all pairs of parts of each client, sorted.

    A client that an encoder was trained on may have parts that are more similar than usual: the
    loss pulled them together. This is the signal of EncoderMI (Liu et al., CCS 2021, arXiv
    2108.11023).

    Args:
        parts: P times (C, D) numbers.

    Returns:
        (C, P (P - 1) / 2) cosines in ascending order, after centring on the mean of all parts.
    """
    count = len(parts)
    unit = _unit(_standardised(np.concatenate(parts))).reshape(count, len(parts[0]), -1)
    pairs = [np.sum(unit[a] * unit[b], axis=1) for a, b in itertools.combinations(range(count), 2)]
    return np.sort(np.stack(pairs, axis=1).astype(np.float64), axis=1)


def tell_apart(values: Floats, members: npt.NDArray[np.bool_], seed: int) -> Figure:
    """Return the AUROC of a score for membership, with its bootstrap interval over clients.

    Args:
        values: (C,) scores.
        members: (C,) bool, whether each client is a member.
        seed: seed of the bootstrap.
    """
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(_RESAMPLES):
        places = random.integers(0, len(values), len(values))
        if 0 < members[places].sum() < len(places):
            drawn.append(Ranking.of(members[places], values[places]).auroc)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Figure(Ranking.of(members, values).auroc, float(low), float(high))


@dataclass(frozen=True)
class Weakening:
    """What is done to vectors before they are handed out.

    Attributes:
        name: how it was written, such as "dim=16+int8".
        dim: number of principal components that are kept; None keeps the vector.
        noise: Gaussian noise, in standard deviations of each dimension.
        dtype: the stored type.
    """

    name: str
    dim: int | None = None
    noise: float = 0.0
    dtype: NumberType = "float32"

    @classmethod
    def parse(cls, text: str) -> Weakening:
        """Parse dim=N, noise=X, int8, binary or float16, or several of them joined by +.

        Raises:
            ConfigError: it is none of these.
        """
        found = cls(text)
        for part in text.split("+"):
            name, equals, value = part.strip().partition("=")
            try:
                if name == "dim" and int(value) >= 1:
                    found = replace(found, dim=int(value))
                elif name == "noise" and 0 < float(value) < math.inf:
                    found = replace(found, noise=float(value))
                elif equals or name == "float32":
                    raise ValueError
                else:
                    check_number_types((name,))
                    found = replace(found, dtype=name)  # type: ignore[arg-type]
            except (ValueError, ConfigError):
                raise ConfigError(
                    f"Vectors cannot be weakened by {text!r}. Expected int8, binary, float16, "
                    "noise=0.5 (in standard deviations), dim=16 (principal components), or several"
                    " joined by +."
                ) from None
        return found

    def fit(self, vectors: Matrix, seed: int) -> Weakener:
        """Fit components, noise and scales on the vectors that are handed out.

        Args:
            vectors: (N, D).
            seed: seed of the noise.

        Raises:
            ConfigError: more components than the vectors have.
        """
        random = np.random.default_rng(seed)
        some = vectors[np.sort(random.permutation(len(vectors))[:_MOST_FITTED])]
        components = None
        if self.dim is not None:
            most = min(some.shape)
            if self.dim > most:
                raise ConfigError(
                    f"{self.name} asks for {self.dim} principal components. "
                    f"{count_words(len(some), 'vector')} of {some.shape[1]} numbers have {most}."
                )
            components = Components.fit(some)
            some = components.project(some, self.dim)
        spread = self.noise * some.std(axis=0)
        noisy = some + spread * random.standard_normal(some.shape)
        scales = Scales.fit(noisy.astype(np.float32), self.dtype)
        return Weakener(self, components, spread, scales, random)


@dataclass(frozen=True)
class Weakener:
    """A fitted weakening.

    Attributes:
        how: what it does.
        components: the principal components, if fewer dimensions are kept.
        spread: standard deviations of the noise.
        scales: of the stored type.
        random: generator of the noise.
    """

    how: Weakening
    components: Components | None
    spread: Floats
    scales: Scales
    random: np.random.Generator

    def __call__(self, vectors: Matrix, *, own: bool = False) -> Matrix:
        """Weaken (M, D) vectors.

        Args:
            vectors: the vectors.
            own: they are the attacker's own, who reduces and quantizes alike but adds no noise.
        """
        if self.components is not None and self.how.dim is not None:
            vectors = self.components.project(vectors, self.how.dim)
        if self.how.noise and not own:
            noise = self.spread * self.random.standard_normal(vectors.shape)
            vectors = np.asarray(vectors + noise, np.float32)
        return self.scales.decode(self.scales.encode(vectors))


def _standardised(x: Matrix) -> Matrix:
    return standardiser(x)(x)


def _unit(x: Floats) -> Matrix:
    lengths = np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return np.asarray(x / lengths, np.float32)
