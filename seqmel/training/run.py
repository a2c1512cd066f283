"""`seqmel train`: events in, a model folder out; an interrupted run goes on where it stopped."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from seqmel.config import Config, as_config
from seqmel.config.renames import with_new_names
from seqmel.core.atomic_files import (
    atomic_write,
    check_output,
    exclusive_lock,
    file_stamps,
    move_into_place,
    partial_path,
    translate_disk_full,
)
from seqmel.core.checksums import parse_json
from seqmel.core.device import with_own_defaults
from seqmel.core.distributed import barrier, current_rank, is_launched, process_group, rank_zero_first
from seqmel.core.errors import ConfigError, OutputError, SchemaError, SeqmelError
from seqmel.core.progress import Progress, Reporting, as_progress, record, silent
from seqmel.data.encoding.event_encoding import encode
from seqmel.data.fitting.schema_inference import infer_schema
from seqmel.data.fitting.statistics import fit_statistics
from seqmel.data.fitting.vocabulary_fitting import fit_vocabulary
from seqmel.data.sequences.prepared import PreparedSequences, is_prepared, open_prepared, write_prepared
from seqmel.data.sources.reading import Events, event_files, is_paths, open_events
from seqmel.model import AnyModel, Model, as_model, save_model

__all__ = ["already_trained", "prepare", "prepared_in", "train", "train_model", "unfinished", "write_model"]


@with_own_defaults
def prepare(
    events: Events,
    output: str | Path,
    *,
    config: Config | Mapping[str, Any] | None = None,
    model: AnyModel | None = None,
    overwrite: bool = False,
    progress: Reporting = None,
) -> PreparedSequences:
    """Encode, sort and group events once, for re-use by `train` and `embed`.

    Args:
        events: see `open_events`.
        output: the folder to write.
        config: names columns and limits; the rest is inferred.
        model: encode with the vocabulary of this model (a folder or a `Model`), to embed with it, instead of fitting a new one.
        overwrite: replace what is there.
        progress: where to report to.

    Returns:
        The prepared sequences, whose folder `train` and `embed` take in place of events.

    Raises:
        InputError, SchemaError: events that cannot be read, or columns that cannot be used.
        ConfigError: an option out of range.
        OutputError: the output exists, or cannot be written.

    Examples:
        >>> import seqmel
        >>> prepared = seqmel.prepare(seqmel.generate_card_data(3).events, "prepared")
        >>> prepared.sequences.events > 100
        True
        >>> model = seqmel.train("prepared", epochs=0)
    """
    output, model = Path(output), None if model is None else as_model(model)
    check_output(output, overwrite=overwrite, folder=True, reads=(events,))
    with atomic_write(output) as partial:
        _prepare_into(partial, events, as_config(config), model, as_progress(progress))
    return open_prepared(output)


def _prepare_into(folder: Path, events: Events, config: Config, model: Model | None, progress: Progress) -> None:
    options = config.preparation
    began = time.monotonic()
    folder.mkdir(exist_ok=True)  # the engine makes a folder to spill to, but not the one around it
    source = open_events(
        events,
        client=model.schema.client if model else config.schema.client,
        time=model.schema.time if model else config.schema.time,
        skip=model.schema.skips if model else config.schema.skips,
        categories=model.vocabulary.categorical if model else config.schema.categories,
        **config.resources,
        temp_folder=folder / "sorting",
    )
    for note in source.notes:
        progress.say(note)
    schema = model.schema if model else infer_schema(source, config.schema)
    vocabulary = model.vocabulary if model else fit_vocabulary(
        source, schema, min_count=options.min_count, max_categories=options.max_categories
    )  # fmt: skip
    write_prepared(folder, encode(source, schema, vocabulary), schema=schema, vocabulary=vocabulary)
    source.connection.close()
    shutil.rmtree(folder / "sorting", ignore_errors=True)
    counts = json.loads((folder / "prepared.json").read_text(encoding="utf-8"))
    record(progress, "counted", clients=counts["clients"], events=counts["events"])
    progress.say(
        f"prepared {counts['events']:,} events of {counts['clients']:,} clients in {time.monotonic() - began:.1f} s"
        f" ({', '.join(f'{c}: {w}' for c, w in vocabulary.describe().items())})"
    )
    if model is None and schema.left_out_words:
        progress.say(schema.left_out_words)


@with_own_defaults
def train(
    events: Events,
    output: str | Path,
    *,
    config: Config | Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Reporting = None,
) -> Path:
    """Train a model on events and write its folder.

    While it runs, everything lies in `<output>.partial`; only a finished model is moved to `output`.

    Args:
        events: see `open_events`, or a folder of prepared sequences.
        output: the model folder to write.
        config: all options, as a Config or by the names of a config file.
        resume: go on with an interrupted run where there is one; a finished model is left as it is.
        overwrite: replace a model that is there, or an unfinished run.
        progress: where to report to.

    Returns:
        The model folder.

    Raises:
        SeqmelError: whatever is wrong with the input, the options or the output.
    """
    output, config = Path(output), as_config(config)
    _check_first(config)
    from seqmel.core.device import resolve_device

    device = resolve_device(config.device)
    if config.devices > 1 and not is_launched():
        raise ConfigError(
            f"devices is {config.devices}, and this is one process. Start several: seqmel train --devices, or torchrun."
        )
    with process_group(device) as rank:
        return _train(events, output, config, resume, overwrite, as_progress(progress) if rank.first else silent)


def already_trained(output: Path, *, resume: bool, overwrite: bool, progress: Progress) -> bool:
    """Whether a run that is to be resumed is finished, which is said, and is not to be replaced."""
    finished = resume and not overwrite and (output / "config.json").is_file()
    if finished:
        progress.say(f"{output} is already trained; nothing to resume. To train anew, pass --overwrite too.")
    return finished


def _train(events: Events, output: Path, config: Config, resume: bool, overwrite: bool, progress: Progress) -> Path:
    """As one process or one of several: the first prepares and writes, all learn."""
    if already_trained(output, resume=resume, overwrite=overwrite, progress=progress):
        return output

    def learnt(work: Path) -> Model:
        with rank_zero_first():
            prepared = prepared_in(work, events, config, None, progress)
        return _trained(work, prepared, config, None, progress)

    if current_rank().first:
        check_output(output, overwrite=overwrite, folder=True, reads=(events,))
        with unfinished(output, config.to_dict(), events, resume=resume, overwrite=overwrite) as work:
            model = learnt(work)
            shutil.rmtree(work / "model", ignore_errors=True)
            write_model(work / "model", model)
    else:
        learnt(partial_path(output))
    barrier()
    return output


@with_own_defaults
def train_model(
    events: Events,
    *,
    config: Config | Mapping[str, Any] | None = None,
    initial: Model | None = None,
    progress: Reporting = None,
) -> Model:
    """Train a model and return it rather than write it. It equals what `train` writes for the same events and options.

    What a run needs on disk (encoded sequences, checkpoints) lies in a temporary folder and goes with it.

    Args:
        events: see `open_events`, or a folder of prepared sequences.
        config: all options, as a Config or by the names of a config file.
        initial: a model to go on from: its schema and vocabulary stay as they are, its weights are where training begins.
        progress: where to report to.

    Raises:
        ConfigError: an option that shapes the encoder differs from that of `initial`.
        SeqmelError: whatever else is wrong with the input or the options.
    """
    config, progress = as_config(config), as_progress(progress)
    _check_first(config)
    if initial is not None:
        _check_shape(initial, config)
    with (
        tempfile.TemporaryDirectory(prefix="seqmel-", ignore_cleanup_errors=True) as folder,
        translate_disk_full(Path(folder), "train again"),
    ):
        work = Path(folder)
        return _trained(work, prepared_in(work, events, config, initial, progress), config, initial, progress)


def _check_first(config: Config) -> None:
    """A `SeqmelError` where the device is not there, the loss is of a library that does not have it, or labels are named
    that cannot be read."""
    from seqmel.core.device import resolve_device
    from seqmel.objectives.coles import make_loss
    from seqmel.training.label_codes import labels_of

    resolve_device(config.device)
    make_loss(config)
    labels_of(config, config.schema.client)


def _check_shape(initial: Model, wanted: Config) -> None:
    before, encoder = initial.config, initial.encoder
    unforced = encoder.state_pooling is None and encoder.vector_size == encoder.pooling.output_size
    if unforced and bool(before.matryoshka) != bool(wanted.matryoshka):
        raise ConfigError(
            f"Training cannot go on from a model of another shape (matryoshka: {list(before.matryoshka)} there,"
            f" {list(wanted.matryoshka)} now, which decides whether there is a projection). Train a new model."
        )
    for name in ("event_encoder", "encoder", "pooling", "category_mean", "embedding_dim", "recency_features"):
        old, new = before.to_dict()[name], wanted.to_dict()[name]
        if old != new:
            raise ConfigError(
                f"Training cannot go on from a model of another shape ({_first_difference(old, new, name)})."
                " Give the model's options, or train a new model."
            )


def write_model(folder: Path, model: Model) -> None:
    """Write a model folder with its card and curves."""
    from seqmel.training.card import draw_curves, model_card

    save_model(folder, model, card=model_card(model), curves=draw_curves(model.metrics["history"]))


@contextlib.contextmanager
def unfinished(
    output: Path, wanted: dict[str, Any], events: Events, *, resume: bool, overwrite: bool
) -> Iterator[Path]:
    """The folder of an unfinished run of these options and events; its `model` is moved to `output` in the end.

    Where it fails the folder stays if an epoch is finished in it, which can be gone on with, and is removed if none is.
    """
    seen = _seen(events)
    with exclusive_lock(partial_path(output), output):
        work = _work_folder(output, wanted, seen, resume=resume, overwrite=overwrite)
        try:
            with translate_disk_full(output, "run it again with --resume"):
                for name, value in (("events.json", seen), ("options.json", wanted)):
                    if not (work / name).is_file():
                        with atomic_write(work / name) as partial:
                            partial.write_text(json.dumps(value), encoding="utf-8")
                yield work
                move_into_place(work / "model", output)
        except SeqmelError:
            if not (work / "checkpoints" / "last.ckpt").exists():
                shutil.rmtree(work, ignore_errors=True)
            raise
        shutil.rmtree(work, ignore_errors=True)


def _seen(events: Events) -> list[list[str | int]] | None:
    """What tells these events from others, where they lie in files; None of those in memory."""
    if not is_paths(events):
        return None
    return file_stamps(sorted(Path(events).iterdir()) if is_prepared(events) else event_files(events))


def _work_folder(output: Path, wanted: dict[str, Any], seen: Any, *, resume: bool, overwrite: bool) -> Path:
    """The folder of the unfinished run, checked to be one of the wanted options and of the events as they are now."""
    work = partial_path(output)
    options, events = work / "options.json", work / "events.json"
    if work.exists() and not resume and not overwrite:
        raise OutputError(
            f"An unfinished run lies in {work}. Go on with it with --resume, or discard it with --overwrite."
        )
    if work.exists() and not resume:
        shutil.rmtree(work)
    try:
        if options.is_file() and (before := _options_before(options)) != wanted:
            raise OutputError(
                f"The unfinished run in {work} has other options ({_first_difference(before, wanted)})."
                " Resume it with the same options, or discard it with --overwrite."
            )
        if events.is_file() and (before := _read(events)) != seen:
            raise OutputError(
                f"The unfinished run in {work} has other events ({_files(before)} there, {_files(seen)} now)."
                " Resume it with the events that it began with, or discard it with --overwrite."
            )
    except OutputError:
        if not overwrite:
            raise
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    return work


def _options_before(path: Path) -> Any:
    """The options of an unfinished run, also of one that an earlier version began."""
    options = _read(path)
    if not isinstance(options, dict):
        return options
    if isinstance(options.get("config"), dict):
        return options | {"config": with_new_names(options["config"], quiet=True)}
    return with_new_names(options, quiet=True)


def _read(path: Path) -> Any:
    """A file of an unfinished run."""
    try:
        return parse_json(path.read_bytes())
    except ValueError:
        raise OutputError(f"{path} of an unfinished run is damaged. Discard the run with --overwrite.") from None


def _files(seen: list[list[Any]] | None) -> str:
    if seen is None:
        return "events in memory"
    changed = dt.datetime.fromtimestamp(max((time for _, _, time in seen), default=0) // 10**9)
    what = seen[0][0] if len(seen) == 1 else f"{len(seen)} files"
    return f"{what} of {sum(size for _, size, _ in seen):,} bytes, changed {changed:%Y-%m-%d %H:%M:%S}"


def _first_difference(before: Any, wanted: Any, name: str = "") -> str:
    if isinstance(before, dict) and isinstance(wanted, dict):
        for key in wanted:
            if before.get(key) != wanted[key]:
                return _first_difference(before.get(key), wanted[key], f"{name}.{key}" if name else key)
    return f"{name}: {before} there, {wanted} now"


def prepared_in(
    work: Path, events: Events, config: Config, model: Model | None, progress: Progress
) -> PreparedSequences:
    """Prepared sequences as they are, or events prepared within `work`, with the model's vocabulary where there is one."""
    if is_prepared(events):
        prepared = open_prepared(events, vocabulary=model.vocabulary if model else None)
        for name in ("client", "time"):
            said, there = getattr(config.schema, name), getattr(prepared.schema, name)
            if said not in (None, there):
                raise SchemaError(
                    f"{events} was prepared with the {name} column {there!r}, not {said!r}. Prepare the events again, or leave"
                    f" --{name} (schema.{name}) out."
                )
        return prepared
    folder = work / "prepared"
    if not is_prepared(folder):
        shutil.rmtree(folder, ignore_errors=True)
        _prepare_into(folder, events, config, model, progress)
    return open_prepared(folder)


