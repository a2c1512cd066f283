"""Every client is in one shard; order and vectors are those of the whole, for each source."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from small import card_events, nested

from seqmel.cli.main import main
from seqmel.core.errors import ConfigError, InputError
from seqmel.data.sources.shard import places_in_shard, shard_of
from seqmel.inference.as_of import embed_as_of
from seqmel.inference.embed import embed, embed_to_parquet
from seqmel.inference.predict import predict, predict_to_parquet
from seqmel.inference.update import update_embeddings
from seqmel.model import Model, load_model
from seqmel.training.finetuning.finetune import finetune
from seqmel.training.run import prepare

EVENTS = card_events(24)
COUNT = 3
Vectors = dict[Any, list[float]]


def by_hand(client: object, count: int) -> int:
    """Which share a client is in, from 1 on: by Python's own MD5."""
    return int(hashlib.md5(str(client).encode()).hexdigest()[:15], 16) % count + 1


def vectors(model: Model, events: Any, **options: Any) -> Vectors:
    found: Vectors = {}
    for ids, numbers in embed(model, events, device="cpu", **options):
        assert not found.keys() & set(ids.to_pylist())
        found |= dict(zip(ids.to_pylist(), numbers.tolist(), strict=True))
    return found


def close(one: Vectors, other: Vectors) -> None:
    """The same clients in the same order, and the same numbers but for the last bits."""
    assert list(one) == list(other)
    np.testing.assert_allclose(
        np.array(list(one.values())), np.array(list(other.values())), atol=1e-5
    )


def as_text(events: pa.Table) -> pa.Table:
    return events.set_column(0, "client_id", pa.compute.cast(events["client_id"], pa.string()))


def prepared(model: Model, folder: Path) -> Path:
    prepare(EVENTS, folder / "sequences", model=model)
    return folder / "sequences"


def in_csv(folder: Path) -> Path:
    pa.csv.write_csv(EVENTS, folder / "events.csv")
    return folder / "events.csv"


