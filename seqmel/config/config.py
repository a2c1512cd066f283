"""All options of a training run, and the checks across sections."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError, ValidationInfo, model_validator

from seqmel.config.options.base import Options, Positive, is_lenient, named
from seqmel.config.options.losses import DEFAULT_LOSS, AnyLossOptions, LossOptions, PMLOptions
from seqmel.config.options.miners import MinerOptions
from seqmel.config.options.network import (
    BY_CATEGORY,
    DEFAULT_POOLING,
    RECENT_POOLINGS,
    CategoryMeanOptions,
    EncoderOptions,
    EventEncoderOptions,
    NoEncoderOptions,
    PoolingOptions,
    RecurrentOptions,
)
from seqmel.config.options.objectives import (
    CoLESOptions,
    EventPredictionOptions,
    LabelledOptions,
    LeaveOutOptions,
    ObjectivesOptions,
)
from seqmel.config.options.preparation import EmbeddingOptions, PreparationOptions
from seqmel.config.options.samplers import DEFAULT_SAMPLER, SamplerOptions
from seqmel.config.options.training import FinetuningOptions, TrainingOptions
from seqmel.config.options.views import DEFAULT_VIEWS, ViewsOptions
from seqmel.config.registry import is_of, method_name, options_of
from seqmel.config.renames import RENAMED_OPTIONS, with_new_names
from seqmel.config.validation_errors import explain
from seqmel.core.errors import ConfigError
from seqmel.core.renames import warn_renamed
from seqmel.data.schema import SchemaOptions

if TYPE_CHECKING:
    from seqmel.core.poincare_ball import PoincareBall

__all__ = ["LABELLED", "Config", "as_config"]

_SIDE_BY_SIDE = (
    1024  # width of a recurrence times how many times as many events: what more memory it may take
)

_FROM_VECTORS = {"coles", "event_prediction", "supervised_contrastive", "classification"}
_FROM_STATES = {"next_event", "cpc", "masked_events", "replaced_token"}

LABELLED: tuple[str, ...] = tuple(
    name
    for model in LabelledOptions.__subclasses__()
    for name in get_args(model.model_fields["name"].annotation)
)
"""The objectives that learn from labels."""


class Config(Options):
    """Everything that decides a training, besides the events themselves.

    Examples:
        >>> from seqmel import Config
        >>> config = Config.from_dict({"encoder": "gru", "training": {"epochs": 3}})
        >>> config.encoder.hidden_size, config.training.epochs
        (256, 3)
    """

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Random seed of everything in training."""
    schema: SchemaOptions = SchemaOptions()  # type: ignore[assignment]  # see `Options`
    """Which column has which role; see EventSchema."""
    preparation: PreparationOptions = PreparationOptions()
    """How raw events become encoded sequences."""
    objective: ObjectivesOptions = (CoLESOptions(), EventPredictionOptions())
    """One part, or several that are trained together."""
    views: ViewsOptions = DEFAULT_VIEWS
    """Augmentations: the parts of a sequence that are compared."""
    event_encoder: EventEncoderOptions = EventEncoderOptions()
    """The network that embeds one event."""
    encoder: EncoderOptions = NoEncoderOptions()
    """The network over the sequence of events."""
    pooling: PoolingOptions = DEFAULT_POOLING
    """How the states of a sequence become one vector: one pooling, or several concatenated."""
    category_mean: CategoryMeanOptions = CategoryMeanOptions()
    """Options of the poolings category_mean, category_recent, transitions and rhythm."""
    embedding_dim: Positive | None = None
    """Dimension of the embedding; null takes the pooled states without projection."""
    matryoshka: tuple[Positive, ...] = ()
    """Prefix lengths that are trained to be usable embeddings, such as [16, 64]; needs
    embedding_dim."""
    pca_dim: Positive | Literal["auto"] | None = "auto"
    """Number of principal components that the pooled states, without category_mean, are reduced to
    after training: auto takes at most 2 sqrt(clients), from 32 to 256, and keeps those that two
    halves of a client's events repeat; null keeps all dimensions. Only without embedding_dim."""
    recency_features: bool = True
    """Append three fixed features: log number of events, days since the first and since the
    last. Only without embedding_dim."""
    loss: LossOptions = DEFAULT_LOSS
    """The loss of the objective coles."""
    miner: MinerOptions = None
    """The miner of the loss; null for losses that take the whole batch."""
    sampler: SamplerOptions = DEFAULT_SAMPLER
    """How clients are drawn into batches."""
    training: TrainingOptions = TrainingOptions()
    """Pre-training."""
    finetuning: FinetuningOptions = FinetuningOptions()
    """Fine-tuning on labels."""
    embedding: EmbeddingOptions = EmbeddingOptions()
    """How a trained model is run."""
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda|gpu|mps|cuda:\d+)$")
    """auto, cpu, cuda, cuda:1 or mps."""
    devices: Positive = 1
    """Number of local devices that train together, each on its shard of every batch; several
    hosts are started by torchrun."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    """Floating point precision of training."""

    @model_validator(mode="before")
    @classmethod
    def _a_loss_brings_its_miner(cls, values: Any, info: ValidationInfo) -> Any:
        """Add the default miner of the loss if no miner is named.

        Options of a miner without a name are then those of the default miner.
        """
        if not isinstance(values, Mapping):
            return values
        values = with_new_names(values, quiet=is_lenient(info))
        if is_lenient(info):
            values = {"pca_dim": None, **values}  # models of earlier versions have no components
        loss = named(values.get("loss"))
        default = next((o.default_miner for o in options_of(cls, "loss") if is_of(o, loss)), None)
        miner = values.get("miner", default)
        if default is not None and isinstance(miner, Mapping):
            miner = {"name": default, **miner}
        return {**values, "miner": miner} if miner is not None else values

    @model_validator(mode="after")
    def _fits_together(self, info: ValidationInfo) -> Config:
        for section, names in (("pooling", self.pooling), ("encoder.pooling", self.state_pooling)):
            if len(set(names)) < len(names):
                raise ValueError(f"{section} names one pooling twice: {', '.join(names)}")
        if not set(self.pooling) - set(RECENT_POOLINGS):
            raise ValueError(
                f"pooling is {', '.join(self.pooling)} alone, which has no trainable states; add "
                "another pooling, such as mean"
            )
        parts: list[str] = [part.name for part in self.objective]
        if len(set(parts)) < len(parts):
            raise ValueError(f"objective names one part twice: {', '.join(parts)}")
        self._objectives_fit(parts)
        if not is_lenient(info):
            self._views_fit(parts)
            self._vectors_alone(parts)
            self._states_learn(parts)
        self._check_matryoshka()
        loss = self.loss
        miner = self.miner
        fitting = ", ".join(
            method_name(o) for o in options_of(Config, "miner") if o.gives == loss.takes
        )
        if loss.takes == "batch" and miner is not None:
            raise ValueError(
                f"the loss {loss.name} takes no miner, found {miner.name}; set miner to null"
            )
        if loss.takes != "batch" and miner is None:
            raise ValueError(f"the loss {loss.name} needs a miner: one of {fitting}")
        if miner is not None and miner.gives != loss.takes:
            raise ValueError(
                f"the loss {loss.name} takes {loss.takes}, the miner {miner.name} gives "
                f"{miner.gives}; expected one of: {fitting}"
            )
        self._ball_fits()
        if self.leave_out is not None and loss.takes == "batch" and not loss.leaves_out:
            fitting = ", ".join(
                method_name(o)
                for o in options_of(Config, "loss")
                if o.takes != "batch" or o.leaves_out
            )
            raise ValueError(
                f"the loss {loss.name} cannot leave out negatives; expected one of: {fitting}; or "
                "remove leave_out"
            )
        return self

    def _ball_fits(self) -> None:
        """Raise if the loss or the miner cannot compare points of a Poincare ball."""
        if not any(isinstance(part, CoLESOptions) and part.curvature for part in self.objective):
            return
        debias = getattr(self.loss, "debias", 0.0)
        if debias:
            raise ValueError(f"debias {debias} is for cosines; leave out debias, or curvature")
        for section, part in (("loss", self.loss), ("miner", self.miner)):
            if part is not None and not part.hyperbolic:
                fitting = ", ".join(
                    method_name(o) for o in options_of(Config, section) if o.hyperbolic
                )
                raise ValueError(
                    f"the {section} {part.name} cannot use hyperbolic distances; expected one of: "
                    f"{fitting}; or leave curvature out"
                )

    def _objectives_fit(self, parts: Iterable[str]) -> None:
        """Raise if the encoder cannot train a part of the objective."""
        looks_back = self.recurrent or getattr(self.encoder, "causal", False)
        for part in parts:
            if part in ("next_event", "cpc") and not looks_back:
                raise ValueError(
                    f"the objective {part} needs a causal encoder: gru, lstm, or transformer with"
                    f" causal: true; found {self.encoder.name}"
                )
            if part in ("masked_events", "replaced_token") and self.encoder.name == "none":
                raise ValueError(
                    f"the objective {part} needs an encoder: gru, lstm or transformer; found none"
                )

    def _vectors_alone(self, parts: Iterable[str]) -> None:
        """Raise if batches are encoded in parts and the objective needs more than the vectors."""
        for part in parts:
            if self.training.events_at_a_time is not None and part not in _FROM_VECTORS:
                raise ValueError(
                    f"the objective {part} needs the states of all events of a batch; leave out "
                    "training.events_at_a_time, or train with some of: "
                    f"{', '.join(sorted(_FROM_VECTORS))}"
                )

    def _views_fit(self, parts: Iterable[str]) -> None:
        """Raise if views are shuffled and a part of the objective needs the order of events."""
        for part in parts:
            if (
                part in ("cpc", "next_event", "sequence_order", "next_sequence")
                and self.views.shuffle
            ):
                raise ValueError(
                    f"the objective {part} needs the order of events; set views.shuffle to false"
                )

    def _states_learn(self, parts: Sequence[str]) -> None:
        """Raise if states are pooled separately and no part of the objective trains them."""
        if self.state_pooling and self.embedding_dim is None and _FROM_STATES.isdisjoint(parts):
            raise ValueError(
                "encoder.pooling needs a part of the objective that predicts from states: "
                f"{', '.join(sorted(_FROM_STATES))}; found {', '.join(parts)}"
            )

    def _check_matryoshka(self) -> None:
        sizes = self.matryoshka
        if not sizes:
            return
        if self.embedding_dim is None:
            raise ValueError(
                "matryoshka needs embedding_dim, such as 256: a prefix of concatenated poolings is "
                "not an embedding"
            )
        if list(sizes) != sorted(set(sizes)) or sizes[-1] >= self.embedding_dim:
            raise ValueError(
                f"matryoshka is {list(sizes)}; expected growing sizes below embedding_dim, which "
                f"is {self.embedding_dim}"
            )
        if not {"coles", "event_prediction"} & {part.name for part in self.objective}:
            raise ValueError(
                "matryoshka needs a part of the objective that trains embeddings: coles, "
                "event_prediction"
            )

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name not in RENAMED_OPTIONS:
                return super().__getattr__(name)
            warn_renamed(f"config.{name}", f"config.{RENAMED_OPTIONS[name]}", stacklevel=2)
            return getattr(self, RENAMED_OPTIONS[name])

    @property
    def recurrent(self) -> bool:
        """Whether the encoder is a GRU or LSTM."""
        return isinstance(self.encoder, RecurrentOptions)

    @property
    def state_pooling(self) -> tuple[str, ...]:
        """The separate pooling of the states of a GRU or LSTM; empty if pooled with the events."""
        return (self.encoder.pooling or ()) if isinstance(self.encoder, RecurrentOptions) else ()

    @property
    def events_at_a_time(self) -> int:
        """Events per batch when embedding.

        4 times `batch_events` for a GRU or LSTM up to width 256, twice up to 512.
        """
        most = self.embedding.batch_events
        if isinstance(self.encoder, RecurrentOptions):
            return most * max(1, min(4, _SIDE_BY_SIDE // self.encoder.hidden_size))
        return most

    @property
    def resources(self) -> dict[str, Any]:
        """The resources for reading events, as keywords of `open_events`."""
        return {"memory_limit": self.preparation.memory_limit, "threads": self.preparation.threads}

    @property
    def reading(self) -> dict[str, Any]:
        """All keywords of `open_events` for events without a model: columns and resources."""
        return self.schema.reading | self.resources

    @property
    def compares(self) -> bool:
        """Whether a part of the objective uses `loss` and `miner`."""
        return any(isinstance(part, CoLESOptions) for part in self.objective)

    @property
    def ball(self) -> PoincareBall | None:
        """The ball that embeddings are tangent vectors of: with curvature and without a head."""
        for part in self.objective:
            if isinstance(part, CoLESOptions) and part.curvature and part.head_size is None:
                from seqmel.core.poincare_ball import PoincareBall  # torch, slow to import

                return PoincareBall(part.curvature, part.clip_radius)
        return None

    @property
    def leave_out(self) -> LeaveOutOptions | None:
        """What is left out of the negatives; None if nothing is."""
        for part in self.objective:
            if isinstance(part, CoLESOptions) and part.leave_out.active:
                return part.leave_out
        return None

    @property
    def labelled(self) -> dict[str, LabelledOptions]:
        """The parts of the objective that learn from labels, by name."""
        return {part.name: part for part in self.objective if isinstance(part, LabelledOptions)}

    @classmethod
    def from_dict(
        cls,
        options: Mapping[str, Any],
        *,
        source: str = "the config",
        lenient: bool = False,
        said: Container[str] | None = None,
    ) -> Config:
        """Check options and return the config.

        Args:
            options: by the names of a config file.
            source: where they are from, for error messages.
            lenient: whether the options belong to an existing model or are only shown. Losses of
                a library are then not looked up, and options without effect or of earlier versions
                are accepted.
            said: options that must have an effect, see `last_said`. None means all.
        """
        try:
            config = cls.model_validate(dict(options), context={"lenient": lenient})
        except ValidationError as error:
            raise ConfigError(explain(error, source, cls)) from None
        if not lenient:
            _check_idle(config, options if said is None else said, source)
            _check_library(config.loss, source)
        return config

    @classmethod
    def of(cls, options: Mapping[str, Any], **more: Any) -> Config:
        """The old name of `from_dict`."""
        warn_renamed("Config.of", "Config.from_dict", stacklevel=2)
        return cls.from_dict(options, **more)

    def to_dict(self) -> dict[str, Any]:
        """All options, including defaults, as JSON values."""
        return self.model_dump(mode="json")


def as_config(config: Config | Mapping[str, Any] | None) -> Config:
    """Return a config as it is, or check a mapping of options; None gives the defaults.

    Raises:
        ConfigError: neither a config nor a mapping, or invalid options.
    """
    if isinstance(config, Config):
        return config
    if config is not None and not isinstance(config, Mapping):
        raise ConfigError(
            f"config is a {type(config).__name__}. Expected a Config or a mapping of options, such "
            f"as {{'encoder': 'gru'}}; read_config reads a file."
        )
    return Config.from_dict(config or {})


def _check_idle(config: Config, said: Container[str], source: str) -> None:
    """Raise if an explicitly set, non-default option has no effect."""
    idle = BY_CATEGORY.isdisjoint(config.pooling) and config.category_mean != CategoryMeanOptions()
    if "category_mean" in said and idle:
        raise ConfigError(
            f"{source}: category_mean has no effect: pooling ({', '.join(config.pooling)}) does "
            "not name it. Leave it out, or add category_mean to pooling."
        )
    if config.compares:
        return
    for section in ("loss", "miner"):
        part = getattr(config, section)
        if section in said and part not in (None, Config.model_fields[section].default):
            parts = ", ".join(option.name for option in config.objective)
            raise ConfigError(
                f"{source}: the {section} {part.name} has no effect: no part of the objective "
                f"({parts}) compares clients. Leave {section} out, or add coles to the objective."
            )


def _check_library(loss: AnyLossOptions, source: str) -> None:
    """Check that the loss exists in pytorch-metric-learning and takes these arguments.

    The library is imported only if it is used.
    """
    if isinstance(loss, PMLOptions):
        from seqmel.core.metric_learning_library import check_loss

        try:
            check_loss(loss.loss, loss.options)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from None
