"""Shards of the clients by a hash of their ids, for hosts that do not communicate.

The shard of a client depends only on its id and the number of shards, so every host and every run
agree.
"""

from __future__ import annotations

import re
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seqmel.core.errors import ConfigError
from seqmel.data.sources.source import connect

__all__ = ["Shard", "check_shard", "in_shard_sql", "places_in_shard", "shard_of"]

Shard: TypeAlias = tuple[int, int]
"""(index, count), from (1, n) to (n, n)."""

_WORDS = re.compile(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*")


def shard_of(words: str) -> Shard:
    """Parse a shard such as `3/8`.

    Raises:
        ConfigError: The text is not a shard.
    """
    found = _WORDS.fullmatch(words)
    if found is None:
        raise ConfigError(f"--shard cannot be {words!r}. Expected INDEX/COUNT, such as 3/8.")
    return check_shard((int(found[1]), int(found[2])))


def check_shard(shard: Shard) -> Shard:
    """Return the shard if it is valid.

    Raises:
        ConfigError: It is not a valid shard.
    """
    is_pair = isinstance(shard, tuple) and [type(number) for number in shard] == [int, int]
    if not is_pair or not 1 <= shard[0] <= shard[1]:
        said = "/".join(map(str, shard)) if isinstance(shard, tuple) else repr(shard)
        raise ConfigError(
            f"There is no shard {said}. Shards count from 1: the first of eight is 1/8, the last "
            "8/8 (shard=(8, 8))."
        )
    return shard


def in_shard_sql(client: str, shard: Shard | None) -> str:
    """Return SQL for whether a client is in the shard.

    The shard is the first 60 bits of the MD5 of the id's text, modulo the number of shards.

    Args:
        client: SQL for the id.
        shard: The shard. None selects all clients.
    """
    if shard is None:
        return "true"
    return f"('0x' || md5({client}::VARCHAR)[:15])::BIGINT % {shard[1]} = {shard[0] - 1}"


def places_in_shard(client_ids: pa.ChunkedArray, shard: Shard) -> npt.NDArray[np.int64]:
    """Return (n,) the positions of the clients in the shard, in order."""
    connection = connect()
    connection.register("ids", pa.table({"id": client_ids, "place": np.arange(len(client_ids))}))
    found = connection.sql(
        f"SELECT place FROM ids WHERE {in_shard_sql('id', shard)} ORDER BY place"
    ).fetchnumpy()
    connection.close()
    return np.asarray(found["place"], np.int64)
