"""Two processes that share every batch learn what one process learns from the whole batch."""

from __future__ import annotations

import functools
import json
import os
import socket
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forked
import pyarrow.parquet as pq
import pytest
import torch
import torch.multiprocessing as mp
from safetensors.torch import load_file
from small import SCHEMA, card_events, fitted, sequences, tiny_config
from torch import Tensor

from seqmel.cli.launching import _environment
from seqmel.config import Config, methods, read_config
from seqmel.core import distributed as parallel
from seqmel.core.errors import ConfigError
from seqmel.core.random_streams import generator
from seqmel.data.samplers import OfflineHardSampler
from seqmel.data.sequences.batch import SequenceBatch
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.vocabulary import Vocabulary
from seqmel.nn.encoder import SequenceEncoder
from seqmel.objectives import Objective, next_sequence, replaced_token
from seqmel.objectives.losses import LOSSES
from seqmel.objectives.miners import MINERS
from seqmel.objectives.parts import sample_other_views
from seqmel.objectives.replaced_token import corrupted
from seqmel.training.batches import resolve_auto_options
from seqmel.training.offline import OfflineMining
from seqmel.training.run import train

PARTS = {
    "infonce": {"objective": "coles"},
    "contrastive, with a memory": {
        "objective": "coles",
        "loss": "contrastive",
        "miner": {"name": "hard_negatives", "memory": 16},
    },
    ("margin, with a learnt boundary"): {
        "objective": "coles",
        "loss": {"name": "margin", "learn_beta": True},
        "miner": "all_negatives",
    },
    "triplet": {"objective": "coles", "loss": "triplet", "miner": "batch_hard"},
    "vicreg": {"objective": "coles", "loss": "vicreg"},
    "views that are no runs": {"objective": "coles", "views": {"name": "random_samples"}},
    "event_prediction": {"objective": "event_prediction"},
    "next_event": {"objective": "next_event"},
    "sequence_order": {"objective": "sequence_order"},
    "nested sizes": {"objective": "coles", "embedding_dim": 16, "matryoshka": [8]},
    "two parts": {"objective": ["coles", "event_prediction"]},
    # all, so that chance has no part
    "masked_events": {"objective": {"name": "masked_events", "mask_ratio": 0.999}},
    "supervised_contrastive": {
        "objective": {"name": "supervised_contrastive", "labels": "labels", "target": "class"}
    },
    "classification": {
        "objective": {"name": "classification", "labels": "labels", "target": "class"}
    },
    "two parts with labels": {
        "objective": [
            {
                "name": "supervised_contrastive",
                "labels": "labels",
                "target": "class",
                "weight": 0.5,
            },
            {
                "name": "classification",
                "labels": "labels",
                "target": "class",
                "class_weight": "balanced",
            },
        ]
    },
    **{name: {"objective": name} for name in ("cpc", "replaced_token", "next_sequence")},
    **{f"loss {name}": {"objective": "coles", "loss": name} for name in LOSSES},
    **{
        (f"miner {name}"): {
            "objective": "coles",
            "loss": {"pairs": "contrastive", "triplets": "triplet"}[miner().gives],
            "miner": name,
        }
        for name, miner in MINERS.items()
    },
}
EPOCHS = 4
CLIENTS = 7  # shared as 4 and 3, with views of different numbers and lengths


def same_swaps(
    events: SequenceBatch, share: float, feature_fraction: float, *, source: str | None = None
) -> tuple[SequenceBatch, Tensor]:
    """In place of chance: events of some categories pass for changed ones."""
    return events, events.columns["mcc"] % 2 == 0


def same_others(clients: Tensor, views: Tensor) -> Tensor:
    """In place of chance: a view of the next client among those that one of two processes has."""
    known, own = clients[views].unique(return_inverse=True)
    begin, size = torch.zeros_like(own), torch.full_like(own, len(known))
    if len(known) == CLIENTS:  # one process: those that the first of two would have, and the others
        begin, size = 4 * (own >= 4), torch.where(own < 4, 4, CLIENTS - 4)
    following = begin + (own - begin + 1) % size
    return views[torch.searchsorted(own, following)]


def learnt(options: dict[str, Any]) -> dict[str, Any]:
    """Return losses of two steps, the averaged gradient of the second, and the memory."""
    replaced_token.corrupted, next_sequence.sample_other_views = same_swaps, same_others
    try:
        return _learnt(options)
    finally:
        replaced_token.corrupted, next_sequence.sample_other_views = corrupted, sample_other_views


@functools.cache
def prepared(clients: int) -> tuple[Vocabulary, EncodedSequences]:
    """The vocabulary and the sequences of so many clients."""
    events = card_events(clients)
    vocabulary = fitted(events, SCHEMA, min_count=2)
    return vocabulary, sequences(events, SCHEMA, vocabulary)


