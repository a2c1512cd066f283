"""Train a model on events and write its folder. An interrupted run can be resumed."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from seqmel.core.distributed import (
    barrier,
    current_rank,
    is_launched,
    process_group,
    rank_zero_first,
)
from seqmel.core.errors import ConfigError, OutputError, SchemaError, SeqmelError
from seqmel.core.progress import Progress, Reporting, as_progress, record, silent, warn
from seqmel.core.units import count_words
from seqmel.data.encoding.event_encoding import encode
from seqmel.data.fitting.statistics import fit_statistics
from seqmel.data.fitting.timeline import open_and_infer, open_for_schema
from seqmel.data.fitting.vocabulary_fitting import fit_vocabulary
from seqmel.data.sequences.prepared import (
    PreparedSequences,
    is_prepared,
    open_prepared,
    write_prepared,
)
from seqmel.data.sequences.repeated_events import RepeatedEvents
from seqmel.data.sources.reading import Events, event_files, is_paths
from seqmel.data.sources.several import event_tables
from seqmel.model import AnyModel, TrainedModel, as_model, save_model
from seqmel.training.components_fit import config_of_components
from seqmel.training.hooks import NO_HOOKS, Hooks

if TYPE_CHECKING:
    from seqmel.data.sequences.encoded_sequences import EncodedSequences
    from seqmel.data.vocabulary import TimeScale
    from seqmel.nn.encoder import SequenceEncoder

__all__ = [
    "already_trained",
    "check_options",
    "fit_model",
    "model_of",
    "options_before",
    "prepare",
    "prepared_in",
    "resolve_all",
    "train",
    "train_model",
    "unfinished_run",
    "with_epochs",
    "write_model",
]


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
        events: See `open_events`.
        output: The folder to write.
        config: Names columns and limits. The rest is inferred.
        model: Use the vocabulary of this model (a folder or a `Model`), to embed with it. None fits
            a new vocabulary.
        overwrite: Replace existing output.
        progress: Where to report progress.

    Returns:
        The prepared sequences. `train` and `embed` accept their folder in place of events.

    Raises:
        InputError: The events cannot be read.
        SchemaError: Columns are missing or cannot be used.
        ConfigError: An option is out of range.
        OutputError: The output exists, or cannot be written.

    Examples:
        >>> import seqmel
        >>> prepared = seqmel.prepare(seqmel.generate_card_data(3).events, "prepared")
        >>> prepared.sequences.events > 100
        True
        >>> model = seqmel.train("prepared", epochs=0)
    """
    output = Path(output)
    model = None if model is None else as_model(model)
    check_output(output, overwrite=overwrite, folder=True, reads=(events,))
    with atomic_write(output) as partial:
        _prepare_into(partial, events, as_config(config), model, as_progress(progress))
    return open_prepared(output)


def _prepare_into(
    folder: Path, events: Events, config: Config, model: TrainedModel | None, progress: Progress
) -> None:
    options = config.preparation
    began = time.monotonic()
    folder.mkdir(exist_ok=True)  # DuckDB creates the folder that it spills to, but not its parent
    how = config.resources | {"temp_folder": folder / "sorting"}
    if model:
        schema = model.schema
        source = open_for_schema(events, schema, model.vocabulary.texts, **how)
    else:
        source, schema = open_and_infer(events, config.schema, **how)
    for note in source.notes:
        progress.say(note)
    vocabulary = model.vocabulary if model else fit_vocabulary(
        source, schema, min_count=options.min_count, max_categories=options.max_categories
    )  # fmt: skip
    write_prepared(folder, encode(source, schema, vocabulary), schema=schema, vocabulary=vocabulary)
    source.connection.close()
    shutil.rmtree(folder / "sorting", ignore_errors=True)
    counts = json.loads((folder / "prepared.json").read_text(encoding="utf-8"))
    record(progress, "counted", clients=counts["clients"], events=counts["events"])
    progress.say(
        f"prepared {count_words(counts['events'], 'event')} of "
        f"{count_words(counts['clients'], 'client')} in {time.monotonic() - began:.1f} s "
        f"({', '.join(f'{c}: {w}' for c, w in vocabulary.describe().items())})"
    )
    if model is None and schema.loses_columns:
        warn(progress, schema.left_out_words)
    elif model is None and schema.left_out_words:
        progress.say(schema.left_out_words)
    repeats = RepeatedEvents()
    repeats.see(open_prepared(folder).sequences)
    if (words := repeats.words()) is not None:
        warn(progress, words)


