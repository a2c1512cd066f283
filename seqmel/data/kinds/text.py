"""Short texts: merchant descriptors, product names, search queries, payment purposes.

A text is the sum of rows for its words and for the parts of its words, found by a hash, as in
fastText (Bojanowski, Grave, Joulin, Mikolov: Enriching Word Vectors with Subword Information, 2017,
arXiv 1607.04606). Nothing is counted, so a new word shares the rows of its parts with known words.
"""

from __future__ import annotations

import re
import struct
import unicodedata
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from seqmel.core.errors import InputError, SchemaError
from seqmel.core.units import count_words
from seqmel.data.kinds.base import (
    ColumnSQL,
    RowSums,
    distinct_rows,
    give_function,
    is_missing,
)
from seqmel.data.kinds.hashed import (
    BINS,
    HashedColumn,
    RowsKind,
    bin_of_hash,
    class_of_hash,
    code_of_hash,
)
from seqmel.data.schema import EventSchema
from seqmel.data.sources.checking import category_text, present_sql
from seqmel.data.sources.source import EventSource, type_in_words

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TextColumn", "TextKind", "words_of"]

_ROWS = 8_192
_PIECES = 32
"""The most words and parts of words that are read of a text."""
_PART = 4  # characters; a word of five letters has five parts with its ends
_PAIRS = _PIECES // 2  # an encoded value is this many integers, of two pieces each
_HASHES = 2**16 - 1
_FUNCTION = "seqmel_text"
_BINS = BINS - 1  # for drift; another number than that of bins of the first word
_WORD = re.compile(r"[^\W_]+")
_DIGITS = re.compile(r"\d+")
_KEPT = 2**16  # words and texts that are encoded once


class TextColumn(HashedColumn):
    """The size of the table; nothing else is fitted."""

    rows: int = Field(_ROWS, ge=2, le=_HASHES)


