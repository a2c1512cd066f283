"""PPMI initialisation: counts equal a loop, factors give the matrix, all else is unchanged."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from small import SCHEMA, card_events, fitted, sequences, tiny_config
from torch import Tensor
from torch.nn import functional as F

from seqmel.data.schema import EventSchema
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.sequences.prepared import PreparedSequences
from seqmel.data.vocabulary import Vocabulary
from seqmel.nn.encoder import SequenceEncoder
from seqmel.training import ppmi_init as pretrain
from seqmel.training.finetuning.finetune import finetuned_model
from seqmel.training.fit import fit
from seqmel.training.ppmi_init import cooccurrences, factorise, new_encoder, ppmi

PPMI = {"hidden_size": 16, "category_init": "ppmi"}


def held(clients: int = 20) -> tuple[EncodedSequences, Vocabulary]:
    table = card_events(clients)
    vocabulary = fitted(table, SCHEMA, min_count=2)
    return sequences(table, SCHEMA, vocabulary), vocabulary


def made(events: dict[str, Any], seed: int = 0, **options: Any) -> SequenceEncoder:
    encoded, vocabulary = held()
    torch.manual_seed(7)
    return new_encoder(tiny_config(event_encoder=events, seed=seed, **options), vocabulary, encoded)


def rows(encoder: SequenceEncoder, name: str, size: int) -> Tensor:
    begin = encoder.events.begins[name]
    return encoder.events.table.detach()[begin : begin + size]


def slow_counts(
    encoded: EncodedSequences, clients: Tensor, column: str, window: int
) -> Counter[tuple[int, int]]:
    found: Counter[tuple[int, int]] = Counter()
    for client in clients:
        codes = encoded.values(column, client.unsqueeze(0)).tolist()
        for i, a in enumerate(codes):
            for j, b in enumerate(codes):
                if i != j and abs(i - j) <= window:
                    found[a, b] += 1
    return found


@pytest.mark.parametrize("window", [1, 3, 40])
@pytest.mark.parametrize("at_once", [1, 50, 10_000])
def test_counts_and_mutual_information_are_what_the_equation_says(
    window: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain, "_EVENTS_AT_ONCE", at_once)
    (encoded, vocabulary), clients = held(), torch.tensor([4, 0, 9, 3])
    size = vocabulary.categorical["mcc"].size
    counts = cooccurrences(encoded, clients, "mcc", codes=size, window=window)
    expected = slow_counts(encoded, clients, "mcc", window)
    total = sum(expected.values())
    sums = Counter[int]()
    for (a, _), n in expected.items():
        sums[a] += n
    matrix = ppmi(counts).toarray()
    for a in range(size):
        for b in range(size):
            assert counts.toarray()[a, b] == expected[a, b]
            mutual = (
                math.log(expected[a, b] * total / (sums[a] * sums[b])) if expected[a, b] else 0.0
            )
            assert matrix[a, b] == pytest.approx(max(0.0, mutual))


def test_the_vectors_of_all_sizes_give_the_absolute_value_of_the_matrix() -> None:
    """U S U' of a symmetric matrix is the one with the absolute values of its eigenvalues."""
    encoded, vocabulary = held()
    size = vocabulary.categorical["mcc"].size
    matrix = ppmi(cooccurrences(encoded, torch.arange(20), "mcc", codes=size, window=2))
    values, vectors = np.linalg.eigh(matrix.toarray())
    found = factorise(matrix, 99)
    np.testing.assert_allclose(found @ found.T, vectors * np.abs(values) @ vectors.T, atol=1e-9)
    assert factorise(matrix, 2).shape == (size, 2)
    np.testing.assert_array_equal(factorise(matrix, 3), factorise(matrix, 3))


def in_two_worlds() -> pa.Table:
    """Codes a, b, c stand with x, or p, q, r with y; a and b never with each other."""
    random = np.random.default_rng(0)
    lists = [["x", side] * 6 for side in "abc"] * 8 + [["y", side] * 6 for side in "pqr"] * 8
    kind = [code for codes in lists for code in codes]
    client = np.repeat(np.arange(len(lists)), 12)
    time = np.arange(len(kind)) * 3_600 + random.integers(0, 60, len(kind))
    return pa.table({"c": client, "t": time.astype("datetime64[s]"), "kind": kind})


