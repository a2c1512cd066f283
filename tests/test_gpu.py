"""On a GPU a step never waits for the host, and its numbers equal those of the CPU.

There need be no GPU for this, see `card.py`; where there is one, it is tried too. bfloat16 and
speed are in benchmarks/gpu.py.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils import backend_registration

from seqmel.config import methods

STAND_IN = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch cannot stand in for a device",
)


REAL = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here")


@pytest.mark.parametrize(
    "device", [pytest.param((), marks=STAND_IN, id="stand-in"), pytest.param(("cuda",), marks=REAL)]
)
def test_a_step_with_each_method_is_that_of_the_cpu_and_never_waits(
    device: tuple[str, ...],
) -> None:
    sections = [*methods(), "others"]  # in one process, since each would import torch first
    folder = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "on_card.py", ",".join(sections), *device],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("the same") >= sum(map(len, methods().values())) // 2
