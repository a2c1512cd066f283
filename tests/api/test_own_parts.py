"""Own parts: registered, named in configs and commands, and refused with a clear line."""

from __future__ import annotations

import pickle
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import pytorch_lightning as lightning
import torch
from in_process import InProcess
from pydantic import Field
from pytorch_lightning.loggers import Logger
from small import TINY, card_events
from torch import Tensor, nn

import seqmel
from seqmel.api.parts import forget_parts
from seqmel.config import methods, reference
from seqmel.core import own_files
from seqmel.core.errors import ConfigError, ModelError, SeqmelError
from seqmel.core.own_files import import_file
from seqmel.data.views import Views, ViewSampler
from seqmel.objectives.losses import InfoNCELoss
from seqmel.objectives.miners import PairMiner

EVENTS = card_events()


class OwnInfoNCE(nn.Module):
    """InfoNCE written again."""

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        self.inner = InfoNCELoss(temperature=temperature)

    def forward(self, embeddings: Tensor, clients: Tensor) -> Tensor:
        return self.inner(embeddings, clients)


class Sums(nn.Module):
    """Running means of the events of a sequence: a recurrence without weights, and a layer."""

    causal = True

    def __init__(self, input_size: int, width: int = 4) -> None:
        super().__init__()
        self.layer, self.output_size = nn.Linear(input_size, width), width

    def forward(self, events: Tensor, batch: Any) -> Tensor:
        states = self.layer(events)
        total = states.cumsum(0)
        before = torch.cat([torch.zeros_like(total[:1]), total])[batch.offsets[:-1]]
        return (total - before[batch.sequence_index]) / (
            1 + (torch.arange(len(events)) - batch.offsets[batch.sequence_index]).unsqueeze(1)
        )


def trained(**options: Any) -> seqmel.Model:
    return seqmel.train(EVENTS, config=TINY, **options)


# --------------------------------------------------------------------------------------------------
# registered


def test_a_registered_loss_trains_as_the_loss_that_it_copies() -> None:
    seqmel.register_loss("own_infonce")(OwnInfoNCE)
    own = trained(loss={"name": "own_infonce", "temperature": 0.2})
    assert own.config.loss.temperature == 0.2
    assert own.fingerprint() == trained(loss={"name": "infonce", "temperature": 0.2}).fingerprint()
    assert methods()["loss"]["own_infonce"] == "InfoNCE written again."


def test_the_options_of_a_part_are_checked_as_all_others() -> None:
    seqmel.register_loss("own_infonce")(OwnInfoNCE)
    for options, line in (
        ({"name": "own_infonce", "temprature": 1}, "unknown option 'loss.temprature'"),
        ({"name": "own_infonce", "temperature": "hot"}, "temperature = 'hot'"),
        ("own_infonze", "Did you mean 'own_infonce'"),
    ):
        with pytest.raises(ConfigError) as error:
            seqmel.Config.from_dict({"loss": options})
        assert line in str(error.value)


def test_bounds_and_lines_of_the_arguments_are_those_of_the_options() -> None:
    @seqmel.register_loss("bounded")
    class Bounded(nn.Module):
        """A loss with bounds.

        Args:
            scale: a factor above zero; None
                has none.
        """

        def __init__(self, scale: Annotated[float, Field(gt=0)] | None = None) -> None:
            super().__init__()

    with pytest.raises(ConfigError, match=r"scale.* = -1\. Expected a number above 0"):
        seqmel.Config.from_dict({"loss": {"name": "bounded", "scale": -1}})
    lines = {
        option.method: option.line for option in reference.options() if "loss.scale" in option.path
    }
    assert lines["bounded"] == "A factor above zero; null has none."


def test_the_config_of_a_part_of_seqmel_can_be_pickled() -> None:
    config = seqmel.Config.from_dict({"loss": {"name": "circle", "scale": 4}})
    assert pickle.loads(pickle.dumps(config)) == config


def test_a_registered_part_may_be_registered_again_and_configs_can_be_pickled() -> None:
    seqmel.register_loss("again")(OwnInfoNCE)
    before = seqmel.Config.from_dict({"loss": "again"})

    @seqmel.register_loss("again")
    class Other(nn.Module):
        def __init__(self, scale: int = 3) -> None:
            super().__init__()

    after = seqmel.Config.from_dict({"loss": {"name": "again", "scale": 4}})
    assert before.loss.temperature == 0.1
    assert after.loss.scale == 4
    assert pickle.loads(pickle.dumps(after)) == after


