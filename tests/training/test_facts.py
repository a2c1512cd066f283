"""Facts about clients: read, encoded, learnt together with the events, and needed to predict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
from small import card_events, tiny_config

import seqmel
from seqmel.core.errors import ConfigError, InputError, ModelError, SchemaError
from seqmel.core.progress import Progress, silent
from seqmel.data.tables.facts import FactRows, Facts, NumberFact, read_facts
from seqmel.data.tables.targets import Target
from seqmel.inference.predict import predict_outputs
from seqmel.model import TrainedModel, load_model
from seqmel.nn.joint_heads import FactEmbedding, JointHeads
from seqmel.training.finetuning.fact_heads import fit_deep_part
from seqmel.training.finetuning.finetune import finetune
from seqmel.training.finetuning.finetune_metrics import HeldOut
from seqmel.training.finetuning.labelled import Labelled
from seqmel.training.finetuning.linear_heads import solve_heads

EVENTS = card_events(48)
IDS = np.unique(EVENTS["client_id"].to_numpy())
RANDOM = np.random.default_rng(0)
TABLE = pd.DataFrame(
    {
        "client_id": IDS,
        "age": RANDOM.permutation(48).astype(float),
        "region": np.tile(["north", "south"], 24),
        "active": RANDOM.random(48) < 0.5,
        "opened": pd.Timestamp("2020-01-01") + pd.to_timedelta(RANDOM.integers(0, 900, 48), "D"),
        "constant": 1,
    }
)
TABLE.loc[3, ["age", "region"]] = None
LABELS = pd.DataFrame(
    {"client_id": IDS, "died": (TABLE["age"].fillna(0) > 24) ^ (TABLE["region"] == "north")}
)


class Lines:
    """A progress that keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def task(self, *given: Any, **options: Any) -> Any:
        return silent.task(*given, **options)

    def say(self, line: str) -> None:
        self.said.append(line)


def options(**changes: Any) -> Any:
    return tiny_config(
        finetuning={"epochs": 1, "batch_size": 8, "validation_fraction": 0.2} | changes
    )


@pytest.fixture(scope="module")
def pretrained() -> seqmel.Model:
    return seqmel.train(EVENTS, config=tiny_config())


@pytest.fixture(scope="module")
def said() -> Lines:
    """What the fine-tuning of `folder` says."""
    return Lines()


