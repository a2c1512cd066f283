"""Recent-event features equal a loop; parts of a sequence merge; nothing is learned."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from small import batch_of, offsets, part, tiny_config, vocabulary_of
from torch import Tensor

import seqmel.nn.pooling
from seqmel.config.options.network import CategoryMeanOptions
from seqmel.data.sequences.batch import NO_TIME, SequenceBatch
from seqmel.data.vocabulary import CategoryCodes, TimeScale, Vocabulary
from seqmel.nn.by_category import category_slots
from seqmel.nn.encoder import SequenceEncoder
from seqmel.nn.recent import (
    HALF_LIFE,
    PlainEvents,
    Recent,
    RecentEvents,
    numbers_by_column,
    one_hot_sizes,
)

LENGTHS = [3, 0, 1, 9, 2, 0, 12]
VOCABULARY = vocabulary_of()
MANY = Vocabulary(  # a category with more codes than have a place
    categorical={"kind": CategoryCodes(values=tuple(map(str, range(200))), null=False)},
    numeric={},
    time=TimeScale(daily=False, span_days=500, gap_center=8.0, gap_scale=2.0, end_us=0),
)
NAMES = [
    ("recent",),
    ("code_fractions",),
    ("category_recent",),
    ("transitions",),
    ("rhythm",),
    ("known_numbers",),
    ("missing_numbers",),
    ("last_ranks",),
    (
        *("recent", "code_fractions", "category_recent", "transitions", "rhythm", "known_numbers"),
        *("missing_numbers", "last_ranks"),
    ),
]


def made(*names: str, vocabulary: Vocabulary = VOCABULARY, slots: int = 4) -> RecentEvents:
    module = RecentEvents(names, vocabulary, {"kind": slots})
    if module.transitions is not None:
        module.transitions.set_components(components(slots))
    return module


def components(slots: int) -> Tensor:
    pairs = slots * (slots - 1) // 2
    return torch.randn(pairs, min(16, pairs), generator=torch.Generator().manual_seed(5))


def slow_plain(batch: SequenceBatch) -> Tensor:
    """One sequence of VOCABULARY: five codes one-hot, two numbers, and the gap."""
    rows = []
    for i in range(batch.events):
        seconds = (int(batch.time[i]) - int(batch.time[i - 1])) / 1e6 if i else 0.0
        gap = min(5.0, max(-5.0, (math.log1p(seconds) - 8.0) / 2.0))
        hot = [float(int(batch.columns["kind"][i]) == code) for code in range(5)]
        numbers = [float(batch.columns[name][i]) for name in ("size", "level")]
        rows.append([*hot, *(0.0 if math.isnan(z) else z for z in numbers), gap])
    return torch.tensor(rows).view(-1, 8)


def slow_recent(batch: SequenceBatch) -> Tensor:
    """One sequence, event by event."""
    x, n, kinds = slow_plain(batch), batch.events, batch.columns["kind"].tolist()
    last = [x[n - 1 - j] if j < n else torch.zeros(8) for j in range(8)]
    if n == 0:
        return torch.zeros(10 * 8 + 2)
    weights = [2 ** (-(n - 1 - i) / HALF_LIFE) for i in range(n)]
    late = sum((w * row for w, row in zip(weights, x, strict=True)), torch.zeros(8)) / sum(weights)
    drift = sum(((i - (n - 1) / 2) * row for i, row in enumerate(x)), torch.zeros(8)) * 4 / n**2
    run = 1
    while run < n and kinds[n - 1 - run] == kinds[n - 1]:
        run += 1
    changes = sum(a != b for a, b in zip(kinds[1:], kinds[:-1], strict=True)) / max(1, n - 1)
    return torch.cat([*last, late - x.mean(0), drift, torch.tensor([math.log1p(run), changes])])


def slow_fractions(batch: SequenceBatch) -> Tensor:
    """Return the fraction of one sequence's events with each code."""
    kinds = batch.columns["kind"].tolist()
    return torch.tensor([kinds.count(code) / max(1, len(kinds)) for code in range(5)])


def slow_by_category(batch: SequenceBatch, slots: int) -> Tensor:
    """Return one sequence's numbers per category; codes without a slot go with code 1."""
    n = batch.events
    kinds = [k if k < slots else 1 for k in batch.columns["kind"].tolist()]
    since, counts, values, means = [], [], [], []
    for slot in range(slots):
        own = [i for i in range(n) if kinds[i] == slot]
        since.append(1 / (n - own[-1]) if own else 0.0)
        counts.append(math.log1p(len(own)))
        for name in ("level", "size"):
            z = batch.columns[name].nan_to_num(0.0).tolist()
            values.append(z[own[-1]] if own else 0.0)
            means.append(sum(z[i] for i in own) / len(own) if own else 0.0)
    change = [last - mean for last, mean in zip(values, means, strict=True)]
    return torch.tensor([*since, *counts, *values, *means, *change])


