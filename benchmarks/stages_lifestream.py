"""The stages in pytorch-lifestream, built as in its tutorials and published scenarios.

Runs under the Python of an environment of its own (README.md says how to make it); needs nothing of
seqmel.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from serving import Run, serve, sizes_of

warnings.filterwarnings("ignore")


def prepare(folder: Path) -> Run:
    """Events of a Parquet file to its list of dicts of tensors; units are events."""
    import pandas as pd
    from ptls.preprocessing import PandasDataPreprocessor

    sizes = sizes_of(folder)

    def run() -> dict[str, float]:
        events = pd.read_parquet(folder / "events.parquet")
        PandasDataPreprocessor(
            col_id="client_id",
            col_event_time="event_time",
            event_time_transformation="dt_to_timestamp",
            cols_category=list(sizes["categories"]),
            cols_numerical=sizes["numbers"],
            return_records=True,
        ).fit_transform(events)
        return {"units": len(events)}

    return run


def _records(folder: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch

    table = pq.read_table(folder / "records.parquet")
    ids = table["client_id"].to_pylist()
    parts: dict[str, list[Any]] = {}
    for name in table.column_names[1:]:
        column = table[name].combine_chunks()
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        values = torch.from_numpy(column.values.to_numpy().copy())
        parts[name] = list(values.split(column.value_lengths().to_pylist()))
    return [
        {"client_id": key, **{name: part[i] for name, part in parts.items()}}
        for i, key in enumerate(ids)
    ]


def _loader(folder: Path) -> Any:
    from ptls.data_load.datasets import MemoryMapDataset
    from ptls.frames.coles import ColesDataset
    from ptls.frames.coles.split_strategy import SampleSlices
    from torch.utils.data import DataLoader

    sizes = sizes_of(folder)
    slices = SampleSlices(
        split_count=sizes["count"], cnt_min=sizes["shortest"], cnt_max=sizes["longest"]
    )
    data = ColesDataset(MemoryMapDataset(_records(folder)), slices)
    return DataLoader(
        data, batch_size=sizes["batch"], shuffle=True, drop_last=True, collate_fn=data.collate_fn
    )


def slices(folder: Path) -> Run:
    """One epoch of batches; units are events in slices, padding not counted."""
    loader = _loader(folder)

    def run() -> dict[str, float]:
        return {"units": sum(int(batch.seq_lens.sum()) for batch, _ in loader)}

    return run


def _module(folder: Path) -> Any:
    from functools import partial

    import torch
    from ptls.frames.coles import CoLESModule
    from ptls.nn import RnnSeqEncoder, TrxEncoder

    sizes = sizes_of(folder)
    names = sizes["categories"]
    numbers = sizes["numbers"]
    width, more = divmod(
        sizes["event"] - len(numbers), len(names)
    )  # side by side they are `event` wide
    tables = {
        n: {"in": size, "out": width + (i < more)} for i, (n, size) in enumerate(names.items())
    }
    events = TrxEncoder(embeddings=tables, numeric_values=dict.fromkeys(numbers, "identity"))
    return CoLESModule(
        seq_encoder=RnnSeqEncoder(trx_encoder=events, hidden_size=sizes["hidden"], type="gru"),
        optimizer_partial=partial(torch.optim.Adam, lr=1e-3),
        lr_scheduler_partial=partial(torch.optim.lr_scheduler.StepLR, step_size=30, gamma=0.9025),
    )


def step(folder: Path) -> Run:
    """Draw, forward, backward, Adam, without a trainer around them; units are clients."""
    import torch

    sizes = sizes_of(folder)
    loader = _loader(folder)
    module = _module(folder).train()
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)

    def run() -> dict[str, float]:
        batches = iter(loader)
        events = 0
        for _ in range(sizes["steps"]):
            batch, clients = next(batches)
            vectors, clients = module.shared_step(batch, clients)
            optimizer.zero_grad()
            module._loss(vectors, clients).backward()
            optimizer.step()
            events += int(batch.seq_lens.sum())
        return {"units": sizes["steps"] * sizes["batch"], "events": events}

    return run


def loss(folder: Path) -> Run:
    """Contrastive loss, five hard negatives per anchor, forward and backward; units are calls."""
    import torch
    from ptls.frames.coles.losses import ContrastiveLoss
    from ptls.frames.coles.sampling_strategies import HardNegativePairSelector

    sizes = sizes_of(folder)
    torch.manual_seed(0)
    views = sizes["views"]
    clients = torch.arange(sizes["views"]) // sizes["count"]
    vectors = torch.nn.functional.normalize(
        torch.randn(views, sizes["width"]), dim=1
    ).requires_grad_()
    compute = ContrastiveLoss(margin=0.5, sampling_strategy=HardNegativePairSelector(neg_count=5))

    def run() -> dict[str, float]:
        vectors.grad = None
        compute(vectors, clients).backward()
        return {"units": 1}

    return run


def embed(folder: Path) -> Run:
    """Sequences in memory to a Parquet file of vectors; units are events.

    As its tutorials do: `Trainer.predict`, and the ids put back by position, since its loader drops
        them.
    """
    import pandas as pd
    import pytorch_lightning as lightning
    import torch
    from ptls.data_load.datasets import inference_data_loader

    sizes = sizes_of(folder)
    records = _records(folder)
    module = _module(folder)

    def run() -> dict[str, float]:
        trainer = lightning.Trainer(
            accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=False,
        )  # fmt: skip
        vectors = torch.vstack(
            trainer.predict(module, inference_data_loader(records, batch_size=512))
        ).numpy()
        names = [f"emb_{i:04d}" for i in range(vectors.shape[1])]
        table = pd.DataFrame(
            vectors, columns=names, index=[record["client_id"] for record in records]
        )
        table.to_parquet(folder / "lifestream.parquet")
        return {"units": sizes["events"]}

    return run


def online(folder: Path, *, calls: int = 20, length: int = 200) -> Run:
    """One client's events, encoded already, through a loader to a vector; units are calls."""
    import torch
    from ptls.data_load.datasets import inference_data_loader

    longest = max(_records(folder), key=lambda record: len(record["event_time"]))
    record = {
        name: value[:length] if torch.is_tensor(value) else value for name, value in longest.items()
    }
    module = _module(folder).eval()

    def run() -> dict[str, float]:
        with torch.inference_mode():
            for _ in range(calls):
                for batch in inference_data_loader([record], batch_size=1):
                    module(batch)
        return {"units": calls}

    return run


if __name__ == "__main__":
    stages = {"prepare": prepare, "slices": slices, "step": step, "loss": loss, "embed": embed}
    serve({**stages, "online": online})
