"""Export of a model to run outside seqmel."""

from seqmel.export.onnx import export_onnx

__all__ = ["export_onnx"]