def test_codes_that_stand_near_the_same_others_begin_near() -> None:
    table, schema = (
        in_two_worlds(),
        EventSchema(client="c", time="t", categorical=("kind",), numeric=()),
    )
    vocabulary = fitted(table, schema)
    encoded = sequences(table, schema, vocabulary)
    config = tiny_config(
        event_encoder={"hidden_size": 64, "category_init": "ppmi", "category_init_window": 1},
        training={"epochs": 0},
    )
    encoder, _ = fit(encoded, vocabulary, config)
    codes = {value: 2 + i for i, value in enumerate(vocabulary.categorical["kind"].values)}
    unit = F.normalize(rows(encoder, "kind", 2 + len(codes)), dim=1)

    def alike(a: str, b: str) -> float:
        return float(unit[codes[a]] @ unit[codes[b]])

    within = [alike(a, b) for world in ("abc", "pqr") for a in world for b in world if a < b]
    across = [alike(a, b) for a in "abcx" for b in "pqry"]
    assert min(within) > max(across) + 0.3


def test_rows_have_the_size_of_random_ones_and_codes_that_were_not_seen_keep_theirs() -> None:
    _, vocabulary = held()
    plain, begun = made({"hidden_size": 16}), made(PPMI)
    for name, codes in vocabulary.categorical.items():
        before, after = rows(plain, name, codes.size), rows(begun, name, codes.size)
        changed = (before != after).any(1)
        assert changed[2:].all()
        assert not changed[1]  # nothing is rare here
        assert float(after[changed].square().mean()) == pytest.approx(1.0, rel=1e-4)


def test_all_else_of_the_encoder_is_as_without_and_the_same_seed_gives_the_same() -> None:
    _, vocabulary = held()
    plain, begun, again, other = (
        made({"hidden_size": 16}),
        made(PPMI),
        made(PPMI),
        made(PPMI, seed=1),
    )
    used = sum(codes.size for codes in vocabulary.categorical.values())
    for name, weights in plain.state_dict().items():
        assert torch.equal(begun.state_dict()[name], again.state_dict()[name])
        part = weights[used:] if name == "events.table" else weights
        assert torch.equal(
            part,
            begun.state_dict()[name][used:] if name == "events.table" else begun.state_dict()[name],
        )
    assert not torch.equal(begun.events.table, other.events.table)
    assert not torch.equal(begun.events.table, plain.events.table)


def test_clients_of_one_event_leave_random_rows() -> None:
    table = card_events(6).slice(0, 60)
    frame = table.to_pandas().drop_duplicates("client_id")
    alone = pa.Table.from_pandas(frame, preserve_index=False)
    vocabulary = fitted(alone, SCHEMA)
    encoded = sequences(alone, SCHEMA, vocabulary)
    torch.manual_seed(0)
    begun = new_encoder(tiny_config(event_encoder=PPMI), vocabulary, encoded)
    torch.manual_seed(0)
    assert torch.equal(
        begun.events.table,
        SequenceEncoder(tiny_config(event_encoder=PPMI), vocabulary).events.table,
    )


def test_only_clients_that_are_trained_on_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded, vocabulary = held()
    seen: list[Tensor] = []
    real = pretrain.cooccurrences
    monkeypatch.setattr(
        pretrain, "cooccurrences", lambda s, c, *a, **k: (seen.append(c), real(s, c, *a, **k))[1]
    )
    fit(
        encoded,
        vocabulary,
        tiny_config(event_encoder=PPMI, training={"epochs": 0, "validation_fraction": 0.3}),
    )
    assert {len(clients) for clients in seen} == {14}


def test_training_from_scratch_on_labels_begins_with_them_too() -> None:
    encoded, vocabulary = held()
    prepared = PreparedSequences(SCHEMA, vocabulary, encoded)
    y = pd.Series([0, 1] * 10, index=encoded.client_ids.to_pandas(), name="y")
    options = {"finetuning": {"epochs": 0}, "encoder": "none"}
    plain, begun = (
        finetuned_model(
            None, prepared, {"y": y}, config=tiny_config(event_encoder=events, **options)
        )
        for events in ({"hidden_size": 16}, PPMI)
    )
    assert not torch.equal(plain.encoder.events.table, begun.encoder.events.table)
