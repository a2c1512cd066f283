"""The model card and the training curves of a model folder."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

from seqmel.core.colours import COLOURS
from seqmel.core.errors import shown
from seqmel.core.units import count_words
from seqmel.data.tables.targets import Target
from seqmel.model import TrainedModel
from seqmel.training.time_alone import TimeAlone

__all__ = ["draw_curves", "finetuned_card", "kept_epoch", "model_card"]


def model_card(model: TrainedModel) -> str:
    """Return the card of an embedding model as Markdown."""
    from seqmel.core.version import __version__

    config = model.config
    metrics = model.metrics
    history = metrics["history"]
    best = kept_epoch(history) or (history or [{}])[-1]
    figures = "\n".join(
        f"| {name.replace('_', ' ')} | {value:.4g} |"
        for name, value in best.items()
        if name != "epoch"
    )
    which = (
        f"epoch {best['epoch']:.0f} of {len(history)}, which was kept" if best else "not trained"
    )
    return f"""# Embeddings of `{model.schema.client}` by seqmel {__version__}

Embeddings have {count_words(model.encoder.output_size, "dimension")}. They come from {
        count_words(metrics["events"], "event")
    } of {count_words(metrics["clients"], "client")}.

    seqmel embed <this folder> EVENTS -o embeddings.parquet

{_columns(model)}
Encoder {config.encoder.name}, pooling {" + ".join(config.pooling)}, {
        count_words(metrics["parameters"], "weight")
    }. Objective {" + ".join(part.name for part in config.objective)}, loss
{config.loss.name}{(f" and miner {config.miner.name}") if config.miner else ""}; {
        config.views.count
    } {config.views.name.replace("_", " ")} of {config.views.min_length} to {
        config.views.max_length
    } events per client, {count_words(config.training.batch_size, "client")} per batch, seed {
        config.seed
    }.
Trained in {
        metrics[
            "seconds"
        ]:,.0f} s. All options are in `config.json`, all epochs in `metrics.json` and in the plot.

| {which} | |
|---|---|
{figures}
{_time_alone(metrics)}
![training curves](curves.png)

{_LIMITS}
"""


def _time_alone(metrics: dict[str, Any]) -> str:
    """A line on how well clients are recognised by time alone.

    Nothing where it was not measured.
    """
    found = metrics.get("time_alone")
    return f"\n{TimeAlone(**found)}.\n" if found else ""


def kept_epoch(history: list[dict[str, float]]) -> dict[str, float] | None:
    """Return the epoch with the best recall, the first of equals.

    None without a validation split.
    """
    watched = [row for row in history if "recall_at_1" in row]
    return max(watched, key=lambda row: row["recall_at_1"], default=None)


_LIMITS = """Not suitable for clients unlike those of the training data, or columns whose meaning
has changed since. Values that training did not see count as "unseen or rare"; the vocabulary does
not change."""


def _columns(model: TrainedModel) -> str:
    columns = "\n".join(
        f"| `{name}` | {words} |" for name, words in model.vocabulary.describe().items()
    )
    left_out = "".join(
        f"| `{name}` | left out: {why} |\n" for name, why in model.schema.left_out.items()
    )
    return f"""| column | role in the model |
|---|---|
| `{model.schema.client}` | the client |
| `{model.schema.time}` | the time ({model.schema.time_kind}) |
{columns}
{left_out}"""


def finetuned_card(model: TrainedModel) -> str:
    """Return the card of a fine-tuned model as Markdown."""
    from seqmel.core.version import __version__

    config = model.config
    metrics = model.metrics
    options = config.finetuning
    targets = "\n".join(f"| `{t.name}` | {_target_words(t)} |" for t in model.targets)
    rows = "\n".join(
        f"| {name.replace('_', ' ')} | {metrics['frozen'][name]:.4g} | {value:.4g} |"
        for name, value in metrics["held_out"].items()
    )
    figures = (
        f"| clients held out | encoder before fine-tuning | this model |\n|---|---|---|\n{rows}"
        if rows
        else "No client was held out."
    )
    frozen = options.unfreeze == "head" or not options.epochs
    heads_alone = frozen and model.heads is not None and model.heads.is_linear
    facts = _facts(model)
    facts_given = " --facts FACTS" if facts else ""
    kept = metrics.get("encoder_kept", False)
    linear = model.heads is not None and model.heads.is_linear
    everyone = (frozen or kept) and linear and not options.calibrate
    refitted = everyone and not frozen
    return f"""# Predictions for `{model.schema.client}` by seqmel {__version__}

    seqmel predict <this folder> EVENTS{facts_given} -o scores.parquet
    seqmel embed <this folder> EVENTS -o embeddings.parquet

| target | description |
|---|---|
{targets}

Trained on {_trained_on(metrics, everyone=everyone)}, with {
        ("a pretrained encoder") if metrics["pretraining"] else "a new encoder"
    }.

{figures}

{_held_out_words(heads_alone=heads_alone, calibrated=options.calibrate, refitted=refitted)}

{_columns(model)}{facts}
Encoder {config.encoder.name}, pooling {" + ".join(config.pooling)}, {
        count_words(metrics["parameters"], "weight")
    }; {_training_words(model)}, seed {config.seed}.
