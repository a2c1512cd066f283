"""An experiment runs each cell once, compares rows, and gives intervals."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from plans import PLAN, QUICK, events_and_labels, write
from scipy.stats import t
from small import TINY
from typer.testing import CliRunner

import seqmel.experiment.run
import seqmel.training.finetuning.finetune
from seqmel.core.atomic_files import exclusive_lock
from seqmel.core.errors import ConfigError, InputError, OutputError, SeqmelError
from seqmel.experiment import read_plan, run_experiment
from seqmel.experiment.intervals import half_width
from seqmel.experiment.plan import Cell
from seqmel.experiment.table import markdown


@pytest.fixture(scope="module")
def _done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = events_and_labels(tmp_path_factory.mktemp("done"))
    run_experiment(folder / "plan.yaml", folder / "out")
    return folder


@pytest.fixture
def done(_done: Path, tmp_path: Path) -> Path:
    """A folder of one's own with PLAN and its results in `out`."""
    return Path(shutil.copytree(_done, tmp_path / "done"))


@pytest.fixture(scope="module")
def _quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = events_and_labels(tmp_path_factory.mktemp("quick"))
    run_experiment(write(folder, QUICK), folder / "out")
    return folder


@pytest.fixture
def quick(_quick: Path, tmp_path: Path) -> Path:
    """A folder of one's own with QUICK and its results in `out`."""
    return Path(shutil.copytree(_quick, tmp_path / "quick"))


def test_every_row_seed_and_target_is_scored_on_the_same_folds(done: Path) -> None:
    folder = done
    table = folder / "out" / "table.md"
    results = pd.read_parquet(folder / "out" / "results.parquet")
    assert set(results["features"]) == {
        "aggregates", "aggregates with order",
        "pooled", "pooled: linear", "pooled + aggregates with order", ("pooled: linear, "
"aggregates with order: "
"averaged"),
        "gru", "gru: linear", "gru + aggregates with order", ("gru: linear, aggregates with "
"order: averaged"),
    }  # fmt: skip
    counts = results[results["primary"]].groupby(["target", "features"]).size()
    assert counts.loc[("habit", "gru")] == 4
    assert counts.loc[("habit", "aggregates")] == 2
    assert set(results["target"]) == {"habit", "amount"}
    text = table.read_text()
    for name in (
        "cards: habit | auroc",
        "cards: amount | r2",
        "| gru + aggregates with order |",
        "seeds 0, 1",
    ):
        assert name in text
    assert (folder / "out" / "table.png").read_bytes()[:4] == b"\x89PNG"


def test_the_loss_of_the_base_is_taken_in_a_row_of_another_objective_and_that_of_the_row_is_refused(
    folder: Path,
) -> None:
    cpc = {"objective": "cpc", "encoder": TINY["encoder"]}
    plan = PLAN | {"base": PLAN["base"] | {"loss": "triplet"}, "rows": {"ours": {}, "cpc": cpc}}
    assert read_plan(write(folder, plan)).config("cpc", "cards", 0).loss.name == "triplet"
    plan["rows"]["cpc"] = cpc | {"loss": "contrastive"}
    with pytest.raises(ConfigError, match="row 'cpc': the loss contrastive has no effect"):
        read_plan(write(folder, plan))


def figures(table: Path) -> str:
    """The table without the seconds, which no run has twice."""
    before, seconds, _ = table.read_text().partition("Cost of one model")
    assert seconds
    return before


