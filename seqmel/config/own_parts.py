"""Options of a user's own parts, checked like those of seqmel's parts."""

from __future__ import annotations

import functools
import inspect
import operator
import re
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, Field, create_model
from pydantic.errors import PydanticUserError

from seqmel.config.config import Config
from seqmel.config.options.base import FACTS, Options
from seqmel.config.options.from_source import argument_lines, first_paragraph
from seqmel.config.options.losses import LossBase
from seqmel.config.options.miners import MinerBase
from seqmel.config.options.network import EncoderBase
from seqmel.config.options.objectives import ObjectiveBase
from seqmel.config.options.views import ViewsBase
from seqmel.config.registry import method_name, options_of
from seqmel.core.errors import ConfigError, ModelError, shown

__all__ = ["Section", "add_options", "options_from_signature", "remove_options"]

Section: TypeAlias = Literal["encoder", "loss", "miner", "objective", "views"]

_BASES: dict[Section, type[Options]] = {
    "encoder": EncoderBase,
    "loss": LossBase,
    "miner": MinerBase,
    "objective": ObjectiveBase,
    "views": ViewsBase,
}
_own: dict[tuple[Section, str], type[Options]] = {}


def options_from_signature(section: Section, name: str, part: Callable[..., Any]) -> type[Options]:
    """The options of a part: the arguments of its constructor, with their types and defaults.

    Args:
        section: which section of the config it belongs to.
        name: its name there.
        part: the class.

    Raises:
        ConfigError: an argument without a type, or of a type that a config file cannot hold.
    """
    base = _BASES[section]
    whose = getattr(part, "__name__", str(part))
    hints = _hints(part)
    lines = argument_lines(part.__doc__ or "")
    fields: dict[str, Any] = {"name": (Literal[name], ...)}
    for argument in inspect.signature(part).parameters.values():
        if (
            argument.name in base.given
            or argument.name in base.model_fields
            or argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD)
        ):
            continue
        if argument.name not in hints:
            raise ConfigError(
                f"The argument {argument.name!r} of {whose} has no type. Options are checked by "
                f"their types: write {argument.name}: float = 1.0, or pass options=."
            )
        default = ... if argument.default is argument.empty else argument.default
        fields[argument.name] = (
            hints[argument.name],
            Field(default, description=lines.get(argument.name)),
        )
    line = first_paragraph(part.__doc__ or f"{whose}, a part of your own.")
    try:
        return create_model(f"{whose}Options", __base__=base, __doc__=line, **fields)
    except PydanticUserError as error:
        raise ConfigError(
            f"The arguments of {whose} cannot be options: {error.message.splitlines()[0]}"
        ) from None


def _hints(part: Callable[..., Any]) -> dict[str, Any]:
    try:
        if isinstance(part, type):
            part = vars(part).get("__init__", part.__init__)  # type: ignore[misc]
        return typing.get_type_hints(part, include_extras=True)
    except NameError as error:
        raise ConfigError(f"A type in the signature of {part!r} is not known: {error}.") from None


def add_options(section: Section, name: str, options: type[BaseModel], part: object) -> None:
    """Add a part to those that a section of the config may name; the same name replaces it.

    Args:
        section: the section, such as "loss".
        name: the name of the part.
        options: its options, a subclass of the base of the section.
        part: the class of the part itself.

    Raises:
        ConfigError: a name that cannot be written in a config file, or that is taken by a part of
            seqmel; options of another base.
    """
    base = _BASES[section]
    if not re.fullmatch(r"[A-Za-z]\w*", name):
        raise ConfigError(
            f"{name!r} cannot be the name of a part. Expected letters, digits and _, such as "
            f"my_{section}."
        )
    if not (isinstance(options, type) and issubclass(options, base)):
        raise ConfigError(
            f"The options of {name} have to be a subclass of seqmel.config.{base.__name__}."
        )
    if name not in get_args(
        options.model_fields["name"].annotation if "name" in options.model_fields else None
    ):
        raise ConfigError(f"The options of {name} need the field name: Literal[{name!r}].")
    others = [kind for kind in options_of(Config, section) if kind is not _own.get((section, name))]
    taken = [own for kind in others for own in get_args(kind.model_fields["name"].annotation)]
    if name in taken:
        raise ConfigError(
            f"seqmel has a part {name!r} in {section} already. Register yours under another name "
            f"than {shown(taken, 99)}."
        )
    for fact in FACTS:
        if hasattr(part, fact):
            setattr(options, fact, getattr(part, fact))
    options.__reduce__ = _reduced  # type: ignore[method-assign]
    _own[section, name] = options
    _rebuild(section, functools.reduce(operator.or_, [*others, options]))


def remove_options() -> list[tuple[Section, str]]:
    """Remove the registered parts from the config, and return them."""
    removed = list(_own)
    for section in {section for section, _ in removed}:
        own = [options for (of, _), options in _own.items() if of == section]
        _rebuild(
            section,
            functools.reduce(
                operator.or_, [o for o in options_of(Config, section) if o not in own]
            ),
        )
    _own.clear()
    return removed


def _rebuild(section: Section, union: Any) -> None:
    """The config with another union of options in a section."""
    field = Config.model_fields[section]
    if section == "miner":
        field.annotation = Annotated[union, Field(discriminator="name")] | None
    elif section == "objective":
        checks = get_args(field.annotation)[0].__metadata__
        checked: Any = Annotated
        part: Any = checked.__class_getitem__((union, *checks))
        several: Any = tuple
        field.annotation = several[part, ...]
    else:
        field.annotation = union
    Config.model_rebuild(force=True)


def _reduced(self: Any) -> Any:
    section = next(s for s, base in _BASES.items() if isinstance(self, base))
    return _restored, (section, method_name(type(self)), self.model_dump())


def _restored(section: Section, name: str, values: Mapping[str, Any]) -> Options:
    """Return the options of a registered part, in another process."""
    if (section, name) not in _own:
        raise ModelError(
            f"The {section} {name!r} is not registered in this process. Import the file that "
            f"registers it first."
        )
    return _own[section, name].model_validate(dict(values))
