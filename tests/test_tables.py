"""The packaged plans: each is read, all rows are valid, and no two rows are the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from small import WITH_LABELS

from seqmel.config import methods
from seqmel.experiment import Plan, read_plan

TABLES = Path(__file__).parents[1] / "configs" / "tables"
PLANS = sorted(TABLES.glob("*.yaml"))
KINDS = (
    "pairs",
    "losses",
    "negatives",
    "encoders",
    "methods",
    "sizes",
    "labelled_share",
    "leaderboard",
)


def options(plan: Plan, row: str, data: str) -> str:
    return f"{plan.scored(row)} {plan.config(row, data, 0).to_dict()}"


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_a_plan_is_valid_and_says_what_it_compares_how_to_run_it_and_how_long_it_takes(
    path: Path,
) -> None:
    plan = read_plan(path)
    first, second, *_ = text = path.read_text(encoding="utf-8").splitlines()
    assert first.startswith("# ")
    assert second.startswith(f"#   seqmel experiment configs/tables/{path.name} -o results/")
    if path.stem.removesuffix("_small") in KINDS:
        assert re.match(r"# .*(minutes?|hours?)", text[2])
    assert len({options(plan, row, next(iter(plan.data))) for row in plan.rows}) == len(plan.rows)


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_comes_small_and_full_with_the_same_rows(kind: str) -> None:
    small, full = (read_plan(TABLES / f"{kind}{end}.yaml") for end in ("_small", ""))
    assert list(small.rows) == list(full.rows)
    assert list(full.data) == ["physionet2012", "online_retail", "berka", "cards"]
    assert list(small.data) in (list(full.data), ["physionet2012"])
    assert len(full.seeds) == 3
    assert len(small.seeds) == (1 if kind == "labelled_share" else 3)


def used(kind: str, section: str) -> set[str]:
    plan = read_plan(TABLES / f"{kind}.yaml")
    configs = [plan.config(row, next(iter(plan.data)), 0) for row in plan.rows]
    return {
        getattr(config, section).name for config in configs if getattr(config, section) is not None
    }


def methods_of(kind: str) -> set[tuple[tuple[str, ...], str]]:
    """The parts of the objective of each row, and how it is scored."""
    plan = read_plan(TABLES / f"{kind}.yaml")
    return {
        (tuple(part.name for part in plan.config(row, "berka", 0).objective), plan.scored(row))
        for row in plan.rows
    }


def test_every_objective_without_labels_is_fine_tuned_too() -> None:
    found = methods_of("methods")
    without_labels = {
        parts for parts, scored in found if scored == "trees" and not set(parts) & WITH_LABELS
    }
    assert without_labels == {parts for parts, scored in found if scored == "finetuned"}


def test_the_tables_have_every_method_that_they_are_about() -> None:
    known = methods()
    assert used("losses", "loss") == used("leaderboard", "loss") == set(known["loss"]) - {"pml"}
    assert used("leaderboard", "miner") == set(known["miner"])
    assert used("pairs", "views") == set(known["views"])
    assert used("encoders", "encoder") == set(known["encoder"])
    assert used("negatives", "sampler") == set(known["sampler"])
    assert {part for parts, _ in methods_of("methods") for part in parts} == set(known["objective"])


def test_every_adds_no_row_for_a_method_that_a_row_names(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(
        "data: {cards: {generated: 300, targets: [gender]}}\n"
        "rows: {ours: {encoder: {name: gru, hidden_size: 8}}}\nevery: encoder\n"
    )
    rows = read_plan(path).rows
    assert rows["ours"] == {"encoder": {"name": "gru", "hidden_size": 8}}
    assert set(rows) == {"ours"} | set(methods()["encoder"]) - {"gru"}


def test_every_miner_fits_the_loss_and_every_objective_is_fine_tuned_too(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(
        "data: {cards: {generated: 300, targets: [gender]}}\n"
        "base: {loss: contrastive, encoder: gru}\n"
        "rows: {default miner: {}}\nevery: [miner, objective]\n"
    )
    rows = read_plan(path).rows
    of_pairs = {"all_negatives", "distance_weighted", "random_negatives"}
    assert {row["miner"] for row in rows.values() if "miner" in row} == of_pairs
    assert rows["cpc, fine-tuned"] == {"objective": "cpc", "scored": "finetuned"}
    assert rows["classification"] == {"objective": ["coles", "classification"]}
    assert "coles" not in rows  # the row "default miner" has the objective of base


@pytest.mark.parametrize(
    ("kind", "across"), [("sizes", "embedding_dim"), ("labelled_share", "label_fractions")]
)
def test_the_tables_whose_rows_or_shares_are_numbers_are_drawn_as_curves(
    kind: str, across: str
) -> None:
    assert [read_plan(TABLES / f"{kind}{end}.yaml").curve for end in ("_small", "")] == [
        across,
        across,
    ]
