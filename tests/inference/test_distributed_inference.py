"""Two processes that share the clients write the file that one process writes, or none."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from small import card_events, nested

from seqmel.cli.launching import _environment, _free_port
from seqmel.core import distributed as parallel
from seqmel.core.errors import ConfigError, InputError, ModelError, SeqmelError
from seqmel.inference import distributed as sharing
from seqmel.inference.embed import embed_to_parquet
from seqmel.inference.predict import predict_to_parquet
from seqmel.model import Model, load_model
from seqmel.training.finetuning.finetune import finetune
from seqmel.training.run import prepare

FORMS: dict[str, dict[str, Any]] = {
    "columns": {}, "list": {"layout": "list", "dtype": "float16"}, "int8": {"dtype": "int8"},
}  # fmt: skip
SOME, NOBODY = (2, 3), (8, 500)


def _as_rank(index: int, port: int, folder: Path, work: Callable[[Path, Path, int], Any]) -> None:
    os.environ |= _environment(index, 2, port)
    torch.set_num_threads(1)
    with parallel.process_group(torch.device("cpu")):
        torch.save(work(folder / "model", folder, index), folder / f"found-{index}")


def in_two(folder: Path, work: Callable[[Path, Path, int], Any]) -> list[Any]:
    """What `work` gives in each of two processes; None of one that ended before."""
    port = _free_port()
    processes = [
        forked.FORKS.Process(target=_as_rank, args=(index, port, folder, work))
        for index in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    found = [folder / f"found-{index}" for index in range(2)]
    return [torch.load(path) if path.exists() else None for path in found]


def outcome(run: Callable[[], object]) -> str:
    """What came of it: the value, or the error in words."""
    try:
        return str(run())
    except SeqmelError as error:
        return f"{type(error).__name__}: {error}"


def all_forms(model_folder: Path, folder: Path, index: int) -> list[str]:
    """Every form of the output, then what goes wrong on one process alone, or on both."""
    model, events = load_model(model_folder), str(folder / "events.parquet")
    found = []
    for name, form in FORMS.items():
        found.append(
            outcome(lambda n=name, f=form: embed_shared(model, events, folder / f"{n}.two", **f))
        )  # type: ignore[misc]
    found.append(
        outcome(lambda: embed_shared(model, str(folder / "sequences"), folder / "prepared.two"))
    )
    found.append(
        outcome(lambda: embed_shared(model, str(folder / "nested.parquet"), folder / "nested.two"))
    )
    found.append(
        outcome(lambda: sharing.predict_shared_to_parquet(model, events, folder / "predicted.two"))
    )
    sequences = str(folder / "sequences")
    found.append(outcome(lambda: embed_shared(model, sequences, folder / "some.share", shard=SOME)))
    found.append(
        outcome(lambda: embed_shared(model, sequences, folder / "none.share", shard=NOBODY))
    )
    found.append(
        outcome(lambda: embed_shared(model, str(folder / "nothing.parquet"), folder / "failed"))
    )
    if index == 1:
        with torch.no_grad():
            next(model.encoder.parameters()).fill_(torch.nan)
    found.append(outcome(lambda: embed_shared(model, events, folder / "failed")))
    found.append(
        str(sorted(path.name for path in folder.iterdir() if path.name.startswith("failed")))
    )
    return found


def embed_shared(model: Model, events: str, output: Path, **form: Any) -> tuple[int, int]:
    """The function under test, on the CPU."""
    return sharing.embed_shared_to_parquet(model, events, output, device="cpu", **form)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    """Events in several forms, and a model that has learnt a target."""
    folder = tmp_path_factory.mktemp("shared")
    events = card_events(23)
    pq.write_table(events, folder / "events.parquet")
    lists = nested(events, "client_id").slice(0, 1)
    pq.write_table(lists, folder / "nested.parquet")  # one client for two processes
    clients = sorted(set(events.column("client_id").to_pylist()))
    labels = pa.table(
        {
            "client_id": pa.array(clients, pa.int32()),
            "kind": [client // 7 % 2 for client in clients],
        }
    )
    pq.write_table(labels, folder / "labels.parquet")
    finetune(
        load_model(model_folder),
        folder / "events.parquet",
        folder / "labels.parquet",
        folder / "model",
        targets=("kind",),
    )
    prepare(folder / "events.parquet", folder / "sequences", model=load_model(folder / "model"))
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> list[list[str]]:
    """What each of the two processes met."""
    return in_two(folder, all_forms)


def same(one: Path, two: Path) -> None:
    """The same columns, clients and order; numbers to 1e-5, whole numbers to one step."""
    ours, theirs = pq.read_table(one), pq.read_table(two)
    assert theirs.schema == ours.schema
    assert theirs.column(0).to_pylist() == ours.column(0).to_pylist()
    for name in ours.column_names[1:]:
        a, b = (np.array(table.column(name).to_pylist(), np.float64) for table in (ours, theirs))
        step = (
            1
            if pa.types.is_integer(ours.schema.field(name).type)
            else 1e-3
            if name == "embedding"
            else 1e-5
        )
        np.testing.assert_allclose(a, b, atol=step)


@pytest.mark.parametrize("name", FORMS)
def test_the_file_is_the_one_of_a_single_process(
    name: str, folder: Path, found: list[list[str]]
) -> None:
    counts = embed_to_parquet(
        load_model(folder / "model"), folder / "events.parquet", folder / name, **FORMS[name]
    )
    same(folder / name, folder / f"{name}.two")
    assert found[0][list(FORMS).index(name)] == found[1][list(FORMS).index(name)] == str(counts)


@pytest.mark.parametrize("name", ["sequences", "nested.parquet"])
def test_prepared_sequences_and_a_client_for_two_processes_too(
    name: str, folder: Path, found: list[list[str]], tmp_path: Path
) -> None:
    embed_to_parquet(load_model(folder / "model"), folder / name, tmp_path / "one")
    same(tmp_path / "one", folder / ("prepared.two" if name == "sequences" else "nested.two"))


def test_predictions_are_those_of_a_single_process(
    folder: Path, found: list[list[str]], tmp_path: Path
) -> None:
    predict_to_parquet(load_model(folder / "model"), folder / "events.parquet", tmp_path / "one")
    same(tmp_path / "one", folder / "predicted.two")


def test_two_processes_embed_a_share_as_one_does_also_where_nobody_is_in_it(
    folder: Path, found: list[list[str]], tmp_path: Path
) -> None:
    embed_to_parquet(
        load_model(folder / "model"), folder / "events.parquet", tmp_path / "one", shard=SOME
    )
    same(tmp_path / "one", folder / "some.share")
    assert 0 < pq.read_table(tmp_path / "one").num_rows < 23
    nobody = pq.read_table(folder / "none.share")
    assert (nobody.num_rows, nobody.schema) == (0, pq.read_schema(tmp_path / "one"))


def test_what_goes_wrong_on_one_process_is_the_same_line_on_all_and_leaves_nothing(
    found: list[list[str]],
) -> None:
    (*_, absent, odd, left), (*_, absent_too, odd_too, _) = found
    assert absent == absent_too
    assert absent.startswith(InputError.__name__)
    assert odd == odd_too
    assert odd.startswith(ModelError.__name__)
    assert "not finite" in odd
    assert left == "[]"  # the first process removes what lay beside


def killed_in_its_share(model_folder: Path, folder: Path, index: int) -> str:
    """The second process is killed while it embeds."""
    model = load_model(model_folder)
    if index == 1:
        sharing.embed_sequences = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
    shared = sharing.embed_shared_to_parquet
    return outcome(
        lambda: shared(model, str(folder / "events.parquet"), folder / "out", overwrite=True)
    )


def test_a_process_that_is_killed_leaves_the_earlier_file_and_nothing_beside(
    model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "model").symlink_to(model_folder)
    pq.write_table(card_events(8), tmp_path / "events.parquet")
    (tmp_path / "out").write_text("the earlier one")
    said, other = in_two(tmp_path, killed_in_its_share)
    assert said.startswith("OutputError: Nothing was written: one of the processes")
    assert other is None
    assert (tmp_path / "out").read_text() == "the earlier one"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "events.parquet",
        "found-0",
        "model",
        "out",
    ]


def test_the_command_starts_the_processes_and_says_its_line_once(
    model_folder: Path, tmp_path: Path
) -> None:
    pq.write_table(card_events(), tmp_path / "events.parquet")
    words = ("embed", model_folder, tmp_path / "events.parquet", "--devices", 2)
    done = forked.run(
        *(*words, "-o", tmp_path / "two.parquet", "--log", tmp_path / "log.jsonl"),
        environment={"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("24 clients") == 1
    embed_to_parquet(
        load_model(model_folder), tmp_path / "events.parquet", tmp_path / "one.parquet"
    )
    same(tmp_path / "one.parquet", tmp_path / "two.parquet")
    assert (tmp_path / "log.jsonl").read_text().count('"event": "started"') == 1
    left = ["events.parquet", "log.jsonl", "one.parquet", "two.parquet"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left


@pytest.mark.parametrize(
    "words", [["--as-of", "2024-01-01"], ["--state", "kept"], ["--engine", "spark"]]
)
def test_what_is_not_shared_is_refused(words: list[str], tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from seqmel.cli.main import app

    command = [
        "embed",
        "model",
        "events.parquet",
        "-o",
        str(tmp_path / "out"),
        "--devices",
        "2",
        *words,
    ]
    with pytest.raises(ConfigError, match="Several devices"):
        CliRunner().invoke(app, command, catch_exceptions=False)


def test_shares_cover_all_clients_and_none_is_heavier_than_its_part_and_a_client() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        weights, count = random.integers(1, 50, random.integers(1, 40)), int(random.integers(1, 7))
        bounds = sharing.shares(torch.from_numpy(weights), count)
        assert bounds == sorted(bounds)
        assert (bounds[0], bounds[-1], len(bounds)) == (0, len(weights), count + 1)
        for begin, end in itertools.pairwise(bounds):
            assert weights[begin:end].sum() <= weights.sum() / count + weights.max()


def test_one_process_alone_shares_with_nobody(model_folder: Path, tmp_path: Path) -> None:
    pq.write_table(card_events(5), tmp_path / "events.parquet")
    sharing.embed_shared_to_parquet(
        load_model(model_folder), tmp_path / "events.parquet", tmp_path / "alone"
    )
    embed_to_parquet(load_model(model_folder), tmp_path / "events.parquet", tmp_path / "one")
    same(tmp_path / "one", tmp_path / "alone")
