"""A trained model and its folder: data, not code. JSON and safetensors only; nothing is ever unpickled.

config.json          format, seqmel's version, all options, a checksum of each other file
schema.json          which column of the events is what
vocabulary.json      category codes and numeric scales
model.safetensors    the weights of the encoder
metrics.json         one row an epoch, and what the model was trained on
curves.png           the same as a picture
README.md            the model card
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from seqmel.config import Config
from seqmel.data.vocabulary import Vocabulary
from seqmel.errors import ConfigError, ModelError
from seqmel.schema import EventSchema

if TYPE_CHECKING:
    from seqmel.data.prepared import PreparedSequences
    from seqmel.nn.encoder import SequenceEncoder

__all__ = ["FORMAT", "Model", "check_vocabulary", "load_model", "save_model"]

FORMAT = 1
_FILES = ("schema.json", "vocabulary.json", "model.safetensors", "metrics.json", "README.md")


@dataclass(frozen=True)
class Model:
    """Everything that embedding needs.

    Attributes:
        config: all options it was trained with, settled.
        schema: which column is what.
        vocabulary: as fitted in training.
        encoder: in evaluation mode, on the CPU.
        metrics: what `metrics.json` holds.
    """

    config: Config
    schema: EventSchema
    vocabulary: Vocabulary
    encoder: SequenceEncoder
    metrics: dict[str, Any]


def save_model(folder: Path, model: Model, *, card: str, curves: bytes | None) -> None:
    """Write a model folder; `config.json`, which names all others, comes last."""
    from safetensors.torch import save

    from seqmel import __version__

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "schema.json").write_text(model.schema.model_dump_json(indent=1), encoding="utf-8")
    (folder / "vocabulary.json").write_text(model.vocabulary.model_dump_json(indent=1), encoding="utf-8")
    (folder / "metrics.json").write_text(json.dumps(model.metrics, indent=1), encoding="utf-8")
    (folder / "README.md").write_text(card, encoding="utf-8")
    weights = {name: tensor.contiguous() for name, tensor in model.encoder.state_dict().items()}
    (folder / "model.safetensors").write_bytes(save(weights))  # as bytes: its own file is closed to other users
    if curves is not None:
        (folder / "curves.png").write_bytes(curves)
    described = {
        "format": FORMAT,
        "seqmel": __version__,
        "config": model.config.to_dict(),
        "sha256": {name: _digest(folder / name) for name in _FILES},
    }
    (folder / "config.json").write_text(json.dumps(described, indent=1), encoding="utf-8")


def load_model(path: str | Path) -> Model:
    """Load a model folder.

    Raises:
        ModelError: no model there, a file missing or changed, or a newer format.
    """
    folder = Path(path)
    described = _read_config(folder)
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise ModelError(
            f"The model folder {folder} is incomplete: {', '.join(missing)} missing. Copy it again, or train."
        )
    changed = [name for name in _FILES if _digest(folder / name) != described["sha256"].get(name)]
    if changed:
        raise ModelError(
            f"The model folder {folder} is damaged: {', '.join(changed)} differ from what was saved. Copy it again, or train."
        )
    try:
        config = Config.of(described["config"], source=str(folder / "config.json"))
        schema = EventSchema.model_validate_json((folder / "schema.json").read_text(encoding="utf-8"))
        vocabulary = Vocabulary.model_validate_json((folder / "vocabulary.json").read_text(encoding="utf-8"))
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except (ConfigError, ValidationError, ValueError) as error:
        raise ModelError(f"The model folder {folder} cannot be used: {str(error).splitlines()[0]}") from None
    return Model(config, schema, vocabulary, _load_encoder(folder, config, vocabulary), metrics)


def check_vocabulary(name: Any, prepared: PreparedSequences, model: Model) -> None:
    """Raise a `ModelError` where sequences were prepared with another vocabulary than the model's."""
    if prepared.vocabulary.fingerprint() != model.vocabulary.fingerprint():
        raise ModelError(
            f"The sequences in {name} were prepared with another vocabulary than the model's."
            " Prepare them for it: seqmel prepare EVENTS -o SEQUENCES --model MODEL"
        )


def _load_encoder(folder: Path, config: Config, vocabulary: Vocabulary) -> SequenceEncoder:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from seqmel.nn.encoder import SequenceEncoder

    encoder = SequenceEncoder(config, vocabulary)
    try:
        encoder.load_state_dict(load_file(str(folder / "model.safetensors")))
    except (SafetensorError, RuntimeError, OSError) as error:
        line = str(error).splitlines()[0]
        raise ModelError(f"The weights in {folder} do not fit the model's config and vocabulary ({line}).") from None
    return encoder.eval()


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not folder.is_dir():
        raise ModelError(f"No model folder at {folder}. Train one: seqmel train EVENTS -o {folder}")
    if not path.is_file():
        raise ModelError(
            f"{folder} is no model folder: config.json is missing. Train one: seqmel train EVENTS -o MODEL"
        )
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        version = int(described["format"])
        if not isinstance(described["config"], dict) or not isinstance(described["sha256"], dict):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelError(f"{path} is not what seqmel wrote. Copy the model folder again, or train.") from None
    if version > FORMAT:
        raise ModelError(
            f"{folder} has model format {version}, written by seqmel {described.get('seqmel')}; this version reads up to"
            f" {FORMAT}. Update seqmel."
        )
    return dict(described)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
