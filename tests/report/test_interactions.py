"""Using a report in a browser: zoom, move, point, choose, search; dark mode and phones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browser import BROWSER, Browser
from small import card_events

from seqmel.evaluation.map_layouts import MapLayout
from seqmel.inference.explain import explain
from seqmel.model import Model
from seqmel.report.maps import map_page
from seqmel.report.page import render
from seqmel.report.writing import write_report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on PATH"),
]
MAP = "document.querySelector('canvas')"
EXPLORED = "document.querySelector('#explorer-body .row strong').textContent"


@pytest.fixture(scope="module")
def report(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of 24 clients, coloured by kind and size."""
    events = card_events()
    ids = sorted(set(events.column("client_id").to_pylist()))
    labels = pd.DataFrame(
        {"client_id": ids, "kind": [f"k{i % 3}" for i in ids], "size": [i / 7 for i in ids]}
    )
    page = tmp_path_factory.mktemp("report") / "a.html"
    reasons = page.with_name("reasons.parquet")
    explain(model, events, ids[:2], orders=2).to_parquet(reasons, index=False)
    targets = ["kind", "size"]
    write_report(model, events, page, labels=labels, targets=targets, reasons=reasons, device="cpu")
    return page


@pytest.fixture(scope="module")
def window(report: Path) -> Iterator[Browser]:
    """One browser for all."""
    with Browser(report.parent) as browser:
        yield browser


@pytest.fixture
def opened(window: Browser, report: Path) -> Iterator[Browser]:
    """The page, loaded anew in a window of a computer; it complains of nothing."""
    window.window(1200, 900)
    window.open(report)
    window.run(f"{MAP}.scrollIntoView({{block: 'center'}})")
    window.frame()
    yield window
    assert window.complaints == []


def drawn(browser: Browser) -> str:
    """What is on the canvas."""
    browser.frame()
    return str(browser.run(f"{MAP}.toDataURL()"))


def box(browser: Browser) -> tuple[float, float, float, float]:
    """Left, top, width and height of the map in the window."""
    found = browser.run(
        f"(() => {{ const b = {MAP}.getBoundingClientRect(); return [b.x, b.y, b.width, "
        f"b.height]; }})()"
    )
    left, top, width, height = found
    return left, top, width, height


def spot(browser: Browser, client: int) -> tuple[float, float]:
    """Where a client of the whole map is in the window, computed from the data of the page."""
    left, top, width, height = box(browser)
    x, y = (browser.run(f"page.map.layouts[0].{axis}") for axis in "xy")
    scale = min(width / (max(x) - min(x) + 60), height / (max(y) - min(y) + 60))
    across, up = x[client] - (min(x) + max(x)) / 2, y[client] - (min(y) + max(y)) / 2
    return left + width / 2 + across * scale, top + height / 2 - up * scale


def press(browser: Browser, words: str) -> None:
    """Click a button by its text or label."""
    browser.run(
        f"[...document.querySelectorAll('button')].find((b) => b.textContent === {words!r} ||"
        f" b.getAttribute('aria-label') === {words!r}).click()"
    )
    browser.frame()


def choose(browser: Browser, place: int, option: int) -> None:
    """Choose an option of the select boxes of the map."""
    browser.run(
        f"(() => {{ const s = document.querySelectorAll('#map select')[{place}];"
        f" s.value = {option};"
        " s.dispatchEvent(new Event('change')); })()"
    )
    browser.frame()


def lone(browser: Browser) -> int:
    """A client that no other lies on, and that is not chosen yet."""
    x, y = (browser.run(f"page.map.layouts[0].{axis}") for axis in "xy")
    chosen = browser.run("selected")
    apart = {
        i: min((x[i] - x[j]) ** 2 + (y[i] - y[j]) ** 2 for j in range(len(x)) if j != i)
        for i in range(len(x)) if i != chosen
    }  # fmt: skip
    return max(apart, key=lambda i: apart[i])


def test_each_client_with_reasons_has_a_timeline_with_a_stroke_per_event(opened: Browser) -> None:
    strokes = "document.querySelectorAll('#reasons-body .card:first-child svg line title').length"
    assert opened.run("document.querySelectorAll('#reasons-body .card').length") == 2
    assert opened.run(strokes) == opened.run("page.reasons[0].moments.length") > 0


