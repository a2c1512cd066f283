"""Fine-tune a model on labels: model, events and labels in, a model that predicts out."""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from pydantic import BaseModel

from seqmel.config import Config, as_config
from seqmel.core.atomic_files import check_output
from seqmel.core.checksums import digest_of_ids
from seqmel.core.device import with_own_defaults
from seqmel.core.errors import ConfigError, InputError, shown
from seqmel.core.progress import Progress, Reporting, as_progress
from seqmel.core.units import count_words
from seqmel.data.fitting.statistics import fit_statistics
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.sequences.prepared import PreparedSequences
from seqmel.data.sources.reading import Events, is_paths, paths_label
from seqmel.data.tables.facts import Facts, check_no_target, read_facts
from seqmel.data.tables.labels import (
    Table,
    id_positions,
    likely_client,
    read_labels,
    read_observed,
    say_undated,
)
from seqmel.data.tables.survival import observed_times, signed_times
from seqmel.data.tables.targets import Target, TargetTask, check_names
from seqmel.model import AnyModel, TrainedModel, as_model, save_model
from seqmel.training.run import already_trained, prepared_in, unfinished_run

if TYPE_CHECKING:
    from seqmel.training.finetuning.labelled import Labelled
    from seqmel.training.finetuning.samples import Samples

__all__ = ["UNREAD", "finetune", "finetuned_model", "save_finetuned"]

_FREE = ("finetuning", "seed", "device", "precision")
UNREAD = ("objective", "matryoshka", "views", "loss", "miner", "training")
"""Sections of the config that only training without labels reads."""


@with_own_defaults
def finetune(
    model: AnyModel | None,
    events: Events,
    labels: Table,
    output: str | Path,
    *,
    targets: Sequence[str],
    task: TargetTask = "auto",
    observed: str | None = None,
    weight: str | None = None,
    client: str | None = None,
    time_column: str | None = None,
    per: Literal["client", "event"] = "client",
    facts: Table | None = None,
    fact_columns: Sequence[str] | None = None,
    config: Config | Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Reporting = None,
) -> Path:
    """Train heads for targets on top of a model, or from scratch.

    Args:
        model: A folder or a `Model` that gives encoder, schema and vocabulary. It is not modified.
            None trains from scratch.
        events: The events of the labelled clients, and possibly of others. See `open_events`.
        labels: A table with one row per client, or with `time_column` one per client and moment. A
            row may lack some of the targets.
        output: The model folder to write.
        targets: The columns to predict: classes or quantities. Several are trained together.
        task: The task of all targets. "auto" takes numbers with more than 20 distinct values as
            quantities, and all else as classes. "survival" takes times to an event, which may be
            censored.
        observed: With the task "survival", the column of the labels that says whether the event was
            observed; a time without is censored. None takes TARGET_observed of each target.
        weight: A column of the labels with the weight of each row.
        client: The client column of the labels. None uses the name of the events' client column if
            the labels have it, else recognises it by name.
        time_column: The column of the labels with the moment of each row, written like the times of
            the events. Each history is cut strictly before its moment: an event at the moment is
            left out.
        per: "event" for labels of events, whose times are in `time_column`. Each history then ends
            with its event, which is included, as in `predict --per event`.
        facts: A table with one row per client: numbers, text, booleans and dates. Heads learn from
            them together with the vector, and predictions need them too. A client without a row has
            nulls.
        fact_columns: The columns of `facts` to use. None uses all but the client column.
        config: With a model, its `finetuning`, `seed`, `device` and `precision` are used, and all
            else must equal the model's. From scratch, all options are used but those of training
            without labels.
        resume: Resume an interrupted run if there is one. A finished model is not changed.
        overwrite: Replace an existing model or unfinished run.
        progress: Where to report progress.

    Returns:
        The model folder.

    Raises:
        SeqmelError: The input, the options or the output are invalid.
    """
    from seqmel.core.device import resolve_device
    from seqmel.training.finetuning.samples import samples_at

    model = None if model is None else as_model(model)
    output = Path(output)
    config = config_for(model, as_config(config))
    resolve_device(config.device)
    progress = as_progress(progress)
    if already_trained(output, resume=resume, overwrite=overwrite, progress=progress):
        return output
    check_output(output, overwrite=overwrite, folder=True, reads=(events, labels, facts))
    _check_targets(targets)
    if per == "event" and time_column is None:
        raise ConfigError(
            "Labels per event need the times of the events: --time-column COLUMN (time_column=)."
        )
    client = client or config.schema.client
    client = client or (likely_client(labels, model.schema.client) if model else None)
    keys: dict[str, Any] = {"client": client, "time_column": time_column}
    series = {name: read_labels(labels, name, **keys) for name in targets}
    series = {
        name: y if happened is None else signed_times(y, happened)
        for name, y in series.items()
        for happened in [read_observed(labels, name, task, observed, **keys)]
    }
    _check_has_quantity([_learnable(y, task, config) for y in series.values()], config)
    weights = (
        read_labels(labels, weight, options=("--client", "--weight"), **keys) if weight else None
    )
    known = None
    if facts is not None:
        likely = client or (model.schema.client if model else None)
        known = read_facts(facts, fact_columns, likely=likely)
        ends = [observed or f"{name}_observed" for name in targets] if task == "survival" else []
        check_no_target(known, [*targets, *ends, *filter(None, (weight, time_column))])
    elif fact_columns is not None:
        raise ConfigError("fact_columns (--fact-column) belong to facts (--facts). Give both.")
    wanted = {
        "config": config.to_dict(),
        "model": model.fingerprint() if model else None,
        "labels": _label_fingerprints(series, weights, task),
    }
    if per == "event":
        wanted["per"] = per
    if known is not None:
        wanted["facts"] = _fact_fingerprint(known)
    with unfinished_run(output, wanted, events, resume=resume, overwrite=overwrite) as work:
        prepared = prepared_in(work, events, config, model, progress)
        samples = None
        if time_column is None:
            say_undated(labels, prepared.schema.time, progress)
        else:
            rows = functools.reduce(pd.Index.union, [y.index for y in series.values()])
            label = paths_label(labels) if is_paths(labels) else "the labels"
            samples = samples_at(
                rows, prepared.sequences, prepared.schema, label, per_event=per == "event"
            )
        made = finetuned_model(
            model,
            prepared,
            series,
            samples=samples,
            weights=weights,
            facts=known,
            task=task,
            config=config,
            checkpoints=work / "checkpoints",
            progress=progress,
        )
        save_finetuned(work / "model", made)
    return output


