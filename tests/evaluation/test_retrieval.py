"""Retrieval: two disjoint parts per client, the requested number of clients, unseen clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
import torch
from small import SCHEMA, card_events, sequences, tiny_config

from seqmel.core.errors import ConfigError, InputError
from seqmel.data.views import Views
from seqmel.evaluation.retrieval import _Drawn, _embed_views, evaluate_retrieval, halves, two_slices
from seqmel.model import Model, load_model
from seqmel.report.searches import explore
from seqmel.report.writing import _held_out
from seqmel.training.run import prepare, train

LENGTHS = torch.tensor([2, 3, 5, 8, 40, 500])
CLIENTS = torch.arange(len(LENGTHS))


def _events_of(views: Views) -> list[set[int]]:
    return [
        set(range(s, s + n))
        for s, n in zip(views.starts.tolist(), views.lengths.tolist(), strict=True)
    ]


def test_halves_are_the_whole_sequence_and_the_query_is_the_later_one() -> None:
    query, gallery = (_events_of(views) for views in halves(CLIENTS, LENGTHS))
    for later, earlier, n in zip(query, gallery, LENGTHS.tolist(), strict=True):
        assert later | earlier == set(range(n))
        assert max(earlier) < min(later)


def test_two_slices_share_no_event_and_come_in_both_orders() -> None:
    random = torch.Generator().manual_seed(0)
    firsts = []
    for _ in range(200):
        a, b = two_slices(CLIENTS, LENGTHS, min_length=3, max_length=20, generator=random)
        for one, other, n in zip(_events_of(a), _events_of(b), LENGTHS.tolist(), strict=True):
            assert not one & other
            assert one | other <= set(range(n))
            assert all(min(3, n // 2) <= len(events) <= min(20, n // 2) for events in (one, other))
        firsts.append((a.starts < b.starts).float())
    assert torch.stack(firsts).mean(0).min() > 0.3
    assert torch.stack(firsts).mean(0).max() < 0.7


def test_a_stream_is_sampled_as_if_it_had_been_seen_whole() -> None:
    keys = torch.rand(1_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = _Drawn(50)
    taken = 0
    for part in torch.arange(1_000).split(170):
        able = part % 3 != 0
        chosen = drawn.wanted(keys[part], able)
        taken += len(chosen)
        drawn.add(keys[part][chosen], part[chosen].float()[:, None])
    able = torch.arange(1_000)[torch.arange(1_000) % 3 != 0]
    expected = able[keys[able].argsort()[:50]]
    assert set(drawn.parts[0][:, 0].long().tolist()) == set(expected.tolist())
    assert taken < 300


def test_a_part_has_the_vector_of_these_events_alone(model: Model) -> None:
    whole = sequences(card_events(), SCHEMA, model.vocabulary)
    everything = Views(torch.arange(len(whole)), torch.zeros_like(whole.lengths), whole.lengths)
    found = _embed_views(model, whole, everything, torch.device("cpu"))
    with torch.inference_mode():
        vectors = model.encoder.encode(
            whole.gather_last(torch.arange(len(whole)), max_events=10_000)
        )
    assert torch.allclose(found, vectors, atol=1e-5)


def test_the_events_of_the_training_are_recognised_as_such(model: Model) -> None:
    found = evaluate_retrieval(model, card_events(), min_events=4, device="cpu")
    assert found.held_out is False
    assert "TRAINING CLIENTS" in found.clients_in_words
    assert found.clients + found.too_short == 24


def test_training_clients_are_left_out_when_they_are_named(model: Model) -> None:
    events, trained = card_events(40, seed=5), card_events()
    found = evaluate_retrieval(model, events, min_events=4, trained_on=trained, device="cpu")
    assert (found.trained_on, found.held_out) == (24, True)
    new = events.filter(
        pc.invert(pc.is_in(events["client_id"], value_set=trained["client_id"].unique()))
    )
    alone = evaluate_retrieval(model, new, min_events=4, device="cpu")
    assert alone.held_out is None
    assert "not known" in alone.clients_in_words
    assert alone.clients == found.clients


@pytest.mark.parametrize("parts", ["views", "halves", "slices"])
def test_the_same_seed_gives_the_same_figures(model: Model, parts: str) -> None:
    options = {"clients": 15, "min_events": 4, "parts": parts, "device": "cpu", "seed": 2}
    first, again = (evaluate_retrieval(model, card_events(40, seed=5), **options) for _ in range(2))  # type: ignore[arg-type]
    assert first == again
    assert first.clients == 15
    assert 1 / 15 <= first.figures["map"].mean <= 1
    assert [name for name in first.figures if name.startswith("recall")] == [
        "recall@1",
        "recall@5",
        "recall@10",
    ]


def test_prepared_sequences_give_what_their_events_give(model: Model, tmp_path: Path) -> None:
    events = card_events(30, seed=5)
    prepare(events, tmp_path / "sequences", config=model.config, model=model)
    found, prepared = (
        evaluate_retrieval(model, given, min_events=4, device="cpu")
        for given in (events, tmp_path / "sequences")
    )
    assert found.figures["map"].mean == pytest.approx(prepared.figures["map"].mean, abs=1e-6)


@pytest.mark.parametrize("parts", ["views", "halves"])
def test_a_stream_in_chunks_gives_what_one_chunk_gives(
    parts: str, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sequences(card_events(40, seed=5), SCHEMA, model.vocabulary)
    options = {"clients": 12, "min_events": 4, "parts": parts, "device": "cpu"}
    found = []
    for size in (40, 7):
        chunks = [whole.subset(part) for part in torch.arange(40).split(size)]
        monkeypatch.setattr(
            "seqmel.evaluation.retrieval.sequence_chunks", lambda *_, c=chunks: (40, iter(c))
        )
        found.append(evaluate_retrieval(model, "given", **options))  # type: ignore[arg-type]
    assert found[0].figures["map"].mean == pytest.approx(found[1].figures["map"].mean, abs=1e-6)


@pytest.mark.parametrize("objective", [{}, {"head_size": None, "curvature": 2.0}], ids=str)
def test_training_report_and_retrieval_name_one_recall(
    objective: dict[str, Any], tmp_path: Path
) -> None:
    """Of the clients held out, by the weights of the epoch that was kept."""
    events = card_events(120, seed=3)
    trained = load_model(
        train(
            events,
            tmp_path / "model",
            config=tiny_config(
                schema={"numeric_by": {"reading": "mcc"}}, objective={"name": "coles"} | objective
            ),
        )
    )
    (epoch,) = trained.metrics["history"]
    every = prepare(events, tmp_path / "sequences", config=trained.config, model=trained).sequences
    held_out = _held_out(trained, every)
    assert held_out is not None
    assert len(held_out) == epoch["clients_held_out"] == 36
    explorer = explore(trained, every, 0, device=torch.device("cpu"), held_out=held_out)
    assert explorer is not None
    recall = {fact.name: fact.value for fact in explorer.facts}["recall@1"]
    assert recall == f"{epoch['recall_at_1']:.3f}"
    of_them = events.filter(
        pc.is_in(events["client_id"], value_set=held_out.client_ids.combine_chunks())
    )
    found = evaluate_retrieval(trained, of_them, device="cpu")
    assert found.clients == 36
    assert found.figures["recall@1"].mean == pytest.approx(epoch["recall_at_1"])
    assert found.figures["recall@10"].mean == pytest.approx(epoch["recall_at_10"])
    halves_only = evaluate_retrieval(trained, of_them, parts="halves", min_events=2, device="cpu")
    assert halves_only.figures["recall@1"].mean != found.figures["recall@1"].mean


def test_the_report_knows_who_was_held_out_by_the_events_of_the_training_alone(
    model: Model, tmp_path: Path
) -> None:
    own, other = (
        prepare(events, tmp_path / name, config=model.config, model=model).sequences
        for name, events in (("own", card_events()), ("other", card_events(30, seed=5)))
    )
    held_out = _held_out(model, own)
    assert held_out is not None
    assert len(held_out) == model.metrics["history"][0]["clients_held_out"]
    assert _held_out(model, other) is None


def test_what_cannot_be_measured_is_refused(model: Model) -> None:
    with pytest.raises(InputError, match="Only 0 clients are left of 24"):
        evaluate_retrieval(model, card_events(), min_events=1_000, device="cpu")
    for options in (
        {"clients": 3},
        {"min_events": 1},
        {"parts": "thirds"},
        {"at": (0,)},
        {"seed": -1},
    ):
        with pytest.raises(ConfigError, match="Expected"):
            evaluate_retrieval(model, card_events(), **options)  # type: ignore[arg-type]
    assert np.isfinite(
        evaluate_retrieval(model, card_events(), min_events=4, device="cpu").verification.auroc
    )
