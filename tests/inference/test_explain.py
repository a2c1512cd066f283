"""Contributions add up to the prediction, and are the Shapley values of its parts."""

from __future__ import annotations

import datetime as dt
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from in_process import InProcess
from small import card_events, tiny_config

import seqmel
from seqmel.cli.reasons import in_short
from seqmel.core.errors import ConfigError, InputError, ModelError
from seqmel.core.units import count_words
from seqmel.data.fitting.statistics import ColumnBins
from seqmel.data.sequences.batch import SequenceBatch
from seqmel.evaluation.reasons_picture import draw_reasons, score_so_far
from seqmel.inference.attribution import Walk
from seqmel.training.run import prepare

EVENTS = card_events(24, most=12)
IDS = np.unique(EVENTS["client_id"].to_numpy())
FACTS = pd.DataFrame(
    {"client_id": IDS, "age": np.arange(24.0), "region": np.tile(["north", "south", None], 8)}
)
LABELS = pd.DataFrame(
    {"client_id": IDS, "habit": [f"h{i % 3}" for i in range(24)], "spends": np.arange(24) ** 0.5}
)
ONE, OTHER = (int(client) for client in IDS[[5, 6]])


@pytest.fixture(scope="module")
def plain() -> seqmel.Model:
    pooling = ["mean", "max", "last", "log_sum", "category_mean", "recent", "transitions"]
    return seqmel.train(EVENTS, config=tiny_config(pooling=pooling))


@pytest.fixture(scope="module")
def tuned(plain: seqmel.Model) -> seqmel.Model:
    return plain.finetune(
        EVENTS, LABELS, target=["habit", "spends"], facts=FACTS, epochs=1, batch_size=8
    )


@pytest.mark.parametrize("target", ["habit=h0", "habit", "spends"])
@pytest.mark.parametrize("as_of", [None, "1970-06-01"])
def test_contributions_add_up_to_what_predict_gives(
    tuned: seqmel.Model, target: str, as_of: str | None
) -> None:
    how: dict[str, Any] = {"as_of": as_of, "facts": FACTS}
    found = tuned.explain(EVENTS, [ONE, OTHER], target=target, orders=1, last=4, **how)
    row = tuned.predict(EVENTS, **how).droplevel(1) if as_of else tuned.predict(EVENTS, **how)
    assert found["client_id"].unique().tolist() == [ONE, OTHER]
    for client, rows in found.groupby("client_id"):
        output = rows["output"].iloc[0]
        assert output == (f"habit={row.loc[client, 'habit']}" if target == "habit" else target)
        assert rows["contribution"].sum() == pytest.approx(row.loc[client, output], abs=1e-5)


def test_the_baseline_is_a_client_of_whom_nothing_is_known(tuned: seqmel.Model) -> None:
    typical = FACTS.assign(age=11.5, region="north")
    before = tuned.predict(EVENTS, as_of="1960-01-01", facts=typical).iloc[0]["habit=h1"]
    found = tuned.explain(EVENTS, ONE, target="habit=h1", facts=FACTS, orders=1)
    assert found["part"].iloc[0] == "baseline"
    assert found["contribution"].iloc[0] == pytest.approx(before, abs=1e-5)
    typical_rows = tuned.explain(EVENTS, ONE, target="habit=h1", facts=typical, orders=1)
    assert (typical_rows.loc[typical_rows["part"] == "fact", "contribution"].abs() < 1e-6).all()


def test_the_total_of_an_event_is_its_shapley_value(plain: seqmel.Model) -> None:
    own = EVENTS.to_pandas().query(f"client_id == {ONE}").sort_values("event_time")[-3:]
    events = pa.concat_tables(
        [
            EVENTS.filter(pa.compute.not_equal(EVENTS["client_id"], ONE)),
            pa.Table.from_pandas(own, schema=EVENTS.schema, preserve_index=False),
        ]
    )
    other = plain.embed(EVENTS).loc[OTHER].to_numpy(np.float64)

    def cosine(rows: pd.DataFrame) -> float:
        moment = {} if len(rows) else {"as_of": "1960-01-01"}
        vector = plain.embed(rows if len(rows) else own, **moment).iloc[0].to_numpy(np.float64)
        length = np.linalg.norm(vector) * np.linalg.norm(other)
        return float(vector @ other / length) if length else 0.0

    subsets = [list(s) for n in range(4) for s in itertools.combinations(range(3), n)]
    score = {frozenset(some): cosine(own.iloc[some]) for some in subsets}
    expected = [
        sum(
            (score[frozenset({*some, i})] - score[frozenset(some)])
            * math.factorial(len(some))
            * math.factorial(2 - len(some))
            / 6
            for some in subsets
            if i not in some
        )
        for i in range(3)
    ]
    found = plain.explain(events, ONE, near=OTHER, orders=60)
    totals = found.groupby("event")["contribution"].sum()
    np.testing.assert_allclose(totals, expected, atol=0.03)
    assert max(expected) - min(expected) > 0.05  # else the test could not fail