@with_own_defaults
def train(
    events: Events,
    output: str | Path,
    *,
    config: Config | Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    hooks: Hooks = NO_HOOKS,
    progress: Reporting = None,
) -> Path:
    """Train a model on events and write its folder.

    All files are in `<output>.partial` while it runs. Only a finished model is moved to `output`.

    Args:
        events: See `open_events`, or a folder of prepared sequences.
        output: The model folder to write.
        config: All options, as a Config or a mapping like a config file.
        resume: Resume an interrupted run if there is one, possibly with another number of epochs or
            another patience. A finished model is not changed.
        overwrite: Replace an existing model or unfinished run.
        hooks: Callbacks and loggers of the user.
        progress: Where to report progress.

    Returns:
        The model folder.

    Raises:
        SeqmelError: The input, the options or the output are invalid.
    """
    output = Path(output)
    config = as_config(config)
    check_options(config)
    hooks.check()
    from seqmel.core.device import resolve_device

    device = resolve_device(config.device)
    if config.devices > 1 and not is_launched():
        raise ConfigError(
            f"devices is {config.devices}, and this is one process. Start several: seqmel train "
            f"--devices, or torchrun."
        )
    with process_group(device) as rank:
        shown = as_progress(progress) if rank.first else silent
        return _train(events, output, config, resume, overwrite, hooks, shown)


def already_trained(output: Path, *, resume: bool, overwrite: bool, progress: Progress) -> bool:
    """Return whether a run to be resumed is finished already, and report it."""
    finished = resume and not overwrite and (output / "config.json").is_file()
    if finished:
        progress.say(
            f"{output} is already trained; nothing to resume. To train anew, pass --overwrite too."
        )
    return finished


def _train(
    events: Events,
    output: Path,
    config: Config,
    resume: bool,
    overwrite: bool,
    hooks: Hooks,
    progress: Progress,
) -> Path:
    """Train as one of several ranks or alone. Rank 0 prepares and writes."""
    if already_trained(output, resume=resume, overwrite=overwrite, progress=progress):
        return output

    def train_in(work: Path) -> TrainedModel:
        with rank_zero_first():
            prepared = prepared_in(work, events, config, None, progress)
        return fit_model(work, prepared, config, None, hooks, progress)

    if current_rank().first:
        check_output(output, overwrite=overwrite, folder=True, reads=(events,))
        with unfinished_run(
            output, config.to_dict(), events, resume=resume, overwrite=overwrite
        ) as work:
            model = train_in(work)
            shutil.rmtree(work / "model", ignore_errors=True)
            write_model(work / "model", model)
    else:
        train_in(partial_path(output))
    barrier()
    return output


@with_own_defaults
def train_model(
    events: Events,
    *,
    config: Config | Mapping[str, Any] | None = None,
    initial: TrainedModel | None = None,
    hooks: Hooks = NO_HOOKS,
    progress: Reporting = None,
) -> TrainedModel:
    """Train a model and return it. It equals the model that `train` writes.

    Encoded sequences and checkpoints are in a temporary folder while it runs.

    Args:
        events: See `open_events`, or a folder of prepared sequences.
        config: All options, as a Config or a mapping like a config file.
        initial: A model to continue from: its schema and vocabulary are kept, and its weights are
            the initial weights.
        hooks: Callbacks and loggers of the user.
        progress: Where to report progress.

    Returns:
        The model.

    Raises:
        ConfigError: An option that shapes the encoder differs from that of `initial`.
        SeqmelError: The input or other options are invalid.
    """
    config = as_config(config)
    progress = as_progress(progress)
    check_options(config)
    hooks.check()
    if initial is not None:
        _check_same_shape(initial, config)
    with (
        tempfile.TemporaryDirectory(prefix="seqmel-", ignore_cleanup_errors=True) as folder,
        translate_disk_full(Path(folder), "train again"),
    ):
        work = Path(folder)
        return fit_model(
            work,
            prepared_in(work, events, config, initial, progress),
            config,
            initial,
            hooks,
            progress,
        )


