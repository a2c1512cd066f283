"""A state and new events give the vectors of all events; nothing counts twice."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from small import SCHEMA, card_events, fitted, tiny_config
from typer.testing import CliRunner

import seqmel.inference.update
from seqmel.core.atomic_files import exclusive_lock, partial_path
from seqmel.core.errors import InputError, ModelError, OutputError, SchemaError
from seqmel.inference.embed import embed
from seqmel.inference.update import update_embeddings
from seqmel.model import Model, save_model
from seqmel.nn.encoder import SequenceEncoder

EVENTS = card_events(20)
VOCABULARY = fitted(EVENTS, SCHEMA, min_count=2)
POOLING = [
    "last",
    "mean",
    "max",
    "std",
    "log_sum",
    "attention",
    "category_mean",
    "last_event",
    "recent",
    "category_recent",
    "transitions",
]
ENCODERS: dict[str, Any] = {
    "none": "none",
    "gru": {"name": "gru", "hidden_size": 16, "layers": 2},
    "lstm": {"name": "lstm", "hidden_size": 16, "layers": 2},
    "transformer": {"name": "transformer", "hidden_size": 16, "heads": 2},
    "states apart": {
        "name": "gru",
        "hidden_size": 16,
        "input_size": 8,
        "pooling": ["last", "mean", "std"],
    },
}

APART: dict[str, Any] = {"states apart": {"objective": "next_event"}}


def made(encoder: str, *, seed: int = 0, **changes: Any) -> Model:
    config = tiny_config(
        encoder=ENCODERS[encoder], pooling=POOLING, **APART.get(encoder, {}), **changes
    )
    torch.manual_seed(seed)
    made = SequenceEncoder(config, VOCABULARY).eval()
    if made.recent is not None and made.recent.transitions is not None:
        table = made.recent.transitions
        table.set_components(torch.randn(table.slots * (table.slots - 1) // 2, table.output_size))
    return Model(config, SCHEMA, VOCABULARY, made, {})


def periods(count: int) -> list[pa.Table]:
    """The events in so many periods of time, one after the other."""
    ordered = EVENTS.sort_by("event_time")
    edges = [len(ordered) * i // count for i in range(count + 1)]
    return [ordered.slice(a, b - a) for a, b in itertools.pairwise(edges)]


def vectors(path: Path) -> dict[Any, np.ndarray[Any, Any]]:
    table = pq.read_table(path)
    rows = np.stack(
        [table[n].to_numpy() for n in table.column_names if n.startswith("emb_")], axis=1
    )
    return dict(zip(table["client_id"].to_pylist(), rows, strict=True))


def at_once(model: Model, events: pa.Table) -> dict[Any, np.ndarray[Any, Any]]:
    ((ids, numbers),) = embed(model, events, device="cpu")
    return dict(zip(ids.to_pylist(), numbers.numpy(), strict=True))


@pytest.mark.parametrize(
    ("encoder", "dim"),
    [("none", None), ("gru", None), ("lstm", None), ("states apart", None), ("states apart", 8)],
)
def test_updates_give_what_all_events_give_at_once(
    encoder: str, dim: int | None, tmp_path: Path
) -> None:
    model, state, seen = (
        made(encoder, embedding={"batch_events": 64}, embedding_dim=dim),
        tmp_path / "s.parquet",
        None,
    )
    for night, new in enumerate(periods(4)):
        out = tmp_path / f"{night}.parquet"
        done = update_embeddings(model, new, state, out, device="cpu")
        seen = new if seen is None else pa.concat_tables([seen, new])
        expected, found = at_once(model, seen), vectors(out)
        assert set(found) == set(new["client_id"].to_pylist())
        assert (done.clients, done.known) == (len(found), len(expected))
        for client, vector in found.items():
            np.testing.assert_allclose(vector, expected[client], rtol=0, atol=1e-5)
    assert pc.sum(pq.read_table(state)["events"]).as_py() == len(EVENTS)


def test_a_state_is_brought_up_to_date_by_one_run_at_a_time(tmp_path: Path) -> None:
    first, second = periods(2)
    update_embeddings(made("none"), first, tmp_path / "s", tmp_path / "a", device="cpu")
    before = (tmp_path / "s").read_bytes()
    with (
        exclusive_lock(partial_path(tmp_path / "s"), tmp_path / "s"),
        pytest.raises(OutputError, match="Another run"),
    ):
        update_embeddings(made("none"), second, tmp_path / "s", tmp_path / "b", device="cpu")
    assert (tmp_path / "s").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "s"]


def test_the_order_is_that_of_the_new_events_and_the_new_clients_are_counted(
    tmp_path: Path,
) -> None:
    first, second = periods(2)
    known = set(first["client_id"].to_pylist())
    update_embeddings(made("none"), first, tmp_path / "s", tmp_path / "a", device="cpu")
    done = update_embeddings(made("none"), second, tmp_path / "s", tmp_path / "b", device="cpu")
    ids = list(dict.fromkeys(second["client_id"].to_pylist()))
    assert list(vectors(tmp_path / "b")) == ids
    assert done.new == len(set(ids) - known)


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_the_size_of_a_chunk_changes_nothing(
    rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seqmel.inference.update, "_ROWS", rows)
    model = made("gru")
    for night, new in enumerate(periods(3)):
        update_embeddings(model, new, tmp_path / "s", tmp_path / f"{night}", device="cpu")
    expected = at_once(model, EVENTS)
    for client, vector in vectors(tmp_path / "2").items():
        np.testing.assert_allclose(vector, expected[client], rtol=0, atol=1e-5)


def late_night() -> tuple[pa.Table, pa.Table, list[int]]:
    """Return events before a night, those of the night, and clients with a late event in it."""
    first, second = periods(2)
    clients = pc.unique(first["client_id"]).to_pylist()[:3]
    held_back = [
        first.filter(pc.equal(first["client_id"], client)).slice(0, 1) for client in clients
    ]
    early = pa.concat_tables(held_back)
    times = early["event_time"]
    known = first.filter(
        pc.invert(
            pc.and_(
                pc.is_in(first["client_id"], pa.array(clients)),
                pc.is_in(first["event_time"], times),
            )
        )
    )
    return known, pa.concat_tables([early, second]), clients


def states(path: Path) -> dict[Any, Any]:
    return {row["client_id"]: row for row in pq.read_table(path).to_pylist()}


def test_clients_with_late_events_are_skipped_and_listed_and_the_others_go_on(
    tmp_path: Path,
) -> None:
    model, (known, night, late) = made("gru"), late_night()
    update_embeddings(model, known, tmp_path / "s", tmp_path / "a", device="cpu")
    before = states(tmp_path / "s")
    done = update_embeddings(
        model,
        night,
        tmp_path / "s",
        tmp_path / "b",
        skipped=tmp_path / "late.parquet",
        device="cpu",
    )
    assert sorted(done.skipped) == sorted(late)
    assert sorted(pq.read_table(tmp_path / "late.parquet")["client_id"].to_pylist()) == sorted(late)
    assert done.words.startswith(
        "3 clients were skipped, since they have events earlier than their last one ("
    )
    after, expected = states(tmp_path / "s"), at_once(model, pa.concat_tables([known, night]))
    assert all(after[client] == before[client] for client in late)
    found = vectors(tmp_path / "b")
    assert set(found) == set(night["client_id"].to_pylist()) - set(late)
    for client, vector in found.items():
        np.testing.assert_allclose(vector, expected[client], rtol=0, atol=1e-5)


@pytest.mark.parametrize("encoder", ["none", "gru", "lstm"])
def test_clients_with_late_events_are_computed_anew_from_their_history(
    encoder: str, tmp_path: Path
) -> None:
    model, (known, night, late) = made(encoder), late_night()
    everything = pa.concat_tables([known, night])
    update_embeddings(model, known, tmp_path / "s", tmp_path / "a", device="cpu")
    done = update_embeddings(
        model, night, tmp_path / "s", tmp_path / "b", history=everything, device="cpu"
    )
    assert (done.recomputed, done.skipped) == (len(late), ())
    expected, found = at_once(model, everything), vectors(tmp_path / "b")
    assert set(found) == set(night["client_id"].to_pylist())
    for client, vector in found.items():
        np.testing.assert_allclose(vector, expected[client], rtol=0, atol=1e-5)
    assert pc.sum(pq.read_table(tmp_path / "s")["events"]).as_py() == len(EVENTS)


def test_a_history_without_all_events_of_a_client_leaves_it_skipped(tmp_path: Path) -> None:
    model, (known, night, late) = made("none"), late_night()
    update_embeddings(model, known, tmp_path / "s", tmp_path / "a", device="cpu")
    everything = pa.concat_tables([known, night])
    others = everything.filter(pc.not_equal(everything["client_id"], late[0]))
    part = pa.concat_tables([others, night.filter(pc.equal(night["client_id"], late[0]))])
    done = update_embeddings(
        model, night, tmp_path / "s", tmp_path / "b", history=part, device="cpu"
    )
    assert done.skipped == (late[0],)
    assert done.recomputed == len(late) - 1


def test_a_night_that_comes_again_with_the_history_counts_no_event_twice(tmp_path: Path) -> None:
    model, (known, night, _) = made("gru"), late_night()
    everything = pa.concat_tables([known, night])
    update_embeddings(model, known, tmp_path / "s", tmp_path / "a", device="cpu")
    update_embeddings(model, night, tmp_path / "s", tmp_path / "b", device="cpu")
    with pytest.raises(InputError, match="has seen just these events"):
        update_embeddings(model, night, tmp_path / "s", tmp_path / "c", device="cpu")
    update_embeddings(
        model, night, tmp_path / "s", tmp_path / "c", history=everything, device="cpu"
    )
    assert pc.sum(pq.read_table(tmp_path / "s")["events"]).as_py() == len(EVENTS)
    expected = at_once(model, everything)
    for client, vector in vectors(tmp_path / "c").items():
        np.testing.assert_allclose(vector, expected[client], rtol=0, atol=1e-5)


def test_the_same_events_twice_are_refused_and_the_state_stays(tmp_path: Path) -> None:
    model, new = made("none"), periods(2)[0]
    update_embeddings(model, new, tmp_path / "s", tmp_path / "a", device="cpu")
    before = (tmp_path / "s").read_bytes()
    with pytest.raises(InputError, match="has seen just these events"):
        update_embeddings(model, new[::-1], tmp_path / "s", tmp_path / "b", device="cpu")
    assert (tmp_path / "s").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "s"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_an_empty_night_is_an_empty_file_and_leaves_the_state_as_it_was(
    suffix: str, tmp_path: Path
) -> None:
    model, nobody = made("gru"), tmp_path / f"night.{suffix}"
    rows = EVENTS.slice(0, 0)
    rows.to_pandas().to_csv(nobody, index=False) if suffix == "csv" else pq.write_table(
        rows, nobody
    )
    update_embeddings(model, EVENTS, tmp_path / "s", tmp_path / "a", device="cpu")
    before = (tmp_path / "s").read_bytes()
    for night in ("b", "c"):
        done = update_embeddings(model, nobody, tmp_path / "s", tmp_path / night, device="cpu")
        assert (done.clients, done.new, done.known) == (0, 0, 20)
        assert pq.read_schema(tmp_path / night).equals(pq.read_schema(tmp_path / "a"))
        assert pq.read_metadata(tmp_path / night).num_rows == 0
    assert (tmp_path / "s").read_bytes() == before


def test_an_empty_file_that_lacks_a_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="No column 'mcc'"):
        update_embeddings(
            made("none"),
            EVENTS.slice(0, 0).drop_columns("mcc"),
            tmp_path / "s",
            tmp_path / "b",
            device="cpu",
        )


def test_times_in_a_state_are_timestamps_and_a_state_of_format_1_goes_on(tmp_path: Path) -> None:
    model, (first, second) = made("gru"), periods(2)
    update_embeddings(model, first, tmp_path / "s", tmp_path / "a", device="cpu")
    state = pq.read_table(tmp_path / "s")
    ordered = first.sort_by("event_time")
    last = {row["client_id"]: row["event_time"] for row in ordered.to_pylist()}
    assert (
        dict(zip(state["client_id"].to_pylist(), state["last_time"].to_pylist(), strict=True))
        == last
    )
    for name in ("first_time", "last_time"):
        numbers = state[name].cast(pa.int64())
        state = state.set_column(state.column_names.index(name), name, numbers)
    meta = state.schema.metadata[b"seqmel"].replace(b'"format": 2', b'"format": 1')
    pq.write_table(state.replace_schema_metadata({b"seqmel": meta}), tmp_path / "old")
    for path in ("old", "s"):
        update_embeddings(
            model, second, tmp_path / path, tmp_path / f"{path}.parquet", device="cpu"
        )
    assert pq.read_table(tmp_path / "old").equals(pq.read_table(tmp_path / "s"))


def test_a_day_that_comes_again_is_refused_also_where_times_are_days(tmp_path: Path) -> None:
    days = pc.floor_temporal(EVENTS["event_time"], unit="day")
    dated = EVENTS.set_column(EVENTS.column_names.index("event_time"), "event_time", days).sort_by(
        "event_time"
    )
    model, state, nights = made("none"), tmp_path / "s", pc.unique(dated["event_time"])[-3:]
    update_embeddings(
        model,
        dated.filter(pc.less(dated["event_time"], nights[0])),
        state,
        tmp_path / "a",
        device="cpu",
    )
    for night in nights:
        new = dated.filter(pc.equal(dated["event_time"], night))
        update_embeddings(model, new, state, tmp_path / "a", device="cpu", overwrite=True)
    before = state.read_bytes()
    for again in (nights[0], nights[-1]):
        new = dated.filter(pc.equal(dated["event_time"], again))[::-1]
        with pytest.raises(
            InputError, match=r"has seen just these events in an earlier update\. Give only"
        ):
            update_embeddings(model, new, state, tmp_path / "b", device="cpu")
    assert state.read_bytes() == before
    assert pc.sum(pq.read_table(state)["events"]).as_py() == len(EVENTS)


def test_another_model_or_another_file_is_refused(tmp_path: Path) -> None:
    first, second = periods(2)
    update_embeddings(made("none"), first, tmp_path / "s", tmp_path / "a", device="cpu")
    with pytest.raises(ModelError, match="belongs to another model"):
        update_embeddings(
            made("none", seed=1), second, tmp_path / "s", tmp_path / "b", device="cpu"
        )
    with pytest.raises(InputError, match="not a state that seqmel wrote"):
        update_embeddings(made("none"), second, tmp_path / "a", tmp_path / "b", device="cpu")
    with pytest.raises(OutputError, match="exists"):
        update_embeddings(made("none"), second, tmp_path / "s", tmp_path / "a", device="cpu")
    with pytest.raises(ModelError, match="transformer"):
        update_embeddings(made("transformer"), second, tmp_path / "t", tmp_path / "b", device="cpu")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "s"]


def nights(ids: list[Any]) -> list[pa.Table]:
    """All events under these ids, in two periods of time."""
    events = EVENTS.set_column(EVENTS.column_names.index("client_id"), "client_id", pa.array(ids))
    events = events.sort_by("event_time")
    return [events.slice(0, len(events) // 2), events.slice(len(events) // 2)]


IDS = EVENTS["client_id"].to_pylist()
TYPES = {"text": list(map(str, IDS)), "int64": IDS}


@pytest.mark.parametrize(("kept", "given"), [("text", "int64"), ("int64", "text")])
def test_ids_of_new_events_are_those_of_the_state_whatever_their_own_type(
    kept: str, given: str, tmp_path: Path
) -> None:
    model = made("none")
    update_embeddings(model, nights(TYPES[kept])[0], tmp_path / "s", tmp_path / "a", device="cpu")
    done = update_embeddings(
        model, nights(TYPES[given])[1], tmp_path / "s", tmp_path / "b", device="cpu"
    )
    update_embeddings(
        model, nights(TYPES[kept])[0], tmp_path / "same", tmp_path / "c", device="cpu"
    )
    alike = update_embeddings(
        model, nights(TYPES[kept])[1], tmp_path / "same", tmp_path / "d", device="cpu"
    )
    assert done == alike
    assert pq.read_table(tmp_path / "b") == pq.read_table(tmp_path / "d")
    assert pq.read_table(tmp_path / "s") == pq.read_table(tmp_path / "same")


def test_a_day_of_csv_whose_ids_look_like_numbers_goes_on_from_a_state_of_text(
    tmp_path: Path,
) -> None:
    first, second = nights([f"A{client}" if client == IDS[0] else str(client) for client in IDS])
    numbers = second.filter(pc.invert(pc.starts_with(second["client_id"], "A")))
    numbers.to_pandas().to_csv(tmp_path / "day.csv", index=False)
    update_embeddings(made("none"), first, tmp_path / "s", tmp_path / "a", device="cpu")
    done = update_embeddings(
        made("none"), tmp_path / "day.csv", tmp_path / "s", tmp_path / "b", device="cpu"
    )
    assert done.new == len(
        set(numbers["client_id"].to_pylist()) - set(first["client_id"].to_pylist())
    )
    assert set(vectors(tmp_path / "b")) == set(numbers["client_id"].to_pylist())


@pytest.mark.parametrize("odd", ["A1", "007", "1.0", "9223372036854775808"])
def test_an_id_that_is_none_of_the_states_type_is_refused(odd: str, tmp_path: Path) -> None:
    first, _ = nights(TYPES["int64"])
    _, second = nights([odd if client == IDS[0] else str(client) for client in IDS])
    update_embeddings(made("none"), first, tmp_path / "s", tmp_path / "a", device="cpu")
    with pytest.raises(
        InputError, match=f"type int64, and '{odd}' of the new events is none. Write"
    ):
        update_embeddings(made("none"), second, tmp_path / "s", tmp_path / "b", device="cpu")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "s"]


def test_a_crash_before_the_state_is_in_place_counts_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, (first, second) = made("none"), periods(2)
    update_embeddings(model, first, tmp_path / "s", tmp_path / "a", device="cpu")
    import seqmel.core.atomic_files

    moved, real = [], seqmel.core.atomic_files.move_into_place

    def crash(partial: Path, path: Path) -> None:
        moved.append(path.name)
        if path.name == "s":
            raise KeyboardInterrupt
        real(partial, path)

    monkeypatch.setattr(seqmel.core.atomic_files, "move_into_place", crash)
    with pytest.raises(KeyboardInterrupt):
        update_embeddings(model, second, tmp_path / "s", tmp_path / "b", device="cpu")
    assert moved == ["b", "s"]
    monkeypatch.undo()
    update_embeddings(model, second, tmp_path / "s", tmp_path / "b", device="cpu", overwrite=True)
    assert pc.sum(pq.read_table(tmp_path / "s")["events"]).as_py() == len(EVENTS)


def test_the_command_goes_on_from_a_state(tmp_path: Path) -> None:
    from seqmel.cli.main import app

    save_model(tmp_path / "model", made("none"), card="", curves=None)
    for night, new in enumerate(periods(2)):
        pq.write_table(new, tmp_path / f"{night}.parquet")
        words = [
            "embed",
            "model",
            f"{night}.parquet",
            "-o",
            f"out{night}.parquet",
            "--state",
            "state.parquet",
        ]
        done = CliRunner().invoke(
            app, [str(tmp_path / w) if "-" not in w and w != "embed" else w for w in words]
        )
        assert done.exit_code == 0, done.output
        assert "clients in" in done.output
    refused = CliRunner().invoke(
        app, ["embed", "m", "e", "-o", "o", "--state", "s", "--as-of", "2020-01-01"]
    )
    assert "--as-of cannot be combined with --state" in str(refused.exception)