@pytest.fixture(scope="module")
def folder(pretrained: seqmel.Model, said: Lines, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("joint") / "model"
    given: Any = {"targets": ["died"], "facts": TABLE, "config": options(unfreeze="all")}
    return finetune(pretrained, EVENTS, LABELS, output, progress=said, **given)


@pytest.fixture(scope="module")
def joint(folder: Path) -> seqmel.Model:
    return seqmel.load(folder)


# ------------------------------------------------------------------------------------ encoding


def test_a_number_is_its_position_among_quantiles_and_extremes_are_clipped() -> None:
    fact = NumberFact(name="age", edges=(0.0, 10.0, 30.0))
    numbers = np.array([-5.0, 5.0, 20.0, 1e9, np.nan])
    assert fact.positions(numbers).tolist()[:4] == [0.0, 0.5, 1.5, 2.0]
    assert np.isnan(fact.positions(numbers)[4])


def test_positions_become_piecewise_linear_encodings_with_an_indicator_of_nulls() -> None:
    layer = FactEmbedding(Facts(numbers=(NumberFact(name="age", edges=(0.0, 10.0, 30.0)),)))
    encoded = layer.encode_numbers(torch.tensor([[1.5], [torch.nan], [2.0]]))
    assert encoded.tolist() == [[[1.0, 0.5, 0.0]], [[0.0, 0.0, 1.0]], [[1.0, 1.0, 0.0]]]


def test_rare_and_new_categories_share_a_code_and_nulls_have_their_own() -> None:
    rows = pd.DataFrame({"region": ["a"] * 6 + ["b"] * 5 + ["rare"] * 2})
    facts = Facts.fit(rows)
    given = pd.DataFrame({"region": ["a", "b", "rare", "new", None]})
    assert facts.encode(given)[:, 0].tolist() == [2.0, 3.0, 1.0, 1.0, 0.0]


def test_columns_that_never_vary_are_left_out_but_nulls_are_news() -> None:
    some = [1.0] * 10 + [np.nan] * 10
    rows = pd.DataFrame({"one": [1.0] * 20, "some": some, "none": [np.nan] * 20})
    assert Facts.fit(rows).names == ("some",)


def test_a_table_is_read_like_a_file_and_like_records(tmp_path: Path) -> None:
    facts = Facts.fit(read_facts(TABLE))
    expected = facts.encode(read_facts(TABLE, known=facts))
    TABLE.to_parquet(tmp_path / "facts.parquet")
    TABLE.to_csv(tmp_path / "facts.csv", index=False)
    for name in ("facts.parquet", "facts.csv"):
        np.testing.assert_array_equal(
            facts.encode(read_facts(tmp_path / name, known=facts)), expected
        )
    indexed = TABLE.set_index("client_id")
    np.testing.assert_array_equal(facts.encode(read_facts(indexed, known=facts)), expected)
    lazy = pl.from_pandas(TABLE).lazy()
    np.testing.assert_array_equal(facts.encode(read_facts(lazy, known=facts)), expected)
    records = facts.of_records(indexed.to_dict("records"))
    np.testing.assert_array_equal(facts.encode(records), expected)


def test_the_deep_part_begins_at_zero() -> None:
    facts = Facts.fit(read_facts(TABLE))
    heads = JointHeads(4, [2], facts).eval()
    rows = torch.from_numpy(facts.encode(read_facts(TABLE)))
    vectors = torch.randn(len(rows), 4, generator=torch.Generator().manual_seed(0))
    (outputs,), (linear,) = heads(vectors, rows), heads.linear(heads.inputs(vectors, rows))
    assert torch.equal(outputs, linear)
    assert outputs.shape == (48, 2)


@pytest.mark.parametrize("learnable", [True, False])
def test_the_deep_part_is_kept_where_it_clearly_helps(learnable: bool) -> None:
    random = np.random.default_rng(0)
    rows = pd.DataFrame(random.uniform(size=(600, 2)), columns=["a", "b"])
    crossed = (rows["a"] > 0.5) ^ (rows["b"] > 0.5)
    y = crossed.to_numpy() if learnable else random.random(600) < 0.5
    facts = Facts.fit(rows)
    samples = Labelled(
        (Target(name="y", classes=(0, 1)),),
        torch.arange(600),
        torch.from_numpy(y[:, None].astype(np.float32)),
        torch.ones(600, 1),
        facts=torch.from_numpy(facts.encode(rows)),
    )
    seen, unseen = samples[torch.arange(400)], samples[torch.arange(400, 600)]
    vectors = torch.zeros(600, 3)
    torch.manual_seed(0)
    heads = JointHeads(3, [2], facts)
    solve_heads(heads.linear, heads.inputs(vectors[:400], seen.facts), seen, seed=0)
    nothing: Any = None  # vectors take the place of sequences
    held_out = HeldOut(nothing, unseen, torch.ones(1, 2), tiny_config())
    fit_deep_part(heads, vectors[:400], seen, vectors[400:], held_out)
    assert bool(heads.out.weight.any()) == learnable
    if learnable:
        (outputs,) = heads(vectors[400:], unseen.facts)
        assert (outputs.argmax(1).numpy() == y[400:]).mean() > 0.8


# -------------------------------------------------------------------------- learning, predicting


def test_what_only_the_facts_know_is_learnt(pretrained: seqmel.Model) -> None:
    given = LABELS.assign(old=TABLE["age"] > 24)
    tuned = pretrained.finetune(
        EVENTS, given, target="old", facts=TABLE, fact_columns=["age"], config=options(epochs=0)
    )
    found = tuned.predict(EVENTS, facts=TABLE)["old"].reindex(IDS).to_numpy()
    assert (found == given["old"].to_numpy()).mean() > 0.9


def test_fine_tuning_trains_encoder_and_both_parts_of_the_heads(
    joint: seqmel.Model, pretrained: seqmel.Model
) -> None:
    assert isinstance(joint.heads, JointHeads)
    assert joint.facts is not None
    assert joint.facts.names == ("age", "opened", "region", "active")
    if joint.metrics["history"][0]["validation_loss"] < joint.metrics["frozen"]["validation_loss"]:
        assert joint.fingerprint() != pretrained.fingerprint()


def test_a_prediction_does_not_depend_on_the_other_clients(joint: seqmel.Model) -> None:
    everyone = joint.predict(EVENTS, facts=TABLE)
    some = EVENTS.filter(np.isin(EVENTS["client_id"].to_numpy(), IDS[:3]))
    few = joint.predict(some, facts=TABLE.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(few, everyone.loc[few.index], rtol=1e-5)


def test_the_folder_keeps_what_facts_mean(folder: Path, joint: seqmel.Model) -> None:
    assert "fact about the client" in (folder / "README.md").read_text(encoding="utf-8")
    again: TrainedModel = load_model(folder)
    assert again.facts == joint.facts


def test_fine_tuning_names_its_facts(folder: Path, said: Lines) -> None:
    (line,) = [line for line in said.said if line.startswith("facts of")]
    assert line == (
        "facts of 48 clients: numbers age, opened; categories region, active; the same for all, "
        "and left out: constant"
    )


def test_clients_without_facts_have_nulls_and_are_counted(joint: seqmel.Model) -> None:
    lines = Lines()
    progress: Progress = lines
    found = joint.predict(EVENTS, facts=TABLE[5:], progress=progress)
    nulls = TABLE.astype({"active": object})
    nulls.loc[:4, ["age", "region", "active", "opened"]] = None
    pd.testing.assert_frame_equal(found, joint.predict(EVENTS, facts=nulls))
    assert any("not in the facts: the clients of 5 of 48 rows" in s for s in lines.said)


def test_predictions_as_of_a_moment_and_online_use_the_same_facts(joint: seqmel.Model) -> None:
    assert joint.facts is not None
    assert joint.heads is not None
    moment = {"as_of": "1970-06-01"}
    vectors = joint.embed(EVENTS, **moment)
    known = FactRows(joint.facts, read_facts(TABLE)).of(vectors.index.get_level_values(0))
    (outputs,) = predict_outputs(joint.heads, torch.from_numpy(vectors.to_numpy()), known)
    found = joint.predict(EVENTS, facts=TABLE, **moment)["died=True"]
    np.testing.assert_allclose(found, joint.targets[0].probabilities(outputs)[:, 1], rtol=1e-5)
    everyone = joint.predict(EVENTS, facts=TABLE)
    events = [event for event in EVENTS.to_pylist() if event["client_id"] == IDS[0]]
    facts = TABLE.set_index("client_id").loc[IDS[0]].to_dict()
    online = joint.scorer().predict(events, facts)
    assert online["died=True"] == pytest.approx(everyone.loc[IDS[0], "died=True"], rel=1e-4)


def test_categories_alone_and_several_targets_without_pretraining() -> None:
    labels = LABELS.assign(money=np.exp(np.arange(48) / 10))
    facts = TABLE[["client_id", "region", "active"]]
    tuned = seqmel.finetune(
        None, EVENTS, labels, target=["died", "money"], facts=facts, config=options()
    )
    found = tuned.predict(EVENTS, facts=facts)
    assert found.columns.tolist() == ["died=False", "died=True", "died", "money"]
    assert np.isfinite(found["money"]).all()


def test_facts_go_with_labels_that_have_a_date(pretrained: seqmel.Model) -> None:
    dated = pd.concat([LABELS.assign(when=w) for w in ("1970-04-01", "1970-08-01")])
    tuned = pretrained.finetune(
        EVENTS, dated, target="died", time_column="when", facts=TABLE, config=options()
    )
    assert tuned.predict(EVENTS, facts=TABLE, as_of="1970-08-01").shape[0] == 48


def test_an_estimator_looks_its_clients_up_in_the_facts() -> None:
    events = seqmel.EventSequences.read(EVENTS)
    labels = events.align(LABELS)
    classifier = seqmel.SequenceClassifier(facts=TABLE, epochs=1, batch_size=8, random_state=0)
    classifier.fit(events, labels["died"]).set_params(facts=TABLE[::-1])
    found = classifier.predict_proba(events)
    assert classifier.model_.facts is not None
    direct = classifier.model_.predict(EVENTS, facts=TABLE).reindex(labels.index)
    np.testing.assert_allclose(found[:, 1], direct["died=True"], rtol=1e-5)


# ------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("facts", "columns", "words"),
    [
        (pd.concat([TABLE, TABLE[:1]]), None, r"has 2 rows .*drop or join the others\.$"),
        (LABELS, None, "'died' is a column of the labels"),
        (TABLE, ["agee"], "no column 'agee'.*Did you mean 'age'"),
        (TABLE, ["client_id"], "client column"),
        (TABLE, ["age", "age"], "named twice"),
        (TABLE, ["constant"], "No fact varies"),
        (TABLE.assign(client_id=IDS + 10**6), None, "No labelled client has a row in the facts"),
        (TABLE.assign(lists=[[1]] * 48), None, "'lists' of the given DataFrame holds lists"),
        (None, ["age"], "--fact-column"),
        (TABLE.assign(Age=1.0), None, "'age', 'Age', which differ only in case"),
    ],
)
def test_facts_that_cannot_be_learnt_from_are_refused(
    facts: Any, columns: Any, words: str, pretrained: seqmel.Model
) -> None:
    with pytest.raises((ConfigError, InputError, SchemaError), match=words):
        pretrained.finetune(
            EVENTS, LABELS, target="died", facts=facts, fact_columns=columns, config=options()
        )


def test_facts_that_do_not_fit_the_model_are_refused(
    joint: seqmel.Model, pretrained: seqmel.Model, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"none are given. Give a table with 'age'"):
        joint.predict(EVENTS)
    with pytest.raises(SchemaError, match="lacks the facts 'age'"):
        joint.predict(EVENTS, facts=TABLE.drop(columns="age"))
    with pytest.raises(SchemaError, match="'age' is a number in the model, and text"):
        joint.predict(EVENTS, facts=TABLE.assign(age="old"))
    with pytest.raises(InputError, match="No client of the events has a row"):
        joint.predict(EVENTS, facts=TABLE.assign(client_id=IDS + 10**6))
    with pytest.raises(SchemaError, match="lack 'region'"):
        joint.scorer().predict(EVENTS.to_pylist()[:1], {"age": 1, "opened": None, "active": True})
    with pytest.raises(ModelError, match="without facts about clients"):
        joint.export(tmp_path / "model.onnx")
    without = pretrained.finetune(EVENTS, LABELS, target="died", config=options())
    with pytest.raises(ConfigError, match="fine-tuned without facts"):
        without.predict(EVENTS, facts=TABLE)


def test_the_commands_take_facts(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_process: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    TABLE.to_parquet("facts.parquet")
    pq.write_table(EVENTS, "events.parquet")
    done = in_process.seqmel("predict", folder, "events.parquet", "-o", "p.parquet")
    assert done.returncode == 2
    assert "--facts FILE" in done.stderr
    done = in_process.seqmel(
        "predict", folder, "events.parquet", "--facts", "facts.parquet", "-o", "p.parquet"
    )
    assert done.returncode == 0, done.stderr
    expected = seqmel.load(folder).predict(EVENTS, facts=TABLE)
    found = pd.read_parquet("p.parquet").set_index("client_id")
    np.testing.assert_array_equal(found["died=True"], expected["died=True"])


def test_rows_of_a_shard_may_all_lack_facts() -> None:
    facts = Facts.fit(read_facts(TABLE))
    rows = FactRows(facts, read_facts(TABLE), strict=False)
    rows.of(pd.Index([-1, -2]))
    rows.report(silent)