@with_own_defaults
def finetuned_model(
    model: TrainedModel | None,
    prepared: PreparedSequences,
    labels: Mapping[str, pd.Series[Any]],
    *,
    samples: Samples | None = None,
    weights: pd.Series[Any] | None = None,
    facts: pd.DataFrame | None = None,
    task: TargetTask = "auto",
    config: Config | Mapping[str, Any] | None = None,
    checkpoints: Path | None = None,
    progress: Reporting = None,
) -> TrainedModel:
    """Fine-tune in memory: prepared sequences and labels in, a model with heads out.

    Args:
        model: See `finetune`.
        prepared: Sequences with their schema and vocabulary, which are the model's if there is one.
        labels: Target -> labels indexed by client id, or by the keys of the samples. A null is a
            missing label. Times to an event are signed, see `signed_times`.
        samples: The clients and moments to learn from. None takes each client once, with all its
            events.
        weights: Weights, indexed like the labels.
        facts: Facts about the clients, indexed by client id, as `read_facts` gives them.
        task: See `finetune`.
        config: See `finetune`.
        checkpoints: A folder for checkpoints. Training resumes from the last one in it.
        progress: See `finetune`.

    Returns:
        The model with heads.
    """
    import copy

    import torch

    from seqmel.training.batches import resolve_auto_options
    from seqmel.training.finetuning.fit_labels import fit_labels, resolve_finetuning_options
    from seqmel.training.finetuning.labelled import label
    from seqmel.training.ppmi_init import new_encoder

    began = time.monotonic()
    progress = as_progress(progress)
    config = config_for(model, as_config(config))
    sequences = (
        prepared.sequences.in_memory()
        if config.training.storage == "memory"
        else prepared.sequences
    )
    labelled = label(
        sequences,
        labels,
        weights=weights,
        task=task,
        samples=samples,
        options=config.finetuning,
    )
    _check_has_quantity(labelled.targets, config)
    cut = sequences
    if samples is not None:
        samples.report(sequences, progress)
        cut = samples.cut(sequences)
    check_names(labelled.targets, prepared.schema.client)
    lacking = "no events" if weights is None else "no events or no weight"
    for column, target in enumerate(labelled.targets):
        without = labels[target.name].count() - len(labelled.known(column))
        left_out = f"; {without:,} more have a label, but {lacking}" if without else ""
        progress.say(f"{target.name}: {_contents(labelled, column)}{left_out}")
    for name, single in labelled.single_client_classes().items():
        progress.say(
            f"{name}: classes with one client ({shown(map(str, single))}) are only used in "
            "training, so no metric covers them"
        )
    asked = config.finetuning.unfreeze
    config = resolve_finetuning_options(
        config, labelled.distinct_clients, new=model is None, rows=len(labelled)
    )
    if asked == "auto" and config.finetuning.unfreeze == "head":
        progress.say(
            f"{labelled.distinct_clients:,} labelled clients are few: the encoder stays frozen, "
            "only the heads are trained (unfreeze: all fine-tunes it too)"
        )
    if model is None:
        config = resolve_auto_options(config, cut)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            encoder = new_encoder(config, prepared.vocabulary, cut)
            config = config.model_copy(update={"pca_dim": None})
    else:
        encoder = copy.deepcopy(model.encoder)
    schema = None
    if facts is not None:
        schema, labelled = _with_facts(facts, sequences, samples, labelled, config, progress)
    found = fit_labels(
        encoder,
        cut,
        labelled,
        config,
        facts=schema,
        checkpoints=checkpoints,
        progress=progress,
    )
    metrics = {
        "clients": found.clients[0],
        "clients_held_out": found.clients[1],
        "labelled": digest_of_ids(_labelled_ids(sequences, samples, labelled)),
        "dimensions": found.encoder.output_size,
        "parameters": sum(
            p.numel() for p in (*found.encoder.parameters(), *found.heads.parameters())
        ),
        "seconds": round(time.monotonic() - began, 1),
        "frozen": found.frozen,
        "held_out": found.held_out,
        "history": found.history,
        "pretraining": model.metrics if model else None,
    }
    if found.encoder_kept:
        metrics["encoder_kept"] = True
    if samples is not None:
        metrics |= {"rows": found.rows[0], "rows_held_out": found.rows[1]}
    return TrainedModel(
        config,
        prepared.schema,
        prepared.vocabulary,
        found.encoder,
        metrics,
        found.heads,
        found.targets,
        fit_statistics(sequences, prepared.vocabulary),
        schema,
    )


