"""What each event, column and fact of a client adds to a score: Shapley values by random orders.

Let v(S) be what the model gives for a client of whom only the parts S are known. A vector has parts
that no gradient goes through: counts of events by category, runs, transitions, the last events. So
the path of integrated gradients (Sundararajan, Taly, Yan 2017, arXiv 1703.01365) does not lead
through scaled inputs. It leads through the probability q, the same for all parts, that a part is
known:

    phi_i = integral over q from 0 to 1 of E[v(S with i) - v(S without i)]

These are the Shapley values (Owen: Multilinear extensions of games, 1972). They hold for every part
of a vector, and they add up to v(all) - v(nothing). They are estimated by random orders in which
the parts become known, each order walked forwards and backwards (Mitchell et al. 2022, arXiv
2104.12199). The sums telescope, so the total is exact for any number of orders.

Parts are the events, and facts about the client. An unknown event is not there at all: the gap to
the event before it grows, and no pooling counts it. Within an event its columns become known one
after the other, right after the event itself with its time (Owen: Values of games with a priori
unions, 1977). Until then they have values drawn at random from the distribution of the training
events, column by column, so that an event of which nothing but the time is known is an average one;
those of other kinds than categories and numbers are drawn from the events of the client.
An unknown fact is that of a typical client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqmel.data.sequences.batch import SequenceBatch
from seqmel.model import TrainedModel

__all__ = ["Order", "Score", "Walk"]

Floats: TypeAlias = npt.NDArray[np.float64]
Facts: TypeAlias = npt.NDArray[np.float32]
Score: TypeAlias = Callable[[SequenceBatch, Facts | None], Floats]
"""Maps B sequences and their (B, facts) encoded facts to (B,) scores."""


@dataclass(frozen=True)
class Order:
    """An order in which the parts of a history become known, at steps 1, 2, ...

    Attributes:
        items: of each step, the number of the item that becomes known.
        entry: (n,) the step at which each event becomes known.
        known: (n, C) the step at which each of its columns does.
        facts: (F,) the step at which each fact does.
        drawn: column -> (n, ...) its encoded values until then.
    """

    items: npt.NDArray[np.int64]
    entry: Tensor
    known: Tensor
    facts: npt.NDArray[np.int64]
    drawn: Mapping[str, Tensor]


class Walk:
    """Walks orders of the parts of one client.

    The number of an item is e * (C + 1) for event e itself, and one more for each of its columns.
    Then follow the earlier events as one item, and the facts.

    Args:
        model: the model, with statistics.
        batch: the sequence of the client, n events.
        score: the score to explain.
        facts: (1, F) the encoded facts of the client; None without.
        last: how many events are parts of their own.

    Attributes:
        events: n.
        earlier: number of events before the last ones.
        columns: the C columns of events.
        has: (n, C) whether the table of an event has a column.
        size: number of items per event, C + 1.
        items: number of items.
    """

    def __init__(
        self,
        model: TrainedModel,
        batch: SequenceBatch,
        score: Score,
        *,
        facts: Facts | None = None,
        last: int,
    ) -> None:
        assert model.statistics is not None, "explain checks this"
        self._model = model
        self._batch = batch
        self._score = score
        self._facts = facts
        self._statistics = model.statistics
        self.events = batch.events
        self.earlier = max(0, self.events - last)
        schema = model.schema
        self.columns = [name for name in schema.features if name != schema.source]
        self.has = self._presence()
        self.size = len(self.columns) + 1
        self._fact_count = 0 if facts is None else facts.shape[1]
        self.items = self.events * self.size + 1 + self._fact_count
        self._players = [
            *range(self.earlier, self.events),
            *([self.events] if self.earlier else []),
            *range(self.events + 1, self.events + 1 + self._fact_count),
        ]

    def _presence(self) -> npt.NDArray[np.bool_]:
        vocabulary = self._model.vocabulary
        batch = self._batch
        there = np.ones((self.events, len(self.columns)), np.bool_)
        for i, name in enumerate(self.columns):
            tables = vocabulary.present_in(name)
            if tables is not None and vocabulary.source is not None:
                there[:, i] = np.isin(batch.columns[vocabulary.source].numpy(), tables)
        return there

    @property
    def work(self) -> int:
        """Number of events that the network runs over for one order, roughly."""
        steps = int(self.has[self.earlier :].sum()) + len(self._players)
        return max(1, steps * self.events // 2)

    def orders(self, pairs: int, random: np.random.Generator) -> Iterator[tuple[Order, Order]]:
        """Yield random orders, each with the same backwards.

        Args:
            pairs: how many.
            random: the generator.
        """
        drawn = {name: self._drawn(i, pairs, random) for i, name in enumerate(self.columns)}
        for pair in range(pairs):
            players = random.permutation(self._players).tolist()
            columns = random.random((self.events, len(self.columns))).argsort(1)
            unknown = {name: values[pair] for name, values in drawn.items()}
            yield (
                self._order(players, columns.tolist(), unknown),
                self._order(players[::-1], columns[:, ::-1].tolist(), unknown),
            )

    def _drawn(self, column: int, pairs: int, random: np.random.Generator) -> Tensor:
        """Return (pairs, n, ...) encoded values of a column that is not known."""
        name = self.columns[column]
        given = self._batch.columns[name]
        of = self._statistics.columns[name]
        if of.kind is not None:
            own = np.flatnonzero(self.has[:, column])
            if not len(own):
                return given.expand(pairs, *given.shape)
            return given[torch.from_numpy(random.choice(own, (pairs, self.events)))]
        fitted = self._model.vocabulary.categorical.get(name)
        codes = 0 if fitted is None else fitted.size
        values = torch.from_numpy(of.draw(pairs * self.events, random, codes=codes))
        return values.view(pairs, self.events).to(given.dtype)

    def _order(
        self, players: Sequence[int], columns: Sequence[Sequence[int]], drawn: Mapping[str, Tensor]
    ) -> Order:
        items: list[int] = []
        entry = torch.zeros(self.events, dtype=torch.int64)
        known = torch.zeros(self.events, len(self.columns), dtype=torch.int64)
        facts = np.zeros(self._fact_count, np.int64)
        for player in players:
            if player > self.events:
                items.append(self.events * self.size + player - self.events)
                facts[player - self.events - 1] = len(items)
            elif player == self.events:
                items.append(self.events * self.size)
                entry[: self.earlier] = known[: self.earlier] = len(items)
            else:
                items.append(player * self.size)
                entry[player] = known[player] = len(items)
                for column in columns[player]:
                    if self.has[player, column]:
                        items.append(player * self.size + 1 + column)
                        known[player, column] = len(items)
        return Order(np.array(items, np.int64), entry, known, facts, drawn)

    def scores(self, order: Order, begin: int, end: int) -> Floats:
        """Return the scores after each of these steps; step 0 knows nothing."""
        steps = torch.arange(begin, end).unsqueeze(1)
        there = order.entry <= steps
        row, event = there.nonzero(as_tuple=True)
        of = self._batch
        columns = {name: values.index_select(0, event) for name, values in of.columns.items()}
        known = order.known.index_select(0, event) <= steps[row]
        for i, name in enumerate(self.columns):
            values = columns[name]
            given = known[:, i].view(-1, *[1] * (values.dim() - 1))
            columns[name] = values.where(given, order.drawn[name].index_select(0, event))
        lengths = there.sum(1)
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        now = None if of.now is None else of.now.expand(len(steps))
        batch = SequenceBatch(columns, of.time.index_select(0, event), offsets, lengths, now=now)
        facts = None
        if self._facts is not None and self._model.facts is not None:
            seen = order.facts[None, :] <= steps.numpy()
            facts = np.where(seen, self._facts, self._model.facts.typical())
        return self._score(batch, facts)

    def baseline(self) -> float:
        """Return the score of a client of whom nothing is known."""
        order, _ = next(self.orders(1, np.random.default_rng(0)))
        return float(self.scores(order, 0, 1)[0])

    def contributions(self, order: Order) -> Floats:
        """Return (items,) what each item adds to the score when it becomes known."""
        most = max(1, self._model.config.events_at_a_time // max(1, self.events))
        steps = len(order.items) + 1
        scores = np.concatenate(
            [self.scores(order, begin, min(steps, begin + most)) for begin in range(0, steps, most)]
        )
        found = np.zeros(self.items)
        found[order.items] = np.diff(scores)
        return found