def test_a_loss_over_pairs_takes_a_miner_also_one_of_ones_own() -> None:
    @seqmel.register_loss("own_pairs")
    class OwnPairs(nn.Module):
        takes = "pairs"
        default_miner = "own_nearest"

        def forward(self, embeddings: Tensor, positives: Any, negatives: Any) -> Tensor:
            apart = (embeddings[negatives.first] - embeddings[negatives.second]).norm(dim=1)
            return torch.where(negatives.real, (1 - apart).clamp(min=0), 0.0).mean()

    @seqmel.register_miner("own_nearest")
    class OwnNearest(PairMiner):
        def __init__(self, near: int = 2, **more: Any) -> None:
            super().__init__(**more)
            self.near = near

        def choose(self, block: Any) -> tuple[Tensor, Tensor]:
            return block.nearest_negatives(self.near)

    model = trained(loss="own_pairs", miner={"near": 3})
    assert (model.config.miner.name, model.config.miner.near) == ("own_nearest", 3)
    with pytest.raises(ConfigError, match="the loss infonce takes no miner, found own_nearest"):
        seqmel.Config.from_dict({"loss": "infonce", "miner": "own_nearest"})


def test_registered_views_and_objectives_take_part_in_a_training() -> None:
    @seqmel.register_view("own_halves")
    @dataclass(frozen=True, kw_only=True)
    class OwnHalves(ViewSampler):
        share: float = 0.5

        def choose(self, clients: Tensor, lengths: Tensor, generator: Any, times: Any) -> Views:
            first = (lengths * self.share).long().clamp(min=1)
            starts = torch.stack([torch.zeros_like(first), first], 1).flatten()
            return Views(
                clients.repeat_interleave(2),
                starts,
                torch.stack([first, lengths - first], 1).flatten(),
            )

    @seqmel.register_objective("own_short")
    class OwnShort(nn.Module):
        def __init__(self, embedding_size: int, power: int = 2) -> None:
            super().__init__()
            self.scale, self.power = embedding_size, power

        def forward(self, encoded: Any) -> Tensor:
            return encoded.vectors.abs().pow(self.power).sum(1).mean() / self.scale

    model = trained(
        views={"name": "own_halves", "share": 0.4},
        objective=["coles", {"name": "own_short", "power": 1}],
    )
    assert model.metrics["history"][0]["loss_own_short"] > 0
    assert model.config.views.share == 0.4


def test_an_encoder_of_ones_own_embeds_alone_as_in_a_batch_and_comes_back_from_a_folder(
    tmp_path: Path,
) -> None:
    seqmel.register_encoder("own_sums")(Sums)
    model = trained(
        encoder={"name": "own_sums", "width": 6}, objective=["coles", "next_event"]
    ).save(tmp_path / "model")
    whole = model.embed(EVENTS)
    first = EVENTS.filter(np.asarray(EVENTS["client_id"]) == whole.index[0])
    np.testing.assert_allclose(model.embed(first).to_numpy(), whole.to_numpy()[:1], atol=5e-5)
    pd.testing.assert_frame_equal(
        seqmel.load(tmp_path / "model").embed(EVENTS), whole, check_exact=True
    )
    with pytest.raises(ModelError, match="encoder is a sums: it has to see all events"):
        model.embed(EVENTS, state=tmp_path / "state.parquet")


# -------------------------------------------------------------------------------------------------
# classes, instances


def test_a_class_or_an_instance_stands_for_a_loss() -> None:
    usual = trained(loss={"name": "infonce", "temperature": 0.3}).fingerprint()
    assert trained(loss=OwnInfoNCE(0.3)).fingerprint() == usual
    assert trained(loss={"name": OwnInfoNCE, "temperature": 0.3}).fingerprint() == usual
    assert trained(loss=OwnInfoNCE).config.loss.model_dump() == {
        "name": "OwnInfoNCE",
        "temperature": 0.1,
    }


def test_estimators_take_classes_and_search_their_options() -> None:
    events = seqmel.EventSequences.read(EVENTS)
    options = {
        "epochs": 1,
        "batch_size": 8,
        "device": "cpu",
        "random_state": 0,
        "preparation": {"min_count": 2},
    }
    embedder = seqmel.SequenceEmbedder(encoder=Sums, loss=OwnInfoNCE, **options)
    embedder.set_params(encoder__width=3, loss__temperature=0.5)
    config = embedder.fit(events).model_.config
    assert (config.encoder.name, config.encoder.width, config.loss.temperature) == ("Sums", 3, 0.5)
    assert pickle.loads(pickle.dumps(embedder)).transform(events).equals(embedder.transform(events))


