"""The report: its counts and contents, and that data cannot inject code."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import json
import re
import shutil
import subprocess
import sys
import types
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from small import card_events, tiny_config

import seqmel
from seqmel.cli import main as command_line
from seqmel.config import Config
from seqmel.core.embedding_metrics import embedding_metrics
from seqmel.core.errors import InputError
from seqmel.data.sequences.prepared import PreparedSequences
from seqmel.evaluation.audit_results import Audit, AuditFigure
from seqmel.evaluation.results import Score, Scores
from seqmel.evaluation.retrieval_metrics import Figure
from seqmel.inference.explain import explain
from seqmel.model import Model, load_model
from seqmel.report.events import decoded, describe
from seqmel.report.maps import colouring, draw_map
from seqmel.report.reasons import read_reasons, reasons
from seqmel.report.searches import _slices, explore, nearest, timelines
from seqmel.report.writing import draw_sample, write_report
from seqmel.training.run import prepare, train

EVENTS = card_events()
HOSTILE = "</script><img src=x onerror=document.title='owned'>&\u2028<!--"
BROWSER = (
    shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
)
Refusal = Callable[..., str]


@pytest.fixture(scope="module")
def prepared(model: Model, tmp_path_factory: pytest.TempPathFactory) -> PreparedSequences:
    """`card_events()` with the model's vocabulary."""
    return prepare(
        EVENTS, tmp_path_factory.mktemp("prepared") / "sequences", model=model, config=model.config
    )


