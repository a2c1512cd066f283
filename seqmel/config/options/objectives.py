"""Options of the objectives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from seqmel.config.options.base import (
    Above,
    Cosine,
    Options,
    Positive,
    Share,
    With,
    all_of,
    also_named,
    named_or,
)

__all__ = [
    "OTHER_OBJECTIVE_NAMES",
    "CPCOptions",
    "ClassificationOptions",
    "CoLESOptions",
    "EventPredictionOptions",
    "LabelledOptions",
    "LeaveOutOptions",
    "MaskedEventsOptions",
    "NextEventOptions",
    "NextSequenceOptions",
    "ObjectiveBase",
    "ObjectiveOptions",
    "ObjectivesOptions",
    "ReplacedTokenOptions",
    "SequenceOrderOptions",
    "SupervisedContrastiveOptions",
]

OTHER_OBJECTIVE_NAMES = {
    "meles": "coles",
    "mlm": "masked_events",
    "nsp": "next_sequence",
    "rtd": "replaced_token",
    "sop": "sequence_order",
}
"""Other name -> ours."""


class ObjectiveBase(Options):
    """Options of a part of the objective."""

    if TYPE_CHECKING:
        name: str

    given: ClassVar[tuple[str, ...]] = (
        "embedding_size",
        "state_size",
        "event_size",
        "vocabulary",
    )
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Loss weight of this part of the objective."""


class LeaveOutOptions(Options):
    """Which pairs of clients are left out of the negatives, because they are probably alike."""

    cosine: Cosine | None = None
    """Leave out pairs whose vectors, as the loss compares them, have at least this cosine."""
    cosine_start: Annotated[Cosine | None, With("cosine")] = None
    """The cosine at the start of training, such as 1; it moves linearly to `cosine`. null keeps it
    constant."""
    duplicates: Annotated[float, Field(gt=0, le=1)] | None = None
    """Leave out pairs of clients that share at least this fraction of their subsequences of three
    events, by categories."""
    vectors: Annotated[str, Field(min_length=1)] | None = None
    """A file of `seqmel embed` by an earlier model: leave out clients that were near then."""
    vectors_cosine: Annotated[Cosine, With("vectors")] = 0.95
    """The cosine of centred vectors from which clients were near."""
    table: Annotated[str, Field(min_length=1)] | None = None
    """A table with one row per client: leave out pairs with the same value of `column`."""
    column: Annotated[Annotated[str, Field(min_length=1)] | None, With("table")] = None
    """The column of the table, such as a household or a segment."""

    @model_validator(mode="after")
    def _table_has_a_column(self) -> LeaveOutOptions:
        if self.table is not None and self.column is None:
            raise ValueError("leave_out.table needs a column; set leave_out.column")
        return self

    @property
    def active(self) -> bool:
        """Whether anything is left out."""
        return self != LeaveOutOptions()

    def threshold(self, progress: float) -> float | None:
        """The cosine from which pairs are left out, at a training progress in [0, 1]."""
        if self.cosine is None or self.cosine_start is None:
            return self.cosine
        return self.cosine_start + (self.cosine - self.cosine_start) * min(1.0, max(0.0, progress))


class CoLESOptions(ObjectiveBase):
    """Contrastive learning: pulls views of one client together, pushes views of others apart."""

    how: ClassVar[str] = (
        "views of one client near each other, views of other clients apart, by `loss` and "
        "`miner` behind a projection head"
    )
    source: ClassVar[str] = "Babaev et al., 2002.08232; head: Chen et al., 2002.05709"
    when: ClassVar[str] = (
        "part of the default: what distinguishes clients should be in the vector. Look at "
        "recall@1 to see whether it still learns"
    )
    name: Literal["coles"] = "coles"
    head_size: Positive | None = 128
    """Width of the projection head, used in training only; null compares the embeddings
    themselves."""
    curvature: Above | None = None
    """Compare points of a Poincare ball of this curvature, such as 0.1, by hyperbolic distance;
    null compares unit vectors."""
    clip_radius: Annotated[Above | None, With("curvature")] = 2.3
    """With curvature: longer vectors are shortened to this length, which keeps them off the border;
    null shortens none."""
    leave_out: LeaveOutOptions = LeaveOutOptions()
    """Negatives that are left out, because they are probably of the same kind."""


