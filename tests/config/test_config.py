"""Every option is checked before work starts; an error is one line with the nearest name."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import Field, ValidationError

from seqmel.config import Config, as_config, methods, read_config
from seqmel.config.options.base import Options
from seqmel.config.registry import sections
from seqmel.config.validation_errors import explain
from seqmel.core.errors import ConfigError

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"trainin": {"epochs": 1}}, r"unknown option 'trainin'\. Did you mean 'training'\?"),
    (
        {"training": {"epoch": 1}},
        r"unknown option 'training\.epoch'\. Did you mean 'epochs' or 'step_epochs'\?",
    ),
    (
        {"hidden_size": 9},
        r"unknown option 'hidden_size'\. It is an option of: event_encoder\.hidden_size",
    ),
    ({"encoder": {"name": "gru", "heads": 2}}, r"unknown option 'encoder\.heads'"),
    (
        {"encoder": {"hiden_size": 2}},
        r"unknown option 'encoder\.hiden_size'\. Did you mean 'hidden_size'",
    ),
    (
        {"encoder": "grru"},
        (
            r"encoder cannot be 'grru'\. Expected one of: none, gru, lstm, transformer\. Did you "
            r"mean 'gru'\?"
        ),
    ),
    ({"encoder": {"name": "rnn"}}, r"encoder cannot be 'rnn'"),
    ({"loss": "infonc"}, r"loss cannot be 'infonc'.*Did you mean 'infonce'\?"),
    (
        {"loss": "contrastive", "miner": "hard"},
        r"miner cannot be 'hard'\. Expected one of: all_negatives, batch_all",
    ),
    ({"miner": "semi_hrad"}, r"miner cannot be 'semi_hrad'.*Did you mean 'semi_hard'"),
    ({"training": {"epochs": True}}, r"training: epochs is true\. Expected a whole number\."),
    ({"training": {"learning_rate": np.True_}}, r"learning_rate is true\. Expected a number\."),
    ({"embedding_dim": 9, "matryoshka": [True]}, r"matryoshka is true\. Expected a whole number"),
    ({"pooling": "median"}, r"cannot be 'median'\. Expected one of: last, mean"),
    ({"pooling": ["mean", "mean"]}, "pooling names one pooling twice"),
    ({"pooling": []}, r"pooling = \[\]"),
    (
        {"pooling": ["recent"]},
        "pooling is recent alone, which has no trainable states; add another pooling, such as mean",
    ),
    ({"precision": "16"}, r"precision cannot be '16'"),
    ({"device": "tpu"}, r"device cannot be 'tpu'\. Expected auto, cpu, cuda"),
    (
        {"preparation": {"memory_limit": "lots"}},
        r"memory_limit cannot be 'lots'\. Expected a size such as 4GB",
    ),
    ({"training": {"epochs": -1}}, r"training\.epochs = -1\. Expected a number of at least 0"),
    ({"training": {"epochs": np.int64(-1)}}, r"training\.epochs = -1\. Expected"),
    ({"training": {"epochs": "ten"}}, r"training\.epochs = 'ten'\. Expected a whole number"),
    (
        {"training": {"batch_size": 1}},
        r"training\.batch_size = 1\. Expected a number of at least 2",
    ),
    (
        {"training": {"learning_rate": 0}},
        r"training\.learning_rate = 0\. Expected a number above 0",
    ),
    ({"training": {"validation_fraction": 1}}, r"training\.validation_fraction = 1"),
    ({"encoder": 5}, r"encoder"),
    ({"seed": -1}, r"seed = -1"),
    ({"embedding_dim": 0}, r"embedding_dim = 0"),
    ({"views": {"count": 1}}, r"views\.count = 1\. Expected a number of at least 2"),
    (
        {"views": {"min_length": 9, "max_length": 3}},
        r"views: min_length 9 is larger than max_length 3",
    ),
    (
        {"encoder": {"name": "transformer", "hidden_size": 10}},
        r"hidden_size 10 is not a multiple of 2 \* heads = 8",
    ),
    ({"loss": "infonce", "miner": "hard_negatives"}, "the loss infonce takes no miner"),
    (
        {"loss": "contrastive", "miner": None},
        "the loss contrastive needs a miner: one of all_negatives, distance_weighted",
    ),
    (
        {"loss": "triplet", "miner": None},
        "the loss triplet needs a miner: one of batch_all, batch_hard",
    ),
    (
        {"loss": "triplet", "miner": "hard_negatives"},
        (
            "the loss triplet takes triplets, the miner hard_negatives gives pairs; expected one "
            "of: batch_all, batch_hard"
        ),
    ),
    (
        {"loss": "margin", "miner": {"name": "batch_hard", "skip_hardest": 1}},
        (
            "the loss margin takes pairs, the miner batch_hard gives triplets; expected one of: "
            "all_negatives"
        ),
    ),
    (
        {"loss": "triplet", "miner": {"name": "easy_positive", "skip_hardest": 1}},
        "skip_hardest 1 is for negative: hard, found semi_hard",
    ),
    (
        {"loss": "vicreg", "miner": "semi_hard"},
        "the loss vicreg takes no miner, found semi_hard; set miner to null",
    ),
    (
        {"objective": {"curvature": 0.1}, "loss": "circle"},
        (
            "the loss circle cannot use hyperbolic distances; expected one of: contrastive, "
            "infonce, lifted_structure, margin, quadruplet, supcon, triplet; or leave curvature out"
        ),
    ),
    (
        {"objective": {"curvature": 0.1}, "loss": "margin"},
        "the miner distance_weighted cannot use hyperbolic distances; expected one of: all_neg",
    ),
    (
        {"objective": {"leave_out": {"cosine": 0.9}}, "loss": "circle"},
        "the loss circle cannot leave out negatives; expected one of: .*infonce.*triplet",
    ),
    (
        {"objective": {"leave_out": {"table": "clients.parquet"}}},
        r"leave_out\.table needs a column; set leave_out\.column",
    ),
    (
        {"objective": {"leave_out": {"cosine_start": 1.0}}},
        r"cosine_start 1\.0 has no effect without cosine",
    ),
    (
        {"objective": {"curvature": 0.1}, "loss": {"name": "infonce", "debias": 0.1}},
        r"debias 0\.1 is for cosines; leave out debias, or curvature",
    ),
    (
        {"objective": {"clip_radius": 1.0}},
        r"clip_radius 1\.0 has no effect without curvature; set curvature, or leave clip_radius",
    ),
    ({"loss": "tripplet"}, r"loss cannot be 'tripplet'.*Did you mean 'triplet'"),
    (
        {"loss": {"name": "triplet", "margn": 1}},
        r"unknown option 'loss\.margn'\. Did you mean 'margin'\?",
    ),
    (
        {"loss": {"name": "triplet", "scale": 1}},
        r"unknown option 'loss\.scale'\. It is an option of: loss circle, loss cosface",
    ),
    (
        {"loss": {"name": "triplet", "margin": 3}},
        r"loss\.margin = 3\. Expected a number of at most 2",
    ),
    (
        {"loss": {"name": "contrastive", "margin_start": 0.7}},
        r"loss: margin_start 0\.7 is larger than margin 0\.5",
    ),
    (
        {"objective": "cpc", "encoder": "gru", "loss": "triplet"},
        (
            r"the loss triplet has no effect: no part of the objective \(cpc\) compares clients\. "
            r"Leave loss out, or add coles"
        ),
    ),
    (
        {
            "objective": ["next_event", "masked_events"],
            "encoder": "gru",
            "loss": {"temperature": 0.2},
        },
        (
            r"the loss infonce has no effect: no part of the objective \(next_event, "
            r"masked_events\) compares clients"
        ),
    ),
    (
        {"pooling": ["mean", "max"], "category_mean": {"size": 4}},
        (
            r"category_mean has no effect: pooling \(mean, max\) does not name it\. Leave it out, "
            r"or add category_mean to pooling"
        ),
    ),
    (
        {"event_encoder": {"category_init_window": 3}},
        r"event_encoder: category_init_window 3 is for category_init: ppmi, found null",
    ),
    (
        {"encoder": {"name": "lstm", "dropout": 0.1}},
        r"encoder: dropout 0\.1 is between layers, and layers is 1",
    ),
    (
        {"loss": {"name": "margin", "learn_beta": False, "beta_weight": 0.5}},
        r"loss: beta_weight 0\.5 is for learn_beta: true, found false",
    ),
    (
        {"training": {"patience": 3, "validation_fraction": 0}},
        r"training: patience 3 needs a validation split; validation_fraction is 0",
    ),
    (
        {"loss": {"name": "contrastive", "power": 3}},
        r"loss\.power cannot be '3'\. Expected one of: 1, 2",
    ),
    (
        {"loss": "triplet", "miner": {"max_triplets": 3}},
        r"unknown option 'miner\.max_triplets'\. It is an option of: miner batch_all",
    ),
    (
        {"loss": "contrastive", "miner": {"memory": -1}},
        r"miner\.memory = -1\. Expected a number of at least 0",
    ),
    (
        {"loss": "margin", "miner": {"cutoff": 1.9}},
        r"miner: cutoff 1\.9 is larger than nonzero_loss_cutoff 1\.4",
    ),
    (
        {"event_encoder": {"category_init": "word2vec"}},
        r"event_encoder\.category_init cannot be 'word2vec'\. Expected one of: ppmi",
    ),
    (
        {"sampler": "category"},
        r"sampler cannot be 'category'\. Expected one of: category_balanced, offline_hard, random",
    ),
    ({"sampler": {"name": "random", "segments": 2}}, r"unknown option 'sampler\.segments'"),
    ({"views": "random_slice"}, r"views cannot be 'random_slice'.*Did you mean 'random_slices'"),
    (
        {"views": {"name": "last_k", "days": 3}},
        r"unknown option 'views\.days'\. It is an option of: views time_windows",
    ),
    (
        {"views": {"name": "last_k", "min_length": 20, "max_length": 20}},
        (
            r"views: last_k of 20 events and no others is one view of every client with twice as "
            r"many; expected a smaller min_length"
        ),
    ),
    (
        {"views": {"name": "last_k", "max_length": 1}},
        r"views: last_k of 1 events .* expected a max_length of 2 or more",
    ),
    (
        {"views": {"name": "time_windows", "days": 0}},
        r"views\.days = 0\. Expected a number above 0",
    ),
    (
        {"views": {"name": "calendar_windows", "unit": "weak"}},
        r"views\.unit cannot be 'weak'.*Did you mean 'week'\?",
    ),
    ({"views": {"event_dropout": 1}}, r"views\.event_dropout = 1\. Expected a number below 1"),
    (
        {"schema": {"numeric": "amount"}},
        r"schema\.numeric is 'amount'\. Expected a list, in brackets: \[a, b\]",
    ),
    (
        {"schema": {"numeric_by": "mcc"}},
        r"schema\.numeric_by is 'mcc'\. Expected options by their names: \{a: 1",
    ),
    ({"training": 5}, r"training is 5\. Expected options by their names: \{a: 1, b: 2\}"),
    ({"schema": {"clent": "c"}}, r"unknown option 'schema\.clent'\. Did you mean 'client'\?"),
    (
        {"schema": {"time_unit": "days"}},
        r"schema\.time_unit cannot be 'days'.*Did you mean 'day'\?",
    ),
    ({1: 2}, "1"),
]


@pytest.mark.parametrize(
    ("options", "message"), WRONG, ids=lambda v: str(v)[:40] if isinstance(v, dict) else ""
)
def test_what_is_wrong_is_said_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Config.from_dict(options, source="my.yaml")
    assert str(caught.value).startswith("my.yaml: ")
    assert "\n" not in str(caught.value)


def test_a_name_alone_is_a_name_with_default_options() -> None:
    assert (
        Config.from_dict({"encoder": "lstm"}).encoder
        == Config.from_dict({"encoder": {"name": "lstm"}}).encoder
    )
    assert Config.from_dict({"encoder": {"hidden_size": 8}}).encoder.name == "gru"
    assert Config.from_dict({"pooling": "last"}).pooling == ("last",)
    assert Config.from_dict({"loss": {"temperature": 0.3}}).loss.name == "infonce"


def test_a_loss_brings_its_default_miner_and_nameless_options_belong_to_that() -> None:
    for loss, name in (
        ("contrastive", "hard_negatives"),
        ("margin", "distance_weighted"),
        ("triplet", "semi_hard"),
    ):
        for options in ({"loss": loss}, {"loss": {"name": loss}, "miner": {"memory": 9}}):
            miner = Config.from_dict(options).miner
            assert miner is not None
            assert miner.name == name
            assert miner.memory == (9 if "miner" in options else 0)
    assert Config.from_dict({"loss": "supcon"}).miner is None


def test_last_k_may_have_one_length_if_dropout_varies_views_or_a_model_was_trained_so() -> None:
    one = {"name": "last_k", "min_length": 20, "max_length": 20}
    for more in ({"event_dropout": 0.1}, {"day_dropout": 0.1}):
        assert Config.from_dict({"views": one | more}).views.max_length == 20
    assert Config.from_dict({"views": one}, lenient=True).views.max_length == 20
    assert Config.from_dict({"views": one | {"name": "random_slices"}}).views.max_length == 20


def test_options_of_a_method_of_several_words_can_be_set_one_by_one() -> None:
    config = read_config(
        None,
        [
            "loss=triplet",
            "loss.margin=0.7",
            "miner.name=batch_all",
            "miner.max_triplets=9",
            "views.count=3",
        ],
    )
    assert config.loss.model_dump()["margin"] == 0.7
    assert config.miner is not None
    assert (config.miner.name, config.miner.model_dump()["max_triplets"], config.views.count) == (
        "batch_all",
        9,
        3,
    )


def test_a_pair_loss_mines_hard_negatives_unless_told_otherwise() -> None:
    for loss in ("contrastive", {"name": "contrastive", "margin": 1.0}):
        miner = Config.from_dict({"loss": loss}).miner
        assert miner is not None
        assert miner.name == "hard_negatives"
    random = Config.from_dict({"loss": "contrastive", "miner": "random_negatives"}).miner
    assert random is not None
    assert random.name == "random_negatives"
    assert Config().miner is None


CPC = {"objective": "cpc", "encoder": "gru"}


def test_a_loss_without_effect_is_accepted_as_default_or_from_an_existing_model() -> None:
    for options in (CPC, CPC | {"loss": "infonce", "miner": None}, Config.from_dict(CPC).to_dict()):
        assert Config.from_dict(options) == Config.from_dict(CPC)
    kept = CPC | {"loss": {"name": "contrastive", "margin": 0.1, "margin_start": 0.5}}
    assert Config.from_dict(kept, lenient=True).loss.name == "contrastive"


def test_the_loss_of_a_preset_is_taken_where_a_setting_asks_for_another_objective(
    tmp_path: Path,
) -> None:
    preset = tmp_path / "my.yaml"
    preset.write_text("encoder: gru\nobjective: coles\nloss: triplet\nminer: batch_hard\n")
    assert read_config(preset, ["objective=cpc"]).loss.name == "triplet"
    refused = r"my\.yaml: the {} has no effect: no part of the objective \(cpc\) compares clients"
    for said, part in (("loss.margin=0.4", "loss triplet"), ("miner=semi_hard", "miner semi_hard")):
        with pytest.raises(ConfigError, match=refused.format(part)):
            read_config(preset, ["objective=cpc", said])
    preset.write_text("encoder: gru\nobjective: cpc\nloss: triplet\n")
    with pytest.raises(ConfigError, match=refused.format("loss triplet")):
        read_config(preset, ["seed=1"])


@pytest.mark.parametrize(
    "options",
    [
        {"pooling": "mean", "category_mean": {"size": 4}},
        {"event_encoder": {"category_init_window": 3}},
        {"encoder": {"dropout": 0.1}},
        {"loss": {"name": "margin", "learn_beta": False, "beta_weight": 0.5}},
        {"training": {"patience": 3, "validation_fraction": 0}},
    ],
    ids=str,
)
def test_what_does_nothing_is_taken_of_a_model_that_is_there(options: dict[str, Any]) -> None:
    assert Config.from_dict(
        Config.from_dict(options, lenient=True).to_dict(), lenient=True
    ) == Config.from_dict(options, lenient=True)


def test_category_mean_of_a_preset_is_taken_where_a_setting_asks_for_another_pooling(
    tmp_path: Path,
) -> None:
    preset = tmp_path / "my.yaml"
    preset.write_text(
        "pooling: [mean, category_mean]\ncategory_mean: {size: 4}\nobjective: coles\n"
    )
    assert read_config(preset, ["pooling=mean"]).category_mean.size == 4
    assert read_config(preset, ["objective=event_prediction"]).category_mean.size == 4
    with pytest.raises(ConfigError, match=r"my\.yaml: category_mean has no effect"):
        read_config(preset, ["pooling=mean", "category_mean.size=3"])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"encoder": "none"},
        {"encoder": "transformer", "loss": "contrastive", "pooling": ["last"], "embedding_dim": 8},
        {"schema": {"client": "c", "numeric_by": {"value": "parameter"}}},
    ],
)
def test_a_config_comes_back_from_what_it_is_saved_as(options: dict[str, Any]) -> None:
    config = Config.from_dict(options)
    assert Config.from_dict(config.to_dict()) == config


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().seed = 5  # type: ignore[misc]


# ------------------------------------------------------------------------------------- file,
# settings, flags


def test_flags_win_over_settings_and_settings_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("encoder: lstm\nseed: 1\ntraining: {epochs: 2, batch_size: 3}\n")
    config = read_config(
        file,
        ["seed=5", "training.epochs=6", "encoder.hidden_size=8"],
        **{"training.epochs": 7, "seed": None},
    )
    assert (config.seed, config.training.epochs, config.training.batch_size) == (5, 7, 3)
    assert (config.encoder.name, config.encoder.hidden_size) == ("lstm", 8)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("schema.kinds={city:text}", "'city:text' is one name. A space comes after the colon"),
        ("schema.kinds={city:", "not valid YAML. A bracket is not closed. In a shell, quote"),
    ],
)
def test_a_mapping_that_is_mistyped_says_what_is_missing(setting: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        read_config(None, [setting])


def test_an_option_that_a_file_has_twice_is_refused_rather_than_its_first_value_passed_over(
    tmp_path: Path,
) -> None:
    (tmp_path / "my.yaml").write_text(
        "training:\n  epochs: 5\nencoder: gru\ntraining: {batch_size: 8}\n"
    )
    with pytest.raises(
        ConfigError,
        match=r"my\.yaml is .*'training' is there twice, in line 1 and line 4\. Keep one",
    ):
        read_config(tmp_path / "my.yaml")
    merged = "training: &t {epochs: 5, batch_size: 8}\nfinetuning: {<<: *t, epochs: 2}\n"
    (tmp_path / "my.yaml").write_text(merged)
    assert read_config(tmp_path / "my.yaml").finetuning.epochs == 2


def test_settings_are_yaml() -> None:
    config = read_config(
        None,
        ["pooling=[last, max]", "miner=null", "schema.numeric_by={value: parameter}", "device=cpu"],
    )
    assert config.pooling == ("last", "max")
    assert config.schema.numeric_by == {"value": "parameter"}


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    assert read_config(tmp_path / "empty.yaml") == Config()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("encoder: [gru", "is not a readable YAML file"),
        ("- encoder", "holds a list. Expected options"),
        ("just text", "holds a str. Expected options"),
        ("\x00", "is not a readable YAML file"),
    ],
)
def test_a_file_that_is_no_config_is_refused_in_one_line(
    content: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "my.yaml").write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_config(tmp_path / "my.yaml")
    assert "\n" not in str(caught.value)


def test_a_missing_file_has_its_nearest_neighbour_offered(tmp_path: Path) -> None:
    (tmp_path / "berka.yaml").touch()
    with pytest.raises(
        ConfigError, match=r"No such config file: .*berk\.yaml\. Did you mean 'berka\.yaml'\?"
    ):
        read_config(tmp_path / "berk.yaml")


@pytest.mark.parametrize("setting", ["epochs", "=3", "", "a=[1"])
def test_a_setting_that_is_none_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        read_config(None, [setting])


@pytest.mark.parametrize(
    ("section", "name", "own"),
    [
        ("loss", "nt_xent", "infonce"),
        ("loss", "supervised_contrastive", "supcon"),
        ("views", "weeks", "calendar_windows"),
        ("objective", "meles", "coles"),
        ("objective", "sop", "sequence_order"),
        ("objective", "nsp", "next_sequence"),
        ("objective", "mlm", "masked_events"),
        ("objective", "rtd", "replaced_token"),
    ],
)
def test_another_name_of_a_method_is_the_method(section: str, name: str, own: str) -> None:
    beside = {"encoder": "gru"}
    assert Config.from_dict({section: name} | beside) == Config.from_dict({section: own} | beside)
    assert Config.from_dict({section: {"name": name}} | beside) == Config.from_dict(
        {section: own} | beside
    )
    assert f"Also: {name}" in methods()[section][own]


def test_options_go_with_another_name_too() -> None:
    assert (
        read_config(None, ["loss=nt_xent", "loss.temperature=0.2"]).loss.model_dump()["temperature"]
        == 0.2
    )


def test_a_method_under_the_wrong_option_is_told_its_own() -> None:
    with pytest.raises(
        ConfigError,
        match=r"objective cannot be 'vicreg'.* belongs to another option: loss=vicreg\.$",
    ):
        Config.from_dict({"objective": "vicreg"})


@pytest.mark.parametrize(
    ("encoder", "events"),
    [
        ("none", 100),
        ("transformer", 100),
        *((("gru", size), n) for size, n in ((64, 400), (256, 400), (512, 200), (800, 100))),
    ],
    ids=str,
)
def test_a_narrow_recurrence_embeds_more_events_at_a_time(
    encoder: str | tuple[str, int], events: int
) -> None:
    name, size = encoder if isinstance(encoder, tuple) else (encoder, None)
    options = {"name": name} | ({"hidden_size": size} if size else {})
    assert (
        Config.from_dict({"encoder": options, "embedding": {"batch_events": 100}}).events_at_a_time
        == events
    )


def test_options_by_their_names_stand_for_a_config() -> None:
    assert as_config(None) == as_config({}) == Config()
    assert as_config({"training": {"epochs": 3}}) == as_config(
        Config.from_dict({"training": {"epochs": 3}})
    )
    with pytest.raises(ConfigError, match="unknown option 'epochs'"):
        as_config({"epochs": 3})
    with pytest.raises(
        ConfigError,
        match=(
            r"config is a str\. Expected a Config or a mapping of options, such as .* "
            r"read_config"
        ),
    ):
        as_config("config.yaml")  # type: ignore[arg-type]


def test_any_option_with_a_pattern_that_does_not_match_is_a_line() -> None:
    class Root(Options):
        code: str = Field("a", pattern=r"^[a-c]$")

    with pytest.raises(ValidationError) as raised:
        Root(code="x")
    assert (
        explain(raised.value, "my.yaml", Root)
        == "my.yaml: code cannot be 'x'. Expected text that matches ^[a-c]$."
    )


ODD: list[Any] = [-1, 0, 1e9, 1.5, "x", None, True, [1], {}, "", float("nan"), 10**30, ["a", "a"]]
"""Values that some option or other refuses."""


def test_no_refusal_of_an_option_has_the_words_of_pydantic() -> None:
    names = {
        f"{section}.{name}" for section, kind in sections(Config) for name in kind.model_fields
    }
    refused = 0
    for name, value in itertools.product(sorted(names | set(Config.model_fields)), ODD):
        given = value
        for part in reversed(name.lstrip(".").split(".")):
            given = {part: given}
        try:
            Config.from_dict(given)
        except ConfigError as error:
            refused += 1
            line = str(error)
            assert not re.search(r"[Ii]nput should|valid (string|number|integer|boolean)", line), (
                line
            )
            assert "np." not in line
    assert refused > 1_000


def test_an_option_of_one_part_of_the_objective_leaves_the_other_parts() -> None:
    settings = ["objective.leave_out.cosine=0.9", "objective.leave_out.cosine_start=1.0"]
    config = read_config(None, settings)
    assert [part.name for part in config.objective] == ["coles", "event_prediction"]
    assert config.leave_out is not None
    assert (config.leave_out.cosine, config.leave_out.cosine_start) == (0.9, 1.0)
    named = read_config(None, ["objective.event_prediction.head_size=32"]).objective
    assert [part.head_size for part in named if part.name != "next_event"] == [128, 32]  # type: ignore[union-attr]
    alone = read_config(None, ["objective=coles", "objective.head_size=null"])
    assert [part.name for part in alone.objective] == ["coles"]
    assert [p.name for p in read_config(None, ["objective.name=coles"]).objective] == ["coles"]
    with pytest.raises(ConfigError, match=r"Name one: objective\.coles\.head_size"):
        read_config(None, ["objective.head_size=32"])
