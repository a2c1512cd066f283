"""Disjoint parts of the events of some clients, as embeddings and as plain aggregates.

An attacker holds a part of a client's events. Vectors and aggregates of a part come from the same
rows, and are computed as those of all events are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import torch

from seqmel.data.encoding.event_encoding import encode
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.sources.checking import time_sql
from seqmel.data.sources.source import ROW, EventSource, ident
from seqmel.evaluation.aggregates import AggregatePlan
from seqmel.evaluation.feature_sets import AGGREGATES
from seqmel.inference.embed import embed_sequences
from seqmel.model import TrainedModel

__all__ = ["EMBEDDINGS", "ClientParts", "Matrix", "count_events"]

EMBEDDINGS = "embeddings"

Matrix: TypeAlias = npt.NDArray[np.float32]
Whole: TypeAlias = npt.NDArray[np.int64]

_ROWS = 65_536


def count_events(source: EventSource, client: str) -> pd.Series[int]:
    """Return the number of events of each client that has any, in order of first appearance.

    Args:
        source: the events.
        client: the client column.

    Returns:
        Numbers of events, indexed by client id.
    """
    name = ident(client)
    counts = source.stream(
        f"SELECT {name} AS client, count(*) AS n FROM events GROUP BY 1 ORDER BY min({ROW})", _ROWS
    ).read_all()
    found: pd.Series[int] = pd.Series(
        counts["n"].to_numpy(), index=pd.Index(counts["client"].to_pandas(), name=client)
    )
    return found


@dataclass(frozen=True, eq=False)
class ClientParts:
    """The events of some clients, from which parts are taken.

    Attributes:
        model: the model that embeds the parts.
        plan: the aggregates.
        source: the events of these clients; its view `events` shows the part at hand.
        clients: (C,) ids of the clients.
        counts: (C,) numbers of events.
        device: where to embed.
    """

    model: TrainedModel
    plan: AggregatePlan
    source: EventSource
    clients: pd.Index[Any]
    counts: Whole
    device: torch.device

    @classmethod
    def of(
        cls,
        model: TrainedModel,
        plan: AggregatePlan,
        source: EventSource,
        counts: pd.Series[int],
        device: torch.device,
    ) -> ClientParts:
        """Copy the events of some clients, so that each part reads only these.

        Args:
            model: the model.
            plan: the aggregates.
            source: all events, opened for the model. It shows only parts of these clients from now
                on.
            counts: the number of events of each of these clients, indexed by id.
            device: where to embed.
        """
        client, time = model.schema.client, time_sql(source, model.schema)
        ids = pa.Array.from_pandas(counts.index)
        source.connection.register(
            "audit_given", pa.table({"client": ids, "number": np.arange(len(ids))})
        )
        source.query("CREATE OR REPLACE TABLE audit_clients AS FROM audit_given")
        source.query(
            f"CREATE OR REPLACE TABLE audit_events AS SELECT events.* FROM events "
            f"JOIN audit_clients ON {ident(client)} = audit_clients.client"
        )
        source.query("CREATE OR REPLACE VIEW events AS FROM audit_events")
        own = replace(source, whole=None, nested=False, checked={})
        own.query(
            f"CREATE OR REPLACE TABLE audit_places AS SELECT {ROW} AS row, number, row_number() "
            f"OVER (PARTITION BY number ORDER BY {time}, {ROW}) - 1 AS place FROM audit_events "
            f"JOIN audit_clients ON {ident(client)} = audit_clients.client"
        )
        return cls(model, plan, own, counts.index, counts.to_numpy(np.int64), device)

    def slices(self, random: np.random.Generator, lengths: Whole) -> Whole:
        """Draw the start of a slice of consecutive events per client.

        Args:
            random: the random generator.
            lengths: (C,) numbers of events of the slices, at most those of the clients.

        Returns:
            (C,) places of the first events.
        """
        return np.asarray(random.integers(0, self.counts - lengths + 1), np.int64)

    def sets(self, starts: Whole, lengths: Whole, *, rest: bool = False) -> dict[str, Matrix]:
        """Return the embeddings and the aggregates of a slice, or of all other events.

        Args:
            starts: (C,) places of the first events of the slices.
            lengths: (C,) numbers of events of the slices.
            rest: take the events that are not in the slice.

        Returns:
            Name of the feature set -> (C, numbers) float32. Every client needs an event.
        """
        wanted = pa.table(
            {"number": np.arange(len(starts)), "start": starts, "stop": starts + lengths}
        )
        self.source.connection.register("audit_given", wanted)
        self.source.query("CREATE OR REPLACE TABLE audit_slices AS FROM audit_given")
        self.source.query(
            "CREATE OR REPLACE TABLE audit_rows AS SELECT row FROM audit_places JOIN audit_slices "
            f"USING (number) WHERE (place >= start AND place < stop) = {not rest}"
        )
        self.source.query(
            f"CREATE OR REPLACE VIEW events AS FROM audit_events WHERE {ROW} IN (SELECT row FROM "
            "audit_rows)"
        )
        part = replace(self.source, checked={})
        table = self.plan.compute(part)
        plain = table.loc[:, self.plan.plain_columns].to_numpy(np.float32)
        return {AGGREGATES: plain[self._places(table.index)], EMBEDDINGS: self._embedded(part)}

    def _embedded(self, part: EventSource) -> Matrix:
        model = self.model
        encoder = model.encoder.to(self.device).eval()
        ids: list[Any] = []
        vectors = []
        for batch in encode(part, model.schema, model.vocabulary):
            sequences = EncodedSequences.from_batches([batch], time=model.schema.time)
            vectors.append(embed_sequences(encoder, sequences, model.config, device=self.device))
            ids += sequences.client_ids.to_pandas().tolist()
        found: Matrix = torch.cat(vectors).numpy()
        return found[self._places(pd.Index(ids))]

    def _places(self, index: pd.Index[Any]) -> npt.NDArray[np.intp]:
        """Positions in `index` of the clients, in their order."""
        return np.asarray(index.get_indexer(self.clients), np.intp)
