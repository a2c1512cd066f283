"""The version of the package, as it was installed. It comes from the tag of the release."""

from __future__ import annotations

__all__ = ["__version__"]

__version__: str


def __getattr__(name: str) -> str:
    """Read the version when it is first asked for: that takes longer than to import seqmel."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version("seqmel")
    except PackageNotFoundError:  # a checkout on the path that was never installed
        found = "0.1.dev0"
    globals()[name] = found
    return found
