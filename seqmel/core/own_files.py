"""Python files of a user, run on request, so that the parts they register can be named."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from seqmel.core.errors import ConfigError, SeqmelError

__all__ = ["import_file", "imported_files"]

_files: list[Path] = []


def import_file(path: str | Path) -> None:
    """Run a Python file as the module of its name, once.

    Only a user names such a file: a model folder never does.

    Args:
        path: a .py file.

    Raises:
        ConfigError: no such file, a name that another module has, or a file that fails.
    """
    file = Path(path).resolve()
    if not file.is_file() or file.suffix != ".py":
        raise ConfigError(
            f"No Python file to import at {path}. Give the .py file that registers your parts."
        )
    if file in _files:
        return
    if file.stem in sys.modules:
        raise ConfigError(
            f"{path} has the name of a module that is imported already, {file.stem!r}. Rename "
            f"the file."
        )
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None, "a .py file has a loader"
    assert spec.loader is not None, "a .py file has a loader"
    sys.modules[file.stem] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SeqmelError:
        del sys.modules[file.stem]
        raise
    except Exception as error:
        del sys.modules[file.stem]
        raise ConfigError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    _files.append(file)


def imported_files() -> list[str]:
    """The files that were imported, for the processes that this one starts."""
    return [str(file) for file in _files]
