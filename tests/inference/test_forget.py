"""A client that is forgotten is in no file any more, and all others are as they were."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from small import SCHEMA, card_events, fitted, tiny_config
from typer.testing import CliRunner

from seqmel.cli.main import app
from seqmel.core.errors import InputError
from seqmel.data.sequences.prepared import open_prepared
from seqmel.inference.embed import embed_to_parquet
from seqmel.inference.forget import forget
from seqmel.inference.update import update_embeddings
from seqmel.model import Model
from seqmel.nn.encoder import SequenceEncoder
from seqmel.training.run import prepare

EVENTS = card_events(20)
GONE = pc.unique(EVENTS["client_id"]).to_pylist()[3:6]
OTHERS = EVENTS.filter(pc.invert(pc.is_in(EVENTS["client_id"], pa.array(GONE, pa.int32()))))


@pytest.fixture(scope="module")
def model() -> Model:
    config, vocabulary = tiny_config(), fitted(EVENTS, SCHEMA)
    torch.manual_seed(0)
    return Model(config, SCHEMA, vocabulary, SequenceEncoder(config, vocabulary).eval(), {})


def test_state_vectors_and_sequences_are_those_of_the_other_clients(
    model: Model, tmp_path: Path
) -> None:
    state, vectors, sequences = (
        tmp_path / "state",
        tmp_path / "vectors.parquet",
        tmp_path / "sequences",
    )
    update_embeddings(model, EVENTS, state, tmp_path / "night.parquet")
    embed_to_parquet(model, EVENTS, vectors)
    prepare(EVENTS, sequences, model=model)
    before = {path: pq.read_table(path) for path in (state, vectors)}
    found = forget([str(one) for one in GONE], [state, vectors, sequences])
    assert found == {str(path): len(GONE) for path in (state, vectors, sequences)}
    for path, table in before.items():
        kept = table.filter(
            pc.invert(pc.is_in(table["client_id"], pa.array(GONE, table["client_id"].type)))
        )
        assert pq.read_table(path).equals(kept)
        assert pq.read_schema(path).equals(table.schema, check_metadata=True)
    left = open_prepared(sequences).sequences
    assert left.client_ids.to_pylist() == pc.unique(OTHERS["client_id"]).to_pylist()
    assert left.events == len(OTHERS)


def test_a_state_goes_on_without_the_forgotten_and_takes_them_for_new_where_they_come_again(
    model: Model, tmp_path: Path
) -> None:
    ordered = EVENTS.sort_by("event_time")
    first, second = ordered.slice(0, len(ordered) // 2), ordered.slice(len(ordered) // 2)
    update_embeddings(model, first, tmp_path / "state", tmp_path / "a")
    forget(GONE, [tmp_path / "state"])
    done = update_embeddings(model, second, tmp_path / "state", tmp_path / "b")
    again = set(second["client_id"].to_pylist()) & set(GONE)
    assert done.new >= len(again) > 0


def test_what_is_no_file_of_clients_is_refused_before_any_is_changed(
    model: Model, tmp_path: Path
) -> None:
    embed_to_parquet(model, EVENTS, tmp_path / "v.parquet")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(
        InputError, match=r"notes.txt is neither a Parquet file nor a folder of prepared sequences"
    ):
        forget(GONE, [tmp_path / "v.parquet", tmp_path / "notes.txt"])
    assert pq.read_metadata(tmp_path / "v.parquet").num_rows == 20
    with pytest.raises(InputError, match="No client to forget was named"):
        forget([], [tmp_path / "v.parquet"])


def test_the_command_takes_ids_and_a_file_of_them(model: Model, tmp_path: Path) -> None:
    embed_to_parquet(model, EVENTS, tmp_path / "v.parquet")
    (tmp_path / "gone.csv").write_text(f"client_id\n{GONE[0]}\n")
    asked = [
        "forget",
        str(tmp_path / "v.parquet"),
        "--clients",
        str(tmp_path / "gone.csv"),
        "--id",
        str(GONE[1]),
    ]
    done = CliRunner().invoke(app, asked)
    assert (done.exit_code, done.output.split(" ")[0]) == (0, "2"), done.output
    assert pq.read_metadata(tmp_path / "v.parquet").num_rows == 18
