"""The object to hold: a trained model with its verbs (embed, predict, finetune, evaluate, export, save), and what makes one."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import pandas as pd

from seqmel.api.embedding import (
    Engine,
    Moments,
    Written,
    embedded,
    predicted,
    write_embeddings,
    write_predictions,
)
from seqmel.api.parts import named_parts
from seqmel.config import Config, config_with
from seqmel.core.atomic_files import atomic_write, check_output
from seqmel.core.distributed import is_launched
from seqmel.core.errors import ConfigError, ModelError
from seqmel.core.progress import Reporting
from seqmel.data.sources.reading import Events
from seqmel.data.sources.shard import Shard
from seqmel.data.tables.labels import Table, Task, likely_client, read_labels
from seqmel.data.tables.number_types import NumberType
from seqmel.data.tables.vector_files import Layout
from seqmel.inference.options import EmbedOptions
from seqmel.model import AnyModel, as_model
from seqmel.model import Model as Artefact

if TYPE_CHECKING:
    from seqmel.evaluation.results import Scores
    from seqmel.evaluation.splits import Split

__all__ = ["Model", "finetune", "load", "load_model", "train"]


@dataclass(frozen=True, eq=False, repr=False)
class Model(Artefact):
    """A trained model. `seqmel.train` and `seqmel.load` give one; its methods are what one does with it.

        model = seqmel.load("model")
        vectors = model.embed("events.parquet")        # a DataFrame indexed by client id, columns emb_0000 ...

    A model that was saved or loaded stands wherever the path of its folder is accepted.

    Attributes:
        config: all options that it was trained with.
        schema: which column of the events is what.
        vocabulary: category codes and numeric scales, fitted in training.
        encoder: the network, a `torch.nn.Module` in evaluation mode on the CPU; `encoder.embed(batch)` gives (B, D) vectors.
        metrics: what it was trained on, and one row per epoch under "history".
        heads: of a fine-tuned model; else None.
        targets: what a fine-tuned model predicts.
        statistics: how the training events were distributed; None in a model of format 1.
        folder: where it lies; None while it is in memory only.

    Examples:
        >>> import seqmel
        >>> data = seqmel.generate_card_data(20)
        >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
        >>> model.schema.client, model.config.training.epochs
        ('client_id', 1)
        >>> model.embed(data.events).index.name
        'client_id'
    """

    folder: Path | None = None

    @classmethod
    def of(cls, model: AnyModel) -> Model:
        """The same model with its verbs.

        Raises:
            ModelError: the folder holds no model.
        """
        if isinstance(model, Model):
            return model
        found = as_model(model)
        folder = Path(model) if isinstance(model, (str, os.PathLike)) else None
        return cls(**{field.name: getattr(found, field.name) for field in fields(Artefact)}, folder=folder)

    # ---------------------------------------------------------------------------------------------- embed, predict

    @overload
    def embed(
        self, events: Events, output: None = None, *, as_of: Moments | None = None, state: str | Path | None = None,
        history: Events | None = None, skipped: str | Path | None = None, engine: Engine = "duckdb", layout: Layout = "columns", dtype: NumberType = "float32", dim: int | None = None,
        quantization_from: str | Path | None = None, shard: Shard | None = None, device: str = "auto", overwrite: bool = False,
        progress: Reporting = None,
    ) -> pd.DataFrame: ...  # fmt: skip

    @overload
    def embed(
        self, events: Events, output: str | Path, *, as_of: Moments | None = None, state: str | Path | None = None,
        history: Events | None = None, skipped: str | Path | None = None, engine: Engine = "duckdb", layout: Layout = "columns", dtype: NumberType = "float32", dim: int | None = None,
        quantization_from: str | Path | None = None, shard: Shard | None = None, device: str = "auto", overwrite: bool = False,
        progress: Reporting = None,
    ) -> Written: ...  # fmt: skip

    def embed(
        self,
        events: Events,
        output: str | Path | None = None,
        *,
        as_of: Moments | None = None,
        state: str | Path | None = None,
        history: Events | None = None,
        skipped: str | Path | None = None,
        engine: Engine = "duckdb",
        layout: Layout = "columns",
        dtype: NumberType = "float32",
        dim: int | None = None,
        quantization_from: str | Path | None = None,
        shard: Shard | None = None,
        device: str = "auto",
        overwrite: bool = False,
        progress: Reporting = None,
    ) -> pd.DataFrame | Written:
        """Embed clients: one vector per client, the same numbers to the bit as `seqmel embed`.

        Args:
            events: a Parquet or CSV file, a folder, a glob, a pandas, polars or Arrow table, `EventSequences`, or sequences that
                `prepare` wrote with this model's vocabulary.
            output: a Parquet file to write in bounded memory; None returns the vectors.
            as_of: embed only the events before a moment: a date such as "2024-01-31", or a table of clients and moments, one
                row of output per row.
            state: a file with what is known of each client, for incremental updates: `events` are then only those since the
                last update, and clients with new events come out. The file is created where it is not there.
            history: with `state`, all events up to now: clients with an event earlier than their last one are computed anew from
                it. Without it they are skipped and keep their state; the others go on.
            skipped: with `state`, a Parquet file for the ids of the clients that are skipped.
            engine: "duckdb", on this machine; or "spark", for events that outgrow it.
            layout: "columns" for one column per dimension; "list" for one list column `embedding`.
            dtype: float32, float16, int8 or binary. The last two are codes; `read_embeddings` decodes a file of them.
            dim: keep only the first `dim` dimensions, of a model that was trained with `matryoshka`.
            quantization_from: an earlier file of int8 or binary whose scales are used again.
            shard: (k, n) embeds only the k-th of n disjoint sets of clients.
            device: "auto", "cpu", "cuda", "cuda:1", "mps".
            overwrite: replace an output that is there.
            progress: None shows progress on a terminal and in a notebook, True everywhere, False nowhere; or a `Progress`.

        Returns:
            Without `output` a DataFrame with D columns, indexed by client id (and moment), clients in the order of the events.
            With it what was written, see `Written`.

        Raises:
            ConfigError: an option out of range, or options that do not go together.
            InputError: events that cannot be read, or lack a column that the model was trained with.
            ModelError: `state` with a Transformer, or a state of another model.
            OutputError: the output exists, or cannot be written.

        Examples:
            >>> import seqmel
            >>> data = seqmel.generate_card_data(20)
            >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
            >>> model.embed(data.events, as_of="2023-06-30").index.names
            FrozenList(['client_id', 'event_time'])
            >>> model.embed(data.events, "vectors.parquet", dtype="float16").rows
            20
        """
        options = EmbedOptions(
            layout=layout, dtype=dtype, dim=dim, quantization_from=quantization_from, shard=shard, device=device, overwrite=overwrite,
            progress=progress,
        )  # fmt: skip
        late: dict[str, Any] = {"history": history, "skipped": skipped}
        with self._kept_on_cpu():
            if output is None:
                return embedded(self, events, options, as_of=as_of, state=state, **late, engine=engine)
            return write_embeddings(self, events, output, options, as_of=as_of, state=state, **late, engine=engine)

    @overload
    def predict(
        self, events: Events, output: None = None, *, as_of: Moments | None = None, shard: Shard | None = None,
        device: str = "auto", overwrite: bool = False, progress: Reporting = None,
    ) -> pd.DataFrame: ...  # fmt: skip

    @overload
    def predict(
        self, events: Events, output: str | Path, *, as_of: Moments | None = None, shard: Shard | None = None,
        device: str = "auto", overwrite: bool = False, progress: Reporting = None,
    ) -> Written: ...  # fmt: skip

    def predict(
        self,
        events: Events,
        output: str | Path | None = None,
        *,
        as_of: Moments | None = None,
        shard: Shard | None = None,
        device: str = "auto",
        overwrite: bool = False,
        progress: Reporting = None,
    ) -> pd.DataFrame | Written:
        """Predict the targets of a fine-tuned model: for classes one probability per class (`churn=yes`) and the most likely
        class (`churn`), for a quantity the quantity.

        Args:
            events, output, as_of, shard, device, overwrite, progress: see `embed`.

        Returns:
            Without `output` a DataFrame indexed by client id (and moment); with it what was written, see `Written`.

        Raises:
            ModelError: the model has not been fine-tuned.
            ConfigError, InputError, OutputError: see `embed`.

        Examples:
            >>> import seqmel
            >>> data = seqmel.generate_card_data(20)
            >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
            >>> tuned = model.finetune(data.events, data.clients, target="gender", epochs=1)
            >>> tuned.predict(data.events).columns.tolist()
            ['gender=F', 'gender=M', 'gender']
        """
        options = EmbedOptions(shard=shard, device=device, overwrite=overwrite, progress=progress)
        with self._kept_on_cpu():
            if output is None:
                return predicted(self, events, options, as_of=as_of)
            return write_predictions(self, events, output, options, as_of=as_of)

    @contextmanager
    def _kept_on_cpu(self) -> Iterator[None]:
        """The encoder is back on the CPU afterwards, so that the model can be pickled, or used where there is no GPU."""
        try:
            yield
        finally:
            self.encoder.cpu()

    # ------------------------------------------------------------------------------------------ finetune, evaluate

    def finetune(
        self,
        events: Events,
        labels: Table,
        output: str | Path | None = None,
        *,
        target: str | Sequence[str],
        **options: Any,
    ) -> Model:
        """Learn to predict labels on top of this model, which is left as it is.

        Args:
            events: of the labelled clients; others do no harm.
            labels: a table with one row per client.
            output: the model folder to write; None keeps the model in memory.
            target: the column or columns of the labels to predict: classes or quantities.
            **options: see `seqmel.finetune`: task, weight, client, resume, overwrite, progress, and the options of fine-tuning,
                such as epochs, learning_rate, unfreeze.

        Returns:
            The fine-tuned model, with `predict`.

        Raises:
            SeqmelError: see `seqmel.finetune`.

        Examples:
            >>> import seqmel
            >>> data = seqmel.generate_card_data(20)
            >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
            >>> tuned = model.finetune(data.events, data.clients, target="gender", epochs=1)
            >>> [target.name for target in tuned.targets]
            ['gender']
        """
        return finetune(self, events, labels, output, target=target, **options)

    def evaluate(
        self,
        labels: Table,
        *,
        target: str,
        events: Events,
        aggregates: bool = True,
        client: str | None = None,
        task: Task = "auto",
        folds: int = 5,
        trees: int = 500,
        seed: int = 0,
        split: Split | None = None,
        device: str = "auto",
        progress: Reporting = None,
    ) -> Scores:
        """Cross-validate what the vectors are worth to LightGBM and a linear probe, as `seqmel evaluate` does.

        Args:
            labels: a table with one row per client.
            target: the column to predict: classes or quantities.
            events: the events of the labelled clients.
            aggregates: score hand-crafted aggregates of the events too, alone and beside the vectors.
            client: the client column of the labels; where None, that of the events if there is one, else by its name.
            task: "auto" takes a number with more than 20 different values as a quantity, all else as classes.
            folds, trees, seed, split: see `seqmel.score`.
            device: where to embed.
            progress: None shows progress on a terminal and in a notebook, True everywhere, False nowhere; or a `Progress`.

        Returns:
            The scores, with the sets of features "aggregates", "aggregates with order", "embeddings" and
            "embeddings + aggregates with order".

        Raises:
            SeqmelError: labels or events that cannot be read or have too few clients in common; an option out of range.

        Examples:
            >>> import seqmel
            >>> data = seqmel.generate_card_data(20)
            >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
            >>> scores = model.evaluate(data.clients, target="gender", events=data.events, folds=2, trees=5)
            >>> list(scores.matched)[:3]
            ['embeddings', 'aggregates', 'embeddings + aggregates']
        """
        from seqmel.evaluation.feature_sets import aggregate_sets, standard_rows, with_both
        from seqmel.evaluation.scoring import score
        from seqmel.inference.embed import open_events_for

        y = read_labels(labels, target, client=client or likely_client(labels, self.schema.client))
        sets = {"embeddings": self.embed(events, device=device, progress=progress)}
        if aggregates:
            source = open_events_for(self, events)
            sets = with_both(sets, aggregate_sets(source, self.schema))
            source.connection.close()
        probes, averages = standard_rows(sets)
        return score(
            y, sets, probes=probes, averages=averages, task=task, folds=folds, trees=trees, seed=seed, split=split,
            progress=progress,
        )  # fmt: skip

    # ----------------------------------------------------------------------------------------------- save, export

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Model:
        """Write the model folder, which `seqmel.load` and all commands read.

        Args:
            folder: where.
            overwrite: replace a model that is there.

        Returns:
            The model, with `folder` set.

        Raises:
            OutputError: something is there, or it cannot be written.

        Examples:
            >>> import seqmel
            >>> data = seqmel.generate_card_data(20)
            >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
            >>> model.save("model").folder
            PosixPath('model')
        """
        from seqmel.training.finetuning.finetune import save_finetuned
        from seqmel.training.run import write_model

        folder = Path(folder)
        check_output(folder, overwrite=overwrite, folder=True, option="overwrite=True")
        with atomic_write(folder) as partial:
            (write_model if self.heads is None else save_finetuned)(partial, self)
        return replace(self, folder=folder)

    def export(self, output: str | Path, *, overwrite: bool = False) -> Path:
        """Write the model as one ONNX file: raw values of events go in, vectors come out.

        Args:
            output: the file to write.
            overwrite: replace what is there.

        Returns:
            The file.

        Raises:
            ModelError: an encoder or pooling that ONNX has no counterpart for, or the package onnx is not installed.
            OutputError: the output exists or cannot be written.

        Examples:
            >>> import seqmel
            >>> data = seqmel.generate_card_data(20)
            >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
            >>> model.export("model.onnx").name
            'model.onnx'
        """
        from seqmel.export.onnx import export_onnx

        export_onnx(self, output, overwrite=overwrite)
        return Path(output)

    def __fspath__(self) -> str:
        if self.folder is None:
            raise ModelError("The model is in memory only. Save it first: model.save(folder)")
        return str(self.folder)

    def __truediv__(self, name: str) -> Path:
        """A file of the folder."""
        return Path(self) / name

    # ------------------------------------------------------------------------------------------------------- shown

    def _facts(self) -> dict[str, str]:
        """What it is, for people."""
        config, metrics = self.config, self.metrics
        learnt = metrics.get("pretraining") or metrics
        facts = {
            "encoder": f"{config.encoder.name}, pooling {' + '.join(config.pooling)}",
            "vector": f"{self.encoder.output_size:,} dimensions",
            "weights": f"{sum(p.numel() for p in self.encoder.parameters()):,}",
            "columns": ", ".join(
                [self.schema.client, self.schema.time, *self.schema.categorical, *self.schema.numeric]
            ),
        }
        if "events" in learnt:
            facts["trained on"] = f"{learnt['events']:,} events of {learnt['clients']:,} clients"
        if self.targets:
            facts["predicts"] = ", ".join(f"{target.name} ({target.task})" for target in self.targets)
        return facts | {"folder": str(self.folder) if self.folder is not None else "in memory, not saved"}

    def __repr__(self) -> str:
        return f"Model({'; '.join(f'{name}: {fact}' for name, fact in self._facts().items())})"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{escape(n)}</td><td>{escape(fact)}</td></tr>" for n, fact in self._facts().items())
        return f"<b>Model</b><table>{rows}</table>"


def load(model: AnyModel) -> Model:
    """Load a model folder.

    Args:
        model: the folder; a `Model` is returned as it is.

    Returns:
        The model.

    Raises:
        ModelError: no model there, a file missing or changed, or a newer format.

    Examples:
        >>> import seqmel
        >>> data = seqmel.generate_card_data(20)
        >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
        >>> saved = model.save("model")
        >>> seqmel.load("model").folder.name
        'model'
    """
    return Model.of(model)


load_model = load
"""The earlier name of `load`."""


def train(
    events: Events,
    output: str | Path | None = None,
    *,
    config: Config | Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    callbacks: Sequence[Any] = (),
    loggers: Sequence[Any] = (),
    progress: Reporting = None,
    **options: Any,
) -> Model:
    """Train a model on events, without labels.

    Args:
        events: a Parquet or CSV file, a folder, a glob, a pandas, polars or Arrow table, `EventSequences`, or a folder of
            prepared sequences.
        output: the model folder to write. While it runs, everything lies in `<output>.partial`; only a finished model is moved
            to `output`. None keeps the model in memory; `Model.save` writes it.
        config: all options, as a `Config` or by the names of a config file.
        resume: continue an interrupted run where there is one; a finished model is left as it is.
        overwrite: replace a model that is there, or an unfinished run.
        callbacks: `pytorch_lightning.Callback` objects, beside those that seqmel has.
        loggers: `pytorch_lightning.loggers.Logger` objects, which get the losses and validation metrics of each epoch.
        progress: None shows progress on a terminal and in a notebook, True everywhere, False nowhere; or a `Progress`.
        **options: options of the config by their names: a section (`encoder="gru"`, `loss={"name": "infonce"}`, or a
            `torch.nn.Module` of your own as loss or encoder, see `register_loss`;
            `event_encoder={"hidden_size": 64}`), an option of the section training (`epochs=3`), or one of the schema
            (`client="client_id"`).

    Returns:
        The model.

    Raises:
        ConfigError: an option that does not exist, is out of range, or does nothing.
        InputError, SchemaError: events that cannot be read, or columns that cannot be used.
        TrainingError: too few clients, or a training that diverges.
        OutputError: the output exists, or cannot be written.

    Examples:
        >>> import seqmel
        >>> data = seqmel.generate_card_data(20)
        >>> model = seqmel.train(data.events, "model", encoder="gru", embedding_dim=8, epochs=1, batch_size=8, device="cpu")
        >>> model.embed(data.events).shape
        (20, 8)
    """
    from seqmel.training import run
    from seqmel.training.hooks import Hooks

    hooks = Hooks(callbacks, loggers)
    config = config_with(_named(config), named_parts(options), section="training", source="train")
    if output is None:
        _in_memory_only(resume=resume, overwrite=overwrite)
        return Model.of(run.train_model(events, config=config, hooks=hooks, progress=progress))
    return load(
        run.train(events, output, config=config, resume=resume, overwrite=overwrite, hooks=hooks, progress=progress)
    )


def finetune(
    model: AnyModel | None,
    events: Events,
    labels: Table,
    output: str | Path | None = None,
    *,
    target: str | Sequence[str] | None = None,
    task: Task = "auto",
    weight: str | None = None,
    client: str | None = None,
    config: Config | Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Reporting = None,
    **options: Any,
) -> Model:
    """Learn to predict labels on top of a model, or from scratch.

    Args:
        model: a folder or a `Model` whose encoder, schema and vocabulary are taken; it is left as it is. None starts from
            scratch.
        events: of the labelled clients; others do no harm.
        labels: a table with one row per client. A client may lack some of the targets.
        output: the model folder to write; None keeps the model in memory.
        target: the column or columns of the labels to predict: classes or quantities. Several are learnt together.
        task: of all targets; "auto" takes a number with more than 20 different values as a quantity, all else as classes.
        weight: a column of the labels that says how much each client counts.
        client: the client column of the labels; where None, that of the events if there is one, else by its name.
        config: with a model its `finetuning`, `seed`, `device` and `precision` count, and what else it says must be so in the
            model; from scratch all but what only training without labels needs.
        resume: continue an interrupted run where there is one; a finished model is left as it is.
        overwrite: replace a model that is there, or an unfinished run.
        progress: None shows progress on a terminal and in a notebook, True everywhere, False nowhere; or a `Progress`.
        **options: options of the config by their names: an option of the section finetuning (`epochs=3`, `unfreeze="head"`),
            a section (`encoder="gru"`, from scratch), or one of the schema.

    Returns:
        The fine-tuned model, with `predict`.

    Raises:
        ConfigError: an option that does not exist, is out of range, or that the model fixes.
        InputError, SchemaError: events or labels that cannot be read, or do not fit together.
        TrainingError: a training that diverges.
        OutputError: the output exists, or cannot be written.

    Examples:
        >>> import seqmel
        >>> data = seqmel.generate_card_data(20)
        >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
        >>> tuned = seqmel.finetune(model, data.events, data.clients, target="gender", epochs=1)
        >>> tuned.predict(data.events).columns.tolist()
        ['gender=F', 'gender=M', 'gender']
    """
    from seqmel.training.finetuning import finetune as finetuning

    if target is None and "targets" in options:
        warnings.warn("finetune(targets=...) is now finetune(target=...).", FutureWarning, stacklevel=2)
        target = options.pop("targets")
    if target is None:
        raise ConfigError("No target is named. Give the column of the labels to predict: target=...")
    config = config_with(_named(config), named_parts(options), section="finetuning", source="finetune")
    targets = [target] if isinstance(target, str) else list(target)
    given: dict[str, Any] = {
        "targets": targets, "task": task, "weight": weight, "client": client, "config": config, "progress": progress,
    }  # fmt: skip
    if output is not None:
        return load(finetuning.finetune(model, events, labels, output, resume=resume, overwrite=overwrite, **given))
    _in_memory_only(resume=resume, overwrite=overwrite)
    with tempfile.TemporaryDirectory(prefix="seqmel-", ignore_cleanup_errors=True) as folder:
        return replace(load(finetuning.finetune(model, events, labels, Path(folder) / "model", **given)), folder=None)


def _named(config: Config | Mapping[str, Any] | None) -> Config | Mapping[str, Any] | None:
    return named_parts(config) if isinstance(config, Mapping) else config


def _in_memory_only(*, resume: bool, overwrite: bool) -> None:
    """Raise for what a model that is not written cannot have."""
    for name, given in (("resume", resume), ("overwrite", overwrite)):
        if given:
            raise ConfigError(f"{name} is for an output folder, and none is named. Leave it out, or give output.")
    if is_launched():
        raise ConfigError("Several processes train together into a folder. Give output.")