def _learnt(options: dict[str, Any]) -> dict[str, Any]:
    config = tiny_config(**options)
    vocabulary, encoded = prepared(16)
    config = resolve_auto_options(config, encoded)
    torch.manual_seed(0)
    encoder = SequenceEncoder(config, vocabulary)
    objective = Objective(
        config, vocabulary, encoder, codes=dict.fromkeys(config.labelled, torch.arange(16) % 3 - 1)
    )
    for (
        part
    ) in objective.parts.values():  # the decoder begins with zeros, which would hide its gradient
        for weights in part.parameters():
            torch.nn.init.normal_(weights, std=0.1) if weights.dim() > 1 else None
    losses = []
    for step in range(2):
        encoder.zero_grad()
        objective.zero_grad()
        encoder.eval()  # dropout is drawn by each rank for itself
        torch.manual_seed(7 + parallel.current_rank().index)
        objective.seed(8, "cpu")
        batch = objective.draw(encoded, torch.arange(step, step + CLIENTS), generator(0, step))
        parts = objective.losses(encoder, batch)
        loss = objective.total(parts)
        loss.backward()
        losses.append(loss.item())
    gradients = {}
    for name, weights in [*encoder.named_parameters(), *objective.named_parameters()]:
        gradient = torch.zeros_like(weights) if weights.grad is None else weights.grad
        if parallel.is_distributed():
            torch.distributed.all_reduce(gradient)
            gradient = gradient / parallel.current_rank().count
        gradients[name] = gradient
    memory = {name: value.clone() for name, value in objective.named_buffers() if "memory" in name}
    return {"losses": losses, "gradients": gradients, "memory": memory}


