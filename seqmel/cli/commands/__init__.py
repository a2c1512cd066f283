"""The commands, one file each: its arguments, its help and what it does.

Heavy libraries are imported when a command runs, so that `--help` stays fast.
"""

from seqmel.cli.commands.audit import audit
from seqmel.cli.commands.config import config
from seqmel.cli.commands.demo import demo
from seqmel.cli.commands.describe import describe
from seqmel.cli.commands.drift import drift
from seqmel.cli.commands.embed import embed
from seqmel.cli.commands.evaluate import evaluate
from seqmel.cli.commands.experiment import experiment
from seqmel.cli.commands.explain import explain
from seqmel.cli.commands.export import export
from seqmel.cli.commands.finetune import finetune
from seqmel.cli.commands.finish import finish
from seqmel.cli.commands.forecast import forecast
from seqmel.cli.commands.forget import forget
from seqmel.cli.commands.index import index
from seqmel.cli.commands.info import info
from seqmel.cli.commands.label import label
from seqmel.cli.commands.map import map_command
from seqmel.cli.commands.methods import methods
from seqmel.cli.commands.predict import predict
from seqmel.cli.commands.prepare import prepare
from seqmel.cli.commands.pull import pull
from seqmel.cli.commands.push import push
from seqmel.cli.commands.report import report
from seqmel.cli.commands.retrieval import retrieval
from seqmel.cli.commands.runs import runs
from seqmel.cli.commands.score import score
from seqmel.cli.commands.similar import similar
from seqmel.cli.commands.train import train
from seqmel.cli.commands.tune import tune
from seqmel.cli.commands.version import version

__all__ = [
    "audit",
    "config",
    "demo",
    "describe",
    "drift",
    "embed",
    "evaluate",
    "experiment",
    "explain",
    "export",
    "finetune",
    "finish",
    "forecast",
    "forget",
    "index",
    "info",
    "label",
    "map_command",
    "methods",
    "predict",
    "prepare",
    "pull",
    "push",
    "report",
    "retrieval",
    "runs",
    "score",
    "similar",
    "train",
    "tune",
    "version",
]
