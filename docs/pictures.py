"""Draw the pictures of the concepts as SVG: `python docs/pictures.py` writes docs/pictures/*.svg.

Text is text and colours are few: blue for one client, orange for another, grey for the rest. The
colours are apart for colour-blind readers, and each thing is labelled where it is.
"""

from __future__ import annotations

import itertools
from pathlib import Path

__all__ = ["PICTURES"]

BLUE, ORANGE, GREY, INK = "#2a6f97", "#e07a5f", "#a9bac6", "#3d405b"
FOLDER = Path(__file__).parent / "pictures"


def svg(width: int, height: int, title: str, *parts: str) -> str:
    """Return a picture on white, so that it reads in light and in dark mode."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" font-family="sans-serif" font-size="13">',
            f"<title>{title}</title>",
            f'<rect width="{width}" height="{height}" rx="8" fill="white"/>',
            *parts,
            "</svg>\n",
        ]
    )


def text(x: float, y: float, words: str, *, fill: str = INK, anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" fill="{fill}" text-anchor="{anchor}">{words}</text>'


def dot(x: float, y: float, fill: str, r: float = 7, *, ring: bool = False) -> str:
    edge = f' stroke="{INK}" stroke-width="2"' if ring else ""
    return f'<circle cx="{x:g}" cy="{y:g}" r="{r:g}" fill="{fill}"{edge}/>'


def line(
    x1: float, y1: float, x2: float, y2: float, colour: str = INK, *, dashed: bool = False
) -> str:
    dash = ' stroke-dasharray="4 4"' if dashed else ""
    return (
        f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{colour}" '
        f'stroke-width="2"{dash}/>'
    )


def bracket(x1: float, x2: float, y: float, colour: str) -> str:
    return (
        f'<path d="M{x1:g} {y - 6:g} V{y:g} H{x2:g} V{y - 6:g}" fill="none" stroke="{colour}" '
        f'stroke-width="2"/>'
    )


def bar(x: float, y: float, width: float, height: float, fill: str) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:.1f}" height="{height:g}" fill="{fill}"/>'


def views() -> str:
    """Two clients, and slices of their sequences."""
    parts = [text(20, 28, "time"), line(60, 24, 640, 24, GREY), text(640, 29, "&#9654;", fill=GREY)]
    clients = [
        ("client A", BLUE, [90, 120, 150, 205, 240, 300, 330, 360, 430, 470, 540, 575, 610]),
        ("client B", ORANGE, [100, 160, 230, 290, 375, 400, 490, 600]),
    ]
    slices = [[(0, 4), (3, 8), (7, 12)], [(0, 3), (2, 5), (4, 7)]]
    for row, (name, colour, times) in enumerate(clients):
        top = 70 + 140 * row
        parts.append(text(20, top + 5, name))
        parts += [dot(x, top, colour) for x in times]
        for number, (first, last) in enumerate(slices[row]):
            y = top + 28 + 24 * number
            parts.append(bracket(times[first] - 8, times[last] + 8, y, colour))
            parts.append(text(times[last] + 16, y + 3, f"view {number + 1}"))
    return svg(700, 312, "Three views of each of two clients", *parts)


def loss() -> str:
    """Vectors of the views before and after a step: together, and apart."""
    before = {BLUE: [(110, 80), (190, 180), (60, 170)], ORANGE: [(150, 120), (240, 90), (120, 210)]}
    after = {
        BLUE: [(420, 90), (450, 115), (415, 130)],
        ORANGE: [(580, 180), (610, 195), (570, 215)],
    }
    parts = [text(20, 28, "before training"), text(380, 28, "after")]
    for colour, places in before.items():
        parts += [line(*a, *b, colour) for a, b in itertools.combinations(places, 2)]
    parts += [line(*a, *b, GREY, dashed=True) for a in before[BLUE] for b in before[ORANGE]]
    parts += [
        dot(x, y, c) for places in (before, after) for c, found in places.items() for x, y in found
    ]
    parts += [
        text(20, 262, "solid: views of one client, pulled together", fill=INK),
        text(20, 282, "dashed: views of two clients, pushed apart", fill=INK),
        text(470, 100, "client A"),
        text(630, 200, "client B"),
        text(330, 140, "&#8594;", fill=GREY),
    ]
    return svg(700, 300, "The loss pulls views of one client together", *parts)


def mining() -> str:
    """One anchor, others by distance, and what each miner takes of them."""
    others = [(150, ORANGE), (190, ORANGE), (250, BLUE), (300, ORANGE), (420, ORANGE)]
    others += [(520, ORANGE), (600, ORANGE)]
    chosen = {
        "hard_negatives (k: 2)": [0, 1],
        "semi_hard": [3],
        "batch_hard": [0],
        "random_negatives (k: 2)": [1, 5],
        "all_negatives": [0, 1, 3, 4, 5, 6],
    }
    parts = [text(200, 28, "distance from the anchor"), line(370, 24, 650, 24, GREY)]
    parts.append(text(650, 29, "&#9654;", fill=GREY))
    for row, (name, taken) in enumerate(chosen.items()):
        y = 62 + 40 * row
        parts += [text(20, y + 5, name), dot(200, y, BLUE, ring=True)]
        for number, (x, colour) in enumerate(others):
            on = number in taken or (number == 2 and name != "all_negatives")
            shade = colour if number in taken or colour == BLUE else GREY
            parts.append(dot(x + 80, y, shade, ring=on and number in taken))
    parts += [
        text(200, 278, "ringed on the left: the anchor", fill=INK),
        text(200, 298, "blue: another view of its client, the positive", fill=BLUE),
        text(200, 318, "orange: the negatives that are chosen; grey: not looked at", fill=ORANGE),
    ]
    return svg(700, 340, "Which negatives a miner chooses", *parts)


def pooling() -> str:
    """Encoded events, statistics over them, one vector."""
    columns = [[0.9, 0.4, 0.7, 0.2], [0.3, 0.8, 0.5, 0.6], [0.6, 0.1, 0.9, 0.4]]
    parts = [text(40, 28, "encoded events"), text(330, 28, "pooling"), text(520, 28, "vector")]
    for event, numbers in enumerate(columns):
        for dimension, value in enumerate(numbers):
            parts.append(cell(40 + 60 * event, 50 + 34 * dimension, value))
        parts.append(text(58 + 60 * event, 206, f"x_{event + 1}", anchor="middle"))
    rows = list(zip(*columns, strict=True))
    ways = {
        "mean": [sum(row) / 3 for row in rows],
        "max": [max(row) for row in rows],
        "last": [row[-1] for row in rows],
    }
    for number, (name, found) in enumerate(ways.items()):
        y = 66 + 46 * number
        parts += [line(225, 115, 320, y - 4, GREY), text(330, y, name)]
        parts.append(line(375, y - 4, 505, 50 + 50 * number + 18, GREY))
        for dimension, value in enumerate(found):
            parts.append(cell(510 + 30 * dimension, 50 + 50 * number, value, width=26))
    parts.append(
        text(40, 240, "Each dimension is pooled by itself. All poolings together are the vector.")
    )
    return svg(700, 260, "Pooling turns encoded events into one vector", *parts)


def cell(x: float, y: float, value: float, width: float = 36) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="28" rx="3" fill="{BLUE}" '
        f'fill-opacity="{0.15 + 0.85 * value:.2f}"/>'
    )


PICTURES = {"views": views, "loss": loss, "mining": mining, "pooling": pooling}
"""Name of the file -> what draws it."""


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(draw(), encoding="utf-8")