def check_options(config: Config) -> None:
    """Check device, loss, tables and the model to start from, before any work."""
    from seqmel.core.device import resolve_device
    from seqmel.objectives.coles import make_loss
    from seqmel.training.client_traits import check_tables
    from seqmel.training.label_codes import read_objective_labels
    from seqmel.training.warm_start import check_warm_start

    resolve_device(config.device)
    make_loss(config)
    read_objective_labels(config, config.schema.client)
    if config.leave_out is not None:
        check_tables(config.leave_out)
    if config.training.init_from is not None:
        trained = as_model(config.training.init_from)
        check_warm_start(trained, config.event_encoder.hidden_size)


def _check_same_shape(initial: TrainedModel, wanted: Config) -> None:
    before = initial.config
    encoder = initial.encoder
    unforced = encoder.state_pooling is None and encoder.vector_size == encoder.pooling.output_size
    if unforced and bool(before.matryoshka) != bool(wanted.matryoshka):
        raise ConfigError(
            "Training cannot continue from a model of another shape (matryoshka: "
            f"{list(before.matryoshka)} there, {list(wanted.matryoshka)} now, which decides "
            "whether there is a projection). Train a new model."
        )
    if wanted.pca_dim not in ("auto", before.pca_dim):
        raise ConfigError(
            "Training cannot continue from a model of another shape (pca_dim: "
            f"{before.pca_dim} there, {wanted.pca_dim} now). Leave pca_dim out, or train a new "
            "model."
        )
    zone = wanted.schema.time_zone
    if zone not in (None, *initial.schema.time_zones):
        raise ConfigError(
            f"The model reads the calendar in {' and '.join(initial.schema.time_zones) or 'UTC'}, "
            f"and time_zone is {zone} now. Leave time_zone out, or train a new model."
        )
    if wanted.schema.names_holidays and not initial.schema.calendars:
        raise ConfigError(
            "The model knows no holidays. Leave holidays (schema.holidays) out, or train a new "
            "model."
        )
    for name in (
        "event_encoder",
        "encoder",
        "pooling",
        "category_mean",
        "embedding_dim",
        "recency_features",
    ):
        old = before.to_dict()[name]
        new = wanted.to_dict()[name]
        if old != new:
            raise ConfigError(
                "Training cannot continue from a model of another shape "
                f"({_first_difference(old, new, name)}). Give the model's options, or train a new "
                "model."
            )


def write_model(folder: Path, model: TrainedModel) -> None:
    """Write a model folder with its card and its curves."""
    from seqmel.training.card import draw_curves, kept_epoch, model_card

    history = model.metrics["history"]
    kept = kept_epoch(history) or next(reversed(history), None)
    save_model(folder, model, card=model_card(model), curves=draw_curves(history, kept=kept))


@contextlib.contextmanager
def unfinished_run(
    output: Path, wanted: dict[str, Any], events: Events, *, resume: bool, overwrite: bool
) -> Iterator[Path]:
    """Hold the folder of an unfinished run with these options and events.

    Its `model` is moved to `output` at the end. On failure the folder is kept if at least one epoch
    has finished, so that the run can be resumed.
    """
    input_files = _input_files(events)
    with exclusive_lock(partial_path(output), output):
        work = _work_folder(output, wanted, input_files, resume=resume, overwrite=overwrite)
        try:
            with translate_disk_full(output, "run it again with --resume"):
                for name, value in (("events.json", input_files), ("options.json", wanted)):
                    if not (work / name).is_file() or _read(work / name) != value:
                        with atomic_write(work / name) as partial:
                            partial.write_text(json.dumps(value), encoding="utf-8")
                yield work
                move_into_place(work / "model", output)
        except SeqmelError:
            if not (work / "checkpoints" / "last.ckpt").exists():
                shutil.rmtree(work, ignore_errors=True)
            raise
        shutil.rmtree(work, ignore_errors=True)


def _input_files(events: Events) -> list[list[str | int]] | None:
    """Return name, size and mtime of the input files, or None for events in memory."""
    tables = event_tables(events)
    if tables is not None:
        files = [(name, _input_files(table)) for name, table in tables.items()]
        if any(found is None for _, found in files):
            return None
        return [[f"{name}={file}", *stamp] for name, found in files for file, *stamp in found or ()]
    if not is_paths(events):
        return None
    return file_stamps(
        sorted(Path(events).iterdir()) if is_prepared(events) else event_files(events)
    )


