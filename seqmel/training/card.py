"""The model card and the training curves: what a person looks at in a model folder."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from seqmel.core.errors import shown
from seqmel.data.tables.targets import Target
from seqmel.model import Model
from seqmel.training.time_alone import TimeAlone

__all__ = ["draw_curves", "finetuned_card", "kept_epoch", "model_card"]


def model_card(model: Model) -> str:
    """The card as Markdown: what went in, how it was trained, what came out, how to use it."""
    from seqmel.core.version import __version__

    config, metrics, history = model.config, model.metrics, model.metrics["history"]
    kept = kept_epoch(history) or (history or [{}])[-1]
    figures = "\n".join(
        f"| {name.replace('_', ' ')} | {value:.4g} |" for name, value in kept.items() if name != "epoch"
    )
    which = f"epoch {kept['epoch']:.0f} of {len(history)}, which was kept" if kept else "not trained"
    return f"""# Embeddings of `{model.schema.client}` by seqmel {__version__}

{metrics["embedding_dim"]} numbers a client, from {metrics["events"]:,} events of {metrics["clients"]:,} clients.

    seqmel embed <this folder> EVENTS -o embeddings.parquet

{_columns(model)}
Encoder {config.encoder.name}, pooling {" + ".join(config.pooling)}, {metrics["parameters"]:,} weights. Objective {" + ".join(part.name for part in config.objective)}, loss
{config.loss.name}{f" and miner {config.miner.name}" if config.miner else ""}; {config.views.count} {config.views.name.replace("_", " ")} of {config.views.min_length} to {config.views.max_length} events a client, {config.training.batch_size} clients a batch, seed {config.seed}.
Trained in {metrics["seconds"]:,.0f} s. All options are in `config.json`, all epochs in `metrics.json` and in the picture.

| {which} | |
|---|---|
{figures}
{_time_alone(metrics)}
![training curves](curves.png)

{_LIMITS}
"""


def _time_alone(metrics: dict[str, Any]) -> str:
    """A line on how well clients are recognised by time alone; nothing where it was not measured."""
    found = metrics.get("time_alone")
    return f"\n{TimeAlone(**found)}.\n" if found else ""


def kept_epoch(history: list[dict[str, float]]) -> dict[str, float] | None:
    """The epoch whose weights were kept, the first of the best recall; None where no client was held out, and the last was."""
    watched = [row for row in history if "recall_at_1" in row]
    return max(watched, key=lambda row: row["recall_at_1"], default=None)


_LIMITS = """What it was not made for: clients of another kind than those it was trained on, and columns whose meaning has changed since.
Values that training did not see count as "unseen or rare"; the vocabulary does not change."""


def _columns(model: Model) -> str:
    columns = "\n".join(f"| `{name}` | {words} |" for name, words in model.vocabulary.describe().items())
    left_out = "".join(f"| `{name}` | left out: {why} |\n" for name, why in model.schema.left_out.items())
    return f"""| column | what it is to the model |
|---|---|
| `{model.schema.client}` | the client |
| `{model.schema.time}` | the time ({model.schema.time_kind}) |
{columns}
{left_out}"""


def finetuned_card(model: Model) -> str:
    """The card of a model that predicts: of what, learnt from whom, and how well on the clients held out."""
    from seqmel.core.version import __version__

    config, metrics, options = model.config, model.metrics, model.config.finetuning
    targets = "\n".join(f"| `{t.name}` | {_target(t)} |" for t in model.targets)
    rows = "\n".join(
        f"| {name.replace('_', ' ')} | {metrics['frozen'][name]:.4g} | {value:.4g} |"
        for name, value in metrics["held_out"].items()
    )
    figures = (
        f"| clients held out | encoder as it was | this model |\n|---|---|---|\n{rows}"
        if rows
        else "No client was held out."
    )
    heads_alone = options.unfreeze == "head" or not options.epochs
    return f"""# Predictions for `{model.schema.client}` by seqmel {__version__}

    seqmel predict <this folder> EVENTS -o scores.parquet
    seqmel embed <this folder> EVENTS -o embeddings.parquet

| target | what it is |
|---|---|
{targets}

Learnt from {_learnt_from(metrics, everyone=heads_alone and not options.calibrate)}, with {"an encoder that was trained without labels" if metrics["pretraining"] else "a new encoder"}.

{figures}

{_who_chose(heads_alone=heads_alone, calibrated=options.calibrate)}

{_columns(model)}
Encoder {config.encoder.name}, pooling {" + ".join(config.pooling)}, {metrics["parameters"]:,} weights; {_how(model)}, seed {config.seed}.
Trained in {metrics["seconds"]:,.0f} s. All options are in `config.json`, all epochs in `metrics.json`.

{_LIMITS}
"""


def _learnt_from(metrics: Mapping[str, Any], *, everyone: bool) -> str:
    clients, held_out = metrics["clients"], metrics["clients_held_out"]
    if everyone and held_out:
        return f"{clients + held_out:,} labelled clients; the figures are of {held_out:,} of them, by heads that had not seen these"
    return f"{clients:,} labelled clients, {held_out:,} more held out"


def _who_chose(*, heads_alone: bool, calibrated: bool) -> str:
    """What the clients held out decided, so that nobody takes their figures for those of new clients."""
    chosen = [
        *([] if heads_alone else ["the epoch"]),
        *(["the temperature of the probabilities"] if calibrated else []),
    ]
    if not chosen:
        return "The clients held out chose nothing, and once they were measured the heads were learnt from them too."
    return f"The clients held out chose {' and '.join(chosen)}, so these figures are a little better than those of new clients."


def _target(target: Target) -> str:
    if not target.classes:
        return f"a quantity, {target.center:.4g} on average"
    sure = f"; probabilities calibrated with temperature {target.temperature:.3g}" if target.temperature != 1 else ""
    return f"one of {shown(map(str, target.classes))}{sure}"


def _how(model: Model) -> str:
    options = model.config.finetuning
    if options.unfreeze == "head":
        return "the encoder frozen, the heads solved exactly"
    return (
        f"unfrozen: {options.unfreeze}, {len(model.metrics['history'])} epochs of {options.batch_size} clients a batch"
    )


def draw_curves(
    history: list[dict[str, float]], names: tuple[str, ...] = ("loss", "recall_at_1", "effective_rank")
) -> bytes | None:
    """These figures by epoch, as a PNG; those that the history lacks are left out."""
    if not history:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    there = [n for n in names if n in history[0]]
    figure = Figure(figsize=(3.6 * len(there), 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(1, len(there), squeeze=False)[0]
    for axis, name in zip(axes, there, strict=True):
        axis.plot([row["epoch"] for row in history], [row[name] for row in history], marker="o", color="#2a6f97")
        axis.set_title(name.replace("_at_", "@").replace("_", " "), fontsize=10)
        axis.set_xlabel("epoch")
        axis.spines[["top", "right"]].set_visible(False)
        axis.xaxis.get_major_locator().set_params(integer=True)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=110)
    return drawn.getvalue()