@pytest.fixture(scope="module")
def scores_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `seqmel evaluate --json` writes."""
    rows = tuple(
        Score(name, m, (0.6, 0.7, 0.9))
        for name in ("aggregates", "ours")
        for m in ("accuracy", "auroc")
    )
    found = Scores(
        "kind",
        "classification",
        "auroc",
        rows,
        24,
        24,
        {"aggregates": 24, "ours": 24},
        {"a": 12, "b": 12},
        0,
        10,
    )
    path = tmp_path_factory.mktemp("scores") / "scores.json"
    path.write_text(json.dumps([found.to_json()]), encoding="utf-8")
    return path


def by_client() -> dict[int, list[dict[str, Any]]]:
    """The events of each client in time order: a slow loop."""
    found: dict[int, list[dict[str, Any]]] = {}
    for event in sorted(EVENTS.to_pylist(), key=lambda e: e["event_time"]):
        found.setdefault(event["client_id"], []).append(event)
    return found


def labels() -> pd.DataFrame:
    """A class and a quantity for most clients."""
    ids = list(by_client())[2:]
    return pd.DataFrame(
        {"client_id": ids, "kind": [f"k{i % 3}" for i in ids], "size": [i / 7 for i in ids]}
    )


def data_of(path: Path) -> dict[str, Any]:
    """The JSON in a page."""
    text = path.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="page">(.*?)</script>', text, re.S)
    assert found
    return dict(json.loads(found[1]))


def test_reasons_of_explain_are_timelines_on_the_page(model: Model, tmp_path: Path) -> None:
    found = explain(model, EVENTS, [100, 107], orders=2)
    found.to_parquet(tmp_path / "reasons.parquet", index=False)
    page = tmp_path / "a.html"
    write_report(model, EVENTS, page, reasons=tmp_path / "reasons.parquet", device="cpu")
    first, second = data_of(page)["reasons"]
    assert (first["client"], second["client"]) == ("100", "107")
    rows = found[found["client_id"] == 100]
    assert first["score"] == pytest.approx(rows["contribution"].sum())
    assert first["moments"][-1]["score"] == pytest.approx(first["score"])
    assert len(first["moments"]) == rows["event"].nunique()
    places = [moment["place"] for moment in first["moments"]]
    assert (places[0], places[-1]) == (0, 1)
    assert places == sorted(places)
    assert "mcc: " in first["moments"][0]["values"]
    columns = rows[rows["part"] == "event"].groupby("column")["contribution"].sum()
    assert {c["name"]: c["contribution"] for c in first["columns"]} == pytest.approx(
        columns.to_dict()
    )


def test_reasons_over_several_tables_are_those_without_the_name_of_the_table(
    tmp_path: Path,
) -> None:
    row = {"client_id": 7, "output": "y=1", "part": "baseline", "event": None, "time": None}
    row |= {"column": None, "value": None, "contribution": 0.5}
    event = {"part": "event", "event": 1, "time": pd.Timestamp("2023-01-01"), "column": "cards.mcc"}
    found = pd.DataFrame([row, row | event | {"value": "5411", "contribution": 0.25}])
    found.to_parquet(tmp_path / "one.parquet", index=False)
    found.insert(5, "source", [None, "cards"])
    found.to_parquet(tmp_path / "several.parquet", index=False)
    one, several = (reasons(read_reasons(tmp_path / f"{n}.parquet")) for n in ("one", "several"))
    assert one == several
    assert [reason.score for reason in several] == [0.75]


def test_what_is_no_file_of_reasons_is_one_line(model: Model, tmp_path: Path) -> None:
    EVENTS.to_pandas().to_parquet(tmp_path / "events.parquet")
    (tmp_path / "text.parquet").write_text("no")
    for name, words in (
        ("none.parquet", "No such file"),
        ("events.parquet", "is not what `seqmel explain -o` writes"),
        ("text.parquet", "is not what `seqmel explain -o` writes"),
    ):
        with pytest.raises(InputError, match=words):
            write_report(model, EVENTS, tmp_path / "a.html", reasons=tmp_path / name)
    assert not (tmp_path / "a.html").exists()


def test_an_audit_is_a_table_per_attack_beside_chance(model: Model, tmp_path: Path) -> None:
    figures = (
        AuditFigure("attribute", "gender", "aggregates", "auroc", Figure(0.7, 0.6, 0.8), 0.5, 24),
        AuditFigure("re-identification", "5 events", "int8", "recall@1", Figure(0.2, 0, 1), 0.1, 9),
        AuditFigure("attribute", "gender", "int8", "auroc", Figure(0.9, 0.8, 1), 0.5, 24, "linear"),
    )
    audit = Audit(figures, ("Membership was left out.",), 0)
    assert Audit.from_json(json.loads(json.dumps(audit.to_json()))) == audit
    (tmp_path / "audit.json").write_text(json.dumps(audit.to_json()), encoding="utf-8")
    write_report(
        model, EVENTS, tmp_path / "a.html", audit=tmp_path / "audit.json", clients=2, device="cpu"
    )
    shown = data_of(tmp_path / "a.html")["audit"]
    found, inferred = shown["tables"]
    assert found["title"].startswith("Re-identification")
    assert [row["vectors"] for row in inferred["rows"]] == ["aggregates", "int8"]
    assert inferred["rows"][1] == {
        "of": "gender", "vectors": "int8", "metric": "auroc", "mean": 0.9, "low": 0.8, "high": 1.0,
        "chance": 0.5, "clients": 24,
    }  # fmt: skip
    assert shown["remarks"] == ["Membership was left out."]


@pytest.mark.parametrize(
    "text", ["[1]", "no", '{"figures": [], "remarks": [], "seed": 0}', '{"figures": [{}]}', "null"]
)
def test_what_is_no_audit_is_refused(refusal: Refusal, tmp_path: Path, text: str) -> None:
    (tmp_path / "audit.json").write_text(text, encoding="utf-8")
    assert "seqmel audit MODEL EVENTS -o" in refusal("--audit", tmp_path / "audit.json")
    assert "No such file" in refusal("--audit", tmp_path / "none.json")


def test_lengths_gaps_and_categories_equal_a_slow_loop(prepared: PreparedSequences) -> None:
    sequences, clients = prepared.sequences, by_client()
    data = describe(sequences, prepared.vocabulary, torch.arange(len(sequences)))
    assert (data.clients, data.events) == (len(clients), len(EVENTS))
    lengths: Counter[str] = Counter()
    gaps: Counter[str] = Counter()
    for events in clients.values():
        n = len(events)
        lengths["3–4" if n < 5 else "5–9" if n < 10 else "10–19" if n < 20 else "20–49"] += 1
        for a, b in itertools.pairwise(events):
            s = (b["event_time"] - a["event_time"]).total_seconds()
            ends = [
                (10, "10 s"),
                (60, "1 min"),
                (600, ("10 min")),
                (3600, "1 h"),
                (21600, "6 h"),
                (86400, "1 day"),
                (259200, "3 days"),
                (604800, "1 week"),
                (2592000, "30 days"),
                (7776000, "90 days"),
            ]
            gaps[next((f"under {name}" for end, name in ends if s < end), "under 1 year")] += 1
    assert {bar.name: bar.count for bar in data.lengths if bar.count} == lengths
    assert {bar.name: bar.count for bar in data.gaps if bar.count} == gaps
    city = next(c for c in data.columns if c.name == "city")
    values = Counter(EVENTS.column("city").to_pylist())
    assert {bar.name: bar.count for bar in city.top} == {k: n for k, n in values.items() if k}
    assert city.nulls == pytest.approx(values[None] / len(EVENTS))
    moments = [e["event_time"] for e in EVENTS.to_pylist()]
    assert data.first == min(moments).isoformat(" ", "minutes")
    assert data.last == max(moments).isoformat(" ", "minutes")


def test_values_that_training_did_not_see_are_counted(model: Model, tmp_path: Path) -> None:
    """A third of the events in a city that is new."""
    new = EVENTS.slice(0, 90)
    cities = pa.array(["Narvik" if i % 3 == 0 else "Oslo" for i in range(90)])
    new = new.set_column(new.column_names.index("city"), "city", cities)
    again = prepare(new, tmp_path / "new", model=model, config=model.config)
    city = next(
        c
        for c in describe(again.sequences, again.vocabulary, torch.arange(3)).columns
        if c.name == "city"
    )
    assert city.unseen == pytest.approx(1 / 3)


def test_numbers_are_decoded_to_what_they_were(prepared: PreparedSequences) -> None:
    """Also those that are scaled within a category; but for the clipped ones."""
    sequences, clients = prepared.sequences, by_client()
    batch = sequences.gather_last(torch.arange(len(sequences)), max_events=4096)
    ids = sequences.client_ids.to_pylist()
    for name in ("amount", "reading"):
        wanted = np.array([e[name] for i in ids for e in clients[i]], np.float64)
        kept = (batch.columns[name].abs() < 10).numpy()
        np.testing.assert_allclose(
            decoded(batch, name, prepared.vocabulary.numeric[name])[kept], wanted[kept], rtol=1e-4
        )
        assert (
            np.isnan(decoded(batch, name, prepared.vocabulary.numeric[name])).sum()
            == np.isnan(wanted).sum()
        )


def test_searches_in_a_model_that_learnt_from_labels_need_no_labels(
    model: Model, prepared: PreparedSequences
) -> None:
    part = {"name": "supervised_contrastive", "labels": "gone.parquet", "target": "kind"}
    settled = Config.from_dict(model.config.to_dict() | {"objective": ["coles", part]})
    with_labels = dataclasses.replace(model, config=settled)
    found, expected = (
        explore(m, prepared.sequences, 0, device=torch.device("cpu")) for m in (with_labels, model)
    )
    assert found == expected


def test_the_ranks_of_the_searches_equal_a_slow_loop_and_the_figures_of_validation(
    model: Model, prepared: PreparedSequences
) -> None:
    slices = _slices(model, prepared.sequences, torch.device("cpu"))
    found = explore(model, prepared.sequences, 0, device=torch.device("cpu"))
    assert found is not None
    x = slices.vectors.numpy()
    x = (x - x.mean(0)) / np.linalg.norm(x - x.mean(0), axis=1, keepdims=True)
    ranks: dict[int, list[int]] = {}
    for i in range(len(x)):
        mate = next(j for j in range(len(x)) if j != i and slices.clients[j] == slices.clients[i])
        apart = [np.linalg.norm(x[i] - x[j]) for j in range(len(x))]
        nearer = [j for j in range(len(x)) if j not in (i, mate) and apart[j] < apart[mate]]
        ranks.setdefault(int(slices.clients[i]), []).append(1 + len(nearer))
    every = [r for rs in ranks.values() for r in rs]
    assert embedding_metrics(slices.vectors, slices.clients)["recall_at_1"] == pytest.approx(
        np.mean(np.array(every) == 1)
    )
    facts = {fact.name: fact.value for fact in found.facts}
    assert facts["recall@1"] == f"{np.mean(np.array(every) == 1):.3f}"
    assert facts["median rank"].startswith(f"{np.median(every):.4g} of ")
    assert [s.rank for s in found.worst] == sorted((max(r) for r in ranks.values()), reverse=True)[
        : len(found.worst)
    ]
    assert all(s.rank in ranks[s.client] for s in (*found.best, *found.worst))


def test_neighbours_are_those_of_the_largest_cosine_and_never_the_client_itself() -> None:
    vectors = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    places, cosines = nearest(vectors)
    x = vectors - vectors.mean(0)
    for i in range(12):
        likeness = {
            j: float(x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j]))
            for j in range(12)
            if j != i
        }
        assert places[i] == sorted(likeness, key=lambda j: -likeness[j])[:5]
        assert cosines[i] == pytest.approx([likeness[j] for j in places[i]], abs=1e-3)


def test_timelines_hold_the_events_as_they_were(prepared: PreparedSequences) -> None:
    sequences, clients = prepared.sequences, by_client()
    ids = sequences.client_ids.to_pylist()
    vectors = np.random.default_rng(0).normal(size=(len(ids), 4)).astype(np.float32)
    tone, people = timelines(sequences, prepared.vocabulary, vectors, [str(i) for i in ids], 0)
    assert tone.number == "amount"
    for i, person in zip(ids, people, strict=True):
        events = clients[i]
        assert person.length == len(events)
        minutes = [
            int(e["event_time"].replace(tzinfo=dt.timezone.utc).timestamp() // 60) for e in events
        ]
        assert np.cumsum(person.times).tolist() == minutes
        names = [tone.values[t] if t < len(tone.values) else None for t in person.tones]
        assert names == [
            str(e[tone.column]) if e[tone.column] is not None else "null" for e in events
        ]
        for shown, event in zip(person.numbers, events, strict=True):
            assert (shown is None) == (event["amount"] != event["amount"])


@pytest.mark.parametrize(
    ("values", "classes", "found"),
    [
        (["b", "a", "b", None], ["a", "b"], [1, 0, 1, None]),
        ([1.0, 0.0, 1.0, np.nan], ["0", "1"], [1, 0, 1, None]),
        (["10", "9", "x", "--9"], ["9", "10", "--9", "x"], [1, 0, 3, 2]),
        ([*"ihgfedcba", "i"], [*"iabcdef", "all others"], [0, 7, 7, 6, 5, 4, 3, 2, 1, 0]),
        ([i + 0.5 for i in range(20)], [], [i + 0.5 for i in range(20)]),
    ],
)
def test_a_label_is_a_class_or_a_quantity(
    values: list[Any], classes: list[str], found: list[Any]
) -> None:
    made = colouring("label", pd.Series(values))
    assert made.classes == classes
    assert made.values == found


def test_rare_classes_share_a_colour() -> None:
    made = colouring("label", pd.Series([f"c{i}" for i in range(30) for _ in range(30 - i)]))
    assert len(made.classes) == 8
    assert made.classes[-1] == "all others"
    assert max(v for v in made.values if v is not None) == 7


def test_umap_is_drawn_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra; here a stand-in with its interface."""
    vectors = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)

    class UMAP:
        def __init__(self, *, n_neighbors: int, random_state: int) -> None:
            assert n_neighbors < 12

        def fit_transform(self, points: Any) -> Any:
            return points[:, :2]

    module = types.ModuleType("umap")
    module.UMAP = UMAP  # type: ignore[attr-defined]
    module.__spec__ = __import__("importlib").machinery.ModuleSpec("umap", None)
    monkeypatch.setitem(sys.modules, "umap", module)
    drawn = draw_map(vectors, [], seed=0)
    assert drawn is not None
    assert [layout.name for layout in drawn.layouts] == ["PCA", "t-SNE", "UMAP"]
    monkeypatch.setitem(sys.modules, "umap", None)
    drawn = draw_map(vectors, [], seed=0)
    assert drawn is not None
    assert [layout.name for layout in drawn.layouts] == ["PCA", "t-SNE"]
    assert "seqmel[umap]" in drawn.missing[0]