def walk_of(model: seqmel.Model, score: Any, events: int = 5) -> Walk:
    codes = torch.tensor([2, 3, 2, 4, 5])[:events].int()
    columns = {
        "mcc": codes,
        "city": codes.clone(),
        "amount": torch.arange(1.0, 6)[:events],
        "reading": torch.zeros(events),
    }
    lengths = torch.tensor([events])
    batch = SequenceBatch(columns, torch.arange(events), torch.tensor([0, events]), lengths)
    return Walk(model, batch, lambda some, _: score(some), last=10)


def contributions(walk: Walk, pairs: int = 3) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(0)
    walked = [walk.contributions(one) for both in walk.orders(pairs, random) for one in both]
    return np.mean(walked, axis=0)[: walk.events * walk.size].reshape(walk.events, walk.size)


def test_a_count_of_events_is_due_to_each_event_and_to_no_column(plain: seqmel.Model) -> None:
    found = contributions(walk_of(plain, lambda batch: batch.lengths.double().numpy()))
    np.testing.assert_array_equal(found, np.eye(5)[0] * np.ones((5, 1)))


def test_a_sum_of_a_column_is_due_to_the_column_against_a_usual_value(plain: seqmel.Model) -> None:
    def total(batch: SequenceBatch) -> Any:
        found = torch.zeros(len(batch), dtype=torch.float64)
        return found.index_add(0, batch.sequence_index, batch.columns["amount"].double()).numpy()

    walk = walk_of(plain, total)
    found = contributions(walk)
    at = 1 + walk.columns.index("amount")
    np.testing.assert_allclose(found[:, [0, at]].sum(1), np.arange(1, 6), atol=1e-5)
    assert not np.delete(found, [0, at], axis=1).any()


def test_two_events_that_count_only_together_share_alike(plain: seqmel.Model) -> None:
    both = walk_of(plain, lambda batch: (batch.lengths == 2).double().numpy(), events=2)
    np.testing.assert_array_equal(contributions(both, 1).sum(1), [0.5, 0.5])


def test_unknown_values_are_distributed_as_the_training_events() -> None:
    random = np.random.default_rng(0)
    codes = ColumnBins(edges=None, counts=(0, 10, 60, 30)).draw(1000, random, codes=5)
    found = np.bincount(codes.astype(int))
    assert found[:3].tolist() == [0, 100, 600]
    assert found[3:].sum() == 300  # of codes 3 and 4, which share the last bin
    assert abs(found[3] - 150) < 40
    bins = ColumnBins(edges=(0.0, 1.0, 3.0), counts=(0, 2, 1, 0, 1))
    numbers = bins.draw(400, random, codes=0)
    assert np.isnan(numbers).sum() == 100
    assert ((numbers >= 0) & (numbers < 1)).sum() == 200
    assert ((numbers >= 1) & (numbers <= 3)).sum() == 100


def test_reasons_do_not_depend_on_other_clients(plain: seqmel.Model) -> None:
    alone = EVENTS.filter(pa.compute.equal(EVENTS["client_id"], ONE))
    found = plain.explain(alone, str(ONE), orders=2)
    with_others = plain.explain(EVENTS, [OTHER, ONE], orders=2)
    same = with_others[with_others["client_id"] == ONE].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, same, atol=1e-5)


def test_rows_show_the_events_as_they_were_given(plain: seqmel.Model) -> None:
    own = EVENTS.to_pandas().query(f"client_id == {ONE}").sort_values("event_time")
    found = plain.explain(EVENTS, ONE, orders=1, last=2)
    assert found["part"].unique().tolist() == ["baseline", "earlier events", "event"]
    assert found["value"].iloc[1] == count_words(len(own) - 2, "event")
    rows = found[found["part"] == "event"]
    assert rows["event"].unique().tolist() == [len(own) - 1, len(own)]
    assert rows["time"].drop_duplicates().tolist() == own["event_time"][-2:].tolist()
    mcc = rows.loc[rows["column"] == "mcc", "value"]
    assert mcc.tolist() == own["mcc"][-2:].astype(str).tolist()
    assert found["error"].iloc[1:].isna().all()  # of a single order


