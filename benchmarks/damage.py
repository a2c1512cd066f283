"""Damage to model folders and config files, drawn from a seed, and what became of each.

`tests/test_fuzz.py` tries some hundred, `python benchmarks/reliability.py --fuzz 2000` as many as
asked for.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

from seqmel import Config, Model, SeqmelError, embed, load_model, read_config
from seqmel.core.checksums import digest, digest_of_json

FILES = (
    "config.json",
    "schema.json",
    "vocabulary.json",
    "metrics.json",
    "statistics.json",
    "model.safetensors",
)
_DEEP, _LONG = "@deep@", "@long@"  # what json.dumps cannot write
VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    7,
    2**31,
    2**63,
    -(2**63) - 1,
    10**30,
    10**400,
    0.5,
    -0.0,
    1e308,
    -1e308,
    5e-324,
    math.nan,
    math.inf,
    -math.inf,
    "",
    "x",
    "1",
    "gru",
    "\0",
    "\u202e💥",
    "../../etc/passwd",
    [],
    {},
    [None],
    {"name": "x"},
    [[[[1]]]],
    {"a": {"b": {}}},
    ["a"] * 1_000,
    _DEEP,
    _LONG,
)


def damaged_bytes(content: bytes, chance: random.Random) -> bytes:
    """Some bits flipped, a part cut off, left out, doubled or overwritten."""
    data = bytearray(content)
    at = chance.randrange(len(data))
    size = chance.choice([1, 2, 8, 64, 1000])
    match chance.choice(["flip", "flip", "cut", "leave out", "double", "overwrite", "empty"]):
        case "flip":
            for _ in range(chance.choice([1, 1, 2, 30])):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        case "cut":
            del data[at:]
        case "leave out":
            del data[at : at + size]
        case "double":
            data[at:at] = data[at : at + size]
        case "overwrite":
            data[at : at + size] = chance.randbytes(len(data[at : at + size]))
        case _:
            data = bytearray()
    return bytes(data)


def damaged_values(content: Any, chance: random.Random) -> Any:
    """A key or an item left out, renamed, or with another value, somewhere in JSON values."""
    places = list(_places(content))
    if not places:
        return chance.choice(VALUES)
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        part, key = chance.choice(places)
        if (isinstance(part, list) and key >= len(part)) or (
            isinstance(part, dict) and key not in part
        ):
            continue
        match chance.choice(["value", "value", "value", "leave out", "rename", "double"]):
            case "value":
                part[key] = chance.choice(VALUES)
            case "leave out":
                del part[key]
            case "rename" if isinstance(part, dict):
                part[chance.choice(["", "x", "name", "\0", key + key])] = part.pop(key)
            case _:
                part[key] = [part[key], part[key]]
    return content


def _places(content: Any) -> list[tuple[Any, Any]]:
    keys = (
        list(content)
        if isinstance(content, dict)
        else range(len(content))
        if isinstance(content, list)
        else []
    )
    return [(content, key) for key in keys] + [
        place for key in keys for place in _places(content[key])
    ]


def as_json(content: Any) -> bytes:
    """As `json.dumps`, and with what it cannot write."""
    text = json.dumps(content)
    return (
        text.replace(f'"{_DEEP}"', "[" * 50_000 + "]" * 50_000)
        .replace(f'"{_LONG}"', "9" * 6_000)
        .encode()
    )


def damage_folder(folder: Path, chance: random.Random) -> bool:
    """Damage a file of a model folder; return True if the checksums were corrected as well."""
    name = chance.choice(FILES)
    path = folder / name
    if chance.random() < 0.03:
        path.unlink()
        return False
    if name.endswith(".json") and chance.random() < 0.6:
        path.write_bytes(as_json(damaged_values(json.loads(path.read_text()), chance)))
    else:
        path.write_bytes(damaged_bytes(path.read_bytes(), chance))
    return chance.random() < 0.6 and _reseal(folder)


def _reseal(folder: Path) -> bool:
    try:
        described = json.loads((folder / "config.json").read_text())
        sums = {
            name: digest((folder / name).read_bytes())
            for name in described["sha256"]
            if name != "config.json"
        }
        described["sha256"] = sums
        described["sha256"] = {**sums, "config.json": digest_of_json(described)}
        (folder / "config.json").write_text(json.dumps(described))
    except (ValueError, KeyError, TypeError, OSError, RecursionError):
        return False
    return True


def try_folder(
    source: Path, scratch: Path, whole: Model, events: Any, chance: random.Random
) -> str:
    """Damage a copy and load it: refused, equal, or a valid model with finite vectors.

    Anything else is raised: an exception that is no `SeqmelError`, or an `AssertionError`.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(source, scratch)
    resealed = damage_folder(scratch, chance)
    try:
        model = load_model(scratch)
        if not resealed:
            same = (
                model.config,
                model.schema,
                model.vocabulary,
                model.metrics,
                model.statistics,
            ) == (
                whole.config,
                whole.schema,
                whole.vocabulary,
                whole.metrics,
                whole.statistics,
            )
            if not same or model.fingerprint() != whole.fingerprint():
                raise AssertionError("a damaged model is loaded as another one")
            return "equal"
        for _, vectors in embed(model, events, device="cpu"):
            assert bool(torch.isfinite(vectors).all()), "vectors that are not finite"
    except SeqmelError as error:
        return refused(error)
    return "another model"


def refused(error: SeqmelError) -> str:
    """That it was refused, where it was done in one line."""
    if "\n" in str(error) or len(str(error)) > 5_000:
        raise AssertionError(f"not one line: {error}")
    return "refused"


def try_config(text: str, scratch: Path, chance: random.Random) -> str:
    """Damage a config file and read it: refused, or options that are all in their range."""
    if chance.random() < 0.6:
        values = damaged_values(yaml.safe_load(text), chance)
        content = as_json(values) if chance.random() < 0.5 else yaml.safe_dump(values).encode()
    else:
        content = damaged_bytes(text.encode(), chance)
    scratch.write_bytes(content)
    try:
        config = read_config(scratch)
    except SeqmelError as error:
        return refused(error)
    assert Config.from_dict(config.to_dict()) == config
    return "read"


def fuzz(
    rounds: int, model: Path, events: Any, configs: list[str], scratch: Path, seed: int
) -> dict[str, Counter[str]]:
    """Damage `count` times, three of four a model folder; return the number of each outcome."""
    whole = load_model(model)
    outcomes = {"model folder": Counter[str](), "config": Counter[str]()}
    for number in range(rounds):
        chance = random.Random(f"{seed}-{number}")
        kind = "config" if number % 4 == 3 else "model folder"
        trial: Callable[[], str] = (
            (
                lambda chance=chance: try_config(
                    chance.choice(configs), scratch / "options.yaml", chance
                )
            )
            if kind == "config"
            else (lambda chance=chance: try_folder(model, scratch / "model", whole, events, chance))
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                outcome = trial()
        except Exception as error:  # what the count is for
            outcome = f"BUG in round {number}: {type(error).__name__}: {str(error)[:200]}"
        outcomes[kind][outcome] += 1
    return outcomes