def test_equal_vectors_give_a_map_of_one_point() -> None:
    drawn = draw_map(np.ones((12, 4), np.float32), [], seed=0)
    assert drawn is not None
    assert set(drawn.layouts[0].x) == {500}


def test_a_sample_follows_from_its_seed() -> None:
    assert draw_sample(100, 10, 0).tolist() == draw_sample(100, 10, 0).tolist()
    assert draw_sample(100, 10, 0).tolist() != draw_sample(100, 10, 1).tolist()
    assert draw_sample(5, 10, 0).tolist() == [0, 1, 2, 3, 4]


def test_the_same_seed_gives_the_same_file_and_the_map_knows_the_labels(
    model: Model, scores_file: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "labels": labels(),
        "targets": ["kind", "size"],
        "scores": [scores_file],
        "clients": 12,
        "seed": 3,
        "device": "cpu",
    }
    size = write_report(model, EVENTS, tmp_path / "a.html", **options)
    write_report(model, EVENTS, tmp_path / "b.html", **options)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert (tmp_path / "a.html").stat().st_size == size
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.html", "b.html"]
    page = data_of(tmp_path / "a.html")
    assert [len(page["clients"]), page["data"]["clients"]] == [12, 24]
    kinds = dict(zip(labels()["client_id"].astype(str), labels()["kind"], strict=True))
    kind = page["map"]["colourings"][0]
    for client, value in zip(page["clients"], kind["values"], strict=True):
        assert (kind["classes"][int(value)] if value is not None else None) == kinds.get(
            client["id"]
        )
    assert page["quality"][0]["rows"][1]["texts"][0].startswith("0.733 ± ")


