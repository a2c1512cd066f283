"""The embedder as a scikit-learn transformer: events in, one vector a client out, learnt without labels."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from seqmel.api.model import Model as WithVerbs
from seqmel.config import Config
from seqmel.config.options.network import DEFAULT_POOLING
from seqmel.core.atomic_files import atomic_write, check_output
from seqmel.core.progress import console_progress, silent
from seqmel.core.renames import renamed_keywords
from seqmel.data.schema import TimeUnit
from seqmel.data.sources.reading import Events
from seqmel.data.tables.vector_files import vector_columns
from seqmel.estimators.base import Pretrained, SequenceTransformer, checked_pretrained
from seqmel.estimators.options import RENAMED_PARAMETERS, config_of, parameters_of, seed_of
from seqmel.estimators.rows import ClientRows
from seqmel.inference.embed import embed
from seqmel.model import Model, load_model
from seqmel.training.run import train_model, write_model

__all__ = ["SequenceEmbedder"]

Part = str | Mapping[str, Any]
Embedder = TypeVar("Embedder", bound="SequenceEmbedder")


class SequenceEmbedder(SequenceTransformer):
    """Learn to embed clients from their events, and embed them: `seqmel train` and `seqmel embed` as a transformer.

        train = EventSequences.read("events.parquet", client="client_id", time="event_time")
        embedder = SequenceEmbedder(encoder="gru", embedding_dim=256, random_state=0).fit(train)
        vectors = embedder.transform(train)    # a DataFrame indexed by client id, columns emb_0000 ...

    The parameters are the options of a training, with the same defaults, checked when `fit` is called. A part is a name
    or a dict of options, `encoder={"name": "gru", "hidden_size": 64}`; its options are parameters too, under names like
    `encoder__hidden_size`, for `set_params` and for a grid search.

    A clone is not fitted. To have an embedder that is already trained inside a pipeline that is cloned, such as in
    cross-validation, wrap it in scikit-learn's `FrozenEstimator`; or let every clone go on from it with `pretrained`.

    Args:
        encoder: "none", "gru", "lstm" or "transformer".
        embedding_dim: width of the vector; None takes the pooled states as they are.
        pooling: one or several of "last", "mean", "max", "std", "log_sum", "attention", "category_mean".
        category_mean: options of the last of these, such as {"column": "mcc", "values": 100}.
        matryoshka: sizes of beginnings of the vector that are to be of use alone; needs embedding_dim.
        recency_features: whether the vector ends with events, and days since the first and last; only without embedding_dim.
        event_encoder: options of the network that sees one event (the section `events` of a config).
        objective: a part or several that are learnt together, each a name or a dict of options.
        views, loss, miner: how to learn; the miner "auto" is the one that the loss wants.
        sampler: which clients make a batch, "random", "category_balanced" or "offline_hard".
        epochs, batch_size, learning_rate, weight_decay, schedule, step_epochs, step_factor, gradient_clip, min_events,
            validation_fraction, patience, storage: see `seqmel.config.options.training.TrainingOptions`.
        preparation, embedding: options of those sections of a config.
        events: where to look up client ids, for an X of client ids; a path or table is read anew by each fit and
            transform, `EventSequences` are not.
        client, time, time_unit, time_format, categorical, numeric, numeric_by, ignore: what the columns are; whatever is not said is
            inferred.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        precision: "auto", "32-true", "bf16-mixed" or "16-mixed"; of the training.
        pretrained: a model folder, a `Model` or a fitted `SequenceEmbedder` that every fit goes on from, with its vocabulary.
        warm_start: a further `fit` goes on from the weights and the vocabulary of the last one.
        random_state: None, a whole number (the same number gives the same model), or a numpy RandomState.
        verbose: tell of the progress on standard error.

    Attributes:
        model_: the trained `Model`.
        schema_: which column is what.
        vocabulary_: category codes and scales.
        history_: one row an epoch of the last fit.
        feature_names_in_, n_features_in_: the columns of the X that was fitted on, where it has names.

    Examples:
        >>> import seqmel
        >>> events = seqmel.EventSequences.read(seqmel.generate_card_data(20).events)
        >>> embedder = seqmel.SequenceEmbedder(encoder="gru", embedding_dim=8, epochs=1, batch_size=8, random_state=0)
        >>> embedder.fit_transform(events).shape
        (20, 8)
    """

    _fitted = "model_"

    @renamed_keywords(**RENAMED_PARAMETERS)
    def __init__(
        self,
        *,
        encoder: Part = "none",
        embedding_dim: int | None = None,
        pooling: str | Sequence[str] = DEFAULT_POOLING,
        category_mean: Mapping[str, Any] | None = None,
        matryoshka: Sequence[int] = (),
        recency_features: bool = True,
        event_encoder: Mapping[str, Any] | None = None,
        objective: Part | Sequence[Part] = ("coles", "event_prediction"),
        views: Part = "random_slices",
        loss: Part = "infonce",
        miner: Part | None = "auto",
        sampler: Part = "random",
        epochs: int | None = None,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        schedule: Literal["one_cycle", "constant", "step"] = "one_cycle",
        step_epochs: int | None = None,
        step_factor: float | None = None,
        gradient_clip: float | None = 1.0,
        min_events: int = 2,
        validation_fraction: float = 0.05,
        patience: int | None = None,
        storage: Literal["memory", "memory_map", "device"] = "memory_map",
        preparation: Mapping[str, Any] | None = None,
        embedding: Mapping[str, Any] | None = None,
        events: Events | None = None,
        client: str | None = None,
        time: str | None = None,
        time_unit: TimeUnit | None = None,
        time_format: str | None = None,
        categorical: Sequence[str] | None = None,
        numeric: Sequence[str] | None = None,
        numeric_by: dict[str, str] | None = None,
        ignore: Sequence[str] = (),
        device: str = "auto",
        precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto",
        pretrained: Pretrained | None = None,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.encoder = encoder
        self.embedding_dim = embedding_dim
        self.pooling = pooling
        self.category_mean = category_mean
        self.matryoshka = matryoshka
        self.recency_features = recency_features
        self.event_encoder = event_encoder
        self.objective = objective
        self.views = views
        self.loss = loss
        self.miner = miner
        self.sampler = sampler
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.step_epochs = step_epochs
        self.step_factor = step_factor
        self.gradient_clip = gradient_clip
        self.min_events = min_events
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.storage = storage
        self.preparation = preparation
        self.embedding = embedding
        self.events = events
        self.client = client
        self.time = time
        self.time_unit = time_unit
        self.time_format = time_format
        self.categorical = categorical
        self.numeric = numeric
        self.numeric_by = numeric_by
        self.ignore = ignore
        self.device = device
        self.precision = precision
        self.pretrained = pretrained
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    # ------------------------------------------------------------------------------------------ parameters

    def config(self) -> Config:
        """The parameters as a `Config`, as `fit` would use them; for a random_state that is no number, with another seed.

        Raises:
            ConfigError: an option that does not exist, or a value out of range.
        """
        source = type(self).__name__
        seed = seed_of(self.random_state, source=source)
        return config_of(self.get_params(deep=False), seed=seed, source=source)

    # ---------------------------------------------------------------------------------------- fit, transform

    def fit(self: Embedder, X: Any, y: Any = None) -> Embedder:  # noqa: N803
        """Train on the clients of X; labels are not looked at. A client that X has twice is trained on once.

        Args:
            X: see `transform`.
            y: ignored.

        Raises:
            InputError, SchemaError: X or its columns cannot be used.
            ConfigError: an option that does not exist, is out of range, or does not fit the model to go on from.
            TrainingError: too few clients, or a loss that is out of all bounds.
        """
        config = self.config()
        initial = self._initial()
        rows = self._rows(X, learning=True)
        said = config.schema
        named = {
            "client": rows.client, "time": rows.time or said.time, "time_format": rows.time_format or said.time_format,
        }  # fmt: skip
        progress = console_progress() if self.verbose else silent
        model = train_model(
            rows.to_learn_from(), initial=initial, progress=progress,
            config=config.model_copy(update={"schema": config.schema.model_copy(update=named)}),
        )  # fmt: skip
        self._learn(model)
        self._remember_columns(X)
        return self

    def _initial(self) -> Model | None:
        """The model to go on from."""
        if self.warm_start and hasattr(self, "model_"):
            return self.model_
        return _loaded(self.pretrained) if self.pretrained is not None else None

    def _learn(self, model: Model) -> None:
        self.model_ = WithVerbs.of(model)
        self.schema_ = model.schema
        self.vocabulary_ = model.vocabulary
        self.history_ = model.metrics["history"]

    def _features(self, rows: ClientRows) -> npt.NDArray[np.float32]:
        try:
            parts = [
                v.numpy() for _, v in embed(self.model_, rows.to_transform(self.schema_.client), device=self.device)
            ]
        finally:
            self.model_.encoder.cpu()  # so that it can be pickled here and used where there is no GPU
        return np.concatenate(parts)

    def _names(self) -> list[str]:
        return vector_columns(self.model_.encoder.output_size)

    # ---------------------------------------------------------------------------------------- save, load

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the model folder that `seqmel train` writes, so that `seqmel embed` and `load` read it.

        Args:
            path: the folder to write.
            overwrite: replace a model that is there.

        Raises:
            ModelError: not fitted yet.
            OutputError: something is there, or it cannot be written.
        """
        self._check_fitted()
        path = Path(path)
        check_output(path, overwrite=overwrite, folder=True, option="overwrite=True")
        with atomic_write(path) as partial:
            write_model(partial, self.model_)
        return path

    @classmethod
    def load(cls: type[Embedder], path: str | Path) -> Embedder:
        """The fitted embedder of a model folder, with the parameters that it was trained with; `device` is "auto".

        Raises:
            ModelError: no model there, a file missing or changed, or a newer format.
        """
        return cls._of_model(load_model(path))

    @classmethod
    def from_pretrained(cls: type[Embedder], model: Pretrained, **params: Any) -> Embedder:
        """A fitted embedder that also keeps the model as `pretrained`: every fit, also that of a clone, goes on from it.

        Args:
            model: a model folder, a `Model`, or a fitted `SequenceEmbedder`.
            params: parameters that are to differ from those that the model was trained with, such as `epochs=1`.

        Raises:
            ModelError: see `load`; or the embedder is not fitted.
            ConfigError: no such parameter, or a model that is none of these.
        """
        given = checked_pretrained(model)
        return cls._of_model(_loaded(given)).set_params(pretrained=given, **params)

    @classmethod
    def _of_model(cls: type[Embedder], model: Model) -> Embedder:
        embedder = cls(**(parameters_of(model.config) | {"device": "auto"}))
        embedder._learn(model)
        return embedder


def _loaded(given: Pretrained) -> Model:
    """A model of its own, so that to move its encoder to a device changes nobody else's."""
    model = checked_pretrained(given)
    if not isinstance(model, Model):
        return load_model(model)
    return dataclasses.replace(model, encoder=copy.deepcopy(model.encoder))