def _labelled_ids(
    sequences: EncodedSequences, samples: Samples | None, labelled: Labelled
) -> pd.Index[Any]:
    """Return the client id of each labelled sample."""
    clients = labelled.clients if samples is None else samples.clients[labelled.clients]
    return pd.Index(sequences.client_ids.to_pandas())[clients.numpy()]


def _with_facts(
    rows: pd.DataFrame,
    sequences: EncodedSequences,
    samples: Samples | None,
    labelled: Labelled,
    config: Config,
    progress: Progress,
) -> tuple[Facts, Labelled]:
    """Fit the facts on the training samples, and encode those of all samples.

    Raises:
        InputError: No labelled client has facts, or no fact varies.
    """
    import torch

    from seqmel.training.finetuning.labelled import hold_out

    ids = _labelled_ids(sequences, samples, labelled)
    place = id_positions(ids, rows.index)
    without = int((place < 0).sum())
    if without == len(ids):
        raise InputError(
            "No labelled client has a row in the facts. Labelled are clients such as "
            f"{shown(map(repr, ids[:3].tolist()))}; the facts have {len(rows):,}, such as "
            f"{shown(map(repr, rows.index[:3].tolist()))}. Check that both use the same client ids."
        )
    of_samples = rows.reset_index(drop=True).reindex(place)  # -1 gives a row of nulls
    numbered = replace(labelled, clients=torch.arange(len(labelled)))
    training, _ = hold_out(numbered, config.finetuning.validation_fraction, seed=config.seed)
    facts = Facts.fit(of_samples.iloc[training.clients.numpy()])
    constant = [str(name) for name in rows if name not in facts.names]
    if not facts.names:
        raise InputError(
            f"No fact varies among the training clients: {shown(map(repr, constant))}. Name other "
            "facts, or leave the facts out."
        )
    left_out = f"; the same for all, and left out: {shown(constant)}" if constant else ""
    missing = f"; {without:,} without a row, which counts as nulls" if without else ""
    names = {
        "numbers": [fact.name for fact in facts.numbers],
        "categories": [fact.name for fact in facts.categories],
    }
    columns = "; ".join(f"{kind} {shown(of)}" for kind, of in names.items() if of)
    progress.say(f"facts of {len(ids) - without:,} {labelled.unit}: {columns}{missing}{left_out}")
    return facts, replace(labelled, facts=torch.from_numpy(facts.encode(of_samples)))


def config_for(model: TrainedModel | None, config: Config) -> Config:
    """Return the options of a fine-tuning run: the model's, with the free ones from `config`.

    Raises:
        ConfigError: `config` contradicts the model.
    """
    if model is None:
        # Labels do not train prefixes of the vector.
        return config.model_copy(update={"matryoshka": ()})
    for field, wanted in config.schema:
        # What the model was trained with may name only a part, such as one kind of several.
        same = wanted == getattr(model.config.schema, field)
        if wanted is not None and field in config.schema.model_fields_set and not same:
            there = getattr(model.schema if field != "ignore" else model.config.schema, field)
            if field == "kinds":
                there = {name: there[name] for name in wanted if name in there}
            _check_equal(wanted, there, f"schema.{field}")
    for name in config.model_fields_set - {*_FREE, *UNREAD, "schema"}:
        _check_equal(getattr(config, name), getattr(model.config, name), name)
    return model.config.model_copy(update={name: getattr(config, name) for name in _FREE})


