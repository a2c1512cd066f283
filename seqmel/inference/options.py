"""The keyword options of all functions that embed: format, clients, device, progress."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from seqmel.core.errors import ConfigError, did_you_mean
from seqmel.core.progress import Progress, Reporting, as_progress
from seqmel.core.renames import rename_keys
from seqmel.core.units import count_words
from seqmel.data.sources.shard import Shard, check_shard
from seqmel.data.tables.number_types import NumberType, check_number_types
from seqmel.data.tables.vector_files import LAYOUTS, Layout, VectorLayout, read_scales
from seqmel.model import TrainedModel

__all__ = ["OF_VECTORS", "EmbedOptions"]

OF_VECTORS = ("layout", "dtype", "dim", "quantization_from")
"""Options of the format of vectors, which predictions do not have."""


@dataclass(frozen=True, kw_only=True)
class EmbedOptions:
    """The keyword options of `Model.embed` and of every function that embeds.

    Attributes:
        layout: "columns" for one column per dimension, `emb_0000` ...; "list" for one fixed-size
            list column `embedding`.
        dtype: number type: float32, float16, int8 (256 steps within each dimension) or binary (one
            bit per dimension). The scales of the last two are in the metadata of the file;
            `read_embeddings` decodes them.
        dim: keep only the first `dim` dimensions, one of the `matryoshka` sizes that the model was
            trained with.
        quantization_from: an earlier file of the same dtype whose scales are used, so that equal
            codes mean the same in both files. None fits them on these vectors.
        shard: (k, n) embeds only the k-th of n disjoint sets of clients, by a hash of the client
            id, so that several hosts can embed one data set in parallel. int8 and binary then need
            `quantization_from`.
        device: the device to compute on: "auto", "cpu", "cuda", "cuda:1", "mps".
        overwrite: replace an existing output.
        progress: None shows progress on a terminal and in a notebook, True everywhere, False
            nowhere; or a `Progress`.
    """

    layout: Layout = "columns"
    dtype: NumberType = "float32"
    dim: int | None = None
    quantization_from: str | Path | None = None
    shard: Shard | None = None
    device: str = "auto"
    overwrite: bool = False
    progress: Reporting = None

    @classmethod
    def of(cls, options: Mapping[str, Any], *, without: Container[str] = ()) -> EmbedOptions:
        """Return the options of a call.

        Args:
            options: its keywords.
            without: options that have no effect there.

        Raises:
            ConfigError: an option does not exist.
        """
        known = [field.name for field in fields(cls) if field.name not in without]
        options = rename_keys(options, {"scales": "quantization_from"}, stacklevel=3)
        for name in options:
            if name not in known:
                raise ConfigError(
                    f"There is no option {name!r} here.{did_you_mean(name, known)} There are: "
                    f"{', '.join(known)}."
                )
        return cls(**options)

    @property
    def given(self) -> dict[str, Any]:
        """Return the options as keywords."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def reporter(self) -> Progress:
        """The progress reporter."""
        return as_progress(self.progress)

    def vector_layout(self, model: TrainedModel) -> VectorLayout:
        """Return the file layout of a model's vectors, after checking it.

        Args:
            model: the model that embeds.

        Raises:
            ConfigError: the layout or number type is unknown; the shard index is out of range; a
                shard of int8 or binary lacks scales; the model was not trained for `dim`; or the
                number type has no scales.
            InputError: the scales do not exist, or are of another type or dimension.
        """
        if self.layout not in LAYOUTS:
            raise ConfigError(
                f"layout cannot be {self.layout!r}. Expected one of: {', '.join(LAYOUTS)}."
            )
        check_number_types((self.dtype,))
        whole = model.encoder.output_size
        if self.dim is not None and self.dim < 1:
            raise ConfigError(f"dim is {self.dim}. Expected a whole number of at least 1.")
        if self.dim is not None and self.dim != whole and self.dim not in model.config.matryoshka:
            raise ConfigError(_no_prefix(model, self.dim))
        if self.quantization_from is not None and self.dtype not in ("int8", "binary"):
            raise ConfigError(
                f"Numbers of type {self.dtype} have no scales. Leave the scales out, or take "
                f"int8 or binary."
            )
        if (
            self.shard is not None
            and check_shard(self.shard)
            and self.quantization_from is None
            and self.dtype in ("int8", "binary")
        ):
            raise ConfigError(
                f"The scales of {self.dtype} come from all vectors, and one shard has only its "
                "own. Give those of an earlier file (--quantization-from FILE), or write float32 "
                "or float16."
            )
        found = (
            read_scales(self.quantization_from, dtype=self.dtype, size=self.dim or whole)
            if self.quantization_from is not None
            else None
        )
        return VectorLayout(self.layout, self.dtype, self.dim, found, model.fingerprint())


def _no_prefix(model: TrainedModel, dim: int) -> str:
    if dim > model.encoder.output_size:
        size = count_words(model.encoder.output_size, "number")
        return f"The vectors of this model have {size}, not {dim:,}."
    sizes = model.config.matryoshka
    if not sizes:
        return (
            f"The first {count_words(dim, 'number')} of this model's vectors are of no use alone: "
            "it was not trained for it. Train with --set embedding_dim=256 --set "
            f"matryoshka=[{dim}], or reduce the vectors by PCA (seqmel evaluate --dims)."
        )
    return (
        f"The model was trained for {', '.join(map(str, sizes))} or all "
        f"{count_words(model.encoder.output_size, 'number')}, not for {dim}."
    )