@pytest.mark.parametrize(
    ("of_labels", "option"), [("kunde", []), ("client_id", []), ("whom", ["--client", "whom"])]
)
def test_labels_are_read_by_any_client_column(
    of_labels: str, option: list[str], model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named as in the events, else recognised, else as --client says."""
    renamed = dataclasses.replace(model, schema=model.schema.model_copy(update={"client": "kunde"}))
    monkeypatch.setattr("seqmel.model.load_model", lambda _: renamed)
    pq.write_table(EVENTS.rename_columns({"client_id": "kunde"}), tmp_path / "events.parquet")
    labels().rename(columns={"client_id": of_labels}).to_parquet(tmp_path / "labels.parquet")
    given = [
        "report",
        "model",
        tmp_path / "events.parquet",
        "-o",
        tmp_path / "out.html",
        "--device",
        "cpu",
    ]
    given += ["--labels", tmp_path / "labels.parquet", "--target", "kind", *option]
    monkeypatch.setattr(sys, "argv", ["seqmel", *map(str, given)])
    with pytest.raises(SystemExit) as stopped:
        command_line.main()
    assert stopped.value.code == 0
    page = data_of(tmp_path / "out.html")
    kinds, kind = (
        dict(zip(labels()["client_id"].astype(str), labels()["kind"], strict=True)),
        page["map"]["colourings"][0],
    )
    found = {
        c["id"]: kind["classes"][int(v)]
        for c, v in zip(page["clients"], kind["values"], strict=True)
        if v is not None
    }
    assert found == kinds


def test_given_embeddings_are_matched_by_id(model: Model, tmp_path: Path) -> None:
    """In another order, and for some of the clients only: the others are not shown."""
    ids = list(by_client())[::-1][:15]
    vectors = pd.DataFrame({"client_id": ids, "emb_0000": [float(i) for i in ids], "emb_0001": 1.0})
    write_report(model, EVENTS, tmp_path / "a.html", embeddings=vectors, device="cpu")
    page = data_of(tmp_path / "a.html")
    assert {int(c["id"]) for c in page["clients"]} == set(ids)
    layout = page["map"]["layouts"][0]
    by_x = [int(page["clients"][i]["id"]) for i in np.argsort(layout["x"])]
    assert by_x in (sorted(ids), sorted(ids)[::-1])


def test_the_page_asks_for_nothing_from_outside_and_says_so_to_the_browser(
    model: Model, tmp_path: Path
) -> None:
    write_report(model, EVENTS, tmp_path / "a.html", device="cpu")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert not re.search(r"(https?:)?//[a-z0-9]", re.sub(r"^// .*$", "", text, flags=re.M), re.I)
    assert not re.search(
        r"<link|<img|<iframe|@import|url\(|\bsrc=|fetch\(|XMLHttp|innerHTML|insertAdjacent|eval\(",
        text,
    )
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    assert policy[1].startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy[1]
    assert not re.search(r"<[^>]+ style=", text)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, scores_file: Path) -> Path:
    """Return a page whose ids, values, columns, labels and feature sets all contain scripts."""
    folder = tmp_path_factory.mktemp("hostile")
    bad = f"city {HOSTILE}"
    events = EVENTS.rename_columns(
        [bad if name == "city" else name for name in EVENTS.column_names]
    )
    ids = [f"{HOSTILE}{i}" for i in EVENTS.column("client_id").to_pylist()]
    cities = [None if c is None else c + HOSTILE for c in EVENTS.column("city").to_pylist()]
    events = events.set_column(0, "client_id", pa.array(ids))
    events = events.set_column(events.column_names.index(bad), bad, pa.array(cities))
    trained = load_model(train(events, folder / "model", config=tiny_config()))
    known = pd.DataFrame({"client_id": sorted(set(ids))}).assign(
        **{HOSTILE: [HOSTILE + str(i % 2) for i in range(24)]}
    )
    scored = json.loads(
        scores_file.read_text(encoding="utf-8").replace("ours", json.dumps(HOSTILE)[1:-1])
    )
    (folder / "scores.json").write_text(json.dumps(scored), encoding="utf-8")
    write_report(
        trained,
        events,
        folder / "a.html",
        labels=known,
        targets=[HOSTILE],
        scores=[folder / "scores.json"],
        title=HOSTILE,
        device="cpu",
    )
    return folder / "a.html"


def test_nothing_in_the_data_ends_the_block_that_holds_it(hostile: Path) -> None:
    text = hostile.read_text(encoding="utf-8")
    assert text.count("</script>") == 2
    assert "<img" not in text
    assert "\u2028" not in text
    page = data_of(hostile)
    assert page["title"] == HOSTILE
    assert page["clients"][0]["id"].startswith(HOSTILE)
    assert page["quality"][0]["rows"][1]["features"] == HOSTILE


def in_browser(page: Path, *options: str) -> str:
    """What a browser makes of a page."""
    assert BROWSER
    arguments = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--enable-logging=stderr",
    ]
    profile = f"--user-data-dir={page.parent / 'profile'}"
    done = subprocess.run(
        [
            BROWSER,
            *arguments,
            profile,
            "--virtual-time-budget=4000",
            *options,
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    complaints = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    assert complaints == []
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on PATH")
def test_a_browser_draws_every_part_and_runs_nothing_of_the_data(hostile: Path) -> None:
    dom = in_browser(hostile)
    assert 'data-drawn="yes"' in dom
    assert "<title>owned</title>" not in dom
    outside = re.sub(r"<script.*?</script>", "", dom, flags=re.S)
    assert "<img" not in outside
    assert "&lt;img src=x onerror" in outside
    for part in ("run", "data", "quality", "map", "explorer"):
        body = re.search(rf'<div id="{part}-body">(.+?)</section>', outside, re.S)
        assert body, part
        assert len(body[1]) > 500, part
    assert outside.count('class="timeline"') == 6
    assert outside.count("<canvas") == 1
    assert "Worst searches" in outside


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on PATH")
def test_a_browser_draws_a_page_of_a_model_that_was_not_trained_and_has_no_extras(
    tmp_path: Path,
) -> None:
    config = tiny_config(training={"epochs": 0, "batch_size": 8})
    few = EVENTS.filter(pa.compute.less(EVENTS.column("client_id"), 130))
    untrained = load_model(train(EVENTS, tmp_path / "model", config=config))
    write_report(untrained, few, tmp_path / "a.html", device="cpu")
    dom = in_browser(tmp_path / "a.html")
    assert 'data-drawn="yes"' in dom
    for words in ("This model was not trained", "--scores FILE", "Fewer than ten clients"):
        assert words in dom


@pytest.fixture
def refusal(
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Refusal:
    """The one line with which `seqmel report` refuses; nothing is written."""
    pq.write_table(EVENTS, tmp_path / "events.parquet")
    labels().to_parquet(tmp_path / "clients.parquet")

    def run(*options: object, model: Path = model_folder) -> str:
        given = [
            "report",
            model,
            tmp_path / "events.parquet",
            "-o",
            tmp_path / "out.html",
            "--device",
            "cpu",
            *options,
        ]
        before = sorted(tmp_path.iterdir())
        monkeypatch.setattr(sys, "argv", ["seqmel", *map(str, given)])
        with pytest.raises(SystemExit) as stopped:
            command_line.main()
        lines = [
            line
            for line in capsys.readouterr().err.splitlines()
            if not line.startswith("prepared ")
        ]
        assert (stopped.value.code, len(lines)) == (2, 1), lines
        assert sorted(tmp_path.iterdir()) == before
        return lines[0]

    return run


def test_a_model_that_is_missing_is_refused(refusal: Refusal, tmp_path: Path) -> None:
    assert "No model folder" in refusal(model=tmp_path / "nothing")


def test_labels_and_targets_come_together(refusal: Refusal, tmp_path: Path) -> None:
    assert "--target" in refusal("--labels", tmp_path / "clients.parquet")
    assert "--labels" in refusal("--target", "kind")
    assert "'kind'" in refusal("--labels", tmp_path / "clients.parquet", "--target", "kin")


def test_labels_whose_client_column_is_not_known_are_refused(
    refusal: Refusal, tmp_path: Path
) -> None:
    labels().rename(columns={"client_id": "whom"}).to_parquet(tmp_path / "others.parquet")
    assert "Name it with --client" in refusal(
        "--labels", tmp_path / "others.parquet", "--target", "kind"
    )


def test_labels_that_match_none_are_refused(refusal: Refusal, tmp_path: Path) -> None:
    labels().assign(client_id=lambda t: t["client_id"] + 10_000).to_parquet(
        tmp_path / "others.parquet"
    )
    line = refusal("--labels", tmp_path / "others.parquet", "--target", "kind")
    assert "No client of the labels" in line
    assert "24 clients" in line


def test_an_output_that_exists_is_refused(refusal: Refusal, tmp_path: Path) -> None:
    (tmp_path / "out.html").write_text("mine", encoding="utf-8")
    assert "--overwrite" in refusal()
    assert (tmp_path / "out.html").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    "text", ["{}", "[1]", "not json", '[{"target": "a", "scores": []}]', "[null]", '"text"']
)
def test_scores_that_are_not_ours_are_refused(refusal: Refusal, tmp_path: Path, text: str) -> None:
    (tmp_path / "scores.json").write_text(text, encoding="utf-8")
    assert "seqmel evaluate" in refusal("--scores", tmp_path / "scores.json")


def test_a_file_of_scores_that_is_missing_is_refused(refusal: Refusal, tmp_path: Path) -> None:
    assert "No such file" in refusal("--scores", tmp_path / "scores.json")


def test_the_command_says_where_the_report_lies(
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pq.write_table(EVENTS, tmp_path / "events.parquet")
    given = [
        "report",
        model_folder,
        tmp_path / "events.parquet",
        "-o",
        tmp_path / "out.html",
        "--device",
        "cpu",
    ]
    monkeypatch.setattr(sys, "argv", ["seqmel", *map(str, given)])
    with pytest.raises(SystemExit) as stopped:
        command_line.main()
    assert stopped.value.code == 0
    assert f"report in {tmp_path / 'out.html'} (0." in capsys.readouterr().out


def test_a_client_column_without_labels_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["report", "model", "events.parquet", "-o", tmp_path / "out.html", "--client", "whom"]
    monkeypatch.setattr(sys, "argv", ["seqmel", *map(str, given)])
    with pytest.raises(SystemExit) as stopped:
        command_line.main()
    assert stopped.value.code == 2
    assert (
        capsys.readouterr().err
        == "seqmel: --client has no effect for a report without labels. Leave it out.\n"
    )


def test_a_fine_tuned_model_has_a_report(model_folder: Path, tmp_path: Path) -> None:
    clients = EVENTS["client_id"].unique().to_pylist()
    labels = pd.DataFrame({"client_id": clients, "kind": [i % 2 for i in range(len(clients))]})
    tuned = seqmel.load(model_folder).finetune(EVENTS, labels, target="kind", epochs=1)
    tuned.save(tmp_path / "tuned")
    write_report(load_model(tmp_path / "tuned"), EVENTS, tmp_path / "report.html", device="cpu")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"labels of {tuned.metrics['clients']:,} clients" in page