def _check_targets(targets: Sequence[str]) -> None:
    twice = sorted({name for name in targets if list(targets).count(name) > 1})
    if not targets or twice:
        raise ConfigError(
            f"The target {twice[0]!r} is named twice."
            if twice
            else "No target is named. Expected one or more."
        )


def _learnable(y: pd.Series[Any], task: TargetTask, config: Config) -> Target:
    """Return the target. Refuses labels that cannot be learnt before any event is read.

    Fewer clients can remain later, but not more.
    """
    options = config.finetuning
    target = Target.of(
        y, task, loss=options.quantity_loss, quantile=options.quantile, edges=options.time_edges
    )
    if options.time_edges is not None and not target.edges:
        raise ConfigError(
            f"time_edges are for the task survival; {y.name} has the task {target.task}. Leave "
            "them out, or set --task survival."
        )
    if target.classes and y.is_unique:
        raise InputError(
            f"The target {y.name!r} has another class for each of {count_words(len(y), 'client')}, "
            f"such as {shown(map(repr, y.tolist()), 3)}, so that nothing can be learnt. Name "
            "another target, or take numbers as quantities (--task regression)."
        )
    return target


def _check_has_quantity(targets: Sequence[Target], config: Config) -> None:
    loss = config.finetuning.quantity_loss
    if loss != "auto" and all(target.task != "regression" for target in targets):
        names = shown([target.name for target in targets])
        has = "times to an event" if targets[0].edges else "classes"
        raise ConfigError(
            f"quantity_loss {loss} is for quantities; {names} has {has}. "
            "Leave it out, or take numbers as quantities (--task regression)."
        )


def _check_equal(wanted: Any, there: Any, name: str) -> None:
    if isinstance(wanted, BaseModel) and type(wanted) is type(there):
        for field in wanted.model_fields_set:
            _check_equal(
                getattr(wanted, field),
                getattr(there, field),
                name if field == "name" else f"{name}.{field}",
            )
    elif wanted != there:
        values = [getattr(value, "name", value) for value in (wanted, there)]
        raise ConfigError(
            f"{name} cannot be changed by fine-tuning: the model has {values[1]}, the options say "
            f"{values[0]}. Leave it out, or train another model."
        )


def _fact_fingerprint(facts: pd.DataFrame) -> str:
    digest = pd.util.hash_pandas_object(facts).sum()
    return f"{list(facts.columns)} of {len(facts):,} with hash {digest}"


def _contents(labelled: Labelled, column: int) -> str:
    target = labelled.targets[column]
    known = labelled.known(column)
    if target.edges:
        times, happened = observed_times(labelled.values[known, column].numpy())
        bins = f"{len(target.edges)} bin{'s' if len(target.edges) > 1 else ''}"
        return (
            f"{len(known):,} {labelled.unit} with a time, {int(happened.sum()):,} of them with an "
            f"event, the others censored; {bins} up to {target.edges[-1]:g}, longest time "
            f"{times.max():g}"
        )
    if not target.classes:
        quantity = f"{len(known):,} {labelled.unit} with a quantity"
        if target.has_log_link:
            return f"{quantity}, {target.scale:.4g} on average, learnt by {target.loss} deviance"
        if target.loss == "quantile":
            return f"{quantity}, of which the {target.quantile:g} quantile is learnt"
        if target.log:
            return f"{quantity} that has a heavy tail, learnt as log(1 + y)"
        return f"{quantity}, {target.center:.4g} on average"
    counts = labelled.values[known, column].long().bincount(minlength=target.size).tolist()
    words = (f"{name}: {count:,}" for name, count in zip(target.classes, counts, strict=True))
    return f"{len(known):,} {labelled.unit} ({shown(words)})"


def _label_fingerprints(
    series: Mapping[str, pd.Series[Any]], weights: pd.Series[Any] | None, task: TargetTask
) -> dict[str, Any]:
    """Return fingerprints of the labels."""
    columns = {**series} | ({} if weights is None else {"the weights": weights})
    return {"task": task} | {
        name: f"{len(y):,} with hash {pd.util.hash_pandas_object(y).sum()}"
        for name, y in columns.items()
    }


def save_finetuned(folder: Path, model: TrainedModel) -> None:
    """Write the folder of a model with heads, with its card and curves."""
    from seqmel.training.card import draw_curves, finetuned_card

    shutil.rmtree(folder, ignore_errors=True)
    history = model.metrics["history"]
    watched = [row for row in history if "validation_loss" in row]
    kept = min(watched, key=lambda row: row["validation_loss"], default=None)
    if model.metrics.get("encoder_kept", False):
        kept = None
    curves = draw_curves(history, ("loss", "validation_loss"), kept=kept)
    save_model(folder, model, card=finetuned_card(model), curves=curves)
