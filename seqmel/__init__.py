"""seqmel: embeddings of event sequences, for anything that learns from clients.

    from seqmel import Config, embed_to_parquet, load_model, train

Names are loaded when they are first used, so that importing seqmel costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "AggregatePlan",
    "CardData",
    "Config",
    "ConfigError",
    "EventSchema",
    "InputError",
    "Model",
    "ModelError",
    "OutputError",
    "PreparedSequences",
    "SchemaError",
    "Scores",
    "SeqmelError",
    "TrainingError",
    "Vocabulary",
    "embed",
    "embed_as_of",
    "embed_to_parquet",
    "embed_update",
    "generate_card_data",
    "infer_schema",
    "load_model",
    "open_events",
    "prepare",
    "read_config",
    "read_embeddings",
    "read_labels",
    "score",
    "train",
    "write_report",
]

if TYPE_CHECKING:
    from seqmel.as_of import embed_as_of
    from seqmel.config import Config, read_config
    from seqmel.data.inference import infer_schema
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
    from seqmel.evaluation.aggregates import AggregatePlan
    from seqmel.evaluation.labels import read_embeddings, read_labels
    from seqmel.evaluation.results import Scores
    from seqmel.evaluation.scoring import score
    from seqmel.model import Model, load_model
    from seqmel.report.writing import write_report
    from seqmel.schema import EventSchema
    from seqmel.training.run import prepare, train
    from seqmel.updating import embed_update

_HOME = {
    "AggregatePlan": "evaluation.aggregates",
    "CardData": "demo.generator",
    "Config": "config",
    "ConfigError": "errors",
    "EventSchema": "schema",
    "InputError": "errors",
    "Model": "model",
    "ModelError": "errors",
    "OutputError": "errors",
    "PreparedSequences": "data.prepared",
    "SchemaError": "errors",
    "Scores": "evaluation.results",
    "SeqmelError": "errors",
    "TrainingError": "errors",
    "Vocabulary": "data.vocabulary",
    "embed": "embedding",
    "embed_as_of": "as_of",
    "embed_to_parquet": "embedding",
    "embed_update": "updating",
    "generate_card_data": "demo.generator",
    "infer_schema": "data.inference",
    "load_model": "model",
    "open_events": "data.reading",
    "prepare": "training.run",
    "read_config": "config",
    "read_embeddings": "evaluation.labels",
    "read_labels": "evaluation.labels",
    "score": "evaluation.scoring",
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
