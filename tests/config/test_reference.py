"""The list of options is that of the models, with the defaults that a config has."""

from __future__ import annotations

import pytest
import yaml
from typer.testing import CliRunner

from seqmel.cli.main import app
from seqmel.config import Config
from seqmel.config.reference import options
from seqmel.core.errors import ConfigError


def test_every_section_and_option_is_listed_with_its_default() -> None:
    found = {(option.path, option.method): option.default for option in options()}
    config = Config()
    for name, value in config.training.model_dump(mode="json").items():
        assert yaml.safe_load(found[f"training.{name}", None]) == value, name
    assert found["seed", None] == "0"
    assert found["loss.temperature", "infonce"] == str(config.loss.model_dump()["temperature"])
    assert {path.split(".")[0] for path, _ in found} == set(Config.model_fields)


def test_the_command_prints_one_section_and_refuses_one_that_is_not_there() -> None:
    result = CliRunner().invoke(app, ["config", "training"])
    assert result.exit_code == 0
    assert "training.epochs: null" in result.output
    assert "loss." not in result.output
    with pytest.raises(ConfigError, match="Did you mean 'training'"):
        CliRunner().invoke(app, ["config", "trainin"], catch_exceptions=False)