Trained in {
        metrics["seconds"]:,.0f} s. All options are in `config.json`, all epochs in `metrics.json`.

{_LIMITS}
"""


def _facts(model: TrainedModel) -> str:
    """Return the table of facts; nothing for a model without."""
    if model.facts is None:
        return ""
    rows = [
        f"| `{fact.name}` | a number, {fact.edges[0]:.4g} to {fact.edges[-1]:.4g} |"
        if fact.edges
        else f"| `{fact.name}` | whether there is a number |"
        for fact in model.facts.numbers
    ]
    rows += [
        f"| `{fact.name}` | a category, {count_words(len(fact.values), 'value')} |"
        for fact in model.facts.categories
    ]
    return "\n".join(["", "| fact about the client | contents |", "|---|---|", *rows, ""])


def _trained_on(metrics: Mapping[str, Any], *, everyone: bool) -> str:
    clients = metrics["clients"]
    held_out = metrics["clients_held_out"]
    if "rows" in metrics:
        rows = metrics["rows"]
        others = metrics["rows_held_out"]
        return (
            f"{count_words(rows, 'moment')} of {clients:,} labelled clients, "
            f"{count_words(others, 'moment')} of {held_out:,} more clients held out (each history "
            "cut strictly before its moment: predict with `--as-of`)"
        )
    if everyone and held_out:
        return (
            f"{clients + held_out:,} labelled clients; the metrics are of {held_out:,} of "
            "them, by heads that had not seen these"
        )
    return f"{clients:,} labelled clients, {held_out:,} more held out"


def _held_out_words(*, heads_alone: bool, calibrated: bool, refitted: bool) -> str:
    """Say what the clients held out decided, and so how far their metrics can be trusted."""
    chosen = [
        *([] if heads_alone else ["the epoch"]),
        *(["the temperature of the probabilities"] if calibrated else []),
    ]
    if not chosen:
        return (
            "The clients held out chose nothing. After they were measured, the heads were "
            "trained on them too."
        )
    words = (
        f"The clients held out chose {' and '.join(chosen)}, so these metrics are slightly "
        f"optimistic."
    )
    if refitted:
        words += (
            " No epoch improved on the encoder as it was, so it was kept, and the heads were "
            "trained on all clients."
        )
    return words


def _target_words(target: Target) -> str:
    if target.edges:
        bins = f"in {len(target.edges)} bins" if len(target.edges) > 1 else "in one bin"
        return f"the time to an event, {bins} up to {target.edges[-1]:g}"
    if not target.classes:
        if target.has_log_link:
            return f"a quantity, {target.scale:.4g} on average, learnt by {target.loss} deviance"
        if target.loss == "quantile":
            return f"the {target.quantile:g} quantile of a quantity, {target.center:.4g} on average"
        if target.log:
            return (
                "a quantity with a heavy tail, learnt as log(1 + y), "
                f"{math.expm1(target.center):.4g} in the middle"
            )
        return f"a quantity, {target.center:.4g} on average"
    sure = (
        f"; probabilities calibrated with temperature {target.temperature:.3g}"
        if target.temperature != 1
        else ""
    )
    return f"one of {shown(map(str, target.classes))}{sure}"


def _training_words(model: TrainedModel) -> str:
    options = model.config.finetuning
    if options.unfreeze == "head":
        return "the encoder frozen, the heads solved exactly"
    return (
        f"unfrozen: {options.unfreeze}, {count_words(len(model.metrics['history']), 'epoch')} of "
        f"{count_words(options.batch_size, 'client')} per batch"
    )


def draw_curves(
    history: list[dict[str, float]],
    names: tuple[str, ...] = ("loss", "recall_at_1", "effective_rank"),
    *,
    kept: dict[str, float] | None = None,
) -> bytes | None:
    """Plot metrics by epoch as a PNG; None without epochs.

    Args:
        history: The metrics of each epoch.
        names: The metrics; those that the history lacks are left out.
        kept: The epoch that was kept, which is marked; None marks none.
    """
    if not history:
        return None
    drawn = io.BytesIO()
    curve_figure(history, names, kept).savefig(drawn, format="png", dpi=110)
    return drawn.getvalue()


def curve_figure(
    history: list[dict[str, float]], names: tuple[str, ...], kept: dict[str, float] | None
) -> Any:
    """Return the figure of `draw_curves`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    plotted = [n for n in names if n in history[0]]
    figure = Figure(figsize=(3.6 * len(plotted), 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(1, len(plotted), squeeze=False)[0]
    for axis, name in zip(axes, plotted, strict=True):
        axis.plot(
            [row["epoch"] for row in history],
            [row[name] for row in history],
            marker="o",
            color=COLOURS[0],
        )
        axis.set_title(name.replace("_at_", "@").replace("_", " "), fontsize=10)
        axis.set_xlabel("epoch")
        if kept is not None:
            axis.axvline(kept["epoch"], color=COLOURS[1], linestyle="--", linewidth=1)
            axis.set_xlabel(f"epoch (kept: {kept['epoch']:.0f})")
        axis.spines[["top", "right"]].set_visible(False)
        axis.xaxis.get_major_locator().set_params(integer=True)
    return figure
