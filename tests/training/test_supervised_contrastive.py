"""Labels for some clients beside other objectives: the loss against SupCon on the labelled views, and where labels come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from small import SCHEMA, batch_of, card_events, fitted, sequences, tiny_config, vocabulary_of
from torch import Tensor
from torch.nn import functional as F

from seqmel.data.sequences import EncodedSequences
from seqmel.data.vocabulary import Vocabulary
from seqmel.embedding import embed_sequences
from seqmel.errors import ConfigError, SeqmelError
from seqmel.experiment import read_plan
from seqmel.losses import SupConLoss
from seqmel.nn.encoder import SequenceEncoder
from seqmel.objectives import Encoded, ViewBatch
from seqmel.objectives.supervised_contrastive import SupervisedContrastive
from seqmel.training.fit import fit
from seqmel.training.label_codes import label_codes
from seqmel.training.run import train
from seqmel.training.validation import unit_vectors

CLIENTS = torch.tensor([3, 3, 5, 5, 5, 1, 0, 0])
CODES = torch.tensor([1, 0, 0, 1, 0, -1])
"""Of clients 0 to 5: 3 and 0 are of one class, 1 of another, 5 of none that is known."""


def made(codes: Tensor = CODES) -> tuple[SupervisedContrastive, Encoded]:
    torch.manual_seed(0)
    encoder = SequenceEncoder(tiny_config(), vocabulary_of()).eval()
    batch = ViewBatch.of(batch_of([5, 9, 2, 7, 4, 6, 3, 8]), CLIENTS)
    part = SupervisedContrastive(codes, embedding_size=encoder.vector_size, head_size=8, temperature=0.2)
    return part, Encoded(encoder, batch)


def test_the_loss_is_supcon_of_the_labelled_views() -> None:
    part, encoded = made()
    known = torch.tensor([0, 1, 5, 6, 7])
    vectors = F.normalize(part.head(encoded.vectors), dim=1)[known]
    expected = SupConLoss(temperature=0.2)(vectors, torch.tensor([1, 1, 0, 1, 1]))
    torch.testing.assert_close(part(encoded), expected)


def test_views_without_a_label_have_no_part_in_it() -> None:
    part, encoded = made()
    vectors = encoded.vectors.detach().requires_grad_()
    encoded.__dict__["vectors"] = vectors
    part(encoded).backward()
    assert vectors.grad is not None
    assert vectors.grad.any(1).tolist() == [True, True, False, False, False, True, True, True]


@pytest.mark.parametrize("codes", [[-1] * 6, [-1, 0, -1, -1, -1, -1]], ids=["no label", "one labelled view"])
def test_without_two_labelled_views_of_a_class_it_is_zero_with_zero_gradient(codes: list[int]) -> None:
    part, encoded = made(torch.tensor(codes))
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
        {"client_id": ids, "group": [f"g{i % 2}" for i in range(len(ids))] if values is None else values}
    )
    labels.to_parquet(folder / "labels.parquet")
    return str(folder / "labels.parquet")


def objective(labels: str, target: str = "group") -> list[Any]:
    return ["coles", {"name": "supervised_contrastive", "labels": labels, "target": target, "weight": 3.0}]


def test_codes_are_those_of_the_clients_that_have_a_label(tmp_path: Path) -> None:
    encoded, _ = held()
    path = table_of(tmp_path, encoded, every=3)
    codes = label_codes(tiny_config(objective=objective(path)), encoded)
    assert codes is not None
    assert codes.tolist() == [(i // 3) % 2 if i % 3 == 0 else -1 for i in range(24)]
    assert label_codes(tiny_config(), encoded) is None


def apart(objective_: Any, training: dict[str, Any]) -> float:
    """How much more alike clients of one group are than those of two, after a training."""
    encoded, vocabulary = held()
    config = tiny_config(objective=objective_, encoder="none", training=training, embedding_dim=16)
    encoder, _ = fit(encoded, vocabulary, config)
    unit = unit_vectors(embed_sequences(encoder, encoded, config))
    same = (torch.arange(24).unsqueeze(0) - torch.arange(24).unsqueeze(1)) % 2 == 0
    cosines = unit @ unit.t()
    return float(cosines[same].mean() - cosines[~same].mean())


def test_labels_draw_the_clients_of_a_group_together(tmp_path: Path) -> None:
    path = table_of(tmp_path, held()[0])
    training = {"epochs": 15, "batch_size": 12, "validation_share": 0.0, "learning_rate": 3e-2}
    without, beside, alone = (apart(o, training) for o in ("coles", objective(path), objective(path)[1:]))
    assert without + 0.08 < beside < alone - 0.1


def test_a_training_with_labels_of_a_share_of_the_clients_writes_a_model(tmp_path: Path) -> None:
    path = table_of(tmp_path, held()[0], every=2)
    folder = train(card_events(24), tmp_path / "model", config=tiny_config(objective=objective(path)))
    from seqmel.model import load_model

    Path(path).unlink()
    history = load_model(folder).metrics["history"]
    assert history[0]["loss_supervised_contrastive"] > 0


@pytest.mark.parametrize("case", ["no file", "no column", "no such clients", "one class", "no option"])
def test_labels_that_do_not_fit_are_said_in_one_line_and_nothing_is_left(case: str, tmp_path: Path) -> None:
    encoded, _ = held()
    path = table_of(tmp_path, encoded, values=["g"] * 24 if case == "one class" else None)
    if case == "no such clients":
        pd.DataFrame({"client_id": [1, 2, 3], "group": ["a", "b", "a"]}).to_parquet(path)
    given: Any = objective(path, "grup" if case == "no column" else "group")
    if case == "no file":
        given[1]["labels"] += "x"
    if case == "no option":
        del given[1]["target"]
    with pytest.raises(SeqmelError) as caught:
        train(card_events(24), tmp_path / "model", config=tiny_config(objective=given))
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["labels.parquet"]


def test_an_experiment_refuses_it_since_it_would_see_the_labels_of_the_test_parts(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "data: {d: {events: e, labels: l, targets: [t]}}\n"
        "rows: {a: {objective: {name: supervised_contrastive, labels: l, target: t}}}\n"
    )
    with pytest.raises(
        ConfigError, match=r"row 'a': .* would see the labels of the test parts\. Take scored: finetuned"
    ):
        read_plan(plan)