def slow_transitions(batch: SequenceBatch, slots: int) -> Tensor:
    """One sequence: a before b less b before a, for each pair of kinds, times the components."""
    kinds = [k if k < slots else 1 for k in batch.columns["kind"].tolist()]
    followed = list(itertools.pairwise(kinds))
    pairs = [(a, b) for a in range(slots) for b in range(a + 1, slots)]
    away = [followed.count((a, b)) - followed.count((b, a)) for a, b in pairs]
    return (
        torch.tensor(away, dtype=torch.float32)
        / math.sqrt(max(1, batch.events))
        @ components(slots)
    )


def slow_rhythm(batch: SequenceBatch, slots: int) -> Tensor:
    """Return one sequence's statistics of gaps, and the time since each kind."""
    times = [int(t) / 1e6 for t in batch.time]
    kinds = [k if k < slots else 1 for k in batch.columns["kind"].tolist()]
    if not times:
        return torch.zeros(8 + slots)
    unit = math.expm1(8.0)
    since = []
    for slot in range(slots):
        own = [t for t, kind in zip(times, kinds, strict=True) if kind == slot]
        since.append(-math.log1p((times[-1] - own[-1]) / unit) if own else 1.0)
    gaps = [(math.log1p(b - a) - 8.0) / 2.0 for a, b in itertools.pairwise(times)]
    gaps = [min(5.0, max(-5.0, gap)) for gap in gaps]
    if not gaps:
        return torch.tensor([0.0] * 8 + since)
    found = torch.tensor(gaps, dtype=torch.float64)
    last = [*reversed(gaps), 0.0, 0.0, 0.0][:3]
    decayed = []
    for half_life in (2.0, 8.0):
        weights = 0.5 ** (torch.arange(len(gaps) - 1, -1, -1).double() / half_life)
        decayed.append(float((found * weights).sum() / weights.sum()))
    middle = [float(found.mean()), float(found.std(correction=0)), max(gaps)]
    return torch.tensor([*middle, *last, *decayed, *since])


def slow_known(batch: SequenceBatch) -> Tensor:
    """Return one sequence's last known value and decayed mean of each numeric column."""
    last, decayed = [], []
    for name in ("size", "level"):
        known = [z for z in batch.columns[name].tolist() if not math.isnan(z)]
        weights = [2 ** (-i / 4) for i in reversed(range(len(known)))]
        last.append(known[-1] if known else 0.0)
        total = sum(w * z for w, z in zip(weights, known, strict=True))
        decayed.append(total / sum(weights) if known else 0.0)
    return torch.tensor(last + decayed)


def slow_missing(batch: SequenceBatch) -> Tensor:
    """Return how often, and how lately, one sequence has `size`, which training events lacked."""
    known = [not math.isnan(z) for z in batch.columns["size"].tolist()]
    n = len(known)
    if not n:
        return torch.zeros(3)
    since = next((i for i, there in enumerate(reversed(known)) if there), None)
    weights = [2 ** (-i / 4) for i in reversed(range(n))]
    late = sum(w for w, there in zip(weights, known, strict=True) if there) / sum(weights)
    return torch.tensor([sum(known) / n, 0.0 if since is None else 1 / (1 + since), late])


def slow_ranks(batch: SequenceBatch) -> Tensor:
    """Return the ranks of the last three codes of one sequence."""
    codes = batch.columns["kind"].tolist()
    size = VOCABULARY.categorical["kind"].size
    found = [math.log1p(code) / math.log(size) for code in reversed(codes)]
    return torch.tensor([*found, 0.0, 0.0, 0.0][:3])


def expected_of(batch: SequenceBatch, names: tuple[str, ...], slots: int = 4) -> Tensor:
    rows = []
    for i in range(len(batch)):
        one = part(batch, i)
        parts = {"recent": slow_recent(one), "category_recent": slow_by_category(one, slots)}
        parts["code_fractions"] = slow_fractions(one)
        parts["transitions"] = slow_transitions(one, slots)
        parts["rhythm"] = slow_rhythm(one, slots)
        parts["known_numbers"] = slow_known(one)
        parts["missing_numbers"] = slow_missing(one)
        parts["last_ranks"] = slow_ranks(one)
        rows.append(torch.cat([parts[name] for name in names]))
    return torch.stack(rows)