def test_a_second_run_does_nothing_again_and_says_so(
    done: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = done
    first = figures(folder / "out" / "table.md")
    (gone,) = (folder / "out" / "cells").glob("cards-gru-*-1.json")
    gone.unlink()
    ran: list[Any] = []
    real = seqmel.experiment.run.run_cell
    monkeypatch.setattr(seqmel.experiment.run, "run_cell", lambda *a: (ran.append(a[3]), real(*a)))
    again = run_experiment(folder / "plan.yaml", folder / "out", progress=True)
    assert figures(again) == first
    assert [(cell.row, cell.seed) for cell in ran] == [("gru", 1)]
    count = len(list((folder / "out" / "cells").glob("*.json")))
    said = f"{count - 1} of {count} cells are complete in "
    assert said in capsys.readouterr().err
    run_experiment(folder / "plan.yaml", folder / "out", progress=True)
    assert f"{count} of {count} cells are complete in " in (err := capsys.readouterr().err)
    assert "none is left" in err


def test_two_runs_do_not_write_one_output(done: Path) -> None:
    with (
        exclusive_lock(done / "out.partial", done / "out"),
        pytest.raises(OutputError, match=r"Another run is writing .*out just now"),
    ):
        run_experiment(done / "plan.yaml", done / "out")


def test_cells_in_processes_give_the_same_and_end_with_the_experiment(folder: Path) -> None:
    plan = write(folder, QUICK | {"rows": PLAN["rows"]})
    one = figures(run_experiment(plan, folder / "one"))
    assert figures(run_experiment(plan, folder / "two", jobs=2)) == one
    assert "minus pooled" in one
    (cell,) = (folder / "two" / "cells").glob("cards-pooled-*-0.json")
    cell.unlink()
    words = [
        sys.executable,
        "-m",
        "seqmel.experiment.run",
        plan,
        folder,
        folder / "two",
        "pooled",
        "cards",
        "0",
    ]
    gone = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert gone.returncode == 1
    assert "Traceback" not in gone.stderr
    assert not cell.exists()


def test_rows_that_changed_are_not_taken_for_done(done: Path) -> None:
    plan = write(done, PLAN | {"trees": 4})
    with pytest.raises(OutputError, match="other settings"):
        run_experiment(plan, done / "out")


def other_contents(folder: Path, name: str) -> None:
    table = pq.read_table(folder / f"{name}.parquet")
    pq.write_table(table.slice(0, len(table) - 1), folder / f"{name}.parquet")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: other_contents(folder, "events"), "The events of cards changed since"),
        (lambda folder: other_contents(folder, "labels"), "The labels of cards changed since"),
        (
            lambda folder: os.utime(folder / "events.parquet", ns=(1, 1)),
            "The events of cards changed",
        ),
        (
            lambda folder: write(folder, QUICK | {"base": {"preparation": {"min_count": 3}}}),
            "The preparation of cards",
        ),
        (
            lambda folder: write(
                folder, QUICK | {"base": QUICK["base"] | {"schema": {"ignore": ["amount"]}}}
            ),
            (
                "The schema of cards changed.*Name another output folder, or remove .*out to begin "
                "anew"
            ),
        ),
    ],
    ids=["events", "labels", "time", "preparation", "schema"],
)
def test_results_of_other_data_are_not_gone_on_with(
    quick: Path, change: Callable[[Path], Any], words: str
) -> None:
    change(quick)
    with pytest.raises(OutputError, match=words) as caught:
        run_experiment(quick / "plan.yaml", quick / "out")
    assert "\n" not in str(caught.value)


