"""Labels with a moment: histories are cut before it, clients stay on one side of the split."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import roc_auc_score
from small import Recorded, card_events, tiny_config

import seqmel
from seqmel.cli.main import main
from seqmel.config.options.training import FinetuningOptions
from seqmel.core.errors import InputError, SchemaError, SeqmelError
from seqmel.core.linear_models import _strength, logistic, ridge
from seqmel.data.sequences.batch import SequenceBatch
from seqmel.data.sequences.prepared import PreparedSequences
from seqmel.data.tables.labels import read_labels
from seqmel.inference.embed import embed_sequences
from seqmel.inference.histories import BLOCK
from seqmel.model import Model
from seqmel.nn.encoder import SequenceEncoder
from seqmel.training.finetuning import finetune_metrics, fit_labels
from seqmel.training.finetuning.labelled import LabelledBatches, hold_out, label
from seqmel.training.finetuning.samples import Samples, samples_at
from seqmel.training.run import prepare

EVENTS = card_events()
FRAME = EVENTS.to_pandas()
IDS = np.unique(FRAME["client_id"])
MOMENTS = [dt.datetime(1970, month, 20) for month in (1, 3, 5, 7, 9)]
LABELS = pd.DataFrame(
    [(c, m, (c // 7 + i) % 2) for c in IDS for i, m in enumerate(MOMENTS)],
    columns=["client_id", "when", "next"],
).sample(frac=1, random_state=0)
ONE_EACH = LABELS.drop_duplicates("client_id")
AS_OF = LABELS.rename(columns={"when": "event_time"})[["client_id", "event_time"]]
QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 16, "unfreeze": "all", "progress": False}


@pytest.fixture(scope="module")
def pretrained(model: Model) -> seqmel.Model:
    return seqmel.Model.of(model)


@pytest.fixture(scope="module")
def prepared(model: Model, tmp_path_factory: pytest.TempPathFactory) -> PreparedSequences:
    return prepare(EVENTS, tmp_path_factory.mktemp("p") / "prepared", model=model)


@pytest.fixture(scope="module")
def labels() -> pd.Series:
    return read_labels(LABELS, "next", time_column="when")


@pytest.fixture(scope="module")
def samples(prepared: PreparedSequences, labels: pd.Series) -> Samples:
    return samples_at(labels.index, prepared.sequences, prepared.schema, "labels")


@pytest.fixture(scope="module")
def tuned(pretrained: seqmel.Model) -> seqmel.Model:
    return pretrained.finetune(EVENTS, LABELS, target="next", time_column="when", **QUICK)


def test_training_begins_from_the_vectors_of_embed_as_of(
    pretrained: seqmel.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    solve = fit_labels.solve_heads

    def watched(heads: Any, vectors: torch.Tensor, labelled: Any, *, seed: int) -> None:
        seen.append((vectors, labelled.values[:, 0]))
        solve(heads, vectors, labelled, seed=seed)

    monkeypatch.setattr(fit_labels, "solve_heads", watched)
    all_train = QUICK | {"validation_fraction": 0.0}
    pretrained.finetune(EVENTS, LABELS, target="next", time_column="when", **all_train)
    vectors, values = seen[0]
    wanted = pretrained.embed(EVENTS, as_of=AS_OF).to_numpy()
    assert sorted(map(tuple, np.c_[vectors.numpy(), values].tolist())) == sorted(
        map(tuple, np.c_[wanted, LABELS["next"]].tolist())
    )


def test_labels_of_events_begin_from_the_vectors_of_embed_per_event(
    pretrained: seqmel.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    solve = fit_labels.solve_heads

    def watched(heads: Any, vectors: torch.Tensor, labelled: Any, *, seed: int) -> None:
        seen.append(vectors)
        solve(heads, vectors, labelled, seed=seed)

    monkeypatch.setattr(fit_labels, "solve_heads", watched)
    labels = FRAME[["client_id", "event_time"]].assign(fraud=FRAME["mcc"] == 4111)
    progress = Recorded()
    given = {"per": "event", "time_column": "event_time", "progress": progress}
    tuned = pretrained.finetune(
        EVENTS, labels, target="fraud", **(QUICK | given | {"validation_fraction": 0.0})
    )
    assert "each history ends with its event, which is included" in "".join(progress.lines)
    wanted = pretrained.embed(EVENTS, per="event").to_numpy()
    np.testing.assert_array_equal(np.unique(seen[0].numpy(), axis=0), np.unique(wanted, axis=0))
    found = tuned.predict(EVENTS, per="event")["fraud=True"]
    right = labels.set_index(["client_id", "event_time"])["fraud"]
    scores = found.droplevel("event_number").loc[right.index]
    assert roc_auc_score(right, scores) > 0.9


def test_labels_of_a_long_history_read_each_event_a_bounded_number_of_times(
    pretrained: seqmel.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = card_events(8, most=260)
    moments = long.select(["client_id", "event_time"]).to_pandas()
    labels = moments.assign(fraud=long["mcc"].to_pandas() == 4111)
    given: Any = {"per": "event", "time_column": "event_time", "progress": False}
    read: list[int] = []
    advance = SequenceEncoder.advance

    def counted(self: SequenceEncoder, batch: SequenceBatch, state: Any = None) -> Any:
        read.append(batch.events)
        return advance(self, batch, state)

    with monkeypatch.context() as patch:
        patch.setattr(SequenceEncoder, "advance", counted)
        carried = pretrained.finetune(long, labels, target="fraud", **given)
    assert 0 < sum(read) <= len(long) * (BLOCK / 2 + 2)
    for module in (fit_labels, finetune_metrics):
        monkeypatch.setattr(module, "embed_histories", embed_sequences)
    whole = pretrained.finetune(long, labels, target="fraud", **given)
    found, wanted = (m.predict(long, per="event")["fraud=True"] for m in (carried, whole))
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert wanted.std() > 0.01  # else all rows were alike


@pytest.mark.parametrize(
    ("options", "labels", "words"),
    [
        ({}, LABELS, "Labels per event need the times"),
        ({"time_column": "when"}, LABELS, "No label is at the time of an event of its client"),
    ],
)
def test_labels_that_are_of_no_event_are_refused(
    options: Any, labels: pd.DataFrame, words: str, pretrained: seqmel.Model
) -> None:
    with pytest.raises(SeqmelError, match=words):
        pretrained.finetune(EVENTS, labels, target="next", per="event", **options)


def test_labels_with_a_moment_that_is_not_used_are_warned_of(pretrained: seqmel.Model) -> None:
    progress = Recorded()
    dated = ONE_EACH.rename(columns={"when": "event_time"})
    pretrained.finetune(EVENTS, dated, target="next", **(QUICK | {"progress": progress}))
    words = "warning: the labels have a column 'event_time', as the events have, and each is taken"
    assert words in "".join(progress.lines)
    quiet = Recorded()
    pretrained.finetune(EVENTS, ONE_EACH, target="next", **(QUICK | {"progress": quiet}))
    assert "warning" not in "".join(quiet.lines)


def test_a_training_batch_holds_the_histories_before_the_moments(
    pretrained: seqmel.Model, prepared: PreparedSequences, labels: pd.Series, samples: Samples
) -> None:
    labelled = label(prepared.sequences, {"next": labels}, samples=samples)
    cut = samples.cut(prepared.sequences)
    loader = LabelledBatches(
        cut, labelled, FinetuningOptions(batch_size=16), seed=0, epoch=lambda: 0
    )
    with torch.no_grad():
        found = torch.cat([pretrained.encoder.embed(b.sequences) for b in loader]).numpy()
    wanted = pretrained.embed(EVENTS, as_of=AS_OF).to_numpy()
    by_rows = [np.array(sorted(map(tuple, x.round(3).tolist()))) for x in (found, wanted)]
    np.testing.assert_allclose(by_rows[0], by_rows[1], atol=2e-3)


def test_a_prediction_is_that_of_the_events_cut_by_hand(tuned: seqmel.Model) -> None:
    found = tuned.predict(EVENTS, as_of=AS_OF)
    for row in (0, 7, 30):
        client, moment = AS_OF.iloc[row]
        known = FRAME[(FRAME["client_id"] == client) & (FRAME["event_time"] < moment)]
        if len(known):
            (alone,) = tuned.predict(known, as_of=moment)["next=1"]
            assert found["next=1"].iloc[row] == pytest.approx(alone, abs=1e-6)


def test_events_at_and_after_the_last_moment_change_nothing(
    pretrained: seqmel.Model, tuned: seqmel.Model
) -> None:
    last = FRAME["event_time"] >= MOMENTS[-1]
    changed = FRAME.assign(amount=FRAME["amount"].where(~last, 1e6))
    changed.loc[FRAME.index[last][0], "event_time"] = MOMENTS[-1]
    again = pretrained.finetune(changed, LABELS, target="next", time_column="when", **QUICK)
    pd.testing.assert_frame_equal(
        again.predict(EVENTS, as_of=AS_OF), tuned.predict(EVENTS, as_of=AS_OF)
    )


def test_histories_share_the_events_of_the_sequences(
    prepared: PreparedSequences, samples: Samples
) -> None:
    cut = samples.cut(prepared.sequences)
    assert len(cut) == len(LABELS) > len(prepared.sequences)
    assert cut._storage.data_ptr() == prepared.sequences._storage.data_ptr()
    for row in (0, 11, 50):
        client, moment = samples.keys[row]
        times = FRAME.loc[FRAME["client_id"] == client, "event_time"]
        assert cut.lengths[row] == (times < moment).sum()


def test_no_client_is_in_both_the_training_and_the_validation_split(
    prepared: PreparedSequences, labels: pd.Series, samples: Samples
) -> None:
    labelled = label(prepared.sequences, {"next": labels}, samples=samples)
    training, validation = hold_out(labelled, 0.25, seed=3)
    one, other = (set(samples.clients[part.clients].tolist()) for part in (training, validation))
    assert (len(one), len(other), one & other) == (18, 6, set())
    assert len(training) + len(validation) == len(labels)


def test_metrics_and_card_count_moments_and_clients(tuned: seqmel.Model, tmp_path: Path) -> None:
    counts = {n: tuned.metrics[n] for n in ("clients", "clients_held_out", "rows", "rows_held_out")}
    assert counts == {"clients": 22, "clients_held_out": 2, "rows": 110, "rows_held_out": 10}
    card = (tuned.save(tmp_path / "m") / "README.md").read_text()
    assert "110 moments of 22 labelled clients, 10 moments of 2 more clients held out" in card


def test_empty_histories_and_moments_after_the_data_are_counted(pretrained: seqmel.Model) -> None:
    progress = Recorded()
    late = LABELS.assign(when=LABELS["when"].where(LABELS.index % 5 > 0, dt.datetime(1975, 1, 1)))
    first = LABELS[LABELS["when"] == MOMENTS[0]]
    both = pd.concat([late, first])
    heads = QUICK | {"unfreeze": "head", "progress": progress}
    pretrained.finetune(EVENTS, both, target="next", time_column="when", **heads)
    line, warning = progress.lines[1:3]
    assert line == (
        "144 moments of 24 clients: each history is cut strictly before its moment; "
        f"{int(_empty(both).sum())} histories are empty"
    )
    assert warning.startswith("warning: 24 of 144 moments are more than a day after the last event")


def test_moments_that_all_lie_long_after_the_data_are_refused(pretrained: seqmel.Model) -> None:
    late = LABELS.assign(when=LABELS["when"] + pd.DateOffset(years=50))
    with pytest.raises(InputError, match=r"All moments are long after the events: .* from 2020-"):
        pretrained.finetune(EVENTS, late, target="next", time_column="when")


def _empty(rows: pd.DataFrame) -> pd.Series:
    first = FRAME.groupby("client_id")["event_time"].min()
    return first.loc[rows["client_id"]].to_numpy() >= rows["when"]


def test_embed_as_of_counts_the_empty_histories(pretrained: seqmel.Model) -> None:
    progress = Recorded()
    rows = pd.concat([AS_OF, pd.DataFrame({"client_id": [-1], "event_time": [MOMENTS[0]]})])
    pretrained.embed(EVENTS, as_of=rows, progress=progress)
    empty = int(_empty(LABELS).sum()) + 1
    assert progress.lines[-1] == (
        f"no event before the moment, an empty history: {empty} of 121 rows"
    )


def test_embed_as_of_says_how_many_moments_are_after_the_data(pretrained: seqmel.Model) -> None:
    progress = Recorded()
    late = AS_OF.iloc[:2].assign(event_time=pd.Timestamp("2040-01-01"))
    pretrained.embed(EVENTS, as_of=pd.concat([AS_OF.iloc[2:], late]), progress=progress)
    assert progress.lines[-1].startswith(
        "warning: 2 of 120 moments are more than a day after the last event (1970-"
    )


@pytest.mark.parametrize(
    "write",
    [
        lambda when: when.dt.strftime("%Y-%m-%d"),
        lambda when: when.dt.strftime("%d.%m.%Y 00:00"),
        lambda when: when.dt.date,
        lambda when: when.dt.tz_localize("UTC"),
        lambda when: when.astype("datetime64[s]"),
    ],
    ids=["ISO text", "day first", "date", "with a zone", "seconds"],
)
def test_moments_may_be_dates_timestamps_or_text(
    write: Any, prepared: PreparedSequences, samples: Samples
) -> None:
    y = read_labels(LABELS.assign(when=write(LABELS["when"])), "next", time_column="when")
    found = samples_at(y.index, prepared.sequences, prepared.schema, "labels")
    assert found.moments is not None
    assert samples.moments is not None
    assert found.moments.tolist() == samples.moments.tolist()


def test_numbers_are_moments_where_the_events_count_in_numbers() -> None:
    seconds = FRAME["event_time"].astype("int64") // 1_000_000
    events = FRAME.assign(event_time=seconds)
    model = seqmel.train(
        events, config=tiny_config(schema={"time_unit": "second"}), epochs=0, progress=False
    )
    rows = LABELS.assign(when=LABELS["when"].astype("datetime64[us]").astype("int64") // 1_000_000)
    tuned = model.finetune(events, rows, target="next", time_column="when", **QUICK)
    found = tuned.predict(events, as_of=rows.set_axis(["client_id", "event_time", "y"], axis=1))
    assert len(found) == 120
    with pytest.raises(SchemaError, match="Expected numbers that count seconds"):
        model.finetune(events, LABELS, target="next", time_column="when", **QUICK)


def _with(column: str, value: Any) -> pd.DataFrame:
    changed = LABELS.astype({"when": object})
    changed[column] = [value, *changed[column].iloc[1:]]
    return changed


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (_with("when", None), "1 row of labels.parquet has no time (column 'when' is null)"),
        (
            pd.concat([LABELS, LABELS[:1]]),
            "has 2 rows in labels.parquet. Expected one row per client",
        ),
        (
            ONE_EACH.assign(when="soon"),
            "24 moments in column 'when' of labels.parquet cannot be understood, such as 'soon'",
        ),
        (
            ONE_EACH.assign(when=7),
            "cannot be understood, such as '7'. Expected dates or timestamps",
        ),
        (
            ONE_EACH.assign(when=dt.datetime(1970, 1, 1)),
            "No labelled client",
        ),
        (LABELS.drop(columns="when"), "No column 'when' in labels.parquet"),
        (
            pd.DataFrame(
                {
                    "client_id": IDS[[0, 0, 1]],
                    "when": ["1970-03-01", "1970-03-01 00:00", "1970-03-01"],
                    "next": [0, 1, 1],
                }
            ),
            "has several rows in labels.parquet for the moment 1970-03-01 00:00",
        ),
    ],
    ids=["null", "twice", "text", "number", "before all", "no column", "twice as text"],
)
def test_labels_that_cannot_be_used_are_one_line_and_exit_code_2(
    table: pd.DataFrame,
    words: str,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(EVENTS, "events.parquet")
    table.to_parquet("labels.parquet", index=False)
    command = ["finetune", str(model_folder), "events.parquet", "labels.parquet", "-o", "m2"]
    monkeypatch.setattr(
        sys, "argv", ["seqmel", *command, "--target", "next", "--time-column", "when"]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    lines = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2
    assert words in lines[-1]
    assert not Path("m2").exists()


def test_the_command_fine_tunes_on_moments(
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tuned: seqmel.Model,
) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(EVENTS, "events.parquet")
    LABELS.to_parquet("labels.parquet", index=False)
    words = [
        *("finetune", str(model_folder), "events.parquet", "labels.parquet", "-o", "m2"),
        *("--target", "next", "--time-column", "when", "--epochs", "1", "--batch-size", "16"),
        *("--unfreeze", "all"),
    ]
    monkeypatch.setattr(sys, "argv", ["seqmel", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip().endswith("-o scores.parquet --as-of MOMENT")
    pd.testing.assert_frame_equal(
        seqmel.load("m2").predict(EVENTS, as_of=AS_OF), tuned.predict(EVENTS, as_of=AS_OF)
    )


def test_the_classifier_is_the_same_model(pretrained: seqmel.Model, tuned: seqmel.Model) -> None:
    classifier = seqmel.SequenceClassifier.from_pretrained(
        pretrained,
        events=EVENTS,
        epochs=1,
        batch_size=16,
        unfreeze="all",
        random_state=0,
        device="cpu",
    )
    rows = LABELS.reset_index(drop=True)
    classifier.fit(rows["client_id"], rows["next"], moments=rows["when"])
    found = classifier.predict_proba(rows["client_id"], moments=rows["when"])[:, 1]
    np.testing.assert_allclose(
        found, classifier.model_.predict(EVENTS, as_of=AS_OF)["next=1"], atol=1e-6
    )
    held = {
        name: classifier.model_.metrics[name] for name in ("clients", "rows", "clients_held_out")
    }
    assert held == {"clients": 22, "rows": 110, "clients_held_out": 2}
    one = classifier.predict_proba(rows["client_id"], moments="1970-05-20")
    at = classifier.predict_proba(rows["client_id"], moments=[MOMENTS[2]] * 120)
    np.testing.assert_array_equal(one, at)
    assert 0 <= classifier.score(rows["client_id"], rows["next"], moments=rows["when"]) <= 1


def test_the_regressor_cuts_a_table_of_sequences() -> None:
    events = seqmel.EventSequences.read(EVENTS)
    y = np.arange(24.0)
    regressor = seqmel.SequenceRegressor(
        config={"event_encoder": {"hidden_size": 16}},
        epochs=1,
        batch_size=8,
        random_state=0,
        device="cpu",
    )
    regressor.fit(events, y, moments="1970-06-01")
    cut = FRAME[FRAME["event_time"] < "1970-06-01"]
    wanted = regressor.model_.predict(cut, as_of="1970-06-01")["target"]
    known = np.isin(events.client_ids, cut["client_id"])
    found = pd.Series(regressor.predict(events, moments="1970-06-01"), events.client_ids)
    np.testing.assert_allclose(found[known], wanted.loc[events.client_ids[known]], rtol=1e-4)


@pytest.mark.parametrize(
    ("moments", "words"),
    [
        ([None] * 24, "24 of 24 moments are null"),
        (["soon"] * 24, "24 moments in column 'event_time' of moments cannot be understood"),
        (["1970-01-01"], "moments has 1 row and X has 24"),
        ("one day", "moments is 'one day'. Expected one moment"),
    ],
)
def test_moments_that_the_estimator_cannot_use_are_refused(
    moments: Any, words: str, pretrained: seqmel.Model
) -> None:
    classifier = seqmel.SequenceClassifier.from_pretrained(pretrained)
    with pytest.raises(InputError) as caught:
        classifier.fit(seqmel.EventSequences.read(EVENTS), np.arange(24) % 2, moments=moments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folds_that_choose_the_strength_keep_clients_whole() -> None:
    """A label that is noise of the client is only predictable if its rows are in several folds."""
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 10)
    x = random.normal(size=(60, 30))[groups].astype(np.float32)
    y = random.integers(0, 2, 60)[groups]
    w = np.ones(600)
    assert _strength(x, y, w, 0, groups) < _strength(x, y, w, 0, None)
    assert abs(ridge(x, y * 1.0, w, groups)[0]).max() < abs(ridge(x, y * 1.0, w)[0]).max()
    assert np.isfinite(logistic(x, y, w, 2, 0, groups)[0]).all()
    single = (groups == 3).astype(np.int64)  # a class of one client is in one fold only
    assert np.isfinite(logistic(x, single, w, 2, 0, groups)[0]).all()


def test_classes_of_a_single_client_are_found_by_client(
    prepared: PreparedSequences, labels: pd.Series, samples: Samples
) -> None:
    rare = pd.Series(
        np.where(labels.index.get_level_values(0) == IDS[3], "rare", "usual"),
        labels.index,
        name="y",
    )
    labelled = label(prepared.sequences, {"y": rare}, samples=samples)
    assert labelled.single_client_classes() == {"y": ["rare"]}


def test_every_error_is_a_line_of_seqmel(prepared: PreparedSequences) -> None:
    unknown = pd.MultiIndex.from_tuples([(-5, MOMENTS[1])], names=["client_id", "when"])
    with pytest.raises(SeqmelError, match="No client of the labels has events"):
        samples_at(unknown, prepared.sequences, prepared.schema, "labels")


def test_arrow_moments_are_read(prepared: PreparedSequences, samples: Samples) -> None:
    table = pa.Table.from_pandas(LABELS, preserve_index=False)
    y = read_labels(table, "next", time_column="when")
    found = samples_at(y.index, prepared.sequences, prepared.schema, "labels")
    assert found.clients.tolist() == samples.clients.tolist()


def test_the_model_is_evaluated_at_the_moments(pretrained: seqmel.Model) -> None:
    asked: dict[str, Any] = {"target": "next", "events": EVENTS, "folds": 2, "trees": 2}
    scores = pretrained.evaluate(LABELS, time_column="when", progress=False, **asked)
    assert set(scores.matched.values()) == {120}
    with pytest.raises(InputError, match="Expected one row per client"):
        pretrained.evaluate(LABELS, progress=False, **asked)
