"""Objectives with labels for some clients: plain losses on the labelled views, and sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from small import SCHEMA, batch_of, card_events, fitted, sequences, tiny_config, vocabulary_of
from torch import Tensor
from torch.nn import functional as F

from seqmel.core.embedding_metrics import unit_vectors
from seqmel.core.errors import ModelError, SeqmelError
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.vocabulary import Vocabulary
from seqmel.inference.embed import embed_sequences
from seqmel.nn.encoder import SequenceEncoder
from seqmel.objectives import Encoded, ViewBatch
from seqmel.objectives.classification import Classification
from seqmel.objectives.labelled import LabelledPart
from seqmel.objectives.losses import SupConLoss
from seqmel.objectives.supervised_contrastive import SupervisedContrastive
from seqmel.training.fit import fit
from seqmel.training.label_codes import label_codes
from seqmel.training.run import train

CLIENTS = torch.tensor([3, 3, 5, 5, 5, 1, 0, 0])
CODES = torch.tensor([1, 0, 0, 1, 0, -1])
"""Of clients 0 to 5: 3 and 0 are of one class, 1 of another, 5 of none that is known."""


KNOWN, CLASSES = torch.tensor([0, 1, 5, 6, 7]), torch.tensor([1, 1, 0, 1, 1])
"""The views that have a label, and of which class they are."""
BOTH = pytest.mark.parametrize("name", ["supervised_contrastive", "classification"])


def made(name: str, codes: Tensor = CODES, **options: Any) -> tuple[LabelledPart, Encoded]:
    torch.manual_seed(0)
    encoder = SequenceEncoder(tiny_config(), vocabulary_of()).eval()
    batch = ViewBatch.of(batch_of([5, 9, 2, 7, 4, 6, 3, 8]), CLIENTS)
    kind = {"supervised_contrastive": SupervisedContrastive, "classification": Classification}[name]
    return kind(codes, embedding_size=encoder.vector_size, head_size=8, **options), Encoded(
        encoder, batch
    )


def test_the_supervised_contrastive_loss_is_supcon_of_the_labelled_views() -> None:
    part, encoded = made("supervised_contrastive", temperature=0.2)
    vectors = F.normalize(part.head(encoded.vectors), dim=1)[KNOWN]
    torch.testing.assert_close(part(encoded), SupConLoss(temperature=0.2)(vectors, CLASSES))


def test_the_classification_loss_is_the_cross_entropy_of_the_labelled_views() -> None:
    part, encoded = made("classification")
    logs = part.head(encoded.vectors)[KNOWN].log_softmax(1).detach()
    assert logs.shape == (5, 2)
    expected = -sum(float(row[code]) for row, code in zip(logs, CLASSES, strict=True)) / 5
    assert part(encoded).item() == pytest.approx(expected, rel=1e-5)


def test_smoothing_spreads_a_label_over_all_classes_and_balanced_classes_count_the_same() -> None:
    part, encoded = made("classification", label_smoothing=0.2, class_weight="balanced")
    logs = part.head(encoded.vectors)[KNOWN].log_softmax(1).detach()
    weights = {0: 5 / (2 * 3), 1: 5 / (2 * 2)}  # of the five labelled clients three are of class 0
    costs = [
        -weights[code] * (0.8 * float(row[code]) + 0.2 * float(row.mean()))
        for row, code in zip(logs, CLASSES.tolist(), strict=True)
    ]
    assert part(encoded).item() == pytest.approx(sum(costs) / 5, rel=1e-5)


@BOTH
def test_views_without_a_label_have_no_part_in_it(name: str) -> None:
    part, encoded = made(name)
    vectors = encoded.vectors.detach().requires_grad_()
    encoded.__dict__["vectors"] = vectors
    part(encoded).backward()
    assert vectors.grad is not None
    assert vectors.grad.any(1).tolist() == [True, True, False, False, False, True, True, True]


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("supervised_contrastive", [-1] * 6),
        ("supervised_contrastive", [-1, 0, -1, -1, -1, -1]),
        ("classification", [-1, -1, 1, -1, 0, -1]),
    ],
    ids=["no label", "one labelled view", "labels of others"],
)
def test_where_too_few_views_have_a_label_it_is_zero_with_zero_gradient(
    name: str, codes: list[int]
) -> None:
    part, encoded = made(name, torch.tensor(codes))
    loss = part(encoded)
    loss.backward()
    assert loss.item() == 0.0
    assert not any(w.grad is not None and w.grad.any() for w in part.parameters())


def held() -> tuple[EncodedSequences, Vocabulary]:
    table = card_events(24)
    vocabulary = fitted(table, SCHEMA, min_count=2)
    return sequences(table, SCHEMA, vocabulary), vocabulary


def table_of(folder: Path, clients: EncodedSequences, *, every: int = 1, values: Any = None) -> str:
    """Every so many-th client is labelled, at random as far as the events go."""
    ids = clients.client_ids.to_pandas()[::every]
    labels = pd.DataFrame(
        {
            "client_id": ids,
            "group": [f"g{i % 2}" for i in range(len(ids))] if values is None else values,
        }
    )
    labels.to_parquet(folder / "labels.parquet")
    return str(folder / "labels.parquet")


def objective(
    labels: str, target: str = "group", name: str = "supervised_contrastive"
) -> list[Any]:
    return ["coles", {"name": name, "labels": labels, "target": target, "weight": 3.0}]


def test_codes_are_those_of_the_clients_that_have_a_label(tmp_path: Path) -> None:
    encoded, _ = held()
    path = table_of(tmp_path, encoded, every=3)
    codes = label_codes(tiny_config(objective=objective(path)), encoded)
    assert list(codes) == ["supervised_contrastive"]
    assert codes["supervised_contrastive"].tolist() == [
        (i // 3) % 2 if i % 3 == 0 else -1 for i in range(24)
    ]
    assert label_codes(tiny_config(), encoded) == {}


def test_each_part_has_the_labels_that_it_names(tmp_path: Path) -> None:
    encoded, _ = held()
    ids = encoded.client_ids.to_pandas()
    table = pd.DataFrame(
        {"client_id": ids, "two": [i % 2 for i in range(24)], "three": [i % 3 for i in range(24)]}
    )
    table.to_parquet(tmp_path / "labels.parquet")
    parts = [*objective(str(tmp_path / "labels.parquet"), "two"),
             objective(str(tmp_path / "labels.parquet"), "three", "classification")[1]]  # fmt: skip
    codes = label_codes(tiny_config(objective=parts), encoded)
    assert codes["supervised_contrastive"].tolist() == [i % 2 for i in range(24)]
    assert codes["classification"].tolist() == [i % 3 for i in range(24)]
    _, history = fit(encoded, held()[1], tiny_config(objective=parts))
    assert min(history[0]["loss_supervised_contrastive"], history[0]["loss_classification"]) > 0


def apart(objective_: Any, training: dict[str, Any]) -> float:
    """How much more alike clients of one group are than those of two, after a training."""
    encoded, vocabulary = held()
    config = tiny_config(objective=objective_, encoder="none", training=training, embedding_dim=16)
    encoder, _ = fit(encoded, vocabulary, config)
    unit = unit_vectors(embed_sequences(encoder, encoded, config))
    same = (torch.arange(24).unsqueeze(0) - torch.arange(24).unsqueeze(1)) % 2 == 0
    cosines = unit @ unit.t()
    return float(cosines[same].mean() - cosines[~same].mean())


@BOTH
def test_labels_draw_the_clients_of_a_group_together(name: str, tmp_path: Path) -> None:
    parts = objective(table_of(tmp_path, held()[0]), name=name)
    training = {"epochs": 15, "batch_size": 12, "validation_fraction": 0.0, "learning_rate": 3e-2}
    without, beside, alone = (apart(o, training) for o in ("coles", parts, parts[1:]))
    assert without + 0.08 < beside < alone - 0.1


@BOTH
def test_a_training_with_labels_of_a_share_of_the_clients_writes_a_model_with_a_card(
    name: str, tmp_path: Path
) -> None:
    path = table_of(tmp_path, held()[0], every=2)
    config = tiny_config(objective=objective(path, name=name))
    folder = train(card_events(24), tmp_path / "model", config=config)
    from seqmel.model import load_model

    Path(path).unlink()
    history = load_model(folder).metrics["history"]
    assert history[0][f"loss_{name}"] > 0
    assert f"Objective coles + {name}," in (folder / "README.md").read_text()


def test_labels_that_changed_their_classes_since_a_training_was_interrupted_are_said_in_one_line(
    tmp_path: Path,
) -> None:
    encoded, vocabulary = held()
    path = table_of(tmp_path, encoded)
    config = tiny_config(objective=objective(path, name="classification"))
    fit(encoded, vocabulary, config, checkpoints=tmp_path / "checkpoints")
    table_of(tmp_path, encoded, values=[f"g{i % 3}" for i in range(24)])
    with pytest.raises(
        ModelError,
        match=(
            r"^The checkpoint .*last\.ckpt cannot be read \(size mismatch .*--overwrite and "
            r"train anew\.$"
        ),
    ):
        fit(encoded, vocabulary, config, checkpoints=tmp_path / "checkpoints")


@BOTH
@pytest.mark.parametrize(
    "case", ["no file", "no column", "no such clients", "one class", "no option"]
)
def test_labels_that_do_not_fit_are_said_in_one_line_and_nothing_is_left(
    case: str, name: str, tmp_path: Path
) -> None:
    encoded, _ = held()
    path = table_of(tmp_path, encoded, values=["g"] * 24 if case == "one class" else None)
    if case == "no such clients":
        pd.DataFrame({"client_id": [1, 2, 3], "group": ["a", "b", "a"]}).to_parquet(path)
    given: Any = objective(path, "grup" if case == "no column" else "group", name)
    if case == "no file":
        given[1]["labels"] += "x"
    if case == "no option":
        del given[1]["target"]
    with pytest.raises(SeqmelError) as caught:
        train(card_events(24), tmp_path / "model", config=tiny_config(objective=given))
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["labels.parquet"]


@BOTH
def test_labels_that_are_handed_over_are_taken_in_place_of_those_that_the_config_names(
    name: str, tmp_path: Path
) -> None:
    encoded, vocabulary = held()
    config = tiny_config(objective=objective(table_of(tmp_path, encoded), name=name))
    y = pd.read_parquet(tmp_path / "labels.parquet").set_index("client_id")["group"]
    _, read = fit(encoded, vocabulary, config)
    (tmp_path / "labels.parquet").unlink()
    _, given = fit(encoded, vocabulary, config, labels={name: y})
    _, half = fit(encoded, vocabulary, config, labels={name: y.iloc[:12]})
    assert given == read != half
