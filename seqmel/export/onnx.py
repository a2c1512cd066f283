"""Export a model as one ONNX file: from raw event columns to vectors, vocabulary included.

Inputs, for the E events of B clients, client by client in time order:

    <categorical column>  (E,) string; integers without a decimal point; "" is null
    <numeric column>      (E,) double; NaN is null
    <time column>         (E,) int64 microseconds since 1970 (UTC), or the number times its unit
    offsets               (B + 1,) int64; client b has the events offsets[b] : offsets[b + 1]

Outputs: embedding (B, D) float. A fine-tuned model has one more output per target, under its name:
(B, classes) float probabilities, (B,) float for a quantity, or for the time to an event (B, bounds)
float probabilities that it comes later than each bound. The metadata of the file give the columns
of the inputs, the classes or bounds of the probabilities, the version of seqmel and the fingerprint
of the model. A column or target with the name of another input or output gets a `_` after its name.
The graph is written node by node rather than traced, so that it can be read beside the module that
it mirrors. A test compares the two. Encoders none, gru and lstm can be exported.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from seqmel.core.atomic_files import atomic_write, check_output
from seqmel.core.device import with_own_defaults
from seqmel.core.errors import ModelError, shown
from seqmel.core.units import DAY_US
from seqmel.core.version import __version__
from seqmel.data.kinds.number import KNOTS
from seqmel.data.local_time import LocalTime
from seqmel.data.tables.targets import LARGEST_LINK, Target
from seqmel.data.vocabulary import CLIP, NULL, UNSEEN, NumericScale, NumericScales
from seqmel.export.graph import Clients, Graph
from seqmel.export.poolings import pooled
from seqmel.export.recent import recent_events
from seqmel.model import AnyModel, TrainedModel, as_model
from seqmel.nn.components import PrincipalComponents
from seqmel.nn.encoders.recurrent import Recurrent
from seqmel.nn.heads import CLIP as CLIP_OF_HEADS
from seqmel.nn.heads import Heads
from seqmel.nn.holidays import Holidays

if TYPE_CHECKING:
    import onnx

__all__ = ["export_onnx"]

_OPSET = 18
_ML_OPSET = 3
_IR_VERSION = 8
_SECOND_US = 1_000_000
_FAR = 2**40  # days, beyond all holidays


@with_own_defaults
def export_onnx(model: AnyModel, output: str | Path, *, overwrite: bool = False) -> None:
    """Write the model as an ONNX file.

    Args:
        model: A model folder or a `Model`, with encoder none, gru or lstm, and without attention
            pooling.
        output: The file to write.
        overwrite: Replace existing output.

    Raises:
        ModelError: The encoder or a pooling cannot be exported, the model predicts with facts, or
            the package onnx is not installed.
        OutputError: The output exists or cannot be written.

    Examples:
        >>> import seqmel
        >>> data = seqmel.generate_card_data(20)
        >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
        >>> seqmel.export_onnx(model, "model.onnx")
    """
    model = as_model(model)
    output = Path(output)
    check_output(output, overwrite=overwrite, folder=False)
    content = build(model).SerializeToString()
    with atomic_write(output) as partial:
        partial.write_bytes(content)


@with_own_defaults
def build(model: TrainedModel) -> onnx.ModelProto:
    """Build and check the graph."""
    try:
        import onnx
        from onnx import TensorProto, helper
    except ImportError:
        raise ModelError(
            "Export needs the package onnx. Install it: pip install 'seqmel[onnx]'"
        ) from None
    sequence = model.encoder.sequence
    if sequence is not None and not isinstance(sequence, Recurrent):
        raise ModelError(
            "An ONNX file holds models with encoder none, gru or lstm; this one has a transformer."
        )
    if "attention" in model.encoder.pooling.names:
        raise ModelError("An ONNX file holds all poolings but attention, which this model has.")
    if model.facts is not None:
        raise ModelError(
            "An ONNX file holds models without facts about clients; this one was fine-tuned with "
            f"{shown(map(repr, model.facts.names))}. Export the model before fine-tuning."
        )
    schema = model.schema
    if schema.kinds:
        column, kind = next(iter(schema.kinds.items()))
        raise ModelError(
            f"An ONNX file holds models of categories and numbers; column {column!r} of this one "
            f"is {kind}. Train a model without it: schema.ignore."
        )
    if model.vocabulary.time.zones:
        zones = (f"{name} in {table.time_zone or 'UTC'}" for name, table in schema.sources.items())
        raise ModelError(
            "An ONNX file has one time zone, and the tables of this model have several: "
            f"{shown(zones)}. Train with one for all: schema.time_zone."
        )
    graph = Graph()
    size = model.encoder.output_size
    named = _names(
        (schema.time, *schema.features, *(f"target {target.name}" for target in model.targets))
    )
    graph.op("Identity", _Export(model, graph, named).embedding(), out="embedding")
    inputs = [helper.make_tensor_value_info(named[schema.time], TensorProto.INT64, ["events"])]
    inputs += [
        helper.make_tensor_value_info(named[n], TensorProto.STRING, ["events"])
        for n in schema.categorical
    ]
    inputs += [
        helper.make_tensor_value_info(named[n], TensorProto.DOUBLE, ["events"])
        for n in schema.numeric
    ]
    inputs.append(helper.make_tensor_value_info("offsets", TensorProto.INT64, ["clients_plus_one"]))
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["clients", size])]
    for target, value in zip(model.targets, _heads(graph, model), strict=True):
        name = named[f"target {target.name}"]
        graph.op("Identity", value, out=name)
        chances = target.classes or target.edges
        shape: list[str | int | None] = ["clients", target.size] if chances else ["clients"]
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    made = helper.make_model(
        helper.make_graph(graph.nodes, "seqmel", inputs, outputs, graph.constants),
        opset_imports=[
            helper.make_opsetid("", _OPSET),
            helper.make_opsetid("ai.onnx.ml", _ML_OPSET),
        ],
        ir_version=_IR_VERSION,
        producer_name="seqmel",
        doc_string=__doc__ or "",
    )
    onnx.checker.check_model(made)
    columns = {
        "client": schema.client,
        "time": schema.time,
        "categorical": schema.categorical,
        "numeric": schema.numeric,
    }
    targets = [
        {"name": t.name, "output": named[f"target {t.name}"], "classes": t.classes}
        | ({"edges": t.edges} if t.edges else {})
        for t in model.targets
    ]
    about = {
        "version": __version__,
        "fingerprint": model.fingerprint(),
        "schema": columns,
        "inputs": named,
        "targets": targets,
    }
    helper.set_model_props(
        made, {f"seqmel.{k}": v if isinstance(v, str) else json.dumps(v) for k, v in about.items()}
    )
    return made


def _names(wanted: Sequence[str]) -> dict[str, str]:
    """Return unique names of inputs and outputs: column, or "target" and the target -> name."""
    found: dict[str, str] = {}
    for key in wanted:
        name = key.removeprefix("target ")
        name = f"_{name}" if name.startswith("/") else name  # intermediate values start with "/"
        while name in ("offsets", "embedding", *found.values()):
            name += "_"
        found[key] = name
    return found


def _heads(g: Graph, model: TrainedModel) -> list[str]:
    """Build the output of each target: (B, size) probabilities or (B,) quantities."""
    if model.heads is None:
        return []
    heads = model.heads
    assert isinstance(heads, Heads), "export_onnx refuses facts"
    centred = g.op("Sub", "embedding", g.weight(heads.center))
    inputs = g.op(
        "Clip",
        g.op("Div", centred, g.weight(heads.scale)),
        g.const(-CLIP_OF_HEADS, np.float32),
        g.const(CLIP_OF_HEADS, np.float32),
    )
    out = g.linear(inputs, heads.linear)
    begin = 0
    found: list[str] = []
    for target in model.targets:
        bounds = (
            g.const([begin], np.int64),
            g.const([begin + target.size], np.int64),
            g.const([1], np.int64),
        )
        found.append(_predicted(g, target, g.op("Slice", out, *bounds)))
        begin += target.size
    return found


def _predicted(g: Graph, target: Target, out: str) -> str:
    """Build the predictions of `Target` from (B, size) outputs of its head."""
    if target.classes:
        return g.op("Softmax", g.op("Div", out, g.const(target.temperature, np.float32)), axis=1)
    if target.edges:
        hazards = g.op("CumSum", g.op("Softplus", out), g.const(1, np.int64))
        return g.op("Exp", g.op("Neg", hazards))
    number = g.op("Squeeze", out, g.const([1], np.int64))
    if target.has_log_link:
        log = g.op("Min", number, g.const(LARGEST_LINK, np.float32))
        return g.op("Mul", g.op("Exp", log), g.const(target.scale, np.float32))
    scaled = g.op("Mul", number, g.const(target.scale, np.float32))
    quantity = g.op("Add", scaled, g.const(target.center, np.float32))
    if not target.log:
        return quantity
    power = g.op("Exp", g.op("Max", quantity, g.const(0.0, np.float32)))
    less = g.op("Sub", power, g.const(1.0, np.float32))
    return g.op("Mul", less, g.const(target.factor, np.float32))


class _Export:
    """Builds the encoder in the order of `SequenceEncoder.embed`."""

    def __init__(self, model: TrainedModel, graph: Graph, named: Mapping[str, str]) -> None:
        self.model = model
        self.g = graph
        self.named = named
        self.time = named[model.schema.time]
        self.of = Clients(graph, self.time)
        self.source = None if model.schema.source is None else self._codes(model.schema.source)
        self.present = {name: self._present(name) for name in model.schema.features}
        self.codes = {name: self._present_codes(name) for name in model.schema.categorical}
        self.missing = {n: graph.op("IsNaN", named[n]) for n in model.schema.numeric}
        self.numbers = {name: self._number(name) for name in model.schema.numeric}
        self.gap, self.same_time = self._gaps()

    def embedding(self) -> str:
        g = self.g
        encoder = self.model.encoder
        events = self._network(
            g.op("Add", self._features(), g.linear(self._time_features(), encoder.events.from_time))
        )
        if not isinstance(encoder.sequence, Recurrent):
            parts = pooled(g, self.of, encoder.pooling, events, encoder.state_size, self.codes)
        elif encoder.state_pooling is None:
            states = g.op("Concat", events, self._recurrent(events, encoder.sequence), axis=1)
            parts = pooled(g, self.of, encoder.pooling, states, encoder.state_size, self.codes)
        else:
            size = encoder.sequence.output_size
            states = self._recurrent(events, encoder.sequence)
            parts = pooled(
                g, self.of, encoder.pooling, events, encoder.events.output_size, self.codes
            )
            parts += pooled(g, self.of, encoder.state_pooling, states, size, self.codes)
        vectors = g.op("Concat", *parts, axis=1)
        if encoder.project is not None:
            vectors = g.linear(vectors, encoder.project)
        if encoder.last_event is not None:
            size = encoder.events.output_size
            last = pooled(g, self.of, encoder.last_event, events, size, self.codes)
            vectors = g.op("Concat", vectors, *last, axis=1)
        if encoder.components is not None:
            vectors = self._compressed(vectors)
        if encoder.recent is not None:
            beside = recent_events(
                g,
                self.of,
                encoder.recent,
                self.codes,
                self.numbers,
                self.gap,
                self.present,
                self.missing,
                self.time,
            )
            vectors = g.op("Concat", vectors, *beside, axis=1)
        return (
            vectors
            if encoder.end_us is None
            else g.op("Concat", vectors, self._profile(encoder.end_us), axis=1)
        )

    def _compressed(self, vectors: str) -> str:
        """Build `SequenceEncoder.components`, before the columns of `category_mean`."""
        g = self.g
        encoder = self.model.encoder
        assert encoder.components is not None
        begin, end = encoder.by_category_columns
        kept = np.arange(begin, end)
        others = np.setdiff1d(np.arange(encoder.pooled_size), kept)
        parts = [self._components(encoder.components, vectors, others)]
        parts.append(g.op("Gather", vectors, g.const(kept, np.int64), axis=1))
        if encoder.last_event is not None:
            last = encoder.pooled_size + np.arange(encoder.last_event.output_size)
            reduced = encoder.components.of_last_event
            parts.append(
                g.op("Gather", vectors, g.const(last, np.int64), axis=1)
                if reduced is None
                else self._components(reduced, vectors, last)
            )
        return g.op("Concat", *parts, axis=1)

    def _components(
        self, of: PrincipalComponents, vectors: str, columns: npt.NDArray[np.int64]
    ) -> str:
        """Build `PrincipalComponents` of some columns."""
        g = self.g
        mean, weight = (g.const(part.cpu().numpy(), np.float64) for part in (of.mean, of.weight.T))
        chosen = g.op("Gather", vectors, g.const(columns, np.int64), axis=1)
        centred = g.op("Sub", g.cast(chosen, np.float64), mean)
        return g.cast(g.op("MatMul", centred, weight), np.float32)

    def _profile(self, end_us: int) -> str:
        """Build `seqmel.nn.profile`, as of the end of training: (B, 3)."""
        g = self.g
        some = g.op("Greater", self.of.lengths, g.const(0, np.int64))
        padded = g.op("Concat", self.time, g.const([0], np.int64), axis=0)
        rows = (self.of.begins, g.op("Max", self.of.last, g.const(0, np.int64)))
        parts = [
            g.op("Log", g.op("Add", g.cast(self.of.lengths, np.float32), g.const(1.0, np.float32)))
        ]
        for row in rows:
            since = g.cast(
                g.op("Sub", g.const(end_us, np.int64), g.op("Gather", padded, row)), np.float64
            )
            days = g.op("Div", since, g.const(float(DAY_US), np.float64))
            log = g.op("Log", g.op("Add", g.op("Abs", days), g.const(1.0, np.float64)))
            ago = g.cast(g.op("Mul", g.op("Sign", days), log), np.float32)
            parts.append(g.op("Where", some, ago, g.const(0.0, np.float32)))
        return g.op("Concat", *(g.unsqueeze(part, 1) for part in parts), axis=1)

    def _features(self) -> str:
        """Build the weighted sums of rows of the table: (E, H)."""
        g = self.g
        events = self.model.encoder.events
        codes = self.codes
        table = g.weight(events.table)
        parts = [
            self._weighed(
                name,
                g.op("Gather", table, g.op("Add", code, g.const(events.begins[name], np.int64))),
            )
            for name, code in codes.items()
        ]
        for name, scales in self.model.vocabulary.numeric.items():
            curve = self._curve(name, table, codes[scales.by] if scales.by else None)
            parts += [self._weighed(name, part) for part in curve]
        return g.op("Sum", *parts)

    def _present(self, name: str) -> str | None:
        """Build (E,) float: 1 if an event's table has a column, else 0; None if all have it."""
        vocabulary = self.model.vocabulary
        g = self.g
        tables = vocabulary.present_in(name)
        if tables is None or vocabulary.source is None or self.source is None:
            return None
        size = vocabulary.categorical[vocabulary.source].size
        there = g.const([i in tables for i in range(size)], np.float32)
        return g.op("Gather", there, self.source)

    def _weighed(self, name: str, rows: str) -> str:
        """Build (E, H) rows of a column, zero in events of tables without it."""
        present = self.present[name]
        return rows if present is None else self.g.op("Mul", rows, self.g.unsqueeze(present, 1))

    def _present_codes(self, name: str) -> str:
        """Build (E,) codes, that of null in events of tables without the column."""
        present = self.present[name]
        g = self.g
        if name == self.model.schema.source and self.source is not None:
            return self.source
        code = self._codes(name)
        if present is None:
            return code
        return g.op("Where", g.cast(present, np.bool_), code, g.const(NULL, np.int64))

    def _codes(self, name: str) -> str:
        known = self.model.vocabulary.categorical[name]
        keys = {value: code for code, value in enumerate(known.values, start=2)}
        keys = {"": known.null_code} | keys
        return self.g.op(
            "LabelEncoder",
            self.named[name],
            domain="ai.onnx.ml",
            keys_strings=list(keys),
            values_int64s=list(keys.values()),
            default_int64=UNSEEN,
        )

    def _curve(self, name: str, table: str, code: str | None) -> list[str]:
        """Interpolate a number between the rows of its knots. A missing number has the last row."""
        g = self.g
        events = self.model.encoder.events
        knots = np.array(KNOTS, np.float32)
        missing = self.missing[name]
        number = self.numbers[name]
        above = g.op("GreaterOrEqual", g.unsqueeze(number, 1), g.const(knots[1:-1], np.float32))
        left = g.op("ReduceSum", g.cast(above, np.int64), g.const([1], np.int64), keepdims=0)
        low, high = (g.op("Gather", g.const(knots[i : len(knots) - 1 + i]), left) for i in (0, 1))
        share = g.op("Div", g.op("Sub", number, low), g.op("Sub", high, low))
        begin = g.const(events.begins[name], np.int64)
        if code is not None:
            begin = g.op("Add", begin, g.op("Mul", code, g.const(len(knots) + 1, np.int64)))
        nothing = g.const(len(knots), np.int64)
        right = g.op("Add", left, g.const(1, np.int64))
        weights = (g.op("Sub", g.const(1.0, np.float32), share), share)
        rows = [g.op("Add", begin, g.op("Where", missing, nothing, row)) for row in (left, right)]
        return [
            g.op("Mul", g.op("Gather", table, row), g.unsqueeze(weight, 1))
            for row, weight in zip(rows, weights, strict=True)
        ]

    def _number(self, name: str) -> str:
        scales = self.model.vocabulary.numeric[name]
        return self._scaled(
            name,
            scales,
            self.codes[scales.by] if scales.by else None,
            self.missing[name],
        )

    def _scaled(self, name: str, scales: NumericScales, code: str | None, missing: str) -> str:
        """Build (E,) float on the robust scale, zero if missing."""
        g = self.g
        size = len(scales.within) if code is not None else 1
        each = [scales.of_code(i) for i in range(size)] if code is not None else [scales.overall]
        unit, center, scale = (
            self._of_code(each, field, code) for field in ("log_unit", "center", "scale")
        )
        known = g.op("Where", missing, g.const(0.0, np.float64), self.named[name])
        log = g.op(
            "Log", g.op("Add", g.const(1.0, np.float64), g.op("Div", g.op("Abs", known), unit))
        )
        linear = g.op("IsNaN", unit)
        value = g.op("Where", linear, known, g.op("Mul", g.op("Sign", known), log))
        z = g.op("Div", g.op("Sub", value, center), scale)
        clipped = g.op("Clip", z, g.const(-CLIP, np.float64), g.const(CLIP, np.float64))
        return g.op("Where", missing, g.const(0.0, np.float32), g.cast(clipped, np.float32))

    def _of_code(self, scales: list[NumericScale], field: str, code: str | None) -> str:
        """Build (E,) or a scalar: a field of each event's scale, NaN for a missing log unit."""
        values = [math.nan if getattr(s, field) is None else getattr(s, field) for s in scales]
        if code is None:
            return self.g.const(values[0], np.float64)
        return self.g.op("Gather", self.g.const(values, np.float64), code)

    def _gaps(self) -> tuple[str, str]:
        """Build (E,) float: the scaled gap before each event, and 1 if it is zero."""
        g = self.g
        scale = self.model.encoder.events.time.scale
        before = g.op(
            "Gather",
            self.time,
            g.op("Max", g.op("Sub", self._rows(), g.const(1, np.int64)), g.const(0, np.int64)),
        )
        first = g.op("Equal", self.of.place, g.const(0, np.int64))
        gap = g.op("Where", first, g.const(0, np.int64), g.op("Sub", self.time, before))
        return self._scaled_gap(gap, scale.gap_center, scale.gap_scale)

    def _time_features(self) -> str:
        """Build `TimeFeatures`: (E, T)."""
        g = self.g
        features = self.model.encoder.events.time
        parts = [self.gap, self.same_time]
        beside = self._source_gaps()
        time = self._local_time(features.local)
        for period, harmonics in features.cycles_us:
            phase = g.cast(g.op("Mod", time, g.const(period, np.int64)), np.float64)
            turn = g.cast(g.op("Div", phase, g.const(float(period), np.float64)), np.float32)
            turn = g.op("Mul", turn, g.const(2 * math.pi, np.float32))
            for harmonic in range(1, harmonics + 1):
                angle = g.op("Mul", turn, g.const(float(harmonic), np.float32))
                parts += [g.op("Sin", angle), g.op("Cos", angle)]
        parts += self._holidays(features.holidays, time)
        return g.op("Concat", *(g.unsqueeze(part, 1) for part in (*parts, *beside)), axis=1)

    def _holidays(self, holidays: Holidays, time: str) -> list[str]:
        """Build `Holidays`: three times (E,) float, or nothing without holidays."""
        if not holidays.output_size:
            return []
        g = self.g
        length = g.const(DAY_US, np.int64)
        day = g.op("Div", g.op("Sub", time, g.op("Mod", time, length)), length)
        common, *own = holidays.calendars
        found = self._near(day, common)
        for code, days in zip(holidays.codes, own, strict=True):
            assert self.source is not None, "tables with own holidays have names"
            there = g.op("Equal", self.source, g.const(code, np.int64))
            found = [
                g.op("Where", there, new, old)
                for new, old in zip(self._near(day, days), found, strict=True)
            ]
        return found

    def _near(self, day: str, days: Tensor) -> list[str]:
        """Build three times (E,) float: is the day a holiday, how near is the next, the last one.

        The holidays have an end at both sides that is too far away to count.
        """
        g = self.g
        far = np.array([-_FAR], np.int64), np.array([_FAR], np.int64)
        known = g.const(np.concatenate([far[0], days.cpu().numpy(), far[1]]), np.int64)
        events = g.unsqueeze(day, 1)

        def near(compare: str, *, ahead: bool) -> str:
            passed = g.cast(g.op(compare, events, g.unsqueeze(known, 0)), np.int64)
            count = g.op("ReduceSum", passed, g.const([1], np.int64), keepdims=0)
            at = count if ahead else g.op("Sub", count, g.const(1, np.int64))
            apart = g.op("Abs", g.op("Sub", g.op("Gather", known, at), day))
            close = g.op("Less", apart, g.const(_FAR // 2, np.int64))
            share = g.op(
                "Div",
                g.const(1.0, np.float32),
                g.op("Add", g.const(1.0, np.float32), g.cast(apart, np.float32)),
            )
            return g.op("Where", close, share, g.const(0.0, np.float32))

        following, last = near("Greater", ahead=True), near("GreaterOrEqual", ahead=False)
        today = g.cast(g.op("Equal", last, g.const(1.0, np.float32)), np.float32)
        return [today, following, last]

    def _local_time(self, local: LocalTime) -> str:
        """Build `LocalTime` added to the time: (E,) int64."""
        if local.is_utc:
            return self.time
        g = self.g
        changes = g.const(local.changes[0].numpy(), np.int64)
        passed = g.op("GreaterOrEqual", g.unsqueeze(self.time, 1), g.unsqueeze(changes, 0))
        place = g.op("ReduceSum", g.cast(passed, np.int64), g.const([1], np.int64), keepdims=0)
        offsets = g.const(local.offsets[0].numpy(), np.int64)
        return g.op("Add", self.time, g.op("Gather", offsets, place))

    def _source_gaps(self) -> list[str]:
        """Build `SourceGaps`, (E,) float each: the scaled gap within the table; 1 if it is zero.

        Events are sorted by client, table and time with unique keys, as ONNX has no stable sort.
        """
        g = self.g
        module = self.model.encoder.events.source_gaps
        if module is None or self.source is None:
            return []
        size = g.const(module.size, np.int64)
        one = g.const([1], np.int64)
        group = g.op("Add", g.op("Mul", self.of.which, size), self.source)
        key = g.op("Add", g.op("Mul", group, self.of.events), self._rows())
        order = g.op("TopK", key, self.of.events, count=2, axis=0, largest=0) + "_1"
        first = g.const([0], np.int64)

        def since_before(values: str) -> str:
            """(E,) differences to the value before, of the first to itself."""
            ahead = g.op("Slice", values, g.const([0], np.int64), g.const([-1], np.int64))
            head = g.op("Slice", values, first, one)
            return g.op("Sub", values, g.op("Concat", head, ahead, axis=0))

        groups, times = (g.op("Gather", x, order) for x in (group, self.time))
        same = g.op("Equal", since_before(groups), g.const(0, np.int64))
        gap = g.op("Where", same, since_before(times), g.const(0, np.int64))
        zeros = g.op("Expand", g.const([0], np.int64), self.of.events)
        gap = g.op("ScatterElements", zeros, order, gap, axis=0)
        center, scale = module.scales.numpy().T
        return [*self._scaled_gap(gap, center, scale, self.source)]

    def _scaled_gap(
        self, gap: str, center: npt.ArrayLike, width: npt.ArrayLike, code: str | None = None
    ) -> tuple[str, str]:
        """Build (E,) float each: the scaled logarithm of microseconds, and 1 if they are zero."""
        g = self.g
        seconds = g.cast(
            g.op("Div", g.cast(gap, np.float64), g.const(float(_SECOND_US), np.float64)), np.float32
        )
        log = g.op("Log", g.op("Add", seconds, g.const(1.0, np.float32)))
        middle, scale = (
            number if code is None else g.op("Gather", number, code)
            for number in (g.const(x, np.float32) for x in (center, width))
        )
        scaled = g.op("Div", g.op("Sub", log, middle), scale)
        zero = g.cast(g.op("Equal", seconds, g.const(0.0, np.float32)), np.float32)
        clipped = g.op("Clip", scaled, g.const(-5.0, np.float32), g.const(5.0, np.float32))
        return clipped, zero

    def _rows(self) -> str:
        return self.g.op("Add", self.of.place, self.g.op("Gather", self.of.begins, self.of.which))

    def _network(self, value: str) -> str:
        for step in self.model.encoder.events.network:
            if isinstance(step, nn.ReLU):
                value = self.g.op("Relu", value)
            elif isinstance(step, nn.Linear):
                value = self.g.linear(value, step)
            elif not isinstance(step, nn.Dropout):
                raise ModelError(
                    f"The event network has a step that cannot be exported: {type(step).__name__}."
                )
        return value

    def _recurrent(self, events: str, recurrent: Recurrent) -> str:
        """Build ONNX's GRU or LSTM over padded sequences with lengths: (E, H)."""
        g = self.g
        size = recurrent.output_size
        longest = g.op(
            "ReduceMax", g.op("Concat", self.of.lengths, g.const([1], np.int64), axis=0), keepdims=1
        )
        where = g.op("Concat", g.unsqueeze(self.of.place, 1), g.unsqueeze(self.of.which, 1), axis=1)
        lengths = g.cast(self.of.lengths, np.int32)
        events = events if recurrent.project is None else g.linear(events, recurrent.project)
        for w_in, w_state, b_in, b_state in recurrent.cells.all_weights:
            width = g.const([w_in.shape[1]], np.int64)
            shape = g.op("Concat", longest, self.of.clients, width, axis=0)
            padded = g.op(
                "ScatterND", g.op("Expand", g.const(0.0, np.float32), shape), where, events
            )
            # Gates of torch: r z n, and i f g o. Gates of ONNX: z r n, and i o f c.
            order = [1, 0, 2] if recurrent.kind == "gru" else [0, 3, 1, 2]
            w, u, bi, bs = (_reordered(t, order, size) for t in (w_in, w_state, b_in, b_state))
            weights = [g.const(w[None]), g.const(u[None]), g.const(np.concatenate([bi, bs])[None])]
            how: dict[str, Any] = {"linear_before_reset": 1} if recurrent.kind == "gru" else {}
            states = g.op(
                recurrent.kind.upper(), padded, *weights, lengths, hidden_size=size, **how
            )
            events = g.op("GatherND", g.op("Squeeze", states, g.const([1], np.int64)), where)
        return events


def _reordered(weights: Tensor, order: list[int], size: int) -> npt.NDArray[np.float32]:
    """Reorder the blocks of the gates."""
    blocks = torch.split(weights.detach().cpu().float(), size)
    return np.concatenate([blocks[i].numpy() for i in order])
