"""`seqmel finetune`: learn labels on top of a model, or from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from seqmel.cli.arguments import (
    AnyTask,
    Columns,
    ConfigFile,
    Device,
    FactColumn,
    Facts,
    LabelsClient,
    Log,
    Observed,
    Overwrite,
    Precision,
    Resume,
    Seed,
    Settings,
    event_words,
    one_of,
    read_options,
    with_columns,
)
from seqmel.core.errors import ConfigError, shell_words
from seqmel.core.units import count_words

__all__ = ["finetune"]


@with_columns
def finetune(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL EVENTS LABELS",
            help=(
                "Model folder, events (PATH, or NAME=PATH for each of several tables), and a "
                "table with one row per client (and moment). With --from-scratch without MODEL; "
                "without EVENTS if --config has `events`."
            ),
        ),
    ],
    target: Annotated[
        list[str],
        typer.Option(help="Column to predict. Repeatable: all targets are learnt together."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model folder to write.")],
    *,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Train a new encoder on the labels alone.")
    ] = False,
    task: AnyTask = "auto",
    observed: Observed = None,
    unfreeze: Annotated[
        str | None,
        typer.Option(help="What is trained: auto, head, gradual, discriminative or all."),
    ] = None,
    weight: Annotated[
        str | None, typer.Option(help="Column of the labels with the weight of each row.")
    ] = None,
    time_column: Annotated[
        str | None,
        typer.Option(
            help=(
                "Column of LABELS with a moment, for several rows per client. Each history is cut "
                "strictly before its moment."
            )
        ),
    ] = None,
    per: Annotated[
        str,
        typer.Option(
            help=(
                "client, or event for labels of events: each history ends with the event at the "
                "time in --time-column, which is included."
            )
        ),
    ] = "client",
    facts: Facts = None,
    fact_column: FactColumn = None,
    quantity_loss: Annotated[
        str | None,
        typer.Option(help="Loss of quantities: auto, squared, log, poisson, tweedie or quantile."),
    ] = None,
    quantile: Annotated[
        float | None, typer.Option(help="The quantile to predict, with --quantity-loss quantile.")
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Calibrate class probabilities on the validation split."),
    ] = False,
    client: LabelsClient = None,
    columns: Columns,
    config: ConfigFile = None,
    settings: Settings = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the labelled clients.")] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            min=0,
            help=(
                "Stop after this many epochs without a lower validation loss; 3 by default, 0 "
                "never stops early."
            ),
        ),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Clients per batch.")] = None,
    seed: Seed = None,
    device: Device = None,
    precision: Precision = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    log: Log = None,
) -> None:
    """Fine-tune a model on labels, or train one on labels from scratch."""
    flags = {
        "finetuning.unfreeze": unfreeze,
        "finetuning.epochs": epochs,
        "finetuning.patience": patience,
        "finetuning.batch_size": batch_size,
        "finetuning.calibrate": calibrate or None,
        "finetuning.quantity_loss": quantity_loss,
        "finetuning.quantile": quantile,
        "seed": seed,
        "device": device,
        "precision": precision,
    }
    of_events = columns | ({"client": client} if from_scratch else {})
    checked = read_options(config, settings, **of_events, **flags)
    unit: Any = one_of("per", per, "client", "event")
    kind: Any = one_of("task", task, "auto", "classification", "regression", "survival")
    from seqmel.config.files import read_event_paths
    from seqmel.data.sources.several import named_events

    of_config = read_event_paths(config)
    model, events, labels = _inputs(
        inputs, from_scratch=from_scratch, with_events=of_config is None
    )
    tables = named_events(events) if events else of_config
    from seqmel.cli.log import logged
    from seqmel.model import load_model
    from seqmel.training.finetuning.finetune import UNREAD
    from seqmel.training.finetuning.finetune import finetune as run

    for setting in settings or ():
        section = setting.partition("=")[0].partition(".")[0].strip()
        if section in UNREAD:
            raise ConfigError(
                f"--set {setting}: {section} is for training without labels. Fine-tuning has "
                f"finetuning.* instead."
            )
    options = {
        "model": model,
        "events": tables,
        "labels": labels,
        "output": output,
        "targets": target,
        "task": kind,
        "observed": observed,
        "weight": weight,
        "time_column": time_column,
        "per": unit,
        "facts": facts,
        "fact_columns": fact_column,
        "resume": resume,
        "config": checked.to_dict(),
    }
    try:
        with logged(log, "finetune", options) as progress:
            run(
                load_model(model) if model else None,
                tables,
                labels,
                output,
                targets=target,
                task=kind,
                observed=observed,
                weight=weight,
                client=client,
                time_column=time_column,
                per=unit,
                facts=facts,
                fact_columns=fact_column,
                config=checked,
                overwrite=overwrite,
                resume=resume,
                progress=progress,
            )
    except KeyboardInterrupt:
        typer.echo(
            f"\nstopped; the same command with --resume continues ({output}.partial)", err=True
        )
        raise typer.Exit(130) from None
    metrics = load_model(output).metrics
    scores = ", ".join(
        f"{name.replace('_', ' ')} {value:.3f}" for name, value in metrics["held_out"].items()
    )
    validation = (
        f" (validation on {count_words(metrics['clients_held_out'], 'client')}: {scores})"
        if scores
        else ""
    )
    more = "" if facts is None else f" --facts {shell_words(facts)}"
    if time_column is not None:
        more += " --per event" if unit == "event" else " --as-of MOMENT"
    typer.echo(
        f"model in {output}{validation}; next: seqmel predict {shell_words(output)} "
        f"{event_words(tables)} -o scores.parquet{more}"
    )


def _inputs(
    inputs: Sequence[str], *, from_scratch: bool, with_events: bool
) -> tuple[str | None, list[str], str]:
    """The model folder, None from scratch, the events and the labels.

    Without events in the arguments, those of the config file are taken.

    Raises:
        ConfigError: too many or too few arguments.
    """
    from seqmel.data.sources.several import has_name

    first = 0 if from_scratch else 1
    events = list(inputs[first:-1])
    whole = len(inputs) > first and (events or not with_events)
    if whole and (len(events) < 2 or all(map(has_name, events))):
        return None if from_scratch else inputs[0], events, inputs[-1]
    expected = "EVENTS LABELS with --from-scratch" if from_scratch else "MODEL EVENTS LABELS"
    two = not from_scratch and len(inputs) == 2 and with_events
    hint = " Without a model, to train on the labels alone, add --from-scratch." if two else ""
    raise ConfigError(f"finetune expects {expected}; found {' '.join(inputs)}.{hint}")
