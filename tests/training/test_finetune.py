"""Fine-tuning end to end: kinds of targets, frozen layers, weights, early stopping."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from small import card_events, tiny_config

import seqmel.training.finetuning.finetune
from seqmel.core.errors import (
    ConfigError,
    InputError,
    ModelError,
    OutputError,
    SchemaError,
    TrainingError,
)
from seqmel.core.progress import console_progress, silent
from seqmel.data.sequences.prepared import PreparedSequences, open_prepared
from seqmel.inference.embed import embed
from seqmel.inference.predict import predict
from seqmel.model import Model, load_model
from seqmel.training.finetuning.finetune import finetune, finetuned_model
from seqmel.training.finetuning.fit_labels import encoder_parts, resolve_finetuning_options
from seqmel.training.run import prepare, train

EVENTS = card_events(40)
IDS = np.unique(EVENTS["client_id"].to_numpy())
HABIT = (IDS - 100) // 7 % 4
LABELS = pd.DataFrame(
    {
        "client_id": IDS,
        "habit": np.array(["a", "b", "c", "d"])[HABIT],
        "odd": HABIT % 2 == 1,
        "high": (HABIT > 1).astype(int),
        "spends": HABIT + np.random.default_rng(0).normal(0, 0.1, 40),
        "counts": 1.0,
        "named": [f"n{i}" for i in IDS],
        "few": np.arange(40) % 20 / 2,
    }
)
SCHEMA = {"numeric_by": {"reading": "mcc"}}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(
        train(EVENTS, tmp_path_factory.mktemp("m") / "model", config=tiny_config(schema=SCHEMA))
    )


@pytest.fixture(scope="module")
def prepared(pretrained: Model, tmp_path_factory: pytest.TempPathFactory) -> PreparedSequences:
    return prepare(EVENTS, tmp_path_factory.mktemp("p") / "prepared", model=pretrained)


def options(**changes: Any) -> Any:
    return tiny_config(
        finetuning={"epochs": 1, "batch_size": 8, "validation_fraction": 0.2} | changes
    )


def labels(*targets: str) -> dict[str, pd.Series[Any]]:
    return {name: LABELS.set_index("client_id")[name] for name in targets}


def predicted(model: Model, events: Any = EVENTS) -> pd.DataFrame:
    frame: pd.DataFrame = pd.concat([t.to_pandas() for t in predict(model, events, device="cpu")])
    return frame.set_index("client_id").loc[IDS]


def fit(
    model: Model | None,
    prepared: PreparedSequences,
    *targets: str,
    weights: Any = None,
    **changes: Any,
) -> Model:
    return finetuned_model(
        model, prepared, labels(*targets), config=options(**changes), weights=weights
    )


def encoder_of(model: Model) -> dict[str, torch.Tensor]:
    return dict(model.encoder.state_dict())


def changed(one: Model, other: Model) -> set[str]:
    return {
        name
        for name, value in encoder_of(one).items()
        if not torch.equal(value, encoder_of(other)[name])
    }


@pytest.mark.parametrize("target", ["habit", "odd", "high", "spends"])
def test_every_kind_of_target_is_learnt(
    target: str, pretrained: Model, prepared: PreparedSequences
) -> None:
    found = predicted(fit(pretrained, prepared, target))
    if target == "spends":
        assert np.corrcoef(found[target], LABELS[target])[0, 1] > 0.7
        return
    assert (found[target].to_numpy() == LABELS[target].to_numpy()).mean() > 0.8
    shares = found[[f"{target}={value}" for value in sorted(set(LABELS[target]))]]
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)


def test_several_targets_with_missing_labels_go_through_files(
    pretrained: Model, tmp_path: Path
) -> None:
    some = LABELS.astype({"habit": object, "odd": object})
    some.loc[::3, "habit"] = None
    some.loc[1::3, "spends"] = np.nan
    folder = finetune(
        pretrained, EVENTS, some.sample(frac=1.0, random_state=0), tmp_path / "model",
        targets=["habit", "high", "spends"], config=options(calibrate=True),
    )  # fmt: skip
    assert list(tmp_path.iterdir()) == [folder]
    model = load_model(folder)
    found = predicted(model)
    assert list(found.columns) == [
        "habit=a", "habit=b", "habit=c", "habit=d", "habit", "high=0", "high=1", "high", "spends"
    ]  # fmt: skip
    assert (found["habit"].to_numpy() == LABELS["habit"]).mean() > 0.8
    assert [target.temperature != 1 for target in model.targets] == [True, True, False]
    card = (folder / "README.md").read_text()
    assert "one of a, b, c, d; probabilities calibrated" in card
    assert "32 labelled clients, 8 more held out" in card
    assert next(embed(model, EVENTS, device="cpu"))[1].shape == (40, model.encoder.output_size)
    assert set(json.loads((folder / "metrics.json").read_text())["held_out"]) >= {
        "habit auroc",
        "spends rmse",
    }


def test_from_scratch_needs_no_model(tmp_path: Path) -> None:
    config = tiny_config(
        schema=SCHEMA, finetuning={"epochs": 2, "batch_size": 8, "validation_fraction": 0.2}
    )
    folder = finetune(None, EVENTS, LABELS, tmp_path / "model", targets=["odd"], config=config)
    assert (predicted(load_model(folder))["odd"].to_numpy() == LABELS["odd"]).mean() > 0.7
    assert "with a new encoder" in (folder / "README.md").read_text()


def test_the_same_seed_gives_the_same_model_and_another_seed_another(
    pretrained: Model, prepared: PreparedSequences
) -> None:
    changes: dict[str, Any] = {"dropout": 0.3, "validation_fraction": 0.0}
    one, same = (fit(pretrained, prepared, "odd", **changes) for _ in range(2))
    assert changed(one, same) == set()
    assert predicted(one).equals(predicted(same))
    other = finetuned_model(
        pretrained,
        prepared,
        labels("odd"),
        config=options(**changes).model_copy(update={"seed": 1}),
    )
    assert changed(one, other)


# ----------------------------------------------------------------------------------- what is frozen


def test_head_only_leaves_the_encoder_as_it_is_to_the_bit(
    pretrained: Model, prepared: PreparedSequences
) -> None:
    tuned = fit(pretrained, prepared, "habit", unfreeze="head")
    assert changed(pretrained, tuned) == set()
    assert tuned.metrics["history"] == []


@pytest.mark.parametrize(
    ("clients", "new", "said", "learns"),
    [
        (999, False, {}, "head"),
        (1000, False, {}, "all"),
        (100, True, {}, "all"),
        (100, False, {"epochs": 2}, "all"),
        (100, False, {"encoder_lr_scale": 0.1}, "all"),
        (100, False, {"unfreeze": "gradual"}, "gradual"),
        (5000, False, {"unfreeze": "head"}, "head"),
    ],
)
def test_what_learns_follows_from_the_number_of_labels_unless_it_is_said(
    clients: int, new: bool, said: dict[str, Any], learns: str
) -> None:
    settled = resolve_finetuning_options(tiny_config(finetuning=said), clients, new=new)
    assert settled.finetuning.unfreeze == learns


@pytest.mark.parametrize(
    ("clients", "new", "said", "rate"),
    [
        (2499, False, None, 0.1),
        (2500, False, None, 1.0),
        (50, True, None, 1.0),
        (9000, False, 0.3, 0.3),
    ],
)
def test_the_rate_of_the_encoder_follows_from_the_number_of_labels_unless_it_is_said(
    clients: int, new: bool, said: float | None, rate: float
) -> None:
    settled = resolve_finetuning_options(
        tiny_config(finetuning={"encoder_lr_scale": said}), clients, new=new
    )
    assert settled.finetuning.encoder_lr_scale == rate


def test_with_few_labels_the_default_is_the_heads_alone_and_says_so(
    pretrained: Model, prepared: PreparedSequences, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(finetuning={"validation_fraction": 0.2})
    tuned = finetuned_model(
        pretrained, prepared, labels("odd"), config=config, progress=console_progress()
    )
    assert changed(pretrained, tuned) == set()
    assert tuned.config.finetuning.unfreeze == "head"
    said = capsys.readouterr().err
    assert "40 labelled clients are few: the encoder stays frozen" in said
    assert " (8 clients held out)\n" in said


def test_heads_alone_learn_from_the_clients_held_out_too_once_measured(
    pretrained: Model, prepared: PreparedSequences
) -> None:
    held, none = (
        fit(pretrained, prepared, "spends", unfreeze="head", validation_fraction=s)
        for s in (0.3, 0.0)
    )
    assert predicted(held).equals(predicted(none))
    assert held.metrics["clients_held_out"] == 12
    assert held.metrics["held_out"] == held.metrics["frozen"] != {}
    kept = fit(
        pretrained, prepared, "odd", unfreeze="head", validation_fraction=0.3, calibrate=True
    )
    assert kept.metrics["held_out"] == kept.metrics["frozen"]
    assert not predicted(kept).equals(predicted(fit(pretrained, prepared, "odd", unfreeze="head")))


def test_fine_tuning_leaves_the_model_it_began_with_alone(
    pretrained: Model, prepared: PreparedSequences
) -> None:
    before = {name: value.clone() for name, value in encoder_of(pretrained).items()}
    tuned = fit(pretrained, prepared, "habit", validation_fraction=0.0)
    learned = {name for name, _ in pretrained.encoder.named_parameters()}
    assert changed(pretrained, tuned) == learned  # `recent` and `transitions` keep what was fitted
    assert all(torch.equal(value, encoder_of(pretrained)[name]) for name, value in before.items())


def test_gradual_unfreezes_one_part_more_an_epoch(
    pretrained: Model, prepared: PreparedSequences
) -> None:
    names = [name for name, _ in pretrained.encoder.named_parameters()]
    sizes = [len(part) for part in encoder_parts(pretrained.encoder)]
    assert sum(sizes) == len(names)
    kinds = ["pooling.", "sequence.", "events.network.", "events."]
    assert len(sizes) == len(kinds)
    for epochs in (1, 2, 3, 4):
        tuned = fit(
            pretrained, prepared, "odd", unfreeze="gradual", epochs=epochs, validation_fraction=0.0
        )
        free = tuple(kinds[:epochs])
        assert changed(pretrained, tuned) == {name for name in names if name.startswith(free)}


def test_discriminative_moves_the_events_less_than_all_does(
    pretrained: Model, prepared: PreparedSequences
) -> None:
    def moved(unfreeze: str) -> float:
        tuned = fit(pretrained, prepared, "odd", unfreeze=unfreeze, validation_fraction=0.0)
        table = encoder_of(tuned)["events.table"]
        return float((table - encoder_of(pretrained)["events.table"]).abs().mean())

    assert 0 < moved("discriminative") < 0.5 * moved("all")


# -------------------------------------------------------------- weights, early stopping, few labels


@pytest.mark.parametrize("unfreeze", ["head", "all"])
def test_class_weights_draw_predictions_to_the_rare_class(
    unfreeze: str, pretrained: Model, prepared: PreparedSequences
) -> None:
    rare = pd.Series(np.random.default_rng(1).random(40) < 0.2, index=IDS, name="rare")
    plain, balanced = (
        finetuned_model(
            pretrained,
            prepared,
            {"rare": rare},
            config=options(unfreeze=unfreeze, class_weight=weight, epochs=3),
        )
        for weight in (None, "balanced")
    )
    assert predicted(balanced)["rare=True"].mean() > predicted(plain)["rare=True"].mean() + 0.1


def test_clients_of_weight_0_do_not_count_and_heavy_ones_do(
    pretrained: Model, prepared: PreparedSequences
) -> None:
    none = pd.Series(np.where(HABIT == 3, 0.0, 1.0), index=IDS, name="w")
    assert load_classes(fit(pretrained, prepared, "habit", weights=none, unfreeze="head")) == (
        "a",
        "b",
        "c",
    )
    noise = pd.Series(np.arange(40) % 3 == 0, index=IDS, name="noise")
    heavy = pd.Series(np.where(noise, 9.0, 1.0), index=IDS, name="w")
    plain, weighted = (
        finetuned_model(
            pretrained, prepared, {"noise": noise}, weights=w, config=options(unfreeze="head")
        )
        for w in (None, heavy)
    )
    assert predicted(weighted)["noise=True"].mean() > predicted(plain)["noise=True"].mean() + 0.1


def load_classes(model: Model) -> tuple[Any, ...]:
    return model.targets[0].classes


def test_the_best_epoch_is_kept_and_patience_ends_the_rest(
    pretrained: Model, prepared: PreparedSequences
) -> None:
    noise = pd.Series(np.random.default_rng(2).random(40) < 0.5, index=IDS, name="noise")
    config = options(epochs=12, patience=2, learning_rate=0.03, encoder_lr_scale=1.0)
    tuned = finetuned_model(pretrained, prepared, {"noise": noise}, config=config)
    losses = [row["validation_loss"] for row in tuned.metrics["history"]]
    best = min(losses)
    assert len(losses) - 1 - losses.index(best) == 2 < 11
    assert tuned.metrics["held_out"]["validation_loss"] == pytest.approx(
        min(best, tuned.metrics["frozen"]["validation_loss"]), rel=1e-4
    )


def test_an_epoch_counts_each_client_that_it_learns_from_once(
    pretrained: Model, prepared: PreparedSequences
) -> None:
    from test_fit import Heard

    progress = Heard()
    config = options(epochs=1, batch_size=12, unfreeze="all")
    finetuned_model(pretrained, prepared, labels("habit"), config=config, progress=progress)
    assert ("epoch 1/1", 32, 32) in progress.tasks


def test_where_tuning_only_harms_the_encoder_stays_as_it_was(
    pretrained: Model, prepared: PreparedSequences
) -> None:
    tuned = fit(pretrained, prepared, "habit", epochs=2, learning_rate=1.0, encoder_lr_scale=1.0)
    assert len(tuned.metrics["history"]) == 2
    assert changed(pretrained, tuned) == set()
    assert tuned.metrics["held_out"] == tuned.metrics["frozen"]
    assert tuned.metrics["encoder_kept"]
    alone = fit(pretrained, prepared, "habit", unfreeze="head")
    assert predicted(tuned).equals(predicted(alone)), "the heads learn from the clients held out"


@pytest.mark.parametrize(
    ("batch_size", "rate", "found"),
    [
        (8, 1e4, r"diverged by step 4 \(epoch 1\): the loss is [\d.e+]+ and began at 0\.\d+"),
        (8, 1e30, r"diverged by step 4 \(epoch 1\): the loss is (nan|inf)"),
        (64, 1e30, "The outputs for the clients held out are no longer finite"),
    ],
)
def test_a_fine_tuning_that_diverges_ends_in_words_and_leaves_no_model(
    batch_size: int, rate: float, found: str, pretrained: Model, tmp_path: Path
) -> None:
    config = options(batch_size=batch_size, learning_rate=rate, encoder_lr_scale=1.0)
    with pytest.raises(
        TrainingError, match=rf"{found}.* Lower finetuning\.learning_rate \(it is 1"
    ):
        finetune(pretrained, EVENTS, LABELS, tmp_path / "m", targets=["habit"], config=config)
    assert list(tmp_path.iterdir()) == []


def test_a_few_labels_do_not_collapse(pretrained: Model, prepared: PreparedSequences) -> None:
    few = {"odd": labels("odd")["odd"].iloc[:12]}
    found = predicted(finetuned_model(pretrained, prepared, few, config=options(epochs=3)))
    right = found["odd"].to_numpy()[12:] == LABELS["odd"][12:]
    assert right.mean() > 0.6
    assert found["odd=True"].std() > 0.05


# -------------------------------------------------------------------------------- runs and refusals


def test_an_interrupted_run_that_is_resumed_equals_the_undisturbed_one(
    pretrained: Model, tmp_path: Path
) -> None:
    from test_run import Stop

    config = options(epochs=3, dropout=0.2)
    whole = finetune(
        pretrained, EVENTS, LABELS, tmp_path / "whole", targets=["habit"], config=config
    )
    model = tmp_path / "model"
    with pytest.raises(KeyboardInterrupt):
        finetune(
            pretrained,
            EVENTS,
            LABELS,
            model,
            targets=["habit"],
            config=config,
            progress=Stop(2, 16),
        )
    with pytest.raises(OutputError, match="unfinished run is in"):
        finetune(pretrained, EVENTS, LABELS, model, targets=["habit"], config=config)
    with pytest.raises(OutputError, match="other options"):
        finetune(pretrained, EVENTS, LABELS, model, targets=["odd"], config=config, resume=True)
    finetune(pretrained, EVENTS, LABELS, model, targets=["habit"], config=config, resume=True)
    for name in ("model.safetensors", "heads.safetensors"):
        one, other = load_file(str(whole / name)), load_file(str(model / name))
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert not (tmp_path / "model.partial").exists()


def test_a_run_that_stopped_early_and_was_killed_is_resumed_without_another_epoch(
    pretrained: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, model = (
        options(epochs=12, patience=1, learning_rate=1e-9, encoder_lr_scale=1.0, unfreeze="all"),
        tmp_path / "model",
    )
    whole = load_model(
        finetune(pretrained, EVENTS, LABELS, tmp_path / "whole", targets=["habit"], config=config)
    )
    assert len(whole.metrics["history"]) == 2

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(seqmel.training.finetuning.finetune, "save_finetuned", killed)
        with pytest.raises(KeyboardInterrupt):
            finetune(pretrained, EVENTS, LABELS, model, targets=["habit"], config=config)
    resumed = load_model(
        finetune(pretrained, EVENTS, LABELS, model, targets=["habit"], config=config, resume=True)
    )
    assert resumed.metrics["history"] == whole.metrics["history"]
    assert changed(resumed, whole) == set()


def test_what_the_model_fixes_cannot_be_changed(
    pretrained: Model, prepared: PreparedSequences, tmp_path: Path
) -> None:
    for changes, message in (
        (
            {"encoder": "lstm"},
            (
                r"encoder(\.name)? cannot be changed by fine-tuning: the model has gru, the "
                r"options say lstm"
            ),
        ),
        (
            {"event_encoder": {"hidden_size": 32}},
            r"event_encoder\.hidden_size cannot be changed .* has 16, the options say 32",
        ),
        ({"schema": {"categorical": ["mcc"]}}, r"schema\.categorical cannot be changed"),
    ):
        with pytest.raises(ConfigError, match=message):
            finetune(
                pretrained,
                EVENTS,
                LABELS,
                tmp_path / "m",
                targets=["odd"],
                config=tiny_config(**changes),
            )
    assert list(tmp_path.iterdir()) == []
    same = tiny_config(schema={"client": "client_id", **SCHEMA}, finetuning={"unfreeze": "head"})
    assert finetuned_model(pretrained, prepared, labels("odd"), config=same).heads is not None


def test_sequences_of_another_vocabulary_are_refused(pretrained: Model, tmp_path: Path) -> None:
    other = prepare(EVENTS.slice(0, 300), tmp_path / "other", config=tiny_config(schema=SCHEMA))
    assert len(other.sequences)
    with pytest.raises(ModelError, match="prepared with another vocabulary than the model's"):
        finetune(
            pretrained,
            tmp_path / "other",
            LABELS,
            tmp_path / "m",
            targets=["odd"],
            config=options(),
        )
    assert not (tmp_path / "m.partial").exists()
    assert len(open_prepared(tmp_path / "other").sequences)


def test_who_is_counted_has_events_and_a_weight(
    pretrained: Model, prepared: PreparedSequences, capsys: pytest.CaptureFixture[str]
) -> None:
    known = LABELS.set_index("client_id")
    others = pd.DataFrame(
        {"odd": [True] * 30 + [None] * 5, "spends": [9.0] * 35}, index=range(10_000, 10_035)
    )
    told: Any = {
        name: pd.concat([known[name], others[name]]).astype(object) for name in ("odd", "spends")
    }
    told["spends"] = told["spends"].astype(float)
    weights = pd.Series(1.0, index=told["odd"].index).where(told["odd"].index != IDS[0], 0.0)
    config, lines = options(unfreeze="head"), []
    for given in (None, weights):
        finetuned_model(
            pretrained, prepared, told, config=config, weights=given, progress=console_progress()
        )
        lines += [
            line
            for line in capsys.readouterr().err.splitlines()
            if line.startswith(("odd: ", "spends: "))
        ]
    assert lines == [
        "odd: 40 clients (False: 20, True: 20); 30 more have a label, but no events",
        (
            f"spends: 40 clients with a quantity, {known['spends'].mean():.4g} on average; 35 "
            "more have a label, but no events"
        ),
        "odd: 39 clients (False: 19, True: 20); 31 more have a label, but no events or no weight",
        f"spends: 39 clients with a quantity, {known['spends'][1:].mean():.4g} on average; 36 "
        "more have a label, but no events or no weight",
    ]


def test_classes_with_one_client_are_told_of_and_nothing_is_warned_of(
    pretrained: Model, prepared: PreparedSequences, capsys: pytest.CaptureFixture[str]
) -> None:
    rare = LABELS.set_index("client_id")["named"].where(IDS > 170, "z")
    told: Any = {"rare": rare, **labels("odd")}
    finetuned_model(
        pretrained, prepared, told, config=options(unfreeze="head"), progress=console_progress()
    )
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "one client" in line)
    assert line.startswith("rare: classes with one client (n177, n184, ")
    assert line.endswith(" and 17 more) are only used in training, so no metric covers them")


@pytest.mark.parametrize(
    ("change", "targets", "error", "message"),
    [
        ({}, ["habitt"], SchemaError, "No column 'habitt'.*Did you mean 'habit'"),
        (
            {},
            ["odd", "named"],
            InputError,
            "'named' has another class for each of 40 clients, such as 'n100'",
        ),
        (
            {"few": LABELS["few"].where(IDS < 200)},
            ["few"],
            InputError,
            "'few' has another class for.*--task regression",
        ),
        ({}, ["counts"], InputError, "'counts' has one class only, 1.0, among 40 clients"),
        ({"client_id": IDS + 1}, ["odd"], InputError, "No client of the labels has events"),
        ({}, ["odd", "odd"], ConfigError, "The target 'odd' is named twice"),
    ],
)
def test_labels_that_cannot_be_learnt_leave_nothing_behind(
    change: Any, targets: Any, error: Any, message: str, pretrained: Model, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        finetune(
            pretrained,
            EVENTS,
            LABELS.assign(**change),
            tmp_path / "m",
            targets=targets,
            config=options(),
            progress=silent,
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("unfreeze", "calibrate"), [("head", False), ("head", True), ("all", False)]
)
def test_the_card_says_what_the_clients_held_out_decided_and_whether_they_were_learnt_from(
    pretrained: Path, unfreeze: str, calibrate: bool, tmp_path: Path
) -> None:
    made = finetune(
        pretrained,
        EVENTS,
        LABELS,
        tmp_path / "model",
        targets=["habit"],
        config=options(unfreeze=unfreeze, calibrate=calibrate),
    )
    card = (Path(made) / "README.md").read_text()
    everyone = (
        "Trained on 40 labelled clients; the metrics are of 8 of them, by heads that had not "
        "seen these"
    )
    assert (everyone in card) == (unfreeze == "head" and not calibrate)
    assert ("chose the epoch" in card) == (unfreeze == "all")
    assert ("chose the temperature" in card) == calibrate


def test_predictions_of_money_have_the_mean_of_the_labels_and_none_is_negative(
    pretrained: Path, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    spent = LABELS.assign(spent=np.exp(random.normal(4, 1.5, len(LABELS))).round(2))
    made = finetune(
        pretrained,
        EVENTS,
        spent,
        tmp_path / "model",
        targets=["spent"],
        config=options(unfreeze="head"),
    )
    model = load_model(made)
    (target,) = model.targets
    assert target.log
    assert target.factor > 1
    found = predicted(model)["spent"].to_numpy()
    assert (found >= 0).all()
    assert found.mean() == pytest.approx(spent["spent"].mean(), rel=0.4)
    assert "learnt as log(1 + y)" in (Path(made) / "README.md").read_text()
