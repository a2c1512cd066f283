"""A trained model and its folder.

The folder holds data and no code: JSON and safetensors only. Nothing is ever unpickled.

config.json          format, seqmel's version, all options, checksums of all files, itself included
schema.json          the role of each column of the events
vocabulary.json      category codes and numeric scales
model.safetensors    encoder weights
targets.json         prediction targets of a fine-tuned model
heads.safetensors    weights of its heads
facts.json           the facts about clients that its heads take, if any
metrics.json         one row per epoch, and facts about the training data
statistics.json      distribution of each column in training (format 2)
curves.png           plot of the rows of metrics.json
README.md            the model card

Format 1 has no statistics and no checksum of config.json itself; it is read without them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast, get_args

from pydantic import ValidationError

from seqmel.config import Config
from seqmel.config.registry import options_of
from seqmel.core.atomic_files import HEADS_FILES, REQUIRED_MODEL_FILES
from seqmel.core.checksums import digest, digest_of_json, parse_json, read_files
from seqmel.core.device import with_own_defaults
from seqmel.core.errors import ConfigError, ModelError, shell_words, shown
from seqmel.data.fitting.statistics import Statistics
from seqmel.data.schema import EventSchema
from seqmel.data.tables.facts import Facts
from seqmel.data.tables.targets import Target, Targets
from seqmel.data.vocabulary import Vocabulary

if TYPE_CHECKING:
    from torch import nn

    from seqmel.nn.encoder import SequenceEncoder
    from seqmel.nn.heads import Heads
    from seqmel.nn.joint_heads import JointHeads

__all__ = [
    "FORMAT",
    "AnyModel",
    "Model",
    "TrainedModel",
    "as_model",
    "load_model",
    "read_description",
    "read_metrics",
    "save_model",
]

FORMAT = 3
"""Format 3 may hold options that earlier versions do not know; its files are those of format 2."""

_STATISTICS = "statistics.json"
_FACTS = "facts.json"
_CONFIG = "config.json"


@dataclass(frozen=True)
class TrainedModel:
    """All that embedding and prediction need; the contents of a model folder.

    `seqmel.Model` adds the methods of users.

    Attributes:
        config: all options of the training, with "auto" values resolved.
        schema: the role of each column of the events.
        vocabulary: category codes and numeric scales, fitted in training.
        encoder: the network, in evaluation mode on the CPU.
        metrics: the contents of `metrics.json`.
        heads: prediction heads of a fine-tuned model, in evaluation mode on the CPU; else None.
        targets: targets of a fine-tuned model, in the order of the outputs of `heads`.
        statistics: distribution of the training events; None in a model of format 1.
        facts: the facts about clients that the heads take beside the vector; None without.
    """

    config: Config
    schema: EventSchema
    vocabulary: Vocabulary
    encoder: SequenceEncoder
    metrics: dict[str, Any]
    heads: Heads | JointHeads | None = None
    targets: tuple[Target, ...] = ()
    statistics: Statistics | None = None
    facts: Facts | None = None

    def fingerprint(self) -> str:
        """Digest of vocabulary and weights, as 16 hexadecimal digits.

        State files and caches store it, so that they are used with this model only.
        """
        digest = hashlib.sha256(self.vocabulary.fingerprint().encode())
        for name, weights in sorted(self.encoder.state_dict().items()):
            digest.update(name.encode() + weights.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


Model = TrainedModel
"""The former name, by which earlier pickles refer to the class."""

AnyModel: TypeAlias = TrainedModel | str | os.PathLike[str]
"""A model, or the path of its folder."""


def as_model(model: AnyModel) -> TrainedModel:
    """Return a model unchanged, or load it from its folder.

    Args:
        model: a `Model` or the path of a model folder.

    Returns:
        The model.

    Raises:
        ModelError: the folder holds no valid model.
        ConfigError: `model` is neither a `Model` nor a path.
    """
    if not isinstance(model, TrainedModel) and isinstance(model, (str, os.PathLike)):
        return load_model(model)
    if not isinstance(model, TrainedModel):
        raise ConfigError(
            f"model is a {type(model).__name__}. Expected a model folder or a Model, such as "
            "load_model gives and a fitted estimator has as model_."
        )
    return model


def save_model(folder: Path, model: TrainedModel, *, card: str, curves: bytes | None) -> None:
    """Write a model folder. `config.json` is written last, because it lists all other files.

    Args:
        folder: the folder to write; created if it does not exist.
        model: the model.
        card: text of the model card, Markdown.
        curves: the training curves as a PNG file; None writes none.
    """
    from seqmel.core.version import __version__

    files = {
        "schema.json": model.schema.model_dump_json(indent=1).encode(),
        "vocabulary.json": model.vocabulary.model_dump_json(indent=1).encode(),
        "metrics.json": json.dumps(model.metrics, indent=1).encode(),
        "README.md": card.encode(),
        "model.safetensors": _weights(model.encoder),
    }
    if model.heads is not None:
        files["targets.json"] = Targets(targets=model.targets).model_dump_json(indent=1).encode()
        files["heads.safetensors"] = _weights(model.heads)
    if model.statistics is not None:
        files[_STATISTICS] = model.statistics.model_dump_json(indent=1).encode()
    if model.facts is not None:
        files[_FACTS] = model.facts.model_dump_json(indent=1).encode()
    described: dict[str, Any] = {
        "format": FORMAT,
        "seqmel": __version__,
        "config": model.config.to_dict(),
        "sha256": {name: digest(content) for name, content in files.items()},
    }
    described["sha256"][_CONFIG] = _own_digest(described)
    if curves is not None:
        files["curves.png"] = curves
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / _CONFIG).write_text(json.dumps(described, indent=1), encoding="utf-8")


def _own_digest(described: Mapping[str, Any]) -> str:
    """Checksum of `config.json` over its contents without this checksum."""
    others = {name: value for name, value in described["sha256"].items() if name != _CONFIG}
    return digest_of_json({**described, "sha256": others})


def _weights(module: nn.Module) -> bytes:
    from safetensors.torch import save

    return bytes(save({name: tensor.contiguous() for name, tensor in module.state_dict().items()}))


@with_own_defaults
def load_model(path: str | os.PathLike[str]) -> TrainedModel:
    """Load a model folder.

    Args:
        path: the folder.

    Returns:
        The model, on the CPU and in evaluation mode.

    Raises:
        ModelError: the folder holds no model or has a newer format, or a file is missing, changed
            or a link to elsewhere.
    """
    folder = Path(path)
    described = read_description(folder)
    sums = described["sha256"]
    finetuned = any(name in sums for name in HEADS_FILES)
    names = (
        *REQUIRED_MODEL_FILES,
        *(HEADS_FILES if finetuned else ()),
        *(name for name in (_STATISTICS, _FACTS) if name in sums),
    )
    files = read_files(folder, names)
    changed = [name for name, content in files.items() if digest(content) != sums.get(name)]
    if changed:
        raise _damaged(folder, changed)
    _check_parts(folder, described["config"])
    try:
        config = Config.from_dict(described["config"], source=str(folder / _CONFIG), lenient=True)
        schema = EventSchema.model_validate_json(files["schema.json"])
        vocabulary = Vocabulary.model_validate_json(files["vocabulary.json"])
        vocabulary.check_fits(schema)
        metrics = parse_json(files["metrics.json"])
        if not isinstance(metrics, dict):
            raise ValueError("metrics.json holds no metrics")
        targets = Targets.model_validate_json(files["targets.json"]).targets if finetuned else ()
        statistics = (
            Statistics.model_validate_json(files[_STATISTICS]) if _STATISTICS in files else None
        )
        if statistics is not None:
            statistics.check_fits(vocabulary)
        facts = Facts.model_validate_json(files[_FACTS]) if _FACTS in files else None
    except (ConfigError, ValidationError, ValueError) as error:
        raise ModelError(f"The model folder {folder} cannot be used: {_line(error)}") from None
    encoder = _load_encoder(folder, files, config, vocabulary)
    heads = _load_heads(folder, files, encoder, targets, facts) if finetuned else None
    return TrainedModel(
        config, schema, vocabulary, encoder, metrics, heads, targets, statistics, facts
    )


def _check_parts(folder: Path, options: Mapping[str, Any]) -> None:
    """Raise a `ModelError` for an unregistered part, with advice.

    A model folder never names code to import, so the user has to import the file of the part.
    """
    for section in ("encoder", "loss", "miner", "objective", "views"):
        known = {
            name
            for kind in options_of(Config, section)
            for name in get_args(kind.model_fields["name"].annotation)
        }
        given = options.get(section)
        for part in given if isinstance(given, list) else [given]:
            name = part.get("name") if isinstance(part, Mapping) else None
            if isinstance(name, str) and name not in known:
                raise ModelError(
                    f"The model in {folder} has the {section} {name!r}, which seqmel does not "
                    "have. If it is a part of your own, import the file that registers it first "
                    "(on the command line: seqmel --import FILE.py ...); else update seqmel."
                )


def _line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False, include_url=False)[0]
        return f"{error.title} {'.'.join(map(str, first['loc']))}: {first['msg']}".replace(
            "\n", " "
        )
    return (str(error).splitlines() or [type(error).__name__])[0]


def _damaged(folder: Path, names: list[str]) -> ModelError:
    return ModelError(
        f"The model folder {folder} is damaged: {', '.join(names)} differ from what was saved. "
        f"Copy it again, or train."
    )


def _load_encoder(
    folder: Path, files: Mapping[str, bytes], config: Config, vocabulary: Vocabulary
) -> SequenceEncoder:
    from seqmel.nn.encoder import SequenceEncoder

    def build() -> nn.Module:
        return SequenceEncoder(config, vocabulary)

    return cast(
        SequenceEncoder,
        _built(folder, files["model.safetensors"], build, "the model's config and vocabulary"),
    )


def _load_heads(
    folder: Path,
    files: Mapping[str, bytes],
    encoder: SequenceEncoder,
    targets: tuple[Target, ...],
    facts: Facts | None,
) -> Heads | JointHeads:
    from seqmel.nn.joint_heads import new_heads

    def build() -> nn.Module:
        return new_heads(encoder.output_size, [target.size for target in targets], facts)

    made = _built(folder, files["heads.safetensors"], build, "the model's encoder and targets")
    return cast("Heads | JointHeads", made)


def _built(folder: Path, weights: bytes, build: Callable[[], nn.Module], what: str) -> nn.Module:
    """Build a module and load its weights.

    The shapes are checked on the meta device first: a damaged or hostile config may ask for more
    memory than there is.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        given = load(weights)
        with torch.device("meta"):
            wanted = {name: tensor.shape for name, tensor in build().state_dict().items()}
        odd = sorted(
            name for name in wanted.keys() | given.keys() if _shape(given, name) != wanted.get(name)
        )
        if odd:
            raise ValueError(f"{shown(odd, 3)}: other shapes, or only on one side")
        module = build()
        module.load_state_dict(given)
    except (
        SafetensorError,
        RuntimeError,
        ValueError,
        OverflowError,
        KeyError,
        TypeError,
        MemoryError,
    ) as error:
        raise ModelError(f"The weights in {folder} do not fit {what} ({_line(error)}).") from None
    if any(tensor.is_floating_point() and bool(tensor.isnan().any()) for tensor in given.values()):
        raise ModelError(f"The weights in {folder} are not numbers (NaN). Train again.")
    return module.eval()


