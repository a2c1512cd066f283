"""Fit heads, and the encoder below them, to labels: heads solved exactly first, then gentle steps of all that learns."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import Tensor, nn

from seqmel.config import Config
from seqmel.config.options.training import FinetuningOptions
from seqmel.core.device import limit_onednn_cache, resolve_device, tune_malloc, with_own_defaults
from seqmel.core.linear_models import MAX_CLIENTS
from seqmel.core.progress import Progress, silent
from seqmel.core.random_streams import Stream, generator
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.tables.targets import Target
from seqmel.inference.embed import embed_sequences
from seqmel.nn.encoder import SequenceEncoder
from seqmel.nn.heads import Heads
from seqmel.training.finetuning.finetune_metrics import HeldOut, calibrated, label_loss
from seqmel.training.finetuning.labelled import Labelled, LabelledBatch, LabelledBatches, class_weights, hold_out
from seqmel.training.finetuning.linear_heads import solve_heads
from seqmel.training.fit import EpochReport, MonitoredMetric, make_trainer, restore, run_trainer, silence_lightning
from seqmel.training.module import RunningMeans, one_cycle

__all__ = ["Finetuned", "encoder_parts", "fit_labels", "settle_finetuning"]

_MONITOR = "validation_loss"
_STEPS, _LEAST_EPOCHS, _MOST_EPOCHS = 600, 3, 10
_ENOUGH = 1_000  # labelled clients to tune a trained encoder with: docs/results.md, fine-tuning
_MANY = 2_500  # to tune it as fast as a new one: the same place
_SLOWER = 2.6  # each part nearer to the events, as in ULMFiT (Howard, Ruder, arXiv 1801.06146)


@dataclass(frozen=True)
class Finetuned:
    """What fine-tuning gives.

    Attributes:
        encoder, heads: in evaluation mode, on the CPU.
        targets: calibrated where that was asked for.
        frozen: figures of the clients held out, with the encoder as it was; empty if none were held out.
        held_out: the same at the end.
        history: one row an epoch.
        clients: how many were learnt from, and how many held out.
    """

    encoder: SequenceEncoder
    heads: Heads
    targets: tuple[Target, ...]
    frozen: dict[str, float]
    held_out: dict[str, float]
    history: list[dict[str, float]]
    clients: tuple[int, int]


def settle_finetuning(config: Config, clients: int, *, new: bool) -> Config:
    """The config with what learns, the number of epochs and the encoder's rate filled in.

    What learns, where it is "auto": the heads alone where the encoder was trained, fewer than 1,000 clients are labelled,
    and neither epochs nor the encoder's rate ask for more; else the encoder too. With fewer labels the clients held out are
    too few to tell a better epoch from a worse one.

    Args:
        config: all options.
        clients: how many are labelled.
        new: the encoder was never trained.
    """
    options = config.finetuning
    steps = max(1, -(-round(clients * (1 - options.validation_fraction)) // options.batch_size))
    epochs = min(_MOST_EPOCHS, max(_LEAST_EPOCHS, -(-_STEPS // steps))) if options.epochs is None else options.epochs
    rate = (1.0 if new or clients >= _MANY else 0.1) if options.encoder_lr_scale is None else options.encoder_lr_scale
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
    checkpoints: Path | None = None,
    progress: Progress = silent,
) -> Finetuned:
    """Learn labels on top of an encoder, which is changed in place; the best epoch by validation loss is kept.

    The heads on the encoder as it was count as an epoch too: where tuning does not help, it changes nothing. Where only
    heads learn, nothing is chosen by the clients held out, so that once measured they are learnt from too (but not where
    they calibrate).

    Args:
        encoder: trained, or new.
        sequences: of all clients, encoded with the encoder's vocabulary.
        labelled: from `label`.
        config: all options, settled.
        checkpoints: a folder for checkpoints; where it holds some, training goes on from the last.
        progress: where to report to.

    Raises:
        TrainingError: a loss that is out of all bounds.
        ConfigError: a device that is not there.
    """
    device, options = resolve_device(config.device), config.finetuning
    tune_malloc()
    limit_onednn_cache(recurrent=config.recurrent)
    placed = sequences.to(device) if config.training.storage == "device" else sequences
    training, validation = hold_out(labelled, options.validation_fraction, seed=config.seed)
    counts = class_weights(training) if options.class_weight else torch.ones_like(class_weights(training))
    held_out = HeldOut(placed.subset(validation.clients), validation, counts, config)
    with torch.random.fork_rng(), silence_lightning():
        torch.manual_seed(config.seed)
        encoder = encoder.to(device).eval()
        heads = _solved(encoder, placed, training, counts, config, device)
        frozen = _look(encoder, heads, held_out, device)
        watched = f" ({len(held_out):,} clients held out)" if len(held_out) else ""
        progress.say(f"heads on the encoder as it is{_words(frozen)}{watched}")
        history = []
        heads_alone = options.unfreeze == "head" or not options.epochs
        if heads_alone and len(held_out) and not options.calibrate:
            everyone = class_weights(labelled) if options.class_weight else counts
            heads = _solved(encoder, placed, labelled, everyone, config, device)
        elif not heads_alone:
            history = _tune(encoder, heads, placed, training, held_out, frozen, checkpoints, progress)
    encoder, heads = encoder.cpu().eval().requires_grad_(True), heads.cpu().eval()
    targets = labelled.targets
    if options.calibrate and len(held_out):
        targets = calibrated(targets, held_out.outputs(encoder, heads, torch.device("cpu")), validation)
        validation = Labelled(targets, validation.clients, validation.values, validation.weights)
        held_out = HeldOut(sequences.subset(validation.clients), validation, counts, config)
    found = frozen if heads_alone else _look(encoder, heads, held_out, torch.device("cpu"))
    return Finetuned(encoder, heads, targets, frozen, found, history, (len(training), len(validation)))


def _solved(
    encoder: SequenceEncoder,
    sequences: EncodedSequences,
    training: Labelled,
    counts: Tensor,
    config: Config,
    device: torch.device,
) -> Heads:
    """Heads on `device`, solved on the vectors of the encoder as it is."""
    chosen = (
        torch.randperm(len(training), generator=generator(config.seed, Stream.PROBE_CLIENTS))[:MAX_CLIENTS]
        .sort()
        .values
    )
    part = training[chosen]
    by_class = torch.stack([counts[t][part.values[:, t].long() if target.classes else torch.zeros(len(part)).long()]
                            for t, target in enumerate(part.targets)], dim=1)  # fmt: skip
    part = Labelled(part.targets, part.clients, part.values, part.weights * by_class)
    heads = Heads(encoder.output_size, [t.size for t in part.targets], dropout=config.finetuning.dropout)
    vectors = embed_sequences(encoder, sequences.subset(part.clients), config, device=device)
    solve_heads(heads, vectors, part, seed=config.seed)
    return heads.to(device)


def _look(encoder: SequenceEncoder, heads: Heads, held_out: HeldOut, device: torch.device) -> dict[str, float]:
    return held_out.figures(held_out.outputs(encoder, heads, device)) if len(held_out) else {}


def _tune(
    encoder: SequenceEncoder,
    heads: Heads,
    sequences: EncodedSequences,
    training: Labelled,
    held_out: HeldOut,
    frozen: dict[str, float],
    checkpoints: Path | None,
    progress: Progress,
) -> list[dict[str, float]]:
    """Tune both in place, and go back to the best epoch, or to where it began."""
    config = held_out.config
    options = config.finetuning
    report = EpochReport(progress, options, words=_words)
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
        progress.say("no epoch is better than the encoder as it was, which is kept")
        module.load_state_dict(before)
    return module.history


def _words(row: dict[str, float]) -> str:
    """The held-out figures of a row, for a line."""
    shown = [f"{name.replace('_', ' ')} {value:.4g}" for name, value in row.items() if name not in _NO_WORDS]
    return "".join(f", {words}" for words in shown)


_NO_WORDS = ("epoch", "steps", "loss", "learning_rate")


def encoder_parts(encoder: nn.Module) -> list[list[nn.Parameter]]:
    """The weights of an encoder in parts, from the vector down to the events: what pools and projects, the sequence
    encoder, the network of an event, and its embeddings. Parts without weights are left out.
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
    """Encoder and heads, learning together; `on_epoch` is told of each row of the history."""

    def __init__(
        self,
        encoder: SequenceEncoder,
        heads: Heads,
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
        """Dropout draws from torch's own state; after a resume it has to be where it would have been."""
        torch.manual_seed(generator(self.seed, Stream.FINETUNE_DROPOUT, self.current_epoch).initial_seed())
        self.losses.clear()
        for depth, part in enumerate(encoder_parts(self.encoder)):
            learns = self.options.unfreeze != "gradual" or depth <= self.current_epoch
            for weight in part:
                weight.requires_grad_(learns)

    def training_step(self, batch: LabelledBatch, _: int) -> Tensor:
        """The loss of a batch; behind the encoder in float32."""
        self._rate = float(
            self.trainer.optimizers[0].param_groups[0]["lr"]
        )  # the scheduler steps before the epoch ends
        vectors = self.encoder.embed(batch.sequences)
        with torch.autocast(vectors.device.type, enabled=False):
            loss = label_loss(
                self.heads(vectors.float()), batch.values, batch.weights, self.targets, self.counts,
                label_smoothing=self.options.label_smoothing,
            )  # fmt: skip
        self.losses.add({"loss": loss.detach()})
        return loss

    def on_train_epoch_end(self) -> None:
        """Look at the clients held out, and add the epoch to the history."""
        loss = self.losses.values()["loss"]
        figures = _look(self.encoder, self.heads, self.held_out, self.device)
        self.log_dict({"loss": loss} | figures)
        done = {"epoch": self.current_epoch + 1, "steps": self.global_step}
        self.history.append(done | {"loss": loss, "learning_rate": self._rate} | figures)
        self.on_epoch(self.history[-1])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The history belongs to the state."""
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """And comes back with it."""
        self.history = list(checkpoint["history"])

    def configure_optimizers(self) -> Any:
        """AdamW on one cycle: up over the first tenth of the steps, then down along a cosine; a rate for each part."""
        optimizer = torch.optim.AdamW(list(self._groups()), weight_decay=self.options.weight_decay)
        return one_cycle(optimizer, int(self.trainer.estimated_stepping_batches))

    def _groups(self) -> Iterator[dict[str, Any]]:
        options = self.options
        assert options.encoder_lr_scale is not None, "settle_finetuning() comes before"
        yield {"params": list(self.heads.parameters()), "lr": options.learning_rate}
        for depth, part in enumerate(encoder_parts(self.encoder)):
            slower = _SLOWER**depth if options.unfreeze == "discriminative" else 1.0
            yield {"params": part, "lr": options.learning_rate * options.encoder_lr_scale / slower}

    def transfer_batch_to_device(self, batch: LabelledBatch, device: torch.device, _: int) -> LabelledBatch:
        """Batches know how to move themselves."""
        return batch.to(device)
