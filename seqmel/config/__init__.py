"""All options of a training, checked before any work starts.

A config file lists only what differs from the defaults. Views, encoder, objective, loss and miner
are each a name, or a
name with options: `encoder: lstm`, or `encoder: {name: lstm, hidden_size: 512}`.
"""

from __future__ import annotations

from seqmel.config.config import LABELLED, Config, as_config
from seqmel.config.files import last_said, parse_yaml, read_config, to_yaml
from seqmel.config.keywords import config_with
from seqmel.config.registry import methods_of

__all__ = [
    "LABELLED",
    "Config",
    "as_config",
    "config_with",
    "last_said",
    "methods",
    "parse_yaml",
    "read_config",
    "to_yaml",
]


def methods() -> dict[str, dict[str, str]]:
    """Return section -> method -> a line about it; see `methods_of`."""
    return methods_of(Config)
