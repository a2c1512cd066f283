"""Prepared sequences: encoded sequences with their schema and vocabulary.

prepared.json      format, version of seqmel, numbers of clients and events
schema.json        role of each column
vocabulary.json    category codes and numeric scales
sequences.arrow    one row per client, list columns, memory-mapped on use
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from seqmel.core.checksums import parse_json
from seqmel.core.errors import InputError, ModelError
from seqmel.data.schema import EventSchema
from seqmel.data.sequences.encoded_sequences import EncodedSequences, write_sequences
from seqmel.data.vocabulary import Vocabulary

__all__ = ["PreparedSequences", "is_prepared", "open_prepared", "write_prepared"]

FORMAT = 1
_MARK = "prepared.json"


@dataclass(frozen=True)
class PreparedSequences:
    """Encoded sequences with their schema and vocabulary.

    Examples:
        >>> import seqmel
        >>> data = seqmel.generate_card_data(3)
        >>> prepared = seqmel.prepare(data.events, "prepared")
        >>> len(prepared.sequences), prepared.schema.client
        (3, 'client_id')
    """

    schema: EventSchema
    vocabulary: Vocabulary
    sequences: EncodedSequences


def is_prepared(events: Any) -> bool:
    """Return whether this is a folder of prepared sequences rather than events."""
    try:
        return (Path(events) / _MARK).is_file()
    except (TypeError, OSError, ValueError):
        return False


def write_prepared(
    folder: Path, batches: Iterable[pa.RecordBatch], *, schema: EventSchema, vocabulary: Vocabulary
) -> None:
    """Write a folder of prepared sequences.

    `prepared.json` is written last and marks it complete.
    """
    from seqmel.core.version import __version__

    folder.mkdir(parents=True, exist_ok=True)
    counts = {"clients": 0, "events": 0}

    def counted() -> Iterator[pa.RecordBatch]:
        for batch in batches:
            counts["clients"] += len(batch)
            counts["events"] += len(batch.column(schema.time).values)
            yield batch

    write_sequences(folder / "sequences.arrow", counted())
    (folder / "schema.json").write_text(schema.model_dump_json(indent=1), encoding="utf-8")
    (folder / "vocabulary.json").write_text(vocabulary.model_dump_json(indent=1), encoding="utf-8")
    mark = {"format": FORMAT, "seqmel": __version__, **counts}
    (folder / _MARK).write_text(json.dumps(mark, indent=1), encoding="utf-8")


def open_prepared(path: str | Path, *, vocabulary: Vocabulary | None = None) -> PreparedSequences:
    """Open a folder of prepared sequences.

    Args:
        path: The folder.
        vocabulary: The vocabulary of the model that will read the sequences. None accepts any.

    Returns:
        The sequences, memory-mapped.

    Raises:
        InputError: A file is missing or damaged, or the format is newer than this version.
        ModelError: The sequences were prepared with another vocabulary.
    """
    prepared = _open(Path(path))
    if vocabulary is not None and prepared.vocabulary.fingerprint() != vocabulary.fingerprint():
        raise ModelError(
            f"The sequences in {path} were prepared with another vocabulary than the model's."
            " Prepare them for it: seqmel prepare EVENTS -o SEQUENCES --model MODEL"
        )
    return prepared


def _open(folder: Path) -> PreparedSequences:
    try:
        mark = parse_json((folder / _MARK).read_bytes())
        if mark["format"] > FORMAT:
            raise InputError(
                f"{folder} has format {mark['format']}, written by seqmel {mark.get('seqmel')}; "
                f"this version reads up to {FORMAT}. Update seqmel, or prepare the events again."
            )
        schema = EventSchema.model_validate_json(
            (folder / "schema.json").read_text(encoding="utf-8")
        )
        vocabulary = Vocabulary.model_validate_json(
            (folder / "vocabulary.json").read_text(encoding="utf-8")
        )
        vocabulary.check_fits(schema)
        sequences = EncodedSequences.open(folder / "sequences.arrow", time=schema.time)
        if {*sequences.columns} != {*schema.features} or (len(sequences), sequences.events) != (
            mark["clients"], mark["events"],
        ):  # fmt: skip
            raise ValueError("sequences.arrow is not the one that was written with the other files")
    except MemoryError:  # Arrow's MemoryError is an ArrowException too
        raise
    except (OSError, ValueError, KeyError, TypeError, ValidationError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            raise MemoryError(f"{folder} cannot be mapped") from None
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{folder} is not a complete folder of prepared sequences ({line}). Prepare the "
            f"events again."
        ) from None
    return PreparedSequences(schema, vocabulary, sequences)
