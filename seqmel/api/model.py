"""The public model with its methods, and the functions that train, fine-tune and load one."""

from __future__ import annotations

import datetime as dt
import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import pandas as pd

from seqmel.api.embedding import (
    Engine,
    Moments,
    Per,
    VectorPer,
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
from seqmel.core.notebook import curves
from seqmel.core.progress import Reporting
from seqmel.core.units import count_words
from seqmel.data.sources.reading import Events
from seqmel.data.sources.shard import Shard
from seqmel.data.tables.facts import check_no_target, read_facts
from seqmel.data.tables.labels import (
    Table,
    likely_client,
    read_column,
    read_labels,
    read_observed,
)
from seqmel.data.tables.number_types import NumberType
from seqmel.data.tables.targets import TargetTask
from seqmel.data.tables.vector_files import Layout
from seqmel.inference.options import EmbedOptions
from seqmel.model import AnyModel, TrainedModel, as_model

if TYPE_CHECKING:
    from seqmel.evaluation.audit_results import Audit
    from seqmel.evaluation.results import Scores
    from seqmel.evaluation.splits import Split
    from seqmel.inference.online import Scorer
    from seqmel.training.forecast import Forecast

__all__ = ["Model", "finetune", "load", "load_model", "train"]


@dataclass(frozen=True, eq=False, repr=False)
class Model(TrainedModel):
    """A trained model, as `seqmel.train` and `seqmel.load` return it.

        model = seqmel.load("model")
        vectors = model.embed("events.parquet")  # DataFrame indexed by client id: emb_0000, ...

    A saved or loaded model is accepted wherever the path of its folder is.

    Attributes:
        config: all options of the training.
        schema: the role of each column of the events.
        vocabulary: category codes and numeric scales, fitted in training.
        encoder: the network, a `torch.nn.Module` in evaluation mode on the CPU. `encoder.encode`
            and `encoder.embed` take the batches of `seqmel.batches(events, model=model)`.
        metrics: facts about the training data, and one row per epoch under "history".
        heads: prediction heads of a fine-tuned model; else None.
        targets: targets of a fine-tuned model.
        statistics: distribution of the training events; None in a model of format 1.
        facts: the facts about clients that a fine-tuned model predicts with; else None.
        folder: the model folder; None while the model is in memory only.

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
        """Return a model with these methods.

        Args:
            model: a model folder, or a model of either class.

        Returns:
            The model; its `folder` is set if it was loaded from one.

        Raises:
            ModelError: the folder holds no model.
        """
        if isinstance(model, Model):
            return model
        found = as_model(model)
        folder = Path(model) if isinstance(model, (str, os.PathLike)) else None
        return cls(
            **{field.name: getattr(found, field.name) for field in fields(TrainedModel)},
            folder=folder,
        )

    # ------------------------------------------------------------------------------- embed, predict

    @overload
    def embed(
        self,
        events: Events,
        output: None = None,
        *,
        per: VectorPer = "client",
        only: str | None = None,
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
    ) -> pd.DataFrame: ...

    @overload
    def embed(
        self,
        events: Events,
        output: str | Path,
        *,
        per: VectorPer = "client",
        only: str | None = None,
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
    ) -> Written: ...

    def embed(
        self,
        events: Events,
        output: str | Path | None = None,
        *,
        per: VectorPer = "client",
        only: str | None = None,
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
        """Embed clients: one vector per client, bit-identical to those of `seqmel embed`.

        Args:
            events: a Parquet or CSV file, a folder, a glob, a pandas, polars or Arrow table,
                `EventSequences`, or sequences that `prepare` wrote with this model's vocabulary;
                for a model of several tables, name -> such events.
            output: a Parquet file to write in bounded memory; None returns the vectors.
            per: "event" gives one row per event: what was known of the client right after it.
                Events at the same time are one moment. "source" gives, of a model of several
                tables, one row per client and table: the vector of the events of this table alone.
            only: with `per="event"`, "last:N" for the last N events of each client.
            as_of: embed only the events before a moment: a date such as "2024-01-31", or a table of
                clients and moments, which gives one row of output per row of the table.
            state: state file for incremental updates. `events` then holds only the events since the
                last update, and only clients with new events are returned. A missing file is
                created.
            history: with `state`, all events up to now. Clients with late events (earlier than
                their last one) are recomputed from it. Without it they are skipped and keep their
                state.
            skipped: with `state`, a Parquet file for the ids of skipped clients.
            engine: "duckdb" runs on this machine; "spark" is for events too large for one machine.
            layout: "columns" for one column per dimension; "list" for one list column `embedding`.
            dtype: "float32", "float16", "int8" or "binary". The last two are quantized codes;
                `read_embeddings` decodes a file of them.
            dim: keep only the first `dim` dimensions of a model trained with `matryoshka`.
            quantization_from: reuse the scales of this earlier int8 or binary file.
            shard: (k, n) embeds only the k-th of n disjoint sets of clients.
            device: "auto", "cpu", "cuda", "cuda:1" or "mps".
            overwrite: replace an existing output.
            progress: None shows progress on a terminal and in a notebook, True everywhere, False
                nowhere; or a `Progress`.

        Returns:
            Without `output` a DataFrame with D columns, indexed by client id (and moment;
            `source`; or time and `event_number`), clients in the order of the events. With `output`
            a `Written`: the path, the number of rows and dimensions, and the client counts of an
            update.

        Raises:
            ConfigError: an option is out of range, or two options exclude each other.
            InputError: the events cannot be read, or lack a column that the model was trained with.
            ModelError: `state` with a Transformer, or with the state of another model.
            OutputError: the output exists or cannot be written.

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
            layout=layout,
            dtype=dtype,
            dim=dim,
            quantization_from=quantization_from,
            shard=shard,
            device=device,
            overwrite=overwrite,
            progress=progress,
        )
        rows: dict[str, Any] = {"per": per, "only": only, "as_of": as_of}
        late: dict[str, Any] = {"state": state, "history": history, "skipped": skipped}
        with self._kept_on_cpu():
            if output is None:
                return embedded(self, events, options, **rows, **late, engine=engine)
            return write_embeddings(self, events, output, options, **rows, **late, engine=engine)

    @overload
    def predict(
        self,
        events: Events,
        output: None = None,
        *,
        per: Per = "client",
        only: str | None = None,
        as_of: Moments | None = None,
        facts: Table | None = None,
        shard: Shard | None = None,
        device: str = "auto",
        overwrite: bool = False,
        progress: Reporting = None,
    ) -> pd.DataFrame: ...

    @overload
    def predict(
        self,
        events: Events,
        output: str | Path,
        *,
        per: Per = "client",
        only: str | None = None,
        as_of: Moments | None = None,
        facts: Table | None = None,
        shard: Shard | None = None,
        device: str = "auto",
        overwrite: bool = False,
        progress: Reporting = None,
    ) -> Written: ...

    def predict(
        self,
        events: Events,
        output: str | Path | None = None,
        *,
        per: Per = "client",
        only: str | None = None,
        as_of: Moments | None = None,
        facts: Table | None = None,
        shard: Shard | None = None,
        device: str = "auto",
        overwrite: bool = False,
        progress: Reporting = None,
    ) -> pd.DataFrame | Written:
        """Predict the targets of a fine-tuned model.

        Classification gives one probability per class (`churn=yes`) and the most likely class
        (`churn`). Regression gives the predicted quantity.

        Args:
            events: a Parquet or CSV file, a folder, a glob, a pandas, polars or Arrow table,
                `EventSequences`, or sequences that `prepare` wrote with this model's vocabulary;
                for a model of several tables, name -> such events.
            output: a Parquet file to write in bounded memory; None returns the predictions.
            per: "event" gives one row per event: what was known of the client right after it.
                Events at the same time are one moment.
            only: with `per="event"`, "last:N" for the last N events of each client.
            as_of: use only the events before a moment: a date such as "2024-01-31", or a table of
                clients and moments, which gives one row of output per row of the table.
            facts: a table with one row per client, for a model that was fine-tuned with facts. A
                client without a row has nulls.
            shard: (k, n) predicts only for the k-th of n disjoint sets of clients.
            device: "auto", "cpu", "cuda", "cuda:1" or "mps".
            overwrite: replace an existing output.
            progress: None shows progress on a terminal and in a notebook, True everywhere, False
                nowhere; or a `Progress`.

        Returns:
            Without `output` a DataFrame indexed by client id (and moment; or time and
            `event_number`). With `output` a
            `Written`: the path and the number of rows.

        Raises:
            ModelError: the model has not been fine-tuned.
            ConfigError: an option is out of range, or two options exclude each other.
            InputError: the events cannot be read, or lack a column that the model was trained with.
            OutputError: the output exists or cannot be written.

        Examples:
            >>> import seqmel
            >>> data = seqmel.generate_card_data(20)
            >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
            >>> tuned = model.finetune(data.events, data.clients, target="gender", epochs=1)
            >>> tuned.predict(data.events).columns.tolist()
            ['gender=F', 'gender=M', 'gender']
        """
        options = EmbedOptions(shard=shard, device=device, overwrite=overwrite, progress=progress)
        rows: dict[str, Any] = {"per": per, "only": only, "as_of": as_of}
        with self._kept_on_cpu():
            if output is None:
                return predicted(self, events, options, **rows, facts=facts)
            return write_predictions(self, events, output, options, **rows, facts=facts)

    def explain(
        self,
        events: Events,
        clients: Any,
        *,
        target: str | None = None,
        near: Any = None,
        facts: Table | None = None,
        as_of: str | dt.date | int | None = None,
        last: int = 200,
        orders: int | None = None,
        seed: int = 0,
        device: str = "auto",
        progress: Reporting = None,
    ) -> pd.DataFrame:
        """Explain which events, columns and facts moved the prediction of some clients.

        The contributions of a client add up to its prediction. The first row is the baseline: the
        prediction for a client without events, whose facts are typical. The others are Shapley
        values, which are integrated gradients along the probability that a part is known.

        Args:
            events: events with these clients; see `embed`. Not prepared sequences, which do not
                hold the values.
            clients: an id or several ids.
            target: for a fine-tuned model, a column of `predict`: `churn=yes` for the probability
                of a class, `age` for a quantity. `churn` is the most likely class of each client.
                None is the only target.
            near: the id of another client. Explains the cosine similarity of both vectors, in place
                of a prediction. A model without heads is explained by the similarity with the
                client's own vector if None.
            facts: a table with one row per client, for a model that was fine-tuned with facts.
            as_of: use only the events before this moment.
            last: how many of the last events are explained one by one. Those before are one part.
            orders: number of random orders, each walked forwards and backwards. None takes 2 to
                64, by the number of events.
            seed: seed of the orders.
            device: "auto", "cpu", "cuda", "cuda:1" or "mps".
            progress: None shows progress on a terminal and in a notebook, True everywhere, False
                nowhere; or a `Progress`.

        Returns:
            A DataFrame with one row per event and column: the client under its own name; `output`,
            what is explained; `part`: "baseline", "fact", "earlier events" or "event"; `event`, its
            number in the history of the client, from 1 on; `time`; `source`, with several tables;
            `column`; `value`, as text; `contribution`; and `error`, its standard error over the
            orders. The row of the time column is the event itself: that it took place, and when.

        Raises:
            ConfigError: an option is out of range, or does not fit the model.
            InputError: a client has no events, or the events cannot be read.
            ModelError: a target is named, and the model has not been fine-tuned.

        Examples:
            >>> import seqmel
            >>> data = seqmel.generate_card_data(20)
            >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
            >>> one, other = data.clients["client_id"].to_pylist()[:2]
            >>> reasons = model.explain(data.events, one, near=other, last=5, orders=1)
            >>> reasons["part"].unique().tolist()
            ['baseline', 'earlier events', 'event']
        """
        from seqmel.inference.explain import explain

        with self._kept_on_cpu():
            return explain(
                self,
                events,
                clients,
                target=target,
                near=near,
                facts=facts,
                as_of=as_of,
                last=last,
                orders=orders,
                seed=seed,
                device=device,
                progress=progress,
            )

    def forecast(
        self,
        events: Events,
        *,
        within: str,
        by: str | None = None,
        top: int = 10,
        amount: str | None = None,
        as_of: str | dt.date | int | None = None,
        device: str = "auto",
        progress: Reporting = None,
    ) -> Forecast:
        """Forecast what each client does within a horizon, and score it beside simple baselines.

        Heads are fitted on vectors as of moments in the past of these events, and labels of what
        came within the horizon after them.

        Args:
            events: a Parquet or CSV file, a folder, a glob, a table, or name -> such events; see
                `embed`. Not prepared sequences.
            within: the horizon: a number with min, h, d or w, such as "30d".
            by: the categorical column that says of which kind an event is. None is the column
                that events are pooled by, or the table of an event.
            top: number of its most frequent values that are kinds; the others are one.
            amount: the numeric column that says of which amount an event is, such as "amount", to
                forecast that of the next event too; None forecasts none.
            as_of: the moment of the forecast; None is the end of the events. No later event is
                used.
            device: "auto", "cpu", "cuda", "cuda:1" or "mps".
            progress: None shows progress on a terminal and in a notebook, True everywhere, False
                nowhere; or a `Progress`.

        Returns:
            A `Forecast`: `table` has one row per client, `scores` the losses of the forecast and
            of the baselines in the latest horizon of the data.

        Raises:
            ConfigError: an option is out of range, `by` is no category of the model, or `amount` no
                number.
            InputError: the events cannot be read, or span less than two horizons.

        Examples:
            >>> import seqmel
            >>> data = seqmel.generate_card_data(20)
            >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
            >>> found = model.forecast(data.events, within="30d", by="channel")
            >>> found.table.columns[:2].tolist()
            ['count', 'count=contactless']
        """
        from seqmel.training.forecast import forecast

        with self._kept_on_cpu():
            return forecast(
                self,
                events,
                within=within,
                by=by,
                top=top,
                amount=amount,
                as_of=as_of,
                device=device,
                progress=progress,
            )

    @contextmanager
    def _kept_on_cpu(self) -> Iterator[None]:
        """Move the encoder back to the CPU afterwards.

        The model can then be pickled, and used on a machine without a GPU.
        """
        try:
            yield
        finally:
            self.encoder.cpu()

    # --------------------------------------------------------------------------- finetune, evaluate

    def finetune(
        self,
        events: Events,
        labels: Table,
        output: str | Path | None = None,
        *,
        target: str | Sequence[str],
        **options: Any,
    ) -> Model:
        """Fine-tune this model to predict labels. The model itself is not changed.

        Args:
            events: events of the labelled clients; other clients are ignored.
            labels: a table with one row per client, or with `time_column` one per client and
                moment.
            output: the model folder to write; None keeps the model in memory.
            target: the column or columns of the labels to predict: classes or quantities.
            **options: other arguments of `seqmel.finetune`: task, weight, client, time_column,
                facts, fact_columns, resume, overwrite, progress, and options of fine-tuning such as
                epochs, learning_rate and unfreeze.

        Returns:
            The fine-tuned model, with `predict`.

        Raises:
            ConfigError: an option does not exist, is out of range, or is fixed by this model.
            InputError, SchemaError: events or labels cannot be read, or do not match.
            TrainingError: the training diverges.
            OutputError: the output exists or cannot be written.

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
        facts: Table | None = None,
        client: str | None = None,
        time_column: str | None = None,
        task: TargetTask = "auto",
        observed: str | None = None,
        time_edges: Sequence[float] | None = None,
        folds: int = 5,
        trees: int = 500,
        seed: int = 0,
        split: Split | None = None,
        by: str | None = None,
        device: str = "auto",
        progress: Reporting = None,
    ) -> Scores:
        """Cross-validate the vectors as features for LightGBM and a linear probe.

        `seqmel evaluate` does the same.

        Args:
            labels: a table with one row per client, or with `time_column` one per client and
                moment.
            target: the column to predict: classes, quantities or times to an event.
            events: the events of the labelled clients.
            aggregates: also score hand-crafted aggregates of the events, alone and joined with the
                vectors.
            facts: a table with one row per client of numbers, text, booleans and dates, to score
                alone and joined with the other sets.
            client: the client column of the labels. None uses that of the events if the labels have
                it, else recognises it by name.
            time_column: the column of the labels with the moment of each row. Vectors and
                aggregates are of the events strictly before it, and all rows of a client are in one
                fold.
            task: "classification", "regression", "survival" or "auto", which treats a number with
                more than 20 distinct values as a quantity and all else as classes. "survival" takes
                times to an event, which may be censored.
            observed: with the task "survival", the column of the labels that says whether the event
                was observed; None takes TARGET_observed.
            time_edges: with the task "survival", the bounds at which probabilities of a later event
                are compared; None takes quantiles of the observed times.
            folds: number of cross-validation folds.
            trees: number of LightGBM trees.
            seed: seed of the folds and of the models.
            split: `GroupFolds` or `OutOfTime`; None draws random folds, stratified by class.
            by: a column of the labels with groups, to compare selection, error rates and
                calibration between; the results are in `Scores.groups`.
            device: "auto", "cpu", "cuda", "cuda:1" or "mps".
            progress: None shows progress on a terminal and in a notebook, True everywhere, False
                nowhere; or a `Progress`.

        Returns:
            The scores of the feature sets "aggregates", "aggregates with order", "embeddings" and
            "embeddings + aggregates with order"; of "embeddings" alone without the aggregates; with
            facts also of "facts" and of each set "+ facts".

        Raises:
            SeqmelError: labels or events cannot be read or share too few clients, or an option is
                out of range.

        Examples:
            >>> import seqmel
            >>> data = seqmel.generate_card_data(20)
            >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
            >>> scores = model.evaluate(
            ...     data.clients, target="gender", events=data.events, folds=2, trees=5
            ... )
            >>> list(scores.matched)[:4]
            ['aggregates', 'aggregates with order', 'embeddings', 'embeddings + aggregates with
            order']
        """
        from seqmel.evaluation.feature_sets import (
            aggregate_sets,
            standard_rows,
            with_both,
            with_facts,
        )
        from seqmel.evaluation.scoring import score
        from seqmel.inference.as_of import read_moments
        from seqmel.inference.embed import open_events_for

        client = client or likely_client(labels, self.schema.client)
        keys: dict[str, Any] = {"client": client, "time_column": time_column}
        y = read_labels(labels, target, **keys)
        happened = read_observed(labels, target, task, observed, **keys)
        groups = None if by is None else read_column(labels, by, option="by (--by)", **keys)
        rows = moments = None
        if time_column is not None:
            names = [self.schema.client, self.schema.time]
            rows = y.index.to_frame(index=False).set_axis(names, axis=1)
            moments = read_moments(rows, self.schema, label="the labels")
        vectors = self.embed(events, as_of=rows, device=device, progress=progress)
        sets = {"embeddings": vectors}
        if aggregates:
            source = open_events_for(self, events)
            sets = with_both(sets, aggregate_sets(source, self.schema, moments))
            source.connection.close()
        if facts is not None:
            known = read_facts(facts, likely=client or self.schema.client)
            ends = [] if happened is None else [str(happened.name)]
            check_no_target(known, [target, *ends, *filter(None, (time_column,))])
            sets = with_facts(sets, known, y.index)
        probes, averages = standard_rows(sets)
        return score(
            y,
            sets,
            probes=probes,
            averages=averages,
            task=task,
            observed=happened,
            time_edges=time_edges,
            folds=folds,
            trees=trees,
            seed=seed,
            split=split,
            by=groups,
            progress=progress,
        )

    def audit(
        self,
        events: Events,
        *,
        sensitive: Table | None = None,
        column: str | Sequence[str] | None = None,
        labels: Table | None = None,
        target: str | Sequence[str] | None = None,
        members: Table | Iterable[object] | None = None,
        trained_on: Events | None = None,
        weaken: Sequence[str] = (),
        known: Sequence[int] | None = None,
        clients: int = 2_000,
        client: str | None = None,
        folds: int = 5,
        trees: int = 500,
        seed: int = 0,
        device: str = "auto",
        progress: Reporting = None,
    ) -> Audit:
        """Attack the vectors of clients, to see what they give away.

        Each attack is made in the same way on plain aggregates, and is shown beside chance. The
        attacks: find a client by a few of its events, predict a column that should not be known,
        and tell the clients of the training from others.

        `seqmel audit` does the same.

        Args:
            events: the events; see `seqmel.open_events`.
            sensitive: a table with one row per client, with columns that should not be known.
            column: these columns, one or several.
            labels: a table with one row per client, to see what weakened vectors cost in quality.
            target: the columns to predict, one or several.
            members: the ids of the clients that the model was trained on, or a table of them.
            trained_on: the events that the model was trained on, in place of `members`. The
                validation split of training then counts as not trained on.
            weaken: weakened embeddings to attack too: "int8", "binary", "float16", "noise=0.5"
                (Gaussian, in standard deviations of each dimension), "dim=16" (principal
                components), or several joined by "+".
            known: numbers of consecutive events that the attacker has of a client. None takes those
                of 5, 10 and 20 that enough clients have twice.
            clients: maximum number of clients to find, and of members and other clients each. The
                recall depends on it.
            client: the client column of the tables; None recognises it.
            folds: number of cross-validation folds.
            trees: number of LightGBM trees.
            seed: seed of all random choices.
            device: "auto", "cpu", "cuda", "cuda:1" or "mps".
            progress: None shows progress on a terminal and in a notebook, True everywhere, False
                nowhere; or a `Progress`.

        Returns:
            The figures of all attacks, with 95 % intervals.

        Raises:
            ConfigError: an option is out of range or lacks its counterpart.
            SeqmelError: events or tables cannot be read, or there are too few clients.

        Examples:
            >>> import seqmel
            >>> data = seqmel.generate_card_data(40)
            >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
            >>> found = model.audit(
            ...     data.events, sensitive=data.clients, column="gender", trees=5, weaken=["int8"]
            ... )
            >>> [row.vectors for row in found.figures if row.attack == "attribute"]
            ['aggregates', 'embeddings', 'int8']
        """
        from seqmel.api.auditing import columns_of, members_of
        from seqmel.evaluation.audit import audit

        hidden = columns_of(self, sensitive, column, client, ("--sensitive", "--column"))
        wanted = columns_of(self, labels, target, client, ("--labels", "--target"))
        return audit(
            self,
            events,
            sensitive=hidden,
            quality=wanted,
            members=members_of(self, members, trained_on, progress),
            weaken=weaken,
            known=known,
            clients=clients,
            folds=folds,
            trees=trees,
            seed=seed,
            device=device,
            progress=progress,
        )

    # --------------------------------------------------------------------------------- save, export

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Model:
        """Write the model folder, which `seqmel.load` and all commands read.

        Args:
            folder: the folder to write.
            overwrite: replace an existing model.

        Returns:
            The model, with `folder` set.

        Raises:
            OutputError: the folder exists or cannot be written.

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

    def similar(
        self,
        events: Events,
        clients: Any = None,
        *,
        k: int = 10,
        exclude: Any = (),
        device: str = "auto",
        progress: Reporting = None,
    ) -> pd.DataFrame:
        """Embed clients, and find the k most similar ones of each given client.

        Args:
            events: the events of all clients to search among; see `embed`.
            clients: an id or ids to search for; None searches for all clients.
            k: number of clients to find for each.
            exclude: ids that are never found.
            device: the device to embed on.
            progress: where to report progress; see `embed`.

        Returns:
            One row per pair: the client, `rank`, `similar` and `cosine`; see `seqmel.similar`,
            which takes vectors that are there already. A model with `curvature`, with
            `embedding_dim` and without a projection head finds clients by hyperbolic `distance`.

        Raises:
            SeqmelError: see `seqmel.similar` and `embed`.

        Examples:
            >>> import seqmel
            >>> data = seqmel.generate_card_data(20)
            >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
            >>> model.similar(data.events, clients=3, k=2).columns.tolist()
            ['client_id', 'rank', 'similar', 'cosine']
        """
        from seqmel.inference.similar import similar

        vectors = self.embed(events, device=device, progress=progress)
        ball = self.config.ball if self.config.embedding_dim is not None else None
        hyperbolic = {} if ball is None else asdict(ball)
        return similar(vectors, clients, k=k, exclude=exclude, **hyperbolic)

    def scorer(self) -> Scorer:
        """Return a scorer of single clients for a running service.

        Returns:
            A `Scorer` with a copy of the network on the CPU; threads can share it.

        Examples:
            >>> import seqmel
            >>> data = seqmel.generate_card_data(20)
            >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
            >>> scorer = model.scorer()
            >>> event = {"event_time": "2023-07-01 12:00:00", "mcc": 5411, "amount": 9.5}
            >>> vector = scorer.embed([event | {"city": None, "channel": "pos"}])
            >>> vector.shape == (model.encoder.output_size,)
            True
        """
        from seqmel.inference.online import Scorer

        return Scorer(self)

    def export(self, output: str | Path, *, overwrite: bool = False) -> Path:
        """Write the model as one ONNX file, from raw event values to vectors.

        Args:
            output: the file to write.
            overwrite: replace an existing file.

        Returns:
            The path of the file.

        Raises:
            ModelError: the encoder or pooling has no counterpart in ONNX, or the package onnx is
                not installed.
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
        """Path of a file in the model folder.

        Raises:
            ModelError: the model is in memory only.
        """
        return Path(self) / name

    # ---------------------------------------------------------------------------------------- shown

    def _facts(self) -> dict[str, str]:
        """Facts for the printed forms of the model: label -> text."""
        config = self.config
        metrics = self.metrics
        learnt = metrics.get("pretraining") or metrics
        facts = {
            "encoder": f"{config.encoder.name}, pooling {' + '.join(config.pooling)}",
            "vector": count_words(self.encoder.output_size, "dimension"),
            "weights": f"{sum(p.numel() for p in self.encoder.parameters()):,}",
            "columns": ", ".join(
                [
                    self.schema.client,
                    self.schema.time,
                    *self.schema.features,
                ]
            ),
        }
        if "events" in learnt:
            facts["trained on"] = (
                f"{count_words(learnt['events'], 'event')} of "
                f"{count_words(learnt['clients'], 'client')}"
            )
        if self.targets:
            facts["predicts"] = ", ".join(
                f"{target.name} ({target.task})" for target in self.targets
            )
        if self.facts is not None:
            facts["facts"] = ", ".join(self.facts.names)
        return facts | {
            "folder": str(self.folder) if self.folder is not None else "in memory, not saved"
        }

    def __repr__(self) -> str:
        return f"Model({'; '.join(f'{name}: {fact}' for name, fact in self._facts().items())})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(n)}</td><td>{escape(fact)}</td></tr>"
            for n, fact in self._facts().items()
        )
        return f"<b>Model</b><table>{rows}</table>{curves(self.metrics.get('history', []))}"


def load(model: AnyModel) -> Model:
    """Load a model folder.

    Args:
        model: the folder; a `Model` is returned as it is.

    Returns:
        The model.

    Raises:
        ModelError: the folder holds no model or has a newer format, or a file is missing or
            changed.

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
"""Alias of `load`."""


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
        events: a Parquet or CSV file, a folder, a glob, a pandas, polars or Arrow table,
            `EventSequences`, or a folder of prepared sequences; or name -> such events, for several
            tables with their own columns, such as {"cards": ..., "clicks": ...}.
        output: the model folder to write. The run writes to `<output>.partial` and moves it to
            `output` when the model is finished. None keeps the model in memory; `Model.save` writes
            it.
        config: all options, as a `Config` or as a dict with the names of a config file.
        resume: continue an interrupted run, if there is one. A finished model is left unchanged.
        overwrite: replace an existing model or an unfinished run.
        callbacks: `pytorch_lightning.Callback` objects, added to seqmel's own.
        loggers: `pytorch_lightning.loggers.Logger` objects. They receive the losses and validation
            metrics of each epoch.
        progress: None shows progress on a terminal and in a notebook, True everywhere, False
            nowhere; or a `Progress`.
        **options: options of the config by name: a section (`encoder="gru"`,
            `loss={"name": "infonce"}`, `event_encoder={"hidden_size": 64}`), an option of the
            section training (`epochs=3`), or one of the schema (`client="client_id"`). `loss` and
            `encoder` also take your own `torch.nn.Module`; `register_loss` and `register_encoder`
            describe what it is called with.

    Returns:
        The trained model.

    Raises:
        ConfigError: an option does not exist, is out of range, or has no effect.
        InputError, SchemaError: the events cannot be read, or their columns cannot be used.
        TrainingError: too few clients, or the training diverges.
        OutputError: the output exists or cannot be written.

    Examples:
        >>> import seqmel
        >>> data = seqmel.generate_card_data(20)
        >>> model = seqmel.train(data.events, "model", embedding_dim=8, epochs=1, batch_size=8)
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
        run.train(
            events,
            output,
            config=config,
            resume=resume,
            overwrite=overwrite,
            hooks=hooks,
            progress=progress,
        )
    )


