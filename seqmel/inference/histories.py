"""Vectors of many histories of a client, at a cost that grows with its events, not their square.

The state after every `BLOCK` events of a client is carried on, as in updates. A history is the
nearest state before its end and the events after it, so no history reads more than `BLOCK` events.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from seqmel.config import Config
from seqmel.core.device import disable_tf32, with_own_defaults
from seqmel.data.sequences.batch import NO_TIME, SequenceBatch
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.inference.embed import embed_sequences, finite, token_batches
from seqmel.nn.encoder import SequenceEncoder
from seqmel.nn.pooling import Summary, joined
from seqmel.nn.sources import last_by_source

__all__ = ["BLOCK", "embed_histories"]

BLOCK = 64
"""Events from one state of a client to the next."""


@with_own_defaults
@torch.no_grad()
def embed_histories(
    encoder: SequenceEncoder,
    histories: EncodedSequences,
    config: Config,
    *,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Embed R histories. A vector depends on its own history alone, not on what others are given.

    Histories of more than `embedding.max_events` events, and those of an encoder without states,
    are embedded from their events.

    Args:
        encoder: on `device`, in evaluation mode.
        histories: clients as of a moment each, see `EncodedSequences.as_of`.
        config: gives the maximum number of events per sequence and per batch.
        device: the device to compute on.

    Returns:
        (R, D) float32 on the CPU, in the order of `histories`: those of `embed_sequences` up to
        rounding.

    Raises:
        ModelError: a vector is not finite.
    """
    lengths = histories.lengths
    long = (lengths > BLOCK) & (lengths <= config.embedding.max_events)
    if not encoder.has_states or histories.moments is None:
        long[:] = False
    rest = (~long).nonzero()[:, 0]
    rows = long.nonzero()[:, 0]
    vectors = torch.empty(len(histories), encoder.output_size)
    if len(rest):
        part = histories.subset(rest)
        vectors[rest] = embed_sequences(encoder, part, config, device=device)
    if len(rows):
        run = _Carried(encoder, histories, config.events_at_a_time, device)
        with disable_tf32(device):
            run.embed(rows, vectors)
    return finite(vectors)


@dataclass
class _State:
    """States of n clients: the summary, and the last event of each of several tables, (n, S)."""

    summary: Summary
    source_times: Tensor

    def take(self, rows: Tensor) -> _State:
        found = {name: values[rows] for name, values in self.summary.items()}
        return _State(found, self.source_times[rows])


@dataclass(frozen=True)
class _Carried:
    """Carries the states of clients from block to block, and embeds what ends in each."""

    encoder: SequenceEncoder
    histories: EncodedSequences
    events_at_a_time: int
    device: torch.device | str

    def embed(self, rows: Tensor, vectors: Tensor) -> None:
        """Write the vectors of these histories."""
        begins = (self.histories.lengths[rows] - 1) // BLOCK * BLOCK
        owners = self.histories.owners()[rows]
        # Clients with more blocks come first, so that those with further ones are the first ones.
        order = torch.argsort(begins, descending=True, stable=True)
        _, owner = torch.unique(owners[order], return_inverse=True)
        first = torch.full((int(owner.max()) + 1,), len(order))
        first = first.scatter_reduce(0, owner, torch.arange(len(order)), "amin")
        rank = torch.argsort(torch.argsort(first))
        client = rows[order][first.sort().values]  # (n,) the longest history of each client
        last = begins[order][first.sort().values]
        of = torch.empty_like(owner)
        of[order] = rank[owner]  # (R,) the client of each row
        state = None
        for begin in range(0, int(last.max()), BLOCK):
            state = self._advanced(client[last > begin], begin, state)
            ending = (begins == begin + BLOCK).nonzero()[:, 0]
            self._read(rows[ending], begin + BLOCK, state.take(of[ending]), vectors)

    def _advanced(self, clients: Tensor, begin: int, state: _State | None) -> _State:
        """Return the states of clients after a further block."""
        lengths = torch.full_like(clients, BLOCK)
        parts = []
        for some in token_batches(lengths, self.events_at_a_time):
            old = None if state is None else state.take(some)
            parts.append(self._after(clients[some], begin, lengths[some], old)[0])
        source_times = torch.cat([part.source_times for part in parts])
        return _State(joined([part.summary for part in parts]), source_times)

    def _read(self, rows: Tensor, begin: int, state: _State, vectors: Tensor) -> None:
        """Write the vectors of histories that end in the block after the states."""
        lengths = self.histories.lengths[rows] - begin
        ones = torch.ones_like(rows)
        moments = self.histories.moments
        assert moments is not None, "histories have moments"
        for some in token_batches(lengths, self.events_at_a_time):
            of = rows[some]
            after, batch = self._after(of, begin, lengths[some], state.take(some))
            first = self.histories.gather(of, torch.zeros_like(of), ones[some]).time
            last = batch.time[batch.offsets[1:] - 1]
            times = (first.to(last.device), last, moments[of].to(last.device))
            vectors[of] = self.encoder.read(after.summary, *times).float().cpu()

    def _after(
        self, rows: Tensor, begin: int, lengths: Tensor, state: _State | None
    ) -> tuple[_State, SequenceBatch]:
        """Return the states after some events of each client, and these events."""
        batch = self.histories.gather(rows, torch.full_like(rows, begin), lengths)
        sources = self._no_source_times(len(rows)) if state is None else state.source_times
        if state is not None:
            before = torch.full_like(rows, begin - 1)
            earlier = self.histories.gather(rows, before, torch.ones_like(rows)).time
            batch = replace(batch, previous_time=earlier)
            if sources.shape[1]:
                batch = replace(batch, previous_source_times=sources)
        batch = batch.to(torch.device(self.device))
        summary = self.encoder.advance(batch, None if state is None else state.summary)
        gaps = self.encoder.events.source_gaps
        if gaps is not None:
            new = last_by_source(batch, gaps.source, gaps.size).cpu()
            sources = torch.maximum(sources, new)
        return _State(summary, sources), batch

    def _no_source_times(self, clients: int) -> Tensor:
        gaps = self.encoder.events.source_gaps
        return torch.full((clients, 0 if gaps is None else gaps.size), NO_TIME)
