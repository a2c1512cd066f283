"""Losses of pytorch-metric-learning by their name there (Musgrave, Belongie, Lim, arXiv 2008.09164): `loss: pml/CircleLoss`.

The library comes with the extra `seqmel[pml]` and is imported only where such a loss is named: a config that names one is read with it, a
model that was trained with one is loaded without. A loss of it takes embeddings
and whose each is; wrappers around other losses, and those that learn a vector for each of a fixed set of classes, do not fit,
since the clients of a batch are no fixed classes.
"""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from seqmel.errors import ConfigError, TrainingError, did_you_mean, shown
from seqmel.losses.base import MetricLoss, precisely

__all__ = ["PMLLoss", "check_loss", "library_losses"]

_NOT_OURS = {"num_classes", "mat_based_loss"}
"""Arguments of losses over fixed classes, and of those that are put together in code."""


class PMLLoss(MetricLoss):
    """A loss of the library over unit vectors, with the client for the label.

    Args:
        loss: the name of its class, such as CircleLoss.
        options: its arguments.

    Raises:
        ConfigError: the library is not installed, has no such loss, or the loss does not take these options or a batch of
            embeddings with labels.
    """

    def __init__(self, *, loss: str, options: dict[str, Any]) -> None:
        super().__init__()
        known = library_losses()
        if loss not in known:
            raise ConfigError(
                f"loss: pytorch-metric-learning has no loss {loss!r} that takes embeddings and labels."
                f"{did_you_mean(loss, known)} It has: {shown(known, 60)}."
            )
        self.name = loss
        self.inner = _made(loss, known[loss], options)

    @precisely
    def forward(self, embeddings: Tensor, clients: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: (N, D), unit vectors.
            clients: (N,) whose they are.

        Returns:
            A scalar, as the library reduces it.

        Raises:
            TrainingError: the library refuses this batch, as some losses do where clients have unequal numbers of views.
        """
        try:
            return torch.as_tensor(self.inner(embeddings, clients))
        except ValueError as error:
            line = " ".join(str(error).split())
            raise TrainingError(
                f"{self.name} of pytorch-metric-learning refuses a batch of {len(clients)} embeddings of"
                f" {len(set(clients.tolist()))} clients: {line}"
            ) from None


def check_loss(loss: str, options: dict[str, Any]) -> None:
    """Refuse what `PMLLoss` would refuse, by the same `ConfigError`; torch's random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        PMLLoss(loss=loss, options=options)


def library_losses() -> dict[str, type[nn.Module]]:
    """Name -> class of each loss of the library that takes embeddings and labels.

    Raises:
        ConfigError: the library is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the library's own imports warn of is not the user's to mend
            from pytorch_metric_learning import losses
    except ImportError:
        raise ConfigError(
            "loss: pml/... is a loss of pytorch-metric-learning, which is not installed. Run: pip install 'seqmel[pml]'"
        ) from None
    base: Any = losses.BaseMetricLossFunction
    offered: dict[str, Any] = dict(sorted(vars(losses).items()))
    found: dict[str, Any] = {
        name: kind for name, kind in offered.items() if inspect.isclass(kind) and issubclass(kind, base)
    }
    return {name: kind for name, kind in found.items() if kind is not base and not _required(kind) & _NOT_OURS}


def _required(kind: type[nn.Module]) -> set[str]:
    """The arguments that a loss cannot do without; one that takes `*args` hands them on to the class that it is of."""
    found: set[str] = set()
    for base in kind.__mro__:
        parameters = _parameters(base)
        found |= {p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD}
        if "__init__" in vars(base) and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
            break
    return found


def _options(kind: type[nn.Module]) -> list[str]:
    """All arguments of a loss, also those that it hands on to the classes that it is of."""
    found = {p.name for base in kind.__mro__ for p in _parameters(base) if p.kind is p.POSITIONAL_OR_KEYWORD}
    return sorted(found - _NOT_OURS)


def _parameters(base: type) -> list[inspect.Parameter]:
    """The arguments of a class's own constructor, without `self`."""
    own = vars(base).get("__init__")
    return [] if base in (nn.Module, object) or own is None else list(inspect.signature(own).parameters.values())[1:]


def _made(name: str, kind: type[nn.Module], options: dict[str, Any]) -> nn.Module:
    """The loss, once it has been seen to make a number of a few vectors."""
    known = _options(kind)
    wrong = [option for option in options if option not in known]
    if wrong:
        raise ConfigError(
            f"loss: {name} of pytorch-metric-learning has no option {wrong[0]!r}.{did_you_mean(wrong[0], known)}"
            f" It has: {shown(known, 20)}."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = kind(**options)
            vectors = torch.eye(4, 8).repeat(2, 1) + torch.linspace(-0.1, 0.1, 64).view(8, 8)
            made(nn.functional.normalize(vectors, dim=1), torch.arange(4).repeat(2))
    except Exception as error:  # whatever the library makes of options or vectors
        line = " ".join(str(error).split())
        raise ConfigError(
            f"loss: {name} of pytorch-metric-learning cannot be used with {options or 'its defaults'}"
            f" ({type(error).__name__}: {line}). It has the options: {shown(known, 20)}."
        ) from None
    return made
