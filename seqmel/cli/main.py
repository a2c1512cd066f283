"""The `seqmel` command: exit code 0 when done, 2 with one line on standard error for anything a user can cause."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from seqmel.errors import SeqmelError

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich",
    help="Embeddings of event sequences: train on the events of clients, embed clients, score what it is worth.",
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip

Events = Annotated[str, typer.Argument(help="Events: a Parquet or CSV file, a folder, a glob; or prepared sequences.")]
Client = Annotated[str | None, typer.Option(help="The client column. Recognised by its name otherwise.")]
Time = Annotated[str | None, typer.Option(help="The time column. Recognised by its name otherwise.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", "-c", help="A YAML file with options.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="One option: encoder.hidden_size=128. Repeatable.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]


@app.command()
def describe(
    events: Events,
    client: Client = None,
    time: Time = None,
    config: ConfigFile = None,
    settings: Settings = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the same as JSON to this file.")] = None,
) -> None:
    """Show what would be learned from: columns, lengths, gaps."""
    from seqmel.cli.describe import describe_events

    describe_events(events, _config(config, settings, client=client, time=time), json_file)


@app.command()
def prepare(
    events: Events,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    model: Annotated[Path | None, typer.Option(help="Encode with this model's vocabulary, to embed with it.")] = None,
    client: Client = None,
    time: Time = None,
    config: ConfigFile = None,
    settings: Settings = None,
    overwrite: Overwrite = False,
) -> None:
    """Encode, sort and group events once, for re-use by train and embed."""
    from seqmel.model import load_model
    from seqmel.progress import console_progress
    from seqmel.training.run import prepare as run

    checked = _config(config, settings, client=client, time=time)
    loaded = load_model(model) if model else None
    run(events, output, config=checked, model=loaded, overwrite=overwrite, progress=console_progress())
    typer.echo(f"sequences in {output}; next: seqmel {'embed ' + str(model) if model else 'train'} {output} -o ...")


@app.command()
def train(
    events: Events,
    output: Annotated[Path, typer.Option("--output", "-o", help="The model folder to write.")],
    client: Client = None,
    time: Time = None,
    config: ConfigFile = None,
    settings: Settings = None,
    epochs: Annotated[int | None, typer.Option(help="How often to go through all clients.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Clients a batch.")] = None,
    embedding_dim: Annotated[int | None, typer.Option(help="Numbers a client.")] = None,
    encoder: Annotated[str | None, typer.Option(help="gru, lstm, transformer or none.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same model.")] = None,
    device: Device = None,
    precision: Annotated[str | None, typer.Option(help="auto, 32-true, bf16-mixed, 16-mixed.")] = None,
    overwrite: Overwrite = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run; start one if there is none.")
    ] = False,
) -> None:
    """Train a model on events."""
    flags = {
        "training.epochs": epochs, "training.batch_size": batch_size, "embedding_dim": embedding_dim,
        "encoder.name": encoder, "seed": seed, "device": device, "precision": precision,
    }  # fmt: skip
    checked = _config(config, settings, client=client, time=time, **flags)
    from seqmel.progress import console_progress
    from seqmel.training.run import train as run

    try:
        run(events, output, config=checked, resume=resume, overwrite=overwrite, progress=console_progress())
    except KeyboardInterrupt:
        typer.echo(f"\nstopped; nothing is lost: the same command with --resume goes on ({output}.partial)", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"model in {output}; next: seqmel embed {output} {events} -o embeddings.parquet")


@app.command()
def embed(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    events: Events,
    output: Annotated[Path, typer.Option("--output", "-o", help="The Parquet file to write.")],
    layout: Annotated[str, typer.Option(help="columns (emb_0000 ...) or list (one column `embedding`).")] = "columns",
    dtype: Annotated[str, typer.Option(help="float32 or float16.")] = "float32",
    as_of: Annotated[
        str | None,
        typer.Option(help="A moment, or a table of clients and moments: only the events before it are looked at."),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            help="What is kept of the clients: EVENTS are those since last time, and only their clients come out."
        ),
    ] = None,
    device: Device = None,
    overwrite: Overwrite = False,
) -> None:
    """Write one vector a client, or one a client and moment; or bring vectors up to date from new events."""
    from seqmel.as_of import embed_as_of
    from seqmel.embedding import embed_to_parquet
    from seqmel.model import load_model
    from seqmel.progress import console_progress
    from seqmel.updating import embed_update

    if as_of is not None and state is not None:
        from seqmel.errors import ConfigError

        raise ConfigError(
            "--as-of and --state do not go together: a state holds what is known now. Leave one of them out."
        )
    options: Any = {
        "layout": _one_of("layout", layout, "columns", "list"), "dtype": _one_of("dtype", dtype, "float32", "float16"),
        "device": _device(device), "overwrite": overwrite, "progress": console_progress(),
    }  # fmt: skip
    if as_of is not None:
        rows, size = embed_as_of(load_model(model), events, as_of, output, **options)
        typer.echo(f"{rows:,} clients and moments x {size} numbers in {output}")
        return
    if state is not None:
        done = embed_update(load_model(model), events, state, output, **options)
        typer.echo(
            f"{done.clients:,} clients ({done.new:,} of them new) x {done.dimensions} numbers in {output};"
            f" {done.known:,} clients in {state}"
        )
        return
    clients, size = embed_to_parquet(load_model(model), events, output, **options)
    typer.echo(
        f"{clients:,} clients x {size} numbers in {output}; next: seqmel evaluate LABELS --target T --embeddings {output}"
    )


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The ONNX file to write.")],
    overwrite: Overwrite = False,
) -> None:
    """Write a model as ONNX: raw values of events go in, vectors come out."""
    from seqmel.export import export_onnx
    from seqmel.model import load_model

    export_onnx(load_model(model), output, overwrite=overwrite)
    typer.echo(
        f"{output}, {output.stat().st_size / 1e6:.1f} MB; its inputs and outputs are described in its doc_string"
    )


@app.command()
def finetune(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL EVENTS LABELS",
            help="A model folder, events, and a table with one row a client. Without MODEL with --from-scratch.",
        ),
    ],
    target: Annotated[list[str], typer.Option(help="The column to predict. Repeatable: all are learnt at once.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The model folder to write.")],
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Learn from the labels alone, with a new encoder.")
    ] = False,
    task: Annotated[str, typer.Option(help="auto, classification or regression.")] = "auto",
    unfreeze: Annotated[str | None, typer.Option(help="What learns: head, gradual, discriminative or all.")] = None,
    weight: Annotated[str | None, typer.Option(help="A column of the labels: how much each client counts.")] = None,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Calibrate the probabilities.")] = False,
    client: Client = None,
    time: Time = None,
    config: ConfigFile = None,
    settings: Settings = None,
    epochs: Annotated[int | None, typer.Option(help="How often to go through all labelled clients.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Clients a batch.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same model.")] = None,
    device: Device = None,
    precision: Annotated[str | None, typer.Option(help="auto, 32-true, bf16-mixed, 16-mixed.")] = None,
    overwrite: Overwrite = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run; start one if there is none.")
    ] = False,
) -> None:
    """Learn labels on top of a model, or from scratch."""
    from seqmel.cli.finetune import finetune_files

    flags = {
        "finetuning.unfreeze": unfreeze, "finetuning.epochs": epochs, "finetuning.batch_size": batch_size,
        "finetuning.calibrate": calibrate or None, "seed": seed, "device": device, "precision": precision,
    }  # fmt: skip
    of_events = {"client": client, "time": time} if from_scratch else {"time": time}
    checked = _config(config, settings, **of_events, **flags)
    try:
        finetune_files(
            inputs, target, output, from_scratch=from_scratch, settings=settings or (), config=checked,
            task=_one_of("task", task, "auto", "classification", "regression"),  # type: ignore[arg-type]
            weight=weight, client=client, overwrite=overwrite, resume=resume,
        )  # fmt: skip
    except KeyboardInterrupt:
        typer.echo(f"\nstopped; nothing is lost: the same command with --resume goes on ({output}.partial)", err=True)
        raise typer.Exit(130) from None


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A model folder that seqmel finetune wrote.")],
    events: Events,
    output: Annotated[Path, typer.Option("--output", "-o", help="The Parquet file to write.")],
    device: Device = None,
    overwrite: Overwrite = False,
) -> None:
    """Write what a fine-tuned model says of each client."""
    from seqmel.model import load_model
    from seqmel.prediction import predict_to_parquet
    from seqmel.progress import console_progress

    loaded = load_model(model)
    clients = predict_to_parquet(
        loaded, events, output, device=_device(device), overwrite=overwrite, progress=console_progress()
    )
    columns = ", ".join(column for target in loaded.targets for column in target.columns)
    typer.echo(f"{clients:,} clients in {output}: {loaded.schema.client}, {columns}")


@app.command()
def evaluate(
    labels: Annotated[str, typer.Argument(help="A table with one row a client: Parquet or CSV.")],
    target: Annotated[list[str], typer.Option(help="The column to predict. Repeatable.")],
    embeddings: Annotated[
        list[str] | None, typer.Option(help="A file of embeddings, or NAME=FILE. Repeatable.")
    ] = None,
    events: Annotated[str | None, typer.Option(help="Events, for the hand-crafted baseline.")] = None,
    client: Client = None,
    time: Time = None,
    config: ConfigFile = None,
    settings: Settings = None,
    task: Annotated[str, typer.Option(help="auto, classification or regression.")] = "auto",
    folds: Annotated[int, typer.Option(help="Folds of the cross-validation.", min=2)] = 5,
    trees: Annotated[int, typer.Option(help="Trees of LightGBM.", min=1)] = 500,
    seed: Annotated[int, typer.Option(help="Of the folds and of LightGBM.", min=0)] = 0,
    moment: Annotated[
        str | None,
        typer.Option(help="The column of the moments, where labels and embeddings are of clients and moments."),
    ] = None,
    out_of_time: Annotated[
        str | None, typer.Option(help="Train on the rows that are earlier by this column of LABELS, test on the later.")
    ] = None,
    test_share: Annotated[float, typer.Option(help="Share of the rows that is tested out of time.")] = 0.3,
    same_clients: Annotated[
        bool, typer.Option("--same-clients", help="Let clients of the earlier rows come in the later ones too.")
    ] = False,
    group: Annotated[
        str | None, typer.Option(help="Keep rows that are equal in this column of LABELS in one fold.")
    ] = None,
    label_fractions: Annotated[
        str | None, typer.Option(help="Score with a share of the training clients labelled: 0.01,0.1,1.")
    ] = None,
    sizes: Annotated[str | None, typer.Option(help="Score vectors reduced to so many numbers: 16,64,full.")] = None,
    number_types: Annotated[
        str | None, typer.Option(help="With --sizes: float32,float16,int8,binary, which is all of them.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the scores to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the curves to this PNG file.")] = None,
) -> None:
    """Score embeddings against hand-crafted aggregates."""
    checked = _config(config, settings, client=client, time=time)
    kind: Any = _one_of("task", task, "auto", "classification", "regression")
    from seqmel.cli.evaluate import Asked, evaluate_files, fractions_of, number_types_of, sizes_of
    from seqmel.progress import console_progress

    asked = Asked(
        task=kind, folds=folds, seed=seed, trees=trees, moment=moment, out_of_time=out_of_time, group=group,
        test_share=test_share, same_clients=same_clients, fractions=fractions_of(label_fractions),
        sizes=sizes_of(sizes), number_types=number_types_of(number_types), plot=plot,
    )  # fmt: skip
    evaluate_files(
        labels, target, embeddings or [], events, checked, asked, json_file=json_file, progress=console_progress()
    )


@app.command()
def drift(
    reference: Annotated[str, typer.Argument(help="A file of embeddings: what they were.")],
    current: Annotated[str, typer.Argument(help="A file of embeddings of the same model: what they are.")],
    client: Client = None,
    bins: Annotated[int, typer.Option(help="Bins of the reference for the PSI.")] = 10,
    psi: Annotated[float, typer.Option(help="From which PSI on a dimension has moved.")] = 0.25,
    p_value: Annotated[float, typer.Option(help="At or below which p-value of the MMD the whole has moved.")] = 0.01,
    seed: Annotated[int, typer.Option(help="Of the sample and the permutations.")] = 0,
    fail_on_drift: Annotated[
        bool, typer.Option("--fail-on-drift", help="End with exit code 1 where there is drift.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Compare the embeddings of two periods: each dimension by PSI, all together by MMD."""
    from seqmel.cli.drift import compare_embeddings

    found = compare_embeddings(
        reference, current, client=client, bins=bins, psi=psi, p_value=p_value, seed=seed, json_file=json_file
    )
    if found.drifted and fail_on_drift:
        raise typer.Exit(1)


