"""Fine-tuning as scikit-learn estimators, from a model or from scratch."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import torch
from sklearn.base import ClassifierMixin, RegressorMixin
from torch import Tensor

from seqmel.api.model import Model
from seqmel.config import Config
from seqmel.config.options.network import DEFAULT_POOLING
from seqmel.core.atomic_files import atomic_write, check_output
from seqmel.core.device import resolve_device
from seqmel.core.errors import ConfigError, InputError, ModelError, plain, shown
from seqmel.core.progress import console_progress, silent
from seqmel.core.renames import renamed_keywords
from seqmel.core.survival import concordance
from seqmel.core.units import count_words
from seqmel.data.schema import EventSchema, SourceOptions, TimeUnit
from seqmel.data.sequences.prepared import PreparedSequences
from seqmel.data.sources.arrow_tables import is_moment
from seqmel.data.sources.reading import Events
from seqmel.data.tables.facts import read_facts
from seqmel.data.tables.labels import Table, id_positions
from seqmel.data.tables.survival import observed_times, signed_times
from seqmel.data.tables.targets import QuantityLoss
from seqmel.estimators.base import Pretrained, SequenceEstimator, checked_pretrained
from seqmel.estimators.options import RENAMED_PARAMETERS, sections_of, seed_of
from seqmel.estimators.rows import ClientRows
from seqmel.inference.as_of import Moments, embed_moments, read_moments, single_moment
from seqmel.inference.embed import embed
from seqmel.inference.predict import fact_rows, predict_outputs
from seqmel.model import TrainedModel, load_model
from seqmel.training.finetuning.finetune import finetuned_model, save_finetuned
from seqmel.training.finetuning.samples import Samples
from seqmel.training.run import prepared_in

__all__ = ["SequenceClassifier", "SequenceRegressor", "SequenceSurvival"]

Part = str | Mapping[str, Any]
Supervised = TypeVar("Supervised", bound="_Supervised")
Frame = TypeVar("Frame", "pd.Series[Any]", pd.DataFrame)
Targets = tuple[npt.NDArray[Any], ...]

_SHAPING = (
    "encoder",
    "embedding_dim",
    "pooling",
    "category_mean",
    "recency_features",
    "event_encoder",
    "preparation",
    "embedding",
)


class _Supervised(SequenceEstimator):
    """Base class of `SequenceClassifier`, `SequenceRegressor` and `SequenceSurvival`."""

    _fitted = "model_"
    _task: ClassVar[Literal["classification", "regression", "survival"]]

    @renamed_keywords(**RENAMED_PARAMETERS)
    def __init__(
        self,
        *,
        pretrained: Pretrained | None = None,
        encoder: Part = "none",
        embedding_dim: int | None = None,
        pooling: str | Sequence[str] = DEFAULT_POOLING,
        category_mean: Mapping[str, Any] | None = None,
        recency_features: bool = True,
        event_encoder: Mapping[str, Any] | None = None,
        preparation: Mapping[str, Any] | None = None,
        embedding: Mapping[str, Any] | None = None,
        unfreeze: Literal["auto", "head", "gradual", "discriminative", "all"] = "auto",
        epochs: int | None = None,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        encoder_lr_scale: float | None = None,
        validation_fraction: float = 0.1,
        patience: int | None = 3,
        dropout: float = 0.1,
        label_smoothing: float = 0.0,
        class_weight: Literal["balanced"] | Mapping[Any, float] | None = None,
        quantity_loss: QuantityLoss = "auto",
        quantile: float | None = None,
        time_edges: Sequence[float] | None = None,
        calibrate: bool = False,
        config: Mapping[str, Any] | None = None,
        events: Events | None = None,
        facts: Table | None = None,
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
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.pretrained = pretrained
        self.encoder = encoder
        self.embedding_dim = embedding_dim
        self.pooling = pooling
        self.category_mean = category_mean
        self.recency_features = recency_features
        self.event_encoder = event_encoder
        self.preparation = preparation
        self.embedding = embedding
        self.unfreeze = unfreeze
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.encoder_lr_scale = encoder_lr_scale
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.dropout = dropout
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.quantity_loss = quantity_loss
        self.quantile = quantile
        self.time_edges = time_edges
        self.calibrate = calibrate
        self.config = config
        self.events = events
        self.facts = facts
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
        self.random_state = random_state
        self.verbose = verbose

    @classmethod
    def from_pretrained(cls: type[Supervised], model: Pretrained, **params: Any) -> Supervised:
        """Make an estimator that starts every fit from the encoder of a model.

        Args:
            model: a model folder, a `Model`, or a fitted `SequenceEmbedder`.
            **params: other parameters.

        Returns:
            The estimator, not fitted.

        Raises:
            ModelError: the embedder is not fitted.
            ConfigError: `model` is none of these, or no such parameter.
        """
        return cls().set_params(pretrained=checked_pretrained(model), **params)

    @classmethod
    def load(cls: type[Supervised], path: str | Path) -> Supervised:
        """Load a fitted estimator from a folder that `save` or `seqmel finetune` wrote.

        A further `fit` starts from its encoder.

        Args:
            path: the folder.

        Returns:
            The fitted estimator.

        Raises:
            ModelError: the folder holds no model or has a newer format, a file is missing or
                changed, or the targets are not of this kind.
        """
        model = load_model(path)
        others = [target.name for target in model.targets if target.task != cls._task]
        if others or not model.targets:
            found = (
                f"its targets of another kind are: {shown(others)}"
                if others
                else "it predicts nothing"
            )
            raise ModelError(
                f"{path} holds no model for {cls.__name__}: {found}. SequenceClassifier loads "
                "classes, SequenceRegressor quantities, SequenceSurvival times to an event, and "
                "`seqmel predict` all together."
            )
        used = model.config.finetuning.model_dump()
        kept = {name: used[name] for name in cls._get_param_names() if name in used}
        loaded = cls(pretrained=str(path), random_state=model.config.seed, **kept)
        loaded._learn(model, several=len(model.targets) > 1)
        return loaded

    def _learn(self, model: TrainedModel, *, several: bool) -> None:
        self.model_ = Model.of(model)
        self.targets_ = model.targets
        self.history_ = model.metrics["history"]
        self.n_outputs_ = len(self.targets_)
        self._several = several

    def _options(self) -> Config:
        source = type(self).__name__
        by_class = isinstance(self.class_weight, Mapping)  # `fit` turns these into sample weights
        finetuning = {
            "unfreeze": self.unfreeze,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "encoder_lr_scale": self.encoder_lr_scale,
            "validation_fraction": self.validation_fraction,
            "patience": self.patience,
            "dropout": self.dropout,
            "label_smoothing": self.label_smoothing,
            "class_weight": None if by_class else self.class_weight,
            "quantity_loss": self.quantity_loss,
            "quantile": self.quantile,
            "time_edges": None if self.time_edges is None else tuple(self.time_edges),
            "calibrate": self.calibrate,
        }
        given = dict(self.config or {}) | sections_of(self._shaping())
        said = {
            "seed": seed_of(self.random_state, source=source),
            "device": self.device,
            "precision": self.precision,
        }
        return Config.from_dict(given | {"finetuning": finetuning} | said, source=source)

    def _shaping(self) -> dict[str, Any]:
        """The non-default parameters that shape the encoder; a pretrained model fixes them."""
        usual = inspect.signature(type(self)).parameters
        return {
            name: value
            for name in (*_SHAPING, *SourceOptions.model_fields)
            if name not in ("client", "time", "decimal")
            and (value := getattr(self, name)) != usual[name].default
        }

    def fit(
        self: Supervised,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any = None,
        moments: Any = None,
    ) -> Supervised:
        """Fit the model to labels. Every row of X is one sample, even if its client occurs twice.

        Args:
            X: `EventSequences`, a table of events (one row per event, or one row per client and
                list columns), name -> table for several, or client ids if `events` is set.
            y: (rows,) labels, or (rows, targets) for several targets, in the order of X. Missing
                labels (NaN, None, infinite) are ignored. A Series or DataFrame names the targets.
                If its index holds the client ids of X in another order, each once, it is matched by
                id.
            sample_weight: (rows,) weight of each row, in the order of X or indexed like y.
            moments: (rows,) the moment of each row, or one for all, written like the times of the
                events. Each history is cut strictly before its moment: an event at the moment is
                left out. Rows of one client are never in both the training and the validation
                split. None uses all events.

        Returns:
            The fitted estimator.

        Raises:
            InputError: X and y have different numbers of rows, y has fewer than two classes, or a
                moment is null or cannot be read.
            ConfigError: an option is out of range, or is fixed by the pretrained model.
            TrainingError: the training diverges.
        """
        config = self._options()
        rows = self._rows(X)
        labels = self._named_labels(y, rows)
        if self._task == "classification":
            _no_quantities(labels)
        weights = None if sample_weight is None else _numbered(sample_weight, "sample_weight", rows)
        if isinstance(self.class_weight, Mapping):
            by_class = _by_class(self.class_weight, labels)
            weights = by_class if weights is None else weights * by_class
        base = _base(self.pretrained)
        progress = console_progress() if self.verbose else silent
        client = base.schema.client if base is not None else rows.client
        if base is None:
            config = config.model_copy(update={"schema": rows.named(config.schema)})
        distinct, place = rows.distinct_clients() if moments is not None else (rows, None)
        with tempfile.TemporaryDirectory(prefix="seqmel-", ignore_cleanup_errors=True) as folder:
            events = distinct.to_transform(client)
            facts = None if self.facts is None else _facts(self.facts, distinct)
            prepared = prepared_in(Path(folder), events, config, base, progress)
            samples = None
            if place is not None:
                samples = _samples(rows, place, moments, prepared)
            model = finetuned_model(
                base,
                prepared,
                labels,
                samples=samples,
                weights=weights,
                facts=facts,
                task=self._task,
                config=config,
                checkpoints=Path(folder) / "checkpoints",
                progress=progress,
            )
        self._learn(model, several=self._task != "survival" and np.ndim(y) == 2)
        self._remember_columns(X)
        return self

    def _named_labels(self, y: Any, rows: ClientRows) -> dict[str, pd.Series[Any]]:
        """Target -> (rows,) its labels, by position."""
        return _labels(y, rows)

    def _rows_to_predict(self, X: Any) -> ClientRows:  # noqa: N803
        self._check_fitted()
        return self._rows(X)

    def _outputs(self, rows: ClientRows, moments: Any) -> list[npt.NDArray[np.float64]]:
        """The (rows, size) outputs of the head of each target."""
        heads = self.model_.heads
        assert heads is not None, "fit made heads"
        known = fact_rows(self.model_, self.facts, likely=rows.client, strict=False)
        facts = None if known is None else known.of(rows.ids)
        try:
            if moments is not None:
                vectors = self._vectors_as_of(rows, moments)
            else:
                events = rows.to_transform(self.model_.schema.client)
                vectors = torch.cat([v for _, v in embed(self.model_, events, device=self.device)])
        finally:
            self.model_.encoder.cpu()
        return predict_outputs(heads, vectors, facts)

    def _vectors_as_of(self, rows: ClientRows, moments: Any) -> Tensor:
        """The (rows, D) vectors of the clients at their moments."""
        model = self.model_
        distinct, place = rows.distinct_clients()
        wanted = _moments(moments, rows, model.schema)
        wanted = replace(
            wanted, table=wanted.table.set_column(0, model.schema.client, pa.array(place))
        )
        vectors = np.empty((len(rows), model.encoder.output_size), np.float32)
        events = distinct.to_transform(model.schema.client)
        device = resolve_device(self.device)
        embed_moments(vectors, model, events, wanted, device=device)
        return torch.from_numpy(vectors)

    def predict(self, X: Any, moments: Any = None) -> npt.NDArray[Any]:  # noqa: N803
        """Predict the most likely class or the quantity.

        Args:
            X: `EventSequences`, a table of events (one row per event, or one row per client and
                list columns), name -> table for several, or client ids if `events` is set. An id
                without events is predicted from an empty sequence.
            moments: (rows,) the moment of each row, or one for all: only events before it count.
                None uses all events.

        Returns:
            (rows,) predictions, or (rows, targets) if y had several columns. The dtype is object if
            the targets have different types.

        Raises:
            InputError, SchemaError: X cannot be used, or lacks a column that `fit` had.
            ModelError: not fitted yet. It is also scikit-learn's `NotFittedError`.
        """
        found = list(self._predicted(self._rows_to_predict(X), moments).values())
        if not self._several:
            return found[0]
        if len({column.dtype.kind for column in found}) == 1:
            return np.stack(found, axis=1)
        return np.stack([column.astype(object) for column in found], axis=1)

    def _predicted(self, rows: ClientRows, moments: Any) -> dict[str, npt.NDArray[Any]]:
        """Target -> (rows,) predictions, in the type of its labels."""
        outputs = self._outputs(rows, moments)
        return {
            target.name: target.predicted(out)
            for target, out in zip(self.targets_, outputs, strict=True)
        }

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write a model folder like that of `seqmel finetune`, for `seqmel predict` and `embed`.

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
            save_finetuned(partial, self.model_)
        return path


class SequenceClassifier(ClassifierMixin, _Supervised):  # type: ignore[misc]
    """Predict classes of clients from their events, as `seqmel finetune` and `seqmel predict` do.

        classifier = SequenceClassifier.from_pretrained("model", random_state=0)
        classifier.fit(train, train.align(gender))
        probabilities = classifier.predict_proba(test)

    Fitting has two steps. First the labelled clients are embedded, and one linear head per target
    is solved exactly on the standardised vectors. Then, depending on `unfreeze`, heads and encoder
    are trained together. The epoch with the lowest loss on the validation split is kept.

    Args:
        pretrained: a model folder, a `Model` or a fitted `SequenceEmbedder` that gives the encoder,
            schema and vocabulary. None starts from scratch.
        encoder: from scratch: "none", "gru", "lstm" or "transformer".
        embedding_dim: from scratch: number of dimensions; None uses the pooled states.
        pooling: from scratch: one or several of "last", "mean", "max", "std", "log_sum",
            "attention" and "category_mean".
        category_mean: from scratch: options of the pooling "category_mean".
        recency_features: from scratch: whether to append the number of events and the days since
            the first and the last event to the vector.
        event_encoder: from scratch: options of the network that encodes one event.
        preparation: from scratch: options of the section preparation of a config.
        embedding: from scratch: options of the section embedding of a config.
        unfreeze: what is trained: "head", "gradual", "discriminative" or "all". "auto" is "head" if
            a pretrained encoder has fewer than 1,000 labelled rows and neither `epochs` nor
            `encoder_lr_scale` is given; else it is "all".
        epochs: passes over the labelled clients; None chooses 3 to 10 epochs, about 600 steps.
        batch_size: clients per batch.
        learning_rate: peak learning rate of the heads.
        encoder_lr_scale: learning rate of the encoder relative to the heads. None takes 0.1 for a
            pretrained encoder with fewer than 2,500 labelled clients, else 1.
        validation_fraction: fraction of the labelled rows in the validation split, stratified by
            class.
        patience: early stopping: epochs without a lower validation loss; 0 or None never stops.
        dropout: dropout on the vector in training.
        label_smoothing: label smoothing.
        class_weight: "balanced", or class -> weight (one target only); multiplied by
            `sample_weight`.
        quantity_loss: for `SequenceRegressor`.
        quantile: for `SequenceRegressor`.
        time_edges: for `SequenceSurvival`.
        calibrate: whether to fit one temperature per classification target on the validation split.
        config: options as sections of a config, such as `{"encoder": "gru"}`; parameters override
            it.
        events: where to look up the client ids, if X holds client ids: one table, or name -> table
            for several.
        facts: a table with one row per client of numbers, text, booleans and dates, in which `fit`
            and `predict` look up the clients of X. The heads learn from them together with the
            vector. A client without a row has nulls.
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
        random_state: an int gives the same model on every fit; a numpy RandomState is sampled; None
            draws a random seed.
        verbose: whether to show progress on standard error.

    Attributes:
        model_: the fine-tuned `Model`, with heads.
        targets_: the targets, in the order of the columns of y.
        classes_: the sorted classes; a list of arrays for several targets.
        history_: metrics of the fit, one row per epoch.

    Examples:
        >>> import seqmel
        >>> data = seqmel.generate_card_data(20)
        >>> events = seqmel.EventSequences.read(data.events)
        >>> labels = events.align(data.clients.to_pandas())
        >>> classifier = seqmel.SequenceClassifier(epochs=1, batch_size=8, random_state=0)
        >>> classifier = classifier.fit(events, labels["gender"])
        >>> classifier.predict_proba(events).shape
        (20, 2)
    """

    _task = "classification"

    @property
    def classes_(self) -> npt.NDArray[Any] | list[npt.NDArray[Any]]:
        """(classes,) the sorted classes; a list of arrays for several targets."""
        self._check_fitted()
        found = [np.asarray(target.classes) for target in self.targets_]
        return found if self._several else found[0]

    def predict_proba(
        self,
        X: Any,  # noqa: N803
        moments: Any = None,
    ) -> npt.NDArray[np.float64] | list[npt.NDArray[np.float64]]:
        """Predict the probability of each class.

        Args:
            X: `EventSequences`, a table of events (one row per event, or one row per client and
                list columns), name -> table for several, or client ids if `events` is set. An id
                without events is predicted from an empty sequence.
            moments: (rows,) the moment of each row, or one for all: only events before it count.
                None uses all events.

        Returns:
            (rows, classes) probabilities in the order of `classes_`; a list of them for several
            targets.

        Raises:
            InputError, SchemaError: X cannot be used, or lacks a column that `fit` had.
            ModelError: not fitted yet. It is also scikit-learn's `NotFittedError`.
        """
        outputs = self._outputs(self._rows_to_predict(X), moments)
        found = [
            target.probabilities(out) for target, out in zip(self.targets_, outputs, strict=True)
        ]
        return found if self._several else found[0]

    def score(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any = None,
        moments: Any = None,
    ) -> float:
        """Compute the accuracy on the labelled rows, averaged over targets.

        Args:
            X: `EventSequences`, a table of events (one row per event, or one row per client and
                list columns), name -> table for several, or client ids if `events` is set.
            y: (rows,) labels, or (rows, targets) for several targets. Missing labels are ignored.
            sample_weight: (rows,) weight of each row.
            moments: (rows,) the moment of each row, or one for all; see `predict`.

        Returns:
            The accuracy, from 0 to 1.

        Raises:
            InputError: the number of rows differs from X or the number of targets from `fit`, or a
                target has no labels.
            ModelError: not fitted yet. It is also scikit-learn's `NotFittedError`.
        """
        from sklearn.metrics import accuracy_score

        rows = self._rows_to_predict(X)
        return _mean_score(accuracy_score, self._predicted(rows, moments), rows, y, sample_weight)


class SequenceRegressor(RegressorMixin, _Supervised):  # type: ignore[misc]
    """Predict quantities of clients from their events, as `seqmel finetune` and `predict` do.

    The parameters and attributes are those of `SequenceClassifier`, without `classes_`.

    Args:
        quantity_loss: "squared", "log", "poisson", "tweedie" or "quantile", see `seqmel config`.
            "auto" is "log" for a heavy tail without negative values, else "squared".
        quantile: the quantile of the loss "quantile"; None is the median.

    Examples:
        >>> import seqmel
        >>> data = seqmel.generate_card_data(20)
        >>> events = seqmel.EventSequences.read(data.events)
        >>> labels = events.align(data.clients.to_pandas())
        >>> regressor = seqmel.SequenceRegressor(epochs=1, batch_size=8, random_state=0)
        >>> regressor = regressor.fit(events, labels["age"])
        >>> regressor.predict(events).shape
        (20,)
    """

    _task = "regression"

    def score(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any = None,
        moments: Any = None,
    ) -> float:
        """Compute R2 on the labelled rows, averaged over targets.

        Args:
            X: `EventSequences`, a table of events (one row per event, or one row per client and
                list columns), name -> table for several, or client ids if `events` is set.
            y: (rows,) quantities, or (rows, targets) for several targets. Missing ones are ignored.
            sample_weight: (rows,) weight of each row.
            moments: (rows,) the moment of each row, or one for all; see `predict`.

        Returns:
            R2, at most 1.

        Raises:
            InputError: the number of rows differs from X or the number of targets from `fit`, or a
                target has no labels.
            ModelError: not fitted yet. It is also scikit-learn's `NotFittedError`.
        """
        from sklearn.metrics import r2_score

        rows = self._rows_to_predict(X)
        return _mean_score(r2_score, self._predicted(rows, moments), rows, y, sample_weight)


class SequenceSurvival(_Supervised):
    """Predict when an event comes, as `seqmel finetune --task survival` and `predict` do.

    Times may be censored: all that is known is that the event had not come by then. The parameters
    and attributes are those of `SequenceClassifier`, without `classes_`.

    Args:
        time_edges: increasing bounds of the bins of time, in the unit of the times; None takes ten
            or fewer, with as many observed events each.

    Attributes:
        time_edges_: the bounds.

    Examples:
        >>> import pandas as pd
        >>> import seqmel
        >>> data = seqmel.generate_card_data(20)
        >>> events = seqmel.EventSequences.read(data.events)
        >>> days = [3.0 * i % 50 for i in range(20)]
        >>> y = pd.DataFrame({"churn": days, "observed": [day < 40 for day in days]})
        >>> model = seqmel.SequenceSurvival(time_edges=[10, 30], epochs=1, random_state=0)
        >>> model.fit(events, y).predict_survival(events).shape
        (20, 2)
    """

    _task = "survival"

    def _named_labels(self, y: Any, rows: ClientRows) -> dict[str, pd.Series[Any]]:
        return {str(times.name): times for times in [_times(y, rows)]}

    @property
    def time_edges_(self) -> tuple[float, ...]:
        """The bounds at which `predict_survival` gives the probability of a later event."""
        self._check_fitted()
        return self.targets_[0].edges

    def fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any = None,
        moments: Any = None,
    ) -> SequenceSurvival:
        """Fit the model to times. Every row of X is one sample, even if its client occurs twice.

        Args:
            X: `EventSequences`, a table of events (one row per event, or one row per client and
                list columns), name -> table for several, or client ids if `events` is set.
            y: (rows, 2) a DataFrame or structured array with a column of booleans, whether the
                event was observed, and a column of times: to the event, or to the end of the
                observation. It is in the order of X, or indexed by the client ids of X.
            sample_weight: (rows,) weight of each row, in the order of X or indexed like y.
            moments: (rows,) the moment of each row, or one for all; see `SequenceClassifier.fit`.

        Returns:
            The fitted estimator.

        Raises:
            InputError: X and y have different numbers of rows, y is no such table, or no event is
                observed.
            ConfigError: an option is out of range, or is fixed by the pretrained model.
            TrainingError: the training diverges.
        """
        return super().fit(X, y, sample_weight, moments)

    def predict_survival(
        self,
        X: Any,  # noqa: N803
        moments: Any = None,
    ) -> npt.NDArray[np.float64]:
        """Predict the probability that the event comes later than each of `time_edges_`.

        `predict` gives the median time, NaN where it is later than the last bound.

        Args:
            X: see `fit`. An id without events is predicted from an empty sequence.
            moments: (rows,) the moment of each row, or one for all: only events before it count.
                None uses all events.

        Returns:
            (rows, bounds) probabilities.

        Raises:
            InputError, SchemaError: X cannot be used, or lacks a column that `fit` had.
            ModelError: not fitted yet. It is also scikit-learn's `NotFittedError`.
        """
        (outputs,) = self._outputs(self._rows_to_predict(X), moments)
        return self.targets_[0].survival(outputs)

    def score(self, X: Any, y: Any, moments: Any = None) -> float:  # noqa: N803
        """Compute Harrell's concordance: do clients with a higher risk have their event first?

        Args:
            X: see `fit`.
            y: (rows, 2) times and whether they were observed, see `fit`. Rows without a time are
                ignored.
            moments: (rows,) the moment of each row, or one for all; see `predict`.

        Returns:
            The concordance, from 0 to 1; NaN if no two rows can be compared.

        Raises:
            InputError: the number of rows differs from X, or y is no such table.
            ModelError: not fitted yet. It is also scikit-learn's `NotFittedError`.
        """
        rows = self._rows_to_predict(X)
        signed = _times(y, rows)
        known = signed.notna().to_numpy()
        times, observed = observed_times(signed[known].to_numpy())
        (outputs,) = self._outputs(rows, moments)
        return concordance(times, observed, -self.targets_[0].survival(outputs)[known].sum(axis=1))


def _times(y: Any, rows: ClientRows) -> pd.Series[Any]:
    """(rows,) signed times by position, null where there is none; see `signed_times`."""
    names = getattr(getattr(y, "dtype", None), "names", None)
    frame = pd.DataFrame({name: y[name] for name in names}) if names else y
    ends = (
        [name for name in frame if pd.api.types.is_bool_dtype(frame[name])]
        if isinstance(frame, pd.DataFrame)
        else []
    )
    if len(ends) != 1 or frame.shape[1] != 2:
        raise InputError(
            "Expected y as a DataFrame or structured array of two columns: a time, and true or "
            f"false for whether the event was observed. Found {_shape(y)}."
        )
    found = _labels(frame, rows)
    happened = found.pop(str(ends[0]))
    (times,) = found.values()
    known = times.dropna()
    return (signed_times(known, happened) if len(known) else known).reindex(times.index)


def _shape(y: Any) -> str:
    if isinstance(y, pd.DataFrame):
        columns = (f"{name!r} ({kind})" for name, kind in y.dtypes.items())
        return f"the columns {shown(columns)}"
    return f"{type(y).__name__} of shape {np.shape(y)}"


def _samples(
    rows: ClientRows, place: npt.NDArray[np.intp], moments: Any, prepared: PreparedSequences
) -> Samples:
    """The samples of rows at their moments, keyed by their row numbers."""
    wanted = torch.from_numpy(_moments(moments, rows, prepared.schema).time_us)
    numbers = pd.Index(prepared.sequences.client_ids.to_pandas())
    clients = torch.from_numpy(numbers.get_indexer(pd.Index(place)).astype(np.int64))
    owners = pd.factorize(rows.ids, use_na_sentinel=False)[0].astype(np.int64)
    return Samples(pd.RangeIndex(len(rows)), clients, wanted, torch.from_numpy(owners))


def _facts(table: Table, rows: ClientRows) -> pd.DataFrame:
    """The facts of the rows that have some, indexed by row number."""
    found = read_facts(table, likely=rows.client)
    place = id_positions(rows.ids, found.index)
    known = np.flatnonzero(place >= 0)
    if not len(known):
        raise InputError(
            f"No client of X has a row in the facts. X has clients such as "
            f"{shown(map(repr, rows.ids[:3].tolist()))}, the facts such as "
            f"{shown(map(repr, found.index[:3].tolist()))}. Check that both use the same ids."
        )
    of_rows: pd.DataFrame = found.iloc[place[known]].set_axis(known, axis=0)
    return of_rows


def _moments(moments: Any, rows: ClientRows, schema: EventSchema) -> Moments:
    """The moment of each row, read like the times of the events."""
    if isinstance(moments, (str, int, np.integer)) or is_moment(moments):
        one = single_moment(moments, schema)
        if one is None:
            raise InputError(
                f"moments is {moments!r}. Expected one moment, such as 2024-01-31, or one per row "
                "of X."
            )
        moments = [one] * len(rows)
    else:
        rows.check_matched(moments, "moments")
        moments = _in_order(moments, rows, "moments") if isinstance(moments, pd.Series) else moments
    found = pd.Series(moments).reset_index(drop=True)
    if len(found) != len(rows):
        raise InputError(
            f"moments has {count_words(len(found), 'row')} and X has {len(rows):,}. Expected one "
            "moment per row of X, or one for all."
        )
    if found.isna().any():
        raise InputError(
            f"{int(found.isna().sum()):,} of {count_words(len(found), 'moment')} are null. Drop or "
            "fix these rows."
        )
    table = pd.DataFrame({schema.client: np.arange(len(found)), schema.time: found})
    return read_moments(table, schema, label="moments")


def _base(pretrained: Pretrained | None) -> TrainedModel | None:
    found = checked_pretrained(pretrained) if pretrained is not None else None
    return load_model(found) if isinstance(found, (str, Path)) else found


def _labels(y: Any, rows: ClientRows) -> dict[str, pd.Series[Any]]:
    """Target -> (rows,) its labels, by position; the names of the targets are those in y."""
    frame = y.to_frame() if isinstance(y, pd.Series) else y
    if not isinstance(frame, pd.DataFrame):
        values = np.asarray(y)
        if values.ndim not in (1, 2):
            raise InputError(
                f"y has shape {values.shape}. Expected one label per row, or one per row and "
                "target."
            )
        columns = values[:, None] if values.ndim == 1 else values
        names = (
            ["target"]
            if columns.shape[1] == 1
            else [f"target_{i}" for i in range(columns.shape[1])]
        )
        frame = pd.DataFrame(dict(zip(names, columns.T, strict=True)))
    if len(frame) != len(rows):
        raise InputError(
            f"y has {count_words(len(frame), 'row')} and X has {len(rows):,}. Expected one label "
            "per row of X."
        )
    rows.check_matched(y, "y")
    frame = _in_order(frame, rows, "y").reset_index(drop=True)
    return {
        str(name) if name is not None else "target": _usable(frame[name]) for name in frame.columns
    }


def _in_order(given: Frame, rows: ClientRows, name: str) -> Frame:
    """Reorder by client id if the index is a permutation of the ids of X; else return unchanged."""
    found = given.index
    ids = rows.ids
    if rows.numbers_rows(found) or found.equals(rows.index) or found.equals(ids):
        return given
    if found.nlevels > 1 or len(found) != len(ids) or not (found.is_unique and ids.is_unique):
        return given
    place = found.get_indexer(ids)
    if (place < 0).any():
        return given
    if found.name != rows.client and set(ids.tolist()) == set(range(len(ids))):
        raise InputError(
            f"The index of {name} holds 0 to {len(ids) - 1:,} in another order than the clients of "
            "X, whose ids these are, but also what numbered rows have. Name the index "
            f"{rows.client!r} to match by id, or give {name}.to_numpy()."
        )
    ordered: Frame = given.iloc[place]
    return ordered


def _usable(values: pd.Series[Any]) -> pd.Series[Any]:
    """Convert like `read_labels`: Decimal objects to float64, infinite values to missing."""
    if pd.api.types.infer_dtype(values, skipna=True) in (
        "decimal",
        "floating",
        "mixed-integer-float",
    ):
        values = pd.to_numeric(values.astype(object))
    return (
        values.replace([np.inf, -np.inf], np.nan) if pd.api.types.is_float_dtype(values) else values
    )


def _no_quantities(labels: Mapping[str, pd.Series[Any]]) -> None:
    for name, values in labels.items():
        if pd.api.types.is_float_dtype(values):
            known = values[np.isfinite(values)]
            fractions = known[known != known.round()]
            if len(fractions):
                raise InputError(
                    f"The target {name!r} holds fractions, such as {fractions.iloc[0]}: a "
                    "quantity. SequenceRegressor learns quantities; for classes cut it into whole "
                    "numbers or text."
                )


def _by_class(weights: Mapping[Any, float], labels: Mapping[str, pd.Series[Any]]) -> pd.Series[Any]:
    """(rows,) the weight of each row's class; 1 for a class without a weight."""
    if len(labels) > 1:
        raise ConfigError(
            "class_weight by class is for one target. For several use 'balanced', or sample_weight."
        )
    (values,) = labels.values()
    unknown = [label for label in weights if not (values == label).any()]
    if unknown:
        known = shown([repr(label) for label in values.dropna().unique().tolist()])
        raise ConfigError(
            f"class_weight has {plain(unknown[0])!r}, which is not a class of y. Its classes: "
            f"{known}."
        )
    negative = [weight for weight in weights.values() if not 0 <= weight < np.inf]
    if negative:
        raise ConfigError(f"class_weight has {plain(negative[0])!r}. Expected numbers from 0 on.")
    by_row = [float(weights.get(label, 1.0)) for label in values]
    return pd.Series(by_row, name="class_weight")