def _work_folder(
    output: Path, wanted: dict[str, Any], input_files: Any, *, resume: bool, overwrite: bool
) -> Path:
    """Return the folder of the unfinished run, checked to have the same options and events.

    The number of epochs and the patience of a training may differ, unless it is to be overwritten.
    """
    work = partial_path(output)
    options = work / "options.json"
    events = work / "events.json"
    if work.exists() and not resume and not overwrite:
        raise OutputError(
            f"An unfinished run is in {work}. Resume it with --resume, or discard it with "
            f"--overwrite."
        )
    if work.exists() and not resume:
        shutil.rmtree(work)
    try:
        asked = options_before(options) if options.is_file() else wanted
        now = wanted
        if not overwrite:
            asked = _without_length(asked)
            now = _without_length(wanted)
        if asked != now:
            raise OutputError(
                f"The unfinished run in {work} has other options "
                f"({_first_difference(asked, now)}). Resume it with the same options, or "
                "discard it with --overwrite."
            )
        if events.is_file() and (before := _read(events)) != input_files:
            raise OutputError(
                f"The unfinished run in {work} has other events ({_files_words(before)} there, "
                f"{_files_words(input_files)} now). Resume it with the events that it began with, "
                "or discard it with --overwrite."
            )
    except OutputError:
        if not overwrite:
            raise
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    return work


def _without_length(options: Any) -> Any:
    """Return the options of a training without those that only say when it ends."""
    training = options.get("training") if isinstance(options, dict) else None
    if not isinstance(training, dict):
        return options
    others = {k: v for k, v in training.items() if k not in ("epochs", "patience")}
    return options | {"training": others}


def options_before(path: Path) -> Any:
    """Read the options of an unfinished run, with the names of an earlier version translated."""
    options = _read(path)
    if not isinstance(options, dict):
        return options
    if isinstance(options.get("config"), dict):
        return options | {"config": with_new_names(options["config"], quiet=True)}
    return with_new_names(options, quiet=True)


def _read(path: Path) -> Any:
    """Read a file of an unfinished run."""
    try:
        return parse_json(path.read_bytes())
    except ValueError:
        raise OutputError(
            f"{path} of an unfinished run is damaged. Discard the run with --overwrite."
        ) from None


def _files_words(input_files: list[list[Any]] | None) -> str:
    if input_files is None:
        return "events in memory"
    changed = dt.datetime.fromtimestamp(
        max((time for _, _, time in input_files), default=0) // 10**9
    )
    what = input_files[0][0] if len(input_files) == 1 else count_words(len(input_files), "file")
    return (
        f"{what} of {count_words(sum(size for _, size, _ in input_files), 'byte')}, changed "
        f"{changed:%Y-%m-%d %H:%M:%S}"
    )


def _first_difference(before: Any, wanted: Any, name: str = "") -> str:
    if isinstance(before, dict) and isinstance(wanted, dict):
        for key in wanted:
            if before.get(key) != wanted[key]:
                return _first_difference(
                    before.get(key), wanted[key], f"{name}.{key}" if name else key
                )
    return f"{name}: {before} there, {wanted} now"


def prepared_in(
    work: Path, events: Events, config: Config, model: TrainedModel | None, progress: Progress
) -> PreparedSequences:
    """Open prepared sequences, or prepare events in `work`, with a model's vocabulary if given."""
    if is_prepared(events):
        prepared = open_prepared(events, vocabulary=model.vocabulary if model else None)
        for name in ("client", "time"):
            said = getattr(config.schema, name)
            there = getattr(prepared.schema, name)
            if said not in (None, there):
                raise SchemaError(
                    f"{events} was prepared with the {name} column {there!r}, not {said!r}. "
                    f"Prepare the events again, or leave --{name} (schema.{name}) out."
                )
        if config.schema.time_zone not in (None, *prepared.schema.time_zones):
            raise SchemaError(
                f"{events} was prepared for the time zone "
                f"{' and '.join(prepared.schema.time_zones) or 'UTC'}, not "
                f"{config.schema.time_zone}. Prepare the events again, or leave --time-zone "
                "(schema.time_zone) out."
            )
        if config.schema.names_holidays and not prepared.schema.calendars:
            raise SchemaError(
                f"{events} was prepared without holidays. Prepare the events again, or leave "
                "schema.holidays out."
            )
        return prepared
    folder = work / "prepared"
    if not is_prepared(folder):
        shutil.rmtree(folder, ignore_errors=True)
        _prepare_into(folder, events, config, model, progress)
    return open_prepared(folder)


