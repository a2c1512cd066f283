"""`seqmel finetune`: which of its arguments is what, and what its options may be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seqmel.cli.log import logged
from seqmel.config import Config
from seqmel.core.errors import ConfigError
from seqmel.data.tables.labels import Task
from seqmel.model import load_model
from seqmel.training.finetuning.finetune import UNREAD, finetune

__all__ = ["finetune_files"]


def finetune_files(
    inputs: Sequence[str],
    targets: Sequence[str],
    output: Path,
    *,
    from_scratch: bool,
    settings: Sequence[str],
    config: Config,
    task: Task,
    weight: str | None,
    client: str | None,
    overwrite: bool,
    resume: bool,
    log: Path | None,
) -> None:
    """Fine-tune the model that the arguments name, or none, and say how well it does."""
    for setting in settings:
        section = setting.partition("=")[0].partition(".")[0].strip()
        if section in UNREAD:
            raise ConfigError(
                f"--set {setting}: {section} is about training without labels. Fine-tuning has finetuning.* instead."
            )
    model, events, labels = _inputs(inputs, from_scratch=from_scratch)
    options = {
        "model": model, "events": events, "labels": labels, "output": output, "targets": targets, "task": task,
        "weight": weight, "resume": resume, "config": config.to_dict(),
    }  # fmt: skip
    with logged(log, "finetune", options) as progress:
        finetune(
            load_model(model) if model else None, events, labels, output, targets=targets, task=task, weight=weight,
            client=client, config=config, overwrite=overwrite, resume=resume, progress=progress,
        )  # fmt: skip
    metrics = load_model(output).metrics
    figures = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in metrics["held_out"].items())
    held_out = f" ({metrics['clients_held_out']:,} clients held out: {figures})" if figures else ""
    print(f"model in {output}{held_out}; next: seqmel predict {output} {events} -o scores.parquet")


def _inputs(inputs: Sequence[str], *, from_scratch: bool) -> tuple[str | None, str, str]:
    if from_scratch and len(inputs) == 2:
        return None, inputs[0], inputs[1]
    if not from_scratch and len(inputs) == 3:
        return inputs[0], inputs[1], inputs[2]
    wanted = "EVENTS LABELS" if from_scratch else "MODEL EVENTS LABELS"
    hint = (
        ""
        if from_scratch or len(inputs) != 2
        else " Without a model, to learn from the labels alone, add --from-scratch."
    )
    raise ConfigError(
        f"finetune wants {wanted}{' with --from-scratch' if from_scratch else ''}; found {' '.join(inputs)}.{hint}"
    )
