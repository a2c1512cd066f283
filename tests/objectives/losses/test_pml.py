"""Losses of pytorch-metric-learning: by name, refused in one line, and an oracle for ours."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from sklearn.base import clone
from small import TINY, card_events, tiny_config
from torch import Tensor, nn
from torch.nn import functional as F

from seqmel.config import Config, read_config
from seqmel.core import metric_learning_library
from seqmel.core.errors import ConfigError, TrainingError
from seqmel.core.metric_learning_library import library_losses
from seqmel.estimators.embedder import SequenceEmbedder
from seqmel.experiment import read_plan
from seqmel.objectives.losses import LOSSES
from seqmel.objectives.losses.pairs import Pairs, Triplets
from seqmel.objectives.losses.pml import PMLLoss

CLIENTS = torch.tensor([0, 3, 0, 1, 1, 2, 3, 0, 3, 2])


@pytest.fixture
def library() -> Any:
    return pytest.importorskip(
        "pytorch_metric_learning", reason="pytorch-metric-learning is not installed"
    )


def vectors(clients: Tensor = CLIENTS) -> Tensor:
    return torch.randn(
        len(clients), 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )


def everything(takes: str, clients: Tensor) -> tuple[Any, ...]:
    """All pairs, all triplets, or the clients."""
    n = range(len(clients))
    same = [(i, j) for i in n for j in n if i != j and clients[i] == clients[j]]
    apart = [(i, j) for i in n for j in n if clients[i] != clients[j]]
    if takes == "batch":
        return (clients,)
    if takes == "pairs":
        return tuple(
            Pairs(*torch.tensor(rows).t(), torch.ones(len(rows), dtype=torch.bool))
            for rows in (same, apart)
        )
    rows = [(i, p, k) for i, p in same for j, k in apart if i == j]
    return (Triplets(*torch.tensor(rows).t(), torch.ones(len(rows), dtype=torch.bool)),)


TWO_VIEWS = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
SAME: list[tuple[str, dict[str, Any], str, dict[str, Any], Tensor]] = [
    ("infonce", {"temperature": 0.2}, "NTXentLoss", {"temperature": 0.2}, CLIENTS),
    ("supcon", {"temperature": 0.3}, "SupConLoss", {"temperature": 0.3}, CLIENTS),
    ("circle", {"margin": 0.3, "scale": 20.0}, "CircleLoss", {"m": 0.3, "gamma": 20}, CLIENTS),
    (
        "multi_similarity",
        {"alpha": 2.0, "beta": 9.0, "threshold": 0.4, "epsilon": None},
        "MultiSimilarityLoss",
        {"alpha": 2, "beta": 9, "base": 0.4},
        CLIENTS,
    ),
    ("lifted_structure", {"margin": 1.0}, "LiftedStructureLoss", {"neg_margin": 1.0}, CLIENTS),
    (
        "triplet",
        {"margin": 0.2, "reduction": "active"},
        "TripletMarginLoss",
        {"margin": 0.2},
        CLIENTS,
    ),
    ("contrastive", {"margin": 2.0, "power": 1}, "ContrastiveLoss", {"neg_margin": 2.0}, CLIENTS),
    ("n_pair", {"length_weight": 0.0}, "NPairsLoss", {}, TWO_VIEWS),
]


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("name", "options", "theirs", "their_options", "clients"), SAME, ids=[row[0] for row in SAME]
)
def test_a_loss_and_its_gradient_are_those_of_the_library(
    name: str, options: dict[str, Any], theirs: str, their_options: dict[str, Any], clients: Tensor
) -> None:
    loss, other = LOSSES[name](**options), PMLLoss(loss=theirs, options=their_options)
    x, y = (vectors(clients).requires_grad_() for _ in range(2))
    found = loss(F.normalize(x, dim=1), *everything(loss.takes, clients))
    assert_equal(found, other(F.normalize(y, dim=1), clients), x, y)


def assert_equal(found: Tensor, expected: Tensor, x: Tensor, y: Tensor) -> None:
    """Two losses, and their gradients for x and for y."""
    torch.testing.assert_close(found, expected.double().squeeze(), rtol=1e-5, atol=1e-6)
    found.backward()
    expected.backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("bins", [5, 21, 101])
def test_histogram_is_that_of_the_library_whose_bins_lie_between_our_nodes(
    bins: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = importlib.import_module("pytorch_metric_learning.losses.histogram_loss")
    pairs = theirs.filter_pairs  # a list of lists; torch warns of a matrix that is indexed by one
    monkeypatch.setattr(theirs, "filter_pairs", lambda *places: tuple(pairs(*places)))
    loss, other = (
        LOSSES["histogram"](bins=bins),
        PMLLoss(loss="HistogramLoss", options={"n_bins": bins - 1}),
    )
    x, y = (vectors().requires_grad_() for _ in range(2))
    assert_equal(loss(F.normalize(x, dim=1), CLIENTS), other(F.normalize(y, dim=1), CLIENTS), x, y)


@pytest.mark.usefixtures("library")
def test_margin_over_the_pairs_of_all_triplets_equals_the_library_with_its_gradient() -> None:
    loss = LOSSES["margin"](margin=0.3, beta=1.1, beta_weight=0.4)
    other = PMLLoss(
        loss="MarginLoss", options={"margin": 0.3, "beta": 1.1, "nu": 0.4, "learn_beta": True}
    )
    (chosen,) = everything("triplets", CLIENTS)
    pairs = (Pairs(chosen.anchor, side, chosen.real) for side in (chosen.positive, chosen.negative))
    x, y = (vectors().requires_grad_() for _ in range(2))
    assert_equal(loss(F.normalize(x, dim=1), *pairs), other(F.normalize(y, dim=1), CLIENTS), x, y)
    (beta,), (theirs,) = loss.parameters(), other.parameters()
    assert beta.grad is not None
    assert theirs.grad is not None
    torch.testing.assert_close(beta.grad, theirs.grad.squeeze(), rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("library")
def test_vicreg_is_that_of_the_library_which_halves_the_weight_of_the_variance() -> None:
    loss = LOSSES["vicreg"](invariance=7.0, variance=5.0, covariance=2.0)
    theirs = importlib.import_module("pytorch_metric_learning.losses")
    other = theirs.VICRegLoss(invariance_lambda=7, variance_mu=10, covariance_v=2)
    x, y = ((0.6 * vectors(TWO_VIEWS)).requires_grad_() for _ in range(2))
    assert_equal(loss(x, TWO_VIEWS), other(y[::2], ref_emb=y[1::2]), x, y)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    "options",
    ["pml/CircleLoss", {"name": "pml/CircleLoss", "m": 0.3}, {"name": "pml", "loss": "CircleLoss"}],
    ids=str,
)
def test_a_name_of_the_library_is_a_loss_and_a_config_comes_back(options: Any) -> None:
    config = Config.from_dict({"loss": options})
    assert config.loss.name == "pml"
    assert config.loss.model_dump()["loss"] == "CircleLoss"
    assert config.loss.model_dump()["options"] == (
        {"m": 0.3} if isinstance(options, dict) and "m" in options else {}
    )
    assert Config.from_dict(config.to_dict()) == config
    set_one_by_one = read_config(None, ["loss=pml/CircleLoss", "loss.m=0.3"])
    assert set_one_by_one == Config.from_dict({"loss": {"name": "pml/CircleLoss", "m": 0.3}})


@pytest.mark.usefixtures("library")
def test_what_does_not_fit_is_not_among_the_losses() -> None:
    known = library_losses()
    assert {
        "CircleLoss",
        "MarginLoss",
        "TripletMarginLoss",
        "FastAPLoss",
        "ContrastiveLoss",
    } <= set(known)
    assert not {
        "ArcFaceLoss",
        "SubCenterArcFaceLoss",
        "CrossBatchMemory",
        "SelfSupervisedLoss",
        "GenericPairLoss",
    } & set(known)


REFUSED: list[tuple[Any, str]] = [
    ("pml/CircleLos", r"no loss 'CircleLos' .*Did you mean 'CircleLoss'.* It has: AngularLoss, "),
    ("pml/ArcFaceLoss", "no loss 'ArcFaceLoss' that takes embeddings and labels"),
    (
        {"name": "pml/CircleLoss", "gama": 1},
        r"CircleLoss .* has no option 'gama'\. Did you mean 'gamma'",
    ),
    (
        {"name": "pml/CircleLoss", "m": "wide"},
        r"CircleLoss .* cannot be used with \{'m': 'wide'\} \(TypeError",
    ),
    (
        "pml/RankedListLoss",
        (
            r"RankedListLoss .* its defaults .*missing 2 required positional arguments: 'margin' "
            r"and 'Tn'"
        ),
    ),
    ("pml/VICRegLoss", "no loss 'VICRegLoss' that takes embeddings and labels"),
    (
        "pml/Nothing",
        (
            r"It has: AngularLoss, .* With options also: ManifoldLoss \(l\), RankedListLoss \(Tn, "
            r"margin\)\."
        ),
    ),
]


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(("options", "message"), REFUSED, ids=lambda v: str(v)[:40])
def test_a_loss_that_cannot_be_is_refused_in_one_line_before_anything_is_read(
    options: Any, message: str, tmp_path: Path
) -> None:
    from seqmel.training.run import train

    unchecked = Config.from_dict(TINY | {"loss": options}, lenient=True)
    with pytest.raises(ConfigError, match=message) as caught:
        train(tmp_path / "no such file.parquet", tmp_path / "model", config=unchecked)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(("options", "message"), REFUSED, ids=lambda v: str(v)[:40])
def test_a_config_and_a_plan_with_such_a_loss_are_refused_when_they_are_read(
    options: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"^my.yaml: loss: .*{message}"):
        Config.from_dict({"loss": options}, source="my.yaml")
    plan = {
        "data": {"cards": {"generated": 300, "targets": ["gender"]}},
        "rows": {"ours": {}, "theirs": {"loss": options}},
    }
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    with pytest.raises(ConfigError, match=f"^row 'theirs': loss: .*{message}") as caught:
        read_plan(tmp_path / "plan.yaml")
    assert "\n" not in str(caught.value)


class Drawing(nn.Module):
    """A loss of a library that draws."""

    def forward(self, *_: Tensor) -> Tensor:
        return torch.rand(())


def test_reading_a_config_leaves_the_random_state_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_learning_library, "library_losses", lambda: {"Drawing": Drawing})
    torch.manual_seed(3)
    before = torch.get_rng_state()
    Config.from_dict({"loss": "pml/Drawing"})
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("library")
def test_a_batch_that_the_library_refuses_is_said_in_one_line() -> None:
    class Refusing(nn.Module):
        def forward(self, *_: Tensor) -> Tensor:
            raise ValueError("some\nwords")

    loss = PMLLoss(loss="CircleLoss", options={})
    loss.inner = Refusing()
    with pytest.raises(
        TrainingError,
        match=r"CircleLoss .* refuses a batch of 10 embeddings of 4 clients: some words",
    ) as caught:
        loss(vectors(), CLIENTS)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("library")
def test_a_loss_of_equally_many_views_sees_the_first_ones_of_each_client_that_has_several() -> None:
    if not hasattr(pytest.importorskip("pytorch_metric_learning").losses, "SmoothAPLoss"):
        pytest.skip("this version of pytorch-metric-learning has no SmoothAPLoss")
    loss = PMLLoss(loss="SmoothAPLoss", options={})
    clients, x = torch.tensor([7, 7, 3, 7, 3, 9]), F.normalize(vectors()[:6], dim=1)
    torch.testing.assert_close(loss(x, clients), loss(x[[0, 1, 2, 4]], clients[[0, 1, 2, 4]]))


@pytest.mark.usefixtures("library")
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")  # the library's own
def test_every_loss_that_is_offered_with_its_defaults_learns_from_one_batch_after_another() -> None:
    with_options = {"ManifoldLoss", "RankedListLoss"}
    for name in sorted(set(library_losses()) - with_options):
        loss = PMLLoss(loss=name, options={})
        for clients in (CLIENTS, CLIENTS):
            x = vectors().requires_grad_()
            loss(F.normalize(x, dim=1), clients).backward()
            assert x.grad is not None
            assert torch.isfinite(x.grad).all(), name


def test_without_the_library_the_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    with pytest.raises(ConfigError, match=r"not installed\. Run: pip install 'seqmel\[pml\]'"):
        PMLLoss(loss="CircleLoss", options={})
    with pytest.raises(
        ConfigError,
        match=r"^the config: loss: .* not installed\. Run: pip install 'seqmel\[pml\]'$",
    ):
        Config.from_dict({"loss": "pml/CircleLoss"})
    embedder = SequenceEmbedder(loss={"name": "pml/CircleLoss", "m": 0.3})
    assert embedder.get_params()["loss__loss"] == "CircleLoss"
    assert clone(embedder).loss == embedder.loss


@pytest.mark.usefixtures("library")
def test_a_model_trained_with_it_loads_and_embeds_without_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seqmel.inference.embed import embed
    from seqmel.model import load_model
    from seqmel.training.run import train

    config = tiny_config(loss={"name": "pml/FastAPLoss", "num_bins": 5}, encoder="none")
    train(card_events(), tmp_path / "model", config=config)
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    model = load_model(tmp_path / "model")
    assert model.config.loss.name == "pml"
    assert all(vectors.isfinite().all() for _, vectors in embed(model, card_events()))
