"""A model folder is whole and unchanged, or it is refused; it holds data only."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from inspect import isfunction, signature
from pathlib import Path

import pytest
import torch
from small import card_events, resealed

import seqmel
from seqmel.core.errors import ConfigError, ModelError
from seqmel.model import FORMAT, load_model, save_model

FILES = [
    "config.json",
    "schema.json",
    "vocabulary.json",
    "model.safetensors",
    "metrics.json",
    "README.md",
    "statistics.json",
]


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def refused(folder: Path, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def edited(folder: Path, change: Callable[[dict], object], name: str = "config.json") -> None:  # type: ignore[type-arg]
    """Change a file of JSON on purpose, its checksums with it."""
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))
    resealed(folder)


def test_a_model_that_is_saved_again_is_the_same(model_folder: Path, tmp_path: Path) -> None:
    model = load_model(model_folder)
    save_model(tmp_path / "again", model, card="card", curves=None)
    again = load_model(tmp_path / "again")
    assert (again.config, again.schema, again.vocabulary, again.metrics) == (
        model.config, model.schema, model.vocabulary, model.metrics,
    )  # fmt: skip
    one, other = model.encoder.state_dict(), again.encoder.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not again.encoder.training


def test_a_folder_without_its_picture_is_still_a_model(folder: Path) -> None:
    (folder / "curves.png").unlink()
    load_model(folder)


@pytest.mark.parametrize("name", FILES[1:])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    refused(folder, f"is incomplete: {name} missing")


@pytest.mark.parametrize("name", FILES[1:])
def test_a_changed_file_is_named(folder: Path, name: str) -> None:
    with (folder / name).open("ab") as file:
        file.write(b" ")
    refused(folder, f"is damaged: {name} differ")


def test_what_is_no_model_folder_is_said(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "No model folder at")
    (tmp_path / "file").touch()
    refused(tmp_path / "file", "No model folder at")
    refused(tmp_path, r"is not a model folder: config\.json is missing")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"format": "new"}',
        '{"format": 1, "config": 1, "sha256": {}}',
        '{"format": true}',
        "[" * 100_000,
    ],
    ids=range(8),
)
def test_a_config_that_seqmel_did_not_write_is_said(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    refused(folder, r"config\.json is not what seqmel wrote")


def test_a_newer_format_is_refused_with_the_version_that_wrote_it(folder: Path) -> None:
    edited(folder, lambda c: c.update(format=FORMAT + 1, seqmel="9.9"))
    refused(folder, rf"has model format {FORMAT + 1}, written by seqmel 9\.9.*Update seqmel")


def test_an_option_that_does_not_exist_is_refused(folder: Path) -> None:
    edited(folder, lambda c: c["config"].update(colour="blue"))
    refused(folder, "cannot be used: .*unknown option 'colour'")


def test_weights_that_do_not_fit_the_config_are_refused(folder: Path) -> None:
    edited(folder, lambda c: c["config"]["encoder"].update(hidden_size=24))
    refused(folder, "do not fit the model's config")


def test_a_folder_holds_data_only(model_folder: Path) -> None:
    assert {file.suffix for file in model_folder.iterdir()} == {
        ".json",
        ".safetensors",
        ".md",
        ".png",
    }


OF_MODELS = sorted(
    name
    for name in seqmel.__all__
    if isfunction(f := getattr(seqmel, name)) and "model" in signature(f).parameters
)


def called(name: str, model: object) -> None:
    """A function of a model, with some other arguments; of an iterator the first step."""
    function = getattr(seqmel, name)
    parameters = [p for p in signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
    needed = {p.name: "." for p in parameters if p.default is p.empty or p.name == "target"}
    found = function(**needed | {"model": model})
    if isinstance(found, Iterator):
        next(found)


@pytest.mark.parametrize("name", OF_MODELS)
def test_a_path_stands_for_its_model_in_every_function(name: str, tmp_path: Path) -> None:
    for path in (tmp_path / "none", str(tmp_path / "none")):
        with pytest.raises(ModelError, match=r"No model folder at .*none"):
            called(name, path)


@pytest.mark.parametrize("name", OF_MODELS)
def test_what_is_no_model_is_refused_in_every_function(name: str) -> None:
    with pytest.raises(
        ConfigError,
        match=r"model is a int. Expected a model folder or a Model, such as load_model gives",
    ):
        called(name, 7)


def test_the_folder_gives_the_vectors_of_its_model(model_folder: Path) -> None:
    ((_, by_path),) = seqmel.embed(model_folder, card_events())
    ((_, by_model),) = seqmel.embed(load_model(model_folder), card_events())
    assert torch.equal(by_path, by_model)
