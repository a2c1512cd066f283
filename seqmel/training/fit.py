"""Fit an encoder to encoded sequences with Lightning, and save a checkpoint after every epoch."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytorch_lightning as lightning
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.strategies import DDPStrategy

from seqmel.config import Config
from seqmel.config.options.training import FinetuningOptions, TrainingOptions
from seqmel.core.device import (
    limit_onednn_cache,
    resolve_device,
    resolve_precision,
    tune_malloc,
    with_own_defaults,
)
from seqmel.core.distributed import current_rank
from seqmel.core.embedding_metrics import collapsed
from seqmel.core.errors import ModelError, TrainingError
from seqmel.core.progress import Progress, Task, record, silent
from seqmel.core.units import count_words, duration_words
from seqmel.data.samplers import OfflineHardSampler
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.vocabulary import Vocabulary
from seqmel.model import as_model
from seqmel.nn.encoder import SequenceEncoder
from seqmel.objectives import Objective
from seqmel.training.batches import (
    ClientSplit,
    HeldOutBatches,
    TrainingBatches,
    resolve_auto_options,
    resolve_clock_shifts,
    split_clients,
)
from seqmel.training.client_traits import client_traits
from seqmel.training.components_fit import fit_components
from seqmel.training.hooks import NO_HOOKS, Hooks
from seqmel.training.label_codes import label_codes
from seqmel.training.module import MONITOR, TrainingModule
from seqmel.training.offline import OfflineMining
from seqmel.training.patience import Patience
from seqmel.training.ppmi_init import new_encoder
from seqmel.training.trackers import flat_options
from seqmel.training.warm_start import warm_start

__all__ = [
    "EpochReport",
    "MonitoredMetric",
    "epochs_done",
    "fit",
    "make_trainer",
    "restore",
    "run_trainer",
    "silence_lightning",
]

# Training has diverged if the loss is more than this multiple of the first batch's (or of 1).
_DIVERGED = 1_000.0


@with_own_defaults
def fit(
    sequences: EncodedSequences,
    vocabulary: Vocabulary,
    config: Config,
    *,
    initial: SequenceEncoder | None = None,
    labels: Mapping[str, pd.Series[Any]] | None = None,
    checkpoints: Path | None = None,
    hooks: Hooks = NO_HOOKS,
    progress: Progress = silent,
) -> tuple[SequenceEncoder, list[dict[str, float]]]:
    """Train an encoder. Keeps the weights of the best epoch by validation recall, else the last.

    Args:
        sequences: The encoded events of the training clients.
        vocabulary: The vocabulary of the sequences.
        config: All options.
        initial: An encoder of the same shape with the initial weights. None draws new ones. It is
            not modified.
        labels: Labels by client id for each part of the objective that learns from labels, by its
            name. None reads those that the config names.
        checkpoints: A folder for checkpoints. Training resumes from the last one in it. None saves
            none.
        hooks: Callbacks and loggers of the user.
        progress: Where to report progress.

    Returns:
        The encoder in evaluation mode on the CPU, and the history with one row per epoch.

    Raises:
        TrainingError: There are too few clients, or training has diverged.
        ConfigError: The device does not exist.
        SeqmelError: The labels of the objective cannot be read, or do not fit the clients.
    """
    device = rank_device(config)
    tune_malloc()
    limit_onednn_cache(recurrent=config.recurrent)
    config = resolve_clock_shifts(
        resolve_auto_options(config, sequences), sequences, vocabulary.time
    )
    split = split_clients(sequences, config)
    _check_shards(config, split)
    on_device = sequences.to(device) if config.training.storage == "device" else sequences
    with torch.random.fork_rng(), silence_lightning():
        torch.manual_seed(config.seed)
        encoder = new_encoder(config, vocabulary, sequences, split.training)
        if initial is not None:
            weights = initial.state_dict()
            encoder.load_state_dict({name: weights[name] for name in encoder.state_dict()})
        elif config.training.init_from is not None:
            trained = as_model(config.training.init_from)
            words = warm_start(encoder, vocabulary, trained)
            progress.say(f"warm start from {config.training.init_from}: {words}")
        objective = Objective(
            config,
            vocabulary,
            encoder,
            codes=label_codes(config, sequences, labels),
            traits=client_traits(config, sequences, vocabulary),
        )
        report = EpochReport(progress, config.training, words=_metric_words)
        module = TrainingModule(encoder, objective, config, on_epoch=report.report_epoch)
        monitored = MonitoredMetric(MONITOR, "max") if len(split.validation) else None
        batches = TrainingBatches(
            on_device,
            vocabulary,
            split.training,
            objective,
            config,
            epoch=lambda: module.current_epoch,
        )
        sampler = batches.sampler
        mining = (
            [OfflineMining(sampler, on_device, encoder, config, device)]
            if isinstance(sampler, OfflineHardSampler)
            else []
        )
        trainer, best = make_trainer(
            config,
            config.training,
            report,
            checkpoints,
            monitored,
            [*mining, *hooks.callbacks],
            hooks.loggers,
        )
        if config.training.epochs:
            progress.say(_plan_words(config.training, batches, monitored))
            for logger in hooks.loggers if current_rank().first else ():
                logger.log_hyperparams(flat_options(config))
            run_trainer(
                trainer,
                module,
                batches,
                HeldOutBatches(on_device, split.validation, config),
                checkpoints,
            )
    if best is not None and best.best_model_path and current_rank().first:
        restore(module, Path(best.best_model_path))
    if config.training.epochs and monitored and best is not None:
        progress.say(_kept_words(module.history, config.training))
    _warn_of_collapse(module.history, progress)
    encoder = module.encoder.cpu().eval()
    if initial is None:
        fit_components(encoder, sequences, split.training, config)
    else:  # the dimensions keep their meaning
        encoder.components = copy.deepcopy(initial.components)
    return encoder, module.history


def _plan_words(
    options: TrainingOptions, batches: TrainingBatches, monitored: MonitoredMetric | None
) -> str:
    """Say how long the training can last, and what ends it before."""
    epochs = f"{options.epochs} epoch{'' if options.epochs == 1 else 's'}"
    steps = f"{len(batches):,} step{'' if len(batches) == 1 else 's'}"
    if monitored is None:
        stop = "no validation clients: the last epoch is kept"
    elif options.patience is None:
        stop = "no early stopping; the best epoch is kept"
    else:
        stop = f"stops after {options.patience} without a better recall@1; the best epoch is kept"
    limit = options.epoch_clients
    drawn = f" ({limit:,} random clients)" if limit and limit < batches.all_clients else ""
    return f"training: {epochs} of {steps}{drawn}; {stop}"


def _kept_words(history: list[dict[str, float]], options: TrainingOptions) -> str:
    """Say which epoch is kept, and whether training stopped early."""
    best = max(history, key=lambda row: row[MONITOR])
    stopped = (
        f"stopped early after epoch {len(history)} of {options.epochs}: no better recall@1 in "
        f"{options.patience} epoch{'' if options.patience == 1 else 's'}; "
        if options.epochs and len(history) < options.epochs
        else ""
    )
    return f"{stopped}kept epoch {best['epoch']:.0f}, recall@1 {best[MONITOR]:.3f}"


def rank_device(config: Config) -> torch.device:
    """Return the device of this process. In distributed training it depends on the local rank."""
    device = resolve_device(config.device)
    rank = current_rank()
    return (
        torch.device("cuda", rank.local_index)
        if device.type == "cuda" and rank.count > 1
        else device
    )


def _check_shards(config: Config, split: ClientSplit) -> None:
    clients = min(config.training.batch_size, len(split.training))
    count = current_rank().count
    if clients < count:
        raise TrainingError(
            f"A batch of {count_words(clients, 'client')} cannot be shared by "
            f"{count_words(count, 'process', 'processes')}. Raise training.batch_size, or start "
            "fewer."
        )


def _distributed_arguments() -> dict[str, Any]:
    """Return trainer arguments for DDP with externally launched, already sharded processes."""
    rank = current_rank()
    if rank.count == 1:
        # Explicit, because Lightning would use all processes of a Slurm allocation.
        return {"plugins": [LightningEnvironment()]}
    strategy = DDPStrategy(
        cluster_environment=TorchElasticEnvironment(),
        find_unused_parameters=True,
        broadcast_buffers=False,
    )
    nodes = rank.count // rank.local_count
    return {
        "devices": rank.local_count,
        "num_nodes": nodes,
        "strategy": strategy,
        "use_distributed_sampler": False,
    }


@dataclass(frozen=True)
class MonitoredMetric:
    """The metric that decides which epoch is best, under the name that it is logged with."""

    name: str
    better: Literal["min", "max"]


def make_trainer(
    config: Config,
    options: TrainingOptions | FinetuningOptions,
    report: EpochReport,
    checkpoints: Path | None,
    monitored: MonitoredMetric | None,
    others: Sequence[lightning.Callback] = (),
    loggers: Sequence[Any] = (),
) -> tuple[lightning.Trainer, ModelCheckpoint | None]:
    """Build the trainer, which keeps the best and the last epoch in `checkpoints`.

    Returns:
        The trainer, and the callback that keeps the best epoch, if any.
    """
    device = rank_device(config)
    callbacks: list[lightning.Callback] = [report, *others]
    best = None
    # Two callbacks: with `save_last` Lightning would save the last epoch only if it is the best.
    if checkpoints is not None:
        every: dict[str, Any] = {"enable_version_counter": False, "save_on_train_epoch_end": True}
        last = ModelCheckpoint(checkpoints, filename="last", **every)
        best = (
            ModelCheckpoint(
                checkpoints, filename="best", monitor=monitored.name, mode=monitored.better, **every
            )
            if monitored
            else last
        )
        callbacks += [best, last] if monitored else [last]
    if options.patience is not None and monitored:
        callbacks.append(
            Patience(
                monitored.name, mode=monitored.better, patience=options.patience, min_delta=1e-4
            )
        )
    trainer = lightning.Trainer(
        max_epochs=options.epochs,
        accelerator="gpu" if device.type == "cuda" else device.type,
        precision=resolve_precision(config.precision, device),
        gradient_clip_val=options.gradient_clip,
        callbacks=callbacks,
        logger=list(loggers) or False,
        enable_checkpointing=checkpoints is not None,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **(
            {"devices": [device.index or 0] if device.type == "cuda" else 1}
            | _distributed_arguments()
        ),
    )
    return trainer, best


def run_trainer(
    trainer: lightning.Trainer,
    module: lightning.LightningModule,
    batches: Any,
    held_out: Any,
    checkpoints: Path | None,
) -> None:
    """Train, resuming from the last epoch in `checkpoints` if there is one."""
    last = checkpoints / "last.ckpt" if checkpoints is not None else None
    if last is not None and last.is_file():
        restore(module, last)  # unlike Lightning, it reports a damaged file in one line
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(
            module, batches, held_out if len(held_out) else None, weights_only=True,
            ckpt_path=str(last) if last is not None and last.is_file() else None,
        )  # fmt: skip
    except SystemExit:  # Lightning's response to Ctrl-C, after which it ignores the signal
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None


def restore(module: lightning.LightningModule, path: Path) -> None:
    """Load the weights of a checkpoint into the module. A `ModelError` if it cannot be read."""
    weights = _read_checkpoint(path)["state_dict"]
    try:
        module.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise _checkpoint_error(path, error) from None


def _read_checkpoint(path: Path) -> dict[str, Any]:
    """Read the tensors and plain values of a checkpoint. No code in it is executed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files that torch did not write
            content = torch.load(path, map_location="cpu", weights_only=True)
        if (
            not isinstance(content, dict)
            or not {"state_dict", "loops", "callbacks"} <= content.keys()
        ):
            raise ValueError("not what Lightning wrote")
    except Exception as error:  # damage can cause any exception
        raise _checkpoint_error(path, error) from None
    return content


