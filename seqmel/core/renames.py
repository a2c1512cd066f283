"""Old names that are still accepted: each warns once and says the new name."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from seqmel.core.errors import ConfigError

__all__ = ["RenamedWarning", "rename_keys", "renamed_fields", "renamed_keywords", "warn_renamed"]

P = ParamSpec("P")
R = TypeVar("R")
Class = TypeVar("Class", bound=type)


class RenamedWarning(FutureWarning):
    """An old name was used. It works in this release and is gone in the next one."""


def warn_renamed(old: str, new: str, *, stacklevel: int = 1) -> None:
    """Warn that `old` is the old name of `new`; Python shows each such warning once."""
    text = f"{old} is now called {new}. The old name still works in this release; use the new one."
    warnings.warn(text, RenamedWarning, stacklevel=stacklevel + 1)


def rename_keys(
    given: Mapping[str, Any],
    renames: Mapping[str, str],
    *,
    quiet: bool = False,
    where: str = "",
    stacklevel: int = 1,
) -> dict[str, Any]:
    """The same values under their new names, in the same order.

    Args:
        given: values by name; new and old names may be mixed.
        renames: old name -> new name.
        quiet: do not warn, for what an earlier version wrote.
        where: a prefix of the names in the warning, such as "training.".
        stacklevel: as of `warnings.warn`.

    Raises:
        ConfigError: an old name and its new name are both given.
    """
    found: dict[str, Any] = {}
    for name, value in given.items():
        new = renames.get(name, name)
        if new != name and new in given:
            raise ConfigError(
                f"{where}{name} and {where}{new} are both given, and {name} is the old name of "
                f"{new}. Leave {where}{name} out."
            )
        if new != name and not quiet:
            warn_renamed(f"{where}{name}", f"{where}{new}", stacklevel=stacklevel + 1)
        found[new] = value
    return found


def renamed_keywords(**renames: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Accept old keywords of a function: `@renamed_keywords(old="new")`.

    The signature shows only the new ones. Renames whose new name the function does not take are
    ignored, so that several functions can share a table.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        takes = inspect.signature(function).parameters
        own = {old: new for old, new in renames.items() if new in takes}

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **rename_keys(kwargs, own, stacklevel=2))

        return call

    return decorate


def renamed_fields(**renames: str) -> Callable[[Class], Class]:
    """Accept old names of dataclass fields: `@renamed_fields(old="new")` above `@dataclass`."""

    def decorate(made: Class) -> Class:
        made.__init__ = renamed_keywords(**renames)(made.__init__)  # type: ignore[misc]
        return made

    return decorate
