"""The privacy audit: attacks find what is there, and nothing where nothing is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from small import card_events, tiny_config
from typer.testing import CliRunner

import seqmel
from seqmel.api.auditing import members_of
from seqmel.api.model import Model
from seqmel.cli.main import app
from seqmel.core.errors import ConfigError, InputError
from seqmel.data.sources.reading import open_events
from seqmel.evaluation.aggregates import AggregatePlan
from seqmel.evaluation.audit_attacks import Weakening, find_clients, similarities, tell_apart
from seqmel.evaluation.audit_parts import ClientParts, count_events
from seqmel.inference.embed import open_events_for

EVENTS = card_events(80)
FAST: dict[str, Any] = {"trees": 5, "folds": 2, "known": [4], "progress": False, "device": "cpu"}


@pytest.fixture(scope="module")
def trained() -> Model:
    """A model of EVENTS with a validation split of 24 of 80 clients."""
    return seqmel.train(EVENTS, config=tiny_config(pooling="mean"), embedding_dim=4)


@pytest.fixture(scope="module")
def clients() -> pd.DataFrame:
    """The habit of each client, which the merchant codes show, and a coin."""
    ids = np.unique(EVENTS["client_id"].to_numpy())
    coin = np.random.default_rng(7).integers(0, 2, len(ids))
    return pd.DataFrame({"client_id": ids, "even": (ids - 100) // 7 % 2 == 0, "coin": coin})


def vectors(count: int = 60, size: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)


def test_a_client_is_found_by_a_linear_image_of_its_vector_and_not_by_noise() -> None:
    published = vectors(200)
    held = published @ np.linalg.qr(vectors(6, 6, 1))[0] + 3
    assert find_clients(held, published, 0).mean > 0.9
    assert find_clients(vectors(200, seed=2), published, 0).mean < 0.05


def test_parts_of_a_client_are_as_similar_as_their_cosines_say() -> None:
    x = vectors()
    same = similarities([x, x, 2 * x])
    assert same.shape == (60, 3)
    assert similarities([x, x]).min() == pytest.approx(1)
    assert abs(similarities([x, vectors(seed=3)]).mean()) < 0.2


def test_a_score_of_members_is_measured_by_its_auroc() -> None:
    members = np.arange(100) < 50
    assert tell_apart(members.astype(float), members, 0).mean == 1
    chance = tell_apart(np.random.default_rng(0).normal(size=100), members, 0)
    assert chance.low < 0.5 < chance.high


def test_weakened_vectors_have_the_size_type_and_noise_that_were_asked_for() -> None:
    x = vectors(500)
    assert Weakening.parse("dim=2").fit(x, 0)(x).shape == (500, 2)
    assert set(np.unique(Weakening.parse("binary").fit(x, 0)(x))) == {0.0, 1.0}
    assert np.abs(Weakening.parse("int8").fit(x, 0)(x) - x).max() < 0.5
    noisy = Weakening.parse("noise=0.5").fit(x, 0)
    assert (noisy(x) - x).std() == pytest.approx(0.5, abs=0.05)
    assert np.array_equal(noisy(x, own=True), x)
    both = Weakening.parse("dim=3+binary").fit(x, 0)(x)
    assert both.shape == (500, 3)
    assert set(np.unique(both)) == {0.0, 1.0}


@pytest.mark.parametrize("text", ["int9", "noise", "noise=0", "noise=x", "dim=0", "float32", ""])
def test_an_unknown_weakening_is_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match="cannot be weakened by"):
        Weakening.parse(text)
    with pytest.raises(ConfigError, match="have 6"):
        Weakening.parse("dim=7").fit(vectors(), 0)


def test_the_vector_of_a_part_is_that_of_its_events_alone(trained: Model) -> None:
    source = open_events_for(trained, EVENTS)
    plan = AggregatePlan.fit(source, trained.schema)
    counts = count_events(source, "client_id")
    counts = counts[counts >= 8].iloc[:5]
    parts = ClientParts.of(trained, plan, source, counts, torch.device("cpu"))
    starts, lengths = np.arange(5), np.full(5, 3)
    slices, rest = parts.sets(starts, lengths), parts.sets(starts, lengths, rest=True)
    events = EVENTS.to_pandas().sort_values("event_time")
    place = events.groupby("client_id").cumcount()
    start = events["client_id"].map(dict(zip(counts.index, starts, strict=True)))
    inside = (place >= start) & (place < start + 3)
    for found, rows in ((slices, inside), (rest, ~inside)):
        own = events[rows & start.notna()]
        expected = trained.embed(own).loc[counts.index].to_numpy()
        np.testing.assert_allclose(found["embeddings"], expected, atol=1e-5)
        table = plan.compute(open_events(own)).loc[counts.index, plan.plain_columns]
        np.testing.assert_allclose(found["aggregates"], table, rtol=1e-5)


def test_an_attribute_that_the_events_show_is_inferred_and_a_coin_is_not(
    trained: Model, clients: pd.DataFrame
) -> None:
    found = trained.audit(EVENTS, sensitive=clients, column=["even", "coin"], **FAST)
    figures = {(row.of, row.vectors): row.figure for row in found.figures}
    assert figures["even", "aggregates"].mean > 0.7 > figures["coin", "aggregates"].mean
    assert {row.chance for row in found.figures if row.attack == "attribute"} == {0.5}
    assert "Membership inference was left out" in found.remarks[0]


def test_a_classifier_that_sees_the_members_in_the_vectors_is_shown(
    trained: Model, clients: pd.DataFrame
) -> None:
    members = clients.loc[clients["even"], "client_id"].tolist()
    found = trained.audit(EVENTS, members=members, **FAST)
    rows = [row for row in found.figures if row.attack == "membership"]
    assert [(row.of, row.vectors) for row in rows] == [
        (of, name) for of in ("similarity", "classifier") for name in ("aggregates", "embeddings")
    ]
    assert rows[2].figure.mean > 0.7
    assert rows[2].clients == len(clients)
    table = members_of(trained, pd.DataFrame({"client_id": members}), None, progress=False)
    assert table == members_of(trained, members, None, progress=False)


def test_the_command_attacks_weakened_vectors_and_knows_the_validation_clients(
    trained: Model, clients: pd.DataFrame, tmp_path: Path
) -> None:
    model = trained.save(tmp_path / "model")
    events, table, output = (tmp_path / name for name in ("e.parquet", "c.parquet", "audit.json"))
    pq.write_table(EVENTS, events)
    clients.to_parquet(table)
    words = f"audit {model.folder} {events} --trained-on {events} --known 4 --trees 5 --folds 2"
    words += f" --weaken int8+dim=2 --labels {table} --target even -o {output}"
    done = CliRunner(env={"COLUMNS": "80"}).invoke(app, words.split())
    assert done.exit_code == 0, done.exception
    assert max(map(len, done.stdout.splitlines())) <= 80
    rows = json.loads(output.read_text())["figures"]
    assert {row["vectors"] for row in rows} == {"aggregates", "embeddings", "int8+dim=2"}
    counts = {row["attack"]: row["clients"] for row in rows}
    assert counts["membership"] == counts["quality"] == len(clients)
    assert [row["of"] for row in rows if row["attack"] == "quality"] == ["even"] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"members": [100, 107]}, "2 of 80 clients of the events were in training"),
        ({"known": [40]}, "Only 0 clients have 80 events or more"),
        ({"known": [0]}, "cannot hold"),
        ({"column": "even"}, "belong together: --sensitive and --column"),
        ({"clients": 3}, "clients is 3. Expected 20 or more"),
        ({"members": [1], "trained_on": EVENTS}, "Leave one of them out"),
        ({"trained_on": EVENTS.slice(0, 300)}, "Give the same events"),
    ],
)
def test_what_cannot_be_audited_is_one_line(
    trained: Model, options: dict[str, Any], message: str
) -> None:
    with pytest.raises((ConfigError, InputError), match=message) as raised:
        trained.audit(EVENTS, **FAST | options)
    assert "\n" not in str(raised.value)


def test_all_clients_as_members_and_too_few_clients_are_refused(
    trained: Model, clients: pd.DataFrame
) -> None:
    with pytest.raises(InputError, match="0 of 80 clients of the events were not in training"):
        trained.audit(EVENTS, members=clients["client_id"].tolist(), **FAST)
    one = EVENTS.filter(pc.equal(EVENTS["client_id"], 100))
    with pytest.raises(InputError, match=r"An audit needs 20 clients, .* Found: 1\."):
        trained.audit(one, **FAST)