def _numbered(values: Any, name: str, rows: ClientRows) -> pd.Series[Any]:
    rows.check_matched(values, name)
    values = _in_order(values, rows, name) if isinstance(values, pd.Series) else values
    found = np.asarray(values, np.float64)
    if found.shape != (len(rows),):
        raise ConfigError(
            f"{name} has shape {found.shape}. Expected ({len(rows)},), one number per row of X."
        )
    return pd.Series(found, name=name)


def _mean_score(
    measure: Any,
    predicted: dict[str, npt.NDArray[Any]],
    rows: ClientRows,
    y: Any,
    sample_weight: Any,
) -> float:
    """Average a measure over the targets, each measured on the rows that have its label."""
    labels = _labels(y, rows)
    weights = (
        np.ones(len(rows))
        if sample_weight is None
        else _numbered(sample_weight, "sample_weight", rows).to_numpy()
    )
    if len(labels) != len(predicted):
        raise InputError(
            f"y has {count_words(len(labels), 'target')} and fit had {len(predicted)}. Expected "
            "the columns that fit had."
        )
    by_name = labels.keys() == predicted.keys()
    scores = []
    for (name, values), found in zip(labels.items(), predicted.values(), strict=True):
        found = predicted[name] if by_name else found
        known = values.notna().to_numpy()
        if not known.any():
            raise InputError(
                f"The target {name!r} has no label to compare with. Leave it out, or give rows "
                "that have one."
            )
        wanted = np.asarray(
            values[known].tolist()
        )  # the type of the labels, even if y has dtype object
        if (wanted.dtype.kind == "U") != (found.dtype.kind == "U"):
            raise InputError(
                f"The target {name!r} has labels such as {wanted[0].item()!r}; predicted are such "
                f"as {found[0].item()!r}. Expected labels of the kind that fit had."
            )
        scores.append(measure(wanted, found[known], sample_weight=weights[known]))
    return float(np.mean(scores))