def words_of(text: str) -> list[str]:
    """Return the words of a text, in compatible characters and lower case, with numbers as 0.

    Args:
        text: any text.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return _WORD.findall(_DIGITS.sub("0", plain))


@lru_cache(_KEPT)
def _pieces_of(word: str) -> tuple[int, ...]:
    """Return the hash of a word, then those of its parts of four characters: from 1 on."""
    whole = f"<{word}>"
    parts = (whole[i : i + _PART] for i in range(min(len(whole) - _PART + 1, _PIECES)))
    return tuple(1 + zlib.crc32(p.encode()) % _HASHES for p in dict.fromkeys((whole, *parts)))


@lru_cache(_KEPT)
def _encoded(text: str) -> bytes:
    """Return the encoded value of a text: its words, then parts of them, then zeros."""
    words = [_pieces_of(word) for word in dict.fromkeys(words_of(text))]
    pieces = [word[0] for word in words] + [part for word in words for part in word[1:]]
    return struct.pack(f"<{_PIECES}H", *(*pieces, *[0] * _PIECES)[:_PIECES])


class TextKind(RowsKind[TextColumn]):
    """A text is a sum of up to 32 rows. It is predicted by the hash of its first word modulo 64.

    An encoded value is 16 integers. Each holds two hashes, and zero is no hash. A text without
    words is missing.
    """

    role: ClassVar[str] = "text"
    is_wide: ClassVar[bool] = True
    statistics: ClassVar[tuple[tuple[str, str, str], ...]] = (
        ("known", "count({x})", "number of events with {name}"),
        ("distinct", "count(DISTINCT {x})", "number of different values of {name}"),
        ("length", "avg(length({x}))", "mean number of characters of {name}"),
    )
    fitted = TextColumn

    def items_sql(self, value: str) -> str:
        """Return SQL for the words."""
        return f"list_distinct(regexp_extract_all(lower({value}), '[\\pL\\pN]+'))"

    def check_given(self, source: EventSource, column: str) -> None:
        """Check that the column holds text."""
        kind = source.columns[column]
        if not kind.startswith(("VARCHAR", "ENUM")):
            raise SchemaError(
                f"Column {column!r} of {source.label} holds {type_in_words(kind)}, not text. "
                "Convert it to text, or leave it out of schema.kinds."
            )

    def check_values(self, source: EventSource, column: str) -> None:
        """Check that the values are not bytes."""
        if source.columns[column] == "BLOB":
            raise InputError(
                f"Column {column!r} of {source.label} holds bytes, and the model was trained with "
                "text there. Decode them to text."
            )

    def reads_whole(self, sql_type: str) -> bool:
        """Return whether the values are text."""
        return sql_type.startswith(("VARCHAR", "ENUM"))

    def width(self, fitted: TextColumn) -> int:
        """Return the number of integers of a text."""
        return _PAIRS

    def encode_texts(self, fitted: TextColumn, texts: pa.Array) -> npt.NDArray[np.int32]:
        """Return (V, 16) encoded texts; zeros for null."""
        return self._of_texts(texts.to_pylist())

    def encode_values(
        self, fitted: TextColumn, values: Sequence[Any]
    ) -> npt.NDArray[np.int32] | None:
        """Return (E, 16) encoded texts, unless some values are neither text nor null."""
        known = [None if is_missing(value) else value for value in values]
        if not {type(value) for value in known} <= {str, type(None)}:
            return None
        return self._of_texts(known)

    @staticmethod
    def _of_texts(texts: Sequence[str | None]) -> npt.NDArray[np.int32]:
        joined = b"".join(_encoded(text or "") for text in texts)
        return np.frombuffer(joined, "<i4").astype(np.int32).reshape(-1, _PAIRS)

    def register(self, source: EventSource, column: str, index: int, fitted: TextColumn) -> None:
        """Give SQL the function that encodes a text."""

        def encode(texts: pa.Array) -> npt.NDArray[np.int32]:
            distinct = texts.dictionary_encode(null_encoding="encode")
            rows = self.encode_texts(fitted, distinct.dictionary)
            found: npt.NDArray[np.int32] = rows.take(distinct.indices.to_numpy(), axis=0)
            return found

        give_function(source, _FUNCTION, encode, f"VARCHAR INTEGER[{_PAIRS}]")

    def encode_sql(
        self, source: EventSource, schema: EventSchema, column: str, index: int, fitted: TextColumn
    ) -> ColumnSQL:
        """Return SQL for the encoded text; see `register`."""
        text = category_text(source, column)
        there = present_sql(schema, column)
        return ColumnSQL(f"{_FUNCTION}(CASE WHEN {there} THEN {text} END)")

    def embed_wide(
        self, columns: list[Tensor], layout: Mapping[str, Tensor], dtype: Any
    ) -> list[RowSums]:
        """Return the rows of the pieces, weighted so that their sum varies as much as one row.

        Equal texts are summed once.
        """
        import torch

        found = []
        for values, begin, rows in zip(columns, layout["begins"], layout["rows"], strict=True):
            distinct, index = distinct_rows(values)
            pieces = _pieces(distinct)
            known = pieces > 0
            places = torch.where(known, (pieces - 1) % rows, rows) + begin
            known[:, 0] = True  # the row of a missing text
            weights = known / known.sum(1, keepdim=True).sqrt()
            found.append(RowSums(places, weights.to(dtype), index))
        return found

    def codes_of(self, values: Tensor, fitted: TextColumn) -> Tensor:
        """Return the rows of the words and of their parts, (E, 32)."""
        return code_of_hash(_pieces(values), fitted.rows)

    def class_of(self, values: Tensor, edges: Tensor) -> Tensor:
        """Return 0 for a missing text, else one more than the hash of its first word modulo 64."""
        return class_of_hash(values[:, 0].long() & _HASHES)

    def facts(self, source: EventSource, column: str, where: str) -> dict[str, Any]:
        """Return nulls, number of values, the commonest values and the mean number of words."""
        text = category_text(source, column)
        (words,) = source.row(
            f"SELECT avg(len(regexp_extract_all({text}, '[\\pL\\pN]+'))) FROM events WHERE {where}"
        )
        return {**super().facts(source, column, where), "words": words}

    def contents(self, facts: Mapping[str, Any], events: int) -> str:
        """Return the number of words, and the commonest values and their fractions."""
        words = count_words(facts["words"] or 0, "word", spec=".1f")
        return f"{words} each, {super().contents(facts, events)}"

    def about(self, fitted: TextColumn) -> str:
        """Return the size of the table."""
        return f"words and parts of words in {fitted.rows:,} rows"

    def bins(self, fitted: TextColumn, values: Sequence[npt.NDArray[Any]]) -> tuple[int, None]:
        """Return a bin for missing, and 31 for hashes of words and parts of words."""
        return 1 + _BINS, None

    def bin_of(self, values: npt.NDArray[Any], bins: int) -> npt.NDArray[Any]:
        """Return 0 for missing, else one more than the hash of a piece of the text modulo 31.

        The piece is chosen by the hashes of all, so that a change of any word shows. The 33 bins of
        earlier models are of the first word.
        """
        pairs = values.astype(np.int64) & 0xFFFFFFFF
        pieces = np.stack([pairs & _HASHES, pairs >> 16], axis=2).reshape(len(values), -1)
        if bins == 1 + BINS:
            return bin_of_hash(pieces[:, 0])
        known = np.maximum((pieces > 0).sum(axis=1), 1)
        chosen = pieces[np.arange(len(pieces)), pieces.sum(axis=1) % known]
        return np.where(chosen > 0, (chosen - 1) % _BINS + 1, 0)

    def is_unknown(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Return whether a text has no words."""
        unknown: npt.NDArray[np.bool_] = values[:, 0] == 0
        return unknown

    unknown_words: ClassVar[str] = "has no text"


def _pieces(values: Tensor) -> Tensor:
    """Return (E, 32) int64, the hashes in (E, 16) encoded texts; 0 for none."""
    import torch

    pairs = values.long() & 0xFFFFFFFF
    return torch.stack([pairs & 0xFFFF, pairs >> 16], dim=2).flatten(1)
