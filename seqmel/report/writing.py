"""Collect the content of the report, and write it as one HTML file."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from seqmel.core.atomic_files import atomic_write, check_output, scratch_folder
from seqmel.core.device import resolve_device, tune_malloc, with_own_defaults
from seqmel.core.embedding_metrics import collapsed
from seqmel.core.errors import ConfigError, InputError
from seqmel.core.progress import Progress, Reporting, as_progress
from seqmel.core.random_streams import Stream, generator
from seqmel.core.units import count_words
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.sequences.prepared import is_prepared, open_prepared
from seqmel.data.sources.reading import Events
from seqmel.data.tables.labels import Table, align, likely_client, read_embeddings, read_labels
from seqmel.inference.embed import embed_sequences
from seqmel.model import AnyModel, TrainedModel, as_model
from seqmel.report.answers import answers
from seqmel.report.audit import audit_tables, read_audit
from seqmel.report.events import describe, moment
from seqmel.report.maps import colouring, draw_map
from seqmel.report.page import Colouring, Fact, Page, TrainingRun, render
from seqmel.report.quality import read_scores, tables
from seqmel.report.reasons import read_reasons
from seqmel.report.reasons import reasons as reason_timelines
from seqmel.report.searches import explore, timelines
from seqmel.training.batches import split_clients
from seqmel.training.card import kept_epoch
from seqmel.training.run import prepare

__all__ = ["write_report"]


@with_own_defaults
def write_report(
    model: AnyModel,
    events: Events,
    output: str | Path,
    *,
    embeddings: Table | None = None,
    labels: Table | None = None,
    targets: Sequence[str] = (),
    client: str | None = None,
    scores: Sequence[str | Path] = (),
    reasons: str | Path | None = None,
    audit: str | Path | None = None,
    clients: int = 2000,
    seed: int = 0,
    title: str = "",
    written: dt.datetime | None = None,
    device: str = "auto",
    overwrite: bool = False,
    progress: Reporting = None,
) -> int:
    """Write one HTML page about a model and the embeddings of some events.

    It opens from disk and needs no network. The same input, options and seed give the same file.

    Args:
        model: A model folder, or a `Model`.
        events: See `open_events`, or sequences prepared with this model's vocabulary.
        output: The HTML file to write.
        embeddings: Vectors to show instead of those of the model, see `read_embeddings`.
        labels: A table with one row per client, whose columns `targets` colour the map.
        targets: Columns of `labels`.
        client: The client column of the labels. None uses the name of the events' client column if
            the labels have it, else recognises it by name.
        scores: Files written by `seqmel evaluate --json`.
        reasons: A file written by `seqmel explain -o`, whose clients get a timeline each.
        audit: A file written by `seqmel audit -o`, whose figures are shown beside chance.
        clients: Maximum number of clients on the map and in the explorer, at least 2. They are
            sampled.
        seed: The seed of the sample, of t-SNE and of UMAP.
        title: The name of the model, such as its folder.
        written: The time of the report. None leaves it out.
        device: Where to compute.
        overwrite: Replace existing output.
        progress: Where to report progress.

    Returns:
        The size of the file in bytes.

    Raises:
        InputError: Events, embeddings, labels or scores cannot be read, or have no client in
            common.
        ConfigError: Labels without targets, or targets without labels, or `clients` is out of
            range.
        OutputError: The output exists or cannot be written.

    Examples:
        >>> import seqmel
        >>> data = seqmel.generate_card_data(20)
        >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
        >>> size = seqmel.write_report(model, data.events, "report.html")
        >>> size > 10_000
        True
    """
    model = as_model(model)
    output = Path(output)
    progress = as_progress(progress)
    _check_options(labels, targets, clients)
    if output.is_dir():
        raise ConfigError(
            f"{output} is a folder. Name an HTML file to write, such as {output / 'report.html'}."
        )
    check_output(
        output,
        overwrite=overwrite,
        folder=False,
        reads=(events, embeddings, labels, reasons, audit, *scores),
    )
    placed = resolve_device(device)
    tune_malloc()
    scored = [found for path in scores for found in read_scores(path)]
    audited = None if audit is None else audit_tables(read_audit(audit))
    explained = [] if reasons is None else reason_timelines(read_reasons(reasons))
    given = (
        read_embeddings(embeddings, client=model.schema.client) if embeddings is not None else None
    )
    with scratch_folder(output) as scratch:
        sequences = _sequences(model, events, scratch, progress)
        ids = pd.Index(sequences.client_ids.to_pandas())
        client = client or (
            likely_client(labels, model.schema.client) if labels is not None else None
        )
        read = {target: read_labels(labels, target, client=client) for target in targets}
        wanted = {target: _by_position(values, ids) for target, values in read.items()}
        vectors_at = _by_position(given, ids) if given is not None else None
        sample = draw_sample(len(ids) if vectors_at is None else vectors_at.index, clients, seed)
        data = describe(sequences, model.vocabulary, sample)
        progress.say(
            f"counted {count_words(data.events, 'event')} of "
            f"{count_words(data.clients, 'client')}; {len(sample):,} are shown"
        )
        shown = sequences.subset(sample)
        vectors = _vectors(model, shown, vectors_at, sample, placed)
        names = [_text(i) for i in ids[sample.numpy()].tolist()]
        begins = _first_time(shown)
        tone, people = timelines(shown, model.vocabulary, vectors, names, begins)
        explorer = explore(
            model, shown, begins, device=placed, held_out=_held_out(model, sequences)
        )
        progress.say("found neighbours; drawing the map")
        drawn = draw_map(vectors, _colourings(wanted, sample, shown.lengths), seed=seed)
    run = _run(model)
    page = Page(
        title=title or "model",
        answers=answers(model, run, scored, data),
        facts=_facts(model, written),
        options=_options(model),
        sample=_sample_words(len(sample), len(ids), seed, embeddings is not None),
        begins=moment(begins),
        run=run,
        data=data,
        quality=tables(scored),
        audit=audited,
        map=drawn,
        explorer=explorer,
        tone=tone,
        clients=people,
        reasons=explained,
    )
    text = render(page)
    with atomic_write(output) as partial:
        partial.write_text(text, encoding="utf-8")
    return len(text.encode())


def _check_options(labels: Table | None, targets: Sequence[str], clients: int) -> None:
    if labels is not None and not targets:
        raise ConfigError(
            "Labels without a target. Name the columns to colour the map by: --target gender."
        )
    if labels is None and targets:
        raise ConfigError(
            f"No labels for the target {targets[0]!r}. Give the table that has it: --labels FILE."
        )
    if not 2 <= clients <= 5_000:
        raise ConfigError(
            f"clients is {clients}. Expected 2 to 5,000: each is a point and a timeline on the "
            f"page."
        )


def _sequences(
    model: TrainedModel, events: Events, scratch: Path, progress: Progress
) -> EncodedSequences:
    """Return all events encoded and sorted, in a memory-mapped file."""
    if not is_prepared(events):
        prepared = prepare(
            events, scratch / "sequences", config=model.config, model=model, progress=progress
        )
        return prepared.sequences
    return open_prepared(events, vocabulary=model.vocabulary).sequences


def _held_out(model: TrainedModel, sequences: EncodedSequences) -> EncodedSequences | None:
    """Return the validation clients of training. None if there are none, or with other events."""
    known = (model.metrics.get("clients"), model.metrics.get("events"))
    if model.heads is not None or known != (len(sequences), sequences.events):
        return None
    clients = split_clients(sequences, model.config).validation
    return sequences.subset(clients) if len(clients) else None


def _by_position(values: Any, ids: pd.Index[Any]) -> Any:
    """Index labels or vectors by the position of the client among the ids."""
    places = pd.DataFrame({"place": np.arange(len(ids))}, index=ids)
    keys = values if isinstance(values, pd.Series) else values.index.to_series()
    found, placed = align(keys, places)
    chosen = found if isinstance(values, pd.Series) else values.loc[found.index]
    return chosen.set_axis(placed["place"].to_numpy(), axis=0)


def draw_sample(places: int | pd.Index[Any], max_clients: int, seed: int) -> Tensor:
    """Return (S,) int64, sorted positions of at most `max_clients` random clients."""
    able = (
        torch.arange(places)
        if isinstance(places, int)
        else torch.from_numpy(np.sort(places.to_numpy(np.int64)))
    )
    if len(able) < 2:
        raise InputError(
            f"Only {len(able)} client has events. A report compares clients: give it at least two."
        )
    mixed = able[torch.randperm(len(able), generator=generator(seed, Stream.REPORT_CLIENTS))]
    return mixed[:max_clients].sort().values


def _vectors(
    model: TrainedModel,
    shown: EncodedSequences,
    given: pd.DataFrame | None,
    sample: Tensor,
    device: torch.device,
) -> npt.NDArray[np.float32]:
    if given is not None:
        return np.nan_to_num(given.loc[sample.numpy()].to_numpy(np.float32))
    encoder = model.encoder.to(device).eval()
    return embed_sequences(encoder, shown, model.config, device=device).numpy()


def _first_time(sequences: EncodedSequences) -> int:
    """Return the time of the first event of all, in microseconds."""
    first = sequences.gather(*(x[sequences.lengths > 0] for x in _first_events(sequences))).time
    return int(first.min()) if len(first) else 0


def _first_events(sequences: EncodedSequences) -> tuple[Tensor, Tensor, Tensor]:
    clients = torch.arange(len(sequences))
    return clients, torch.zeros_like(clients), torch.ones_like(clients)


def _colourings(
    wanted: dict[str, pd.Series[Any]], sample: Tensor, lengths: Tensor
) -> list[Colouring]:
    found = [colouring(name, values.reindex(sample.numpy())) for name, values in wanted.items()]
    return [*found, Colouring("number of events", [], [float(n) for n in lengths.tolist()])]


def _facts(model: TrainedModel, written: dt.datetime | None) -> list[Fact]:
    from seqmel.core.version import __version__

    config = model.config
    metrics = model.metrics
    objective = " + ".join(part.name for part in config.objective)
    return [
        Fact("encoder", f"{config.encoder.name}, pooling {' + '.join(config.pooling)}"),
        Fact("objective", f"{objective}, loss {config.loss.name}"),
        Fact("vector", count_words(model.encoder.output_size, "number")),
        Fact("weights", f"{metrics['parameters']:,}"),
        Fact("trained on", _trained_on(metrics)),
        Fact(
            "training",
            f"{metrics['seconds']:,.0f} s, {count_words(len(metrics['history']), 'epoch')}, seed "
            f"{config.seed}",
        ),
        Fact("model", f"fingerprint {model.fingerprint()}"),
        Fact(
            "report", f"seqmel {__version__}" + (f", {written:%Y-%m-%d %H:%M}" if written else "")
        ),
    ]


def _trained_on(metrics: Mapping[str, Any]) -> str:
    """Say what a model was trained on; a fine-tuned one counts its labels, not their events."""
    if "events" in metrics:
        events = count_words(metrics["events"], "event")
        return f"{events} of {count_words(metrics['clients'], 'client')}"
    return f"labels of {count_words(metrics['clients'], 'client')}"


def _options(model: TrainedModel) -> list[Fact]:
    """Return all options as a flat list, with the names of `--set`."""

    def flat(value: Any, name: str) -> list[Fact]:
        if isinstance(value, dict) and value:
            return [
                fact
                for key, part in value.items()
                for fact in flat(part, f"{name}.{key}" if name else key)
            ]
        return [Fact(name, "null" if value is None else str(value))]

    return flat(model.config.to_dict(), "")


def _run(model: TrainedModel) -> TrainingRun:
    history = model.metrics["history"]
    kept = kept_epoch(history)
    best = int(kept["epoch"]) if kept else None
    return TrainingRun(history, best, [int(row["epoch"]) for row in history if collapsed(row)])


def _sample_words(shown: int, clients: int, seed: int, given: bool) -> str:
    who = (
        f"all {count_words(clients, 'client')}"
        if shown == clients
        else f"{shown:,} of {count_words(clients, 'client')}, drawn by seed {seed}"
    )
    return (
        f"{who}; "
        f"{'vectors as given by --embeddings' if given else 'vectors computed by this model'}"
    )


def _text(client: Any) -> str:
    return str(int(client)) if isinstance(client, float) and client.is_integer() else str(client)
