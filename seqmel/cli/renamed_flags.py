"""The old names of flags: accepted for one release with a warning, hidden from the help."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from seqmel.core.errors import ConfigError
from seqmel.core.renames import warn_renamed

__all__ = ["RENAMED_FLAGS", "CommandWithOldFlags"]

RENAMED_FLAGS = {
    "drift": {"--p-value": "--alpha", "--psi": "--psi-threshold", "--unseen": "--unseen-threshold"},
    "embed": {"--scales": "--quantization-from"},
    "evaluate": {
        "--moment": "--time-column",
        "--number-types": "--dtypes",
        "--out-of-time": "--time-split",
        "--same-clients": "--allow-client-overlap",
        "--sizes": "--dims",
        "--test-share": "--test-fraction",
    },
}
"""Command -> old flag -> new flag."""


class CommandWithOldFlags(TyperCommand):
    """A command that takes its old flags too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments after each old flag has been replaced by the new one."""
        return super().parse_args(
            ctx, _with_new_flags(args, RENAMED_FLAGS.get(self.name or "", {}))
        )


def _with_new_flags(args: list[str], renames: dict[str, str]) -> list[str]:
    end = args.index("--") if "--" in args else len(args)
    given = {flag.partition("=")[0] for flag in args[:end]}
    found = []
    for argument in args[:end]:
        flag, equals, value = argument.partition("=")
        new = renames.get(flag, flag)
        if new != flag:
            if new in given:
                raise ConfigError(
                    f"{flag} is the old name of {new}, and both are given. Leave {flag} out."
                )
            warn_renamed(flag, new)
        found.append(f"{new}{equals}{value}")
    return found + args[end:]