class EventPredictionOptions(ObjectiveBase):
    """Predicts the events of one view from the embedding of another view of the same client."""

    how: ClassVar[str] = (
        "mean negative log-likelihood of the features of the events of one view, from the "
        "vector of another view of the client"
    )
    source: ClassVar[str] = (
        "after Le, Mikolov, 1405.4053 (PV-DBOW); beside CoLES after MLEM, 2401.15935"
    )
    when: ClassVar[str] = (
        "part of the default: what the events of a client are like should be in the vector. It "
        "goes on learning when clients are distinguished without error"
    )
    name: Literal["event_prediction"] = "event_prediction"
    head_size: Positive = 256
    """Width of the hidden layer of the decoder."""


class NextEventOptions(ObjectiveBase):
    """Predicts each next event and its time from the state before it; for causal encoders."""

    how: ClassVar[str] = (
        "mean over t of -log p(x_(t+1) | h_t) - log p(time to it | h_t), from the state h_t "
        "after event t; `views` limits it to the first views of each client"
    )
    source: ClassVar[str] = "as language models are trained; time: Du et al., KDD 2016"
    when: ClassVar[str] = (
        "the next step depends on the last ones, as in process logs and clickstreams. Needs "
        "gru, lstm, or transformer with `causal: true`"
    )
    name: Literal["next_event"] = "next_event"
    head_size: Positive = 256
    """Width of the hidden layer of the decoder."""
    views: Positive | None = None
    """Views per client to learn from; null takes all."""
    max_events: Positive = 4096
    """Maximum number of target events per batch."""


