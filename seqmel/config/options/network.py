"""The options of the network: event encoder, sequence encoder, pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from seqmel.config.options.base import (
    Layers,
    NotNegative,
    Only,
    Options,
    Positive,
    Share,
    all_of,
    is_lenient,
    named_or,
)
from seqmel.config.options.from_source import options_in

__all__ = [
    "BY_CATEGORY",
    "DEFAULT_POOLING",
    "POOLINGS",
    "POOLING_FACTS",
    "RECENT_POOLINGS",
    "AnyEncoderOptions",
    "CategoryMeanOptions",
    "EncoderBase",
    "EncoderOptions",
    "EventEncoderOptions",
    "NoEncoderOptions",
    "PoolingOptions",
    "RecurrentOptions",
]  # fmt: skip


class EventEncoderOptions(Options):
    """The network that embeds one event."""

    hidden_size: Positive = 256
    """Width of an embedded event."""
    layers: Layers = 2
    """Number of layers."""
    dropout: Share = 0.0
    """Dropout between layers."""
    category_dropout: Share = 0.01
    """Probability of replacing a category by "unseen or rare" in training."""
    noise: NotNegative = 0.0
    """Standard deviation of the Gaussian noise added to embedded features in training."""
    category_init: Literal["ppmi"] | None = None
    """Initialisation of category embeddings: null random, ppmi from co-occurrence."""
    category_init_window: Annotated[Positive, Only(category_init="ppmi")] = 5
    """Maximum distance of co-occurring events, for ppmi."""


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


StatePoolingOptions: TypeAlias = Annotated[
    tuple[Literal["last", "mean", "max", "std", "log_sum"], ...],
    Field(min_length=1),
    BeforeValidator(_listed),
]
"""One way of pooling states or several, side by side."""


class EncoderBase(Options):
    """Options of a sequence encoder."""

    if TYPE_CHECKING:
        name: str

    given: ClassVar[tuple[str, ...]] = ("input_size",)


class NoEncoderOptions(EncoderBase):
    """No sequence encoder: events are pooled directly; order shows only in the time features."""

    how: ClassVar[str] = "the events x_1 .. x_n themselves go to the pooling"
    when: ClassVar[str] = (
        "the default. How often and how much matters more than the exact order, as with card "
        "transactions, purchases and laboratory values"
    )
    name: Literal["none"] = "none"


class RecurrentOptions(EncoderBase):
    """A GRU or LSTM."""

    lines: ClassVar[dict[str, str]] = {
        "gru": "Gated recurrent unit: a state that each event updates.",
        "lstm": "Long short-term memory: a gated state with a memory cell beside it.",
    }
    how: ClassVar[str] = "a state s_t = f(s_(t-1), x_t) after each event x_t, with gates in f"
    source: ClassVar[str] = "GRU: Cho et al., 1406.1078; LSTM: Hochreiter, Schmidhuber, 1997"
    when: ClassVar[str] = (
        "the next step depends on the last ones, as in process logs, clickstreams and lessons; "
        "with the objective next_event. It can continue from a `--state`"
    )

    name: Literal["gru", "lstm"] = "gru"
    hidden_size: Positive = 256
    """Width of the state."""
    layers: Layers = 1
    """Number of layers."""
    dropout: Share = 0.0
    """Dropout between layers."""
    input_size: Positive | None = None
    """Width to which events are projected before the recurrence; null does not project."""
    pooling: StatePoolingOptions | None = None
    """A separate pooling of the states, null for none. Its numbers are the last of the vector, and
    only objectives that predict from states train them, such as next_event. By default the states
    are pooled with the events, by the pooling of the config.
    """

    @model_validator(mode="after")
    def _dropout_has_a_use(self, info: ValidationInfo) -> RecurrentOptions:
        if self.dropout and self.layers == 1 and not is_lenient(info):
            raise ValueError(f"dropout {self.dropout:g} is between layers, and layers is 1")
        return self


globals().update(options_in("nn/encoders", EncoderBase, but=("recurrent",)))

if TYPE_CHECKING:
    AnyEncoderOptions: TypeAlias = EncoderBase
else:
    AnyEncoderOptions = all_of(EncoderBase)
EncoderOptions: TypeAlias = Annotated[
    Annotated[AnyEncoderOptions, Field(discriminator="name")],
    BeforeValidator(named_or("gru")),
]


class CategoryMeanOptions(Options):
    """Options of the pooling category_mean: a mean per value of one categorical column."""

    column: str | None = None
    """Categorical column; null takes the one that numbers are scaled within, else the largest
    whose values all fit."""
    values: Positive = 40
    """Number of most frequent values with a slot of their own."""
    size: Positive = 8
    """Dimensions per slot, a learnt projection of an event."""


PoolingName: TypeAlias = Literal[
    "last",
    "mean",
    "max",
    "std",
    "log_sum",
    "attention",
    "category_mean",
    "recent",
    "code_fractions",
    "category_recent",
    "category_components",
    "transitions",
    "rhythm",
    "known_numbers",
    "missing_numbers",
    "last_ranks",
    "last_event",
]
PoolingOptions: TypeAlias = Annotated[
    tuple[PoolingName, ...], Field(min_length=1), BeforeValidator(_listed)
]
"""One way or several, side by side."""
LAST_EVENT: PoolingName = "last_event"
RECENT_POOLINGS: tuple[PoolingName, ...] = (
    LAST_EVENT, "recent", "code_fractions", "category_recent", "category_components",
    "transitions", "rhythm", "known_numbers", "missing_numbers", "last_ranks",
)  # fmt: skip
"""Poolings of the last events, which no objective sees and which have no weights of their own.

