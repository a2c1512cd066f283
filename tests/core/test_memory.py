"""The memory limit of the engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from small import card_events

from seqmel.core import memory
from seqmel.core.errors import ConfigError
from seqmel.core.memory import memory_bytes, usable_memory
from seqmel.data.sources.reading import open_events


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4GB", 4 * 10**9), ("4 GiB", 2**32), ("1.5MB", 1_500_000), ("700kb", 700_000), ("9B", 9)],
)
def test_a_limit_is_read_in_its_unit(text: str, expected: int) -> None:
    assert memory_bytes(text) == expected


def test_no_limit_is_most_of_what_control_groups_grant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    monkeypatch.setattr(memory, "control_groups", lambda *_: iter([tmp_path, tmp_path / "none"]))
    assert usable_memory() == 1_000_000
    assert memory_bytes(None) == 800_000


def test_a_limit_that_is_no_amount_of_memory_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"memory_limit cannot be 'lots'\. Expected a size such as 4GB"
    ):
        open_events(card_events(3), memory_limit="lots")


def test_the_engine_and_what_reads_beside_it_have_one_limit() -> None:
    source = open_events(card_events(3), memory_limit="512MiB", threads=2)
    assert (source.memory, source.threads) == (2**29, 2)
    engine = source.row("SELECT current_setting('memory_limit'), current_setting('threads')")
    assert engine == ("512.0 MiB", 2)