def test_buttons_keys_and_wheel_zoom_and_the_whole_map_comes_back(opened: Browser) -> None:
    whole = drawn(opened)
    left, top, width, height = box(opened)
    press(opened, "Zoom in")
    near = drawn(opened)
    press(opened, "Zoom out")
    assert near != whole
    opened.run(f"{MAP}.focus()")
    opened.key("0")
    assert drawn(opened) == whole
    for turn in ("+", "wheel"):
        if turn == "wheel":
            opened.mouse("mouseWheel", left + width / 3, top + height / 3, deltaX=0, deltaY=-200)
        else:
            opened.key(turn)
        assert drawn(opened) != whole
        press(opened, "Show the whole map")
        opened.mouse("mouseMoved", left - 20, top - 20)
        assert drawn(opened) == whole


def test_the_wheel_keeps_what_is_under_it_in_its_place(opened: Browser) -> None:
    client = lone(opened)
    x, y = spot(opened, client)
    opened.mouse("mouseWheel", x, y, deltaX=0, deltaY=-300)
    opened.click(x, y)
    assert opened.run("selected") == client


def test_at_its_farthest_the_wheel_scrolls_the_page(opened: Browser) -> None:
    left, top, width, height = box(opened)
    before = opened.run("scrollY")
    opened.mouse("mouseWheel", left + width / 2, top + height / 2, deltaX=0, deltaY=600)
    opened.frame()
    assert opened.run("scrollY") == before
    for _ in range(3):
        opened.mouse("mouseWheel", left + width / 2, top + height / 2, deltaX=0, deltaY=200)
        opened.frame()
    assert opened.run("new Promise((done) => setTimeout(() => done(scrollY), 300))") > before


def test_dragging_and_arrows_move_and_choose_nothing(opened: Browser) -> None:
    before, whole = opened.run("selected"), drawn(opened)
    x, y = spot(opened, lone(opened))
    left, top, width, height = box(opened)
    dx, dy = (60 if x < left + width / 2 else -60), (40 if y < top + height / 2 else -40)
    opened.drag(x, y, dx, dy)
    assert opened.run("selected") == before
    opened.click(x + dx, y + dy)
    assert opened.run("selected") != before
    press(opened, "Show the whole map")
    opened.run(f"{MAP}.focus()")
    opened.key("ArrowLeft")
    assert drawn(opened) != whole


def test_pointing_tells_of_a_client_and_leaving_ends_it(opened: Browser) -> None:
    client = lone(opened)
    opened.mouse("mouseMoved", *spot(opened, client))
    opened.frame()
    name = opened.run(f"page.clients[{client}].id")
    tip = "document.querySelector('.tip')"
    assert opened.run(f"{tip}.hidden") is False
    assert opened.run(f"{tip}.textContent").startswith(f"{name}: kind k")
    left, top, width, _ = box(opened)
    placed = opened.run(
        f"(() => {{ const b = {tip}.getBoundingClientRect(); return [b.left, b.right]; }})()"
    )
    assert left <= placed[0] < placed[1] <= left + width
    opened.mouse("mouseMoved", left - 30, top - 30)
    opened.frame()
    assert opened.run(f"{tip}.hidden") is True


def test_a_map_alone_tells_of_a_client_and_its_label_and_takes_clicks(
    window: Browser, tmp_path: Path
) -> None:
    points = np.random.default_rng(0).normal(size=(12, 2))
    layouts = [MapLayout(name, "a note", points, 1.0, 0.5) for name in ("PCA", "t-SNE")]
    labels = pd.Series(["a", "b"] * 6, name="kind")
    for given, words in ((labels, "x3: kind b"), (None, "x3")):
        made = map_page(layouts, [f"x{i}" for i in range(12)], given, of="v.parquet")
        page = tmp_path / "map.html"
        page.write_text(render(made), encoding="utf-8")
        window.window(1200, 900)
        window.open(page)
        window.run(f"{MAP}.scrollIntoView({{block: 'center'}})")
        window.frame()
        choose(window, 0, 1)
        window.mouse("mouseMoved", *spot(window, 3))
        window.frame()
        assert window.run("document.querySelector('.tip').textContent") == words
        for kind in ("mousePressed", "mouseReleased"):
            window.mouse(kind, *spot(window, 3))
        window.frame()
        assert window.complaints == []