def _as_rank(index: int, count: int, port: int, folder: Path, work: Callable[[], Any]) -> None:
    os.environ |= {
        "RANK": str(index),
        "LOCAL_RANK": str(index),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    with parallel.process_group(torch.device("cpu")):
        torch.save(work(), folder / f"{index}.pt")


def _all_learnt() -> dict[str, Any]:
    return {name: learnt(options) for name, options in PARTS.items()}


def _uneven() -> dict[str, Any]:
    rank = parallel.current_rank()
    rows = torch.full((3 * rank.index, 2), float(rank.index), requires_grad=True)
    found = parallel.all_gather_with_grad(rows)
    (found * torch.arange(1.0, 7.0).reshape(3, 2)).sum().backward()
    nothing = parallel.all_reduce_mean(torch.zeros(()), 0)
    return {"rows": found.detach(), "gradient": rows.grad, "nothing": float(nothing)}


def mined() -> Tensor:
    """The pool of a sampler before the second epoch."""
    config = tiny_config(sampler="offline_hard")
    vocabulary, encoded = prepared(17)
    torch.manual_seed(0)
    encoder = SequenceEncoder(config, vocabulary)
    sampler = OfflineHardSampler(
        encoded, vocabulary, torch.arange(2, 17), size=6, group=4, pool_size=9
    )
    epoch: Any = SimpleNamespace(current_epoch=1)
    OfflineMining(sampler, encoded, encoder, config, torch.device("cpu")).on_train_epoch_start(
        epoch, epoch
    )
    assert sampler.pool is not None
    return sampler.pool


def _all_work() -> dict[str, Any]:
    first = parallel.broadcast_from_rank0(torch.tensor([7, parallel.current_rank().index]))
    return {"learnt": _all_learnt(), "uneven": _uneven(), "mined": mined(), "first": first}


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("ranks")
    mp.start_processes(
        _as_rank, args=(2, free_port(), folder, _all_work), nprocs=2, start_method="forkserver"
    )
    return [torch.load(folder / f"{index}.pt") for index in range(2)]


@pytest.mark.parametrize("name", PARTS)
def test_loss_gradient_and_memory_are_those_of_one_process_with_the_whole_batch(
    name: str, two: list[dict[str, Any]]
) -> None:
    alone = learnt(PARTS[name])
    assert any(float(gradient.abs().max()) > 1e-4 for gradient in alone["gradients"].values())
    for found in (rank["learnt"][name] for rank in two):
        assert found["losses"] == pytest.approx(alone["losses"], abs=1e-6, rel=1e-5)
        assert found["gradients"].keys() == alone["gradients"].keys()
        for weights, gradient in alone["gradients"].items():
            largest = float(gradient.abs().max())
            torch.testing.assert_close(
                found["gradients"][weights], gradient, atol=1e-6 * max(1, 10 * largest), rtol=1e-4
            )
        for buffer, value in alone["memory"].items():
            torch.testing.assert_close(found["memory"][buffer], value, atol=1e-6, rtol=1e-5)


def test_every_objective_loss_and_miner_is_tested() -> None:
    configs = [tiny_config(**options) for options in PARTS.values()]
    assert {part.name for config in configs for part in config.objective} == set(
        methods()["objective"]
    )
    assert {config.loss.name for config in configs} == set(LOSSES)
    assert {config.miner.name for config in configs if config.miner} == set(MINERS)


def test_a_rank_without_rows_takes_part(two: list[dict[str, Any]]) -> None:
    none, three = (rank["uneven"] for rank in two)
    assert torch.equal(none["rows"], torch.ones(3, 2))
    assert none["gradient"].shape == (0, 2)
    assert torch.equal(three["gradient"], 2 * torch.arange(1.0, 7.0).reshape(3, 2))
    assert three["nothing"] == none["nothing"] == 0.0


def test_every_rank_has_the_order_of_the_first_which_is_that_of_one_process(
    two: list[dict[str, Any]],
) -> None:
    assert [rank["first"].tolist() for rank in two] == [[7, 0], [7, 0]]
    assert [rank["mined"].tolist() for rank in two] == 2 * [mined().tolist()]


# --------------------------------------------------------------------------------------------------
# the command


def options(**training: int) -> list[str]:
    """Options of a training on few clients, tiny and without dropout."""
    chosen = [
        "seed=0",
        "device=cpu",
        "precision=32-true",
        "encoder.name=gru",
        "encoder.hidden_size=16",
    ]
    chosen += [
        "event_encoder.hidden_size=16",
        "event_encoder.category_dropout=0.0",
        "preparation.threads=1",
        "training.batch_size=7",
    ]
    return [
        *chosen,
        "training.validation_fraction=0.3",
        *(f"training.{name}={value}" for name, value in training.items()),
    ]


def words(tmp_path: Path, *arguments: object) -> list[object]:
    """`seqmel train` with these."""
    settings = [word for option in options() for word in ("--set", option)]
    return ["train", tmp_path / "events.parquet", *settings, *arguments]


def started(tmp_path: Path, *arguments: object) -> list[BaseProcess]:
    """`seqmel train` as its launcher starts it on two devices; the first leaves what it says."""
    port = free_port()
    return [
        forked.start(
            *words(tmp_path, *arguments, "--devices", 2),
            environment=_environment(rank, 2, port) | {"OMP_NUM_THREADS": "1"},
            **({"out": tmp_path / "out", "err": tmp_path / "err"} if rank == 0 else {}),
        )
        for rank in range(2)
    ]


@pytest.mark.slow
def test_two_devices_that_were_killed_and_resumed_train_the_model_of_one_that_was_not(
    tmp_path: Path,
) -> None:
    pq.write_table(card_events(24), tmp_path / "events.parquet")
    arguments = ("-o", tmp_path / "two", "--epochs", EPOCHS)
    last = tmp_path / "two.partial" / "checkpoints" / "last.ckpt"
    running = started(tmp_path, *arguments)
    while not last.exists() and all(process.is_alive() for process in running):
        time.sleep(0.005)
    for process in running:
        process.kill()
        process.join()
    assert not (tmp_path / "two").exists()
    for said in ("out", "err"):
        (tmp_path / said).unlink()
    for process in (resumed := started(tmp_path, *arguments, "--resume")):
        process.join()
    out, err = ((tmp_path / said).read_text("utf-8") for said in ("out", "err"))
    assert [process.exitcode for process in resumed] == [0, 0], err
    assert out.count("model in") == 1
    assert 0 < err.count(" clients held out), distance") < EPOCHS
    train(
        tmp_path / "events.parquet",
        tmp_path / "one",
        config=read_config(None, options(epochs=EPOCHS)),
    )
    one, two = (load_file(str(tmp_path / name / "model.safetensors")) for name in ("one", "two"))
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, atol=1e-4, rtol=1e-3)
    histories = [
        json.loads((tmp_path / name / "metrics.json").read_text())["history"]
        for name in ("one", "two")
    ]
    assert len(histories[1]) == EPOCHS
    for first, second in zip(*histories, strict=True):
        assert second == pytest.approx(first, rel=1e-3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("err", "events.parquet", "one", "out", "two")
    ]


def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    pq.write_table(card_events(4).drop_columns("client_id"), tmp_path / "events.parquet")
    done = forked.run(*words(tmp_path, "-o", tmp_path / "model", "--devices", 2))
    assert done.returncode == 2
    assert done.stderr.startswith("seqmel: Found no client column")
    assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == [tmp_path / "events.parquet"]


def test_one_process_cannot_be_several_devices(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="seqmel train --devices"):
        train(card_events(8), tmp_path / "model", config=Config(devices=2))