def test_with_several_tables_an_event_has_the_columns_of_its_own() -> None:
    tables = {"cards": EVENTS.select(["client_id", "event_time", "mcc"]), "moves": EVENTS}
    model = seqmel.train(tables, config=tiny_config())
    found = model.explain(tables, ONE, orders=1)
    events = found[found["part"] == "event"]
    by_source = events.groupby("source")["column"].unique()
    assert by_source["cards"].tolist() == ["event_time", "cards.mcc"]
    assert len(by_source["moves"]) == 5
    assert found["contribution"].sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"clients": 7}, InputError, "Client '7' has no events in the given Table"),
        ({"clients": []}, ConfigError, "No client to explain"),
        ({"clients": ONE, "near": 7}, InputError, "Client '7' has no events"),
        ({"clients": ONE, "target": "habit"}, ModelError, "trained without labels"),
        ({"clients": ONE, "last": 0}, ConfigError, "last is 0"),
        ({"clients": ONE, "orders": 0}, ConfigError, "orders is 0"),
        ({"clients": ONE, "as_of": "soon"}, InputError, "'soon' is not a moment"),
        ({"clients": ONE, "facts": FACTS}, ConfigError, "do not depend on facts"),
    ],
)
def test_what_cannot_be_explained_is_said(
    plain: seqmel.Model, given: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        plain.explain(EVENTS, **given)


def test_what_a_tuned_model_cannot_explain_is_said(tuned: seqmel.Model, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Name one with target"):
        tuned.explain(EVENTS, ONE, facts=FACTS)
    with pytest.raises(ConfigError, match="does not predict 'habit=h9'"):
        tuned.explain(EVENTS, ONE, facts=FACTS, target="habit=h9")
    with pytest.raises(ConfigError, match="none are given"):
        tuned.explain(EVENTS, ONE, target="habit")
    with pytest.raises(ConfigError, match="target cannot be combined with near"):
        tuned.explain(EVENTS, ONE, facts=FACTS, target="habit", near=OTHER)
    prepare(EVENTS, tmp_path / "prepared", model=tuned)
    with pytest.raises(ConfigError, match="does not hold the values"):
        tuned.explain(tmp_path / "prepared", ONE, facts=FACTS, target="habit")


def test_the_command_prints_the_largest_and_writes_all(
    tuned: seqmel.Model, in_process: InProcess, tmp_path: Path
) -> None:
    tuned.save(tmp_path / "model")
    pq.write_table(EVENTS, tmp_path / "events.parquet")
    FACTS.to_csv(tmp_path / "facts.csv", index=False)
    done = in_process.seqmel(
        "explain", str(tmp_path / "model"), str(tmp_path / "events.parquet"), "--client", str(ONE),
        "--target", "spends", "--facts", str(tmp_path / "facts.csv"), "--orders", "2",
        "--top", "2", "-o", str(tmp_path / "reasons.parquet"),
        "--plot", str(tmp_path / "reasons.png"),
    ).stdout  # fmt: skip
    assert (tmp_path / "reasons.png").read_bytes().startswith(b"\x89PNG")
    found = pd.read_parquet(tmp_path / "reasons.parquet")
    assert f"client_id {ONE}: spends is {found['contribution'].sum():.4g}" in done
    sums = found[found["part"] != "baseline"].groupby("column")["contribution"].sum()
    assert f"{sums[sums.abs().idxmax()]:+.4f}" in done
    assert f"... and {len(sums) - 2} more" in done


def test_the_score_so_far_ends_at_the_score(tuned: seqmel.Model, tmp_path: Path) -> None:
    rows = tuned.explain(EVENTS, ONE, target="spends", facts=FACTS, orders=1, last=4)
    found = score_so_far(rows)
    assert len(found) == EVENTS.to_pandas()["client_id"].eq(ONE).sum() == 3
    assert found["score"].iloc[-1] == pytest.approx(rows["contribution"].sum())
    steps = found["score"].diff().iloc[1:]
    np.testing.assert_allclose(steps, found["contribution"].iloc[1:], rtol=1e-6)
    nothing = tuned.explain(
        EVENTS, ONE, target="spends", facts=FACTS, orders=1, as_of=dt.date(1960, 1, 1)
    )
    draw_reasons(tmp_path / "nothing.png", nothing)
    assert score_so_far(nothing).empty


def test_a_history_without_events_is_said_in_one_line(plain: seqmel.Model) -> None:
    words = in_short(plain.explain(EVENTS, ONE, as_of=dt.date(1960, 1, 1)))
    assert words.endswith("vector is 1. No event is known, so there is nothing to explain.")


def test_a_text_counts_against_the_other_texts_of_the_client() -> None:
    words = np.array(["red lamp", "blue lamp", "green chair", "old clock"])
    mcc = EVENTS["mcc"].to_numpy()
    events = EVENTS.append_column("name", pa.array(words[mcc % 4]))
    model = seqmel.train(
        events, config=tiny_config(schema={"kinds": {"name": "text", "city": "hashed"}})
    )
    found = model.explain(events, ONE, orders=1)
    assert found["contribution"].sum() == pytest.approx(1, abs=1e-5)
    assert found.loc[found["column"] == "name", "contribution"].abs().max() > 0
    single = events.filter(pa.compute.equal(events["client_id"], ONE)).slice(0, 1)
    alone = model.explain(single, ONE, orders=1)
    assert alone.loc[alone["column"] == "name", "contribution"].tolist() == [0.0]
