"""All options of a training, checked before any work starts.

A config file lists only what differs from the defaults. Views, encoder, objective, loss and miner are each a name, or a
name with options: `encoder: lstm`, or `encoder: {name: lstm, hidden_size: 512}`.
"""

from __future__ import annotations

import reprlib
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from seqmel.errors import ConfigError, did_you_mean, shown
from seqmel.options.base import Above, Layers, NotNegative, Options, Positive, Share, is_lenient, named, named_or
from seqmel.options.changes import CHANGES
from seqmel.options.losses import OTHER_LOSS_NAMES, AnyLossOptions, InfoNCEOptions, LossOptions, PMLOptions
from seqmel.options.miners import AnyMinerOptions, MinerOptions
from seqmel.options.objectives import (
    OTHER_OBJECTIVE_NAMES,
    CoLESOptions,
    EventPredictionOptions,
    LabelledOptions,
    ObjectivesOptions,
)
from seqmel.options.samplers import RandomOptions, SamplerOptions
from seqmel.options.views import OTHER_VIEW_NAMES, RandomSlicesOptions, ViewsOptions
from seqmel.schema import SchemaOptions

__all__ = ["LABELLED", "Config", "last_said", "methods", "parse_yaml", "read_config"]


class PreparationOptions(Options):
    """How events become sequences."""

    memory_limit: str = Field("2GB", pattern=r"^\d+(\.\d+)?\s*([KMGT]i?)?B$")
    """What the engine that sorts may hold in memory before it goes to disk."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """How many threads it uses; all cores where null."""
    min_count: Positive = 5
    """A category value seen fewer times than this is rare."""
    max_categories: Positive = 20_000
    """Most values of a column that have a code of their own."""


class EventOptions(Options):
    """The network that sees one event."""

    hidden_size: Positive = 256
    layers: Layers = 2
    dropout: Share = 0.0
    category_dropout: Share = 0.01
    noise: NotNegative = 0.0
    """Standard deviation of the noise that training adds to the embedded features of an event."""
    pretrain: Literal["ppmi"] | None = None
    """How embeddings of categories begin: null at random; ppmi so that codes which stand near the same others are near."""
    pretrain_window: Positive = 5
    """Codes at most so many events apart stand near each other."""


class NoEncoderOptions(Options):
    """No sequence encoder: events are pooled as they are, and order shows only in the time features."""

    name: Literal["none"] = "none"


class RecurrentOptions(Options):
    """GRU or LSTM."""

    lines: ClassVar[dict[str, str]] = {
        "gru": "Gated recurrent unit: a state that each event brings up to date.",
        "lstm": "Long short-term memory: a gated state with a memory cell beside it.",
    }

    name: Literal["gru", "lstm"] = "gru"
    hidden_size: Positive = 256
    layers: Layers = 1
    dropout: Share = 0.0


class TransformerOptions(Options):
    """Transformer with rotary positions."""

    name: Literal["transformer"] = "transformer"
    causal: bool = False
    """Whether an event sees only those before it."""
    hidden_size: Positive = 256
    layers: Layers = 2
    heads: Positive = 4
    dropout: Share = 0.0

    @model_validator(mode="after")
    def _divisible(self) -> TransformerOptions:
        if self.hidden_size % (2 * self.heads):
            raise ValueError(f"hidden_size {self.hidden_size} is no multiple of 2 * heads = {2 * self.heads}")
        return self


class TrainingOptions(Options):
    """How long and how fast to learn, and on what."""

    epochs: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    """How often to go through all clients; null makes about 1,000 steps of it, from 3 to 30 epochs; 0 trains nothing."""
    batch_size: Annotated[int, Field(ge=2, lt=2**31)] = 64
    """Clients a batch."""
    learning_rate: Above = 1e-3
    weight_decay: NotNegative = 1e-4
    schedule: Literal["one_cycle", "constant", "step"] = "one_cycle"
    """One cycle: up over the first tenth of the steps, then down along a cosine. step: times step_factor after every
    step_epochs epochs."""
    step_epochs: Positive | None = None
    step_factor: Annotated[float, Field(gt=0, le=1)] | None = None
    """Of the schedule step, which needs both; the published presets have 0.9025 every 30 or 10 epochs."""
    gradient_clip: Above | None = 1.0
    """Longest that a step's gradient may be; null leaves it as it is."""
    min_events: Annotated[int, Field(ge=2)] = 2
    """Clients with fewer events are not trained on; they are embedded like all others."""
    validation_share: Annotated[float, Field(ge=0, lt=0.9)] = 0.05
    """Share of the clients held out to watch the training."""
    patience: Positive | None = None
    """Stop after so many epochs without a better validation recall; null never stops early."""
    data: Literal["memory", "memory_map", "device"] = "memory_map"
    """Where the sequences lie: read into memory, mapped from disk, or on the device that trains."""

    @model_validator(mode="after")
    def _steps_are_given_for_their_schedule(self) -> TrainingOptions:
        given = (self.step_epochs is not None) + (self.step_factor is not None)
        if self.schedule == "step" and given < 2:
            raise ValueError("schedule step needs step_epochs and step_factor, such as 30 and 0.9025")
        if self.schedule != "step" and given:
            raise ValueError(f"step_epochs and step_factor are for schedule step, found {self.schedule}")
        return self


