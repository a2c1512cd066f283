"""The classes of a folder with one method per file, by the name of the file."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

__all__ = ["classes_by_file"]


def classes_by_file(package: str, base: type[Any], *, suffix: str = "") -> dict[str, Any]:
    """Return name of the file -> its class, which is named like the file.

    `CircleLoss` in `circle.py` is the class of `circle`, for the suffix "Loss".

    Args:
        package: dotted name of the package; all its modules are imported.
        base: the class that all of them extend.
        suffix: what follows the name of the file in the name of the class.
    """
    found = {}
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        for kind in vars(importlib.import_module(f"{package}.{module.name}")).values():
            if (
                isinstance(kind, type)
                and issubclass(kind, base)
                and kind.__name__.lower() == module.name.replace("_", "") + suffix.lower()
            ):
                found[module.name] = kind
    return found
