"""The embedder as a scikit-learn transformer: one vector per client, learnt without labels."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from seqmel.api.model import Model
from seqmel.config import Config
from seqmel.config.options.network import DEFAULT_POOLING
from seqmel.core.atomic_files import atomic_write, check_output
from seqmel.core.errors import ConfigError
from seqmel.core.progress import console_progress, silent
from seqmel.core.renames import renamed_keywords
from seqmel.data.schema import TimeUnit
from seqmel.data.sources.reading import Events
from seqmel.data.tables.vector_files import vector_columns
from seqmel.estimators.base import Pretrained, SequenceTransformer, checked_pretrained
from seqmel.estimators.options import RENAMED_PARAMETERS, config_of, parameters_of, seed_of
from seqmel.estimators.rows import ClientRows
from seqmel.inference.embed import embed
from seqmel.model import TrainedModel, load_model
from seqmel.training.run import train_model, write_model

__all__ = ["SequenceEmbedder"]

Part = str | Mapping[str, Any]
Embedder = TypeVar("Embedder", bound="SequenceEmbedder")


class SequenceEmbedder(SequenceTransformer):
    """Learn embeddings of clients from their events, as `seqmel train` and `seqmel embed` do.

        train = EventSequences.read("events.parquet", client="client_id", time="event_time")
        embedder = SequenceEmbedder(encoder="gru", embedding_dim=256, random_state=0).fit(train)
        vectors = embedder.transform(train)  # DataFrame indexed by client id: emb_0000, ...

    The parameters are the options of training, with the same defaults. `fit` checks them. A part is
    a name or a dict of options, such as `encoder={"name": "gru", "hidden_size": 64}`. Its options
    are parameters too, under names like `encoder__hidden_size`, for `set_params` and grid search.

    A clone is not fitted. To use a trained embedder in a pipeline that is cloned, as in
    cross-validation, wrap it in scikit-learn's `FrozenEstimator`. To train every clone further,
    pass the model as `pretrained`.

    Args:
        encoder: "none", "gru", "lstm", "transformer", a registered name, or a class of your own.
        embedding_dim: number of dimensions; None uses the pooled states without a projection.
        pooling: one or several of "last", "mean", "max", "std", "log_sum", "attention" and
            "category_mean".
        category_mean: options of the pooling "category_mean", such as
            {"column": "mcc", "values": 100}.
        pca_dim: number of principal components that the pooled states are reduced to after
            training; "auto" takes at most 2 sqrt(clients), from 32 to 256, None keeps all.
            Without `embedding_dim` only.
        matryoshka: Matryoshka sizes: prefixes of the vector that are trained to be usable
            embeddings. Needs `embedding_dim`.
        recency_features: whether to append the number of events and the days since the first and
            the last event to the vector. Without `embedding_dim` only.
        event_encoder: options of the network that encodes one event.
        objective: one objective or several that are learnt together, each a name or a dict.
        views: how the views of a client are drawn.
        loss: the contrastive loss.
        miner: miner of pairs or triplets; "auto" is the default of the loss, None uses no miner.
        sampler: how clients are drawn into batches: "random", "category_balanced" or
            "offline_hard".
        epochs: passes over all clients; None chooses 3 to 15 epochs, about 500 steps (3 to 30
            and 1,000 with a sequence encoder).
        epoch_clients: clients per epoch, drawn at random; None takes all, or 100,000 of more if
            `epochs` is None too.
        batch_size: clients per batch.
        events_at_a_time: encode a batch in parts of so many events, see `TrainingOptions`.
        learning_rate: peak learning rate of AdamW.
        weight_decay: weight decay.
        schedule: "one_cycle", "constant" or "step".
        step_epochs: with "step", epochs between two changes of the learning rate.
        step_factor: with "step", the factor of each change.
        gradient_clip: maximum norm of the gradient; None does not clip.
        min_events: clients with fewer events are left out of training.
        validation_fraction: fraction of the clients in the validation split.
        patience: early stopping: epochs without a better validation recall; 0 or None never stops.
        storage: where the encoded events are during training: "memory", "memory_map" or "device".
        preparation: options of the section preparation of a config.
        embedding: options of the section embedding of a config.
        events: where to look up the client ids, if X holds client ids: one table, or name -> table
            for several. A path or table is read again by each fit and transform; `EventSequences`
            are not.
        client: the column with the client id; None infers it.
        time: the column with the time; None infers it.
        time_unit: unit of numeric times; None infers it.
        time_format: format of times that are text, such as "%d.%m.%Y"; None infers it.
        time_zone: zone in which the calendar is read, such as "Europe/Paris"; None for UTC.
        categorical: the categorical columns; None infers them.
        numeric: the numeric columns; None infers them.
        numeric_by: numeric column -> categorical column by whose values it is scaled.
        kinds: column -> its kind, for others than these two, such as "hashed" or "text".
        ignore: columns to leave out.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        precision: precision of training: "auto", "32-true", "bf16-mixed" or "16-mixed".
        pretrained: a model folder, a `Model` or a fitted `SequenceEmbedder`. Every fit starts from
            its weights and vocabulary.
        init_from: a model folder whose weights every fit starts from, as far as it has the same
            columns and values; the vocabulary is that of X.
        warm_start: whether another `fit` starts from the weights and vocabulary of the last one.
        random_state: an int gives the same model on every fit; a numpy RandomState is sampled; None
            draws a random seed.
        verbose: whether to show progress on standard error.

    Attributes:
        model_: the trained `Model`.
        schema_: the role of each column of the events.
        vocabulary_: category codes and numeric scales.
        history_: metrics of the last fit, one row per epoch.
        feature_names_in_: the column names of the X of `fit`, if it has any.
        n_features_in_: their number.

    Examples:
        >>> import seqmel
        >>> events = seqmel.EventSequences.read(seqmel.generate_card_data(20).events)
        >>> embedder = seqmel.SequenceEmbedder(embedding_dim=8, epochs=1, batch_size=8)
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
        pca_dim: int | Literal["auto"] | None = "auto",
        matryoshka: Sequence[int] = (),
        recency_features: bool = True,
        event_encoder: Mapping[str, Any] | None = None,
        objective: Part | Sequence[Part] = ("coles", "event_prediction"),
        views: Part = "random_slices",
        loss: Part = "infonce",
        miner: Part | None = "auto",
        sampler: Part = "random",
        epochs: int | None = None,
        epoch_clients: int | None = None,
        batch_size: int = 64,
        events_at_a_time: int | None = None,
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
        time_zone: str | None = None,
        categorical: Sequence[str] | None = None,
        numeric: Sequence[str] | None = None,
        numeric_by: dict[str, str] | None = None,
        kinds: dict[str, str] | None = None,
        ignore: Sequence[str] = (),
        device: str = "auto",
        precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto",
        pretrained: Pretrained | None = None,
        init_from: str | Path | None = None,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.encoder = encoder
        self.embedding_dim = embedding_dim
        self.pooling = pooling
        self.category_mean = category_mean
        self.matryoshka = matryoshka
        self.pca_dim = pca_dim
        self.recency_features = recency_features
        self.event_encoder = event_encoder
        self.objective = objective
        self.views = views
        self.loss = loss
        self.miner = miner
        self.sampler = sampler
        self.epochs = epochs
        self.epoch_clients = epoch_clients
        self.batch_size = batch_size
        self.events_at_a_time = events_at_a_time
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
        self.time_zone = time_zone
        self.categorical = categorical
        self.numeric = numeric
        self.numeric_by = numeric_by
        self.kinds = kinds
        self.ignore = ignore
        self.device = device
        self.precision = precision
        self.pretrained = pretrained
        self.init_from = init_from
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    # ----------------------------------------------------------------------------------- parameters

    def config(self) -> Config:
        """Return the `Config` that `fit` would use.

        Its seed equals that of `fit` only if `random_state` is an int.

        Returns:
            The config.

        Raises:
            ConfigError: an option does not exist or is out of range.
        """
        source = type(self).__name__
        seed = seed_of(self.random_state, source=source)
        return config_of(self.get_params(deep=False), seed=seed, source=source)

    # ------------------------------------------------------------------------------- fit, transform

    def fit(self: Embedder, X: Any, y: Any = None) -> Embedder:  # noqa: N803
        """Train on the clients of X. Labels are not used. A client that occurs twice counts once.

        Args:
            X: `EventSequences`, a table of events (one row per event, or one row per client and
                list columns), name -> table for several, or client ids if `events` is set.
            y: ignored.

        Returns:
            The fitted embedder.

        Raises:
            InputError, SchemaError: X or its columns cannot be used.
            ConfigError: an option does not exist, is out of range, or conflicts with the model to
                start from.
            TrainingError: too few clients, or the training diverges.
        """
        config = self.config()
        if self.pretrained is not None and self.init_from is not None:
            raise ConfigError(
                "SequenceEmbedder: fit starts from the model of pretrained, and init_from has no "
                "effect. Give one of them."
            )
        initial = self._initial()
        rows = self._rows(X, learning=True)
        rows.check_matched(y, "y", ordered=True)
        progress = console_progress() if self.verbose else silent
        model = train_model(
            rows.to_learn_from(), initial=initial, progress=progress,
            config=config.model_copy(update={"schema": rows.named(config.schema)}),
        )  # fmt: skip
        self._learn(model)
        self._remember_columns(X)
        return self

    def _initial(self) -> TrainedModel | None:
        """The model to start from, if any."""
        if self.warm_start and hasattr(self, "model_"):
            return self.model_
        return _loaded(self.pretrained) if self.pretrained is not None else None

    def _learn(self, model: TrainedModel) -> None:
        self.model_ = Model.of(model)
        self.schema_ = model.schema
        self.vocabulary_ = model.vocabulary
        self.history_ = model.metrics["history"]

    def _features(self, rows: ClientRows) -> npt.NDArray[np.float32]:
        try:
            parts = [
                v.numpy()
                for _, v in embed(
                    self.model_, rows.to_transform(self.schema_.client), device=self.device
                )
            ]
        finally:
            self.model_.encoder.cpu()  # a pickle of it then loads on machines without a GPU
        return np.concatenate(parts)

    def _names(self) -> list[str]:
        return vector_columns(self.model_.encoder.output_size)

    # ----------------------------------------------------------------------------------- save, load

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write a model folder like that of `seqmel train`, for `seqmel embed` and `load`.

        Args:
            path: the folder to write.
            overwrite: replace an existing model.

        Returns:
            The path of the folder.

        Raises:
            ModelError: not fitted yet.
            OutputError: the folder exists or cannot be written.
        """
        self._check_fitted()
        path = Path(path)
        check_output(path, overwrite=overwrite, folder=True, option="overwrite=True")
        with atomic_write(path) as partial:
            write_model(partial, self.model_)
        return path

    @classmethod
    def load(cls: type[Embedder], path: str | Path) -> Embedder:
        """Load a fitted embedder from a model folder.

        Args:
            path: the folder.

        Returns:
            The embedder with the parameters of its training, except that `device` is "auto".

        Raises:
            ModelError: the folder holds no model or has a newer format, or a file is missing or
                changed.
        """
        return cls._of_model(load_model(path))

    @classmethod
    def from_pretrained(cls: type[Embedder], model: Pretrained, **params: Any) -> Embedder:
        """Make a fitted embedder that also keeps the model as `pretrained`.

        Every further fit starts from that model, including the fit of a clone.

        Args:
            model: a model folder, a `Model`, or a fitted `SequenceEmbedder`.
            **params: parameters that differ from those of the model's training, such as `epochs=1`.

        Returns:
            The fitted embedder.

        Raises:
            ModelError: the folder holds no valid model, or the embedder is not fitted.
            ConfigError: no such parameter, or `model` is none of these.
        """
        given = checked_pretrained(model)
        return cls._of_model(_loaded(given)).set_params(pretrained=given, init_from=None, **params)

    @classmethod
    def _of_model(cls: type[Embedder], model: TrainedModel) -> Embedder:
        embedder = cls(**(parameters_of(model.config) | {"device": "auto"}))
        embedder._learn(model)
        return embedder


def _loaded(given: Pretrained) -> TrainedModel:
    """Load or deep-copy a model, so that moving it to a device does not affect other holders."""
    model = checked_pretrained(given)
    if not isinstance(model, TrainedModel):
        return load_model(model)
    return dataclasses.replace(model, encoder=copy.deepcopy(model.encoder))