class FinetuningOptions(Options):
    """How labels are learnt on top of an encoder, be it trained without labels or new."""

    unfreeze: Literal["auto", "head", "gradual", "discriminative", "all"] = "auto"
    """What learns. auto: head where a trained encoder has fewer than 1,000 labelled clients, unless epochs or encoder_rate are
    given; else all. head: the heads alone, solved exactly. all: the encoder too. discriminative: the encoder too, each part
    nearer to the events 2.6 times slower. gradual: the parts of the encoder one more an epoch, from the vector down."""
    epochs: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    """How often to go through all labelled clients; null makes about 600 steps of it, from 3 to 10 epochs."""
    batch_size: Annotated[int, Field(ge=2, lt=2**31)] = 64
    learning_rate: Above = 1e-3
    """Of the heads, at the top of one cycle."""
    encoder_rate: Annotated[float, Field(gt=0, le=10)] | None = None
    """The encoder's rate as a share of that; null takes 0.1 for a trained encoder with fewer than 2,500 labelled clients, else 1."""
    weight_decay: NotNegative = 1e-4
    gradient_clip: Above = 1.0
    dropout: Share = 0.1
    """Share of the vector's numbers that training hides from the heads."""
    label_smoothing: Share = 0.0
    class_weight: Literal["balanced"] | None = None
    """balanced: a class counts as much as another, however rare it is."""
    max_events: Positive = 512
    """Of longer sequences training sees a random contiguous part of so many events, drawn afresh each epoch."""
    validation_share: Annotated[float, Field(ge=0, lt=0.9)] = 0.1
    """Share of the labelled clients held out, with all classes in their proportions, to find the best epoch."""
    patience: Positive | None = 3
    """Stop after so many epochs without a lower validation loss; null never stops early."""
    calibrate: bool = False
    """Scale the outputs of classes by one temperature for each target, fitted on the clients held out."""

    @model_validator(mode="after")
    def _calibration_has_clients(self) -> FinetuningOptions:
        if self.calibrate and not self.validation_share:
            raise ValueError("calibrate needs clients held out; validation_share is 0")
        return self


_SIDE_BY_SIDE = 1024  # width of a recurrence times how many times as many events: what more memory it may take


class ByCategoryOptions(Options):
    """The pooling by_category: events of one kind by themselves."""

    column: str | None = None
    """The categorical column whose values are the kinds; null takes the one that numbers are scaled within, or else the one with
    the most values that all have a place."""
    values: Positive = 40
    """How many of its values have a place of their own, the most frequent first."""
    size: Positive = 8
    """How many numbers are learnt of an event of any kind."""


class EmbeddingOptions(Options):
    """How vectors are computed once the model is trained."""

    max_events: Positive = 4096
    """Of longer sequences only the last so many events are looked at."""
    batch_events: Positive = 32_768
    """Events a batch; up to four times as many with a GRU or LSTM of 512 or less, which is faster with more sequences side by side."""


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


