"""Fit heads to labels, first exactly with a frozen encoder, and then fine-tune all together."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import Tensor, nn

from seqmel.config import Config
from seqmel.config.options.training import FinetuningOptions
from seqmel.core.device import limit_onednn_cache, resolve_device, tune_malloc, with_own_defaults
from seqmel.core.linear_models import MAX_CLIENTS
from seqmel.core.progress import Progress, silent, warn
from seqmel.core.random_streams import Stream, generator
from seqmel.core.units import count_words
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.tables.facts import Facts
from seqmel.data.tables.targets import Target
from seqmel.inference.histories import embed_histories
from seqmel.nn.encoder import SequenceEncoder
from seqmel.nn.heads import Heads
from seqmel.nn.joint_heads import JointHeads, new_heads
from seqmel.training.finetuning.fact_heads import fit_deep_part
from seqmel.training.finetuning.finetune_metrics import HeldOut, calibrate, label_loss, unbiased
from seqmel.training.finetuning.labelled import (
    Labelled,
    LabelledBatch,
    LabelledBatches,
    class_weights,
    hold_out,
)
from seqmel.training.finetuning.linear_heads import solve_heads
from seqmel.training.fit import (
    EpochReport,
    MonitoredMetric,
    make_trainer,
    restore,
    run_trainer,
    silence_lightning,
)
from seqmel.training.module import RunningMeans, one_cycle

__all__ = ["Finetuned", "encoder_parts", "fit_labels", "resolve_finetuning_options"]

_MONITOR = "validation_loss"
_ENOUGH = 30  # On fewer clients held out, a figure below that of a constant may be chance.
_CONSTANTS = {"r2": "mean", "d2": "quantile"}
"""Metrics of quantities that are negative where a constant predicts better, and that constant."""
_STEPS = 600  # aimed at, within these numbers of epochs
_MIN_EPOCHS = 3
_MAX_EPOCHS = 10
_ENOUGH = 1_000  # labelled clients to fine-tune a pretrained encoder: docs/results.md, fine-tuning
_MANY = 2_500  # labelled clients to fine-tune it at full learning rate: the same section
_FACTOR_CLIENTS = (
    2_000  # training clients that the factor of a log-scaled quantity is estimated from
)
_SLOWER = 2.6  # per part nearer to the events, as in ULMFiT (Howard, Ruder, arXiv 1801.06146)


@dataclass(frozen=True)
class Finetuned:
    """The result of fine-tuning.

    Attributes:
        encoder: In evaluation mode on the CPU.
        heads: In evaluation mode on the CPU.
        targets: The targets, calibrated if the options ask for it.
        frozen: Validation metrics before the encoder was tuned. Empty without a validation split.
        held_out: Validation metrics at the end.
        history: One row per epoch.
        clients: Numbers of training and of validation clients.
        rows: Numbers of their samples.
        encoder_kept: Whether epochs were trained and none improved on the encoder as it was.
    """

    encoder: SequenceEncoder
    heads: Heads | JointHeads
    targets: tuple[Target, ...]
    frozen: dict[str, float]
    held_out: dict[str, float]
    history: list[dict[str, float]]
    clients: tuple[int, int]
    rows: tuple[int, int]
    encoder_kept: bool


def resolve_finetuning_options(
    config: Config, clients: int, *, new: bool, rows: int | None = None
) -> Config:
    """Resolve which parts are trained, the number of epochs, and the encoder's learning rate scale.

    `unfreeze: auto` trains the heads alone if the encoder is pretrained, fewer than 1,000 clients
    have labels, and neither epochs nor the encoder's learning rate are given. A validation split of
    fewer clients could not distinguish better epochs from worse ones.

    Args:
        config: All options.
        clients: The number of labelled clients.
        new: Whether the encoder is new rather than pretrained.
        rows: The number of labelled samples, if clients have several.
    """
    options = config.finetuning
    rows = clients if rows is None else rows
    steps = max(1, -(-round(rows * (1 - options.validation_fraction)) // options.batch_size))
    epochs = options.epochs
    if epochs is None:
        epochs = min(_MAX_EPOCHS, max(_MIN_EPOCHS, -(-_STEPS // steps)))
    rate = options.encoder_lr_scale
    if rate is None:
        rate = 1.0 if new or clients >= _MANY else 0.1
    asked = options.epochs is not None or options.encoder_lr_scale is not None
    auto = "head" if clients < _ENOUGH and not new and not asked else "all"
    unfreeze = auto if options.unfreeze == "auto" else options.unfreeze
    filled = {"unfreeze": unfreeze, "epochs": epochs, "encoder_lr_scale": rate}
    return config.model_copy(update={"finetuning": options.model_copy(update=filled)})


@with_own_defaults
def fit_labels(
    encoder: SequenceEncoder,
    sequences: EncodedSequences,
    labelled: Labelled,
    config: Config,
    *,
    facts: Facts | None = None,
    checkpoints: Path | None = None,
    progress: Progress = silent,
) -> Finetuned:
    """Train heads, and the encoder in place. Keeps the best epoch by validation loss.

    The heads on the frozen encoder count as an epoch too. So if fine-tuning does not help, it
    changes nothing. Where the encoder stays as it was, the validation split has no further use, so
    the heads are trained on all clients after it has been measured (unless it is used to
    calibrate).

    Args:
        encoder: A pretrained or new encoder. It is modified.
        sequences: The sequences of all samples, with the encoder's vocabulary.
        labelled: The labels, from `label`.
        config: All options, resolved.
        facts: The facts that `labelled.facts` holds, if any.
        checkpoints: A folder for checkpoints. Training resumes from the last one in it.
        progress: Where to report progress.

    Returns:
        The encoder and the heads, with their metrics.

    Raises:
        TrainingError: Training has diverged.
        ConfigError: The device does not exist.
    """
    device = resolve_device(config.device)
    options = config.finetuning
    tune_malloc()
    limit_onednn_cache(recurrent=config.recurrent)
    on_device = sequences.to(device) if config.training.storage == "device" else sequences
    training, validation = hold_out(labelled, options.validation_fraction, seed=config.seed)
    counts = (
        class_weights(training)
        if options.class_weight
        else torch.ones_like(class_weights(training))
    )
    held_out = HeldOut(on_device.subset(validation.clients), validation, counts, config)
    with torch.random.fork_rng(), silence_lightning():
        torch.manual_seed(config.seed)
        encoder = encoder.to(device).eval()
        heads = _fit_heads(encoder, on_device, training, counts, config, device, facts, held_out)
        if any(target.log for target in labelled.targets):
            some = training[torch.arange(min(len(training), _FACTOR_CLIENTS))]
            outputs = HeldOut(on_device.subset(some.clients), some, counts, config).outputs(
                encoder, heads, device
            )
            labelled = replace(labelled, targets=unbiased(labelled.targets, outputs, some))
            training, validation = (
                replace(part, targets=labelled.targets) for part in (training, validation)
            )
            held_out = HeldOut(on_device.subset(validation.clients), validation, counts, config)
        frozen = _validate(encoder, heads, held_out, device)
        watched = (
            f" ({count_words(validation.distinct_clients, 'client')} held out)"
            if len(held_out)
            else ""
        )
        progress.say(f"heads on the frozen encoder{_metric_words(frozen)}{watched}")
        history: list[dict[str, float]] = []
        tuned = options.unfreeze != "head" and bool(options.epochs)
        if tuned:
            history, tuned = _tune(
                encoder, heads, on_device, training, held_out, frozen, checkpoints, progress
            )
        if not tuned and len(held_out) and not options.calibrate and heads.is_linear:
            everyone = class_weights(labelled) if options.class_weight else counts
            heads = _fit_heads(encoder, on_device, labelled, everyone, config, device, facts)
    encoder = encoder.cpu().eval().requires_grad_(True)
    heads = heads.cpu().eval()
    targets = labelled.targets
    if options.calibrate and len(held_out):
        targets = calibrate(
            targets, held_out.outputs(encoder, heads, torch.device("cpu")), validation
        )
        validation = replace(validation, targets=targets)
        held_out = HeldOut(sequences.subset(validation.clients), validation, counts, config)
    found = frozen if not tuned else _validate(encoder, heads, held_out, torch.device("cpu"))
    for name, value in found.items():
        target, _, measure = name.rpartition(" ")
        if measure in _CONSTANTS and value < 0:
            line = (
                f"{target or targets[0].name} is predicted worse than by its "
                f"{_CONSTANTS[measure]} ({measure.upper()} {value:.2f} on the clients held out)"
            )
            if validation.distinct_clients >= _ENOUGH:
                warn(progress, line)
            else:
                progress.say(f"warning: {line}")
    return Finetuned(
        encoder,
        heads,
        targets,
        frozen,
        found,
        history,
        (training.distinct_clients, validation.distinct_clients),
        (len(training), len(validation)),
        bool(history) and not tuned,
    )


def _fit_heads(
    encoder: SequenceEncoder,
    sequences: EncodedSequences,
    training: Labelled,
    counts: Tensor,
    config: Config,
    device: torch.device,
    facts: Facts | None = None,
    held_out: HeldOut | None = None,
) -> Heads | JointHeads:
    """Return heads on `device`, fitted to the vectors of the encoder as it is.

    With facts, the validation clients decide how long the deep part is trained; None leaves it out.
    """
    chosen = (
        torch.randperm(len(training), generator=generator(config.seed, Stream.PROBE_CLIENTS))[
            :MAX_CLIENTS
        ]
        .sort()
        .values
    )
    part = training[chosen]
    by_class = torch.stack(
        [
            counts[t][part.values[:, t].long() if target.classes else torch.zeros(len(part)).long()]
            for t, target in enumerate(part.targets)
        ],
        dim=1,
    )
    part = replace(part, weights=part.weights * by_class)
    sizes = [target.size for target in part.targets]
    heads = new_heads(encoder.output_size, sizes, facts, dropout=config.finetuning.dropout)
    vectors = embed_histories(encoder, sequences.subset(part.clients), config, device=device)
    if isinstance(heads, Heads):
        solve_heads(heads, vectors, part, seed=config.seed)
    else:
        assert part.facts is not None, "heads with facts are for samples with facts"
        solve_heads(heads.linear, heads.inputs(vectors, part.facts), part, seed=config.seed)
        if held_out is not None and len(held_out):
            others = embed_histories(encoder, held_out.sequences, config, device=device)
            fit_deep_part(heads, vectors, part, others, held_out)
    return heads.to(device)


def _validate(
    encoder: SequenceEncoder,
    heads: Heads | JointHeads,
    held_out: HeldOut,
    device: torch.device,
) -> dict[str, float]:
    return held_out.metrics(held_out.outputs(encoder, heads, device)) if len(held_out) else {}


def _tune(
    encoder: SequenceEncoder,
    heads: Heads | JointHeads,
    sequences: EncodedSequences,
    training: Labelled,
    held_out: HeldOut,
    frozen: dict[str, float],
    checkpoints: Path | None,
    progress: Progress,
) -> tuple[list[dict[str, float]], bool]:
    """Fine-tune both in place, and restore the best epoch or the initial state.

    Returns:
        One row per epoch, and whether an epoch improved on the initial state.
    """
    config = held_out.config
    options = config.finetuning
    report = EpochReport(progress, options, words=_metric_words)
    module = _Module(encoder, heads, training.targets, held_out, on_epoch=report.report_epoch)
    before = {name: value.cpu().clone() for name, value in module.state_dict().items()}
    with contextlib.ExitStack() as stack:
        folder = checkpoints or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        watched = MonitoredMetric(_MONITOR, "min") if len(held_out) else None
        trainer, best = make_trainer(config, options, report, folder, watched)
        batches = LabelledBatches(
            sequences, training, options, seed=config.seed, epoch=lambda: trainer.current_epoch
        )  # fmt: skip
        run_trainer(trainer, module, batches, (), folder)
        if best is not None and best.best_model_path:
            restore(module, Path(best.best_model_path))
    if watched and min(row[_MONITOR] for row in module.history) >= frozen[_MONITOR]:
        progress.say("no epoch improves on the frozen encoder, which is kept")
        module.load_state_dict(before)
        return module.history, False
    return module.history, True


def _metric_words(row: dict[str, float]) -> str:
    """Format the validation metrics of a row."""
    shown = [
        f"{name.replace('_', ' ')} {value:.4g}"
        for name, value in row.items()
        if name not in _NOT_SHOWN
    ]
    return "".join(f", {words}" for words in shown)


_NOT_SHOWN = ("epoch", "steps", "loss", "learning_rate")


def encoder_parts(encoder: nn.Module) -> list[list[nn.Parameter]]:
    """Split the weights of an encoder into parts, from the vector down to the events.

    The parts are pooling and projection, the sequence encoder, the event network, and the event
    embeddings. Parts without weights are left out.
    """
    parts: list[list[nn.Parameter]] = [[], [], [], []]
    for name, weight in encoder.named_parameters():
        parts[_depth(name)].append(weight)
    return [part for part in parts if part]


def _depth(name: str) -> int:
    for depth, start in ((2, "events.network."), (3, "events."), (1, "sequence.")):
        if name.startswith(start):
            return depth
    return 0


class _Module(lightning.LightningModule):
    """Trains encoder and heads. `on_epoch` is called with each row of the history."""

    def __init__(
        self,
        encoder: SequenceEncoder,
        heads: Heads | JointHeads,
        targets: tuple[Target, ...],
        held_out: HeldOut,
        *,
        on_epoch: Callable[[dict[str, float]], None],
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = heads
        self.targets = targets
        self.held_out = held_out
        self.options: FinetuningOptions = held_out.config.finetuning
        self.seed = held_out.config.seed
        self.on_epoch = on_epoch
        self.history: list[dict[str, float]] = []
        self.counts: Tensor
        self.register_buffer("counts", held_out.class_weights, persistent=False)
        self.losses = RunningMeans()
        self._rate = 0.0

    def on_train_epoch_start(self) -> None:
        """Re-seed every epoch, so that a resumed run is identical to an uninterrupted one."""
        torch.manual_seed(
            generator(self.seed, Stream.FINETUNE_DROPOUT, self.current_epoch).initial_seed()
        )
        self.losses.clear()
        for depth, part in enumerate(encoder_parts(self.encoder)):
            learns = self.options.unfreeze != "gradual" or depth <= self.current_epoch
            for weight in part:
                weight.requires_grad_(learns)

    def training_step(self, batch: LabelledBatch, _: int) -> Tensor:
        """Return the loss of a batch. The heads compute in float32."""
        # Read here, because the scheduler steps before the epoch ends.
        self._rate = float(self.trainer.optimizers[0].param_groups[0]["lr"])
        vectors = self.encoder.embed(batch.sequences)
        with torch.autocast(vectors.device.type, enabled=False):
            loss = label_loss(
                self.heads(vectors.float(), batch.facts),
                batch.values,
                batch.weights,
                self.targets,
                self.counts,
                label_smoothing=self.options.label_smoothing,
            )
        self.losses.add({"loss": loss.detach()})
        return loss

    def on_train_epoch_end(self) -> None:
        """Compute the validation metrics, and add the epoch to the history."""
        loss = self.losses.values()["loss"]
        metrics = _validate(self.encoder, self.heads, self.held_out, self.device)
        self.log_dict({"loss": loss} | metrics)
        done = {"epoch": self.current_epoch + 1, "steps": self.global_step}
        self.history.append(done | {"loss": loss, "learning_rate": self._rate} | metrics)
        self.on_epoch(self.history[-1])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the training history."""
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the training history."""
        self.history = list(checkpoint["history"])

    def configure_optimizers(self) -> Any:
        """Return AdamW with a one-cycle schedule, and a learning rate for each part."""
        optimizer = torch.optim.AdamW(list(self._groups()), weight_decay=self.options.weight_decay)
        return one_cycle(optimizer, int(self.trainer.estimated_stepping_batches))

    def _groups(self) -> Iterator[dict[str, Any]]:
        options = self.options
        assert options.encoder_lr_scale is not None, "resolve_finetuning_options() comes before"
        yield {"params": list(self.heads.parameters()), "lr": options.learning_rate}
        for depth, part in enumerate(encoder_parts(self.encoder)):
            slower = _SLOWER**depth if options.unfreeze == "discriminative" else 1.0
            yield {"params": part, "lr": options.learning_rate * options.encoder_lr_scale / slower}

    def transfer_batch_to_device(
        self, batch: LabelledBatch, device: torch.device, _: int
    ) -> LabelledBatch:
        """Move a batch, for Lightning."""
        return batch.to(device)
