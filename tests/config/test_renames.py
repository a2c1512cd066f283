"""Old names of options, parameters and flags work with a warning; old models load silently."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from seqmel.config import Config, read_config
from seqmel.config.registry import names_at
from seqmel.config.renames import RENAMED_OPTIONS, RENAMED_POOLINGS
from seqmel.core.errors import ConfigError
from seqmel.core.renames import RenamedWarning
from seqmel.estimators.embedder import SequenceEmbedder
from seqmel.estimators.options import RENAMED_PARAMETERS
from seqmel.estimators.supervised import SequenceClassifier
from seqmel.objectives.miners import MINERS

VALUES: dict[str, Any] = {
    "schema": {"client": "who"},
    "event_encoder": {"hidden_size": 32},
    "category_mean": {"size": 4},
    "recency_features": False,
    "category_init": "ppmi",
    "category_init_window": 3,
    "max_events": 7,
    "mask_ratio": 0.4,
    "corrupt_ratio": 0.4,
    "feature_fraction": 0.4,
    "k": 3,
    "skip_hardest": 2,
    "cutoff": 0.3,
    "nonzero_loss_cutoff": 1.1,
    "max_pairs": 9,
    "max_triplets": 9,
    "pool_size": 99,
    "refresh_every": 4,
    "storage": "memory",
    "validation_fraction": 0.2,
    "encoder_lr_scale": 0.5,
}
"""New name -> a value that is not the default."""

BESIDE: dict[str, dict[str, Any]] = {
    "event_encoder.pretrain": {},
    "event_encoder.pretrain_window": {"event_encoder": {"category_init": "ppmi"}},
    "objective.cpc.most_events": {"encoder": "gru"},
    "objective.next_event.most_events": {"encoder": "gru"},
    "objective.masked_events.share": {"encoder": "gru"},
    "objective.replaced_token.share": {"encoder": "gru"},
    "objective.replaced_token.feature_share": {"encoder": "gru"},
    "miner.count": {"loss": "contrastive", "miner": {"name": "hard_negatives"}},
    "miner.skip": {"loss": "contrastive", "miner": {"name": "hard_negatives"}},
    "miner.nearest": {"loss": "contrastive", "miner": {"name": "distance_weighted"}},
    "miner.farthest": {"loss": "contrastive", "miner": {"name": "distance_weighted"}},
    "miner.all_negatives.most": {"loss": "contrastive"},
    "miner.batch_all.most": {"loss": "triplet"},
    "sampler.among": {"sampler": {"name": "offline_hard"}},
    "sampler.refresh": {"sampler": {"name": "offline_hard"}},
}


def _with(old: str, name: str) -> dict[str, Any]:
    """Options in which the option at the place `old` is called `name`."""
    *place, _ = old.split(".")
    value = VALUES[RENAMED_OPTIONS[old]]
    if not place:
        return {name: value}
    options = dict(BESIDE.get(old, {}))
    method = {"name": place[1]} if len(place) > 1 else {}
    return options | {place[0]: {**options.get(place[0], {}), **method, name: value}}


@pytest.mark.parametrize("old", RENAMED_OPTIONS)
def test_an_old_name_means_the_new_one_and_warns(old: str) -> None:
    new = RENAMED_OPTIONS[old]
    expected = Config.from_dict(_with(old, new))
    with pytest.warns(RenamedWarning, match=rf"{old.split('.')[-1]} is now called .*{new}\."):
        found = Config.from_dict(_with(old, old.split(".")[-1]))
    assert found == expected
    assert found != Config.from_dict(dict(BESIDE.get(old, {})) or {})


@pytest.mark.parametrize("old", RENAMED_OPTIONS)
def test_an_old_name_in_a_file_and_in_a_setting_means_the_new_one(old: str, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(yaml.safe_dump(_with(old, old.split(".")[-1])))
    with pytest.warns(RenamedWarning):
        assert read_config(path) == Config.from_dict(_with(old, RENAMED_OPTIONS[old]))
    section, *_, name = old.split(".") if "." in old else ("", old)
    if not section:
        return
    beside = {key: value for key, value in _with(old, name).items() if key != section}
    path.write_text(
        yaml.safe_dump(
            beside | {section: {k: v for k, v in _with(old, name)[section].items() if k != name}}
        )
    )
    with pytest.warns(RenamedWarning):
        found = read_config(path, [f"{section}.{name}={VALUES[RENAMED_OPTIONS[old]]}"])
    assert found == Config.from_dict(_with(old, RENAMED_OPTIONS[old]))


def test_a_setting_by_an_old_name_lies_over_a_file_with_the_new_one(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(
        "event_encoder: {hidden_size: 8}\nloss: contrastive\nminer: {k: 2}"
    )
    with pytest.warns(RenamedWarning):
        config = read_config(tmp_path / "my.yaml", ["events.layers=3", "miner.count=4"])
    assert (config.event_encoder.hidden_size, config.event_encoder.layers) == (8, 3)
    assert config.miner is not None
    assert config.miner.model_dump()["k"] == 4


@pytest.mark.parametrize("old", RENAMED_OPTIONS)
def test_the_options_of_an_earlier_model_are_read_silently(old: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = Config.from_dict(_with(old, old.split(".")[-1]), lenient=True)
    # Earlier models have no principal components.
    assert read == Config.from_dict({**_with(old, RENAMED_OPTIONS[old]), "pca_dim": None})


@pytest.mark.parametrize(("old", "new"), RENAMED_POOLINGS.items())
def test_an_old_pooling_means_the_new_one_and_warns(old: str, new: str) -> None:
    for given in (old, ["mean", old]):
        with pytest.warns(RenamedWarning, match=f"the pooling {old} is now called {new}"):
            assert Config.from_dict({"pooling": given}).pooling[-1] == new
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Config.from_dict({"pooling": old}, lenient=True).pooling == (new,)


def test_an_option_by_both_of_its_names_is_refused() -> None:
    with pytest.raises(
        ConfigError,
        match=r"training\.data and training\.storage are both given.*Leave training\.data out",
    ):
        Config.from_dict({"training": {"data": "memory", "storage": "device"}})


@pytest.mark.parametrize("old", RENAMED_OPTIONS)
def test_each_new_name_is_an_option_and_no_old_one_is(old: str) -> None:
    *place, name = old.split(".")
    known = names_at(Config, place)
    assert RENAMED_OPTIONS[old] in known
    assert name not in known or (place, name) == ([], "events")


@pytest.mark.parametrize("name", ["columns", "events", "profile", "by_category"])
def test_an_old_attribute_of_a_config_warns(name: str) -> None:
    config = Config()
    with pytest.warns(
        RenamedWarning, match=rf"config\.{name} is now called config\.{RENAMED_OPTIONS[name]}"
    ):
        assert getattr(config, name) == getattr(config, RENAMED_OPTIONS[name])
    with pytest.raises(AttributeError):
        config.nothing  # noqa: B018


PARAMETERS = [
    (kind, old, new)
    for kind in (SequenceEmbedder, SequenceClassifier)
    for old, new in RENAMED_PARAMETERS.items()
    if new in kind().get_params(deep=False)
]


@pytest.mark.parametrize(
    ("kind", "old", "new"), PARAMETERS, ids=lambda v: getattr(v, "__name__", v)
)
def test_an_old_parameter_of_an_estimator_warns_and_is_no_parameter(
    kind: type[Any], old: str, new: str
) -> None:
    with pytest.warns(RenamedWarning, match=f"{old} is now called {new}"):
        made = kind(**{old: VALUES[new]})
    with pytest.warns(RenamedWarning):
        changed = kind().set_params(**{old: VALUES[new]})
    assert made.get_params(deep=False)[new] == changed.get_params(deep=False)[new] == VALUES[new]
    assert old not in made.get_params()
    with pytest.raises(ConfigError, match="both given"):
        kind(**{old: VALUES[new], new: VALUES[new]})


def test_an_old_option_of_a_part_of_an_estimator_warns() -> None:
    with pytest.warns(RenamedWarning):
        embedder = SequenceEmbedder(
            loss="contrastive", miner={"name": "hard_negatives", "k": 2}
        ).set_params(miner__count=3, by_category__size=5)
    assert embedder.get_params()["miner__k"] == 3
    assert embedder.config().category_mean.size == 5


@pytest.mark.parametrize(
    ("name", "old"),
    [
        (o.split(".")[1], o.split(".")[2])
        for o in RENAMED_OPTIONS
        if o.startswith("miner.") and o.count(".") == 2
    ]
    + [
        ("hard_negatives", "count"),
        ("hard_negatives", "skip"),
        ("distance_weighted", "nearest"),
        ("distance_weighted", "farthest"),
        ("batch_hard", "skip"),
        ("easy_positive", "skip"),
        ("random_negatives", "count"),
        ("batch_weighted", "count"),
        ("distance_weighted", "count"),
        ("distance_weighted", "skip"),
    ],
)
def test_a_miner_takes_its_old_keywords(name: str, old: str) -> None:
    new = RENAMED_OPTIONS.get(f"miner.{name}.{old}") or RENAMED_OPTIONS[f"miner.{old}"]
    with pytest.warns(RenamedWarning, match=f"{old} is now called {new}"):
        assert getattr(MINERS[name](**{old: VALUES[new]}), new) == VALUES[new]


def test_the_command_says_each_old_name_once_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from seqmel.cli.main import main

    settings = [
        "--set",
        "training.data=memory",
        "--set",
        "pooling=total",
        "--set",
        "events.layers=1",
    ]
    words = ["seqmel", "describe", str(tmp_path / "none.parquet"), *settings, *settings]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as exit_code:
        main()
    *warned, refused = capsys.readouterr().err.splitlines()
    assert (exit_code.value.code, "No such file" in refused) == (2, True)
    assert [line.split(" is now called ")[0] for line in warned] == [
        "seqmel: warning: training.data", "seqmel: warning: events.layers", ("seqmel: warning: "
"the pooling total"),
    ]  # fmt: skip
