"""Category components are those of latent semantic analysis, and tell clients' tastes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import torch
from small import fitted, tiny_config

import seqmel.nn.category_components
from seqmel.data.encoding.event_encoding import encode
from seqmel.data.schema import EventSchema
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.sources.reading import open_events
from seqmel.data.vocabulary import UNSEEN, Vocabulary
from seqmel.nn.category_components import COMPONENTS, CategoryComponents, columns_of_many
from seqmel.training.category_components_fit import fit_category_components
from seqmel.training.ppmi_init import new_encoder

CLIENTS, FILMS = 80, 60
SCHEMA = EventSchema(
    client="client_id", time="event_time", categorical=("film", "mood"), numeric=(), numeric_by={}
)


def word(number: int) -> str:
    """Return a word for a number; texts with other digits are the same."""
    return "film " + "".join(chr(ord("a") + int(digit)) for digit in str(number))


def events() -> pa.Table:
    """Clients of odd number mostly see odd films, the others even ones; some films lack a name."""
    random = np.random.default_rng(0)
    clients = np.repeat(np.arange(CLIENTS), 12)
    odd = np.where(random.random(len(clients)) < 0.9, clients % 2, 1 - clients % 2)
    films = 2 * random.integers(0, FILMS // 2, len(clients)) + odd
    names = [None if i % 50 == 0 else word(film) for i, film in enumerate(films)]
    hours = np.arange(len(clients)).astype("datetime64[h]").astype("datetime64[us]")
    moods = np.where(clients % 3, "good", "bad")
    return pa.table({"client_id": clients, "event_time": hours, "film": names, "mood": moods})


def vocabulary() -> Vocabulary:
    return fitted(events(), SCHEMA, min_count=4)


def sequences() -> EncodedSequences:
    batches = encode(open_events(events(), client="client_id"), SCHEMA, vocabulary())
    return EncodedSequences.from_batches(list(batches), time="event_time")


def fitted_module() -> CategoryComponents:
    module = CategoryComponents(vocabulary())
    fit_category_components(module, sequences(), torch.arange(CLIENTS))
    return module


def components(clients: torch.Tensor) -> npt.NDArray[np.float32]:
    module = fitted_module()
    batch = sequences().gather_last(clients, max_events=100)
    found: npt.NDArray[np.float32] = module.read(
        module.summarise(batch), batch.lengths.unsqueeze(1).float()
    ).numpy()
    return found


def test_columns_of_many_codes_are_taken_most_codes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    size = vocabulary().categorical["film"].size
    assert columns_of_many(vocabulary()) == {"film": size}
    monkeypatch.setattr(seqmel.nn.category_components, "LEAST", 1)
    assert list(columns_of_many(vocabulary())) == ["film", "mood"]
    monkeypatch.setattr(seqmel.nn.category_components, "COLUMNS", 1)
    assert list(columns_of_many(vocabulary())) == ["film"]


def test_components_are_singular_vectors_of_weighted_counts() -> None:
    counts = np.zeros((CLIENTS, vocabulary().categorical["film"].size))
    for client in range(CLIENTS):
        for code in sequences().values("film", torch.tensor([client])).tolist():
            counts[client, code] += code > UNSEEN
    weights = np.array([1 - np.log(max(1, h) / CLIENTS) if h else 0.0 for h in (counts > 0).sum(0)])
    matrix = np.where(counts > 0, 1 + np.log(np.maximum(counts, 1)), 0) * weights
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    directions = np.linalg.svd(matrix)[2][:COMPONENTS]
    expected = counts * weights @ directions.T / np.sqrt(12)
    found = components(torch.arange(CLIENTS))
    for i in range(3):  # the others are close to each other, and may turn
        cosine = found[:, i] @ expected[:, i]
        cosine /= np.linalg.norm(found[:, i]) * np.linalg.norm(expected[:, i])
        np.testing.assert_allclose(abs(cosine), 1, atol=1e-3)


def test_they_tell_who_likes_what() -> None:
    found = components(torch.arange(CLIENTS))
    odd = np.arange(CLIENTS) % 2 == 1
    apart = [abs(np.median(x[odd]) - np.median(x[~odd])) / x.std() for x in found.T[:2]]
    assert max(apart) > 1.5


def test_missing_and_rare_values_add_nothing() -> None:
    table = fitted_module().table("film")
    assert not table[: UNSEEN + 1].any()
    assert table[UNSEEN + 1 :].any(dim=1).all()


def test_parts_of_a_sequence_add_up() -> None:
    module = fitted_module()
    whole = sequences().gather_last(torch.tensor([3]), max_events=100)
    parts = [whole.take(torch.arange(5)), whole.take(torch.arange(5, 12))]
    counts = [torch.tensor([[5.0]]), torch.tensor([[7.0]])]
    merged = module.merge(*map(module.summarise, parts), *counts)
    torch.testing.assert_close(merged["sum"], module.summarise(whole)["sum"])


def test_no_clients_leave_components_of_nothing() -> None:
    module = CategoryComponents(vocabulary())
    fit_category_components(module, sequences(), torch.empty(0, dtype=torch.int64))
    assert not module.table("film").any()


def test_a_new_encoder_has_them() -> None:
    config = tiny_config(pooling=["mean", "category_components"], encoder="none")
    encoder = new_encoder(config, vocabulary(), sequences()).eval()
    vectors = encoder.embed(sequences().gather_last(torch.arange(CLIENTS), max_events=100))
    shown = vectors[:, encoder.vector_size :][:, :COMPONENTS].detach()
    np.testing.assert_allclose(shown, components(torch.arange(CLIENTS)), atol=1e-5)


def of_kind(kind: str) -> tuple[CategoryComponents, EncodedSequences]:
    """Return components, and sequences whose films are sets of two, texts or hashed names."""
    table = events()
    films = [name or "none" for name in table["film"].to_pylist()]
    nights = [[film, f"with {film}"] for film in films]
    given = pa.array(nights) if kind == "set" else pa.array(films)
    table = table.select(["client_id", "event_time"]).append_column("films", given)
    schema = EventSchema(
        client="client_id", time="event_time", categorical=(), numeric=(), numeric_by={},
        kinds={"films": kind},
    )  # fmt: skip
    of = fitted(table, schema, min_count=4)
    batches = encode(open_events(table, client="client_id"), schema, of)
    sequences = EncodedSequences.from_batches(list(batches), time="event_time")
    module = CategoryComponents(of)
    fit_category_components(module, sequences, torch.arange(CLIENTS))
    return module, sequences


@pytest.mark.parametrize("kind", ["set", "text", "hashed"])
def test_items_of_sets_words_of_texts_and_hashed_names_have_them_too(kind: str) -> None:
    module, some = of_kind(kind)
    batch = some.gather_last(torch.arange(CLIENTS), max_events=100)
    found = module.read(module.summarise(batch), batch.lengths.unsqueeze(1).float())
    table = module.table("films")
    for client in range(3):
        codes = module.codes("films", some.values("films", torch.tensor([client])))
        expected = sum((table[code] for code in codes.flatten().tolist()), torch.zeros(COMPONENTS))
        torch.testing.assert_close(found[client], expected / 12**0.5, rtol=1e-4, atol=1e-4)
    odd = np.arange(CLIENTS) % 2 == 1
    apart = [abs(np.median(x[odd]) - np.median(x[~odd])) / x.std() for x in found.numpy().T[:3]]
    assert max(apart) > 1.2


def test_two_items_of_a_set_count_as_two_values() -> None:
    module, some = of_kind("set")
    codes = module.codes("films", some.values("films", torch.tensor([0])))
    assert ((codes > UNSEEN).sum(1) == 2).all()
