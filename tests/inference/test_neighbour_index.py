"""An index finds the clients that exact search finds, and says how many of them it finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from in_process import InProcess

import seqmel
from seqmel.core.errors import ConfigError, InputError, OutputError, SchemaError
from seqmel.inference.exact_search import nearest, unit_rows
from seqmel.inference.neighbour_index import IndexReport, NeighbourIndex, _measured

RANDOM = np.random.default_rng(0)
IDS = pd.Index([f"c{i:03d}" for i in range(300)], name="client_id")
VECTORS = pd.DataFrame(RANDOM.normal(size=(300, 8)), IDS, [f"emb_{i}" for i in range(8)])
EXCLUDED = ["c000", "c007", "c100"]
LIBRARIES = ["faiss", "usearch"]


@pytest.fixture(params=LIBRARIES, scope="module")
def written(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, IndexReport]:
    pytest.importorskip(request.param)
    folder = tmp_path_factory.mktemp("index") / "index"
    return folder, seqmel.write_index(VECTORS, folder, library=request.param, k=5)


def test_the_pairs_are_those_of_exact_search(written: tuple[Path, IndexReport]) -> None:
    folder, report = written
    assert (report.clients, report.dimensions, report.k) == (300, 8, 5)
    assert report.recall == 1.0  # so few clients are all visited
    exact = seqmel.similar(VECTORS, k=5, exclude=EXCLUDED)
    found = seqmel.similar(VECTORS, k=5, exclude=EXCLUDED, index=folder)
    pd.testing.assert_frame_equal(found, exact, rtol=1e-4, atol=1e-5)
    one = seqmel.similar(VECTORS, "c001", k=400, index=folder)
    assert (len(one), one["similar"].nunique()) == (299, 299)


def test_an_index_of_other_vectors_is_refused(written: tuple[Path, IndexReport]) -> None:
    folder, _ = written
    for other in (VECTORS.iloc[::-1], VECTORS.iloc[:50], -VECTORS):
        with pytest.raises(InputError, match="is an index of other embeddings"):
            seqmel.similar(other, "c001", index=folder)


def test_a_damaged_index_is_one_line(written: tuple[Path, IndexReport], tmp_path: Path) -> None:
    folder, _ = written
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (vectors,) = tmp_path.glob("vectors.*")
    vectors.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"vectors.* cannot be read .* Write the index again"):
        NeighbourIndex.read(tmp_path)


class HalfBlind:
    """A searcher that finds the first half of the true neighbours only."""

    def search(self, unit: Any, k: int) -> Any:
        places = nearest(np.concatenate([unit, UNIT]), np.arange(1), np.arange(1, 301), k)[0] - 1
        places[:, 3:] = -1  # itself, and two others
        return places


UNIT = unit_rows(VECTORS.to_numpy(np.float32))


def test_recall_is_the_fraction_of_the_true_neighbours_that_are_found() -> None:
    report = _measured(IndexReport("faiss", 300, 8, 4), HalfBlind(), UNIT)  # type: ignore[arg-type]
    assert report.recall == pytest.approx(0.5)


def test_the_script_for_pgvector_has_each_client_once(tmp_path: Path) -> None:
    frame = VECTORS.head(3).set_axis(pd.Index(["a\tb", "c\\d", "é"], name='the "id"'))
    seqmel.write_index(frame, tmp_path / "pg", library="pgvector")
    script = (tmp_path / "pg" / "vectors.sql").read_text(encoding="utf-8")
    assert '"the ""id""" text PRIMARY KEY, embedding vector(8));' in script
    rows = script.split("FROM stdin;\n")[1].split("\\.\n")[0].splitlines()
    assert [row.split("\t")[0] for row in rows] == ["a\\tb", "c\\\\d", "é"]
    np.testing.assert_allclose(json.loads(rows[1].split("\t")[1]), UNIT[1], rtol=1e-6)
    with pytest.raises(InputError, match="is for pgvector, which searches in the database"):
        seqmel.similar(frame, "é", index=tmp_path / "pg")


def wide(width: int) -> pd.DataFrame:
    names = [f"emb_{i:04d}" for i in range(width)]
    return pd.DataFrame(np.ones((2, width)), pd.Index([1, 2], name="client_id"), names)


def test_wide_vectors_are_halved_or_refused(tmp_path: Path) -> None:
    for width, found in ((2_001, "halfvec(2001)"), (2_000, "vector(2000)")):
        seqmel.write_index(wide(width), tmp_path / found, library="pgvector")
        assert f"embedding {found})" in (tmp_path / found / "vectors.sql").read_text()
    with pytest.raises(ConfigError, match="4,001 dimensions; an index of pgvector takes at most"):
        seqmel.write_index(wide(4_001), tmp_path / "x", library="pgvector")


def test_what_is_wrong_is_said_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no library 'fais'.*Did you mean"):
        seqmel.write_index(VECTORS, tmp_path / "x", library="fais")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="k is 0"):
        seqmel.write_index(VECTORS, tmp_path / "x", library="pgvector", k=0)
    with pytest.raises(InputError, match="is not an index of seqmel"):
        seqmel.similar(VECTORS, "c001", index=tmp_path)
    (tmp_path / "there").mkdir()
    with pytest.raises(OutputError, match="--overwrite"):
        seqmel.write_index(VECTORS, tmp_path / "there", library="pgvector")


def test_a_library_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(ConfigError, match=r"pip install 'seqmel\[faiss\]'"):
        seqmel.write_index(VECTORS, tmp_path / "x")


def test_the_commands_write_and_search(tmp_path: Path, in_process: InProcess) -> None:
    pytest.importorskip("usearch")
    VECTORS.to_parquet(tmp_path / "v.parquet")
    done = in_process.seqmel(
        "index", tmp_path / "v.parquet", "-o", tmp_path / "i", "--library", "usearch"
    )
    assert done.returncode == 0, done.stderr
    assert "recall@10 against exact search 1.0000" in done.stdout
    words = ("similar", tmp_path / "v.parquet", "--client", "c005", "-k", "3")
    found = in_process.seqmel(*words, "--index", tmp_path / "i")
    assert found.stdout == in_process.seqmel(*words).stdout


def test_vectors_without_client_ids_are_refused_in_words(tmp_path: Path) -> None:
    VECTORS.reset_index(drop=True).to_parquet(tmp_path / "v.parquet")
    with pytest.raises(SchemaError, match="all of them are of the vector"):
        seqmel.similar(tmp_path / "v.parquet", 3)