@app.command()
def retrieval(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    events: Events,
    clients: Annotated[int, typer.Option(help="How many clients to draw at most.")] = 5_000,
    parts: Annotated[
        str, typer.Option(help="halves (in time) or slices (random, disjoint) of each client.")
    ] = "halves",
    min_events: Annotated[int, typer.Option(help="Leave out clients with fewer events.")] = 20,
    trained_on: Annotated[
        str | None, typer.Option(help="The events that the model was trained on: their clients are left out.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the clients, slices, halves and intervals.")] = 0,
    device: Device = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Find clients again by their vectors: recall@k, CMC, mAP, and verification at fixed false accepts."""
    kind: Any = _one_of("parts", parts, "halves", "slices")
    from seqmel.cli.retrieval import retrieve_clients
    from seqmel.progress import console_progress

    retrieve_clients(
        model, events, clients=clients, parts=kind, min_events=min_events, trained_on=trained_on, seed=seed,
        device=_device(device), json_file=json_file, progress=console_progress(),
    )  # fmt: skip


@app.command()
def experiment(
    plan: Annotated[Path, typer.Argument(help="A YAML file: data sets, rows of options, seeds, folds.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder of results; gone on with where it is there.")
    ],
    data: Annotated[Path | None, typer.Option(help="The folder that the plan's paths are relative to.")] = None,
    jobs: Annotated[int, typer.Option(help="Cells that run side by side.", min=1)] = 1,
) -> None:
    """Compare rows of options on data sets, with intervals over folds and seeds."""
    from seqmel.experiment import run_experiment
    from seqmel.progress import console_progress

    table = run_experiment(plan, output, data=data, jobs=jobs, progress=console_progress())
    typer.echo(f"{table.read_text(encoding='utf-8')}\n{table}, and beside it results.parquet and table.png")


@app.command()
def report(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    events: Events,
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file to write.")],
    embeddings: Annotated[str | None, typer.Option(help="Show these vectors, not those that the model gives.")] = None,
    labels: Annotated[str | None, typer.Option(help="A table with one row a client, to colour the map by.")] = None,
    target: Annotated[list[str] | None, typer.Option(help="A column of the labels. Repeatable.")] = None,
    scores: Annotated[
        list[str] | None, typer.Option(help="A file that evaluate wrote with --json. Repeatable.")
    ] = None,
    clients: Annotated[int, typer.Option(help="How many clients to show at most.", min=2, max=5_000)] = 2_000,
    seed: Annotated[int, typer.Option(help="Of the sample and the map.", min=0)] = 0,
    device: Device = None,
    overwrite: Overwrite = False,
) -> None:
    """Write one HTML page to look at: the run, the data, the scores, a map, who is near whom."""
    import datetime as dt

    from seqmel.model import load_model
    from seqmel.progress import console_progress
    from seqmel.report.writing import write_report

    size = write_report(
        load_model(model), events, output, embeddings=embeddings, labels=labels, targets=target or (),
        scores=scores or (), clients=clients, seed=seed, title=model.resolve().name, written=dt.datetime.now(),
        device=_device(device), overwrite=overwrite, progress=console_progress(),
    )  # fmt: skip
    typer.echo(f"report in {output} ({size / 1e6:.1f} MB); open it in a browser")


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")] = Path("seqmel-demo"),
    clients: Annotated[int, typer.Option(help="How many clients to generate.", min=200)] = 3000,
    seed: Annotated[int, typer.Option(help="Of the data and the training.", min=0)] = 0,
    overwrite: Overwrite = False,
) -> None:
    """The whole story on generated card data: events, training, embeddings, scores, a picture."""
    from seqmel.cli.demo import run_demo
    from seqmel.progress import console_progress

    run_demo(output, clients=clients, seed=seed, overwrite=overwrite, progress=console_progress())


@app.command()
def methods(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """List every objective, view, encoder, loss and miner, with a line each."""
    import json

    from seqmel.config import methods as known

    if as_json:
        typer.echo(json.dumps(known(), indent=1))
        return
    for section, names in known().items():
        width = max(map(len, names))
        lines = [f"  {name:<{width}}  {line}" for name, line in names.items()]
        typer.echo("\n".join([section, *lines, ""]))
    typer.echo("Equations and sources: docs/methods.md. Options: seqmel train EVENTS -o MODEL --set loss=triplet")


@app.command()
def version() -> None:
    """Print the version."""
    from seqmel import __version__

    typer.echo(__version__)


def _config(path: Path | None, settings: list[str] | None, **flags: object):  # type: ignore[no-untyped-def]
    from seqmel.config import read_config

    flags = {("schema." + k if k in ("client", "time") else k): v for k, v in flags.items()}
    return read_config(path, settings or (), **flags)


def _device(name: str | None) -> str:
    from seqmel.config import Config

    return Config.of({"device": name or "auto"}, source="--device").device


def _one_of(option: str, value: str, *allowed: str) -> str:
    from seqmel.errors import ConfigError, did_you_mean

    if value not in allowed:
        raise ConfigError(
            f"--{option} cannot be {value!r}. Expected one of: {', '.join(allowed)}.{did_you_mean(value, allowed)}"
        )
    return value


def main() -> None:
    """Run the command; turn errors that a user can cause into one line and exit code 2."""
    try:
        app()
    except SeqmelError as error:
        print(f"seqmel: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("seqmel: stopped; no unfinished result was put in place", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