def test_changed_data_are_scored_into_another_folder_and_the_same_by_another_path_are_known(
    quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(quick)
    monkeypatch.setattr(seqmel.experiment.run, "run_cell", lambda *_: pytest.fail("a cell was run"))
    run_experiment("plan.yaml", "out")
    monkeypatch.undo()
    other_contents(quick, "events")
    assert run_experiment(quick / "plan.yaml", quick / "other").exists()


def test_a_folder_of_data_changes_with_each_of_its_files(folder: Path) -> None:
    (folder / "events").mkdir()
    (folder / "events.parquet").rename(folder / "events" / "one.parquet")
    data = {"cards": QUICK["data"]["cards"] | {"events": "events"}}
    plan = write(folder, QUICK | {"data": data})
    run_experiment(plan, folder / "out")
    (folder / "events" / "notes.txt").write_text("no data")
    run_experiment(plan, folder / "out")
    pq.write_table(
        pq.read_table(folder / "events" / "one.parquet"), folder / "events" / "two.parquet"
    )
    with pytest.raises(OutputError, match="The events of cards changed"):
        run_experiment(plan, folder / "out")


def test_generated_data_are_of_so_many_clients(folder: Path) -> None:
    plan = QUICK | {"data": {"cards": {"generated": 200, "targets": ["gender"]}}}
    run_experiment(write(folder, plan), folder / "out")
    run_experiment(folder / "plan.yaml", folder / "out")
    plan["data"]["cards"]["generated"] = 201
    with pytest.raises(OutputError, match="The number of generated clients of cards changed"):
        run_experiment(write(folder, plan), folder / "out")


def test_results_of_an_earlier_version_and_data_that_are_gone_are_taken_as_they_are(
    quick: Path,
) -> None:
    plan, table = quick / "plan.yaml", (quick / "out" / "table.md").read_text()
    (quick / "events.parquet").unlink()
    assert run_experiment(plan, quick / "out").read_text() == table
    other_contents(quick, "labels")
    (quick / "out" / "prepared" / "cards.source.json").unlink()
    assert run_experiment(plan, quick / "out").read_text() == table
    assert not (quick / "out" / "prepared" / "cards.source.json").exists()


def test_data_that_could_not_be_prepared_may_be_mended(folder: Path) -> None:
    events = (folder / "events.parquet").read_bytes()
    (folder / "events.parquet").write_bytes(events[:100])
    plan = write(folder, QUICK)
    with pytest.raises(SeqmelError, match=r"events\.parquet"):
        run_experiment(plan, folder / "out")
    (folder / "events.parquet").write_bytes(events)
    run_experiment(plan, folder / "out")
    (folder / "events.parquet").write_bytes(events)
    with pytest.raises(OutputError, match="The events of cards changed"):
        run_experiment(plan, folder / "out")


@pytest.mark.parametrize("part", ["events", "labels"])
def test_a_wrong_path_leaves_no_folder(folder: Path, part: str) -> None:
    data = {"cards": QUICK["data"]["cards"] | {part: "evnts.parquet"}}
    with pytest.raises(InputError, match=r"No such file or folder: .*evnts\.parquet"):
        run_experiment(write(folder, QUICK | {"data": data}), folder / "out")
    assert not (folder / "out").exists()


def test_what_the_preparation_may_take_can_differ(folder: Path) -> None:
    rows = {"pooled": {}, "gru": {"preparation": {"threads": 1}}}
    plan = read_plan(write(folder, QUICK | {"rows": rows}))
    assert plan.config("gru", "cards", 0).preparation.threads == 1


def test_a_row_is_the_base_with_its_own_options_over_it(folder: Path) -> None:
    rows = {"a": {"event_encoder": {"layers": 1}}, "b": {"encoder": "transformer"}}
    base = {"event_encoder": {"hidden_size": 32}, "encoder": {"name": "gru", "hidden_size": 64}}
    plan = read_plan(write(folder, PLAN | {"base": base, "rows": rows}))
    a, b = plan.config("a", "cards", 3), plan.config("b", "cards", 4)
    assert (a.event_encoder.hidden_size, a.event_encoder.layers, a.encoder.name, a.seed) == (
        32,
        1,
        "gru",
        3,
    )
    assert (b.event_encoder.hidden_size, b.event_encoder.layers, b.encoder.name, b.seed) == (
        32,
        2,
        "transformer",
        4,
    )


def test_a_data_set_has_its_own_options_and_seeds_between_the_base_and_the_rows(
    folder: Path,
) -> None:
    own = {"options": {"training": {"epochs": 7, "batch_size": 8}}, "seeds": [5]}
    data = {"cards": PLAN["data"]["cards"], "more": PLAN["data"]["cards"] | own}
    rows = {"a": {}, "untrained": {"training": {"epochs": 0}}}
    plan = read_plan(
        write(folder, PLAN | {"base": {"training": {"epochs": 2}}, "data": data, "rows": rows})
    )
    epochs = [
        plan.config(row, data, 0).training.epochs for data in ("cards", "more") for row in rows
    ]
    assert epochs == [2, 0, 7, 0]
    assert plan.config("untrained", "more", 0).training.batch_size == 8
    assert [cell.seed for cell in seqmel.experiment.run._cells(plan) if cell.row == "a"] == [
        0,
        1,
        5,
    ]
    text = markdown(plan, results_of("aggregates", "a"))
    assert "cards: seeds 0, 1; more: seed 5;" in text


def test_data_can_be_generated(folder: Path) -> None:
    data = {"cards": {"generated": 200, "targets": ["gender"]}}
    base = {"event_encoder": {"hidden_size": 8}, "training": {"epochs": 0}}
    plan = PLAN | {
        "data": data,
        "base": base,
        "rows": {"untrained": {}},
        "seeds": [0],
        "aggregates": False,
    }
    assert (
        "| cards: gender | auroc |"
        in run_experiment(write(folder, plan), folder / "out").read_text()
    )
    made = pq.read_table(folder / "out" / "generated" / "cards" / "events.parquet")
    assert made.cast(seqmel.generate_card_data(200).events.schema).equals(
        seqmel.generate_card_data(200).events
    )


def test_clients_limits_every_row_to_the_first_ones(folder: Path) -> None:
    plan = write(folder, PLAN | {"clients": 24, "seeds": [0], "rows": {"pooled": {}}})
    run_experiment(plan, folder / "out")
    for cell in (folder / "out" / "cells").iterdir():
        assert {scores["clients"] for scores in json.loads(cell.read_text())["scores"]} == {24}


def test_the_interval_adds_the_chance_of_folds_and_of_seeds() -> None:
    values = np.array([[0.1, 0.2, 0.4], [0.3, 0.1, 0.5]])
    folds, seeds = values.mean(0).var(ddof=1) / 3, values.mean(1).var(ddof=1) / 2
    freedom = (folds + seeds) ** 2 / (folds**2 / 2 + seeds**2 / 1)
    assert half_width(values) == pytest.approx(t.ppf(0.975, freedom) * np.sqrt(folds + seeds))
    assert half_width(values[:1]) == pytest.approx(
        t.ppf(0.975, 2) * values[0].std(ddof=1) / np.sqrt(3)
    )
    assert half_width(np.full((3, 5), 0.7)) < 1e-12
    assert half_width(np.zeros((3, 5))) == half_width(np.zeros((1, 5))) == 0


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize("between", ["seeds", "folds"])
def test_the_interval_holds_the_mean_as_often_as_it_says(between: str, seeds: int) -> None:
    # with the degrees of freedom of the folds alone it was 79 % for two seeds that differ, and 90 %
    # for three
    shape = (2_000, seeds, 1) if between == "seeds" else (2_000, 1, 5)
    values = np.broadcast_to(np.random.default_rng(0).normal(size=shape), (2_000, seeds, 5))
    holds = [abs(grid.mean()) <= half_width(grid) for grid in values]
    assert 0.93 <= np.mean(holds) <= 0.97


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rows": {"x": {"encodr": "gru"}}}, ["row 'x'", "encodr", "encoder"]),
        ({"seedz": [1]}, ["seedz", "seeds"]),
        ({"folds": 1}, ["folds"]),
        ({"rows": {}}, ["rows"]),
        (
            {"rows": {"x": {"scored": "finetund"}}},
            ["row 'x'", "finetund", "trees, finetuned, scratch", "Did you mean"],
        ),
        (
            {"rows": {"a": {}, "x": {"preparation": {"min_count": 3}}}},
            ["row 'x'", "min_count", "3", "'a'", "into base"],
        ),
        (
            {"rows": {"a": {}, "x": {"schema": {"ignore": ["amount"]}}}},
            ["row 'x'", "amount", "another plan"],
        ),
        ({"label_fractions": [0.1, 2]}, ["label_fractions"]),
        (
            {"data": {"cards": {"events": "e", "labels": "l", "targets": ["t"], "evnts": 1}}},
            ["evnts", "events"],
        ),
        (
            {"data": {"cards": {"events": "e", "targets": ["t"]}}},
            ["data.cards: needs events and labels, or generated"],
        ),
        (
            {"data": {"cards": PLAN["data"]["cards"] | {"generated": 300}}},
            ["data.cards: needs", "not both"],
        ),
        (
            {"data": {"cards": PLAN["data"]["cards"] | {"options": {"encodr": 1}}}},
            ["encodr", "encoder"],
        ),
        (
            {"data": {"cards": {"generated": 200, "targets": ["gendr"]}}},
            ["data.cards: generated", "'gendr'", "'gender'?"],
        ),
        ({"seeds": 3}, ["seeds is 3. Expected a list, in brackets"]),
        ({"rows": {"a": None}}, ["rows.a is None. Expected options by their names", "{} for none"]),
        ({"seeds": [0, 1, 0]}, ["seeds: 0 is named twice"]),
        ({"label_fractions": [0.5, 0.5, 1]}, ["label_fractions: 0.5 is named twice"]),
        (
            {"data": {"cards": PLAN["data"]["cards"] | {"targets": ["habit"] * 2}}},
            ["targets: 'habit' is named twice"],
        ),
        (
            {"data": {"cards": PLAN["data"]["cards"] | {"seeds": [3, 3]}}},
            ["data.cards.seeds: 3 is named twice"],
        ),
        (
            {"rows": {"aggregates": {"encoder": "gru"}}},
            ["the row 'aggregates' has the name", "another name"],
        ),
        (
            {"rows": {"a": {}, "a + aggregates with order": {}}},
            ["the row 'a + aggregates with order' has the name"],
        ),
        ({"rows": {"a: linear": {}, "a": {}}}, ["the row 'a: linear' has the name"]),
    ],
    ids=[
        "option",
        "key",
        "folds",
        "no rows",
        "scored",
        "preparation",
        "schema",
        "shares",
        "data",
        "no labels",
        "two sources",
        "data's option",
        "target of generated",
        "no list",
        "no options",
        "seed twice",
        "share twice",
        "target twice",
        "data's seed twice",
        "aggregates",
        "beside aggregates",
        "linear",
    ],
)
def test_a_plan_that_is_wrong_is_refused_before_anything_runs(
    change: dict[str, Any], words: list[str], folder: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        run_experiment(write(folder, PLAN | change), folder / "out")
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)
    assert not (folder / "out").exists()


