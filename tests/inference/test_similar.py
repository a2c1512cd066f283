"""Similar clients are those of a loop over all pairs, whatever the size of the blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from in_process import InProcess

import seqmel
from seqmel.core.errors import ConfigError, InputError
from seqmel.core.poincare_ball import PoincareBall
from seqmel.inference import exact_search
from seqmel.inference import similar as home

RANDOM = np.random.default_rng(0)


def vectors(clients: int = 40, size: int = 5) -> pd.DataFrame:
    """Vectors with equal ones, opposite ones and zeros among them."""
    values = RANDOM.normal(size=(clients, size)).astype(np.float32)
    values[3] = values[4] = values[5]
    values[6], values[7] = -values[5], 2 * values[5]
    values[8] = 0
    ids = pd.Index([f"c{i:03d}" for i in range(clients)], name="client_id")
    return pd.DataFrame(values, index=ids, columns=[f"emb_{i:04d}" for i in range(size)])


def slow(frame: pd.DataFrame, client: str, k: int, exclude: set[str]) -> list[tuple[str, float]]:
    """The k nearest of one client, pair by pair."""
    found = []
    own = frame.loc[client].to_numpy(np.float64)
    for place, other in enumerate(frame.index):
        if other == client or other in exclude:
            continue
        vector = frame.loc[other].to_numpy(np.float64)
        lengths = np.linalg.norm(own) * np.linalg.norm(vector)
        cosine = float(own @ vector / lengths) if lengths else 0.0
        found.append((-round(cosine, 5), place, other))
    return [(other, -cosine) for cosine, _, other in sorted(found)[:k]]


@pytest.mark.parametrize(("queries", "rows"), [(256, 8_192), (3, 4), (1, 1)])
@pytest.mark.parametrize("exclude", [(), ("c001", "c005", "unknown")])
def test_the_nearest_are_those_of_a_loop_over_all_pairs(
    queries: int, rows: int, exclude: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "_QUERIES", queries)
    monkeypatch.setattr(exact_search, "_ROWS", rows)
    frame = vectors()
    found = seqmel.similar(frame, k=6, exclude=exclude)
    assert list(found) == ["client_id", "rank", "similar", "cosine"]
    for client, part in found.groupby("client_id", sort=False):
        expected = slow(frame, str(client), 6, set(exclude))
        assert part["rank"].tolist() == [1, 2, 3, 4, 5, 6]
        np.testing.assert_allclose(part["cosine"], [c for _, c in expected], atol=2e-5)
        if client not in ("c003", "c004", "c005", "c006", "c007", "c008"):  # ties by rounding
            assert part["similar"].tolist() == [other for other, _ in expected]
    assert found["client_id"].unique().tolist() == frame.index.tolist()
    assert not (found["similar"] == found["client_id"]).any()


def test_of_equal_vectors_the_earlier_row_comes_first_and_a_vector_of_zeros_is_near_none() -> None:
    frame = vectors()
    assert seqmel.similar(frame, "c007", k=3)["similar"].tolist() == ["c003", "c004", "c005"]
    assert (seqmel.similar(frame, "c008")["cosine"] == 0).all()


def test_there_are_no_more_pairs_than_clients() -> None:
    assert len(seqmel.similar(vectors(3 + 6), k=50)) == 9 * 8
    assert seqmel.similar(vectors(), []).empty


@pytest.mark.parametrize("ids", [[10, 11, 12], ["10", "11", "12"]])
def test_an_id_is_found_as_number_and_as_text(ids: list[Any]) -> None:
    frame = pd.DataFrame({"id": ids, "emb_0": [1.0, 0.5, -1.0], "emb_1": [0.0, 0.1, 0.0]})
    for asked in (10, "10"):
        found = seqmel.similar(frame, asked, k=1, client="id")
        assert found[["id", "similar"]].to_numpy().tolist() == [[ids[0], ids[1]]]


def test_with_a_curvature_clients_are_found_by_hyperbolic_distance() -> None:
    frame, ball = vectors(), PoincareBall(0.5, 1.0)
    points = ball.points(torch.tensor(frame.to_numpy()))
    found = seqmel.similar(frame, k=3, curvature=0.5, clip_radius=1.0)
    assert list(found) == ["client_id", "rank", "similar", "distance"]
    for client, part in found.groupby("client_id", sort=False):
        row = frame.index.get_loc(client)
        apart = ball.distances(points, points[row])
        apart[row] = torch.inf
        np.testing.assert_allclose(part["distance"], apart.sort().values[:3], atol=1e-5)
    with pytest.raises(ConfigError, match=r"curvature is -1\. Expected a number above 0"):
        seqmel.similar(frame, curvature=-1)


def test_bad_input_is_refused_in_a_line() -> None:
    with pytest.raises(InputError, match=r"No vector of 'nobody' .*40 clients, such as 'c000'"):
        seqmel.similar(vectors(), ["c001", "nobody"])
    with pytest.raises(ConfigError, match=r"k is 0\. Expected a whole number of at least 1"):
        seqmel.similar(vectors(), k=0)


def test_the_command_prints_or_writes_the_pairs(tmp_path: Path, in_process: InProcess) -> None:
    frame = vectors()
    frame.to_parquet(tmp_path / "v.parquet")
    pd.DataFrame({"client_id": ["c001"]}).to_csv(tmp_path / "not.csv", index=False)
    words = ["similar", tmp_path / "v.parquet", "-k", 3, "--exclude", tmp_path / "not.csv"]
    done = in_process.seqmel(*words, "--client", "c007")
    assert done.returncode == 0, done.stderr
    assert [line.split()[2] for line in done.stdout.splitlines()[1:]] == ["c003", "c004", "c005"]
    done = in_process.seqmel(*words, "--client", "c007", "--curvature", 0.1)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[3] == "distance"
    done = in_process.seqmel(*words, "-o", tmp_path / "pairs.parquet")
    assert done.returncode == 0, done.stderr
    assert len(pd.read_parquet(tmp_path / "pairs.parquet")) == 40 * 3
    done = in_process.seqmel(*words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "Name a client with --client ID" in done.stderr
