"""Every name of `seqmel methods` can be chosen and trains, on online_retail or made clients.

The set is looked for in the folder that SEQMEL_DATA names, or in shared/data:
online_retail/events.parquet.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from small import CHANGED, WITH_LABELS, card_events, tiny_config

from seqmel.config import methods
from seqmel.config.reference import described
from seqmel.data.encoding.event_encoding import encode
from seqmel.data.fitting.schema_inference import infer_schema
from seqmel.data.fitting.vocabulary_fitting import fit_vocabulary
from seqmel.data.schema import SchemaOptions
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.sources.reading import open_events
from seqmel.data.vocabulary import Vocabulary
from seqmel.objectives.losses import LOSSES
from seqmel.objectives.miners import MINERS
from seqmel.training.fit import fit

DATA = Path(os.environ.get("SEQMEL_DATA", Path(__file__).parents[2] / "shared" / "data"))
RETAIL = DATA / "online_retail" / "events.parquet"
NAMES = [(section, name) for section, names in methods().items() for name in names]


def real_events() -> pa.Table:
    """The events of the first forty clients."""
    table = pq.read_table(RETAIL)
    client = next(name for name in table.column_names if "customer" in name or "client" in name)
    first = pc.unique(table[client])[:40]
    return table.filter(pc.is_in(table[client], first))


@functools.cache
def prepared(real: bool) -> tuple[EncodedSequences, Vocabulary]:
    source = open_events(real_events() if real else card_events(40))
    schema = infer_schema(source, SchemaOptions())
    vocabulary = fit_vocabulary(source, schema, min_count=2, max_categories=50)
    return EncodedSequences.from_batches(
        list(encode(source, schema, vocabulary)), time=schema.time
    ), vocabulary


def chosen(section: str, name: str, labels: Path) -> dict[str, Any]:
    """What the page of the method shows, with small networks and the labels of the clients."""
    if name == "pml":
        return {"loss": "pml/CircleLoss"}
    if name in CHANGED:
        return CHANGED[name]
    (method,) = (m for m in described() if (m.section, m.name) == (section, name))
    config = method.config
    if section == "objective" and name in WITH_LABELS:
        coles, part = config["objective"]
        return {"objective": [coles, part | {"labels": str(labels), "target": "group"}]}
    if config.get("encoder", "none") != "none":
        return config | {"encoder": {"name": config["encoder"], "hidden_size": 16}}
    return config


def trained(section: str, name: str, folder: Path, *, real: bool) -> list[dict[str, float]]:
    held, vocabulary = prepared(real)
    options = {
        "encoder": "none",
        "views": {"max_length": 20},
        "objective": {"head_size": 16},
        "device": "cpu",
    }
    groups = pa.array([i % 3 for i in range(len(held))])
    pq.write_table(
        pa.table({held.client: held.client_ids.combine_chunks(), "group": groups}),
        folder / "labels.parquet",
    )
    config = tiny_config(**options | chosen(section, name, folder / "labels.parquet"))
    encoder, history = fit(held, vocabulary, config)
    assert all(weights.isfinite().all() for weights in encoder.state_dict().values())
    return history


def check(section: str, name: str, folder: Path, *, real: bool) -> None:
    if name == "pml" and importlib.util.find_spec("pytorch_metric_learning") is None:
        pytest.skip("pytorch-metric-learning is not installed")
    history = trained(section, name, folder, real=real)
    assert len(history) == 1
    assert all(math.isfinite(value) for value in history[0].values())


@pytest.mark.parametrize(("section", "name"), NAMES)
def test_every_method_trains_an_epoch_on_real_clients_and_stays_finite(
    section: str, name: str, tmp_path: Path
) -> None:
    if not RETAIL.is_file():
        pytest.skip(f"no {RETAIL}; name the folder of data in SEQMEL_DATA")
    check(section, name, tmp_path, real=True)


@pytest.mark.parametrize(("section", "name"), NAMES)
@pytest.mark.skipif(RETAIL.is_file(), reason="the same is tested on real clients")
def test_every_method_trains_an_epoch_on_made_clients_and_stays_finite(
    section: str, name: str, tmp_path: Path
) -> None:
    check(section, name, tmp_path, real=False)


def test_every_loss_and_miner_is_a_name() -> None:
    known = methods()
    assert set(LOSSES) <= set(known["loss"])
    assert set(MINERS) == set(known["miner"])