def finetune(
    model: AnyModel | None,
    events: Events,
    labels: Table,
    output: str | Path | None = None,
    *,
    target: str | Sequence[str] | None = None,
    task: TargetTask = "auto",
    observed: str | None = None,
    weight: str | None = None,
    client: str | None = None,
    time_column: str | None = None,
    per: Per = "client",
    facts: Table | None = None,
    fact_columns: Sequence[str] | None = None,
    config: Config | Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Reporting = None,
    **options: Any,
) -> Model:
    """Fine-tune a model to predict labels, or train a supervised model from scratch.

    Args:
        model: a model folder or a `Model` to start from, with its encoder, schema and vocabulary.
            It is not changed. None starts from scratch.
        events: events of the labelled clients; other clients are ignored.
        labels: a table with one row per client, or with `time_column` one per client and moment. A
            row may lack some of the targets.
        output: the model folder to write; None keeps the model in memory.
        target: the column or columns of the labels to predict: classes or quantities. Several
            targets are learnt together.
        task: "classification" or "regression", for all targets; "auto" treats a number with more
            than 20 distinct values as a quantity and all else as classes. "survival" takes times to
            an event, which may be censored.
        observed: with the task "survival", the column of the labels that says whether the event was
            observed; None takes TARGET_observed.
        weight: a column of the labels with the sample weight of each row.
        client: the client column of the labels. None uses that of the events if the labels have it,
            else recognises it by name.
        time_column: the column of the labels with the moment of each row, written like the times of
            the events. A client may have several rows. Each history is cut strictly before its
            moment: an event at the moment is left out. No client is in both the training and the
            validation split. Predict with `as_of`.
        per: "event" for labels of events, with their times in `time_column`. Each history ends with
            its event, which is included. Predict with `per="event"`.
        facts: a table with one row per client: numbers, text, booleans and dates. The heads learn
            from them together with the vector. Predict with `facts` too. A client without a row has
            nulls.
        fact_columns: the columns of `facts` to use; None uses all but the client column.
        config: options, as a `Config` or a dict. With a model, `finetuning`, `seed`, `device` and
            `precision` are used, and all other options must agree with the model. From scratch all
            options are used, except those that only training without labels needs.
        resume: continue an interrupted run, if there is one. A finished model is left unchanged.
        overwrite: replace an existing model or an unfinished run.
        progress: None shows progress on a terminal and in a notebook, True everywhere, False
            nowhere; or a `Progress`.
        **options: options of the config by name: an option of the section finetuning (`epochs=3`,
            `unfreeze="head"`), a section (`encoder="gru"`, from scratch), or one of the schema.

    Returns:
        The fine-tuned model, with `predict`.

    Raises:
        ConfigError: an option does not exist, is out of range, or is fixed by the model.
        InputError, SchemaError: events or labels cannot be read, or do not match.
        TrainingError: the training diverges.
        OutputError: the output exists or cannot be written.

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
        warnings.warn(
            "finetune(targets=...) is now finetune(target=...).", FutureWarning, stacklevel=2
        )
        target = options.pop("targets")
    if target is None:
        raise ConfigError(
            "No target is named. Give the column of the labels to predict: target=..."
        )
    config = config_with(
        _named(config), named_parts(options), section="finetuning", source="finetune"
    )
    targets = [target] if isinstance(target, str) else list(target)
    given: dict[str, Any] = {
        "targets": targets,
        "task": task,
        "observed": observed,
        "weight": weight,
        "client": client,
        "time_column": time_column,
        "per": per,
        "facts": facts,
        "fact_columns": fact_columns,
        "config": config,
        "progress": progress,
    }
    if output is not None:
        return load(
            finetuning.finetune(
                model, events, labels, output, resume=resume, overwrite=overwrite, **given
            )
        )
    _in_memory_only(resume=resume, overwrite=overwrite)
    with tempfile.TemporaryDirectory(prefix="seqmel-", ignore_cleanup_errors=True) as folder:
        return replace(
            load(finetuning.finetune(model, events, labels, Path(folder) / "model", **given)),
            folder=None,
        )


def _named(config: Config | Mapping[str, Any] | None) -> Config | Mapping[str, Any] | None:
    return named_parts(config) if isinstance(config, Mapping) else config


def _in_memory_only(*, resume: bool, overwrite: bool) -> None:
    """Raise if an option needs an output folder, which a model in memory does not have."""
    for name, given in (("resume", resume), ("overwrite", overwrite)):
        if given:
            raise ConfigError(
                f"{name} is for an output folder, and none is named. Leave it out, or give output."
            )
    if is_launched():
        raise ConfigError("Several processes train together into a folder. Give output.")
