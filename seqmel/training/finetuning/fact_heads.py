"""Train the deep part of heads with facts on the vectors of a frozen encoder.

It learns what the linear part lacks. Its inputs are fixed, so an epoch takes a moment. The epoch
with the lowest validation loss is kept if that is lower than without the deep part by more than two
standard errors of the difference. Else the linear part stays alone: among some hundred clients, the
lowest of many losses is mostly luck.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seqmel.core.random_streams import Stream, generator
from seqmel.nn.joint_heads import JointHeads
from seqmel.training.finetuning.finetune_metrics import HeldOut, label_loss, target_losses
from seqmel.training.finetuning.labelled import Labelled

__all__ = ["fit_deep_part"]

_BATCH = 256
_MOST_STEPS = 1_000
_PATIENCE = 8
_MAX_EPOCHS = 100
_WEIGHT_DECAY = 1e-2
_RATE = 1e-3
_ERRORS = 2.0  # standard errors


def fit_deep_part(
    heads: JointHeads, vectors: Tensor, training: Labelled, others: Tensor, held_out: HeldOut
) -> None:
    """Train all but the linear part in place.

    Args:
        heads: Heads on the CPU, with a solved linear part.
        vectors: (L, D), the vectors of the training samples.
        training: The training samples, with facts.
        others: (V, D), the vectors of the validation samples.
        held_out: The validation samples.
    """
    assert training.facts is not None, "heads with facts are for samples with facts"
    seed = held_out.config.seed
    learnt = [weight for name, weight in heads.named_parameters() if not name.startswith("linear.")]
    optimizer = torch.optim.AdamW(learnt, lr=_RATE, weight_decay=_WEIGHT_DECAY)
    count = max(1, len(training) // _BATCH)
    epochs = max(1, min(_MAX_EPOCHS, _MOST_STEPS // count))
    start = _losses(heads, others, held_out)
    linear = _copy(heads)
    best = start
    kept = linear
    waited = 0
    for epoch in range(epochs):
        heads.train()
        torch.manual_seed(generator(seed, Stream.FACT_BATCHES, epoch, 1).initial_seed())
        order = torch.randperm(len(training), generator=generator(seed, Stream.FACT_BATCHES, epoch))
        for places in order.tensor_split(count):
            outputs = heads(vectors[places], training.facts[places])
            loss = label_loss(
                outputs,
                training.values[places],
                training.weights[places],
                training.targets,
                torch.ones_like(held_out.class_weights),  # the weights of the samples have them
            )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learnt, held_out.config.finetuning.gradient_clip)
            optimizer.step()
        heads.eval()
        found = _losses(heads, others, held_out)
        if found.sum() < best.sum():
            best = found
            kept = _copy(heads)
            waited = 0
        else:
            waited += 1
            if waited >= _PATIENCE:
                break
    gain = start - best
    clear = gain.sum() > _ERRORS * gain.std() * len(gain) ** 0.5
    heads.load_state_dict(kept if clear else linear)
    heads.eval()


@torch.no_grad()
def _losses(heads: JointHeads, vectors: Tensor, held_out: HeldOut) -> Tensor:
    """Return (V,) what each validation sample adds to the validation loss."""
    heads.eval()
    labelled = held_out.labelled
    total = torch.zeros(len(held_out))
    outputs = heads(vectors, labelled.facts)
    for column, (target, out) in enumerate(zip(labelled.targets, outputs, strict=True)):
        weights, losses = target_losses(
            out,
            labelled.values[:, column],
            labelled.weights[:, column],
            target,
            held_out.class_weights[column],
        )
        total += weights * losses / weights.sum().clamp(min=1e-12)
    return total / len(labelled.targets)


def _copy(heads: JointHeads) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in heads.state_dict().items()}