@pytest.mark.parametrize(
    ("register", "line"),
    [
        (
            lambda: seqmel.register_loss("infonce")(OwnInfoNCE),
            "seqmel has a part 'infonce' in loss already",
        ),
        (
            lambda: seqmel.register_loss("my loss")(OwnInfoNCE),
            "'my loss' cannot be the name of a part",
        ),
        (lambda: seqmel.register_loss("plain")(int), "A registered loss is a torch.nn.Module"),
        (
            lambda: seqmel.register_miner("plain")(OwnInfoNCE),
            "A registered miner is a subclass of Miner",
        ),
        (
            lambda: seqmel.register_view("plain")(OwnInfoNCE),
            "A registered views is a subclass of ViewSampler",
        ),
        (lambda: trained(encoder=Sums(16)), "encoder is an instance of Sums. Give the class"),
    ],
)
def test_what_cannot_be_a_part_is_refused_in_a_line(register: Any, line: str) -> None:
    with pytest.raises(ConfigError) as error:
        register()
    assert line in str(error.value)


def test_an_argument_without_a_type_is_refused() -> None:
    class Untyped(nn.Module):
        def __init__(self, margin=1.0):  # type: ignore[no-untyped-def]
            super().__init__()

    with pytest.raises(ConfigError, match="The argument 'margin' of Untyped has no type"):
        seqmel.register_loss("untyped")(Untyped)


def test_a_loss_that_returns_no_scalar_is_an_error_of_one_line() -> None:
    class Vectors(nn.Module):
        def forward(self, embeddings: Tensor, clients: Tensor) -> Tensor:
            return embeddings

    with pytest.raises(
        SeqmelError,
        match=r"Vectors returned a tensor of shape \(\d+, 128\). Expected a scalar tensor",
    ):
        trained(loss=Vectors)


def test_an_encoder_that_returns_too_few_states_is_an_error_of_one_line() -> None:
    class Shorter(Sums):
        def forward(self, events: Tensor, batch: Any) -> Tensor:
            return super().forward(events, batch)[1:]

    with pytest.raises(SeqmelError, match="The encoder Shorter returned states of shape"):
        trained(encoder=Shorter)


class FailingLoss(OwnInfoNCE):
    def forward(self, embeddings: Tensor, clients: Tensor) -> Tensor:
        return embeddings @ embeddings


class DetachedLoss(OwnInfoNCE):
    def forward(self, embeddings: Tensor, clients: Tensor) -> Tensor:
        return super().forward(embeddings.detach(), clients)


class UnbuiltLoss(OwnInfoNCE):
    def __init__(self, width: int = 4) -> None:
        raise ValueError(f"no {width}")


class FailingEncoder(Sums):
    def forward(self, events: Tensor, batch: Any) -> Tensor:
        raise KeyError("state")


class EncoderOfTwo(Sums):
    def forward(self, events: Tensor, batch: Any) -> Any:
        return super().forward(events, batch), None


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"loss": FailingLoss}, r"The loss FailingLoss failed with RuntimeError: mat1 and mat2"),
        ({"loss": UnbuiltLoss}, r"The loss UnbuiltLoss failed with ValueError: no 4"),
        ({"loss": DetachedLoss}, r"The loss DetachedLoss has no gradient, so it teaches"),
        ({"encoder": FailingEncoder}, r"The encoder FailingEncoder failed with KeyError"),
        ({"encoder": EncoderOfTwo}, r"The encoder EncoderOfTwo returned a tuple"),
    ],
)
def test_an_error_in_a_part_of_ones_own_names_the_part(options: Any, line: str) -> None:
    with pytest.raises(SeqmelError, match=line) as found:
        trained(**options)
    if "failed with" in line:
        assert "test_own_parts.py, line " in str(found.value)
        assert found.value.__cause__ is not None  # with the traceback for Python


@pytest.mark.parametrize("chosen", [None, torch.zeros(3, 2, 2)], ids=["none", "one tensor"])
def test_an_error_in_a_miner_of_ones_own_names_the_miner(chosen: Any) -> None:
    class Odd(PairMiner):
        def choose(self, block: Any) -> Any:
            return chosen

    seqmel.register_miner("odd")(Odd)
    with pytest.raises(SeqmelError, match=r"The miner Odd failed with (Type|Value|Runtime)Error"):
        trained(loss="contrastive", miner="odd")


# --------------------------------------------------------------------------------------------------
# files, folders

MY_PARTS = """
import torch
import seqmel

@seqmel.register_encoder("from_file")
class FromFile(torch.nn.Module):
    def __init__(self, input_size: int, width: int = 4):
        super().__init__()
        self.layer, self.output_size = torch.nn.Linear(input_size, width), width

    def forward(self, events, batch):
        return self.layer(events)
"""


