"""Old names of functions, methods and keywords work, with a warning that names the new one."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import seqmel
from seqmel.core.errors import ConfigError
from seqmel.core.renames import RenamedWarning, renamed_keywords
from seqmel.inference.options import EmbedOptions

VECTORS = pd.DataFrame(
    np.eye(12, 2), index=pd.Index(range(12), name="client_id"), columns=["emb_0000", "emb_0001"]
)


@pytest.mark.parametrize("old", seqmel._RENAMED)
def test_an_old_function_is_the_new_one(old: str) -> None:
    new = seqmel._RENAMED[old]
    with pytest.warns(RenamedWarning, match=f"seqmel.{old} is now called seqmel.{new}"):
        assert getattr(seqmel, old) is getattr(seqmel, new)
    assert new in seqmel.__all__
    assert old not in seqmel.__all__


def test_config_of_is_from_dict() -> None:
    with pytest.warns(RenamedWarning, match=r"Config\.of is now called Config\.from_dict"):
        assert seqmel.Config.of({"seed": 3}) == seqmel.Config.from_dict({"seed": 3})


def test_event_sequences_of_is_select() -> None:
    events = pd.DataFrame(
        {"client_id": [1, 1, 2], "event_time": pd.to_datetime(["2024-01-01"] * 3), "amount": 1.5}
    )
    sequences = seqmel.EventSequences.read(events)
    with pytest.warns(
        RenamedWarning, match=r"EventSequences\.of is now called EventSequences\.select"
    ):
        assert sequences.of([2]).client_ids.tolist() == [2]


def test_the_old_keyword_of_labels_and_embeddings_is_the_time_column(tmp_path: Path) -> None:
    path = tmp_path / "vectors.parquet"
    table = VECTORS.reset_index().assign(day=pd.Timestamp("2024-01-31"), label=[0, 1] * 6)
    table.drop(columns="label").to_parquet(path)
    with pytest.warns(RenamedWarning, match="moment is now called time_column"):
        assert seqmel.read_embeddings(path, moment="day").index.names == ["client_id", "day"]  # type: ignore[call-arg]
    table[["client_id", "day", "label"]].to_parquet(tmp_path / "labels.parquet")
    with pytest.warns(RenamedWarning, match="moment is now called time_column"):
        read = seqmel.read_labels(tmp_path / "labels.parquet", "label", moment="day")  # type: ignore[call-arg]
    assert read.index.names == ["client_id", "day"]
    assert pq.read_schema(path).names[-1] == "day"


def test_an_old_keyword_of_a_measure_sets_the_new_one() -> None:
    with pytest.warns(RenamedWarning, match="p_threshold is now called alpha"):
        assert seqmel.drift(VECTORS, VECTORS, p_threshold=0.02).alpha == 0.02  # type: ignore[call-arg]
    times = pd.Series(range(12), index=VECTORS.index)
    with pytest.warns(RenamedWarning):
        split: Any = seqmel.OutOfTime(times, test_fraction=0.4, same_clients=True)  # type: ignore[call-arg]
    assert (split.test_fraction, split.allow_client_overlap) == (0.4, True)
    with (
        pytest.warns(RenamedWarning),
        pytest.raises(ConfigError, match=r"Cannot reduce embeddings to \[\]"),
    ):
        seqmel.compression_curve(times, {"v": VECTORS}, sizes=[])  # type: ignore[call-arg]


def test_the_old_keyword_of_scales_is_where_the_quantization_is_from() -> None:
    with pytest.warns(RenamedWarning, match="scales is now called quantization_from"):
        assert EmbedOptions.of({"scales": "a.parquet"}).quantization_from == "a.parquet"


def test_the_signature_shows_only_new_keywords_and_both_together_are_refused() -> None:
    @renamed_keywords(old="new", other="absent")
    def measure(new: int = 1) -> int:
        return new

    assert list(inspect.signature(measure).parameters) == ["new"]
    assert measure(2) == 2
    with pytest.raises(ConfigError, match="old and new are both given"):
        measure(new=1, old=2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'other'"):
        measure(other=2)  # type: ignore[call-arg]
