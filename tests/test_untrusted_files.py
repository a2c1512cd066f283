"""Foreign files are data: nothing in them is executed, no path leaves their folder."""

from __future__ import annotations

import ast
import contextlib
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from small import card_events, resealed, tiny_config

import seqmel
from seqmel.config import read_config
from seqmel.core.errors import ConfigError, InputError, ModelError, OutputError, SeqmelError
from seqmel.data.sequences.prepared import open_prepared
from seqmel.experiment.plan import read_plan
from seqmel.model import load_model
from seqmel.training.run import prepare, train

MODEL_FILES = [
    "config.json",
    "schema.json",
    "vocabulary.json",
    "model.safetensors",
    "metrics.json",
    "statistics.json",
    "README.md",
]
PREPARED_FILES = ["prepared.json", "schema.json", "vocabulary.json", "sequences.arrow"]
EVENTS = card_events(12)


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What an executed bomb leaves behind."""
    return tmp_path / "executed"


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared sequences; nobody writes to them."""
    path = tmp_path_factory.mktemp("prepared") / "sequences"
    prepare(EVENTS, path, config=tiny_config())
    return path


def test_the_bomb_of_these_tests_goes_off_where_it_is_unpickled(mark: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists()


@pytest.mark.parametrize("written_by", ["pickle", "torch"])
@pytest.mark.parametrize("checksums", ["old", "right"])
@pytest.mark.parametrize("name", MODEL_FILES)
def test_a_pickle_in_a_model_folder_is_refused_unexecuted(
    name: str, checksums: str, written_by: str, folder: Path, mark: Path
) -> None:
    with (folder / name).open("wb") as file:
        (pickle.dump if written_by == "pickle" else torch.save)(Bomb(mark), file)
    if checksums == "right" and name not in ("config.json", "README.md"):
        resealed(folder)
    with pytest.raises(ModelError):
        load_model(folder)
    assert not mark.exists()


@pytest.mark.parametrize("name", PREPARED_FILES)
def test_a_pickle_among_prepared_sequences_is_refused_unexecuted(
    name: str, prepared: Path, tmp_path: Path, mark: Path
) -> None:
    copy = Path(shutil.copytree(prepared, tmp_path / "copy"))
    (copy / name).write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(InputError, match="is not a complete folder of prepared sequences"):
        open_prepared(copy)
    assert not mark.exists()


class StoppedError(Exception):
    pass


def unfinished(output: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that ended just before its model was written."""

    def stop(*_: object) -> None:
        raise StoppedError

    with monkeypatch.context() as patched, contextlib.suppress(StoppedError):
        patched.setattr("seqmel.training.run.write_model", stop)
        train(EVENTS, output, config=tiny_config())
    return output.with_name(output.name + ".partial")


@pytest.mark.parametrize("written_by", ["pickle", "torch", "half"])
def test_a_checkpoint_that_is_no_plain_data_is_refused_unexecuted(
    written_by: str, tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = unfinished(tmp_path / "model", monkeypatch) / "checkpoints" / "last.ckpt"
    if written_by == "half":
        last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    else:
        with last.open("wb") as file:
            (pickle.dump if written_by == "pickle" else torch.save)(Bomb(mark), file)
    with pytest.raises(ModelError, match=r"last\.ckpt cannot be read .*--overwrite") as refused:
        train(EVENTS, tmp_path / "model", config=tiny_config(), resume=True)
    assert "\n" not in str(refused.value)
    assert not mark.exists()


def test_damaged_options_of_an_unfinished_run_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (unfinished(tmp_path / "model", monkeypatch) / "options.json").write_text('{"seed"')
    with pytest.raises(
        OutputError, match=r"options\.json of an unfinished run is damaged.*--overwrite"
    ):
        train(EVENTS, tmp_path / "model", config=tiny_config(), resume=True)


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:pathlib.Path.touch", "!!python/object/new:os.system"]
)
def test_yaml_that_names_python_objects_is_refused_unexecuted(
    tag: str, tmp_path: Path, mark: Path
) -> None:
    path = tmp_path / "options.yaml"
    path.write_text(f"seed: {tag} ['{mark}']\n")
    for read in (read_config, read_plan):
        with pytest.raises(ConfigError, match="is not a readable YAML file"):
            read(path)
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_config(None, [f"seed={tag} ['{mark}']"])
    assert not mark.exists()


def test_yaml_that_grows_without_end_is_refused_in_a_short_line(tmp_path: Path) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{b}: &{b} [{', '.join(['*' + a] * 9)}]"
        for a, b in zip("abcdefghijkl", "bcdefghijklm", strict=True)
    ]
    path = tmp_path / "options.yaml"
    for option in ("seed", "device", "encoder", "training", "pooling"):
        path.write_text("\n".join([*lines, f"{option}: *m"]))
        with pytest.raises(ConfigError) as refused:
            read_config(path)
        assert len(str(refused.value)) < 2_000


# --------------------------------------------------------------------------------------------------
# paths


@pytest.mark.parametrize("name", MODEL_FILES)
def test_a_link_in_a_model_folder_is_refused(name: str, folder: Path, tmp_path: Path) -> None:
    shutil.move(folder / name, tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=rf"is refused: {name} is a symbolic link"):
        load_model(folder)


def test_a_link_to_a_model_folder_is_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(folder)
    load_model(tmp_path / "latest")


def test_a_file_that_the_checksums_name_is_read_from_nowhere_else(
    folder: Path, tmp_path: Path
) -> None:
    config = (folder / "config.json").read_text()
    (tmp_path / "schema.json").write_bytes((folder / "schema.json").read_bytes())
    (folder / "config.json").write_text(config.replace('"schema.json"', '"../schema.json"'))
    with pytest.raises(ModelError, match="is damaged"):
        load_model(folder)
    resealed(folder)
    with pytest.raises(ModelError, match=r"is damaged: schema\.json differ"):
        load_model(folder)


# ---------------------------------------------------------------------------------------- prepared
# sequences


@pytest.mark.parametrize("bytes_left", [0, 7, 100, 0.5, -400, -9, -1])
def test_prepared_sequences_that_are_cut_off_are_refused(
    bytes_left: float, prepared: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(prepared, tmp_path / "copy")) / "sequences.arrow"
    content = path.read_bytes()
    path.write_bytes(
        content[: int(bytes_left * len(content)) if isinstance(bytes_left, float) else bytes_left]
    )
    with pytest.raises(
        InputError, match="is not a complete folder of prepared sequences"
    ) as refused:
        open_prepared(tmp_path / "copy")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("part", ["head", "foot"])
def test_prepared_sequences_with_a_head_or_foot_of_nonsense_are_refused(
    part: str, prepared: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(prepared, tmp_path / "copy")) / "sequences.arrow"
    content = bytearray(path.read_bytes())
    content[slice(0, 64) if part == "head" else slice(-300, None)] = b"\xa5" * (
        64 if part == "head" else 300
    )
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a complete folder of prepared sequences"):
        open_prepared(tmp_path / "copy")


def test_sequences_of_another_preparation_are_refused(prepared: Path, tmp_path: Path) -> None:
    other = prepare(card_events(9), tmp_path / "other", config=tiny_config())
    assert len(other.sequences) == 9
    copy = Path(shutil.copytree(prepared, tmp_path / "copy"))
    shutil.copy(tmp_path / "other" / "sequences.arrow", copy)
    with pytest.raises(
        InputError, match=r"sequences\.arrow is not the one that was written with the other files"
    ):
        open_prepared(copy)


# ------------------------------------------------------------------------------------------------
# the source

FORBIDDEN = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "marshal.loads",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "yaml.load_all",
    "pd.read_pickle",
    "joblib.load",
    "shelve.open",
    "dill.load",
    "dill.loads",
}


def calls(source: str) -> list[tuple[str, dict[str, str]]]:
    """(dotted name, its named arguments as text) of each call."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [
        (ast.unparse(n.func), {k.arg or "**": ast.unparse(k.value) for k in n.keywords})
        for n in nodes
    ]


def unsafe(source: str) -> list[str]:
    """The calls that could execute what a file says."""
    return [
        name
        for name, named in calls(source)
        if name in FORBIDDEN
        or (name == "torch.load" and named.get("weights_only") != "True")
        or (name.endswith("trainer.fit") and named.get("weights_only") != "True")
        or (name == "np.load" and named.get("allow_pickle", "False") != "False")
    ]


def test_nothing_in_the_package_executes_what_a_file_says() -> None:
    files = list(Path(seqmel.__file__).parent.rglob("*.py"))
    assert len(files) > 100
    assert {
        path.name: unsafe(path.read_text(encoding="utf-8"))
        for path in files
        if unsafe(path.read_text("utf-8"))
    } == {}


def test_the_search_for_unsafe_calls_finds_them() -> None:
    source = (
        "import torch, yaml\ntorch.load(p)\ntorch.load(p, "
        "weights_only=False)\nyaml.load(t)\neval('1')\nmodel.eval()"
    )
    assert sorted(unsafe(source)) == ["eval", "torch.load", "torch.load", "yaml.load"]


def test_every_refusal_here_is_one_that_a_command_prints() -> None:
    assert all(
        issubclass(error, SeqmelError)
        for error in (ConfigError, InputError, ModelError, OutputError)
    )