Where embedding_dim is null they are appended to the vector, as the recency features are.
"""
DEFAULT_POOLING: tuple[PoolingName, ...] = (
    "mean", "std", "max", "log_sum", "category_mean", *RECENT_POOLINGS,
)  # fmt: skip
BY_CATEGORY = frozenset({"category_mean", "category_recent", "transitions", "rhythm"})
"""Poolings that the options of `category_mean` apply to."""
POOLINGS = {
    "last": "The state after the last event.",
    "mean": "The mean of all events.",
    "max": "The largest of each number over all events.",
    "std": "The standard deviation over all events.",
    "log_sum": (
        "The logarithm of the sum of all events, with its sign: tells how many there were of what."
    ),
    "attention": "A mean with learnt weights.",
    "category_mean": (
        "Of each kind of event a few learnt numbers, averaged, and how many there were."
    ),
    "last_event": (
        "The last event as it is encoded, in a few principal components; no objective sees it."
    ),
    "recent": (
        "The last events as they are, how they differ from the others, and what is "
        "repeated at the end; not learnt."
    ),
    "code_fractions": "The fraction of events with each of the first category values; not learnt.",
    "category_recent": (
        "Of each kind of event how long ago it was, its last numbers, and these "
        "less their mean; not learnt."
    ),
    "category_components": (
        "The category values that a client has, of very many, as a few singular vectors of the "
        "matrix of clients and values; not learnt."
    ),
    "transitions": (
        "Which kind of event follows which more than the other way round, as a few "
        "principal components; not learnt."
    ),
    "rhythm": (
        "Statistics of the gaps between events, and the time since each kind of event; not learnt."
    ),
    "known_numbers": (
        "The last known value of each numeric column, and a mean in which later values count more; "
        "not learnt."
    ),
    "missing_numbers": (
        "Of each numeric column that events lack, how often it is there, and how lately; not "
        "learnt."
    ),
    "last_ranks": (
        "How frequent the category values of the last three events are, by rank; not learnt."
    ),
}
POOLING_FACTS = {
    "last": (
        "s_n",
        "a GRU or LSTM that predicts the next event: its last state summarises the sequence",
        "Babaev et al., 2002.08232",
    ),
    "mean": ("(x_1 + ... + x_n) / n, per dimension", "always: what a typical event is like", ""),
    "max": ("max of x_1 .. x_n, per dimension", "single events matter, such as a first refund", ""),
    "std": (
        "sqrt(mean of (x_t - mean)^2), per dimension",
        "clients differ in how much they vary, such as regular and irregular amounts",
        "",
    ),
    "log_sum": (
        "sign(s) ln(1 + |s|), s = x_1 + ... + x_n, per dimension",
        "the number of events, and sums such as turnover, matter beside the mean",
        "",
    ),
    "attention": (
        "sum of a_t x_t with a = softmax of a learnt score of x_t, per head of 32 dimensions",
        "few events of a long sequence matter, and the labels are learnt end to end. It cannot be "
        "exported to ONNX",
        "Lin et al., 1703.03130",
    ),
    "category_mean": (
        "for each frequent value v of one categorical column the mean of W x_t over its n_v events,"
        " and ln(1 + n_v)",
        "rare kinds of events matter: one laboratory test among hundreds hardly moves a plain mean",
        "",
    ),
    "last_event": (
        "the first 16 principal components of x_n",
        "the last of hundreds of codes says what comes next",
        "",
    ),
    "recent": (
        "the last events as plain numbers; sum q^(n-1-i) x_i / sum q^(n-1-i) - m, q = 2^(-1/4); "
        "(4 / n^2) sum (i - (n-1)/2) x_i; run lengths",
        "the end of a sequence matters, or what changes along it",
        "",
    ),
    "code_fractions": (
        "n_v / n for the codes v that have one-hot columns, 32 of all categories together",
        "what a client prefers, or who wins more often, matters beside how often it is there",
        "",
    ),
    "category_recent": (
        "per category value 1 / (1 + events since its last event), ln(1 + n_v), and for each number"
        " its last value, its mean and their difference",
        "what happened last of each kind matters, such as the last result of each test",
        "",
    ),
    "category_components": (
        "z = sum_v n_v w_v W_v / sqrt(n), w_v = 1 - ln d_v with d_v the fraction of clients with "
        "value v, W the first 32 right singular vectors of w_v (1 + ln n_v) of the training "
        "clients, each scaled to length 1; for up to 3 columns of more than 42 codes; the items of "
        "sets and the words of texts are values as well",
        "a client's taste shows in which of thousands of films, shops or products it chose",
        "latent semantic analysis: Deerwester et al., JASIS 41, 1990",
    ),
    "transitions": (
        "the first 16 principal components of A_ab = (N_ab - N_ba) / sqrt(n), N_ab the number of "
        "times that b directly follows a",
        "which kind follows which matters, as in processes and strokes of a pen",
        "after Lyons, 1405.4537",
    ),
    "rhythm": (
        "of the scaled logarithms of the gaps mean, standard deviation, maximum, the last three, "
        "and means halved every 2 and 8 events back; per category value -ln(1 + a / u), a the time "
        "since its last event, u the median gap, or 1 if there was none",
        "when something happens again matters: a salary comes a month after the last one",
        "",
    ),
    "known_numbers": (
        "per numeric column the last known value x_m, and sum q^(m-j) x_j / sum q^(m-j) over its "
        "known values, q = 2^(-1/4)",
        "most events lack most columns, as in a table of several record types",
        "",
    ),
    "missing_numbers": (
        "per numeric column that at least 1 % of the training events lack the fraction of events "
        "that have it, 1 / (1 + events since the last one), and sum q^(n-1-i) k_i / sum q^(n-1-i) "
        "with k_i = 1 where event i has it and q = 2^(-1/4)",
        "whether something was measured tells as much as its value, as with laboratory tests",
        "after Che et al., 1606.01865",
    ),
    "last_ranks": (
        "ln(1 + r) / ln K for the code r of K of each category, of the last three events",
        "what comes next depends on the last of many codes, more than have one-hot columns",
        "",
    ),
}
"""Name -> its equation, when to use it, and where it was published.

x_t is event t of n as it is encoded, beside its state if there is a sequence encoder.
"""
