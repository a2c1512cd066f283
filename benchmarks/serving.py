"""One side of a comparison as a waiting process: it runs and times a stage per line of JSON.

So that two libraries in two environments can take turns within one run, and neither pays for its
imports again. This
file needs the standard library only: it also runs under the other library's Python.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Run", "Stage", "serve", "sizes_of"]

Run = Callable[[], "dict[str, float]"]
"""Does the work of a stage once and says how much it was: `units`, and further figures."""

Stage = Callable[[Path], Run]
"""What a stage needs, made ready from the folder of the data; this is not timed."""


def sizes_of(folder: Path) -> dict[str, Any]:
    """Sizes and hyper-parameters, as `made_data.write_data` left them for all sides."""
    sizes: dict[str, Any] = json.loads((folder / "sizes.json").read_text(encoding="utf-8"))
    return sizes


def serve(stages: dict[str, Stage]) -> None:
    """Answer requests {"stage", "folder", "group"} on standard input until it ends.

    What is made ready stays so for the next request of its group; another group lets it go. An
    answer has `seconds`, `cpu_seconds` of all threads, `units`, what else the run says, and
    `peak_mb`, the largest memory of the process so far; or `error`. Whatever a library prints goes
    to standard error, so that answers stay alone on their stream.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    ready: dict[str, Run] = {}
    group = None
    for line in sys.stdin:
        request = json.loads(line)
        if request.get("group") != group:
            group = request.get("group")
            ready.clear()
        answers.write(
            json.dumps(_answer(stages, ready, request["stage"], request["folder"])) + "\n"
        )
        answers.flush()


def _answer(
    stages: dict[str, Stage], ready: dict[str, Run], stage: str, folder: str
) -> dict[str, Any]:
    try:
        if stage not in ready:
            ready[stage] = stages[stage](Path(folder))
        began = time.perf_counter()
        used = time.process_time()
        done = ready[stage]()
        figures = {
            "seconds": time.perf_counter() - began,
            "cpu_seconds": time.process_time() - used,
            **done,
        }
    except Exception as error:  # the others go on; the reason is told
        return {"error": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"}
    return {**figures, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
