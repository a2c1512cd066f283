"""python on_card.py SECTIONS [DEVICE]: two steps with each method, on the CPU and a fake GPU.

SECTIONS are some sections of the config, separated by commas: loss,miner.

Prints a line for each that is not the same, makes the host wait for the card within a step, or has
a sum without an order;
exits 1 if there is one. With DEVICE, such as cuda, the same on a real one, twice: the same seed
    gives the same numbers.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import torch
from card import CARD, Card, OnCard
from small import CHANGED, SCHEMA, WITH_LABELS, card_events, fitted, sequences, tiny_config
from torch import Tensor, nn

from seqmel.config import Config, methods
from seqmel.config.options.network import RECENT_POOLINGS
from seqmel.core.embedding_metrics import embedding_metrics
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.vocabulary import Vocabulary
from seqmel.inference.embed import embed_sequences
from seqmel.nn.encoder import SequenceEncoder
from seqmel.objectives import Objective
from seqmel.objectives.miners import MINERS
from seqmel.training.batches import TrainingBatches, resolve_auto_options

GRU = {"name": "gru", "hidden_size": 16}
CAUSAL = {"name": "transformer", "hidden_size": 16, "heads": 2, "causal": True}
OTHERS: dict[str, dict[str, Any]] = {
    "a memory": {"loss": "contrastive", "miner": {"name": "hard_negatives", "memory": 16}},
    "two layers": {"encoder": {"name": "lstm", "hidden_size": 16, "layers": 2}},
    "next event, Transformer": {"objective": "next_event", "encoder": CAUSAL},
    "states pooled by themselves": {
        "objective": ["coles", {"name": "next_event", "views": 1}],
        "encoder": GRU | {"input_size": 8, "pooling": "last"},
    },
    "masked events, Transformer": {
        "objective": ["coles", "masked_events"],
        "encoder": CAUSAL | {"causal": False},
    },
    "nested sizes": {"embedding_dim": 32, "matryoshka": [8, 16]},
    "noise": {
        "event_encoder": {"hidden_size": 16, "category_dropout": 0.1, "noise": 0.1, "dropout": 0.1}
    },
    "a schedule": {"loss": {"name": "contrastive", "margin_start": 0.1}},
    "events on the host": {"training": {"storage": "memory", "batch_size": 8, "epochs": 1}},
}


def cases(section: str) -> Iterator[tuple[str, Config]]:
    """Name and config of each case."""
    if section == "others":
        for name, options in OTHERS.items():
            yield name, tiny_config(**{"encoder": "none"} | options)
        return
    for name in methods()[section]:
        options: dict[str, Any] = {}
        if name in WITH_LABELS:
            options = {"objective": {"name": name, "labels": "labels.parquet", "target": "group"}}
        elif section == "objective":
            options = {"objective": name, "encoder": GRU}
        elif section == "encoder":
            options = {"encoder": name if name == "none" else {"name": name, "hidden_size": 16}}
        elif section == "miner":
            loss = {"pairs": "contrastive", "triplets": "triplet"}[MINERS[name]().gives]
            options = {"loss": loss, "miner": name}
        elif name in CHANGED:
            options = CHANGED[name]
        elif name == "pml":
            continue  # the other library's losses wait as they like
        elif name in RECENT_POOLINGS:
            options = {"pooling": ["mean", name]}
        else:
            options = {section: name}
        plain = {} if section in ("encoder", "pooling") else {"pooling": ["mean"]}
        yield name, tiny_config(**{"encoder": "none"} | plain | options)


def trained(
    config: Config,
    held: EncodedSequences,
    vocabulary: Vocabulary,
    device: torch.device | str,
    card: Card | None,
) -> dict[str, Tensor]:
    """The losses of two steps, the vectors and the figures of validation after them."""
    config = resolve_auto_options(config, held)
    torch.manual_seed(0)
    codes = {
        part.name: torch.arange(len(held)) % 3
        for part in config.objective
        if part.name in WITH_LABELS
    }
    encoder = SequenceEncoder(config, vocabulary)
    objective = Objective(config, vocabulary, encoder, codes=codes)
    encoder, objective = encoder.to(device).train(), objective.to(device).train()
    placed = held if config.training.storage == "memory" else held.to(device)
    batches = TrainingBatches(
        placed, vocabulary, torch.arange(len(placed)), objective, config, lambda: 0
    )
    weights = [*encoder.parameters(), *objective.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=1e-3, foreach=False)
    found: dict[str, Tensor] = {}
    torch.manual_seed(1)
    if card is not None:
        card.waits.clear()
    for step, batch in zip(range(2), batches, strict=False):
        with (
            without_waiting(device) if step else contextlib.nullcontext()
        ):  # libraries may wait when they begin
            optimizer.zero_grad()
            loss = objective.total(objective.losses(encoder, batch.to(device)))
            loss.backward()
            nn.utils.clip_grad_norm_(weights, 1.0, foreach=False)
            optimizer.step()
        found[f"loss {step}"] = loss.detach()
    if card is not None and card.waits:
        raise RuntimeError("waits: " + "; ".join(sorted(set(card.waits))))
    if card is not None and card.unordered:
        raise RuntimeError("may differ from run to run: " + "; ".join(sorted(set(card.unordered))))
    encoder.eval()
    with (
        torch.no_grad()
    ):  # without inference mode, which wants to know of tensors what those of the card do not tell
        found["vectors"] = inspect.unwrap(embed_sequences)(encoder, placed, config, device=device)
        drawn = next(iter(batches)).to(device)
        figures = embedding_metrics(encoder.encode(drawn.sequences), drawn.clients)
    return found | {name: torch.tensor(value) for name, value in figures.items()}


@contextlib.contextmanager
def without_waiting(device: torch.device | str) -> Iterator[None]:
    """Within it, what makes the host wait for a real GPU raises."""
    if torch.device(device).type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def on_device(
    config: Config, held: EncodedSequences, vocabulary: Vocabulary, device: str | None
) -> dict[str, Tensor]:
    """What `trained` finds on a real device, or on the card that is not there."""
    if device is not None:
        return {
            name: value.cpu()
            for name, value in trained(config, held, vocabulary, device, None).items()
        }
    with Card() as card:
        found = trained(config, held, vocabulary, CARD, card)
    return {
        name: value.value if isinstance(value, OnCard) else value for name, value in found.items()
    }


def main(sections: str, device: str | None = None) -> int:
    """How many cases failed."""
    events = card_events(40)
    vocabulary = fitted(events, SCHEMA)
    held = sequences(events, SCHEMA, vocabulary)
    failed = 0
    for name, config in itertools.chain.from_iterable(map(cases, sections.split(","))):
        try:
            expected = trained(config, held, vocabulary, "cpu", None)
            given = on_device(config, held, vocabulary, device)
            again = given if device is None else on_device(config, held, vocabulary, device)
            if differing := [
                what for what, value in given.items() if not torch.equal(value, again[what])
            ]:
                raise RuntimeError(f"with the same seed once more, {', '.join(differing)} differ")
            for what, value in given.items():
                torch.testing.assert_close(
                    value, expected[what], rtol=1e-3, atol=1e-4, msg=lambda m, w=what: f"{w}: {m}"
                )
        except Exception as error:
            failed += 1
            places = [
                f"{f.filename}:{f.lineno}"
                for f in traceback.extract_tb(error.__traceback__)
                if "/seqmel/" in f.filename
            ]
            print(f"{name}: {type(error).__name__}: {error} {places[-1:]}")
        else:
            print(f"{name}: the same")
    return failed


if __name__ == "__main__":
    torch.backends.cudnn.allow_tf32 = False  # which training rounds by, and the CPU does not
    sys.exit(1 if main(*sys.argv[1:]) else 0)