def test_a_click_opens_the_client_in_the_explorer_and_the_map_leads_there(opened: Browser) -> None:
    client = lone(opened)
    opened.click(*spot(opened, client))
    name = opened.run(f"page.clients[{client}].id")
    assert opened.run(EXPLORED) == name
    assert opened.run("document.querySelector('#map strong').textContent") == name
    opened.run("document.querySelector('#map a').click()")
    opened.frame()
    assert 0 <= opened.run("at('explorer').getBoundingClientRect().top") < 450


def test_layouts_and_colours_can_be_chosen(opened: Browser) -> None:
    names = opened.run("page.map.layouts.map((l) => l.name)")
    assert names[:2] == ["PCA", "t-SNE"]
    seen = [drawn(opened)]
    for option in range(1, len(names)):
        choose(opened, 0, option)
        seen.append(drawn(opened))
    choose(opened, 0, 0)
    assert drawn(opened) == seen[0]
    colourings = opened.run("page.map.colourings.map((c) => c.name)")
    for option, name in enumerate(colourings[1:], 1):
        choose(opened, 1, option)
        seen.append(drawn(opened))
        assert name in opened.run(f"{MAP}.getAttribute('aria-label')")
    assert len(set(seen)) == len(seen)


def test_every_point_is_on_the_whole_map_and_it_fills_the_canvas(opened: Browser) -> None:
    for option, _ in enumerate(opened.run("page.map.layouts")):
        choose(opened, 0, option)
        width, height = box(opened)[2:]
        x, y = (opened.run(f"page.map.layouts[{option}].{axis}") for axis in "xy")
        scale = min(width / (max(x) - min(x) + 60), height / (max(y) - min(y) + 60))
        assert (max(x) - min(x)) * scale < width
        assert (max(y) - min(y)) * scale < height
        filled = max((max(x) - min(x)) * scale / width, (max(y) - min(y)) * scale / height)
        assert filled > 0.9
        drawn_at = opened.run(
            f"(() => {{ const d = {MAP}.getContext('2d').getImageData(0, 0, {MAP}.width,"
            f" {MAP}.height), rows = [];"
            " for (let i = 3; i < d.data.length; i += 4)"
            " if (d.data[i]) rows.push((i >> 2) % d.width);"
            " return [Math.min(...new Set(rows)), Math.max(...new Set(rows))]; })()"
        )
        assert drawn_at[0] >= 0
        assert drawn_at[1] - drawn_at[0] == pytest.approx((max(x) - min(x)) * scale, abs=24)


def test_searches_neighbours_and_names_open_clients(opened: Browser) -> None:
    lists = "document.querySelectorAll('#explorer .list button')"
    opened.run(f"{lists}[1].click()")
    opened.frame()
    assert opened.run(f"{lists}[1].getAttribute('aria-pressed')") == "true"
    assert opened.run(EXPLORED) == opened.run(f"{lists}[1].firstChild.textContent")
    assert opened.run("document.querySelectorAll('#explorer svg rect').length") == 2
    neighbour = opened.run("document.querySelector('#explorer .row .link').textContent")
    opened.run("document.querySelector('#explorer .row .link').click()")
    assert opened.run(EXPLORED) == neighbour
    assert (
        opened.run(f"[...{lists}].filter((b) => b.getAttribute('aria-pressed') === 'true').length")
        == 0
    )
    typed = (
        "(() => {{ const i = at('who'); i.value = {!r}; i.dispatchEvent(new Event('change')); }})()"
    )
    last = opened.run("page.clients[page.clients.length - 1].id")
    opened.run(typed.format(last))
    assert opened.run(EXPLORED) == last
    opened.run(typed.format("nobody"))
    assert (
        opened.run("document.querySelector('[role=status]').textContent")
        == "No such client among those shown."
    )
    assert opened.run(EXPLORED) == last


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, 10, 90], [0, 10, 90]),
        ([10, 10, 10, 50, 90], [10, 13, 16, 50, 90]),
        ([10, 10, 10, 10, 14], [10, 11, 12, 13, 14]),
        ([10, 99, 99, 99], [10, 97, 98.5, 100]),
        ([99, 100, 100, 100], [99, 99, 99.5, 100]),
    ],
)
def test_events_at_one_time_stand_side_by_side(
    times: list[int], expected: list[float], opened: Browser
) -> None:
    assert opened.run(f"places({times}, (t) => t, 100)") == expected


