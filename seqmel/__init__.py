"""seqmel: embeddings of event sequences, for anything that learns from clients.

    from seqmel import Config, embed_to_parquet, load_model, train

Names are loaded when they are first used, so that importing seqmel costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "AggregateFeatures",
    "AggregatePlan",
    "CardData",
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
    "Scores",
    "SeqmelError",
    "SequenceClassifier",
    "SequenceEmbedder",
    "SequenceRegressor",
    "TrainingError",
    "Vocabulary",
    "drift",
    "embed",
    "embed_as_of",
    "embed_spark",
    "embed_spark_to_parquet",
    "embed_to_parquet",
    "embed_update",
    "export_onnx",
    "finetune",
    "generate_card_data",
    "infer_schema",
    "label_curve",
    "load_model",
    "measure_retrieval",
    "open_events",
    "predict",
    "predict_as_of",
    "predict_to_parquet",
    "prepare",
    "prepare_spark",
    "read_config",
    "read_embeddings",
    "read_labels",
    "score",
    "size_curve",
    "train",
    "write_report",
]

if TYPE_CHECKING:
    from seqmel.as_of import embed_as_of
    from seqmel.config import Config, read_config
    from seqmel.data.inference import infer_schema
    from seqmel.data.labels import read_embeddings, read_labels
    from seqmel.data.prepared import PreparedSequences
    from seqmel.data.reading import open_events
    from seqmel.data.vocabulary import Vocabulary
    from seqmel.demo.generator import CardData, generate_card_data
    from seqmel.embedding import embed, embed_to_parquet
    from seqmel.errors import (
        ConfigError,
        InputError,
        ModelError,
        OutputError,
        SchemaError,
        SeqmelError,
        TrainingError,
    )
    from seqmel.estimators.aggregates import AggregateFeatures
    from seqmel.estimators.embedder import SequenceEmbedder
    from seqmel.estimators.sequences import EventSequences
    from seqmel.estimators.supervised import SequenceClassifier, SequenceRegressor
    from seqmel.evaluation.aggregates import AggregatePlan
    from seqmel.evaluation.curves import label_curve, size_curve
    from seqmel.evaluation.drift import drift
    from seqmel.evaluation.results import Scores
    from seqmel.evaluation.scoring import score
    from seqmel.evaluation.splits import GroupFolds, OutOfTime
    from seqmel.export.onnx import export_onnx
    from seqmel.model import Model, load_model
    from seqmel.prediction import predict, predict_as_of, predict_to_parquet
    from seqmel.recognition import measure_retrieval
    from seqmel.report.writing import write_report
    from seqmel.schema import EventSchema
    from seqmel.spark.run import embed_spark, embed_spark_to_parquet, prepare_spark
    from seqmel.training.finetune import finetune
    from seqmel.training.run import prepare, train
    from seqmel.updating import embed_update

_HOME = {
    "AggregateFeatures": "estimators.aggregates",
    "AggregatePlan": "evaluation.aggregates",
    "CardData": "demo.generator",
    "Config": "config",
    "ConfigError": "errors",
    "EventSchema": "schema",
    "EventSequences": "estimators.sequences",
    "GroupFolds": "evaluation.splits",
    "InputError": "errors",
    "Model": "model",
    "ModelError": "errors",
    "OutOfTime": "evaluation.splits",
    "OutputError": "errors",
    "PreparedSequences": "data.prepared",
    "SchemaError": "errors",
    "Scores": "evaluation.results",
    "SeqmelError": "errors",
    "SequenceClassifier": "estimators.supervised",
    "SequenceEmbedder": "estimators.embedder",
    "SequenceRegressor": "estimators.supervised",
    "TrainingError": "errors",
    "Vocabulary": "data.vocabulary",
    "drift": "evaluation.drift",
    "embed": "embedding",
    "embed_as_of": "as_of",
    "embed_spark": "spark.run",
    "embed_spark_to_parquet": "spark.run",
    "embed_to_parquet": "embedding",
    "embed_update": "updating",
    "export_onnx": "export.onnx",
    "finetune": "training.finetune",
    "generate_card_data": "demo.generator",
    "infer_schema": "data.inference",
    "label_curve": "evaluation.curves",
    "load_model": "model",
    "measure_retrieval": "recognition",
    "open_events": "data.reading",
    "predict": "prediction",
    "predict_as_of": "prediction",
    "predict_to_parquet": "prediction",
    "prepare": "training.run",
    "prepare_spark": "spark.run",
    "read_config": "config",
    "read_embeddings": "data.labels",
    "read_labels": "data.labels",
    "score": "evaluation.scoring",
    "size_curve": "evaluation.curves",
    "train": "training.run",
    "write_report": "report.writing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'seqmel' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"seqmel.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
