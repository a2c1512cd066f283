"""A folder of prepared sequences carries all that it needs, and says so when it does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small import SCHEMA, batches, card_events, fitted, sequences

from seqmel.core.errors import InputError
from seqmel.data.sequences.prepared import is_prepared, open_prepared, write_prepared

EVENTS = card_events(10)
VOCABULARY = fitted(EVENTS, SCHEMA, min_count=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_prepared(
        tmp_path / "prepared",
        batches(EVENTS, SCHEMA, VOCABULARY),
        schema=SCHEMA,
        vocabulary=VOCABULARY,
    )
    return tmp_path / "prepared"


def test_what_was_written_is_read(folder: Path) -> None:
    prepared = open_prepared(folder)
    assert (prepared.schema, prepared.vocabulary) == (SCHEMA, VOCABULARY)
    expected = sequences(EVENTS, SCHEMA, VOCABULARY)
    everyone = torch.arange(len(expected))
    for name, values in expected.gather_last(everyone, max_events=99).columns.items():
        assert torch.equal(
            prepared.sequences.gather_last(everyone, max_events=99).columns[name].nan_to_num(77),
            values.nan_to_num(77),
        )
    assert json.loads((folder / "prepared.json").read_text())["events"] == len(EVENTS)


def test_prepared_folders_are_told_from_events(folder: Path) -> None:
    assert is_prepared(folder)
    assert is_prepared(str(folder))
    assert not any(map(is_prepared, [folder.parent, EVENTS, None, "no\0path", 7]))


@pytest.mark.parametrize("name", ["schema.json", "vocabulary.json", "sequences.arrow"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "noise"])
def test_a_damaged_folder_is_refused_in_one_line(folder: Path, name: str, damage: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    if damage != "missing":
        (folder / name).write_bytes(
            {"empty": b"", "cut": content[: len(content) // 2], "noise": b"\xff" * 99}[damage]
        )
    with pytest.raises(
        InputError, match="is not a complete folder of prepared sequences"
    ) as caught:
        open_prepared(folder)
    assert "\n" not in str(caught.value)


def test_a_newer_format_is_refused_with_the_version_that_wrote_it(folder: Path) -> None:
    (folder / "prepared.json").write_text('{"format": 99, "seqmel": "7.0"}')
    with pytest.raises(InputError, match=r"has format 99, written by seqmel 7\.0.*Update seqmel"):
        open_prepared(folder)
