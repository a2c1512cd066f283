"""Latency of one client: `Scorer`, `Model.embed` of a DataFrame, and ONNX, in one run.

    python benchmarks/online.py [--model MODEL] [--events 200] [--repeats 300]

Prints p50 and p99 in milliseconds, measured in turns, on one thread. Without --model it trains the
default model for an epoch on generated card transactions.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch

import seqmel


def onnx_call(model: seqmel.Model, part: pd.DataFrame) -> Callable[[], Any] | None:
    """Return a call of the exported model on encoded inputs; None without onnxruntime."""
    try:
        import onnxruntime

        from seqmel.export.onnx import build
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        build(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    schema = model.schema
    times = part[schema.time].astype("datetime64[us]").astype(np.int64).to_numpy()
    inputs: dict[str, Any] = {schema.time: times, "offsets": np.array([0, len(part)])}
    for name in schema.categorical:
        inputs[name] = np.array(["" if pd.isna(x) else str(x) for x in part[name]], object)
    inputs |= {name: part[name].to_numpy(np.float64) for name in schema.numeric}
    return lambda: session.run(["embedding"], inputs)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a model of generated card transactions")
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=300)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    data = seqmel.generate_card_data(100)
    frame = data.events.to_pandas()
    model = seqmel.load(asked.model) if asked.model else seqmel.train(frame, epochs=1, device="cpu")
    sizes = frame["client_id"].value_counts()
    client = frame[frame["client_id"] == sizes.index[0]].sort_values("event_time")
    if len(client) <= asked.events:
        parser.error(f"the longest client has {len(client)} events")
    part = client.iloc[: asked.events]
    new = client.iloc[asked.events].to_dict()
    events = part.to_dict("records")
    scorer = model.scorer()
    state = scorer.update(events)
    calls: dict[str, Callable[[], Any] | None] = {
        f"scorer.embed, {asked.events} events": lambda: scorer.embed(events),
        "scorer.update, one event": lambda: scorer.update(new, state),
        "scorer.update and embed, one event": lambda: scorer.embed(scorer.update(new, state)),
        f"model.embed of a DataFrame, {asked.events} events": lambda: model.embed(
            part, progress=False
        ),
        f"ONNX, {asked.events} events": onnx_call(model, part),
    }
    found: dict[str, list[float]] = {name: [] for name, call in calls.items() if call is not None}
    for turn in range(asked.repeats):
        for name in found:
            if name.startswith("model.embed") and turn % 10:
                continue  # it takes much longer than the others
            call = calls[name]
            assert call is not None
            began = time.perf_counter()
            call()
            found[name].append(1000 * (time.perf_counter() - began))
    print("| call | p50 ms | p99 ms |\n|---|---|---|")
    for name, times in found.items():
        p50, p99 = np.quantile(times[len(times) // 10 :], [0.5, 0.99])
        print(f"| {name} | {p50:.2f} | {p99:.2f} |")


if __name__ == "__main__":
    main()
