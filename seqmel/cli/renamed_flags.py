"""The old names of flags: accepted for one release with a warning, hidden from the help."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from typer.core import TyperCommand

from seqmel.config.validation_errors import expectation
from seqmel.core.errors import ConfigError, plain
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
    """A command that takes its old flags too, and refuses values in a line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments after each old flag has been replaced by the new one.

        Raises:
            ConfigError: a value does not fit its option, or a command that takes embeddings is
                given a model and events.
        """
        words = _with_new_flags(args, RENAMED_FLAGS.get(self.name or "", {}))
        try:
            return super().parse_args(ctx, words)
        except Exception as error:
            if isinstance(error.__cause__, ValidationError):  # newer versions of typer
                raise ConfigError(_refusal(error, error.__cause__)) from None
            named = [p.name for p in self.params if p.param_type_name == "argument"]
            if named == ["embeddings"] and "extra argument" in str(error):
                raise ConfigError(
                    f"seqmel {self.name} takes one file of embeddings, and more is given. Write it "
                    "first: seqmel embed MODEL EVENTS -o embeddings.parquet"
                ) from None
            raise


def _refusal(error: Any, cause: ValidationError) -> str:
    first = cause.errors()[0]
    flags = [flag for flag in error.param.opts if flag.startswith("--")]
    wanted = expectation(first) or "another value"
    return (
        f"{(flags or error.param.opts)[0]} cannot be {plain(first['input'])!r}. Expected {wanted}."
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
