"""Colours of classes stay apart, for readers with and without colour blindness."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import seqmel
from seqmel.core.colours import COLOURS

Floats = npt.NDArray[np.float64]
CSS = (Path(seqmel.__file__).parent / "report" / "page.css").read_text(encoding="utf-8")
OF_PAGE = [re.findall(r"--c\d: (#\w{6})", line) for line in CSS.splitlines() if "--c0:" in line]

# linear RGB as it is seen: Machado, Oliveira, Fernandes (2009), severity 1.0
SEEN = {
    "normal": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]]),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]]),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
         [0.004733, 0.691367, 0.303900]]),
}  # fmt: skip
TO_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
)  # fmt: skip


def lab(colour: str, seen: Floats) -> Floats:
    """CIE Lab of a colour as it is seen."""
    part = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(seen @ linear, 0, 1) / np.array([0.9505, 1.0, 1.089])
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_the_distance_of_black_and_white_is_100() -> None:
    assert np.linalg.norm(lab("#000000", np.eye(3)) - lab("#ffffff", np.eye(3))) == pytest.approx(
        100, abs=0.1
    )


@pytest.mark.parametrize("seen", SEEN)
def test_any_two_colours_are_apart(seen: str) -> None:
    assert [len(colours) for colours in OF_PAGE] == [8, 8]
    for colours, least in ((COLOURS, 24), *((page, 20) for page in OF_PAGE)):
        for a, b in itertools.combinations(colours, 2):
            assert np.linalg.norm(lab(a, SEEN[seen]) - lab(b, SEEN[seen])) >= least, (a, b)
