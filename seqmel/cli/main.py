"""The `seqmel` command.

Exit codes: 0 when done; 2, with one line on standard error, for anything a user can cause.
"""

from __future__ import annotations

import itertools
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from seqmel.cli import commands
from seqmel.cli.arguments import with_threads
from seqmel.cli.console import say, silence, tolerate_any_console
from seqmel.cli.launching import first_process
from seqmel.cli.renamed_flags import CommandWithOldFlags
from seqmel.core.atomic_files import NO_SPACE
from seqmel.core.errors import SeqmelError, one_line
from seqmel.core.own_files import import_file
from seqmel.core.renames import RenamedWarning

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help=(
        "Embeddings of event sequences: train a model on events, embed clients, evaluate the "
        "embeddings."
    ),
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (
    commands.describe,
    commands.prepare,
    commands.train,
    commands.finish,
    commands.tune,
    commands.embed,
    commands.export,
    commands.label,
    commands.finetune,
    commands.predict,
    commands.explain,
    commands.forecast,
    commands.evaluate,
    commands.score,
    commands.drift,
    commands.retrieval,
    commands.audit,
    commands.experiment,
    commands.report,
    commands.runs,
    commands.similar,
    commands.index,
    commands.forget,
    commands.push,
    commands.pull,
    commands.demo,
):  # in the order of the help
    app.command(cls=CommandWithOldFlags)(with_threads(command))
app.command("map", cls=CommandWithOldFlags)(with_threads(commands.map_command))
app.command()(commands.methods)
app.command()(commands.config)
app.command()(commands.info)
app.command()(commands.version)


def _print_version(asked: bool) -> None:
    if asked:
        commands.version()
        raise typer.Exit


@app.callback()
def _root_options(
    files: Annotated[
        list[Path] | None,
        typer.Option(
            "--import", help="A Python file that registers parts of your own. Repeatable."
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Options before the command."""
    for file in files or ():
        import_file(file)


def _imports_first(words: list[str]) -> list[str]:
    """Return the arguments with every `--import FILE` before the command, where typer takes it."""
    first: list[str] = []
    others: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--import" or word.startswith("--import="):
            first += [word] if "=" in word else [word, *itertools.islice(rest, 1)]
        else:
            others.append(word)
    return first + others


_MEMORY_ADVICE = {
    "train": (
        "Lower preparation.memory_limit, training.batch_size or views.max_length (--set "
        "NAME=VALUE)."
    ),
    "finetune": "Lower finetuning.batch_size or finetuning.max_events (--set NAME=VALUE).",
    "embed": (
        "Embed one shard of the clients after the other (--shard 1/4), or use a device with "
        "more memory."
    ),
    "predict": (
        "Predict one shard of the clients after the other (--shard 1/4), or use a device "
        "with more memory."
    ),
}
"""Command -> what to do about too little memory; the options of a trained model are fixed."""
_READ_LESS = (
    "Lower preparation.memory_limit (--set NAME=VALUE) if the command takes it, or give "
    "it fewer events."
)


def _out_of_memory(error: Exception) -> bool:
    """Whether the host or a GPU is out of memory; torch has no error class for the host."""
    of_torch = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or of_torch


def _show_renames() -> None:
    """Show warnings of seqmel's own as plain lines, once each, and in the first process only."""
    show = warnings.showwarning
    seen = set[str]()

    def line(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
        if category.__name__ not in (
            "RenamedWarning",
            "EventsWarning",
        ):  # the latter comes with torch
            show(message, category, *place, **options)
        elif first_process() and str(message) not in seen:
            seen.add(str(message))
            print(f"seqmel: warning: {message}", file=sys.stderr)

    warnings.showwarning = line
    warnings.filterwarnings("always", category=RenamedWarning)


STOPPED = "seqmel: stopped; no unfinished result was put in place"


def main() -> None:
    """Run the command; turn errors that a user can cause into one line and exit code 2."""
    tolerate_any_console()
    try:
        with warnings.catch_warnings():
            _show_renames()
            try:
                app(_imports_first(sys.argv[1:]), prog_name="seqmel")
            finally:
                sys.stdout.flush()  # here, where what goes wrong has words
    except SeqmelError as error:
        say(f"seqmel: {error}")
        sys.exit(2)
    except BrokenPipeError:
        silence(sys.stdout)
        sys.exit(1)
    except OSError as error:
        full = NO_SPACE.get(error.errno or 0)
        if full is None:
            if error.filename is None or error.strerror is None:
                raise
            say(f"seqmel: {error.filename} cannot be read or written: {error.strerror}.")
            sys.exit(2)
        silence(sys.stdout)
        say(f"seqmel: {full} ({error.filename or error}). Free space and run it again.")
        sys.exit(2)
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        reason = one_line(f"{error}\n".splitlines()[0]) or type(error).__name__
        advice = _MEMORY_ADVICE.get(sys.argv[1] if len(sys.argv) > 1 else "", _READ_LESS)
        say(f"seqmel: Not enough memory ({reason}). {advice}")
        sys.exit(2)
    except SystemExit as ended:
        # Typer makes Ctrl-C an exit without a word. Commands that say more themselves clear the
        # cause.
        if isinstance(getattr(ended.__context__, "__cause__", None), KeyboardInterrupt):
            say(STOPPED)
        raise
    except KeyboardInterrupt:
        say(STOPPED)
        sys.exit(130)


if __name__ == "__main__":
    main()