class MaskedEventsOptions(ObjectiveBase):
    """Predicts masked events from the rest of their view; for encoders with context."""

    how: ClassVar[str] = (
        "mean negative log-likelihood of the features of masked events, from the rest of the view"
    )
    source: ClassVar[str] = "Devlin et al., 1810.04805; beside CoLES: 2408.09995"
    when: ClassVar[str] = (
        "a Transformer that looks both ways. The time of a masked event stays visible. Needs a "
        "sequence encoder"
    )
    name: Literal["masked_events"] = "masked_events"
    head_size: Positive = 256
    """Width of the hidden layer of the decoder."""
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Fraction of events that are masked."""


class CPCOptions(ObjectiveBase):
    """Contrastive predictive coding: picks a future event among many; for causal encoders."""

    how: ClassVar[str] = (
        "mean over t and steps k of the InfoNCE loss of event t + k among the events of the "
        "batch, from the state after event t; `negatives: others` leaves out events of the same "
        "client"
    )
    source: ClassVar[str] = "van den Oord et al., 1807.03748"
    when: ClassVar[str] = (
        "as next_event, where events have so many features or values that predicting each is "
        "costly. Needs gru, lstm, or transformer with `causal: true`"
    )
    name: Literal["cpc"] = "cpc"
    head_size: Positive = 128
    """Width in which states and events are compared."""
    steps: Annotated[int, Field(ge=1, le=100)] = 3
    """Number of steps to look ahead."""
    temperature: Above = 0.1
    """Softmax temperature."""
    negatives: Literal["batch", "others"] = "batch"
    """Negatives: all target events of the batch, or only those of other clients."""
    max_events: Annotated[int, Field(ge=2)] = 1024
    """Maximum number of anchor positions per batch and step."""


class ReplacedTokenOptions(ObjectiveBase):
    """Detects events whose features were replaced; for encoders with context."""

    how: ClassVar[str] = (
        "binary cross-entropy, for each event, of whether features of it were replaced by those "
        "of another event"
    )
    source: ClassVar[str] = "after ELECTRA, Clark et al., 2003.10555"
    when: ClassVar[str] = (
        "a Transformer or a recurrence on long sequences: every event is a training signal, not "
        "only the masked ones. Needs a sequence encoder"
    )
    name: Literal["replaced_token"] = "replaced_token"
    head_size: Positive = 256
    """Width of the hidden layer of the classifier."""
    corrupt_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Fraction of events that are corrupted."""
    feature_fraction: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Probability that a feature of such an event is replaced; at least one is."""


class SequenceOrderOptions(ObjectiveBase):
    """Predicts which half of a view came first."""

    how: ClassVar[str] = (
        "binary cross-entropy of which of the two halves of a view came first; each half is "
        "encoded alone"
    )
    source: ClassVar[str] = "Lan et al., ALBERT, 1909.11942"
    when: ClassVar[str] = (
        "behaviour changes in one direction over the life of a client. An ablation elsewhere"
    )
    name: Literal["sequence_order"] = "sequence_order"
    head_size: Positive = 256
    """Width of the hidden layer of the classifier."""


class NextSequenceOptions(ObjectiveBase):
    """Predicts whether one part of a sequence follows another, or is of another client."""

    how: ClassVar[str] = (
        "binary cross-entropy of whether the second half of a view follows on the first, or is "
        "of another client; all are equally long"
    )
    source: ClassVar[str] = "Devlin et al., 1810.04805"
    when: ClassVar[str] = (
        "a baseline from the literature. CoLES asks nearly the same, of more negatives"
    )
    name: Literal["next_sequence"] = "next_sequence"
    head_size: Positive = 256
    """Width of the hidden layer of the classifier."""


class LabelledOptions(ObjectiveBase):
    """Options of objectives that learn from labels of some clients."""

    labels: Annotated[str, Field(min_length=1)]
    """Table with one row per client."""
    target: Annotated[str, Field(min_length=1)]
    """Column of the labels with the class."""


class SupervisedContrastiveOptions(LabelledOptions):
    """Pulls views of one class together and pushes other classes apart; labels for some clients."""

    how: ClassVar[str] = (
        "views of labelled clients of one class together, of others apart (SupCon); `labels` is "
        "a table with one row per client, `target` its column"
    )
    source: ClassVar[str] = "Khosla et al., 2004.11362"
    when: ClassVar[str] = (
        "labels for a part of the clients that later models will share. Clients without a label "
        "learn from the other parts. For one target, `finetune` is simpler"
    )
    name: Literal["supervised_contrastive"] = "supervised_contrastive"
    head_size: Positive = 128
    """Width of the projection head."""
    temperature: Above = 0.1
    """Softmax temperature."""


class ClassificationOptions(LabelledOptions):
    """Predicts the class of a client from each of its views; labels for some clients."""

    how: ClassVar[str] = (
        "cross-entropy of the class of a labelled client, from the vector of each of its views, "
        "behind a small head; `labels` and `target` name table and column"
    )
    source: ClassVar[str] = "beside a metric loss: Sun et al., 1406.4773"
    when: ClassVar[str] = (
        "as supervised_contrastive, with few classes. For one target, `finetune` is simpler"
    )
    name: Literal["classification"] = "classification"
    head_size: Positive = 128
    """Width of the hidden layer of the classifier."""
    label_smoothing: Share = 0.0
    """Label smoothing."""
    class_weight: Literal["balanced"] | None = None
    """balanced: weight classes by inverse frequency."""


def _parts(value: Any) -> Any:
    return [value] if isinstance(value, (str, Mapping, BaseModel)) else value


if TYPE_CHECKING:
    ObjectiveOptions: TypeAlias = ObjectiveBase
else:
    ObjectiveOptions = all_of(ObjectiveBase)
ObjectivesOptions: TypeAlias = Annotated[
    tuple[
        Annotated[
            Annotated[ObjectiveOptions, Field(discriminator="name")],
            BeforeValidator(named_or("coles")),
            BeforeValidator(also_named(OTHER_OBJECTIVE_NAMES)),
        ],
        ...,
    ],
    Field(min_length=1),
    BeforeValidator(_parts),
]