KINDS: dict[str, Callable[[Model, Path], Any]] = {
    "arrow": lambda *_: EVENTS,
    "pandas": lambda *_: EVENTS.to_pandas(),
    "lists": lambda *_: nested(EVENTS, "client_id"),
    "csv": lambda _, folder: in_csv(folder),
    "prepared": prepared,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_shares_together_are_the_whole_once_each_in_its_order(
    kind: str, model: Model, tmp_path: Path
) -> None:
    events = KINDS[kind](model, tmp_path)
    whole = vectors(model, events)
    for share in range(1, COUNT + 1):
        expected = {
            client: vector for client, vector in whole.items() if by_hand(client, COUNT) == share
        }
        assert 0 < len(expected) < len(whole)
        close(vectors(model, events, shard=(share, COUNT)), expected)


def test_ids_that_are_written_alike_are_in_one_share(model: Model) -> None:
    numbers, texts = (
        vectors(model, events, shard=(2, COUNT)) for events in (EVENTS, as_text(EVENTS))
    )
    assert [str(client) for client in numbers] == list(texts)
    ids = pa.chunked_array([pa.array(["é", "", "Åse", "a" * 99])])
    for share in range(1, 5):
        assert places_in_shard(ids, (share, 4)).tolist() == [
            place for place, client in enumerate(ids.to_pylist()) if by_hand(client, 4) == share
        ]


def test_clients_without_events_are_in_a_share_too(model: Model) -> None:
    lists = nested(EVENTS, "client_id")
    empty = {name: [[]] for name in lists.column_names} | {"client_id": [9_999]}
    lists = pa.concat_tables([lists, pa.table(empty, lists.schema)])
    assert 9_999 in vectors(model, lists, shard=(by_hand(9_999, COUNT), COUNT))


def files(folder: Path) -> list[pa.Table]:
    return [pq.read_table(folder / f"{share}.parquet") for share in range(1, COUNT + 1)]


def test_predictions_of_the_shares_are_those_of_the_whole(model: Model, tmp_path: Path) -> None:
    ids = sorted(set(EVENTS["client_id"].to_pylist()))
    labels = pa.table(
        {"client_id": pa.array(ids, pa.int32()), "kind": [client // 7 % 2 for client in ids]}
    )
    tuned = load_model(finetune(model, EVENTS, labels, tmp_path / "tuned", targets=["kind"]))
    for share in range(1, COUNT + 1):
        predict_to_parquet(
            tuned, EVENTS, tmp_path / f"{share}.parquet", shard=(share, COUNT), device="cpu"
        )
    found, expected = (
        pa.concat_tables(files(tmp_path)),
        pa.concat_tables(predict(tuned, EVENTS, device="cpu")),
    )
    assert found.schema == expected.schema
    one, other = (
        table.to_pandas().set_index("client_id").sort_index() for table in (found, expected)
    )
    np.testing.assert_allclose(one["kind=1"], other["kind=1"], atol=1e-5)


@pytest.mark.parametrize("from_prepared", [False, True], ids=["events", "prepared"])
def test_moments_of_the_shares_are_those_of_the_whole_each_in_its_order(
    from_prepared: bool, model: Model, tmp_path: Path
) -> None:
    events: Any = prepared(model, tmp_path) if from_prepared else EVENTS
    rows = np.random.default_rng(2).integers(0, len(EVENTS), 60)
    moments: Any = EVENTS.select(["client_id", "event_time"]).take(rows)
    for asked in (moments, "2024-01-10"):
        embed_as_of(model, events, asked, tmp_path / "whole", device="cpu", overwrite=True)
        whole = pq.read_table(tmp_path / "whole").to_pandas()
        share_of = whole["client_id"].map(lambda client: by_hand(client, COUNT))
        for share in range(1, COUNT + 1):
            embed_as_of(
                model,
                events,
                asked,
                tmp_path / "one",
                shard=(share, COUNT),
                device="cpu",
                overwrite=True,
            )
            found, expected = pq.read_table(tmp_path / "one").to_pandas(), whole[share_of == share]
            assert found.iloc[:, :2].to_numpy().tolist() == expected.iloc[:, :2].to_numpy().tolist()
            np.testing.assert_allclose(found.iloc[:, 2:], expected.iloc[:, 2:], atol=1e-5)


def test_a_share_with_nobody_in_it_is_an_empty_file(model: Model, tmp_path: Path) -> None:
    taken = {by_hand(client, 500) for client in EVENTS["client_id"].to_pylist()}
    shard = min(set(range(1, 501)) - taken), 500
    whole, scales = tmp_path / "whole.parquet", {"dtype": "int8"}
    embed_to_parquet(model, EVENTS, whole, **scales, device="cpu")
    assert embed_to_parquet(model, EVENTS, tmp_path / "a", shard=shard, device="cpu")[0] == 0
    assert (
        embed_to_parquet(
            model, prepared(model, tmp_path), tmp_path / "b", shard=shard, device="cpu"
        )[0]
        == 0
    )
    assert (
        embed_to_parquet(
            model,
            EVENTS,
            tmp_path / "c",
            shard=shard,
            quantization_from=whole,
            **scales,
            device="cpu",
        )[0]
        == 0
    )
    updated = update_embeddings(
        model, EVENTS, tmp_path / "state", tmp_path / "d", shard=shard, device="cpu"
    )
    assert (updated.clients, updated.known) == (0, 0)
    embed_as_of(model, EVENTS, "2024-01-10", tmp_path / "e", shard=shard, device="cpu")
    for name in "abde":
        assert pq.read_table(tmp_path / name).num_rows == 0
    assert pq.read_schema(tmp_path / "c") == pq.read_schema(whole)


def test_codes_of_a_share_need_the_scales_of_an_earlier_file(model: Model, tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    embed_to_parquet(model, EVENTS, whole, dtype="int8", device="cpu")
    with pytest.raises(ConfigError, match="one shard has only its own"):
        embed_to_parquet(
            model, EVENTS, tmp_path / "1.parquet", shard=(1, COUNT), dtype="int8", device="cpu"
        )
    for share in range(1, COUNT + 1):
        embed_to_parquet(
            model,
            EVENTS,
            tmp_path / f"{share}.parquet",
            shard=(share, COUNT),
            dtype="int8",
            quantization_from=whole,
            device="cpu",
        )
    one, other = (
        t.sort_by("client_id").to_pandas()
        for t in (pa.concat_tables(files(tmp_path)), pq.read_table(whole))
    )
    assert one["client_id"].tolist() == other["client_id"].tolist()
    assert np.abs(one.to_numpy(int) - other.to_numpy(int)).max() <= 1


def test_each_share_has_a_state_of_its_own(model: Model, tmp_path: Path) -> None:
    ordered = EVENTS.sort_by("event_time")
    first, second = ordered.slice(0, len(ordered) // 2), ordered.slice(len(ordered) // 2)
    expected = {
        c: v for c, v in vectors(model, EVENTS).items() if c in set(second["client_id"].to_pylist())
    }
    found: Vectors = {}
    for share in range(1, COUNT + 1):
        state, shard = tmp_path / f"state-{share}", (share, COUNT)
        update_embeddings(
            model, first, state, tmp_path / "first", shard=shard, device="cpu", overwrite=True
        )
        update_embeddings(
            model, second, state, tmp_path / "second", shard=shard, device="cpu", overwrite=True
        )
        table = pq.read_table(tmp_path / "second").to_pandas().set_index("client_id")
        found |= dict(zip(table.index.tolist(), table.to_numpy().tolist(), strict=True))
    close(dict(sorted(found.items())), dict(sorted(expected.items())))
    for shard, has, asked in (
        ((2, COUNT), "shard 1/3", "shard 2/3"),
        (None, "shard 1/3", "all clients"),
    ):
        with pytest.raises(
            InputError, match=f"is of the clients of {has}, and .*{asked} were requested"
        ):
            update_embeddings(
                model, second, tmp_path / "state-1", tmp_path / "third", shard=shard, device="cpu"
            )
    update_embeddings(model, first, tmp_path / "all", tmp_path / "of_all", device="cpu")
    with pytest.raises(
        InputError, match="is of all clients, and the clients of shard 1/3 were requested"
    ):
        update_embeddings(
            model, second, tmp_path / "all", tmp_path / "third", shard=(1, COUNT), device="cpu"
        )


def test_events_of_no_client_are_told_of_in_every_share(model: Model) -> None:
    ids = pa.array([None, *EVENTS["client_id"].to_pylist()[1:]], pa.int32())
    for share in range(1, COUNT + 1):
        with pytest.raises(InputError, match=r"1 event in .* has no client"):
            vectors(model, EVENTS.set_column(0, "client_id", ids), shard=(share, COUNT))


@pytest.mark.parametrize(
    "words", ["3", "0/8", "9/8", "1/0", "-1/8", "a/b", "3/8/2", "", "3.0/8", "1e1/20"]
)
@pytest.mark.parametrize("command", ["embed", "predict"])
def test_words_that_name_no_share_are_refused(
    words: str,
    command: str,
    tmp_path: Path,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = refused(["--shard", words], command, tmp_path, model_folder, monkeypatch, capsys)
    assert "INDEX/COUNT, such as 3/8" in line or f"There is no shard {words}" in line


def test_a_share_does_not_go_with_spark(
    tmp_path: Path,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = refused(
        ["--shard", "1/2", "--engine", "spark"],
        "embed",
        tmp_path,
        model_folder,
        monkeypatch,
        capsys,
    )
    assert "--shard cannot be combined with --engine spark" in line


def refused(
    options: list[str],
    command: str,
    folder: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> str:
    """The one line of a command that writes nothing."""
    pq.write_table(EVENTS, folder / "events.parquet")
    words = [
        command,
        str(model),
        str(folder / "events.parquet"),
        "-o",
        str(folder / "out"),
        "--device",
        "cpu",
    ]
    monkeypatch.setattr(sys, "argv", ["seqmel", *words, *options])
    with pytest.raises(SystemExit) as ended:
        main()
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert [path.name for path in folder.iterdir()] == ["events.parquet"]
    return line


@pytest.mark.parametrize("shard", [(0, 8), (9, 8), (1.0, 8), (True, 8), "1/8", (1, 2, 3), [1, 8]])
def test_what_is_no_share_is_refused_from_python(shard: Any, model: Model, tmp_path: Path) -> None:
    for run in (
        lambda: list(embed(model, EVENTS, shard=shard, device="cpu")),
        lambda: embed_to_parquet(model, EVENTS, tmp_path / "out", shard=shard, device="cpu"),
        lambda: update_embeddings(
            model, EVENTS, tmp_path / "state", tmp_path / "out", shard=shard, device="cpu"
        ),
    ):
        with pytest.raises(ConfigError, match="There is no shard"):
            run()
    assert not list(tmp_path.iterdir())


def test_a_share_in_words() -> None:
    assert shard_of("3/8") == (3, 8)
    assert shard_of(" 1 / 1 ") == (1, 1)


@pytest.mark.parametrize("share", [1, 2])
def test_the_command_writes_its_share(
    share: int,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pq.write_table(EVENTS, tmp_path / "events.parquet")
    words = [
        "embed",
        str(model_folder),
        str(tmp_path / "events.parquet"),
        "-o",
        str(tmp_path / "out"),
        "--device",
        "cpu",
    ]
    monkeypatch.setattr(sys, "argv", ["seqmel", *words, "--shard", f"{share}/2"])
    with pytest.raises(SystemExit) as ended:
        main()
    expected = [c for c in dict.fromkeys(EVENTS["client_id"].to_pylist()) if by_hand(c, 2) == share]
    assert not ended.value.code
    assert capsys.readouterr().out.startswith(f"{len(expected)} clients x ")
    assert pq.read_table(tmp_path / "out")["client_id"].to_pylist() == expected