def test_a_cell_that_fails_in_a_process_says_why(folder: Path) -> None:
    base = {"training": {"epochs": 1, "min_events": 1_000}}
    plan = PLAN | {"base": base, "aggregates": False, "rows": {"pooled": {}}, "seeds": [0]}
    with pytest.raises(
        SeqmelError, match=r"Row 'pooled'.*Found 0 of 40 clients with the 1000 events"
    ):
        run_experiment(write(folder, plan), folder / "out", jobs=2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": {"targets": ["habit", "habbit"]}}, ("No column 'habbit' in .*'habit'.*with the "
"plan's targets")),
        ({"data": {"schema": {"client": "kunde"}}}, ("No column 'kunde' in .*labels.parquet.*with "
"the plan's schema")),
        ({"data": {"targets": ["client_id"]}}, "The column 'client_id' is the client column"),
        ({"data": {"targets": ["habit", "rare"]}}, ("2 folds need 2 clients of every class of the "
"target 'rare'; class 'b' has 1")),
        ({"folds": 30}, "30 folds need at least 60 clients"),
        ({"label_fractions": [0.01, 1]}, "The label fraction 0.01 of 20 training clients leaves 0"),
    ],
    ids=["target", "client", "client as target", "class", "folds", "share"],
)  # fmt: skip
def test_labels_that_no_row_could_be_scored_by_are_refused_before_any_work(
    change: dict[str, Any], words: str, folder: Path
) -> None:
    frame: pd.DataFrame = pq.read_table(folder / "labels.parquet").to_pandas()
    frame.assign(rare=["b", *["a"] * (len(frame) - 1)]).to_parquet(folder / "labels.parquet")
    data = {"cards": PLAN["data"]["cards"] | change.pop("data", {})}
    with pytest.raises(InputError, match=words):
        run_experiment(write(folder, PLAN | {"data": data} | change), folder / "out")
    assert not (folder / "out").exists()