EncoderOptions: TypeAlias = Annotated[
    Annotated[NoEncoderOptions | RecurrentOptions | TransformerOptions, Field(discriminator="name")],
    BeforeValidator(named_or("gru")),
]
PoolingName: TypeAlias = Literal["last", "mean", "max", "std", "total", "attention", "by_category"]
_POOLINGS = {
    "last": "The state after the last event.",
    "mean": "The mean of all events.",
    "max": "The largest of each number over all events.",
    "std": "The standard deviation over all events.",
    "total": "The logarithm of the sum of all events, with its sign: tells how many there were of what.",
    "attention": "A mean with learnt weights.",
    "by_category": "Of each kind of event a few learnt numbers, averaged, and how many there were.",
}
LABELLED: tuple[str, ...] = tuple(
    name for model in LabelledOptions.__subclasses__() for name in get_args(model.model_fields["name"].annotation)
)
"""The objectives that learn from labels."""
_OTHER_NAMES = {"loss": OTHER_LOSS_NAMES, "objective": OTHER_OBJECTIVE_NAMES, "views": OTHER_VIEW_NAMES}


class Config(Options):
    """Everything that decides a training, besides the events themselves."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    columns: SchemaOptions = Field(SchemaOptions(), alias="schema")
    preparation: PreparationOptions = PreparationOptions()
    objective: ObjectivesOptions = (CoLESOptions(), EventPredictionOptions())
    """One part, or several that are learnt together."""
    views: ViewsOptions = RandomSlicesOptions()
    events: EventOptions = EventOptions()
    encoder: EncoderOptions = NoEncoderOptions()
    pooling: Annotated[tuple[PoolingName, ...], Field(min_length=1), BeforeValidator(_listed)] = (
        "mean",
        "std",
        "max",
        "total",
        "by_category",
    )
    by_category: ByCategoryOptions = ByCategoryOptions()
    """Of the pooling of that name."""
    embedding_dim: Positive | None = None
    """Width of the vector; null takes the pooled states as they are."""
    matryoshka: tuple[Positive, ...] = ()
    """Sizes of beginnings of the vector that are trained to be of use alone, such as [16, 64], below embedding_dim."""
    profile: bool = True
    """Three numbers more at the end of the vector, which are not learnt: how many events, how long ago the first and the
    last one. Only where embedding_dim is null."""
    loss: LossOptions = InfoNCEOptions()
    miner: MinerOptions = None
    sampler: SamplerOptions = RandomOptions()
    """Which clients make a batch."""
    training: TrainingOptions = TrainingOptions()
    finetuning: FinetuningOptions = FinetuningOptions()
    embedding: EmbeddingOptions = EmbeddingOptions()
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda|gpu|mps|cuda:\d+)$")
    devices: Positive = 1
    """How many devices of this host train together, each on its share of every batch; on several hosts torchrun says it."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _a_loss_brings_its_miner(cls, values: Any) -> Any:
        """A loss that needs a miner has its own where nothing else is said, and options without a name are of that one."""
        if not isinstance(values, Mapping):
            return values
        loss = named(values.get("loss"))
        default = next((o.default_miner for o in _kinds(AnyLossOptions) if _is_of(o, loss)), None)
        miner = values.get("miner", default)
        if default is not None and isinstance(miner, Mapping):
            miner = {"name": default, **miner}
        return {**values, "miner": miner} if miner is not None else values

    @model_validator(mode="after")
    def _fits_together(self, info: ValidationInfo) -> Config:
        if len(set(self.pooling)) < len(self.pooling):
            raise ValueError(f"pooling names one way twice: {', '.join(self.pooling)}")
        parts: list[str] = [part.name for part in self.objective]
        if len(set(parts)) < len(parts):
            raise ValueError(f"objective names one part twice: {', '.join(parts)}")
        self._objectives_fit(parts)
        if not is_lenient(info):
            self._views_fit(parts)
        self._check_matryoshka()
        loss, miner = self.loss, self.miner
        fitting = ", ".join(_name(o) for o in _kinds(AnyMinerOptions) if o.gives == loss.takes)
        if loss.takes == "batch" and miner is not None:
            raise ValueError(f"the loss {loss.name} takes no miner, found {miner.name}; set miner to null")
        if loss.takes != "batch" and miner is None:
            raise ValueError(f"the loss {loss.name} needs a miner: one of {fitting}")
        if miner is not None and miner.gives != loss.takes:
            raise ValueError(
                f"the loss {loss.name} takes {loss.takes}, the miner {miner.name} gives {miner.gives};"
                f" expected one of: {fitting}"
            )
        return self

    def _objectives_fit(self, parts: Iterable[str]) -> None:
        """A part of the objective that could not be learnt by this encoder is refused."""
        looks_back = self.recurrent or getattr(self.encoder, "causal", False)
        for part in parts:
            if part in ("next_event", "cpc") and not looks_back:
                raise ValueError(
                    f"the objective {part} needs an encoder that looks back only: gru, lstm, or transformer with"
                    f" causal: true; found {self.encoder.name}"
                )
            if part in ("masked_events", "replaced_token") and self.encoder.name == "none":
                raise ValueError(f"the objective {part} needs an encoder: gru, lstm or transformer; found none")

    def _views_fit(self, parts: Iterable[str]) -> None:
        """A part of the objective that asks for the order of events has views in their order."""
        for part in parts:
            if part in ("cpc", "next_event", "sequence_order", "next_sequence") and self.views.shuffle:
                raise ValueError(f"the objective {part} asks for the order of events; set views.shuffle to false")

    def _check_matryoshka(self) -> None:
        sizes = self.matryoshka
        if not sizes:
            return
        if self.embedding_dim is None:
            raise ValueError(
                "matryoshka needs embedding_dim, such as 256: without it the vector is pooled statistics side by side, whose"
                " beginning is no smaller vector"
            )
        if list(sizes) != sorted(set(sizes)) or sizes[-1] >= self.embedding_dim:
            raise ValueError(
                f"matryoshka is {list(sizes)}; expected growing sizes below embedding_dim, which is {self.embedding_dim}"
            )
        if not {"coles", "event_prediction"} & {part.name for part in self.objective}:
            raise ValueError(
                "matryoshka needs a part of the objective that learns from vectors: coles, event_prediction"
            )

    @property
    def recurrent(self) -> bool:
        """Whether the encoder is a GRU or LSTM."""
        return isinstance(self.encoder, RecurrentOptions)

    @property
    def events_at_a_time(self) -> int:
        """How many events are embedded at a time: four times `batch_events` with a GRU or LSTM of 256 or less, twice with one of 512."""
        most = self.embedding.batch_events
        if isinstance(self.encoder, RecurrentOptions):
            return most * max(1, min(4, _SIDE_BY_SIDE // self.encoder.hidden_size))
        return most

    @property
    def compares(self) -> bool:
        """Whether a part of the objective compares clients by `loss` and `miner`; without one these do nothing."""
        return any(isinstance(part, CoLESOptions) for part in self.objective)

    @property
    def labelled(self) -> dict[str, LabelledOptions]:
        """The parts of the objective that learn from labels, by their names."""
        return {part.name: part for part in self.objective if isinstance(part, LabelledOptions)}

    @classmethod
    def of(
        cls,
        options: Mapping[str, Any],
        *,
        source: str = "the config",
        lenient: bool = False,
        said: Container[str] | None = None,
    ) -> Config:
        """Check options; the first that is wrong raises a `ConfigError` of one line, with the nearest name that exists.

        Args:
            options: by the names of a config file.
            source: where they are from, for the line.
            lenient: they are those of a model that is there, or are only to be shown: a loss of a library is not looked up in it,
                and what does nothing, or what earlier versions took, is taken.
            said: those that have to do something, see `last_said`; all where None.
        """
        try:
            config = cls.model_validate(dict(options), context={"lenient": lenient})
        except ValidationError as error:
            raise ConfigError(_explain(error, source)) from None
        if not lenient:
            _check_idle(config, options if said is None else said, source)
            _check_library(config.loss, source)
        return config

    def to_dict(self) -> dict[str, Any]:
        """All options, with their defaults, as JSON holds them."""
        return self.model_dump(mode="json", by_alias=True)


def read_config(path: str | Path | None, settings: Iterable[str] = (), **flags: Any) -> Config:
    """Read a YAML file, then apply `key.key=value` settings, then flags (dotted names; None is not given).

    Raises:
        ConfigError: no such file, not YAML, an option that is unknown or out of range, or a loss of a library that is not
            installed or does not have it.
    """
    options = _read_yaml(Path(path)) if path is not None else {}
    in_file, later = set(options), []
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise ConfigError(f"--set wants name=value, such as encoder.hidden_size=256; found {setting!r}.")
        try:
            names = name.strip().split(".")
            _put(options, names, parse_yaml(value))
            later.append(names[0])
        except (yaml.YAMLError, ValueError):
            raise ConfigError(f"--set {setting!r}: the value is not valid YAML.") from None
    for name, value in flags.items():
        if value is not None:
            _put(options, name.split("."), value)
            later.append(name.split(".")[0])
    source = str(path) if path is not None else "the options"
    return Config.of(options, source=source, said=last_said(in_file, later))


def last_said(*layers: Iterable[str]) -> set[str]:
    """The options that were set together with the objective or after it, of layers of which each goes over those before.

    A loss that only an objective of a later layer leaves without use is a preset's, and no mistake.
    """
    names = [set(layer) for layer in layers]
    first = max((place for place, layer in enumerate(names) if "objective" in layer), default=0)
    return set().union(*names[first:])


def methods() -> dict[str, dict[str, str]]:
    """Section of the config -> name of each method it can be -> a line on it, with the other names that it has.

    At the end sections of options that change what the others do; there the names are options of the config, see `CHANGES`.
    """
    found: dict[str, dict[str, str]] = {}
    for section, model in _sections():
        names = get_args(model.model_fields["name"].annotation) if "name" in model.model_fields else ()
        for name in names:
            line = getattr(model, "lines", {}).get(name) or " ".join((model.__doc__ or "").split("\n\n")[0].split())
            others = [other for other, own in _OTHER_NAMES.get(section, {}).items() if own == name]
            found.setdefault(section, {})[name] = f"{line} Also: {', '.join(others)}." if others else line
        if section == "encoder":
            found["pooling"] = _POOLINGS
    return {section: dict(names) for section, names in (found | CHANGES).items()}


def parse_yaml(text: str) -> Any:
    """What YAML holds: plain values only, no Python objects.

    Raises:
        yaml.YAMLError, ValueError: it is not YAML, names an object, has a date that is none, or is nested too deeply.
    """
    try:
        return yaml.safe_load(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        options = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        beside = [f.name for f in path.parent.iterdir()] if path.parent.is_dir() else []
        raise ConfigError(f"No such config file: {path}.{did_you_mean(path.name, beside)}") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is not a readable YAML file: {' '.join(str(error).split())}") from None
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise ConfigError(f"{path} holds a {type(options).__name__}. Expected options, such as `encoder: gru`.")
    return options


def _check_idle(config: Config, said: Container[str], source: str) -> None:
    """A loss or a miner that is said, and is not what stands there by default, has a part of the objective that uses it."""
    if config.compares:
        return
    for section in ("loss", "miner"):
        part = getattr(config, section)
        if section in said and part not in (None, Config.model_fields[section].default):
            parts = ", ".join(option.name for option in config.objective)
            raise ConfigError(
                f"{source}: the {section} {part.name} would do nothing: no part of the objective ({parts}) compares clients."
                f" Leave {section} out, or add coles to the objective."
            )


def _check_library(loss: AnyLossOptions, source: str) -> None:
    """A loss of pytorch-metric-learning is one that it has, with options that it takes; it is imported for no other loss."""
    if isinstance(loss, PMLOptions):
        from seqmel.losses.pml import check_loss

        try:
            check_loss(loss.loss, loss.options)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from None


def _put(options: dict[str, Any], names: list[str], value: Any) -> None:
    """Set a dotted option; a part that was only named (`encoder: gru`) becomes a name with options."""
    for name in names[:-1]:
        part = named(options.get(name))
        options[name] = dict(part) if isinstance(part, Mapping) else {}
        options = options[name]
    options[names[-1]] = value


_short = reprlib.Repr()
_short.maxlevel = 2
_short.maxstring = _short.maxother = _short.maxlong = 100  # a small file with aliases can hold a value of gigabytes


def _explain(error: ValidationError, source: str) -> str:
    first = error.errors()[0]
    place = [p for p in first["loc"] if isinstance(p, str)]
    context: dict[str, Any] = first.get("ctx", {})
    if first["type"] == "extra_forbidden":
        return _explain_unknown(place, source)
    name = ".".join(_without_kind(place))
    if first["type"] == "value_error":
        return f"{source}: {name + ': ' if name else ''}{context['error']}."
    if first["type"] in ("union_tag_invalid", "literal_error"):
        expected = str(context.get("expected_tags", context.get("expected", ""))).replace(" or ", ", ").replace("'", "")
        value = first["input"].get("name") if isinstance(first["input"], Mapping) else first["input"]
        found = value if isinstance(value, str) else _short.repr(value)
        hint = _method_elsewhere(found) or did_you_mean(found, expected.split(", "))
        return f"{source}: {name} cannot be {_short.repr(found)}. Expected one of: {expected}.{hint}"
    if first["type"] == "string_pattern_mismatch":
        example = {"preparation.memory_limit": "such as 4GB", "device": "auto, cpu, cuda, cuda:1, gpu or mps"}[name]
        return f"{source}: {name} cannot be {_short.repr(first['input'])}. Expected {example}."
    return f"{source}: {name} = {_short.repr(first['input'])}: {first['msg'][0].lower()}{first['msg'][1:]}."


def _method_elsewhere(name: str) -> str:
    """Where a method of this name belongs, if there is one."""
    places = [section for section, names in methods().items() if name in names]
    return f" {name} belongs to another option: {places[0]}={name}." if places else ""


def _explain_unknown(place: list[str], source: str) -> str:
    """An option that does not exist: offer the nearest name in its section, or say where that name lives."""
    *path, wrong = place
    known = _names_at(path)
    elsewhere = _elsewhere(wrong, path)
    hint = did_you_mean(wrong, known) or (f" It is an option of: {shown(elsewhere)}." if elsewhere else "")
    path = _without_kind(path)
    return f"{source}: unknown option {'.'.join([*path, wrong])!r}.{hint} Known here: {shown(known, 20)}."


def _elsewhere(wrong: str, path: list[str]) -> list[str]:
    """Where an option of this name is: in other sections, or in this one for other methods."""
    here = path[0] if path else ""
    sections = [name for name, model in _sections() if name != here and wrong in model.model_fields]
    methods = [_name(m) for name, m in _sections() if name == here and len(path) > 1 and wrong in m.model_fields]
    return [f"{name}.{wrong}" for name in dict.fromkeys(sections)] or [f"{here} {method}" for method in methods]


def _without_kind(place: list[str]) -> list[str]:
    """A place as the user wrote it: pydantic adds which method of several was named."""
    several = len(place) > 1 and sum(name == place[0] for name, _ in _sections()) > 1
    return [place[0], *place[2:]] if several else place


def _kinds(union: Any) -> tuple[Any, ...]:
    """The models of a union."""
    return get_args(union)


def _name(model: type[BaseModel]) -> str:
    """What a method is called in the config; the first where it has several names."""
    return str(get_args(model.model_fields["name"].annotation)[0])


def _is_of(model: type[BaseModel], value: Any) -> bool:
    """Whether a value is, or names, options of this model."""
    return isinstance(value, model) or (isinstance(value, Mapping) and value.get("name") == _name(model))


def _sections() -> list[tuple[str, type[BaseModel]]]:
    """(name in the config, its model), once for each model that a part may be."""
    found = []
    for name, field in Config.model_fields.items():
        for model in _models(field.annotation):
            found.append((field.alias or name, model))
    return found


def _tags() -> set[str]:
    """The names by which parts are told apart; pydantic puts them into the place of an error."""
    models = [model for _, model in _sections() if "name" in model.model_fields]
    return {tag for model in models for tag in get_args(model.model_fields["name"].annotation)}


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _names_at(path: list[str]) -> list[str]:
    if not path:
        return [field.alias or name for name, field in Config.model_fields.items()]
    models = [model for name, model in _sections() if name == path[0]]
    tagged = [m for m in models if len(path) > 1 and path[1] in get_args(m.model_fields["name"].annotation)] or models
    return sorted({n for model in tagged for n in model.model_fields})
