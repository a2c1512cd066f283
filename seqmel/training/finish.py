"""Finish an interrupted run now: keep the best of the epochs that are there."""

from __future__ import annotations

import shutil
from pathlib import Path

from seqmel.config import Config
from seqmel.core.atomic_files import (
    check_output,
    exclusive_lock,
    move_into_place,
    partial_path,
    translate_disk_full,
)
from seqmel.core.device import with_own_defaults
from seqmel.core.errors import InputError
from seqmel.core.progress import Reporting, as_progress
from seqmel.data.sources.reading import Events
from seqmel.training.run import (
    fit_model,
    options_before,
    prepared_in,
    with_epochs,
    write_model,
)

__all__ = ["finish"]


@with_own_defaults
def finish(
    output: str | Path,
    events: Events | None = None,
    *,
    overwrite: bool = False,
    progress: Reporting = None,
) -> Path:
    """Make a model of an interrupted training, from its best epoch so far.

    Args:
        output: The model folder that the training was to write. The unfinished run lies in
            `<output>.partial`, which may be given too.
        events: The folder of prepared sequences, if it was trained on one; else not needed.
        overwrite: Replace an existing model.
        progress: Where to report progress.

    Returns:
        The model folder. `config.training.epochs` of the model is the number of epochs done.

    Raises:
        InputError: There is no unfinished training with a finished epoch, or its prepared sequences
            are not given.
        OutputError: A model exists, or the run is still going on.
    """
    from seqmel.training.fit import epochs_done

    output = Path(output)
    output = output.with_name(output.name.removesuffix(".partial"))
    work = partial_path(output)
    reporter = as_progress(progress)
    last = work / "checkpoints" / "last.ckpt"
    if not last.is_file():
        raise InputError(
            f"No unfinished run with a finished epoch is in {work}. Train anew, or continue with "
            f"--resume."
        )
    check_output(output, overwrite=overwrite, folder=True, reads=(events,))
    with exclusive_lock(work, output), translate_disk_full(output, "run it again"):
        options = options_before(work / "options.json")
        if not isinstance(options, dict) or "config" in options:
            raise InputError(
                f"{work} holds an unfinished fine-tuning. Continue it with --resume; only a "
                f"training can be finished early."
            )
        if events is None and not (work / "prepared").is_dir():
            raise InputError(
                f"The run in {work} trained on prepared sequences. Name their folder: seqmel "
                f"finish {output} PREPARED"
            )
        config = with_epochs(Config.from_dict(options), epochs_done(last))
        source = events if events is not None else work / "prepared"
        prepared = prepared_in(work, source, config, None, reporter)
        write_model(work / "model", fit_model(work, prepared, config, progress=reporter))
        move_into_place(work / "model", output)
        shutil.rmtree(work, ignore_errors=True)
    return output
