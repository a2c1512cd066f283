"""CoLES: views pass encoder and head, and each loss and miner separates the clients."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import pytest
import torch
from small import SCHEMA, batch_of, card_events, fitted, sequences, tiny_config, vocabulary_of

from seqmel.config.options.base import Options
from seqmel.config.options.losses import AnyLossOptions, PMLOptions
from seqmel.config.options.miners import AnyMinerOptions
from seqmel.config.options.views import AnyViewsOptions
from seqmel.data.views import VIEWS
from seqmel.nn.encoder import SequenceEncoder
from seqmel.objectives import Encoded, Objective, ViewBatch
from seqmel.objectives.coles import CoLES
from seqmel.objectives.losses import LOSSES, InfoNCELoss
from seqmel.objectives.miners import MINERS
from seqmel.training.batches import resolve_auto_options

COMBINATIONS: list[dict[str, Any]] = [
    *({"loss": loss} for loss in sorted(LOSSES) if LOSSES[loss]().takes == "batch"),
    *(
        {"loss": loss, "miner": {"name": miner, "memory": memory}}
        for loss, miner, memory in itertools.product(sorted(LOSSES), sorted(MINERS), (0, 20))
        if LOSSES[loss]().takes == MINERS[miner]().gives
    ),
    {"loss": {"name": "contrastive", "reduction": "sum"}, "miner": "random_negatives"},
]
"""Every loss with every miner that it may have."""


@pytest.mark.parametrize("options", COMBINATIONS, ids=str)
def test_the_loss_is_finite_and_reaches_all_weights(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    config = tiny_config(**options)
    encoder = SequenceEncoder(config, vocabulary_of())
    part = CoLES(config, embedding_size=encoder.vector_size)
    batch = ViewBatch.of(batch_of([5, 9, 2, 7, 4, 6]), torch.tensor([3, 3, 8, 8, 1, 1]))
    loss = part(Encoded(encoder, batch))
    loss.backward()
    assert loss.isfinite()
    weights = {**dict(encoder.named_parameters()), **dict(part.named_parameters())}
    assert [
        name for name, w in weights.items() if w.grad is None or not w.grad.isfinite().all()
    ] == []
    assert any(w.grad.abs().sum() > 0 for w in part.head.parameters())


@pytest.mark.parametrize("options", COMBINATIONS, ids=str)
def test_following_the_gradient_lowers_the_loss_and_recognises_clients(
    options: dict[str, Any],
) -> None:
    torch.manual_seed(0)
    config = tiny_config(**options)
    encoder = SequenceEncoder(config, vocabulary_of())
    part = CoLES(config, embedding_size=encoder.vector_size)
    batch = ViewBatch.of(batch_of([9] * 12), torch.arange(12) // 2)
    optimizer = torch.optim.Adam([*encoder.parameters(), *part.parameters()], lr=1e-2)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        torch.manual_seed(1)  # the same random negatives at every step
        loss = part(Encoded(encoder, batch))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert torch.tensor(losses).isfinite().all()


@pytest.mark.parametrize("name", sorted(VIEWS))
@pytest.mark.parametrize(
    "modifiers", [{}, {"event_dropout": 0.3, "day_dropout": 0.3, "shuffle": True}], ids=str
)
def test_views_of_every_kind_are_trained_on(name: str, modifiers: dict[str, Any]) -> None:
    events = card_events(12)
    vocabulary = fitted(events, SCHEMA, min_count=2)
    held = sequences(events, SCHEMA, vocabulary)
    config = resolve_auto_options(
        tiny_config(views={"name": name, "count": 3, "min_length": 2, **modifiers}), held
    )
    encoder = SequenceEncoder(config, vocabulary)
    objective = Objective(config, vocabulary, encoder)
    batch = objective.draw(held, torch.tensor([7, 2, 9, 0]), torch.Generator().manual_seed(0))
    assert set(batch.clients.tolist()) == {7, 2, 9, 0}
    loss = objective.total(objective.losses(encoder, batch))
    loss.backward()
    assert loss > 0
    assert all(w.grad is None or w.grad.isfinite().all() for w in encoder.parameters())


def arguments(options: type[Options]) -> dict[str, Any]:
    """Return the default options of a method, without its name and the memory."""
    fields = options.model_fields.items()
    elsewhere = ("name", "memory", "shift_clock")  # `CoLES` and `Objective` read these themselves
    return {name: field.default for name, field in fields if name not in elsewhere}


UNIONS = {
    "losses": (AnyLossOptions, LOSSES),
    "miners": (AnyMinerOptions, MINERS),
    "views": (AnyViewsOptions, VIEWS),
}


@pytest.mark.parametrize("kind", UNIONS)
def test_the_options_of_the_config_are_the_arguments_of_the_classes_with_the_same_defaults(
    kind: str,
) -> None:
    union, classes = UNIONS[kind]
    named = {
        get_args(o.model_fields["name"].annotation)[0]: o
        for o in get_args(union)
        if o is not PMLOptions
    }
    assert set(named) == set(classes)
    for name, options in named.items():
        settled = {
            n: v for n, v in arguments(options).items() if n not in ("min_length", "max_length")
        }
        one, other = classes[name](**settled), classes[name]()
        state = {n: str(v) for n, v in vars(one).items() if n not in ("_parameters", "_buffers")}
        assert state == {
            n: str(v) for n, v in vars(other).items() if n not in ("_parameters", "_buffers")
        }, name
        for said in ("takes", "gives", "hyperbolic"):
            assert getattr(options, said, None) == getattr(classes[name], said, None)


def test_a_memory_is_filled_in_training_and_only_there_and_comes_back_with_a_checkpoint() -> None:
    torch.manual_seed(0)
    config = tiny_config(loss="contrastive", miner={"memory": 8})
    encoder = SequenceEncoder(config, vocabulary_of())
    part, again = (CoLES(config, embedding_size=encoder.vector_size) for _ in range(2))
    batch = ViewBatch.of(batch_of([5, 9, 2, 7, 4, 6]), torch.tensor([3, 3, 8, 8, 1, 1]))
    assert part.memory is not None
    part.eval()(Encoded(encoder.eval(), batch))
    assert set(part.memory.clients.tolist()) == {-1}
    others = ViewBatch.of(batch.sequences, batch.clients + 20)
    for given, filled in ((batch, 6), (batch, 6), (others, 8)):
        part.train()(Encoded(encoder, given)).backward()
        assert int((part.memory.clients >= 0).sum()) == filled
    again.load_state_dict(part.state_dict())
    assert torch.equal(part.eval()(Encoded(encoder, batch)), again.eval()(Encoded(encoder, batch)))


def test_the_margin_follows_the_share_of_the_training_that_is_done() -> None:
    config = tiny_config(objective="coles", views={"min_length": 2, "max_length": 9}, loss=GROWING)
    encoder = SequenceEncoder(config, vocabulary_of()).eval()
    objective = Objective(config, vocabulary_of(), encoder)
    batch = ViewBatch.of(batch_of([9] * 6), torch.arange(6) // 2)
    found = []
    for objective.progress in (0.0, 0.5, 1.0):
        found.append(objective.losses(encoder, batch)["coles"].item())
    assert found == sorted(found)
    assert found[2] > found[0]


GROWING = {"name": "triplet", "margin": 0.8, "margin_start": 0.0}


def test_without_a_head_the_loss_compares_the_vectors_themselves() -> None:
    config = tiny_config(loss="contrastive", miner={"name": "hard_negatives", "memory": 4})
    encoder = SequenceEncoder(config, vocabulary_of())
    memory = CoLES(config, embedding_size=encoder.vector_size, head_size=None).memory
    assert memory is not None
    assert memory.embeddings.shape == (4, encoder.vector_size)
    part = CoLES(tiny_config(), embedding_size=encoder.vector_size, head_size=None)
    batch = ViewBatch.of(batch_of([5, 9, 2, 7, 4, 6]), torch.tensor([3, 3, 8, 8, 1, 1]))
    assert not list(part.parameters())
    encoded = Encoded(encoder, batch)
    vectors = torch.nn.functional.normalize(encoded.vectors.float(), dim=1)
    assert torch.equal(part(encoded), InfoNCELoss()(vectors, batch.clients))


@pytest.mark.parametrize("options", [{"loss": "infonce"}, {"loss": "triplet"}], ids=str)
def test_with_a_curvature_points_of_the_ball_are_compared_also_under_bfloat16(
    options: dict[str, Any],
) -> None:
    torch.manual_seed(0)
    config = tiny_config(**options)
    encoder = SequenceEncoder(config, vocabulary_of()).eval()
    part = CoLES(config, embedding_size=encoder.vector_size, head_size=None, curvature=0.5)
    batch = ViewBatch.of(batch_of([5, 9, 2, 7, 4, 6]), torch.tensor([3, 3, 8, 8, 1, 1]))
    loss = part(Encoded(encoder, batch))
    loss.backward()
    assert all(w.grad is None or w.grad.isfinite().all() for w in encoder.parameters())
    seen: list[torch.Tensor] = []
    part.loss.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = part(Encoded(encoder, batch))
        assert part.ball is not None
        torch.testing.assert_close(seen[0], part.ball.points(encoder.encode(batch.sequences)))
    assert seen[0].dtype == torch.float32
    torch.testing.assert_close(rough, loss, atol=0.05, rtol=0.1)
