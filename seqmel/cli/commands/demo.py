"""`seqmel demo`: the main job on generated data, with the files left to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmel.cli.arguments import Overwrite
from seqmel.core.errors import shell_words
from seqmel.core.units import count_words

__all__ = ["DEMO_OPTIONS", "demo"]

DEMO_OPTIONS = {"training": {"epochs": 8, "batch_size": 32}}
"""Shortens the demo; everything else has its default."""

_TARGETS = ("gender", "age_group")


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path(
        "seqmel-demo"
    ),
    clients: Annotated[int, typer.Option(help="Number of clients to generate.", min=200)] = 3000,
    seed: Annotated[int, typer.Option(help="Seed of the data and the training.", min=0)] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Generate card data, train, embed, score and draw: the main job in one command."""
    import time

    from seqmel.cli.commands.evaluate import feature_sets, print_scores
    from seqmel.config import Config
    from seqmel.core.atomic_files import atomic_write, check_output
    from seqmel.core.progress import console_progress
    from seqmel.data.tables.labels import read_labels
    from seqmel.demo.generator import generate_card_data
    from seqmel.demo.picture import draw_demo
    from seqmel.evaluation.feature_sets import BASELINES, standard_rows
    from seqmel.evaluation.scoring import score
    from seqmel.inference.embed import embed_to_parquet
    from seqmel.model import load_model
    from seqmel.training.run import train

    check_output(output, overwrite=overwrite, folder=True)
    began = time.monotonic()
    progress = console_progress()
    with atomic_write(output) as folder:
        data = generate_card_data(clients, seed=seed)
        data.write(folder)
        progress.say(
            f"generated {len(data.events):,} card transactions of "
            f"{count_words(len(data.clients), 'client')}"
        )
        events = str(folder / "events.parquet")
        vectors = str(folder / "embeddings.parquet")
        config = Config.from_dict({"seed": seed, **DEMO_OPTIONS})
        model = load_model(train(events, folder / "model", config=config, progress=progress))
        embed_to_parquet(model, events, vectors, progress=progress)
        sets = feature_sets([vectors], events, config, progress)
        # LightGBM on the joined columns would take half of the scoring time
        sets = {name: sets[name] for name in (*BASELINES, "embeddings")}
        labels = [read_labels(folder / "clients.parquet", target) for target in _TARGETS]
        probes, averages = standard_rows(sets)
        found = [
            score(
                y, sets, probes=probes, averages=averages, seed=seed, trees=160, progress=progress
            )
            for y in labels
        ]
        draw_demo(folder / "demo.png", found, sets["embeddings"], labels, model.metrics["history"])
    print_scores(found)
    typer.echo(_next_steps(output, time.monotonic() - began))


def _next_steps(output: Path, seconds: float) -> str:
    training = DEMO_OPTIONS["training"]
    options = f" --epochs {training['epochs']} --batch-size {training['batch_size']}"
    events, clients = (shell_words(output / f"{name}.parquet") for name in ("events", "clients"))
    return f"""\
Done in {seconds:.0f} s. See {output}/demo.png, and the model card {output}/model/README.md.
The same step by step; put your own events and labels in their place:

  seqmel train {events} -o model{options}
  seqmel embed model {events} -o embeddings.parquet
  seqmel evaluate {clients} --target gender --embeddings embeddings.parquet --events {events}
"""