def _shape(given: Mapping[str, Any], name: str) -> Any:
    return given[name].shape if name in given else None


def read_metrics(folder: Path) -> dict[str, Any]:
    """Read the metrics of a model folder without loading the model.

    Args:
        folder: the model folder.

    Raises:
        ModelError: they are missing or damaged.
    """
    sums = read_description(folder)["sha256"]
    content = read_files(folder, ["metrics.json"])["metrics.json"]
    if digest(content) != sums.get("metrics.json"):
        raise _damaged(folder, ["metrics.json"])
    return dict(parse_json(content))


def read_description(folder: Path) -> dict[str, Any]:
    """Read `config.json` of a model folder: its format, version, options and checksums.

    Args:
        folder: the model folder.

    Raises:
        ModelError: the folder holds no model or has a newer format, or the file was changed.
    """
    path = folder / _CONFIG
    if folder.is_file():
        raise ModelError(
            f"No model folder at {folder}: it is a file. Train one: seqmel train EVENTS -o MODEL"
        )
    if not folder.is_dir():
        raise ModelError(
            f"No model folder at {folder}. Train one: seqmel train EVENTS -o {shell_words(folder)}"
        )
    if not path.is_file():
        raise ModelError(
            f"{folder} is not a model folder: config.json is missing. Train one: seqmel train "
            f"EVENTS -o MODEL"
        )
    content = read_files(folder, [_CONFIG])[_CONFIG]
    try:
        described = parse_json(content)
        version = described["format"]
        if type(version) is not int or version < 1:
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise _not_ours(path) from None
    if version > FORMAT:
        raise ModelError(
            f"{folder} has model format {version}, written by seqmel {described.get('seqmel')}; "
            f"this version reads up to {FORMAT}. Update seqmel."
        )
    sums = described.get("sha256")
    if not isinstance(described.get("config"), dict) or not isinstance(sums, dict):
        raise _not_ours(path)
    try:
        right = sums.get(_CONFIG) == _own_digest(described) or (
            version == 1 and _CONFIG not in sums
        )
    except (RecursionError, ValueError):
        raise _not_ours(path) from None
    if not right:
        raise _damaged(folder, [_CONFIG])
    return dict(described)


def _not_ours(path: Path) -> ModelError:
    return ModelError(f"{path} is not what seqmel wrote. Copy the model folder again, or train.")
