"""CoLES of pytorch-lifestream, trained as in its scenarios: records.parquet to lifestream.parquet.

Runs under the Python of an environment of its own (README.md says how to make it); needs nothing of
seqmel.

    PYTHON benchmarks/quality_lifestream.py FOLDER
"""

from __future__ import annotations

import json
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytorch_lightning as lightning
import torch
from ptls.data_load.datasets import MemoryMapDataset, inference_data_loader
from ptls.frames.coles import ColesDataset, CoLESModule
from ptls.frames.coles.split_strategy import SampleSlices
from ptls.nn import RnnSeqEncoder, TrxEncoder
from torch.utils.data import DataLoader

warnings.filterwarnings("ignore")


def records_of(folder: Path) -> list[dict[str, Any]]:
    """Return its dictionaries: one per client, a tensor per column."""
    table = pq.read_table(folder / "records.parquet").to_pandas()
    names = [name for name in table.columns if name != "client_id"]
    return [
        {"client_id": key} | {name: torch.from_numpy(values[name].copy()) for name in names}
        for key, values in zip(table["client_id"], table[names].to_dict("records"), strict=True)
    ]


def main() -> None:
    """Train, embed, and put the ids back by position, since its loader drops them."""
    folder = Path(sys.argv[1])
    asked = json.loads((folder / "asked.json").read_text(encoding="utf-8"))
    lightning.seed_everything(asked["seed"])
    records = records_of(folder)
    slices = SampleSlices(split_count=5, cnt_min=asked["shortest"], cnt_max=asked["longest"])
    data = ColesDataset(MemoryMapDataset(records), slices)
    loader = DataLoader(
        data, batch_size=64, shuffle=True, drop_last=True, collate_fn=data.collate_fn
    )
    tables = {
        n: {"in": size, "out": 48 if size > 100 else 16} for n, size in asked["categories"].items()
    }
    events = TrxEncoder(
        embeddings=tables,
        numeric_values=dict.fromkeys(asked["numbers"], "log"),
        embeddings_noise=0.003,
    )
    module = CoLESModule(
        seq_encoder=RnnSeqEncoder(trx_encoder=events, hidden_size=asked["hidden"], type="gru"),
        optimizer_partial=partial(torch.optim.Adam, lr=1e-3),
        lr_scheduler_partial=partial(torch.optim.lr_scheduler.StepLR, step_size=30, gamma=0.9025),
    )
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(
        max_epochs=asked["epochs"], accelerator="cpu", enable_checkpointing=False, **quiet
    )
    trainer.fit(module, loader)
    vectors = torch.vstack(
        trainer.predict(module, inference_data_loader(records, batch_size=512))
    ).numpy()
    names = [f"emb_{i:04d}" for i in range(vectors.shape[1])]
    table = pd.DataFrame(vectors, columns=names)
    table.insert(0, "client_id", [record["client_id"] for record in records])
    table.to_parquet(folder / "lifestream.parquet")


if __name__ == "__main__":
    main()
