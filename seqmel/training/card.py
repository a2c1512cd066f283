"""The model card and the training curves: what a person looks at in a model folder."""

from __future__ import annotations

import io
from typing import Any

from seqmel.model import Model

__all__ = ["draw_curves", "model_card"]


def model_card(model: Model) -> str:
    """The card as Markdown: what went in, how it was trained, what came out, how to use it."""
    from seqmel import __version__

    config, metrics, last = model.config, model.metrics, (model.metrics["history"] or [{}])[-1]
    columns = "\n".join(f"| `{name}` | {words} |" for name, words in model.vocabulary.describe().items())
    left_out = "".join(f"| `{name}` | left out: {why} |\n" for name, why in model.schema.left_out.items())
    figures = "\n".join(f"| {name.replace('_', ' ')} | {value:.4g} |" for name, value in last.items())
    return f"""# Embeddings of `{model.schema.client}` by seqmel {__version__}

{metrics["embedding_dim"]} numbers a client, from {metrics["events"]:,} events of {metrics["clients"]:,} clients.

    seqmel embed <this folder> EVENTS -o embeddings.parquet

| column | what it is to the model |
|---|---|
| `{model.schema.client}` | the client |
| `{model.schema.time}` | the time ({model.schema.time_unit}) |
{columns}
{left_out}
Encoder {config.encoder.name}, pooling {" + ".join(config.pooling)}, {metrics["parameters"]:,} weights. Objective {config.objective.name} with loss
{config.loss.name}{f" and miner {config.miner.name}" if config.miner else ""}; {config.views.count} {config.views.name.replace("_", " ")} of {config.views.min_length} to {config.views.max_length} events a client, {config.training.batch_size} clients a batch, seed {config.seed}.
Trained in {metrics["seconds"]:,.0f} s. All options are in `config.json`, all epochs in `metrics.json` and in the picture.

| last epoch | |
|---|---|
{figures}

![training curves](curves.png)

What it was not made for: clients of another kind than those it was trained on, and columns whose meaning has changed since.
Values that training did not see count as "unseen or rare"; the vocabulary does not change.
"""


def draw_curves(history: list[dict[str, float]]) -> bytes | None:
    """Loss, recall and effective rank by epoch, as a PNG."""
    if not history:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [n for n in ("loss", "recall_at_1", "effective_rank") if n in history[0]]
    figure = Figure(figsize=(3.6 * len(names), 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(1, len(names), squeeze=False)[0]
    for axis, name in zip(axes, names, strict=True):
        axis.plot([row["epoch"] for row in history], [row[name] for row in history], marker="o", color="#2a6f97")
        axis.set_title(name.replace("_at_", "@").replace("_", " "), fontsize=10)
        axis.set_xlabel("epoch")
        axis.spines[["top", "right"]].set_visible(False)
        axis.xaxis.get_major_locator().set_params(integer=True)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=110)
    return drawn.getvalue()
