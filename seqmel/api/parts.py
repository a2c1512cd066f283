"""Registration of a user's own losses, miners, sequence encoders, views and objectives.

A registered part is used by its name like any part of seqmel: in keyword arguments, in a config
file, and with `--import FILE` on the command line and in experiments. Its options are the arguments
of its constructor, with their types and defaults, and are checked like all other options. A model
folder holds names and options, never code: to load a model with your own encoder, first import the
file that registers it.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, TypeVar

from seqmel.config.own_parts import Section, add_options, options_from_signature, remove_options
from seqmel.core.errors import ConfigError
from seqmel.core.own_code import name_own_code

__all__ = [
    "forget_parts",
    "named_parts",
    "register_encoder",
    "register_loss",
    "register_miner",
    "register_objective",
    "register_view",
]

Part = TypeVar("Part", bound=type)


def register_loss(name: str, *, options: type[Any] | None = None) -> Callable[[Part], Part]:
    """Register a loss: a `torch.nn.Module` called with the vectors of a batch of views.

    The class may set three attributes:

    - `takes`: what `forward` receives after the (N, D) embeddings. "batch" (the default) passes the
      (N,) clients; "pairs" and "triplets" pass what the miner chose.
    - `default_miner`: the name of the miner, if the loss takes pairs or triplets.
    - `unit`: whether the embeddings are scaled to unit length. True by default.

    Args:
        name: its name in a config.
        options: a subclass of `seqmel.config.options.losses.LossBase` with `name: Literal[name]`.
            None reads the options from the constructor; its arguments then need type annotations.

    Returns:
        A decorator that returns the class unchanged.

    Raises:
        ConfigError: a loss of seqmel has this name, or a constructor argument has no type.

    Examples:
        >>> import seqmel, torch
        >>> @seqmel.register_loss("squared_hinge")
        ... class SquaredHinge(torch.nn.Module):
        ...     def __init__(self, margin: float = 0.5):
        ...         super().__init__()
        ...         self.margin = margin
        ...     def forward(self, embeddings, clients):  # (N, D) unit vectors, (N,) -> scalar
        ...         similarity, same = embeddings @ embeddings.T, clients[:, None] == clients
        ...         apart = (similarity - self.margin).clamp(min=0)
        ...         return torch.where(same, 1 - similarity, apart).square().mean()
        >>> data = seqmel.generate_card_data(20)
        >>> loss = {"name": "squared_hinge", "margin": 0.2}
        >>> model = seqmel.train(data.events, loss=loss, epochs=1, batch_size=8, device="cpu")
        >>> model.config.loss.margin
        0.2
    """
    return _registrar("loss", name, options)


def register_miner(name: str, *, options: type[Any] | None = None) -> Callable[[Part], Part]:
    """Register a miner: a subclass of `seqmel.miners.PairMiner` or `seqmel.miners.TripletMiner`.

    The class implements `choose(block)`.

    Args:
        name: its name in a config.
        options: a subclass of `seqmel.config.options.miners.MinerBase`. None reads the options from
            the constructor; its arguments then need type annotations.

    Returns:
        A decorator that returns the class unchanged.

    Raises:
        ConfigError: the name is taken, or a constructor argument has no type.

    Examples:
        >>> import seqmel
        >>> from seqmel.miners import PairMiner
        >>> @seqmel.register_miner("nearest")
        ... class Nearest(PairMiner):
        ...     def choose(self, block):  # (R, K) negatives of each anchor, (R, K) which are real
        ...         return block.nearest_negatives(1)
        >>> seqmel.Config.from_dict({"loss": "contrastive", "miner": "nearest"}).miner.name
        'nearest'
    """
    return _registrar("miner", name, options)


def register_encoder(name: str, *, options: type[Any] | None = None) -> Callable[[Part], Part]:
    """Register a sequence encoder: a `torch.nn.Module` between the encoded events and the pooling.

    The constructor takes `input_size`, the width of an encoded event, and the options. It sets
    `output_size`, the width of a state. `forward` receives the (E, input_size) events of a batch
    and its `SequenceBatch`, where `offsets` and `sequence_index` map events to sequences. It
    returns (E, output_size) states. Set `causal = True` if no state depends on a later event; some
    objectives need that. Incremental updates need `memory_size` and `advance(events, batch,
    memory)`.

    Args:
        name: its name in a config.
        options: a subclass of `seqmel.config.options.network.EncoderBase`. None reads the options
            from the constructor; its arguments then need type annotations.

    Returns:
        A decorator that returns the class unchanged.

    Raises:
        ConfigError: the name is taken, or a constructor argument has no type.

    Examples:
        >>> import seqmel, torch
        >>> @seqmel.register_encoder("per_event")
        ... class PerEvent(torch.nn.Module):
        ...     def __init__(self, input_size: int, width: int = 8):
        ...         super().__init__()
        ...         self.layer, self.output_size = torch.nn.Linear(input_size, width), width
        ...     def forward(self, events, batch):  # (E, input_size) -> (E, output_size)
        ...         return self.layer(events).relu()
        >>> data = seqmel.generate_card_data(20)
        >>> model = seqmel.train(data.events, encoder="per_event", epochs=1, batch_size=8)
        >>> model.encoder.sequence.output_size
        8
    """
    return _registrar("encoder", name, options)


def register_view(name: str, *, options: type[Any] | None = None) -> Callable[[Part], Part]:
    """Register a view sampler: a subclass of `seqmel.data.views.ViewSampler`.

    The class is a frozen dataclass that implements `choose`.

    Args:
        name: its name in a config.
        options: a subclass of `seqmel.config.options.views.ViewsBase`. None reads the options from
            the fields of the dataclass.

    Returns:
        A decorator that returns the class unchanged.

    Raises:
        ConfigError: the name is taken, or a field has no type.

    Examples:
        >>> import seqmel, torch
        >>> from dataclasses import dataclass
        >>> from seqmel.data.views import Views, ViewSampler
        >>> @seqmel.register_view("halves")
        ... @dataclass(frozen=True, kw_only=True)
        ... class Halves(ViewSampler):
        ...     def choose(self, clients, lengths, generator, times):
        ...         first = lengths // 2
        ...         starts = torch.stack([torch.zeros_like(first), first], 1).flatten()
        ...         sizes = torch.stack([first, lengths - first], dim=1).flatten()
        ...         return Views(clients.repeat_interleave(2), starts, sizes)
        >>> seqmel.Config.from_dict({"views": "halves"}).views.name
        'halves'
    """
    return _registrar("views", name, options)


def register_objective(name: str, *, options: type[Any] | None = None) -> Callable[[Part], Part]:
    """Register an objective: a `torch.nn.Module` called with the encoded views of a batch.

    Besides its options the constructor may take `embedding_size` (width of the vectors),
    `state_size` and `event_size` (width of the states and of the encoded events) and `vocabulary`.
    `forward` receives an `Encoded` with `encoded.vectors` (S, D), `encoded.states`,
    `encoded.batch.sequences` and `encoded.batch.clients` (S,). It returns a scalar.

    Args:
        name: its name in a config.
        options: a subclass of `seqmel.config.options.objectives.ObjectiveBase`. None reads the
            options from the constructor; its arguments then need type annotations.

    Returns:
        A decorator that returns the class unchanged.

    Raises:
        ConfigError: the name is taken, or a constructor argument has no type.

    Examples:
        >>> import seqmel, torch
        >>> @seqmel.register_objective("short_vectors")
        ... class ShortVectors(torch.nn.Module):
        ...     def forward(self, encoded):
        ...         return encoded.vectors.square().mean()
        >>> data = seqmel.generate_card_data(20)
        >>> objective = ["coles", {"name": "short_vectors", "weight": 0.01}]
        >>> model = seqmel.train(data.events, objective=objective, epochs=1, batch_size=8)
        >>> "loss_short_vectors" in model.metrics["history"][0]
        True
    """
    return _registrar("objective", name, options)


def forget_parts() -> None:
    """Undo all registrations, for example between tests."""
    for section, name in remove_options():
        _table(section).pop(name, None)


def named_parts(options: Mapping[str, Any]) -> dict[str, Any]:
    """Register the classes and modules given in options, and replace each by its name.

    Args:
        options: options by the names of a config. `loss` and `encoder`, or the `name` within their
            options, may be a class; a loss may also be an instance.

    Returns:
        The options, with names only.

    Raises:
        ConfigError: an encoder is an instance, the name is taken, or a constructor argument has no
            type.
    """
    found = dict(options)
    for section in ("encoder", "loss"):
        value = found.get(section)
        if isinstance(value, Mapping) and _is_module(value.get("name")):
            found[section] = {**value, "name": _named(section, value["name"])}
        elif _is_module(value):
            found[section] = {"name": _named(section, value)}
    return found


def _named(section: Section, part: Any) -> str:
    """Register a class or instance by its class name; each training copies an instance."""
    if isinstance(part, type):
        _register(section, part.__name__, part, None)
        return part.__name__
    if section == "encoder":
        raise ConfigError(
            f"encoder is an instance of {type(part).__name__}. Give the class: its input_size is "
            "known once the events are read, and its other arguments are options, such as "
            "encoder={'name': MyEncoder, 'width': 64}."
        )

    def made() -> Any:
        return copy.deepcopy(part)

    made.__name__, made.__doc__ = type(part).__name__, type(part).__doc__
    for fact in ("takes", "default_miner", "unit"):
        if hasattr(part, fact):
            setattr(made, fact, getattr(part, fact))
    _register(section, type(part).__name__, made, None)
    return type(part).__name__


def _is_module(value: Any) -> bool:
    torch = sys.modules.get("torch")  # not imported yet: the value cannot be a module
    if torch is None:
        return False
    return isinstance(value, torch.nn.Module) or (
        isinstance(value, type) and issubclass(value, torch.nn.Module)
    )


def _registrar(section: Section, name: str, options: type[Any] | None) -> Callable[[Part], Part]:
    def register(part: Part) -> Part:
        _register(section, name, part, options)
        return part

    return register


def _register(section: Section, name: str, part: Any, options: type[Any] | None) -> None:
    _check_kind(section, part)
    model = options or options_from_signature(section, name, part)
    add_options(section, name, model, part)
    _table(section)[name] = _as_loss(part) if section == "loss" else part


def _check_kind(section: Section, part: Any) -> None:
    """Raise a `ConfigError` if the part is not of the class that training expects."""
    if section in ("miner", "views"):
        from seqmel.data.views import ViewSampler
        from seqmel.objectives.miners import Miner

        base = Miner if section == "miner" else ViewSampler
        if not (isinstance(part, type) and issubclass(part, base)):
            raise ConfigError(
                f"A registered {section} is a subclass of {base.__name__}; found {part!r}."
            )
    elif isinstance(part, type) and not _is_module(part):
        raise ConfigError(f"A registered {section} is a torch.nn.Module; found {part!r}.")


def _as_loss(part: Callable[..., Any]) -> Callable[..., Any]:
    from seqmel.objectives.losses import MetricLoss
    from seqmel.objectives.own import OwnLoss

    if isinstance(part, type) and issubclass(part, MetricLoss):
        return part
    make: Callable[..., Any] = part

    def made(**options: Any) -> Any:
        with name_own_code(part, "loss"):
            inner = make(**options)
        return OwnLoss(inner)

    return made


def _table(section: Section) -> MutableMapping[str, Any]:
    """The table in which the classes of a section are looked up."""
    from seqmel.data.views import VIEWS
    from seqmel.nn.encoders import ENCODERS
    from seqmel.objectives.losses import LOSSES
    from seqmel.objectives.miners import MINERS
    from seqmel.objectives.own import OWN_OBJECTIVES

    tables: dict[Section, MutableMapping[str, Any]] = {
        "encoder": ENCODERS,
        "loss": LOSSES,
        "miner": MINERS,
        "objective": OWN_OBJECTIVES,
        "views": VIEWS,
    }
    return tables[section]