def _trained(
    work: Path, prepared: PreparedSequences, config: Config, initial: Model | None, progress: Progress
) -> Model:
    from seqmel.training.batches import settle, settle_clock
    from seqmel.training.fit import fit
    from seqmel.training.time_alone import measure_time_alone

    sequences = prepared.sequences.in_memory() if config.training.storage == "memory" else prepared.sequences
    settled = settle_clock(settle(config, sequences), sequences, prepared.vocabulary.time)
    time_alone = measure_time_alone(sequences, prepared.vocabulary.time, settled) if settled.compares else None
    if time_alone is not None:
        progress.say(str(time_alone))
    began = time.monotonic()
    encoder, history = fit(
        sequences, prepared.vocabulary, settled, initial=initial.encoder if initial else None,
        checkpoints=work / "checkpoints", progress=progress,
    )  # fmt: skip
    metrics = {
        "clients": len(sequences),
        "events": sequences.events,
        "embedding_dim": encoder.output_size,
        "parameters": sum(p.numel() for p in encoder.parameters()),
        "seconds": round(time.monotonic() - began, 1),
        "history": history,
    }
    if time_alone is not None:
        metrics["time_alone"] = time_alone.to_json()
    statistics = fit_statistics(sequences, prepared.vocabulary)
    record(
        progress, "counted", **{name: metrics[name] for name in ("clients", "events", "embedding_dim", "parameters")}
    )
    return Model(settled, prepared.schema, prepared.vocabulary, encoder, metrics, statistics=statistics)