def fit_model(
    work: Path,
    prepared: PreparedSequences,
    config: Config,
    initial: TrainedModel | None = None,
    hooks: Hooks = NO_HOOKS,
    progress: Progress = silent,
) -> TrainedModel:
    """Train on prepared sequences, going on from the last checkpoint in `work` if there is one."""
    from seqmel.training.fit import fit
    from seqmel.training.time_alone import measure_time_alone

    sequences = (
        prepared.sequences.in_memory()
        if config.training.storage == "memory"
        else prepared.sequences
    )
    resolved = resolve_all(config, sequences, prepared.vocabulary.time)
    if initial is not None:
        resolved = resolved.model_copy(update={"pca_dim": initial.config.pca_dim})
    resolved = _not_shorter_than_done(resolved, work / "checkpoints" / "last.ckpt", progress)
    time_alone = (
        measure_time_alone(sequences, prepared.vocabulary.time, resolved)
        if resolved.compares
        else None
    )
    if time_alone is not None:
        progress.say(str(time_alone))
    began = time.monotonic()
    encoder, history = fit(
        sequences, prepared.vocabulary, resolved, initial=initial.encoder if initial else None,
        checkpoints=work / "checkpoints", hooks=hooks, progress=progress,
    )  # fmt: skip
    model = model_of(
        prepared, sequences, resolved, encoder, history, seconds=time.monotonic() - began
    )
    if time_alone is not None:
        model.metrics["time_alone"] = time_alone.to_json()
    names = ("clients", "events", "dimensions", "parameters")
    record(progress, "counted", **{name: model.metrics[name] for name in names})
    return model


def resolve_all(config: Config, sequences: EncodedSequences, scale: TimeScale) -> Config:
    """Resolve all options of a training that depend on the data."""
    from seqmel.training.batches import resolve_auto_options, resolve_clock_shifts

    return resolve_clock_shifts(resolve_auto_options(config, sequences), sequences, scale)


def with_epochs(config: Config, epochs: int) -> Config:
    """Return the config with another number of epochs."""
    training = config.training.model_copy(update={"epochs": epochs})
    return config.model_copy(update={"training": training})


def _not_shorter_than_done(config: Config, last: Path, progress: Progress) -> Config:
    """Return the config, of at least as many epochs as the interrupted run has finished."""
    from seqmel.training.fit import epochs_done

    done = epochs_done(last) if last.is_file() else 0
    if done <= (config.training.epochs or 0):
        return config
    progress.say(
        f"{count_words(done, 'epoch is', 'epochs are')} done, more than the "
        f"{config.training.epochs} asked for: no further training, the best of them is kept"
    )
    return with_epochs(config, done)


def model_of(
    prepared: PreparedSequences,
    sequences: EncodedSequences,
    config: Config,
    encoder: SequenceEncoder,
    history: list[dict[str, float]],
    *,
    seconds: float,
) -> TrainedModel:
    """The model of an encoder that was trained on these sequences.

    Args:
        prepared: Names schema and vocabulary.
        sequences: Its sequences, as they were trained on.
        config: All options, with all automatic options resolved.
        encoder: In evaluation mode, on the CPU.
        history: One row per epoch.
        seconds: Duration of the training.
    """
    metrics = {
        "clients": len(sequences),
        "events": sequences.events,
        "dimensions": encoder.output_size,
        "parameters": sum(p.numel() for p in encoder.parameters()),
        "seconds": round(seconds, 1),
        "history": history,
    }
    statistics = fit_statistics(sequences, prepared.vocabulary)
    return TrainedModel(
        config_of_components(config, encoder),
        prepared.schema,
        prepared.vocabulary,
        encoder,
        metrics,
        statistics=statistics,
    )