@pytest.mark.parametrize("clients", [None, 3])
def test_labels_of_too_few_clients_are_refused_before_any_training(
    clients: int | None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if clients is None:
        frame: pd.DataFrame = pq.read_table(folder / "labels.parquet").to_pandas()
        frame.assign(client_id=range(len(frame))).to_parquet(folder / "labels.parquet")
    monkeypatch.setattr(seqmel.experiment.run, "run_cell", lambda *_: pytest.fail("a cell was run"))
    with pytest.raises(
        InputError,
        match="No client of the labels has" if clients is None else "need at least 4 clients",
    ):
        run_experiment(write(folder, PLAN | {"clients": clients}), folder / "out")


def published(*parts: dict[str, Any]) -> dict[str, Any]:
    return PLAN | {"published": list(parts)}


def results_of(*names: str) -> pd.DataFrame:
    """Two folds of two targets for each of these features."""
    rows = [
        {
            "data": "cards",
            "target": target,
            "metric": "auroc",
            "features": name,
            "seed": 0,
            "fold": fold,
            "value": 0.5,
            "primary": True,
            "seconds": 2.0,
            "steps": 9,
        }
        for target in ("habit", "amount")
        for name in names
        for fold in (0, 1)
    ]
    return pd.DataFrame(rows)


def test_published_figures_stand_beside_the_rows_and_targets_that_they_name(folder: Path) -> None:
    theirs = {"figures": "AUROC, a paper", "rows": {"gru": ".9 ± .1", "aggregates": 0.8}}
    more = {"figures": "another", "target": "habit", "rows": {"gru + aggregates with order": 0.7}}
    plan = read_plan(write(folder, published(theirs, more)))
    text = markdown(plan, results_of("aggregates", "pooled", "gru", "gru + aggregates with order"))
    habit, amount = text.split("\n\n")[2:4]
    assert habit.splitlines()[0].endswith(
        "| minus aggregates | published: AUROC, a paper | published: another |"
    )
    assert amount.splitlines()[0].endswith("| minus aggregates | published: AUROC, a paper |")
    cells = {line.split(" | ")[0]: line.split(" | ")[3:] for line in habit.splitlines()[2:]}
    assert cells["| aggregates"] == ["0.8", " |"]
    assert cells["| gru"] == [".9 ± .1", " |"]
    assert cells["| gru + aggregates with order"] == ["", "0.7 |"]
    assert all(line.count("|") == 6 for line in habit.splitlines())


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            {"rows": {"grru": 1}},
            "published 'x' names the row 'grru', which is not in the plan. Did you mean 'gru'",
        ),
        ({"rows": {"gru": 1}, "data": "card"}, "names the data set 'card', .*Did you mean 'cards'"),
        (
            {"rows": {"gru": 1}, "target": "habits"},
            "names the target 'habits', .*Did you mean 'habit'",
        ),
        ({"rows": {"gru": 1}, "tarket": "habit"}, "unknown option .*tarket.*Did you mean 'target'"),
    ],
)
def test_published_figures_beside_nothing_are_refused(
    folder: Path, part: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_plan(write(folder, published({"figures": "x"} | part)))


def test_published_figures_are_no_setting_of_a_cell(folder: Path) -> None:
    theirs = read_plan(write(folder, published({"figures": "x", "rows": {"gru": 1}})))
    cell = Cell("gru", "cards", 0)
    assert seqmel.experiment.run._settings(theirs, cell) == seqmel.experiment.run._settings(
        read_plan(write(folder, PLAN)), cell
    )


def test_the_command_prints_the_table(folder: Path) -> None:
    from seqmel.cli.main import app

    write(folder, PLAN | {"seeds": [0], "rows": {"pooled": {}}})
    done = CliRunner().invoke(
        app, ["experiment", str(folder / "plan.yaml"), "-o", str(folder / "out")]
    )
    assert done.exit_code == 0, done.output
    assert "| pooled + aggregates with order |" in done.output


TUNED: dict[str, Any] = PLAN | {
    "rows": {"pooled": {}, "tuned": {"scored": "finetuned"}, "from scratch": {"scored": "scratch"}},
    "base": PLAN["base"] | {"finetuning": {"epochs": 1}},
    "label_fractions": [0.5, 1],
    "seeds": [0],
}


def test_rows_can_be_fine_tuned_and_scored_with_shares_of_the_labels_on_the_same_test_parts(
    folder: Path,
) -> None:
    run_experiment(write(folder, TUNED), folder / "out")
    results = pd.read_parquet(folder / "out" / "results.parquet")
    counts = results[results["primary"]].groupby(["target", "features"]).size()
    names = [
        "aggregates",
        "aggregates with order",
        "pooled",
        "pooled + aggregates with order",
        "tuned",
        "from scratch",
    ]
    for target in ("habit", "amount"):
        for name in names:
            assert counts[target, name] == counts[target, f"{name}, 0.5 of the labels"] == 2
    habit = results[(results["target"] == "habit") & (results["metric"] == "log_loss")]
    assert np.isfinite(habit["value"]).all()
    tuned, scratch = (habit.loc[habit["features"] == name, "value"].tolist() for name in names[4:])
    assert tuned != scratch


def test_fine_tuning_learns_from_the_training_part_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[Any]] = []
    real = seqmel.training.finetuning.finetune.finetuned_model
    monkeypatch.setattr(
        seqmel.training.finetuning.finetune,
        "finetuned_model",
        lambda *a, **k: (seen.append({i for y in a[2].values() for i in y.index}), real(*a, **k))[
            1
        ],
    )
    data = {"cards": PLAN["data"]["cards"] | {"targets": ["habit"]}}
    plan = write(
        folder,
        TUNED | {"data": data, "rows": {"tuned": {"scored": "finetuned"}}, "aggregates": False},
    )
    run_experiment(plan, folder / "out")
    halves, wholes = seen[:2], seen[2:]
    assert [len(part) for part in halves] == [10, 10]
    assert wholes[0] & wholes[1] == set()
    assert len(wholes[0] | wholes[1]) == 40
    assert all(half <= whole for half, whole in zip(halves, wholes, strict=True))