def test_the_command_takes_parts_of_a_file_and_a_model_says_that_it_needs_them(
    tmp_path: Path, in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_parts.py").write_text(MY_PARTS)
    pq.write_table(EVENTS, tmp_path / "events.parquet")
    monkeypatch.chdir(tmp_path)
    options = ["--set", "event_encoder.hidden_size=8", "--epochs", "0", "--device", "cpu"]
    words = ["train", "events.parquet", "-o", "model", "--encoder", "from_file", *options]
    done = in_process.seqmel(*words, "--import", "my_parts.py")
    assert done.returncode == 0, done.stderr
    _forget_the_file(monkeypatch)
    embed = ["embed", "model", "events.parquet", "-o", "vectors.parquet"]
    done = in_process.seqmel(*embed)
    assert (done.returncode, "import" in done.stderr) == (2, True)
    assert (
        "The model in model has the encoder 'from_file', which seqmel does not have" in done.stderr
    )
    done = in_process.seqmel("--import", "my_parts.py", *embed)
    assert done.returncode == 0, done.stderr
    assert len(pd.read_parquet(tmp_path / "vectors.parquet")) == 24
    _forget_the_file(monkeypatch)


def _forget_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that never imported it."""
    forget_parts()
    sys.modules.pop("my_parts")
    monkeypatch.setattr(own_files, "_files", [])


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("absent.py", None, "No Python file to import at"),
        ("parts.txt", "", "No Python file to import at"),
        (
            "broken_parts.py",
            "1 / 0",
            "broken_parts.py cannot be imported: ZeroDivisionError: division by zero",
        ),
        ("torch.py", "", "has the name of a module that is imported already, 'torch'"),
    ],
)
def test_a_file_that_cannot_be_imported_is_refused_in_a_line(
    tmp_path: Path, name: str, text: str | None, line: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as error:
        import_file(tmp_path / name)
    assert line in str(error.value)


# --------------------------------------------------------------------------------------------------
# hooks, own loops


def test_callbacks_and_loggers_of_lightning_take_part_in_a_training() -> None:
    class Counts(lightning.Callback):
        steps = 0

        def on_train_batch_end(self, *_: Any) -> None:
            self.steps += 1

    class Keeps(Logger):
        name, version = "keeps", 0

        def __init__(self) -> None:
            super().__init__()
            self.logged: dict[str, float] = {}

        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            self.logged |= metrics

        def log_hyperparams(self, *_: Any, **__: Any) -> None:
            pass

    counts, keeps = Counts(), Keeps()
    model = trained(callbacks=[counts], loggers=[keeps])
    row = model.metrics["history"][-1]
    assert counts.steps == row["steps"]
    assert keeps.logged["loss"] == pytest.approx(row["loss"])
    assert keeps.logged["recall_at_1"] == pytest.approx(row["recall_at_1"])
    assert model.fingerprint() == trained().fingerprint()
    with pytest.raises(ConfigError, match="callbacks holds 3"):
        trained(callbacks=[3])


def test_batches_are_those_of_a_training_and_their_encoder_becomes_a_model(tmp_path: Path) -> None:
    found = seqmel.batches(EVENTS, config=TINY, views={"count": 2})
    seen = list(found)
    assert (len(found), len(seen), found.epoch) == (len(seen), len(seen), 1)
    assert all(len(batch.clients) == len(batch.sequences) for batch in seen)
    again = [batch.sequences.time for batch in found]
    assert any(not torch.equal(a, b.sequences.time) for a, b in zip(again, seen, strict=True))
    model = found.model(found.encoder())
    assert model.embed(EVENTS).shape == (24, model.encoder.output_size)
    assert seqmel.load(model.save(tmp_path / "model")).fingerprint() == model.fingerprint()


def test_batches_for_a_model_have_its_codes_and_feed_its_encoder() -> None:
    model = seqmel.train(EVENTS, config=TINY)
    few = EVENTS.slice(0, len(EVENTS) // 2)
    found = seqmel.batches(few, model=model, views={"count": 2})
    assert found.vocabulary == model.vocabulary
    assert found.schema == model.schema
    assert seqmel.batches(few, config=TINY).vocabulary != model.vocabulary
    batch = next(iter(found))
    encoded = model.encoder.encode(batch.sequences)
    assert encoded.shape == (len(batch.clients), model.encoder.vector_size)
    assert encoded.requires_grad


def test_batches_have_all_clients_unless_some_are_to_be_held_out() -> None:
    options = {key: value for key, value in TINY.items() if key != "training"}
    count = {
        len(batch.clients.unique())
        for batch in seqmel.batches(EVENTS, config=options, batch_size=24)
    }
    fewer = seqmel.batches(EVENTS, config=options, batch_size=24, validation_fraction=0.5)
    assert count == {24}
    assert {len(batch.clients.unique()) for batch in fewer} == {12}