def epochs_done(checkpoint: Path) -> int:
    """Return the number of epochs that a checkpoint has finished."""
    return int(_read_checkpoint(checkpoint)["epoch"]) + 1


def _checkpoint_error(path: Path, error: Exception) -> ModelError:
    lines = [
        line.strip()
        for line in str(error).splitlines()
        if not line.startswith("Error(s) in loading")
    ]
    line = (lines or [type(error).__name__])[0]
    return ModelError(
        f"The checkpoint {path} cannot be read ({line}). Discard the unfinished run with "
        "--overwrite and train anew."
    )


@contextlib.contextmanager
def silence_lightning() -> Iterator[None]:
    """Silence Lightning's advice on workers and loggers, which does not apply here."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
        try:
            yield
        finally:
            logger.setLevel(level)


class EpochReport(lightning.Callback):
    """A progress bar for each epoch, and a line with its metrics."""

    def __init__(
        self,
        progress: Progress,
        options: TrainingOptions | FinetuningOptions,
        *,
        words: Callable[[dict[str, float]], str],
    ) -> None:
        self.progress = progress
        self.options = options
        self.section = "finetuning" if isinstance(options, FinetuningOptions) else "training"
        self.words = words
        self._open: contextlib.ExitStack | None = None
        self._task: Task | None = None
        self._clients = 0
        self._began = 0.0
        self._first: float | None = None
        self._seconds: list[float] = []

    def on_train_epoch_start(self, trainer: lightning.Trainer, module: Any) -> None:
        """Open the bar of the epoch."""
        self._began = time.monotonic()
        self._open = contextlib.ExitStack()
        name = f"epoch {trainer.current_epoch + 1}/{self.options.epochs}"
        task = self.progress.task(name, _clients_of(trainer), "clients", quiet=True)
        self._task = self._open.enter_context(task)

    def on_train_batch_start(
        self, trainer: lightning.Trainer, module: Any, batch: Any, index: int
    ) -> None:
        """Note the number of clients of the batch."""
        clients = _clients_of(trainer)
        batches = int(trainer.num_training_batches)
        self._clients = clients * (index + 1) // batches - clients * index // batches

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        """Advance the bar, and check that the loss is finite."""
        assert self._task is not None, "an epoch began before its batches"
        if index % 20 == 0:  # reading the loss waits for the device
            loss = float(outputs["loss"])
            self._first = loss if self._first is None else self._first
            if not math.isfinite(loss):
                raise self._diverged(trainer, f"the loss is {loss}")
            self._task.advance(self._clients, f"loss {loss:.4f}")
        else:
            self._task.advance(self._clients)

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: Any) -> None:
        """Raise a `TrainingError` if training has diverged, before validation and checkpointing."""
        loss = module.losses.values()["loss"]
        first = self._first or 0.0
        if not loss <= _DIVERGED * max(1.0, first):  # also true if it is NaN
            raise self._diverged(trainer, f"the loss is {loss:.4g} and began at {first:.4g}")
        if not bool(
            torch.stack([weights.isfinite().all() for weights in module.parameters()]).all()
        ):
            raise self._diverged(trainer, "weights are no longer finite")

    def _diverged(self, trainer: lightning.Trainer, found: str) -> TrainingError:
        options = self.options
        clip = options.gradient_clip
        return TrainingError(
            f"The training has diverged by step {trainer.global_step:,} (epoch "
            f"{trainer.current_epoch + 1}): {found}. Lower {self.section}.learning_rate (it is "
            f"{options.learning_rate:g}) or {self.section}.gradient_clip (it is "
            f"{'null' if clip is None else f'{clip:g}'}), or use precision 32-true."
        )

    def on_validation_start(self, trainer: lightning.Trainer, module: Any) -> None:
        """Close the bar before validation."""
        self._close()

    def report_epoch(self, row: dict[str, float]) -> None:
        """Report the metrics of a finished epoch."""
        self._close()
        name = f"epoch {row['epoch']:.0f}/{self.options.epochs}"
        seconds = time.monotonic() - self._began
        self._seconds.append(seconds)
        ahead = (self.options.epochs or 0) - int(row["epoch"])
        left = ahead * sum(self._seconds) / len(self._seconds)
        record(
            self.progress,
            "epoch",
            **row,
            seconds=round(seconds, 3),
            seconds_left=round(left, 3),
        )
        at_most = "at most" if self.options.patience else "about"
        rest = f", {at_most} {duration_words(left)} left" if ahead > 0 else ""
        words = f"{seconds:.0f} s, loss {row['loss']:.4f}{self.words(row)}{rest}"
        self.progress.say(f"{name}: {words}")

    def on_exception(
        self, trainer: lightning.Trainer, module: Any, exception: BaseException
    ) -> None:
        """Close the bar."""
        self._close()

    def _close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


def _clients_of(trainer: lightning.Trainer) -> int:
    """Return the number of clients per epoch."""
    batches: Any = trainer.train_dataloader
    return int(batches.clients)


def _metric_words(row: dict[str, float]) -> str:
    mined = f", {row['active']:.0%} of mined tuples active" if "active" in row else ""
    mined += f", {row['left_out']:.2%} of negatives left out" if "left_out" in row else ""
    if MONITOR not in row:
        return mined
    return (
        f"{mined}, recall@1 {row['recall_at_1']:.3f} "
        f"({count_words(row['clients_held_out'], 'client', spec=',.0f')} held out), distance "
        f"{row['positive_distance']:.2f} same client {row['negative_distance']:.2f} others, "
        f"effective rank {row['effective_rank']:.0f}"
    )


def _warn_of_collapse(history: list[dict[str, float]], progress: Progress) -> None:
    last = history[-1] if history else {}
    if collapsed(last):
        progress.say(
            f"WARNING: the embeddings have collapsed: they use {last['effective_rank']:.1f} "
            "directions, so clients look alike. Try a lower training.learning_rate, another loss, "
            "or look at the columns with `seqmel describe`."
        )