def test_a_plan_as_it_was_before_shares_has_the_settings_that_it_had(folder: Path) -> None:
    plan = read_plan(folder / "plan.yaml")
    settings = seqmel.experiment.run._settings(plan, seqmel.experiment.plan.Cell("gru", "cards", 0))
    assert set(settings) == {"data", "config", "folds", "trees", "clients", "aggregates"}


def test_a_cell_that_was_run_before_there_was_an_option_is_done_where_the_option_is_not_used(
    folder: Path,
) -> None:
    data = {"cards": PLAN["data"]["cards"] | {"targets": ["habit"]}}
    plan = PLAN | {
        "rows": {"gru": PLAN["rows"]["gru"]},
        "seeds": [0],
        "data": data,
        "aggregates": False,
    }
    run_experiment(write(folder, plan), folder / "out")
    (cell,) = (folder / "out" / "cells").glob("*.json")
    stored = json.loads(cell.read_text())
    del stored["settings"]["config"]["event_encoder"]["noise"]
    cell.write_text(json.dumps(stored))
    before = cell.read_bytes()
    run_experiment(folder / "plan.yaml", folder / "out")
    assert cell.read_bytes() == before
    write(
        folder,
        plan
        | {
            "rows": {
                "gru": PLAN["rows"]["gru"] | {"event_encoder": {"hidden_size": 16, "noise": 0.1}}
            }
        },
    )
    with pytest.raises(OutputError, match="other settings"):
        run_experiment(folder / "plan.yaml", folder / "out")