@pytest.mark.parametrize("names", NAMES, ids=str)
@pytest.mark.parametrize("lengths", [LENGTHS, [1], [0], [5, 5], [0, 0, 4], [30]], ids=str)
def test_they_are_the_statistics_of_each_sequence(
    names: tuple[str, ...], lengths: list[int]
) -> None:
    batch, module = batch_of(lengths), made(*names)
    found = module(batch)
    assert found.shape == (len(lengths), module.output_size)
    torch.testing.assert_close(found, expected_of(batch, names), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("names", NAMES, ids=str)
def test_an_empty_sequence_gives_zeros(names: tuple[str, ...]) -> None:
    for lengths in ([0, 4, 0], [0, 0]):
        found = made(*names)(batch_of(lengths))
        assert not found[torch.tensor(lengths) == 0].any()


@pytest.mark.parametrize("names", NAMES, ids=str)
def test_a_few_sequences_at_a_time_give_the_same(
    names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, module = batch_of(LENGTHS), made(*names)
    whole = module(batch)
    for numbers in (1, 40, 100_000):
        monkeypatch.setattr(seqmel.nn.pooling, "_BLOCK_NUMBERS", numbers)
        assert torch.equal(module(batch), whole)


@pytest.mark.parametrize("names", NAMES, ids=str)
def test_batch_mates_never_matter(names: tuple[str, ...]) -> None:
    batch, module = batch_of(LENGTHS), made(*names)
    whole = module(batch)
    for i in range(len(batch)):
        assert torch.equal(module(part(batch, i)), whole[i : i + 1])


def cut(batch: SequenceBatch, ends: list[int]) -> tuple[SequenceBatch, SequenceBatch]:
    """Split each sequence after `ends` events; the rest knows the time before it."""
    parts: list[tuple[list[int], list[int]]] = [([], []), ([], [])]
    before = []
    for i, end in enumerate(ends):
        begin, stop = batch.offsets[i : i + 2].tolist()
        for (rows, lengths), some in zip(
            parts, (range(begin, begin + end), range(begin + end, stop)), strict=True
        ):
            rows += some
            lengths.append(len(some))
        before.append(int(batch.time[begin + end - 1]) if end else NO_TIME)
    made = []
    for rows, lengths in parts:
        events, sizes = torch.tensor(rows, dtype=torch.int64), torch.tensor(lengths)
        columns = {name: values[events] for name, values in batch.columns.items()}
        made.append(SequenceBatch(columns, batch.time[events], offsets(sizes), sizes))
    return made[0], replace(made[1], previous_time=torch.tensor(before))


@pytest.mark.parametrize("names", NAMES, ids=str)
@pytest.mark.parametrize(
    "ends",
    [[1, 0, 0, 4, 2, 0, 11], [0] * 7, [3, 0, 1, 9, 2, 0, 12], [2, 0, 1, 8, 1, 0, 3]],
    ids=str,
)
@pytest.mark.parametrize("kinds", ["many", "one"])
def test_summaries_of_two_parts_merge_to_that_of_the_whole(
    names: tuple[str, ...], ends: list[int], kinds: str
) -> None:
    batch, module = batch_of(LENGTHS), made(*names)
    if kinds == "one":  # runs that go on from one part to the next
        batch.columns["kind"][:] = 3
    earlier, later = cut(batch, ends)
    counts = [part.offsets.diff().unsqueeze(1).float() for part in (earlier, later)]
    merged = module.merge(module.summarise(earlier), module.summarise(later), *counts)
    for name, values in module.summarise(batch).items():
        torch.testing.assert_close(merged[name], values, rtol=1e-5, atol=1e-4, msg=name)
    torch.testing.assert_close(
        module.read(merged, sum(counts)), module(batch), rtol=1e-5, atol=1e-5
    )


def test_without_categories_or_numbers_only_what_there_is_is_told() -> None:
    bare = Vocabulary(categorical={}, numeric={}, time=VOCABULARY.time)
    module = RecentEvents(["recent", "category_recent", "transitions"], bare, {})
    batch = batch_of(LENGTHS)
    assert module(batch).shape == (len(LENGTHS), 8 + 2)  # the gaps of eight events, trend and drift
    state = module.summarise(batch)
    assert set(state) == {"recent_last", "recent_total", "recent_placed", "recent_decayed"}


def test_without_categories_the_rhythm_is_that_of_the_gaps() -> None:
    bare = Vocabulary(categorical={}, numeric={}, time=VOCABULARY.time)
    module = RecentEvents(["rhythm", "known_numbers", "last_ranks"], bare, {})
    batch = batch_of(LENGTHS)
    expected = expected_of(batch, ("rhythm",))[:, :8]
    torch.testing.assert_close(module(batch), expected, rtol=1e-5, atol=1e-5)
    earlier, later = cut(batch, [1, 0, 0, 4, 2, 0, 11])
    counts = [part.offsets.diff().unsqueeze(1).float() for part in (earlier, later)]
    merged = module.merge(module.summarise(earlier), module.summarise(later), *counts)
    assert all(values.shape[1] for values in merged.values())  # a state has no empty columns
    torch.testing.assert_close(module.read(merged, sum(counts)), expected, rtol=1e-5, atol=1e-5)


def test_codes_without_a_place_are_taken_with_the_unseen() -> None:
    batch = replace(
        batch_of([4]), columns={"kind": torch.tensor([1, 2, 32, 33], dtype=torch.int32)}
    )
    plain = PlainEvents(MANY)
    assert plain.output_size == 32 + 1  # no code for null, which training never saw
    assert plain(batch)[:, :-1].argmax(1).tolist() == [0, 1, 31, 0]
    assert Recent(plain).events == 1


def test_columns_get_statistics_of_numbers_while_there_is_room() -> None:
    # Those that are scaled within the column come first.
    assert numbers_by_column(VOCABULARY, {"kind": 4}) == {"kind": ["level", "size"]}
    assert numbers_by_column(VOCABULARY, {"kind": 33}) == {"kind": ["level"]}
    assert numbers_by_column(VOCABULARY, {"kind": 65}) == {"kind": []}
    shared = numbers_by_column(VOCABULARY, {"kind": 20, "other": 20, "last": 10})
    assert shared == {"kind": ["level", "size"], "other": ["size"], "last": []}


def test_each_categorical_column_has_its_statistics() -> None:
    codes = VOCABULARY.categorical["kind"]
    two = VOCABULARY.model_copy(update={"categorical": {"kind": codes, "twin": codes}})
    batch = batch_of(LENGTHS)
    batch = replace(batch, columns=batch.columns | {"twin": batch.columns["kind"]})
    module = RecentEvents(["category_recent"], two, {"kind": 4, "twin": 3})
    of_kind = RecentEvents(["category_recent"], two, {"kind": 4})
    of_twin = RecentEvents(["category_recent"], two, {"twin": 3})
    assert torch.equal(module(batch), torch.cat([of_kind(batch), of_twin(batch)], dim=1))


def test_the_budget_of_slots_is_divided_over_the_columns() -> None:
    def slots(most: int = 96, column: str | None = None, **sizes: int) -> dict[str, int]:
        codes = {
            n: CategoryCodes(values=tuple(map(str, range(k - 2))), null=False)
            for n, k in sizes.items()
        }
        vocabulary = Vocabulary(categorical=codes, numeric={}, time=VOCABULARY.time)
        return category_slots(CategoryMeanOptions(column=column), vocabulary, most)

    assert slots() == {}
    assert slots(shop=200) == {"shop": 42}
    assert slots(shop=200, column="shop", city=7) == {"shop": 42}
    # The largest column whose values all fit comes first, then small ones before large ones.
    assert slots(shop=200, city=30, channel=5, product=900) == {
        "city": 30, "channel": 5, "shop": 30, "product": 31,
    }  # fmt: skip
    assert slots(most=20, city=8, channel=4, shop=90) == {"city": 8, "channel": 4, "shop": 8}
    assert slots(constant=2, city=8) == {"city": 8}


def test_one_hot_codes_are_shared_among_the_categories() -> None:
    assert one_hot_sizes([]) == []
    assert one_hot_sizes([5, 200], most=48) == [5, 43]
    assert one_hot_sizes([300, 4, 300], most=24) == [10, 4, 10]
    assert one_hot_sizes([300, 4, *[300] * 40], most=48) == [2] * 24 + [0] * 18


def test_they_stand_between_what_is_learnt_and_the_profile() -> None:
    torch.manual_seed(0)
    names = ["mean", "recent", "category_mean", "category_recent", "transitions"]
    encoder = SequenceEncoder(tiny_config(pooling=names, encoder="none"), VOCABULARY).eval()
    batch = batch_of(LENGTHS)
    assert encoder.recent is not None
    vectors, learnt = encoder.embed(batch), encoder.encode(batch)
    assert not list(encoder.recent.parameters())
    assert torch.equal(vectors[:, : encoder.vector_size], learnt)
    assert torch.equal(vectors[:, encoder.vector_size : -3], encoder.recent(batch))
    assert SequenceEncoder(tiny_config(pooling=names, embedding_dim=7), VOCABULARY).output_size == 7
