"""Splits: groups stay whole, the test part is later, and shared clients are refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from seqmel.core.errors import ConfigError, InputError
from seqmel.evaluation.problem import Problem, _runs
from seqmel.evaluation.results import Score
from seqmel.evaluation.scoring import score
from seqmel.evaluation.splits import GroupFolds, OutOfTime


def _index(count: int) -> pd.Index:
    return pd.Index([f"c{i:03}" for i in range(count)], name="client_id")


def _labels(count: int = 120) -> pd.Series:
    return pd.Series(np.arange(count) % 2, _index(count), name="left")


def _named(values: object, rows: pd.Index, name: str = "column") -> pd.Series:
    return pd.Series(values, rows, name=name)


def _moments(clients: int, rows: int) -> pd.MultiIndex:
    ids = np.repeat(_index(clients), rows)
    return pd.MultiIndex.from_arrays(
        [ids, np.tile(np.arange(rows), clients)], names=["client_id", "month"]
    )


# --------------------------------------------------------------------------------------------------
# groups


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_group_is_never_on_both_sides_and_every_row_is_tested_once(task: str) -> None:
    y = _labels() if task == "classification" else _named(np.arange(120.0), _index(120), "size")
    groups = _named(np.random.default_rng(0).integers(0, 9, 120), y.index)
    problem = Problem.of(y, task, 3, 0, GroupFolds(groups))  # type: ignore[arg-type]
    for train, test in problem.splits:
        assert not set(groups.iloc[train]) & set(groups.iloc[test])
    assert sorted(np.concatenate([test for _, test in problem.splits])) == list(range(120))
    assert problem.about == {"kind": "groups", "column": "column", "groups": 9, "folds": 3}


def test_fewer_groups_than_folds_are_refused() -> None:
    y = _labels()
    with pytest.raises(InputError, match="5 folds of whole groups need 5 groups; 'column' has 2"):
        Problem.of(y, "auto", 5, 0, GroupFolds(_named(np.arange(120) // 60, y.index)))


def test_a_group_that_takes_a_class_with_it_is_refused() -> None:
    y = _labels().sort_values()
    groups = _named(["first"] * 60 + ["second"] * 60, y.index)
    with pytest.raises(
        InputError, match=r"training part of fold 1 .* split by 'column'\) has no client of class '"
    ):
        Problem.of(y, "auto", 2, 0, GroupFolds(groups))


def test_a_row_without_a_group_is_refused() -> None:
    y = _labels()
    with pytest.raises(
        InputError, match=r"20 of 120 rows that can be scored have no group \(column 'column'\)"
    ):
        Problem.of(y, "auto", 5, 0, GroupFolds(_named(np.arange(120) % 10, y.index).iloc[20:]))


def test_rows_of_one_client_at_several_moments_stay_in_one_fold() -> None:
    rows = _moments(30, 4)
    problem = Problem.of(_named(np.arange(120) // 4 % 2, rows, "left"), "auto", 3, 0)
    for train, test in problem.splits:
        assert not set(rows[train].get_level_values(0)) & set(rows[test].get_level_values(0))


def test_a_client_in_several_groups_is_refused() -> None:
    rows = _moments(30, 4)
    y = _named(np.arange(120) % 2, rows, "left")
    with pytest.raises(
        InputError, match="30 clients are in several groups of 'column', such as 'c000'"
    ):
        Problem.of(y, "auto", 3, 0, GroupFolds(_named(np.arange(120) % 4, rows)))


def test_clients_are_named_as_they_stand_in_the_labels_where_ids_are_numbers() -> None:
    ids = np.repeat(np.arange(7, 47), 3)
    rows = pd.MultiIndex.from_arrays([ids, np.tile(np.arange(3), 40)], names=["client_id", "month"])
    y, months = _named(ids % 2, rows, "left"), _named(rows.get_level_values(1), rows, "month")
    with pytest.raises(InputError, match=r"40 clients have rows before .*, such as 7, and"):
        Problem.of(y, "auto", 5, 0, OutOfTime(months))
    with pytest.raises(
        InputError, match="40 clients are in several groups of 'month', such as 7, and"
    ):
        Problem.of(y, "auto", 3, 0, GroupFolds(months))


# --------------------------------------------------------------------------------------------------
# time


@pytest.mark.parametrize(("share", "tested"), [(0.3, 36), (0.24, 24), (0.01, 12), (0.99, 108)])
def test_the_later_share_is_tested_and_ties_stay_together(share: float, tested: int) -> None:
    y = _labels()
    times = _named(
        pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(120) // 12, "D"), y.index, "day"
    )
    problem = Problem.of(y, "auto", 5, 0, OutOfTime(times, share))
    ((train, test),) = problem.splits
    assert len(test) == tested
    assert times.iloc[train].max() < times.iloc[test].min()
    assert problem.about["cut"] == str(times.iloc[test].min())


def test_a_client_on_both_sides_is_refused_unless_it_is_asked_for() -> None:
    rows = _moments(40, 3)
    y, times = (
        _named(np.arange(120) // 3 % 2, rows, "left"),
        _named(rows.get_level_values(1), rows, "month"),
    )
    with pytest.raises(
        InputError,
        match=r"40 clients have rows before .*, such as 'c000', and .* --allow-client-overlap",
    ):
        Problem.of(y, "auto", 5, 0, OutOfTime(times))
    problem = Problem.of(y, "auto", 5, 0, OutOfTime(times, allow_client_overlap=True))
    assert (
        problem.about["clients_in_both"],
        problem.about["test"],
        problem.about["test_clients"],
    ) == (40, 40, 40)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    y = _labels()
    with pytest.raises(ConfigError, match="Expected a fraction between 0 and 1"):
        Problem.of(y, "auto", 5, 0, OutOfTime(_named(np.arange(120), y.index), share))


def test_text_that_does_not_sort_by_time_splits_nothing() -> None:
    y = _labels(20)
    days = _named([f"{day:02d}.01.2023" for day in range(1, 21)], y.index)
    with pytest.raises(
        InputError, match=r"'column' holds text such as '01\.01\.2023', which does not sort by time"
    ):
        Problem.of(y, "auto", 5, 0, OutOfTime(days))


def test_one_time_only_or_one_class_on_a_side_is_refused() -> None:
    y = _labels()
    with pytest.raises(InputError, match="Column 'column' is 7 in all rows"):
        Problem.of(y, "auto", 5, 0, OutOfTime(_named(7, y.index)))
    with pytest.raises(
        InputError,
        match=r"The training part \(60 rows, split by 'column'\) has no client of class '1'",
    ):
        Problem.of(y, "auto", 5, 0, OutOfTime(_named(y.to_numpy(), y.index)))
    with pytest.raises(InputError, match="has one value only of the target 'left'"):
        Problem.of(y, "regression", 5, 0, OutOfTime(_named(y.to_numpy(), y.index)))


def test_out_of_time_scores_have_the_interval_of_a_bootstrap_over_test_clients() -> None:
    random = np.random.default_rng(0)
    y = _labels(300)
    x = {
        name: pd.DataFrame(
            (y.to_numpy() + random.normal(0, noise, 300))[:, None], y.index, columns=["x"]
        )
        for name, noise in (("sharp", 0.3), ("blunt", 2.0))
    }
    split = OutOfTime(_named(random.permutation(300), y.index))
    scores = score(y, x, trees=5, threads=1, split=split)
    row = scores.score("blunt")
    assert len(row.folds) == 1
    assert row.interval[0] < row.mean < row.interval[1]
    assert row.half_width > scores.score("sharp").half_width
    gain = scores.difference("sharp", "blunt")
    assert gain.interval[0] > 0
    assert scores.to_json()["split"]["kind"] == "out_of_time"
    assert "by bootstrap over the 90 test clients" in scores.markdown()


def test_resamples_draw_whole_clients() -> None:
    rows = _moments(40, 3)
    y, times = (
        _named(np.arange(120) // 3 % 2, rows, "left"),
        _named(rows.get_level_values(1), rows, "month"),
    )
    problem = Problem.of(y, "auto", 5, 0, OutOfTime(times, 0.6, allow_client_overlap=True))
    test = problem.splits[0][1]
    for places in problem._resamples(test)[:20]:
        counts = np.bincount(places, minlength=len(test))
        assert len(places) == len(test)
        for client in np.unique(
            problem.owners
        ):  # every row of a client is drawn as often as its others
            assert len(set(counts[problem.owners[test] == client])) == 1


def test_runs_are_those_of_a_slow_twin() -> None:
    first, count = np.array([5, 0, 9]), np.array([2, 3, 1])
    slow = [f + i for f, c in zip(first, count, strict=True) for i in range(c)]
    assert _runs(first, count).tolist() == slow


def test_an_interval_of_resamples_leaves_out_those_without_a_value() -> None:
    row = Score("a", "auroc", (0.5,), (*np.linspace(0, 1, 101).tolist(), float("nan")))
    assert row.interval == pytest.approx((0.025, 0.975))


# --------------------------------------------------------------------------------------------------
# by time and by client at once


def test_each_fold_trains_on_earlier_rows_of_other_clients_and_tests_later_rows_of_its_own() -> (
    None
):
    rows = _moments(30, 6)
    times = _named(rows.get_level_values(1), rows, "month")
    y = _named(np.random.default_rng(0).integers(0, 2, len(rows)), rows, "left")
    problem = Problem.of(y, "auto", 3, 0, OutOfTime(times, 1 / 3, split_clients=True))
    clients, months = (np.array(rows.get_level_values(level)) for level in (0, 1))
    assert len(problem.splits) == 3
    for train, test in problem.splits:
        assert months[train].max() == 3
        assert months[test].min() == 4
        assert not set(clients[train]) & set(clients[test])
        assert len(train) == 20 * 4
    tested = np.concatenate([test for _, test in problem.splits])
    assert sorted(tested) == np.flatnonzero(months >= 4).tolist()
    assert problem.about["kind"] == "out_of_time_and_clients"
    assert problem.about["clients_in_both"] == 0


def test_the_caption_says_how_rows_were_split_by_time_and_client() -> None:
    rows = _moments(30, 4)
    y = _named(np.random.default_rng(0).integers(0, 2, len(rows)), rows, "left")
    times = _named(rows.get_level_values(1), rows, "month")
    features = pd.DataFrame({"x": np.arange(120.0)}, index=rows)
    split = OutOfTime(times, split_clients=True)
    caption = score(y, {"x": features}, folds=2, trees=2, split=split, progress=False).caption
    assert "left: 120 rows of 30 clients (0: " in caption
    assert "2 folds of clients, each trained on rows of the others before month 3" in caption


def test_clients_cannot_both_be_split_and_overlap() -> None:
    rows = _moments(4, 2)
    both = OutOfTime(_named(range(8), rows), allow_client_overlap=True, split_clients=True)
    with pytest.raises(ConfigError, match="Leave one of them out"):
        both.folds(rows)
