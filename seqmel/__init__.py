"""seqmel: embeddings of event sequences, for anything that learns from clients.

    from seqmel import Config, embed_to_parquet, load_model, train

Names are loaded when they are first used, so that importing seqmel costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seqmel.core.threads import limit_spinning

__all__ = [
    "AggregateFeatures",
    "AggregatePlan",
    "Batches",
    "CardData",
    "ClientState",
    "Config",
    "ConfigError",
    "EventSchema",
    "EventSequences",
    "GroupFolds",
    "InputError",
    "Model",
    "ModelError",
    "OutOfTime",
    "OutputError",
    "PreparedSequences",
    "SchemaError",
    "Scorer",
    "Scores",
    "SeqmelError",
    "SequenceClassifier",
    "SequenceEmbedder",
    "SequenceRegressor",
    "SequenceSurvival",
    "TrainingError",
    "Vocabulary",
    "batches",
    "compression_curve",
    "drift",
    "embed",
    "embed_as_of",
    "embed_spark",
    "embed_spark_to_parquet",
    "embed_to_parquet",
    "evaluate_retrieval",
    "export_onnx",
    "finetune",
    "from_pretrained",
    "generate_card_data",
    "infer_schema",
    "label_curve",
    "load",
    "load_model",
    "log_mlflow_model",
    "make_labels",
    "open_events",
    "predict",
    "predict_as_of",
    "predict_to_parquet",
    "prepare",
    "prepare_spark",
    "pull_from_hub",
    "push_to_hub",
    "read_config",
    "read_embeddings",
    "read_labels",
    "register_encoder",
    "register_loss",
    "register_miner",
    "register_objective",
    "register_view",
    "save_mlflow_model",
    "score",
    "similar",
    "train",
    "update_embeddings",
    "write_index",
    "write_report",
]

if TYPE_CHECKING:
    from seqmel.api.batches import Batches, batches
    from seqmel.api.hub import from_pretrained, pull_from_hub, push_to_hub
    from seqmel.api.mlflow_model import log_mlflow_model, save_mlflow_model
    from seqmel.api.model import Model, finetune, load, load_model, train
    from seqmel.api.parts import (
        register_encoder,
        register_loss,
        register_miner,
        register_objective,
        register_view,
    )
    from seqmel.config import Config, read_config
    from seqmel.core.errors import (
        ConfigError,
        InputError,
        ModelError,
        OutputError,
        SchemaError,
        SeqmelError,
        TrainingError,
    )
    from seqmel.data.fitting.schema_inference import infer_schema
    from seqmel.data.schema import EventSchema
    from seqmel.data.sequences.prepared import PreparedSequences
    from seqmel.data.sources.reading import open_events
    from seqmel.data.tables.event_labels import make_labels
    from seqmel.data.tables.labels import read_embeddings, read_labels
    from seqmel.data.vocabulary import Vocabulary
    from seqmel.demo.generator import CardData, generate_card_data
    from seqmel.estimators.aggregates import AggregateFeatures
    from seqmel.estimators.embedder import SequenceEmbedder
    from seqmel.estimators.sequences import EventSequences
    from seqmel.estimators.supervised import (
        SequenceClassifier,
        SequenceRegressor,
        SequenceSurvival,
    )
    from seqmel.evaluation.aggregates import AggregatePlan
    from seqmel.evaluation.curves import compression_curve, label_curve
    from seqmel.evaluation.drift import drift
    from seqmel.evaluation.results import Scores
    from seqmel.evaluation.retrieval import evaluate_retrieval
    from seqmel.evaluation.scoring import score
    from seqmel.evaluation.splits import GroupFolds, OutOfTime
    from seqmel.export.onnx import export_onnx
    from seqmel.inference.as_of import embed_as_of
    from seqmel.inference.embed import embed, embed_to_parquet
    from seqmel.inference.neighbour_index import write_index
    from seqmel.inference.online import ClientState, Scorer
    from seqmel.inference.predict import predict, predict_as_of, predict_to_parquet
    from seqmel.inference.similar import similar
    from seqmel.inference.spark.run import embed_spark, embed_spark_to_parquet, prepare_spark
    from seqmel.inference.update import update_embeddings
    from seqmel.report.writing import write_report
    from seqmel.training.run import prepare

_HOME = {
    "AggregateFeatures": "estimators.aggregates",
    "AggregatePlan": "evaluation.aggregates",
    "Batches": "api.batches",
    "CardData": "demo.generator",
    "ClientState": "inference.online",
    "Config": "config",
    "ConfigError": "core.errors",
    "EventSchema": "data.schema",
    "EventSequences": "estimators.sequences",
    "GroupFolds": "evaluation.splits",
    "InputError": "core.errors",
    "Model": "api.model",
    "ModelError": "core.errors",
    "OutOfTime": "evaluation.splits",
    "OutputError": "core.errors",
    "PreparedSequences": "data.sequences.prepared",
    "SchemaError": "core.errors",
    "Scorer": "inference.online",
    "Scores": "evaluation.results",
    "SeqmelError": "core.errors",
    "SequenceClassifier": "estimators.supervised",
    "SequenceEmbedder": "estimators.embedder",
    "SequenceRegressor": "estimators.supervised",
    "SequenceSurvival": "estimators.supervised",
    "TrainingError": "core.errors",
    "Vocabulary": "data.vocabulary",
    "drift": "evaluation.drift",
    "embed": "inference.embed",
    "embed_as_of": "inference.as_of",
    "embed_spark": "inference.spark.run",
    "embed_spark_to_parquet": "inference.spark.run",
    "embed_to_parquet": "inference.embed",
    "update_embeddings": "inference.update",
    "export_onnx": "export.onnx",
    "finetune": "api.model",
    "from_pretrained": "api.hub",
    "generate_card_data": "demo.generator",
    "infer_schema": "data.fitting.schema_inference",
    "label_curve": "evaluation.curves",
    "load": "api.model",
    "load_model": "api.model",
    "log_mlflow_model": "api.mlflow_model",
    "make_labels": "data.tables.event_labels",
    "evaluate_retrieval": "evaluation.retrieval",
    "open_events": "data.sources.reading",
    "predict": "inference.predict",
    "predict_as_of": "inference.predict",
    "predict_to_parquet": "inference.predict",
    "prepare": "training.run",
    "prepare_spark": "inference.spark.run",
    "pull_from_hub": "api.hub",
    "push_to_hub": "api.hub",
    "read_config": "config",
    "read_embeddings": "data.tables.labels",
    "read_labels": "data.tables.labels",
    "register_encoder": "api.parts",
    "register_loss": "api.parts",
    "register_miner": "api.parts",
    "register_objective": "api.parts",
    "register_view": "api.parts",
    "save_mlflow_model": "api.mlflow_model",
    "score": "evaluation.scoring",
    "similar": "inference.similar",
    "write_index": "inference.neighbour_index",
    "batches": "api.batches",
    "compression_curve": "evaluation.curves",
    "train": "api.model",
    "write_report": "report.writing",
}


_RENAMED = {
    "embed_update": "update_embeddings",
    "measure_retrieval": "evaluate_retrieval",
    "size_curve": "compression_curve",
}
"""Old name -> new name; the old ones are accepted for one release with a warning."""

limit_spinning()  # before anything imports torch

__version__: str
"""Read when it is first asked for; see `seqmel.core.version`."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from seqmel.core.version import __version__ as found

        return found
    if name in _RENAMED:
        from seqmel.core.renames import warn_renamed

        warn_renamed(f"seqmel.{name}", f"seqmel.{_RENAMED[name]}", stacklevel=2)
        name = _RENAMED[name]
    if name in ("errors", "losses", "miners"):
        from importlib import import_module

        return import_module(f"seqmel.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'seqmel' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"seqmel.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