def test_of_many_values_the_commonest_of_those_shown_have_a_colour(opened: Browser) -> None:
    opened.run("page.tone.values = Array.from({length: 20}, (_, i) => 'v' + i)")
    shown = "[{tones: [19, 19, 19, 4, 4, 20, 20, 20, 20]}, {tones: [9, 4, 4, 1, 2, 3, 5, 6, 7, 8]}]"
    assert opened.run(f"[...paints({shown})]") == [
        [v, f"c{i}"] for i, v in enumerate([4, 19, 1, 2, 3, 5, 6])
    ]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 0.673, [0, 0.5, 1]),
        (1.9, 22.1, [0, 10, 20, 30]),
        (0, 189, [0, 100, 200]),
        (-3, 4, [-5, 0, 5]),
    ],
)
def test_axes_have_round_numbers_around_all_values(
    low: float, high: float, expected: list[float], opened: Browser
) -> None:
    assert opened.run(f"ticks({low}, {high})") == expected


def test_in_the_dark_everything_has_other_colours_also_after_a_change_of_mind(
    opened: Browser, report: Path
) -> None:
    paper, light = "getComputedStyle(document.body).backgroundColor", drawn(opened)
    white = opened.run(paper)
    opened.window(1200, 900, dark=True)
    dark = drawn(opened)
    assert dark != light
    assert opened.run(paper) != white
    opened.open(report)
    opened.run(f"{MAP}.scrollIntoView({{block: 'center'}})")
    assert drawn(opened) == dark
    opened.window(1200, 900)
    assert drawn(opened) == light


@pytest.fixture
def phone(window: Browser, report: Path) -> Iterator[Browser]:
    """The page on a phone."""
    window.window(360, 740, phone=True)
    window.open(report)
    window.run(f"{MAP}.scrollIntoView({{block: 'center'}})")
    window.frame()
    yield window
    assert window.complaints == []


def test_on_a_phone_nothing_is_wider_than_the_window(phone: Browser) -> None:
    assert phone.run("document.documentElement.scrollWidth") == 360
    beyond: Any = phone.run(
        "[...document.querySelectorAll('main *')].filter((e) => !e.closest('.scroll') && "
        "!e.closest('svg') && e.getClientRects().length && e.getBoundingClientRect().right > "
        "361).map((e) => e.outerHTML.slice(0, 80))"
    )
    assert beyond == []


def test_on_a_phone_a_tap_chooses_a_pinch_zooms_and_a_finger_scrolls_past_the_whole_map(
    phone: Browser,
) -> None:
    client = lone(phone)
    x, y = spot(phone, client)
    phone.touch("touchStart", (x, y))
    phone.touch("touchEnd")
    phone.frame()
    assert phone.run("selected") == client
    assert phone.run(f"{MAP}.style.touchAction") == "pan-y"
    left, top, width, height = box(phone)
    middle = (left + width / 2, top + height / 2)
    before = drawn(phone)
    phone.touch("touchStart", (middle[0] - 20, middle[1]), (middle[0] + 20, middle[1]))
    for apart in (30, 45, 60):
        phone.touch("touchMove", (middle[0] - apart, middle[1]), (middle[0] + apart, middle[1]))
    phone.touch("touchEnd")
    assert drawn(phone) != before
    assert phone.run(f"{MAP}.style.touchAction") == "none"
    assert phone.run("visualViewport.scale") == 1


def test_a_slice_is_shaded_where_its_events_are_shown_and_nowhere_else(opened: Browser) -> None:
    client = "{id: 'a', times: [100, 1], heights: [], tones: [0, 0], numbers: [1, 2]}"
    slices = "[[[0, 50], 'accent'], [[90, 100], 'c1']]"
    shaded = f"[...timeline({client}, [100, 101], {slices}, new Map()).querySelectorAll('rect')]"
    assert opened.run(f"{shaded}.map((r) => Number(r.getAttribute('x')) >= 0)") == [True]
