"""`seqmel demo`: the whole story on generated card data, with the files left to look at."""

from __future__ import annotations

import time
from pathlib import Path

from seqmel.cli.evaluate import feature_sets, print_scores
from seqmel.config import Config
from seqmel.core.atomic_files import atomic_write, check_output
from seqmel.core.progress import Progress
from seqmel.data.tables.labels import read_labels
from seqmel.demo.generator import generate_card_data
from seqmel.demo.picture import draw_demo
from seqmel.evaluation.feature_sets import standard_rows
from seqmel.evaluation.scoring import score
from seqmel.inference.embed import embed_to_parquet
from seqmel.model import load_model
from seqmel.training.run import train

__all__ = ["DEMO_OPTIONS", "run_demo"]

DEMO_OPTIONS = {"training": {"epochs": 14, "batch_size": 32}}
"""So that it ends within three minutes on two cores; all else is as it is by default."""

_TARGETS = ("gender", "age_group")


def run_demo(output: Path, *, clients: int, seed: int, overwrite: bool, progress: Progress) -> None:
    """Generate, train, embed, score, draw. Everything lies in `output` at the end."""
    check_output(output, overwrite=overwrite, folder=True)
    began = time.monotonic()
    with atomic_write(output) as folder:
        data = generate_card_data(clients, seed=seed)
        data.write(folder)
        progress.say(f"generated {len(data.events):,} card transactions of {len(data.clients):,} clients")
        events, vectors = str(folder / "events.parquet"), str(folder / "embeddings.parquet")
        config = Config.from_dict({"seed": seed, **DEMO_OPTIONS})
        model = load_model(train(events, folder / "model", config=config, progress=progress))
        embed_to_parquet(model, events, vectors, progress=progress)
        sets = feature_sets([vectors], events, config, progress)
        labels = [read_labels(folder / "clients.parquet", target) for target in _TARGETS]
        probes, averages = standard_rows(sets)
        found = [
            score(y, sets, probes=probes, averages=averages, seed=seed, trees=160, progress=progress) for y in labels
        ]
        draw_demo(folder / "demo.png", found, sets["embeddings"], labels, model.metrics["history"])
    print_scores(found)
    print(_what_next(output, time.monotonic() - began))


def _what_next(output: Path, seconds: float) -> str:
    training = DEMO_OPTIONS["training"]
    options = f" --epochs {training['epochs']} --batch-size {training['batch_size']}"
    return f"""Done in {seconds:.0f} s. Look at {output}/demo.png, and at the model card {output}/model/README.md.
The same by hand, and with your own events and labels in their place:

  seqmel train {output}/events.parquet -o model{options}
  seqmel embed model {output}/events.parquet -o embeddings.parquet
  seqmel evaluate {output}/clients.parquet --target gender --embeddings embeddings.parquet --events {output}/events.parquet
"""
