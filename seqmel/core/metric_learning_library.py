"""The losses of pytorch-metric-learning by name, and a check of their options.

The library comes with the extra `seqmel[pml]`, and is imported only if a config names one of its
losses.
"""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import torch
from torch import nn

from seqmel.core.errors import ConfigError, did_you_mean, shown

__all__ = ["check_loss", "library_losses", "make_loss"]

_NOT_OURS = {"num_classes", "mat_based_loss"}
"""Arguments of losses over fixed classes, and arguments that are objects."""

_NOT_BY_LABEL = {"VICRegLoss"}
"""Losses that take two lists of embeddings, paired by position, and no labels."""


def check_loss(loss: str, options: dict[str, Any]) -> None:
    """Raise the `ConfigError` that building the loss would raise, without changing torch's seed."""
    with torch.random.fork_rng(devices=[]):
        make_loss(loss, options)


def make_loss(loss: str, options: dict[str, Any]) -> nn.Module:
    """Build a loss of the library by the name of its class, such as CircleLoss.

    Args:
        loss: The name.
        options: The keyword arguments of the class.

    Raises:
        ConfigError: The library is not installed or has no such loss, or the loss does not accept
            these options or a batch of embeddings with labels.
    """
    known = library_losses()
    if loss not in known:
        asking = {
            name: ", ".join(sorted(_required(kind)))
            for name, kind in known.items()
            if _required(kind)
        }
        raise ConfigError(
            f"loss: pytorch-metric-learning has no loss {loss!r} that takes embeddings and labels."
            f"{did_you_mean(loss, known)} It has: "
            f"{shown((n for n in known if n not in asking), 60)}. With options also: "
            f"{shown(f'{name} ({options})' for name, options in asking.items())}."
        )
    return _build(loss, known[loss], options)


def library_losses() -> dict[str, type[nn.Module]]:
    """Return the losses of the library that take embeddings and labels: name -> class.

    Raises:
        ConfigError: The library is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # users cannot fix warnings of the library's imports
            from pytorch_metric_learning import losses
    except ImportError:
        raise ConfigError(
            "loss: pml/... is a loss of pytorch-metric-learning, which is not installed. Run: pip "
            "install 'seqmel[pml]'"
        ) from None
    base: Any = losses.BaseMetricLossFunction
    offered: dict[str, Any] = dict(sorted(vars(losses).items()))
    found: dict[str, Any] = {
        name: kind
        for name, kind in offered.items()
        if inspect.isclass(kind) and issubclass(kind, base)
    }
    return {
        name: kind
        for name, kind in found.items()
        if kind is not base and name not in _NOT_BY_LABEL and not _required(kind) & _NOT_OURS
    }


def _required(kind: type[nn.Module]) -> set[str]:
    """Return the required arguments of a loss. `*args` stands for those of its base class."""
    found: set[str] = set()
    for base in kind.__mro__:
        parameters = _parameters(base)
        found |= {
            p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
        }
        if "__init__" in vars(base) and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
            break
    return found


def _options(kind: type[nn.Module]) -> list[str]:
    """Return all arguments of a loss, including those of its base classes."""
    found = {
        p.name
        for base in kind.__mro__
        for p in _parameters(base)
        if p.kind is p.POSITIONAL_OR_KEYWORD
    }
    return sorted(found - _NOT_OURS)


def _parameters(base: type) -> list[inspect.Parameter]:
    """Return the arguments of a class's own constructor, without `self`."""
    own = vars(base).get("__init__")
    return (
        []
        if base in (nn.Module, object) or own is None
        else list(inspect.signature(own).parameters.values())[1:]
    )


def _build(name: str, kind: type[nn.Module], options: dict[str, Any]) -> nn.Module:
    """Build the loss, and check that it accepts a small batch."""
    known = _options(kind)
    wrong = [option for option in options if option not in known]
    if wrong:
        raise ConfigError(
            f"loss: {name} of pytorch-metric-learning has no option "
            f"{wrong[0]!r}.{did_you_mean(wrong[0], known)} It has: {shown(known, 20)}."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = kind(**options)
            vectors = torch.eye(4, 8).repeat(2, 1) + torch.linspace(-0.1, 0.1, 64).view(8, 8)
            made(nn.functional.normalize(vectors, dim=1), torch.arange(4).repeat(2))
    except Exception as error:  # the library raises many types of exceptions
        line = " ".join(str(error).split())
        raise ConfigError(
            f"loss: {name} of pytorch-metric-learning cannot be used with "
            f"{options or 'its defaults'} ({type(error).__name__}: {line}). It has the options: "
            f"{shown(known, 20)}."
        ) from None
    return made
